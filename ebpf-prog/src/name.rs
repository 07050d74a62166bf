//! Names in wire form (RFC 1035 §3.1): their labels, and lower-casing.

use core::ops::ControlFlow;

use crate::{malformed::Malformed, words::Forgotten};

/// The longest name in bytes, its root label included (RFC 1035 §2.3.4).
pub const MAX_LEN: usize = 255;

/// The longest label in bytes.
const MAX_LABEL: u8 = 63;

/// The first byte of a compression pointer has both high bits set (RFC 1035 §4.1.4).
const POINTER: u8 = 0xc0;

/// The most labels that can start in one word: the shortest has a length and one byte.
const LABELS_IN_WORD: usize = 4;

/// Goes over the labels that start in `word`, the one at `index`, in little-endian order, of a name of which `available`
/// bytes are here. `next` is where the next label starts; breaks where that is the root label.
///
/// The length of a label is shifted out of the word that it is in. Reading it from memory would be pointer arithmetic
/// with a number from the packet, which the verifier follows into every misprediction if it does not trust the loader.
#[inline(always)]
pub(crate) fn labels_starting_in(
    word: u64,
    index: usize,
    next: &mut Forgotten<usize>,
    available: &Forgotten<usize>,
) -> ControlFlow<Result<(), Malformed>> {
    let mut at = next.get();
    for _ in 0..LABELS_IN_WORD {
        if at >= index * 8 + 8 {
            break;
        }
        if at >= available.get() {
            return ControlFlow::Break(Err(Malformed::Truncated));
        }
        let label = (word >> (at % 8 * 8) & 0xff) as u8;
        if label == 0 {
            next.set(at);
            return ControlFlow::Break(Ok(()));
        }
        if label > MAX_LABEL {
            let reason = if label >= POINTER { Malformed::Pointer } else { Malformed::LabelTooLong };
            return ControlFlow::Break(Err(reason));
        }
        at += usize::from(label) + 1;
        if at >= MAX_LEN {
            return ControlFlow::Break(Err(Malformed::NameTooLong));
        }
    }
    next.set(at);
    ControlFlow::Continue(())
}

/// The bit that tells upper from lower case, in every byte. Setting or clearing it makes bytes alike that are not, and
/// never makes names differ that are the same.
pub(crate) const CASE: u64 = 0x2020_2020_2020_2020;

/// ASCII lower case of eight bytes at once (RFC 4343 §3); all other bytes stay as they are.
#[inline(always)]
#[must_use]
pub const fn fold(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * ONES;
    let low = word & !HIGH;
    let from_a = low + (0x80 - b'A' as u64) * ONES;
    let past_z = low + (0x7f - b'Z' as u64) * ONES;
    let upper = (from_a ^ past_z) & !word & HIGH;
    word | (upper >> 2)
}
