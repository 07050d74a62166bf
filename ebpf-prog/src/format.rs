//! What says of maps that outlive a process how they are to be read, and what the processes that share them agree by.
//!
//! Who opens such maps looks at the [`Head`] first, which is the same in every version, and at everything else only if
//! the version is the one that it knows.

use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::{
    layout::VERSION,
    shared::{AtomicU32, AtomicU64},
};

/// How the map begins, in every version.
#[derive(Debug, Default, zerocopy::FromBytes)]
#[repr(C)]
pub struct Head {
    magic: AtomicU64,
    version: AtomicU32,
    padding: AtomicU32,
}

impl Head {
    /// `EBPFFLTR` in memory.
    pub const MAGIC: u64 = u64::from_ne_bytes(*b"EBPFFLTR");

    /// What says that these are maps of a filter.
    pub fn magic(&self) -> u64 {
        self.magic.load(Relaxed)
    }

    /// Which [`VERSION`] of the layout they have.
    pub fn version(&self) -> u32 {
        self.version.load(Relaxed)
    }
}

/// What whoever shares the maps must have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The two numbers of a [`Seed`](crate::rule::Seed).
    pub seed: [u64; 2],
    /// The most rules of each kind.
    pub maxima: [u32; Format::KINDS],
    /// Where the DNS header is in the data that the program for DNS sees.
    pub payload_offset: u32,
}

/// The whole record.
#[derive(Debug, Default, zerocopy::FromBytes)]
#[repr(C)]
pub struct Format {
    head: Head,
    seed: [AtomicU64; 2],
    maxima: [AtomicU32; Self::KINDS],
    payload_offset: AtomicU32,
    padding: AtomicU32,
    /// How often rules were changed, twice; odd while they are, or if whoever did so has died.
    generation: AtomicU64,
    /// Of the rules of each kind that are gone: how many there were, and what they matched.
    retired: [[AtomicU64; 2]; Self::KINDS],
}

const _: () = assert!(size_of::<Head>() == 16 && size_of::<Format>() == 168);

impl Format {
    /// How many kinds of rules there are.
    pub const KINDS: usize = 6;

    /// Begins a record, before anybody else sees it.
    pub fn begin(&self, parameters: &Parameters) {
        let Parameters { seed, maxima, payload_offset } = parameters;
        self.seed.iter().zip(seed).for_each(|(to, from)| to.store(*from, Relaxed));
        self.maxima.iter().zip(maxima).for_each(|(to, from)| to.store(*from, Relaxed));
        self.payload_offset.store(*payload_offset, Relaxed);
        self.head.version.store(VERSION, Relaxed);
        self.head.magic.store(Head::MAGIC, Release);
    }

    /// What the record was begun with.
    pub fn parameters(&self) -> Parameters {
        Parameters {
            seed: self.seed.each_ref().map(|number| number.load(Relaxed)),
            maxima: self.maxima.each_ref().map(|number| number.load(Relaxed)),
            payload_offset: self.payload_offset.load(Relaxed),
        }
    }

    /// Another number after every change; odd while rules are changed, or if whoever did so has died.
    pub fn generation(&self) -> u64 {
        self.generation.load(Acquire)
    }

    /// Only who holds the lock may say so.
    pub fn set_generation(&self, generation: u64) {
        self.generation.store(generation, Release);
    }

    /// Of the rules of each kind that are gone: how many there were, and what they matched.
    pub fn retired(&self) -> [[u64; 2]; Self::KINDS] {
        self.retired.each_ref().map(|kind| kind.each_ref().map(|number| number.load(Relaxed)))
    }

    /// Only who holds the lock may say so.
    pub fn set_retired(&self, retired: [[u64; 2]; Self::KINDS]) {
        for (to, from) in self.retired.iter().flatten().zip(retired.as_flattened()) {
            to.store(*from, Relaxed);
        }
    }
}
