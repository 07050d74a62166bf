//! Going over the words of a name in a way that the verifier can follow.
//!
//! It follows every turn of a loop on its own, and every range that a number can have. If it does not trust the loader
//! (`CAP_BPF` without `CAP_PERFMON`), it also guards pointer arithmetic against speculation, and then refuses an
//! instruction that adds a register to a pointer with other values in other turns.

use core::marker::PhantomData;

/// The words of a name, one after the other.
pub(crate) struct Cursor<'a> {
    word: *const u64,
    index: usize,
    words: PhantomData<&'a [u64; 32]>,
}

impl<'a> Cursor<'a> {
    /// At the first word.
    #[inline(always)]
    pub(crate) const fn new(words: &'a [u64; 32]) -> Self {
        Self { word: words.as_ptr(), index: 0, words: PhantomData }
    }

    /// The index of the word that this is at.
    #[inline(always)]
    pub(crate) const fn index(&self) -> usize {
        self.index
    }

    /// The word that this is at.
    #[inline(always)]
    pub(crate) const fn word(&self) -> u64 {
        // SAFETY: it is one of the array, which is borrowed.
        unsafe { *self.word }
    }

    /// Goes on to the next word, if there is one: a pointer one past the end is out of range for the verifier.
    #[inline(always)]
    pub(crate) fn advance(&mut self) -> bool {
        if self.index == 31 {
            return false;
        }
        self.index = plus::<1>(self.index);
        self.word = next(self.word);
        true
    }
}

/// Reads a word, also if it was read before.
#[inline(always)]
pub(crate) fn read(word: &u64) -> u64 {
    // SAFETY: a read of a live, aligned word.
    unsafe { (&raw const *word).read_volatile() }
}

/// Zeroes a word on its own. Several at once would become a call of `memset`, a function whose type the verifier misses.
#[inline(always)]
pub(crate) fn zero(word: &mut u64) {
    // SAFETY: a write to a live, aligned word.
    unsafe { (&raw mut *word).write_volatile(0) }
}

/// The word behind this one.
#[inline(always)]
fn next(word: *const u64) -> *const u64 {
    word.with_addr(plus::<8>(word.addr()))
}

/// An addition of a constant of which the compiler knows nothing: it can neither turn steps into an index, nor count the
/// turns of a loop and unroll it. A socket is charged for the size of its program.
#[inline(always)]
fn plus<const N: usize>(number: usize) -> usize {
    #[cfg(target_arch = "bpf")]
    {
        let mut sum = number;
        // SAFETY: adds to a register, and does nothing else.
        unsafe {
            core::arch::asm!("{0} += {1}", inout(reg) sum, const N, options(pure, nomem, nostack));
        };
        sum
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        number + N
    }
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
