//! Names of rules: writing them to shared memory and reading them back.

use alloc::{collections::VecDeque, vec::Vec};
use core::sync::atomic::Ordering::{Relaxed, Release};

use super::{Block, MAX_BLOCKS, NameNode, NameTag, Selector, WORDS};
use crate::{
    name::MAX_LEN,
    rule::Terms,
    table::{ACQUIRE, Table, TableFull},
};

/// Which blocks are free. Whoever holds this is the only one who changes blocks.
#[derive(Debug)]
pub struct Blocks {
    pub(super) max: u32,
    pub(super) unused: u32,
    pub(super) freed: VecDeque<u32>,
}

/// There is no room for another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBlocks {
    /// No rule is left for it.
    Rules,
    /// No memory is left for it.
    Memory,
}

impl From<TableFull> for NoBlocks {
    fn from(TableFull: TableFull) -> Self {
        Self::Rules
    }
}

impl Blocks {
    /// The names of so many rules may have the greatest length.
    const LONGEST: u32 = 4096;

    /// All blocks of an array are free.
    #[must_use]
    pub const fn new(max: u32) -> Self {
        Self { max, unused: 0, freed: VecDeque::new() }
    }

    /// The blocks for the names of `rules` rules: up to 4096 of any length, and 48 bytes on average for what is more.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "it is far below 2^32")]
    pub const fn needed(rules: u32) -> u32 {
        let longest = if rules < Self::LONGEST { rules } else { Self::LONGEST };
        // The kernel has no arrays of no elements.
        if rules == 0 { 1 } else { longest * MAX_BLOCKS as u32 + (rules - longest) }
    }

    /// Writes a canonical name into a node that is not in use.
    pub(crate) fn write(
        &mut self,
        node: &NameNode,
        blocks: &[Block],
        name: &[u8],
        tag: NameTag,
    ) -> Result<(), NoBlocks> {
        let mut words = words(name);
        let rest = words.split_off(WORDS.min(words.len()));
        let needed = rest.len().div_ceil(WORDS);
        if (self.max - self.unused) as usize + self.freed.len() < needed {
            return Err(NoBlocks::Memory);
        }
        words.resize(WORDS, 0);
        for (to, from) in node.words.iter().zip(words) {
            to.store(from, Relaxed);
        }
        node.hash.store(tag.hash, Relaxed);
        node.rest.store(tag.rest, Relaxed);
        let mut link = &node.cell.word;
        for chunk in rest.chunks(WORDS) {
            let index = self.take().ok_or(NoBlocks::Memory)?;
            let block = blocks.get(index as usize).ok_or(NoBlocks::Memory)?;
            for (at, to) in block.words.iter().enumerate() {
                to.store(chunk.get(at).copied().unwrap_or(0), Relaxed);
            }
            link.store(index + 1, Release);
            link = &block.next;
        }
        link.store(0, Release);
        Ok(())
    }

    fn take(&mut self) -> Option<u32> {
        if self.unused < self.max {
            self.unused += 1;
            return Some(self.unused - 1);
        }
        self.freed.pop_front()
    }

    /// Takes back the blocks of a name whose rule is gone.
    pub(crate) fn free(&mut self, node: &NameNode, blocks: &[Block]) {
        let mut link = node.cell.word.swap(0, Relaxed);
        for _ in 0..MAX_BLOCKS {
            let Some(index) = link.checked_sub(1) else { return };
            let Some(block) = blocks.get(index as usize) else { return };
            self.freed.push_back(index);
            link = block.next.load(Relaxed);
        }
    }
}

impl Table {
    /// Adds a rule for a canonical name in wire form, for which there is none yet.
    ///
    /// # Errors
    ///
    /// If there are as many rules as there may be, or no blocks are left for a long name.
    pub fn insert_name(
        &mut self,
        nodes: &[NameNode],
        (free, blocks): (&mut Blocks, &[Block]),
        (name, tag): (&[u8], NameTag),
        terms: Terms,
    ) -> Result<(), NoBlocks> {
        self.insert(nodes, tag.hash, |node| {
            free.write(node, blocks, name, tag)?;
            node.cell.begin(terms, 0);
            Ok(())
        })
    }

    /// Removes a rule for a name, which is one of the table.
    pub fn remove_name(
        &mut self,
        nodes: &[NameNode],
        (free, blocks): (&mut Blocks, &[Block]),
        node: &NameNode,
    ) {
        self.remove(nodes, node);
        free.free(node, blocks);
    }
}

impl NameNode {
    /// The canonical name of the rule in wire form, and what of it the rule is about. A node that changes meanwhile may have
    /// no name.
    pub fn name(&self, blocks: &[Block]) -> Option<(Vec<u8>, Selector)> {
        let mut name = Vec::with_capacity(32);
        let mut push = |words: &[core::sync::atomic::AtomicU64; WORDS]| {
            for word in words {
                name.extend(word.load(Relaxed).to_ne_bytes());
            }
        };
        push(&self.words);
        let mut link = self.cell.word.load(ACQUIRE);
        for _ in 0..MAX_BLOCKS {
            let Some(index) = link.checked_sub(1) else { break };
            let block = blocks.get(index as usize)?;
            push(&block.words);
            link = block.next.load(ACQUIRE);
        }
        let mut end = 0;
        while *name.get(end)? != 0 {
            end += usize::from(name[end]) + 1;
        }
        name.truncate(end + 1);
        (name.len() <= MAX_LEN).then(|| (name, self.selector()))
    }
}

/// The words of a name as they are compared; the last one is padded with zeroes.
fn words(name: &[u8]) -> Vec<u64> {
    name.chunks(8)
        .map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_ne_bytes(word)
        })
        .collect()
}
