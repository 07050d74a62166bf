//! Where messages came from that are no well-formed queries: the last few thousand of them, in a ring that the kernel and
//! user space share, for whoever watches.
//!
//! Whoever adds one takes a number, which says where it goes, and writes it over what was there. Nobody waits for anybody:
//! the last word of an entry is a seal over its number and source, so that one that was caught half written, or written by
//! two at once, is none.

use core::sync::atomic::Ordering::Relaxed;

use crate::{
    decision::{Family, Sourced},
    shared::AtomicU64,
};

/// How many were ever added.
#[derive(Debug, Default)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes))]
#[repr(transparent)]
pub struct Sighted(AtomicU64);

impl Sighted {
    /// The number of the next one, which nobody else gets.
    #[inline(always)]
    pub fn next(&self) -> u64 {
        self.0.fetch_add(1, Relaxed)
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// An entry of the ring.
#[derive(Debug, Default)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes))]
#[repr(C)]
pub struct Sighting {
    source: [AtomicU64; 2],
    seal: AtomicU64,
}

impl Sighting {
    /// How many there are room for.
    pub const PLACES: u32 = 4096;

    /// Where the one with this number goes.
    #[inline(always)]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the lowest bits")]
    pub const fn place(number: u64) -> u32 {
        number as u32 % Self::PLACES
    }

    /// Writes the one with this number.
    #[inline(always)]
    pub fn write(&self, number: u64, source: [u64; 2]) {
        let [high, low] = &self.source;
        high.store(source[0], Relaxed);
        low.store(source[1], Relaxed);
        self.seal.store(seal(number, source), Relaxed);
    }

    /// The source of the one with this number, if it is here and whole.
    pub fn read(&self, number: u64) -> Option<[u64; 2]> {
        let source = self.source.each_ref().map(|word| word.load(Relaxed));
        (self.seal.load(Relaxed) == seal(number, source)).then_some(source)
    }
}

/// Another one for every number, and for every word of a source. An entry of zeroes has none.
#[inline(always)]
const fn seal(number: u64, [high, low]: [u64; 2]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    ((high ^ number).wrapping_mul(ODD) ^ low).wrapping_mul(ODD).wrapping_add(number).wrapping_add(1)
}

/// The source of a packet: the two numbers of an IPv6 address, or of a v4-mapped one (RFC 4291 §2.5.5.2); of a packet without
/// one they are 0.
#[inline(always)]
pub(crate) fn source(packet: &impl Sourced) -> [u64; 2] {
    const MAPPED: u64 = 0xffff << 32;
    if packet.is(Family::Ipv4) {
        packet.ipv4_source().map(|bits| [0, MAPPED | bits])
    } else if packet.is(Family::Ipv6) {
        packet.ipv6_source()
    } else {
        None
    }
    .unwrap_or_default()
}

const _: () = assert!(size_of::<Sighting>() == 24 && Sighting::PLACES.is_power_of_two());
