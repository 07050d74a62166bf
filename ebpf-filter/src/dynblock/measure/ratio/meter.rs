//! Counts of responses, and of those that match, in one value of the slots for each key.

use std::{convert::Infallible, sync::Arc, time::Duration};

use super::{
    super::{limiter::Tag, slots::Slots},
    Level, Ratio,
};

/// One ratio for any number of keys, which share the slots with limits.
#[derive(Debug)]
pub(crate) struct RatioMeter {
    ratio: Ratio,
    packing: Packing,
    slots: Arc<Slots>,
    salt: u64,
}

impl RatioMeter {
    /// The salt tells the keys of this meter from those of others.
    pub(crate) fn new(ratio: Ratio, slots: Arc<Slots>, salt: u64) -> Self {
        Self { ratio, packing: Packing::of(ratio), slots, salt }
    }

    /// Counts one response; says whether the ratio is exceeded now.
    #[inline]
    pub(crate) fn observe(&self, key: u64, now: u64, matching: bool) -> Level {
        let tag = Tag::new(key, self.salt);
        let packing = &self.packing;
        let Ok(level) = self.slots.update(tag.number(), now, |value| {
            let after = packing.at(now, value).and(matching, packing.most);
            Ok::<_, Infallible>((self.judge(after), packing.pack(after)))
        });
        level
    }

    #[expect(clippy::cast_precision_loss, reason = "counts have at most 21 bits")]
    fn judge(&self, counts: Counts) -> Level {
        // The quotient of two whole numbers is the number that their ratio is written as: no share is above itself.
        let share = counts.matching as f64 / counts.total as f64;
        if counts.total < self.ratio.minimum.into() {
            Level::Under
        } else if share > self.ratio.limit {
            Level::Over
        } else if self.ratio.warning.is_some_and(|warning| share > warning) {
            Level::Warning
        } else {
            Level::Under
        }
    }
}

/// How counts fit into a value: it is a time whose low bits hold the counts.
///
/// The time is when the current half of the window began, and, as for rates, the later the nearer the key is to where it may
/// exceed the limit: by a step for every response, and a window at most. It is in units that the low bits cannot reach.
#[derive(Clone, Copy, Debug)]
struct Packing {
    /// The bits of each count.
    bits: u32,
    /// The highest count.
    most: u64,
    /// Half a window in units.
    half: u64,
    /// What a response makes of the time, in units.
    step: u64,
}

/// Counts have no fewer bits than this, if the window is long enough for them.
const FEWEST_BITS: u32 = 10;

/// Half a window has 2^4 units at least.
const FEWEST_UNITS: u32 = 4;

impl Packing {
    fn of(ratio: Ratio) -> Self {
        let half = half(ratio.window);
        let minimum = ratio.minimum.max(1);
        let bits = (minimum.ilog2() + 2).max(FEWEST_BITS).min(most_bits(half));
        let half = (half >> (2 * bits - 1)).div_ceil(2);
        let step = (2 * half / u64::from(minimum)).max(1);
        Self { bits, most: (1 << bits) - 1, half, step }
    }

    /// The counts of a key, each half as large for each half of the window that has passed.
    #[inline]
    fn at(&self, now: u64, value: Option<u64>) -> Counts {
        let now = now >> (2 * self.bits);
        let Some(value) = value else { return Counts { since: now, total: 0, matching: 0 } };
        let counts = self.unpack(value);
        let age = now.saturating_sub(counts.since);
        if age < self.half { counts } else { counts.halved(age / self.half, self.half) }
    }

    const fn pack(&self, counts: Counts) -> u64 {
        let Counts { since, total, matching } = counts;
        since.saturating_add(self.lead(total)) << (2 * self.bits) | total << self.bits | matching
    }

    const fn unpack(&self, value: u64) -> Counts {
        let (total, matching) = (value >> self.bits & self.most, value & self.most);
        Counts { since: (value >> (2 * self.bits)).saturating_sub(self.lead(total)), total, matching }
    }

    const fn lead(&self, total: u64) -> u64 {
        let (lead, window) = (total * self.step, 2 * self.half);
        if lead < window { lead } else { window }
    }
}

/// The highest minimum for a window: half of the highest count, which is left when that is reached.
pub(super) fn most_at_least(window: Duration) -> u32 {
    (1 << (most_bits(half(window)) - 1)) - 1
}

/// Units are two to the power of the bits of both counts.
const fn most_bits(half: u64) -> u32 {
    (half.ilog2() - FEWEST_UNITS) / 2
}

/// Half a window in nanoseconds.
fn half(window: Duration) -> u64 {
    u64::try_from(window.as_nanos() / 2).unwrap_or(u64::MAX).clamp(1 << 8, 1 << 46)
}

/// What a key has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts {
    /// When the current half of the window began, in units.
    since: u64,
    total: u64,
    matching: u64,
}

impl Counts {
    /// Of an odd number of responses, the larger half stays, and the smaller one of those that match: rounding exceeds no ratio.
    fn halved(self, times: u64, half: u64) -> Self {
        let Self { since, total, matching } = self;
        let halvings = times.min(63);
        Self {
            since: since + times * half,
            total: total.div_ceil(1 << halvings),
            matching: matching >> halvings,
        }
    }

    fn and(self, matching: bool, most: u64) -> Self {
        let Self { since, total, matching: sum } = if self.total < most { self } else { self.halved(1, 0) };
        Self { since, total: total + 1, matching: sum + u64::from(matching) }
    }
}

#[cfg(test)]
mod tests;
