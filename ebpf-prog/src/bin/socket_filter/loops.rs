//! Loops that the kernel runs: `bpf_loop`, of which the verifier follows one turn for all.

#![allow(
    clippy::inline_always,
    reason = "one function for the verifier: calls cost packets time and hide bounds"
)]
#![allow(clippy::cast_possible_truncation, reason = "the counts of turns are small")]

use core::{ffi::c_void, ops::ControlFlow};

use aya_ebpf::helpers::bpf_loop;
use ebpf_prog::{decision::Decided, turns::Search};

#[inline(always)]
pub(crate) fn search(times: usize, body: impl FnMut(usize) -> Search) -> Option<Decided> {
    let mut search = Shared { body, found: NOTHING };
    let turn = turn_of(&search);
    // SAFETY: the callback is made for the type that the pointer behind it points at.
    unsafe { bpf_loop(times as u32, turn as *mut c_void, (&raw mut search).cast(), 0) };
    match search.found {
        NOTHING => None,
        found => Some(Decided::from_word(found)),
    }
}

const NOTHING: u64 = u64::MAX;

/// What the turns of a loop share.
struct Shared<F> {
    body: F,
    /// A [`Decided`], or [`NOTHING`].
    found: u64,
}

/// Closures have no names: this finds the function for one by its value.
#[inline(always)]
fn turn_of<F: FnMut(usize) -> Search>(_: &Shared<F>) -> unsafe extern "C" fn(u64, *mut c_void) -> i64 {
    turn::<F>
}

/// # Safety
///
/// `search` must point at a `Shared<F>` that nobody else uses.
unsafe extern "C" fn turn<F: FnMut(usize) -> Search>(index: u64, search: *mut c_void) -> i64 {
    // SAFETY: the caller vouches for it.
    let search = unsafe { &mut *search.cast::<Shared<F>>() };
    match (search.body)(index as usize) {
        ControlFlow::Continue(()) => 0,
        ControlFlow::Break(None) => 1,
        ControlFlow::Break(Some(decided)) => {
            search.found = decided.word();
            1
        }
    }
}
