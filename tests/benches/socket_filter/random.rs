//! Numbers that look random, and are the same in every run.

/// `SplitMix64`.
pub(crate) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// One of these.
pub(crate) fn pick<'a, T>(of: &'a [T], state: &mut u64) -> &'a T {
    &of[(random(state) % of.len() as u64) as usize]
}

/// So many letters.
pub(crate) fn letters(count: usize, state: &mut u64) -> String {
    // Less than 26, so that it fits.
    (0..count).map(|_| char::from(b'a' + (random(state) % 26) as u8)).collect()
}
