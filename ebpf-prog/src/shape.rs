//! The shape of a name: a few bits that are cheaper to find than the name itself.
//!
//! Most queries are for names without a rule. A sieve says which shapes the names of the rules have; a name of any other
//! shape need not be lower-cased and looked up. Suffixes have shapes of their own, made of their keys, and ranges of sources,
//! too, made of their hashes.

use core::sync::atomic::Ordering::Relaxed;

use crate::{
    message::SuffixKey,
    name::{CASE, MAX_LEN},
    shared::AtomicU64,
    table::high_bits,
};

const MIX: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX_SUFFIX: u64 = 0xc2b2_ae3d_27d4_eb4f;

/// A shape: the same for names that are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape(u32);

impl Shape {
    /// The shape of a name in wire form. What is behind the 255th byte is not looked at.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let mut sum = Sum::new();
        for chunk in name[..name.len().min(MAX_LEN)].chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            sum.add(u64::from_le_bytes(word));
        }
        sum.shape()
    }

    /// The shape of a suffix.
    #[inline(always)]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the upper half is shifted in")]
    pub const fn of_suffix(key: SuffixKey) -> Self {
        Self((key.number().wrapping_mul(MIX_SUFFIX) >> 32) as u32)
    }

    /// The shape of a range of sources with this hash.
    #[inline(always)]
    #[must_use]
    pub const fn of_range(hash: u32) -> Self {
        Self(hash)
    }

    /// Where it is in a sieve of 2^(32 - `shift`) words.
    #[inline(always)]
    #[must_use]
    pub const fn place(self, shift: u32) -> Place {
        // The bits of the shape behind the index of the word say which of its bits, two of them.
        let rest = ((self.0 as u64) << 32 >> shift) & 0xffff_ffff;
        Place { word: high_bits(self.0, shift), bits: 1 << (rest >> 26) | 1 << (rest >> 20 & 63) }
    }
}

/// Where a shape is in a sieve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The index of the word.
    pub word: u32,
    /// The bits of the word, two or one.
    pub bits: u64,
}

/// Some of the shapes that the names of rules have.
#[derive(Debug, Default)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes))]
#[repr(transparent)]
pub struct SieveWord(AtomicU64);

impl SieveWord {
    /// Whether a shape with these bits may be one of them.
    #[inline(always)]
    pub fn contains(&self, bits: u64) -> bool {
        self.0.load(Relaxed) & bits == bits
    }

    /// All of its bits.
    #[cfg(not(target_arch = "bpf"))]
    pub fn bits(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Sets or clears bits. Only one thread may do so at a time.
    #[cfg(not(target_arch = "bpf"))]
    pub fn set(&self, bits: u64, present: bool) {
        let word = self.0.load(Relaxed);
        let after = if present { word | bits } else { word & !bits };
        self.0.store(after, core::sync::atomic::Ordering::Release);
    }
}

/// The sum of the words of a name, from which its shape follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sum(u64);

impl Sum {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self(0)
    }

    #[inline(always)]
    pub(crate) const fn from(value: u64) -> Self {
        Self(value)
    }

    #[inline(always)]
    pub(crate) const fn value(self) -> u64 {
        self.0
    }

    /// Adds a word in little-endian order; the last one is padded with zeroes.
    #[inline(always)]
    pub(crate) const fn add(&mut self, word: u64) {
        self.0 = self.0.wrapping_add(word | CASE);
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "the upper half is shifted in")]
    pub(crate) const fn shape(self) -> Shape {
        Shape((self.0.wrapping_mul(MIX) >> 32) as u32)
    }
}
