//! Rules for names, as they lie in shared memory.
//!
//! The first bytes of a name are in the rule itself, the others in a chain of blocks.

use core::{ops::ControlFlow, sync::atomic::Ordering::Relaxed};

use crate::{
    message::{CANONICAL_WORDS, Message, NameDigest},
    rule::{Cell, Seed},
    shared::{AtomicU32, AtomicU64},
    table::{ACQUIRE, Node, Slots},
    turns::Turns,
};

#[cfg(not(target_arch = "bpf"))]
mod adopt;
#[cfg(not(target_arch = "bpf"))]
mod write;

#[cfg(not(target_arch = "bpf"))]
pub use adopt::BlocksInUse;
#[cfg(not(target_arch = "bpf"))]
pub use write::{Blocks, NoBlocks};

/// Words of a name in a rule, and in a block.
const WORDS: usize = 3;
/// The most blocks of a name.
const MAX_BLOCKS: usize = 10;

const _: () = {
    assert!((1 + MAX_BLOCKS) * WORDS * 8 >= crate::name::MAX_LEN);
    assert!(MAX_BLOCKS <= 16 && (1 + 16) * WORDS <= CANONICAL_WORDS);
    assert!(size_of::<NameNode>() == 64 && size_of::<Block>() == 32);
};

/// Which queries for a name a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selector(u32);

impl Selector {
    const ALL_TYPES: u32 = 1 << 16;
    const SUFFIX: u32 = 1 << 17;
    const BITS: u32 = (1 << 18) - 1;

    /// Queries with one type.
    #[inline(always)]
    #[must_use]
    pub const fn one_type(qtype: u16) -> Self {
        Self(qtype as u32)
    }

    /// Queries with any type.
    #[inline(always)]
    #[must_use]
    pub const fn all_types() -> Self {
        Self(Self::ALL_TYPES)
    }

    /// The same for the names below it as well.
    #[inline(always)]
    #[must_use]
    pub const fn below(self) -> Self {
        Self(self.0 | Self::SUFFIX)
    }

    /// The one type, or `None` for all.
    #[must_use]
    pub fn qtype(self) -> Option<u16> {
        u16::try_from(self.0 & !Self::SUFFIX).ok()
    }

    /// Whether the rule is about the names below it as well.
    #[must_use]
    pub const fn is_suffix(self) -> bool {
        self.0 & Self::SUFFIX != 0
    }

    /// What the rule for a name with this digest is looked up by.
    #[inline(always)]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the halves of the product")]
    pub const fn tag(self, NameDigest(digest): NameDigest, seed: Seed) -> NameTag {
        let product = seed.product(digest ^ self.0 as u64);
        NameTag { hash: (product >> 32) as u32, rest: product as u32 & !Self::BITS | self.0 }
    }
}

/// The selector of a rule, and bits of a hash of its name and selector: the same for rules that are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameTag {
    hash: u32,
    rest: u32,
}

impl NameTag {
    /// The hash of the rule, whose first bits are its bucket.
    #[inline(always)]
    #[must_use]
    pub const fn hash(self) -> u32 {
        self.hash
    }
}

/// A rule for a name, or for a name and all names below it.
#[derive(Debug, Default)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes))]
#[repr(C)]
pub struct NameNode {
    /// Its word is the link to the first block.
    cell: Cell,
    /// A [`NameTag`].
    hash: AtomicU32,
    rest: AtomicU32,
    words: [AtomicU64; WORDS],
}

/// More of a name.
#[derive(Debug, Default)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes))]
#[repr(C)]
pub struct Block {
    words: [AtomicU64; WORDS],
    /// The index of the next block and 1, or 0.
    next: AtomicU32,
    padding: AtomicU32,
}

impl NameNode {
    /// Whether this is the rule with this tag for the name that was made canonical in `message`.
    #[inline(always)]
    pub fn is<'a, T: Turns>(&self, tag: NameTag, message: &Message, blocks: impl Slots<'a, Block>) -> bool {
        // The tag is a glance that spares most comparisons.
        self.hash.load(Relaxed) == tag.hash
            && self.rest.load(Relaxed) == tag.rest
            && self.is_canonical_name_of::<T>(message, blocks)
    }

    /// Whether the name of the rule is the one that was made canonical in `message`.
    ///
    /// Names in wire form end themselves, so two that agree up to the end of one agree whole. What is behind the end of a
    /// name is zero on both sides, in all words of its last block.
    #[inline(always)]
    fn is_canonical_name_of<'a, T: Turns>(&self, message: &Message, blocks: impl Slots<'a, Block>) -> bool {
        let mut differences = differences(&self.words, message, 0);
        let mut link = u64::from(self.cell.word.load(ACQUIRE));
        if link == 0 {
            return differences == 0;
        }
        T::search(MAX_BLOCKS, |index| {
            #[allow(clippy::cast_possible_truncation, reason = "a link is 32 bits wide")]
            let Some(block) = (link as u32).checked_sub(1).and_then(|index| blocks.slot(index)) else {
                return ControlFlow::Break(None);
            };
            let before = (index % 16 + 1) * WORDS;
            differences |= self::differences(&block.words, message, before);
            link = block.next.load(ACQUIRE).into();
            ControlFlow::Continue(())
        });
        differences == 0
    }
}

#[cfg(not(target_arch = "bpf"))]
impl NameNode {
    /// What of its name the rule is about.
    pub fn selector(&self) -> Selector {
        Selector(self.rest.load(Relaxed) & Selector::BITS)
    }
}

impl Node for NameNode {
    #[inline(always)]
    fn cell(&self) -> &Cell {
        &self.cell
    }

    #[inline(always)]
    fn hash(&self, _seed: Seed) -> u32 {
        self.hash.load(Relaxed)
    }
}

/// The bits in which these words are not those of the canonical name, behind so many.
#[inline(always)]
fn differences(words: &[AtomicU64; WORDS], message: &Message, before: usize) -> u64 {
    let [one, two, three] = words;
    (one.load(Relaxed) ^ message.canonical(before))
        | (two.load(Relaxed) ^ message.canonical(before + 1))
        | (three.load(Relaxed) ^ message.canonical(before + 2))
}
