//! The time of a group: nanoseconds since it was built.

use std::{fmt, time::Duration};

use governor::{
    clock::{Clock, Reference as _},
    nanos::Nanos,
};

use crate::clock;

/// Where the time comes from.
pub(super) enum Time {
    /// `CLOCK_MONOTONIC`, by which the rules in the kernel end as well.
    Monotonic { start: u64 },
    /// A clock of the caller.
    Injected(Box<dyn Fn() -> u64 + Send + Sync>),
}

impl Time {
    pub(super) fn monotonic() -> Self {
        Self::Monotonic { start: clock::now() }
    }

    pub(super) fn injected<C>(clock: C) -> Self
    where
        C: Clock + Send + Sync + 'static,
    {
        let start = clock.now();
        Self::Injected(Box::new(move || clock.now().duration_since(start).as_u64()))
    }

    #[inline]
    pub(super) fn now(&self) -> u64 {
        match self {
            Self::Monotonic { start } => clock::now().saturating_sub(*start),
            Self::Injected(clock) => clock(),
        }
    }

    /// The same, to the tick of the kernel: never later, and 10 ms earlier at most.
    #[inline]
    pub(super) fn tick(&self) -> u64 {
        match self {
            Self::Monotonic { start } => clock::tick().saturating_sub(*start),
            Self::Injected(clock) => clock(),
        }
    }

    pub(super) const fn is_injected(&self) -> bool {
        matches!(self, Self::Injected(_))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_injected() { "Injected" } else { "Monotonic" })
    }
}

/// The clock of tokio, which tests can pause and advance: `tokio::time::pause`.
#[derive(Clone, Copy, Debug)]
pub struct TokioClock {
    start: tokio::time::Instant,
}

impl TokioClock {
    /// A clock that starts now.
    pub fn new() -> Self {
        Self { start: tokio::time::Instant::now() }
    }
}

impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(self.start.elapsed())
    }
}

/// In nanoseconds, 500 years at most.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2).min(u64::MAX / 2)
}

/// Whether events in a window of this length need the time to the nanosecond. A tick is no more than a hundredth of others.
pub(super) const fn is_short(window: Duration) -> bool {
    window.as_millis() < 1000
}
