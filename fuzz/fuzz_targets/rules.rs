//! Rules that come and go: every input is a sequence of changes and packets. Outcomes, lists of rules, hits and counts in
//! user space are compared with a plain statement of them.

#![no_main]

use std::{cell::RefCell, thread_local};

use ebpf_filter_tests::model::fuzz::RulesTarget;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static TARGET: RefCell<RulesTarget> = RefCell::new(RulesTarget::new(false));
}

fuzz_target!(|data: &[u8]| {
    if let Err(failure) = TARGET.with_borrow_mut(|target| target.run(data)) {
        panic!("{failure}\nafter {:#?}", RulesTarget::steps(data));
    }
});
