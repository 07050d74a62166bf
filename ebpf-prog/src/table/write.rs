//! Changing a table. Whoever holds a [`Table`] is the only one who changes its nodes.

use alloc::collections::VecDeque;
use core::sync::atomic::Ordering::{Relaxed, Release};

use super::{MAX_CHAIN, Node, Slots as _, high_bits};
use crate::rule::Seed;

/// What is needed to change a table: how many rules it has, and which nodes are free.
#[derive(Debug)]
pub struct Table {
    pub(crate) seed: Seed,
    pub(super) max: u32,
    pub(super) rules: u32,
    /// Nodes from this one on were never used.
    pub(super) unused: u32,
    /// Those that were; the one that was freed first comes first.
    pub(super) freed: VecDeque<u32>,
}

/// There is no node for another rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableFull;

impl Table {
    /// Of a table without rules, for `max` of them.
    #[must_use]
    pub const fn new(seed: Seed, max: u32) -> Self {
        Self { seed, max, rules: 0, unused: 0, freed: VecDeque::new() }
    }

    /// The nodes that an array for `max` rules needs, of which there must be no more than 2^31.
    #[must_use]
    pub const fn nodes(max: u32) -> u32 {
        // The kernel has no arrays of no elements.
        if max == 0 { 1 } else { max.next_power_of_two() }
    }

    /// [`super::Slots::shift`] of an array of so many nodes, a power of two.
    #[must_use]
    pub const fn shift_of(nodes: usize) -> u32 {
        32 - nodes.trailing_zeros()
    }

    /// How many rules there are.
    #[must_use]
    pub const fn len(&self) -> u32 {
        self.rules
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rules == 0
    }

    /// Adds a rule with this hash, for which there is none yet. `fill` writes it into a node, last of all by
    /// [`crate::rule::Cell::begin`].
    pub(crate) fn insert<N: Node, E: From<TableFull>>(
        &mut self,
        nodes: &[N],
        hash: u32,
        fill: impl FnOnce(&N) -> Result<(), E>,
    ) -> Result<(), E> {
        let index =
            if self.unused < self.max { self.unused } else { *self.freed.front().ok_or(TableFull)? };
        let node = nodes.slot(index).ok_or(TableFull)?;
        let head = &nodes.slot(high_bits(hash, nodes.shift())).ok_or(TableFull)?.cell().head;
        if chain_len(nodes, head.load(Relaxed)) >= MAX_CHAIN {
            return Err(TableFull.into());
        }
        node.cell().prepare();
        node.cell().next.store(head.load(Relaxed), Relaxed);
        fill(node)?;
        head.store(index + 1, Release);
        if index == self.unused {
            self.unused += 1;
        } else {
            self.freed.pop_front();
        }
        self.rules += 1;
        Ok(())
    }

    /// Removes the rule in this node, if it is one of the table.
    pub fn remove<N: Node>(&mut self, nodes: &[N], node: &N) {
        let hash = node.hash(self.seed);
        let Some(bucket) = nodes.slot(high_bits(hash, nodes.shift())) else { return };
        let mut link = &bucket.cell().head;
        loop {
            let Some(index) = link.load(Relaxed).checked_sub(1) else { return };
            let Some(found) = nodes.slot(index) else { return };
            if core::ptr::eq(found, node) {
                link.store(node.cell().next.load(Relaxed), Release);
                node.cell().end();
                self.rules -= 1;
                self.freed.push_back(index);
                return;
            }
            link = &found.cell().next;
        }
    }
}

/// The index of the rule with this hash of which `is` says that it is the one.
pub fn find<N: Node>(nodes: &[N], hash: u32, is: impl Fn(&N) -> bool) -> Option<u32> {
    let mut link = nodes.slot(high_bits(hash, nodes.shift()))?.cell().head.load(Relaxed);
    loop {
        let index = link.checked_sub(1)?;
        let node = nodes.slot(index)?;
        if is(node) {
            return Some(index);
        }
        link = node.cell().next.load(Relaxed);
    }
}

fn chain_len<N: Node>(nodes: &[N], mut link: u32) -> usize {
    let mut len = 0;
    while let Some(node) = link.checked_sub(1).and_then(|index| nodes.slot(index)) {
        len += 1;
        link = node.cell().next.load(Relaxed);
    }
    len
}
