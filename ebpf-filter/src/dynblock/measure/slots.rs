//! What is known of any number of keys, in a fixed amount of memory.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering, fence},
};

use zerocopy::FromZeros;

use super::hash::mix;
use crate::{
    engine::OutOfMemory,
    kernel::{Mapping, prefetch},
};

/// A fixed number of slots, each for a tag of 64 bits that stands for a key, and a value of 64 bits.
///
/// A tag has eight slots to be in: those of its line, which its high bits say, and of the line beside it. Two keys share a slot
/// only if their tags are the same: with probability 2^-63 for any two keys.
///
/// # When all eight are taken
///
/// Values are times until which they matter, or have such times in their high bits. The smallest makes room: always if that
/// time is over, and for every eighth event if not. So who sends a single event, like a source that is forged, seldom gets
/// a slot and soon loses it, while who keeps sending gets one after eight events or so, and keeps it from when its value
/// is ahead of what a single event makes. A key that sends every so many seconds is kept if no more than eight times as
/// many other keys as there are slots come up in the meantime.
///
/// # When threads meet
///
/// A value changes only if it is the one that the change was computed from, and belongs to the tag. A slot that gets another
/// tag has none in between, so nobody takes the value of one key for that of another. What can happen:
///
/// - Two threads make a slot for the same key at the same time. One is found from then on; what the other has counted, one
///   event, is lost.
/// - A slot is given to another key while an event of its former key is being counted. That event is lost with all others of
///   the key, or, if both values are the same to the nanosecond, counted for the other key.
/// - Others are faster [`ATTEMPTS`] times in a row. The event is not counted, and is judged as the first of its key.
///
/// Nobody ever waits for another thread.
pub(crate) struct Slots {
    lines: Mapping<Line>,
    /// How many bits of a tag are too many for the index of a line.
    shift: u32,
    evictions: [Counter; COUNTERS],
}

#[derive(FromZeros)]
struct Slot {
    tag: AtomicU64,
    value: AtomicU64,
}

/// A line of the cache.
#[derive(FromZeros)]
#[repr(align(64))]
struct Line([Slot; LINE]);

const LINE: usize = 4;

/// The tag of slots that are free.
const FREE: u64 = 0;

/// The tag of a slot that is given to another key just now.
const BUSY: u64 = 1;

/// The smallest tag of a key.
pub(crate) const FIRST_TAG: u64 = 2;

const ATTEMPTS: usize = 16;

impl Slots {
    /// At least so many slots: a power of two, and eight at least.
    pub(crate) fn new(slots: usize) -> Result<Self, OutOfMemory> {
        let lines = slots.div_ceil(LINE).max(2).checked_next_power_of_two().ok_or(OutOfMemory)?;
        Ok(Self {
            lines: Mapping::zeroed(lines).map_err(|_| OutOfMemory)?,
            shift: u64::BITS - lines.trailing_zeros(),
            evictions: Default::default(),
        })
    }

    /// Changes the value of a tag to what `change` makes of it, given `None` if there is none, and returns what it says.
    /// Nothing changes if that is an error.
    #[inline]
    pub(crate) fn update<T, E>(
        &self,
        tag: u64,
        now: u64,
        change: impl Fn(Option<u64>) -> Result<(T, u64), E>,
    ) -> Result<T, E> {
        debug_assert!(tag >= FIRST_TAG);
        for _ in 0..ATTEMPTS {
            if let Some(slot) = self.find(tag) {
                let Some(before) = slot.value_of(tag) else { continue };
                let (outcome, after) = change(Some(before))?;
                if slot.replace(before, after) {
                    return Ok(outcome);
                }
            } else {
                let (outcome, value) = change(None)?;
                if self.insert(tag, now, value) {
                    return Ok(outcome);
                }
            }
        }
        change(None).map(|(outcome, _)| outcome)
    }

    /// The value of a tag.
    pub(crate) fn get(&self, tag: u64) -> Option<u64> {
        self.find(tag).and_then(|slot| slot.value_of(tag))
    }

    /// Brings the line of a tag into the cache, while others are brought in as well.
    #[inline]
    pub(crate) fn touch(&self, tag: u64) {
        prefetch(self.line(self.home(tag)));
    }

    /// How many slots there are.
    pub(crate) fn len(&self) -> usize {
        self.lines.len() * LINE
    }

    /// How many values matter at this time. This looks at every slot.
    pub(crate) fn occupied(&self, now: u64) -> usize {
        let slots = self.lines.iter().flat_map(|line| &line.0);
        slots
            .filter(|slot| {
                slot.tag.load(Ordering::Relaxed) >= FIRST_TAG && slot.value.load(Ordering::Relaxed) > now
            })
            .count()
    }

    /// How many values had to make room although they mattered.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.iter().map(|counter| counter.0.load(Ordering::Relaxed)).sum()
    }

    /// How much memory this takes once every slot was used.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.lines)
    }

    #[inline]
    fn find(&self, tag: u64) -> Option<&Slot> {
        let home = self.home(tag);
        self.line(home).find(tag).or_else(|| self.line(home ^ 1).find(tag))
    }

    /// Gives a slot to a tag that has none, or leaves it without one. Returns `false` if another thread was faster.
    #[inline(never)]
    fn insert(&self, tag: u64, now: u64, value: u64) -> bool {
        let home = self.home(tag);
        let Some((slot, seen)) = self.weakest(home, now) else { return false };
        let evicts = seen.tag != FREE && seen.value > now;
        if evicts && !is_admitted(tag, now) {
            return true;
        }
        if slot.tag.compare_exchange(seen.tag, BUSY, Ordering::Acquire, Ordering::Relaxed).is_err() {
            return false;
        }
        // Who sees the new value no longer sees the old tag.
        fence(Ordering::Release);
        slot.value.store(value, Ordering::Relaxed);
        slot.tag.store(tag, Ordering::Release);
        if evicts {
            self.evictions[home % COUNTERS].0.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// A slot that is free or whose time is over, if there is one in the line at home or in the one beside it, in this order;
    /// else the one whose value is the smallest.
    fn weakest(&self, home: usize, now: u64) -> Option<(&Slot, Seen)> {
        let [at_home, beside] = [home, home ^ 1].map(|line| self.line(line).weakest());
        let (Some(at_home), Some(beside)) = (at_home, beside) else { return at_home.or(beside) };
        let stays = at_home.1.value <= now || at_home.1.value <= beside.1.value;
        Some(if stays { at_home } else { beside })
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "there are no more lines than addresses")]
    const fn home(&self, tag: u64) -> usize {
        (tag >> self.shift) as usize
    }

    #[inline]
    fn line(&self, index: usize) -> &Line {
        &self.lines[index]
    }
}

impl fmt::Debug for Slots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Line {
    /// Looks at all slots, which is faster than to guess wrong where to stop.
    #[inline]
    fn find(&self, tag: u64) -> Option<&Slot> {
        let has = |slot: usize| u32::from(self.0[slot].tag.load(Ordering::Acquire) == tag) << slot;
        let found = has(0) | has(1) | has(2) | has(3);
        self.0.get(found.trailing_zeros() as usize)
    }

    /// A slot that is free, or whose value is the smallest.
    fn weakest(&self) -> Option<(&Slot, Seen)> {
        let seen = self.0.iter().filter_map(|slot| Some((slot, slot.seen()?)));
        seen.min_by_key(|(_, seen)| seen.value)
    }
}

impl Slot {
    /// The value, if it is still of this tag.
    #[inline]
    fn value_of(&self, tag: u64) -> Option<u64> {
        let value = self.value.load(Ordering::Acquire);
        (self.tag.load(Ordering::Relaxed) == tag).then_some(value)
    }

    /// What the slot has, unless it is given to another key just now.
    fn seen(&self) -> Option<Seen> {
        let [tag, value] = [&self.tag, &self.value].map(|half| half.load(Ordering::Relaxed));
        match tag {
            BUSY => None,
            FREE => Some(Seen { tag, value: 0 }),
            _ => Some(Seen { tag, value }),
        }
    }

    /// Returns `false` if another thread was faster.
    #[inline]
    fn replace(&self, before: u64, after: u64) -> bool {
        self.value.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Whether an event of an unknown key takes a slot that still matters: by chance, which neither the sender knows.
fn is_admitted(tag: u64, now: u64) -> bool {
    mix(tag ^ now) >> (u64::BITS - ADMISSION) == 0
}

/// One in 2^3.
const ADMISSION: u32 = 3;

/// What a slot had when it was looked at.
#[derive(Clone, Copy)]
struct Seen {
    tag: u64,
    value: u64,
}

/// A counter in a line of its own.
#[derive(Default)]
#[repr(align(64))]
struct Counter(AtomicU64);

/// So many that threads seldom meet at one.
const COUNTERS: usize = 16;

#[cfg(test)]
mod tests;
