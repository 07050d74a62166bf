//! Taking over a table that others have changed, perhaps not to the end: a process may die between any two stores.
//!
//! What is linked is a rule, and every other node is free. Whoever looks rules up meanwhile finds each of them all the time:
//! nothing is unlinked but what is no rule of its bucket.

use alloc::{collections::VecDeque, vec, vec::Vec};
use core::sync::atomic::Ordering::{Relaxed, Release};

use super::{MAX_CHAIN, Node, Slots as _, Table, high_bits};
use crate::rule::Seed;

/// A table that was taken over.
#[derive(Debug)]
pub struct Adopted {
    /// Whoever has it may change the table.
    pub table: Table,
    /// Whether something was left half done, or is damaged.
    pub repaired: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    Not,
    Rule,
    /// It is in a chain, and no rule.
    Dropped,
}

impl Table {
    /// Takes over a table for `max` rules whose last owner is gone or has let go of it. `is_whole` is asked once
    /// about every rule.
    pub fn adopt<N: Node>(
        seed: Seed,
        max: u32,
        nodes: &[N],
        mut is_whole: impl FnMut(&N) -> bool,
    ) -> Adopted {
        let mut visited = vec![Seen::Not; nodes.len()];
        let mut repaired = false;
        let mut rules = 0;
        for (bucket, head) in nodes.iter().enumerate() {
            let mut link = &head.cell().head;
            let mut chain = 0;
            while let Some(index) = link.load(Relaxed).checked_sub(1) {
                let at = index as usize;
                let (Some(node), Some(Seen::Not)) = (nodes.get(at), visited.get(at).copied()) else {
                    // It leads out of the table, or in a circle.
                    link.store(0, Release);
                    repaired = true;
                    break;
                };
                let is_rule = index < max
                    && chain < MAX_CHAIN
                    && node.cell().life().is_some()
                    && high_bits(node.hash(seed), nodes.shift()) as usize == bucket
                    && is_whole(node);
                if is_rule {
                    visited[at] = Seen::Rule;
                    (chain, rules, link) = (chain + 1, rules + 1, &node.cell().next);
                } else {
                    visited[at] = Seen::Dropped;
                    link.store(node.cell().next.load(Relaxed), Release);
                    repaired = true;
                }
            }
        }
        repaired |= end_others(nodes, &visited);
        let (unused, freed) = free(nodes, &visited, max);
        Adopted { table: Self { seed, max, rules, unused, freed }, repaired }
    }
}

/// Who was to be linked, or is unlinked but not ended, is no rule: nobody who lists nodes must take it for one.
fn end_others<N: Node>(nodes: &[N], seen: &[Seen]) -> bool {
    let mut any = false;
    for (node, seen) in nodes.iter().zip(seen) {
        if *seen != Seen::Rule && node.cell().life().is_some() {
            node.cell().end();
            any = true;
        }
    }
    any
}

/// The first of the nodes that were never used, and those before it that are free.
fn free<N: Node>(nodes: &[N], seen: &[Seen], max: u32) -> (u32, VecDeque<u32>) {
    let used = (0_u32..max).zip(nodes).zip(seen);
    let used: Vec<_> = used.map(|((index, node), seen)| (index, *seen, node.cell().is_used())).collect();
    let unused = used.iter().rev().find(|(_, _, used)| *used).map_or(0, |(index, ..)| index + 1);
    let is_free = |(index, seen, _): &(u32, Seen, bool)| *index < unused && *seen != Seen::Rule;
    (unused, used.iter().filter(|one| is_free(one)).map(|(index, ..)| *index).collect())
}
