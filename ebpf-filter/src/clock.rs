//! The clock that rules end by.

use std::time::Duration;

/// `CLOCK_MONOTONIC` in nanoseconds, as `bpf_ktime_get_ns` has it: see `clock_gettime(2)` and `bpf-helpers(7)`.
pub(crate) fn now() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
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
