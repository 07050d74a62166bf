//! Sources of queries.

use std::net::Ipv4Addr;

/// Different for different numbers: splitmix64.
pub(crate) const fn key(number: u64) -> u64 {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

/// Different for different numbers, which have 32 bits.
pub(crate) const fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b1).rotate_left(16))
}

/// The numbers below this one in random order.
pub(crate) fn shuffled(count: u32) -> Vec<u32> {
    let mut numbers: Vec<_> = (0..count).collect();
    numbers.sort_by_key(|number| key((1 << 40) + u64::from(*number)));
    numbers
}
