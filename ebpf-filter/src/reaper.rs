//! Clears rules away that have expired. They do nothing any more as it is; this gives their places back.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::Duration,
};

use crate::{alarm::Alarm, clock, filter::Inner};

/// Rules that end at about the same time are cleared away together.
const PAUSE: Duration = Duration::from_secs(1);

/// Wakes the thread that clears rules away, which starts with the first rule that ends.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    alarm: Alarm,
    running: Mutex<bool>,
}

impl Reaper {
    /// There is a rule of `filter` that ends then.
    pub(crate) fn expect(self: &Arc<Self>, deadline: u64, filter: &Arc<Inner>) {
        self.alarm.expect(deadline);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if !*running {
            let (reaper, filter) = (Arc::clone(self), Arc::downgrade(filter));
            let spawned =
                thread::Builder::new().name("ebpf-filter".to_owned()).spawn(move || reaper.run(&filter));
            match spawned {
                Ok(_) => *running = true,
                Err(error) => {
                    tracing::warn!(%error, "no thread to clear expired rules away: that is left to inserts");
                }
            }
        }
    }

    /// The filter goes away.
    pub(crate) fn stop(&self) {
        self.alarm.stop();
    }

    fn run(self: &Arc<Self>, filter: &Weak<Inner>) {
        while self.alarm.wait(clock::now) {
            let Some(filter) = filter.upgrade() else { return };
            match filter.reap() {
                Ok(Some(next)) => self.expect(next, &filter),
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "the kernel is not told that rules have expired"),
            }
            drop(filter);
            self.alarm.pause(PAUSE);
        }
    }
}
