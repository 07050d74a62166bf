//! The memory of the rules: shared with the kernel, or of this process alone.

use std::ops::Deref;

use ebpf_prog::{
    layout::Control,
    names::{Block, Blocks, NameNode},
    rule::{Ipv4Node, Ipv6Node, Seed},
    shape::{Place, Shape, SieveWord},
    sightings::Sighting,
    table::Table,
};
use zerocopy::FromZeros;

use super::shared::Shared;
use crate::{kernel::Mapping, sizes::Sizes};

/// How many rules for names and ranges share a word of the sieve, if there is room for no more. Of what has no rule, one in 64
/// passes a sieve that is full.
const RULES_A_WORD: u32 = 4;

/// An array that is zero at first.
#[derive(Debug)]
pub(crate) enum Array<T> {
    /// The kernel's, too.
    Shared(Mapping<T>),
    /// Of this process.
    Own(Box<[T]>),
}

impl<T: FromZeros> Array<T> {
    fn own(len: u32) -> Result<Self, OutOfMemory> {
        <[T]>::new_box_zeroed_with_elems(len as usize).map(Self::Own).map_err(|_| OutOfMemory)
    }
}

/// There is not as much memory as the rules need.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OutOfMemory;

impl<T> Deref for Array<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Shared(mapping) => mapping,
            Self::Own(elements) => elements,
        }
    }
}

/// How many elements each array has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lens {
    pub(crate) ipv4: u32,
    pub(crate) ipv6: u32,
    pub(crate) ranges4: u32,
    pub(crate) ranges6: u32,
    pub(crate) names: u32,
    pub(crate) blocks: u32,
    pub(crate) sieve: u32,
}

impl Lens {
    pub(crate) fn of(sizes: Sizes) -> Self {
        let Sizes { ipv4, ipv6, ranges4, ranges6, .. } = sizes;
        let names = sizes.names();
        Self {
            ipv4: Table::nodes(ipv4),
            ipv6: Table::nodes(ipv6),
            ranges4: Table::nodes(ranges4),
            ranges6: Table::nodes(ranges6),
            names: Table::nodes(names),
            blocks: Blocks::needed(names),
            sieve: Table::nodes(sizes.sieved().div_ceil(RULES_A_WORD)),
        }
    }

    /// Those of the tables, in the order of [`TABLES`](ebpf_prog::layout::TABLES).
    pub(crate) const fn tables(&self) -> [u32; 5] {
        [self.ipv4, self.ipv6, self.ranges4, self.ranges6, self.names]
    }

    /// How many bits of a shape are too many for the index of a word of the sieve.
    pub(crate) const fn sieve_shift(&self) -> u32 {
        Table::shift_of(self.sieve as usize)
    }
}

/// All arrays of a filter.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) seed: Seed,
    pub(crate) ipv4: Array<Ipv4Node>,
    pub(crate) ipv6: Array<Ipv6Node>,
    pub(crate) ranges4: Array<Ipv4Node>,
    pub(crate) ranges6: Array<Ipv6Node>,
    pub(crate) names: Array<NameNode>,
    pub(crate) blocks: Array<Block>,
    pub(crate) sieve: Array<SieveWord>,
    pub(crate) control: Array<Control>,
    pub(crate) sightings: Array<Sighting>,
    /// What goes with memory that other processes have as well.
    pub(crate) shared: Option<Shared>,
}

impl Memory {
    /// Memory of this process.
    pub(crate) fn own(sizes: Sizes, seed: Seed) -> Result<Self, OutOfMemory> {
        let lens = Lens::of(sizes);
        Ok(Self {
            seed,
            ipv4: Array::own(lens.ipv4)?,
            ipv6: Array::own(lens.ipv6)?,
            ranges4: Array::own(lens.ranges4)?,
            ranges6: Array::own(lens.ranges6)?,
            names: Array::own(lens.names)?,
            blocks: Array::own(lens.blocks)?,
            sieve: Array::own(lens.sieve)?,
            control: Array::own(1)?,
            sightings: Array::own(Sighting::PLACES)?,
            shared: None,
        })
    }

    /// Where a shape is in the sieve.
    pub(crate) fn place(&self, shape: Shape) -> Place {
        shape.place(Table::shift_of(self.sieve.len()))
    }

    /// Whether the sieve may have this shape.
    pub(crate) fn may_know(&self, shape: Shape) -> bool {
        let place = self.place(shape);
        self.sieve.get(place.word as usize).is_some_and(|word| word.contains(place.bits))
    }
}
