//! The committed seeds of the fuzz targets `packet` and `rules`, in the kernel as well: it does what user space does, and
//! what is stated.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{fs, path::Path};

use ebpf_filter_tests::{
    model::{
        fuzz::{PacketTarget, RulesTarget},
        trial::Failure,
    },
    require_kernel,
};

/// Every seed of a target goes through `run`.
fn replay(target: &str, mut run: impl FnMut(&[u8]) -> Result<(), Failure>) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut seeds: Vec<_> = fs::read_dir(corpus).unwrap().map(|entry| entry.unwrap().path()).collect();
    seeds.sort();
    assert!(seeds.len() > 10, "there are seeds");
    for seed in seeds {
        if let Err(failure) = run(&fs::read(&seed).unwrap()) {
            panic!("{}: {failure}", seed.display());
        }
    }
}

#[test]
fn packets() {
    require_kernel!();
    let mut target = PacketTarget::new(true);
    replay("packet", |input| target.run(input));
}

#[test]
fn rules() {
    require_kernel!();
    let mut target = RulesTarget::new(true);
    replay("rules", |input| target.run(input));
}
