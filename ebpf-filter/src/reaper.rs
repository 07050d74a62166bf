//! Clears rules away that have expired. They do nothing any more as it is; this gives their places back.

use std::{
    sync::{Arc, Condvar, Mutex, PoisonError, Weak},
    thread,
    time::Duration,
};

use crate::{clock, filter::Inner};

/// Rules that end at about the same time are cleared away together.
const PAUSE: Duration = Duration::from_secs(1);

/// Wakes the thread that clears rules away, which starts with the first rule that ends.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    stopped: bool,
    /// When the next rule ends.
    next: Option<u64>,
}

impl Reaper {
    /// There is a rule of `filter` that ends then.
    pub(crate) fn expect(self: &Arc<Self>, deadline: u64, filter: &Arc<Inner>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.next.is_none_or(|next| deadline < next) {
            state.next = Some(deadline);
            self.changed.notify_one();
        }
        if !state.running {
            let (reaper, filter) = (Arc::clone(self), Arc::downgrade(filter));
            let spawned =
                thread::Builder::new().name("ebpf-filter".to_owned()).spawn(move || reaper.run(&filter));
            match spawned {
                Ok(_) => state.running = true,
                Err(error) => {
                    tracing::warn!(%error, "no thread to clear expired rules away: that is left to inserts");
                }
            }
        }
    }

    /// The filter goes away.
    pub(crate) fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.changed.notify_one();
    }

    fn run(self: &Arc<Self>, filter: &Weak<Inner>) {
        while self.wait() {
            let Some(filter) = filter.upgrade() else { return };
            match filter.reap() {
                Ok(Some(next)) => self.expect(next, &filter),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the kernel is not told that rules have expired"),
            }
            drop(filter);
            self.pause();
        }
    }

    fn pause(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let _state = self.changed.wait_timeout_while(state, PAUSE, |state| !state.stopped);
    }

    /// Waits until a rule has ended; `false` if there is nothing left to wait for.
    fn wait(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.stopped {
                return false;
            }
            let now = clock::now();
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
}
