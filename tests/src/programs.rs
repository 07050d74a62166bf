//! Which programs the kernel holds. Needs `CAP_SYS_ADMIN`.

use std::{
    thread,
    time::{Duration, Instant},
};

use aya::programs::loaded_programs;

/// How long the kernel may take to free a program.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether the kernel holds the program with this number. The kernel does not use a number twice in a row.
pub fn is_loaded(id: u32) -> bool {
    // A program that ends while the list is read is an error in the list.
    loaded_programs().filter_map(Result::ok).any(|program| program.id() == id)
}

/// Waits until the kernel has freed the program: it does so some time after the last user has gone, and tells nobody.
#[track_caller]
pub fn wait_until_gone(id: u32) {
    let start = Instant::now();
    while is_loaded(id) {
        assert!(start.elapsed() < PATIENCE, "the kernel still holds program {id}");
        thread::sleep(Duration::from_millis(5));
    }
}
