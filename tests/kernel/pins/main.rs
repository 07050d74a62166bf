//! Rules on pins: they outlive the process, whatever becomes of it, and several processes share them.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod blocks;
mod killed;
mod load;
mod mismatch;
mod restart;
mod sharing;

use std::path::Path;

use ebpf_filter::{BpfFilter, BpfFilterBuilder, Mode};

/// Filters of the tests have this much room.
const MAX: u32 = 64;

fn builder(directory: &Path) -> BpfFilterBuilder {
    BpfFilter::builder()
        .mode(Mode::Require)
        .ipv4_max(MAX)
        .ipv6_max(MAX)
        .ranges4_max(MAX)
        .ranges6_max(MAX)
        .qnames_max(MAX)
        .suffixes_max(MAX)
        .pin_dir(directory)
}

#[track_caller]
fn filter(directory: &Path) -> BpfFilter {
    builder(directory).build().unwrap()
}
