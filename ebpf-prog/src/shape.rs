//! The shape of a name: a few bits that are cheaper to find than the name itself.
//!
//! Most queries are for names without a rule. A table says which shapes the names of the rules have; a name of any other
//! shape need not be lower-cased, hashed and looked up.

use crate::name::MAX_LEN;

/// How many shapes there are.
const SHAPES: usize = 4096;

/// The size of a table of shapes, in words.
const WORDS: usize = SHAPES / 64;

/// The bit that tells upper from lower case, in every byte. Setting it makes bytes alike that are not, and never makes
/// names differ that are the same.
const CASE: u64 = 0x2020_2020_2020_2020;

const MIX: u64 = 0x9e37_79b9_7f4a_7c15;

/// A shape: the same for names that are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape(u16);

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

    /// Its number, below the number of shapes.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
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
    #[allow(clippy::cast_possible_truncation, reason = "twelve bits are left")]
    pub(crate) const fn shape(self) -> Shape {
        Shape((self.0.wrapping_mul(MIX) >> 52) as u16)
    }
}

/// The shapes that names have.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
#[repr(transparent)]
pub struct Shapes([u64; WORDS]);

impl Shapes {
    /// No shape at all.
    pub const NONE: Self = Self([0; WORDS]);

    /// How many shapes there are.
    pub const COUNT: usize = SHAPES;

    /// Whether this is one of them.
    #[inline(always)]
    #[must_use]
    pub const fn contain(&self, shape: Shape) -> bool {
        let Shape(index) = shape;
        self.0[(index / 64) as usize & (WORDS - 1)] >> (index % 64) & 1 == 1
    }

    /// Adds or removes one.
    pub const fn set(&mut self, shape: Shape, present: bool) {
        let word = &mut self.0[shape.index() / 64];
        let bit = 1 << (shape.index() % 64);
        if present {
            *word |= bit;
        } else {
            *word &= !bit;
        }
    }
}

const _: () = assert!(1 << 12 == SHAPES);
