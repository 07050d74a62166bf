//! Tests that the machine cannot run are skipped, and say so whether or not the output of tests is captured.

use std::{
    env,
    io::{self, Write as _},
    thread,
};

pub use rustix::thread::CapabilitySet;
use rustix::thread::capabilities;

use crate::child;

/// Turns skips into failures if it is `1`.
const REQUIRE: &str = "EBPF_FILTER_REQUIRE_KERNEL";

/// Ends the calling test if this thread lacks a capability: `CAP_BPF`, or those that are named. The first line of every
/// test that needs the kernel.
///
/// ```text
/// require_kernel!();
/// require_kernel!(BPF | NET_ADMIN);
/// ```
#[macro_export]
macro_rules! require_kernel {
    () => {
        $crate::require_kernel!(BPF)
    };
    ($($capability:ident)|+) => {
        let needed = $crate::privilege::CapabilitySet::empty()
            $(.union($crate::privilege::CapabilitySet::$capability))+;
        if !$crate::privilege::granted(needed, module_path!(), line!()) {
            return;
        }
    };
}

/// Whether this thread has all of these capabilities. If not, says so on standard error.
///
/// # Panics
///
/// If it has not, and the environment asks for failures in place of skips.
#[track_caller]
pub fn granted(needed: CapabilitySet, module: &str, line: u32) -> bool {
    // A child was given the capabilities that its test is about.
    let missing = needed - effective();
    if missing.is_empty() || child::is_child() {
        return true;
    }
    let missing: Vec<_> = missing.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    skip(&format!("{test} ({module}:{line}) needs {}", missing.join(" and ")));
    false
}

/// Says on standard error that a test is skipped, and why.
///
/// # Panics
///
/// If the environment asks for failures in place of skips.
#[track_caller]
pub fn skip(reason: &str) {
    let message = format!("!!! SKIPPED: {reason}");
    assert!(env::var_os(REQUIRE).is_none_or(|value| value != "1"), "{message}, and {REQUIRE} is 1");
    say(&message);
}

/// Writes a line to standard error, also for tests that pass: `eprintln` is captured then.
pub(crate) fn say(message: &str) {
    drop(writeln!(io::stderr(), "{message}"));
}

/// What this thread may do. `CAP_SYS_ADMIN` stands for `CAP_BPF` as well, see capabilities(7).
pub fn effective() -> CapabilitySet {
    let effective = capabilities(None).expect("every thread may read its own capabilities").effective;
    if effective.contains(CapabilitySet::SYS_ADMIN) { effective | CapabilitySet::BPF } else { effective }
}
