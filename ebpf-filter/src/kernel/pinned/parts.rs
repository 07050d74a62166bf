//! What is pinned.

use aya::maps::MapType;
use ebpf_prog::{
    Malformed as MalformedReason,
    format::Format,
    layout::{Control, Policy, maps},
    names::{Block, NameNode},
    rule::{Ipv4Node, Ipv6Node},
    shape::SieveWord,
    sightings::Sighting,
};

use crate::{engine::Lens, kernel::pin::Shape};

/// `linux/bpf.h`.
const BPF_F_MMAPABLE: u32 = 1 << 10;

/// What says how the others are to be read; no map of the object.
pub(super) const FORMAT: &str = "format";

/// The maps of the object that outlive the programs, and the names of their pins.
pub(super) const PARTS: [(&str, &str); 11] = [
    (maps::IPV4, "ipv4"),
    (maps::IPV6, "ipv6"),
    (maps::RANGES4, "ranges4"),
    (maps::RANGES6, "ranges6"),
    (maps::NAMES, "names"),
    (maps::BLOCKS, "blocks"),
    (maps::SIEVE, "sieve"),
    (maps::CONTROL, "control"),
    (maps::SIGHTINGS, "sightings"),
    (maps::POLICY, "policy"),
    (maps::MALFORMED, "malformed"),
];

/// What they must be.
pub(super) fn shapes(lens: &Lens) -> [Shape; PARTS.len()] {
    let reasons = u32::try_from(MalformedReason::ALL.len()).unwrap_or(u32::MAX);
    [
        array::<Ipv4Node>(lens.ipv4),
        array::<Ipv6Node>(lens.ipv6),
        array::<Ipv4Node>(lens.ranges4),
        array::<Ipv6Node>(lens.ranges6),
        array::<NameNode>(lens.names),
        array::<Block>(lens.blocks),
        array::<SieveWord>(lens.sieve),
        array::<Control>(1),
        array::<Sighting>(Sighting::PLACES),
        array::<Policy>(1),
        Shape { map_type: MapType::PerCpuArray, flags: 0, ..array::<u64>(reasons) },
    ]
}

pub(super) const fn format() -> Shape {
    array::<Format>(1)
}

/// An array that processes map into their memory.
#[allow(clippy::cast_possible_truncation, reason = "no element is that large")]
const fn array<T>(max_entries: u32) -> Shape {
    Shape {
        map_type: MapType::Array,
        key_size: size_of::<u32>() as u32,
        value_size: size_of::<T>() as u32,
        max_entries,
        flags: BPF_F_MMAPABLE,
    }
}
