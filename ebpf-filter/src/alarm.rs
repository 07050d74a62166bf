//! Wakes a thread when there is something to do.

use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A time at which a thread has something to do, which others may put forward.
#[derive(Debug, Default)]
pub(crate) struct Alarm {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    /// In nanoseconds, by the clock of the thread.
    next: Option<u64>,
}

impl Alarm {
    /// There is something to do then.
    pub(crate) fn expect(&self, at: u64) {
        let mut state = self.lock();
        if state.next.is_none_or(|next| at < next) {
            state.next = Some(at);
            self.changed.notify_one();
        }
    }

    /// There is nothing to do any more.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_one();
    }

    /// Waits until there is something to do by this clock; `false` if it was stopped.
    pub(crate) fn wait(&self, now: impl Fn() -> u64) -> bool {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return false;
            }
            let now = now();
            state = match state.next {
                Some(next) if next <= now => {
                    state.next = None;
                    return true;
                }
                Some(next) => {
                    let left = Duration::from_nanos(next - now);
                    self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Waits so long, unless it is stopped.
    pub(crate) fn pause(&self, time: Duration) {
        let _state = self.changed.wait_timeout_while(self.lock(), time, |state| !state.stopped);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
