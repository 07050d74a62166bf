//! Meters: how far a client, a network or a suffix is from a limit, and how much of what the kernel sees exceeds it.

use std::{num::NonZeroU32, sync::Arc};

use ebpf_prog::rule::Action;

use crate::dynblock::{
    Level, Penalty, Rate, RateError, Ratio,
    limiter::Limiter,
    ratio::RatioMeter,
    rule::{Limit, Stores, Trigger},
    time::nanos,
};

/// What has been exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Only the warning level.
    pub(crate) warning: bool,
    /// What the ladder says, if there is one.
    pub(crate) step: Option<Action>,
    /// How many queries a second still exceed the limit, as far as the kernel can count them.
    pub(crate) pace: Pace,
}

/// Queries a second, measured for so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    pub(crate) milli_per_second: u64,
    pub(crate) window: u64,
    /// Above that, the ladder goes on.
    pub(crate) second_milli_per_second: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Meter {
    main: Main,
    ladder: Option<Steps>,
    pace: Pace,
    /// What is counted are bytes.
    bytes: bool,
}

#[derive(Debug)]
enum Main {
    Rate(Limiter),
    Ratio(RatioMeter),
    /// Never exceeded.
    None,
}

#[derive(Debug)]
struct Steps {
    second: Limiter,
    proven: Limiter,
}

/// What an event adds to a meter.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    Cells(NonZeroU32),
    Response { matching: bool },
}

impl Amount {
    pub(crate) const ONE: Self = Self::Cells(NonZeroU32::MIN);
}

impl Meter {
    /// A meter for prefixes of one length. Every limiter needs a salt of its own.
    pub(crate) fn new(
        trigger: &Trigger,
        limit: Limit,
        penalty: &Penalty,
        multiple: u32,
        stores: &Stores,
        mut salt: impl FnMut() -> u64,
    ) -> Result<Self, RateError> {
        let bytes = matches!(trigger, Trigger::ResponseByteRate);
        let rate = match limit {
            Limit::Rate(rate) => rate.times(multiple)?,
            Limit::Ratio(ratio) => {
                let store = stores.ratios.as_ref().unwrap_or(&stores.rates);
                let ratio = ratio.at_least(ratio.minimum().saturating_mul(multiple));
                let main = match ratio.check() {
                    Ok(()) => Main::Ratio(RatioMeter::new(ratio, Arc::clone(store), salt())),
                    // For one client it was right; so many of a network are never counted.
                    Err(_) => Main::None,
                };
                return Ok(Self { main, ladder: None, pace: Pace::of_ratio(ratio), bytes });
            }
        };
        let mut limiter = |rate| Limiter::new(rate, Arc::clone(&stores.rates), salt());
        let mut pace = Pace::of(rate);
        let main = Main::Rate(limiter(rate));
        let ladder = match &penalty.ladder {
            Some(ladder) => {
                let second = rate.times(ladder.second)?;
                pace.second_milli_per_second = Some(Pace::of(second).milli_per_second);
                Some(Steps { second: limiter(second), proven: limiter(rate) })
            }
            None => None,
        };
        Ok(Self { main, ladder, pace, bytes })
    }

    /// Brings what is known of a key into the cache.
    #[inline]
    pub(crate) fn touch(&self, key: u64) {
        if let Main::Rate(limiter) = &self.main {
            limiter.touch(key);
        }
    }

    #[inline]
    pub(crate) fn observe(
        &self,
        key: u64,
        now: u64,
        amount: Amount,
        proven: bool,
        penalty: &Penalty,
    ) -> (Level, Option<Action>) {
        match (&self.main, amount, &self.ladder, &penalty.ladder) {
            (Main::Rate(limiter), Amount::Cells(cells), None, _)
            | (Main::Rate(limiter), Amount::Cells(cells), _, None) => {
                (limiter.observe(key, now, cells), None)
            }
            (Main::Rate(_), Amount::Cells(cells), Some(steps), Some(_)) if proven => {
                (steps.proven.observe(key, now, cells), Some(Action::Drop))
            }
            (Main::Rate(limiter), Amount::Cells(cells), Some(steps), Some(ladder)) => {
                let level = limiter.observe(key, now, cells);
                if steps.second.observe(key, now, cells) == Level::Over {
                    (Level::Over, Some(Action::Slip(0)))
                } else {
                    (level, Some(Action::Slip(ladder.slip)))
                }
            }
            (Main::Ratio(meter), Amount::Response { matching }, ..) => {
                (meter.observe(key, now, matching), None)
            }
            (Main::Rate(_), Amount::Response { .. }, ..)
            | (Main::Ratio(_), Amount::Cells(_), ..)
            | (Main::None, ..) => (Level::Under, None),
        }
    }

    pub(crate) fn finding(&self, warning: bool, step: Option<Action>, amount: Amount) -> Finding {
        let mut pace = self.pace;
        // So many queries with answers like this one exceed a limit in bytes.
        if let Amount::Cells(bytes) = amount
            && self.bytes
        {
            let bytes = u64::from(bytes.get());
            pace.milli_per_second /= bytes;
            pace.second_milli_per_second = pace.second_milli_per_second.map(|second| second / bytes);
        }
        Finding { warning, step, pace }
    }
}

impl Pace {
    fn of(rate: Rate) -> Self {
        Self {
            milli_per_second: u64::from(rate.limit()) * 1000,
            window: nanos(rate.window()),
            second_milli_per_second: None,
        }
    }

    /// As many queries as have to be answered before the ratio is asked for, and one a second at least.
    fn of_ratio(ratio: Ratio) -> Self {
        let window = nanos(ratio.window());
        let per_window = u64::from(ratio.minimum()) * 1000;
        Self {
            milli_per_second: (per_window.saturating_mul(1_000_000_000) / window.max(1)).max(1000),
            window,
            second_milli_per_second: None,
        }
    }
}
