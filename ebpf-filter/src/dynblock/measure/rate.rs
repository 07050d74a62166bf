//! How many events a second are too many.

use std::{num::NonZeroU32, ops::RangeInclusive, time::Duration};

use governor::Quota;

/// So many events a second, measured over a window.
///
/// ```
/// use std::time::Duration;
///
/// use ebpf_filter::dynblock::Rate;
///
/// let rate = Rate::per_second(20).over(Duration::from_secs(10));
/// assert_eq!(rate.limit(), 20);
/// ```
///
/// Here, 200 events may come at once, and 20 more with every second after that. This is governor's generic cell rate
/// algorithm with a burst of rate × window. Beside a window that slides over every single event:
///
/// - nobody exceeds the rate who has not sent more than rate × window events within some window;
/// - everybody exceeds it who sends more than twice as many within a window;
/// - at once or evenly, 201 events in 10 s are too many for both.
///
/// A single event takes a whole number of nanoseconds, rounded down: limits up to a million a second are met to 0.1 %, and
/// a hundred million to 10 %; in between, what is let through is more, never less. The time of an event is that of the kernel's last
/// tick (`CLOCK_MONOTONIC_COARSE`, see `clock_gettime(2)`: every 1 to 10 ms), so a window may be one tick longer or shorter; unless
/// some limit of the group has a window shorter than a second, when all go by the exact clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    limit: u32,
    window: Duration,
    warning: Option<u32>,
}

impl Rate {
    /// So many events a second, measured over one second unless [`Rate::over`] says otherwise.
    pub const fn per_second(limit: u32) -> Self {
        Self { limit, window: Duration::from_secs(1), warning: None }
    }

    /// Measures over this window: from 1 ms to a day. A longer one lets longer bursts through.
    #[must_use]
    pub const fn over(self, window: Duration) -> Self {
        Self { window, ..self }
    }

    /// Warns above this lower limit, over the same window.
    #[must_use]
    pub const fn warn_above(self, limit_per_second: u32) -> Self {
        Self { warning: Some(limit_per_second), ..self }
    }

    /// Events a second.
    pub const fn limit(&self) -> u32 {
        self.limit
    }

    /// What the rate is measured over.
    pub const fn window(&self) -> Duration {
        self.window
    }

    /// The rate above which there is a warning.
    pub const fn warning(&self) -> Option<Self> {
        match self.warning {
            Some(limit) => Some(Self { limit, window: self.window, warning: None }),
            None => None,
        }
    }

    /// So many times the limits, over the same window.
    pub(crate) fn times(self, multiple: u32) -> Result<Self, RateError> {
        let times = |limit: u32| {
            let more = u64::from(limit) * u64::from(multiple);
            u32::try_from(more).map_err(|_| RateError::TooHigh { limit: more })
        };
        let rate = Self { limit: times(self.limit)?, warning: self.warning.map(times).transpose()?, ..self };
        rate.check().map(|()| rate)
    }

    /// Whether this is a rate that can be measured.
    pub(crate) fn check(&self) -> Result<(), RateError> {
        let Self { limit, window, warning } = *self;
        if limit == 0 {
            return Err(RateError::Zero);
        }
        if limit > MOST {
            return Err(RateError::TooHigh { limit: limit.into() });
        }
        if !WINDOWS.contains(&window) {
            return Err(RateError::Window { window });
        }
        match self.events() {
            0 => return Err(RateError::LessThanOne { limit, window }),
            events if events > u32::MAX.into() => return Err(RateError::TooMany { limit, window }),
            _ => {}
        }
        match (warning, self.warning()) {
            (Some(warning), _) if warning >= limit => Err(RateError::Warning { warning, limit }),
            (_, Some(warning)) => warning.check(),
            (_, None) => Ok(()),
        }
    }

    /// How many events there may be at once.
    pub(crate) fn burst(&self) -> NonZeroU32 {
        u32::try_from(self.events()).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
    }

    /// The same in governor's words.
    pub(crate) fn quota(&self) -> Quota {
        Quota::per_second(NonZeroU32::new(self.limit).unwrap_or(NonZeroU32::MIN)).allow_burst(self.burst())
    }

    /// Rounded down: whoever sends more sends more than the limit, too.
    const fn events(&self) -> u128 {
        self.limit as u128 * self.window.as_nanos() / 1_000_000_000
    }
}

/// The shortest and the longest window.
pub(crate) const WINDOWS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);

/// One event in a nanosecond.
const MOST: u32 = 1_000_000_000;

/// Why a [`Rate`] cannot be measured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RateError {
    /// The limit is 0.
    #[error("a limit of 0 a second is exceeded by everybody: write at least 1")]
    Zero,
    /// The limit is above a thousand million a second.
    #[error("a limit of {limit} a second cannot be measured: write at most 1000000000")]
    TooHigh {
        /// Events a second.
        limit: u64,
    },
    /// The window is too short or too long.
    #[error("a window of {window:?} cannot be measured: write one from 1 ms to 24 hours")]
    Window {
        /// The window.
        window: Duration,
    },
    /// The window is too short for a single event.
    #[error(
        "{limit} a second over {window:?} is less than one event: write a longer window or a higher limit"
    )]
    LessThanOne {
        /// Events a second.
        limit: u32,
        /// The window.
        window: Duration,
    },
    /// There are too many events in a window.
    #[error(
        "{limit} a second over {window:?} is more than 4294967295 events: write a shorter window or a lower limit"
    )]
    TooMany {
        /// Events a second.
        limit: u32,
        /// The window.
        window: Duration,
    },
    /// The warning would not come first.
    #[error("a warning above {warning} a second comes too late for a limit of {limit}: write less than that")]
    Warning {
        /// Events a second for the warning.
        warning: u32,
        /// Events a second.
        limit: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn what_is_written_is_what_is_measured() {
        let rate = Rate::per_second(20).over(Duration::from_secs(10)).warn_above(10);
        assert_eq!((rate.limit(), rate.window(), rate.burst().get()), (20, Duration::from_secs(10), 200));
        assert_eq!(rate.warning(), Some(Rate::per_second(10).over(Duration::from_secs(10))));
        assert_eq!(rate.check(), Ok(()));
        assert_eq!(Rate::per_second(5).window(), Duration::from_secs(1));
    }

    #[test]
    fn the_extremes_are_allowed() {
        for rate in [
            Rate::per_second(1),
            Rate::per_second(1000).over(Duration::from_millis(1)),
            Rate::per_second(MOST).over(Duration::from_secs(4)),
            Rate::per_second(49_710).over(DAY),
        ] {
            assert_eq!(rate.check(), Ok(()), "{rate:?}");
        }
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        let (short, long) = (Duration::from_micros(999), DAY + Duration::from_nanos(1));
        let half = Duration::from_millis(500);
        for (rate, error) in [
            (Rate::per_second(0), RateError::Zero),
            (Rate::per_second(MOST + 1), RateError::TooHigh { limit: u64::from(MOST) + 1 }),
            (Rate::per_second(5000).over(short), RateError::Window { window: short }),
            (Rate::per_second(1).over(long), RateError::Window { window: long }),
            (Rate::per_second(1).over(half), RateError::LessThanOne { limit: 1, window: half }),
            (Rate::per_second(49_711).over(DAY), RateError::TooMany { limit: 49_711, window: DAY }),
            (Rate::per_second(20).warn_above(20), RateError::Warning { warning: 20, limit: 20 }),
            (Rate::per_second(20).warn_above(0), RateError::Zero),
            (Rate::per_second(2).warn_above(1).over(half), RateError::LessThanOne { limit: 1, window: half }),
        ] {
            assert_eq!(rate.check(), Err(error), "{rate:?}");
        }
    }

    #[test]
    fn multiples_keep_the_window() {
        let rate = Rate::per_second(20).over(Duration::from_secs(10)).warn_above(10);
        let more = Rate::per_second(640).over(Duration::from_secs(10)).warn_above(320);
        assert_eq!(rate.times(32), Ok(more));
        assert_eq!(rate.times(0), Err(RateError::Zero));
        assert_eq!(Rate::per_second(u32::MAX / 2).times(4), Err(RateError::TooHigh { limit: 8_589_934_588 }));
    }
}
