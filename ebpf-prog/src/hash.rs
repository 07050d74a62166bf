//! The 128-bit hash that names are looked up by.
//!
//! A map key of 256 bytes costs more than the rest of the program, so names are found by a hash and then compared
//! whole: the hash picks the slot, the name in it decides. The seed is drawn anew for every filter, so that nobody
//! outside can prepare names that meet in one slot.

use crate::{decision::Digest, layout::QnameKey};

const A: u64 = 0x9e37_79b9_7f4a_7c15;
const B: u64 = 0xc2b2_ae3d_27d4_eb4f;

/// Two lanes of 64 bits: the kernel's instruction set has no wider multiplication.
#[derive(Clone, Copy)]
pub struct NameHasher {
    a: u64,
    b: u64,
}

impl NameHasher {
    /// Starts from the seed of the filter.
    #[inline(always)]
    #[must_use]
    pub const fn new(seed: [u64; 2]) -> Self {
        let [a, b] = seed;
        Self { a, b }
    }

    /// Takes in a whole canonical name in wire form.
    #[must_use]
    pub fn with_name(mut self, name: &[u8]) -> Self {
        for chunk in name.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
        self
    }

    /// The key of the rule for the name and `qtypes` ([`crate::layout::ALL_QTYPES`] or a type).
    #[inline(always)]
    #[must_use]
    pub fn key(mut self, qtypes: u32) -> QnameKey {
        self.word(u64::from(qtypes));
        QnameKey::new(self.a, self.b)
    }
}

impl Digest for NameHasher {
    #[inline(always)]
    fn word(&mut self, word: u64) {
        self.a = (self.a ^ word).wrapping_mul(A);
        self.a ^= self.a >> 32;
        self.b = self.b.wrapping_add(word).wrapping_mul(B);
        self.b ^= self.b >> 29;
    }
}
