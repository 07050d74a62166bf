//! The clock that rules end by.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in nanoseconds, as `bpf_ktime_get_ns` has it: see `clock_gettime(2)` and `bpf-helpers(7)`.
pub(crate) fn now() -> u64 {
    nanoseconds(ClockId::Monotonic)
}

/// The same as it was when the kernel last looked, one tick ago at most: 1 to 10 ms, by its `CONFIG_HZ`. Five times as fast.
pub(crate) fn tick() -> u64 {
    #[cfg(target_os = "linux")]
    const COARSE: ClockId = ClockId::MonotonicCoarse;
    #[cfg(not(target_os = "linux"))]
    const COARSE: ClockId = ClockId::Monotonic;
    nanoseconds(COARSE)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}

/// When something ends that lasts so long from now on, if ever: more than 500 years are for ever.
pub(crate) fn deadline(from_now: Option<Duration>) -> u64 {
    from_now
        .and_then(|time| u64::try_from(time.as_nanos()).ok())
        .and_then(|time| now().checked_add(time))
        .unwrap_or(NEVER)
}

/// Whether this deadline has passed.
pub(crate) const fn is_over(deadline: u64, now: u64) -> bool {
    deadline != NEVER && deadline <= now
}

/// How long it takes until then, or `None` for ever.
pub(crate) fn until(deadline: u64, now: u64) -> Option<Duration> {
    (deadline != NEVER).then(|| Duration::from_nanos(deadline.saturating_sub(now)))
}

/// The deadline of what does not end.
pub(crate) const NEVER: u64 = 0;
