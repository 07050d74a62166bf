//! Hash tables in memory that the kernel and user space share.
//!
//! A table is one array of nodes. A node holds a rule, and also the head of the bucket with its own index: chains of
//! nodes, linked by indices. The kernel reads, user space (one thread at a time) writes:
//!
//! - A node is filled before the head of its bucket points at it, and unlinked before it is filled anew. Its own link
//!   stays as it was, so that whoever stands on it still finds the rest of the chain.
//! - Freed nodes wait in a queue behind all others that are free before they are used again. Whoever stands on one that is
//!   used for another bucket notices, and begins anew.
//!
//! Why not the hash maps of the kernel: this takes less time for a packet and half the memory or less, needs no copy
//! of the rules in user space and no system call to change, count or list them (`docs/BENCHMARKS.md` has the figures),
//! and user space looks rules up with this very function.

use core::sync::atomic::Ordering;

use crate::rule::{Cell, Seed};

#[cfg(not(target_arch = "bpf"))]
mod adopt;
#[cfg(not(target_arch = "bpf"))]
mod write;

#[cfg(not(target_arch = "bpf"))]
pub use adopt::Adopted;
#[cfg(not(target_arch = "bpf"))]
pub use write::{Table, TableFull, find};

/// The kernel's instruction set has no loads that acquire; on the processors that need them, the bytes of a rule are
/// compared after the link to it was followed, which the address depends on.
#[cfg(target_arch = "bpf")]
pub(crate) const ACQUIRE: Ordering = Ordering::Relaxed;
#[cfg(not(target_arch = "bpf"))]
pub(crate) const ACQUIRE: Ordering = Ordering::Acquire;

/// The most nodes of a bucket that are looked at. Buckets are as many as nodes at least, so a longer chain does not come
/// by chance; user space does not make one.
pub const MAX_CHAIN: usize = 16;

/// An element of a table.
pub trait Node {
    /// What every rule has.
    fn cell(&self) -> &Cell;

    /// The hash of the rule, whose first bits are its bucket.
    fn hash(&self, seed: Seed) -> u32;
}

/// An array of nodes: a power of two of them.
pub trait Slots<'a, N: 'a>: Copy {
    /// The node with this index, if there is one.
    fn slot(self, index: u32) -> Option<&'a N>;

    /// How many bits of a hash are too many for an index.
    fn shift(self) -> u32;
}

/// A hash without its last bits, none to all 32: the first bits of a product are those that depend on all of its factors.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "the number was 32 bits wide before")]
pub(crate) const fn high_bits(hash: u32, shift: u32) -> u32 {
    ((hash as u64) >> shift) as u32
}

/// The rules of a bucket, one after the other. In whole words, which the verifier lets a program keep on its stack where a
/// pointer was before.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Its index, that of the node with its head.
    index: u64,
    /// The next rule: its index and 1, or 0.
    link: u64,
    /// The state of the rule that came last, before its link was read.
    state: u64,
}

impl Bucket {
    /// The most steps that it takes to go through one, if it has to be begun anew.
    pub const MAX_TURNS: usize = 2 * MAX_CHAIN;

    /// That of the rule with this hash.
    #[inline(always)]
    pub fn of<'a, N: Node + 'a>(slots: impl Slots<'a, N>, hash: u32) -> Option<Self> {
        let index = high_bits(hash, slots.shift());
        let head = slots.slot(index)?.cell().head.load(ACQUIRE);
        Some(Self { index: index.into(), link: head.into(), state: u64::MAX })
    }

    /// The next rule.
    #[inline(always)]
    pub fn next<'a, N: Node + 'a>(&mut self, slots: impl Slots<'a, N>) -> Option<&'a N> {
        let node = self.first(slots)?;
        self.state = node.cell().state().word();
        self.link = node.cell().next.load(ACQUIRE).into();
        Some(node)
    }

    /// The next rule; the one behind it stays out of reach.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "a link is 32 bits wide")]
    pub fn first<'a, N: Node + 'a>(self, slots: impl Slots<'a, N>) -> Option<&'a N> {
        slots.slot((self.link as u32).checked_sub(1)?)
    }

    /// Begins anew unless `node`, which came last, was a rule of this bucket all the time that its link was read: else that may
    /// lead anywhere.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "an index is 32 bits wide")]
    pub fn stay<'a, N: Node + 'a>(&mut self, slots: impl Slots<'a, N>, node: &N, seed: Seed) {
        let here = u64::from(high_bits(node.hash(seed), slots.shift())) == self.index;
        #[cfg(not(target_arch = "bpf"))]
        core::sync::atomic::fence(Ordering::Acquire);
        let state = node.cell().state();
        if here && state.is_live() && state.word() == self.state {
            return;
        }
        if let Some(bucket) = slots.slot(self.index as u32) {
            self.link = bucket.cell().head.load(ACQUIRE).into();
        }
    }

    /// Whether that was the last one.
    #[inline(always)]
    #[must_use]
    pub const fn is_done(self) -> bool {
        self.link == 0
    }
}

#[cfg(not(target_arch = "bpf"))]
impl<'a, N> Slots<'a, N> for &'a [N] {
    fn slot(self, index: u32) -> Option<&'a N> {
        self.get(index as usize)
    }

    fn shift(self) -> u32 {
        Table::shift_of(self.len())
    }
}
