//! Going over the words of a name in a way that the verifier can follow.
//!
//! It follows every turn of a loop on its own, and every range that a number can have. If it does not trust the loader
//! (`CAP_BPF` without `CAP_PERFMON`), it also guards pointer arithmetic against speculation, and then refuses an
//! instruction that adds a register to a pointer with other values in other turns.

use core::ops::ControlFlow;

/// Calls `visit` with the index of each word and the word, until it breaks.
#[inline(always)]
pub(crate) fn try_each<B>(
    words: &mut [u64; 32],
    mut visit: impl FnMut(usize, &mut u64) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut word = words.as_mut_ptr();
    for index in 0..words.len() {
        // Not behind the last one: a pointer one past the end is out of range for the verifier.
        if index > 0 {
            word = next(word.cast_const()).cast_mut();
        }
        // SAFETY: `word` points at `words[index]`, which nothing else borrows.
        visit(index, unsafe { &mut *word })?;
    }
    ControlFlow::Continue(())
}

/// Whether the first `len` bytes of both are the same. Bytes behind them in the same word must be the same, too.
#[inline(always)]
pub(crate) fn equal(one: &[u64; 32], other: &[u64; 32], len: &Forgotten<usize>) -> bool {
    let (mut left, mut right) = (one.as_ptr(), other.as_ptr());
    for index in 0..one.len() {
        if index * 8 >= len.get() {
            return true;
        }
        if index > 0 {
            (left, right) = (next(left), next(right));
        }
        // SAFETY: the pointers are at the words with this index.
        if unsafe { *left != *right } {
            return false;
        }
    }
    true
}

/// The word behind this one. For the kernel, an addition of a constant that the compiler cannot turn into an index.
#[inline(always)]
fn next(word: *const u64) -> *const u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut word = word;
        #[expect(clippy::pointers_in_nomem_asm_block, reason = "only the address changes")]
        // SAFETY: adds to a register, and does nothing else.
        unsafe {
            core::arch::asm!("{0} += 8", inout(reg) word, options(pure, nomem, nostack));
        };
        word
    }
    #[cfg(not(target_arch = "bpf"))]
    word.wrapping_add(1)
}

/// A number that is forgotten. In the kernel it lives in the memory of a map: of what is read from there the verifier
/// knows nothing, so whichever way led to it, there is only one to follow from there on.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Forgotten<T>(T);

impl<T: Copy> Forgotten<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    #[inline(always)]
    pub(crate) fn get(&self) -> T {
        // SAFETY: a read of a live, aligned field.
        unsafe { (&raw const self.0).read_volatile() }
    }

    #[inline(always)]
    pub(crate) fn set(&mut self, value: T) {
        // SAFETY: a write to a live, aligned field.
        unsafe { (&raw mut self.0).write_volatile(value) }
    }
}
