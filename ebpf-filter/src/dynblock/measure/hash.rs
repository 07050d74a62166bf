//! Hashes of prefixes: a few for every query, so they take no longer than they must.

use std::hash::{BuildHasher as _, RandomState};

/// What hashes start from, drawn anew for every group, so that nobody outside can choose clients that share their slots.
#[derive(Clone, Debug)]
pub(crate) struct Secret([u64; 4]);

impl Secret {
    pub(crate) fn new() -> Self {
        let random = RandomState::new();
        Self([0, 1, 2, 3].map(|number| random.hash_one(number)))
    }

    /// Of a hundred and twenty-eight bits, and a number that tells one use of them from another. Two rounds: the first
    /// mixes the bits with the secret, the second evens out how the results lie.
    #[inline]
    pub(crate) const fn hash(&self, bits: [u64; 2], domain: u64) -> u64 {
        let [one, two, three, four] = self.0;
        let mixed = fold(bits[0] ^ one, bits[1] ^ two);
        fold(mixed ^ three, four ^ domain)
    }
}

/// The halves of the product on each other, as wyhash folds them: every bit of a factor counts for every bit of the result.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the halves of the product")]
const fn fold(one: u64, other: u64) -> u64 {
    let product = one as u128 * other as u128;
    product as u64 ^ (product >> 64) as u64
}

/// With an odd number whose bits are mixed.
#[inline]
pub(crate) const fn mix(bits: u64) -> u64 {
    fold(bits, 0x9e37_79b9_7f4a_7c15)
}
