//! The lengths of prefixes that ranges have, the longest first: only these are looked up.

#[cfg(not(target_arch = "bpf"))]
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use crate::shared::AtomicU8;

/// Lengths in use, in shared memory: a list that is walked while it changes.
///
/// Whoever walks it must not miss a length that stays. So lengths only ever move away from the start: a new one takes the
/// place of a hole, or moves those behind it on; where one was removed, a hole stays, which repeats what is behind it.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes))]
#[repr(transparent)]
pub struct Lengths([AtomicU8; Self::PLACES]);

impl Lengths {
    /// More than there are lengths, because of the holes.
    pub const PLACES: usize = 256;

    /// What is in this place, a length and 1; 0 is the end.
    #[inline(always)]
    pub fn place(&self, index: usize) -> u8 {
        self.0[index % Self::PLACES].load(Relaxed)
    }
}

#[cfg(not(target_arch = "bpf"))]
impl Lengths {
    /// Adds a length that is not in use yet. Only one thread may change lengths at a time.
    pub fn add(&self, len: u8) {
        let new = len + 1;
        let is_hole = |index| self.place(index) != 0 && self.place(index) == self.place(index + 1);
        let before = (0..Self::PLACES - 1).find(|index| self.place(*index) < new);
        let Some(before) = before else { return self.close() };
        let Some(free) = (before..Self::PLACES - 1).find(|index| is_hole(*index) || self.place(*index) == 0)
        else {
            self.close();
            return self.add(len);
        };
        // From the far end on, so that each is copied before it is overwritten.
        for index in (before..free).rev() {
            self.set(index + 1, self.place(index));
        }
        self.set(before, new);
    }

    /// Removes a length.
    pub fn remove(&self, len: u8) {
        for index in (0..Self::PLACES - 1).rev() {
            if self.place(index) == len + 1 {
                self.set(index, self.place(index + 1));
            }
        }
    }

    /// Adds the lengths that are missing, whatever was left half done. Says whether that changed anything.
    pub fn add_missing(&self, is_used: impl Fn(u8) -> bool) -> bool {
        let missing: Vec<u8> = (0..u8::MAX)
            .filter(|len| is_used(*len) && !self.places().any(|place| place == len + 1))
            .collect();
        for len in &missing {
            self.add(*len);
        }
        !missing.is_empty()
    }

    /// Removes the lengths that are not used, and puts the others in order. Says whether that changed anything. Whoever walks
    /// the list meanwhile misses none, unless somebody has died who was closing the holes.
    pub fn keep_only(&self, is_used: impl Fn(u8) -> bool) -> bool {
        let unused: Vec<u8> = (0..u8::MAX)
            .filter(|len| !is_used(*len) && self.places().any(|place| place == len + 1))
            .collect();
        for len in &unused {
            self.remove(*len);
        }
        let in_order = self.places().zip(self.places().skip(1)).all(|(one, next)| one >= next);
        if !in_order {
            let used: Vec<u8> = (0..u8::MAX).rev().filter(|len| is_used(*len)).map(|len| len + 1).collect();
            used.iter().enumerate().for_each(|(index, place)| self.set(index, *place));
            (used.len()..Self::PLACES).rev().for_each(|index| self.set(index, 0));
        }
        !unused.is_empty() || !in_order
    }

    /// What is walked over.
    fn places(&self) -> impl Iterator<Item = u8> + '_ {
        (0..Self::PLACES).map(|index| self.place(index)).take_while(|place| *place != 0)
    }

    /// Closes the holes. Whoever walks the list meanwhile may miss a length, but it takes very many changes to get here.
    fn close(&self) {
        let mut to = 0;
        for from in 0..Self::PLACES - 1 {
            let place = self.place(from);
            if to == 0 || place != self.place(to - 1) {
                self.set(to, place);
                to += 1;
            }
        }
        (to..Self::PLACES).for_each(|index| self.set(index, 0));
    }

    fn set(&self, index: usize, place: u8) {
        self.0[index % Self::PLACES].store(place, core::sync::atomic::Ordering::Release);
    }
}
