//! Loops.
//!
//! The verifier follows a loop of a program through every turn, and from every turn on through all that comes after. So
//! the programs have few of them, and leave the others to the kernel, where one turn is verified for all.

use core::ops::ControlFlow;

use crate::action::Decided;

/// Whether a search goes on, and what it has come to if not.
pub type Search = ControlFlow<Option<Decided>>;

/// How loops are run.
pub trait Turns {
    /// Calls `body` with 0, 1, 2 and so on, until it breaks or `times` is reached.
    ///
    /// What `body` captures has to be pointers and whole words: the verifier lets no program keep anything smaller on its
    /// stack where a pointer was before, unless it trusts the loader.
    fn search(times: usize, body: impl FnMut(usize) -> Search) -> Option<Decided>;
}

/// A turn is over; there is another one if `more`.
#[inline(always)]
pub(crate) const fn go_on(more: bool) -> Search {
    if more { ControlFlow::Continue(()) } else { ControlFlow::Break(None) }
}

/// As loops are on the host.
#[cfg(not(target_arch = "bpf"))]
#[derive(Clone, Copy, Debug)]
pub struct Plain;

#[cfg(not(target_arch = "bpf"))]
impl Turns for Plain {
    fn search(times: usize, body: impl FnMut(usize) -> Search) -> Option<Decided> {
        match (0..times).try_for_each(body) {
            ControlFlow::Continue(()) => None,
            ControlFlow::Break(decided) => decided,
        }
    }
}
