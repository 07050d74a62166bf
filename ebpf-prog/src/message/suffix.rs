//! The suffixes of the name in a message: what they are looked up by, and their canonical form.
//!
//! A name is read as one number, its first byte the lowest, modulo 2^63 - 1. There, a shift by a byte is a rotation, and
//! a word 64 bits further up weighs twice as much. So one pass over the words of a name gives what is needed to find the
//! number of any of its suffixes with a few instructions, wherever it starts.
//!
//! Such a number is no hash to rely on: it is easy to make names that share one. It only says that most suffixes have no
//! rule; the others are looked up by a digest that depends on the seed of the filter.

use core::ops::ControlFlow;

use super::{BYTES_OF_NAME, CANONICAL_WORDS, Message, NAME, NAME_WORDS};
use crate::{
    name::{self, CASE},
    rule::Seed,
    turns::{Turns, go_on},
    words,
};

/// Zeroes behind a canonical name, in bytes.
const PADDING: usize = 16;

/// Words of a name that are read without a loop: as many as are zero behind the shortest name.
const FIRST_WORDS: usize = 4;

const MODULUS: u64 = (1 << 63) - 1;

/// Says of a suffix that it has no rule: the same for names that are the same, in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuffixKey(u64);

impl SuffixKey {
    /// Its number.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// A hash of a name in canonical form, from the seed of the filter: nobody outside can make names that share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameDigest(pub(crate) u64);

impl Message {
    /// The most suffixes that a name has, itself and the root included.
    pub const MAX_SUFFIXES: usize = 128;

    /// Starts on the suffixes of the name, which is `len` bytes long. The first one is the whole name.
    ///
    /// What is behind the name is lost: zeroes take its place, so that the last words need no care.
    #[inline(always)]
    pub fn start_suffixes<T: Turns>(&mut self, len: usize) {
        let Self { words, offset, available, sums, total, .. } = self;
        // Nothing else is left to do with these two.
        offset.set(0);
        available.set(len);
        let last = NAME / 8 + len % BYTES_OF_NAME / 8;
        words[last] &= first_bytes(len % 8).to_le();
        words::zero(&mut words[last + 1]);
        words::zero(&mut words[last + 2]);
        words::zero(&mut words[last + 3]);
        // Most names end in the first words. Behind the end these are zero, and do not count.
        let mut sum = 0;
        for index in 0..FIRST_WORDS {
            sums[index] = sum;
            sum = add(sum, rotate(reduce(u64::from_le(words[NAME / 8 + index]) & !CASE), index));
        }
        total.set(sum);
        if len <= FIRST_WORDS * 8 {
            return;
        }
        T::search(NAME_WORDS - FIRST_WORDS, move |index| {
            let index = (index + FIRST_WORDS) % NAME_WORDS;
            if index * 8 >= available.get() {
                return ControlFlow::Break(None);
            }
            let word = u64::from_le(words[NAME / 8 + index]) & !CASE;
            let before = total.get();
            sums[index] = before;
            total.set(add(before, rotate(reduce(word), index)));
            ControlFlow::Continue(())
        });
    }

    /// The key of the suffix that is next; none is behind the root, the last one.
    #[inline(always)]
    pub fn suffix(&self) -> Option<SuffixKey> {
        let at = self.offset.get();
        if at >= self.available.get() {
            return None;
        }
        let (index, byte) = (at % BYTES_OF_NAME / 8, at % 8);
        let word = u64::from_le(self.words[NAME / 8 + index]);
        let before = reduce(word & !CASE & first_bytes(byte));
        let before = add(self.sums[index], rotate(before, index));
        let rest = add(self.total.get(), MODULUS - before);
        let turns = index + byte * 8;
        let turns = if turns >= 63 { turns - 63 } else { turns };
        let key = (rest >> turns) | (rest << (63 - turns)) & MODULUS;
        // The modulus is 0 as well.
        Some(SuffixKey(fold(key + 1) - 1))
    }

    /// Whether the suffix that is next is the whole name.
    #[inline(always)]
    pub fn is_whole(&self) -> bool {
        self.offset.get() == 0
    }

    /// Goes on to the suffix without the first label.
    #[inline(always)]
    pub fn next_suffix(&mut self) {
        let at = self.offset.get() % BYTES_OF_NAME;
        let word = u64::from_le(self.words[NAME / 8 + at / 8]);
        let label = word >> (at % 8 * 8) & 0x3f;
        self.offset.set(at + label as usize + 1);
    }

    /// Writes the suffix that is next in canonical form to where it is compared from, and makes its digest.
    #[inline(always)]
    pub fn canonicalize<T: Turns>(&mut self, seed: Seed) {
        let Self { words, offset, available, canonical, digest, .. } = self;
        digest.set(0);
        T::search(CANONICAL_WORDS, move |index| {
            let index = index % CANONICAL_WORDS;
            let at = offset.get();
            let from = NAME / 8 + at % BYTES_OF_NAME / 8 + index;
            let shift = at % 8 * 8;
            let [low, high] = [words[from], words[from + 1]].map(u64::from_le);
            // In two steps: a shift by 64 is none.
            let word = name::fold(low >> shift | high << 1 << (63 - shift));
            canonical[index] = word.to_le();
            digest.set(seed.product(digest.get() ^ word));
            go_on(at + index * 8 + 8 < available.get() + PADDING)
        });
    }

    /// The digest of what was made canonical last.
    #[inline(always)]
    pub fn digest(&self) -> NameDigest {
        NameDigest(self.digest.get())
    }

    /// A word of what was made canonical last, in little-endian order. What is behind the end of the name is zero in its
    /// last word and the two after it, and means nothing after that.
    #[inline(always)]
    pub(crate) fn canonical(&self, index: usize) -> u64 {
        self.canonical[index % CANONICAL_WORDS]
    }
}

#[cfg(not(target_arch = "bpf"))]
impl Message {
    /// The bytes of what was made canonical last.
    pub fn canonical_bytes(&self) -> &[u8; BYTES_OF_NAME] {
        let bytes: &[u8; CANONICAL_WORDS * 8] = zerocopy::transmute_ref!(&self.canonical);
        match bytes.first_chunk() {
            Some(bytes) => bytes,
            None => unreachable!(),
        }
    }
}

/// A mask of the first bytes of a word in little-endian order, less than 8.
#[inline(always)]
const fn first_bytes(bytes: usize) -> u64 {
    (1 << (bytes * 8)) - 1
}

/// Once or twice, this leaves a number up to the modulus.
#[inline(always)]
const fn fold(number: u64) -> u64 {
    (number & MODULUS) + (number >> 63)
}

#[inline(always)]
const fn reduce(word: u64) -> u64 {
    fold(fold(word))
}

#[inline(always)]
const fn add(one: u64, other: u64) -> u64 {
    fold(one + other)
}

/// Times a power of two below 2^63.
#[inline(always)]
const fn rotate(number: u64, by: usize) -> u64 {
    (number << by) & MODULUS | number >> (63 - by)
}
