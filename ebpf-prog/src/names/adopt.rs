//! Taking over the blocks of names that others have written.

use alloc::{vec, vec::Vec};
use core::sync::atomic::Ordering::Relaxed;

use super::{Block, Blocks, MAX_BLOCKS, NameNode};

/// Which blocks the names of rules use; all others are free, whoever had taken them.
#[derive(Debug)]
pub struct BlocksInUse(Vec<bool>);

impl BlocksInUse {
    /// None of this many yet.
    #[must_use]
    pub fn none_of(max: u32) -> Self {
        Self(vec![false; max as usize])
    }

    /// Takes the blocks of a rule, unless one of them belongs to another rule or is none: then the rule is damaged.
    #[must_use]
    pub fn claim(&mut self, node: &NameNode, blocks: &[Block]) -> bool {
        let mut chain = Vec::with_capacity(MAX_BLOCKS);
        let mut link = node.cell.word.load(Relaxed);
        while let Some(index) = link.checked_sub(1) {
            let at = index as usize;
            let is_free = self.0.get(at).is_some_and(|used| !used) && !chain.contains(&at);
            let Some(block) = blocks.get(at).filter(|_| is_free && chain.len() < MAX_BLOCKS) else {
                return false;
            };
            chain.push(at);
            link = block.next.load(Relaxed);
        }
        for at in chain {
            self.0[at] = true;
        }
        true
    }

    /// Whoever has it may change the blocks.
    #[must_use]
    pub fn into_blocks(self) -> Blocks {
        let max = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let indices = || (0..max).zip(&self.0);
        let unused = indices().rev().find(|(_, used)| **used).map_or(0, |(index, _)| index + 1);
        let freed = indices().filter(|(index, used)| *index < unused && !**used);
        Blocks { max, unused, freed: freed.map(|(index, _)| index).collect() }
    }
}
