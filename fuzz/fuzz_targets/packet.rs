//! Packets: every input is a source and a message, for a fixed set of rules. The decision in user space is compared with a
//! plain statement of it, and the question with what hickory-proto reads.

#![no_main]

use std::{cell::RefCell, thread_local};

use ebpf_filter_tests::model::fuzz::PacketTarget;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static TARGET: RefCell<PacketTarget> = RefCell::new(PacketTarget::new(false));
}

fuzz_target!(|data: &[u8]| {
    if let Err(failure) = TARGET.with_borrow_mut(|target| target.run(data)) {
        panic!("{failure}");
    }
});
