//! Clears rules away that have expired.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::Duration,
};

use crate::{alarm::Alarm, clock};

/// What has rules that expire.
pub(crate) trait Reap: Send + Sync + 'static {
    /// Rules that end at about the same time are cleared away together, if nobody minds that they stay so long.
    const PAUSE: Duration = Duration::ZERO;

    /// Clears away what has expired, and says when something does next.
    fn reap(&self) -> Option<u64>;
}

/// Wakes the thread that clears rules away, which starts with the first rule that ends.
#[derive(Debug, Default)]
pub(crate) struct Reaper {
    alarm: Alarm,
    running: Mutex<bool>,
}

impl Reaper {
    /// There is a rule of `filter` that ends then.
    pub(crate) fn expect<T: Reap>(self: &Arc<Self>, deadline: u64, filter: &Arc<T>) {
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

    fn run<T: Reap>(self: &Arc<Self>, filter: &Weak<T>) {
        while self.alarm.wait(clock::now) {
            let Some(filter) = filter.upgrade() else { return };
            if let Some(next) = filter.reap() {
                self.expect(next, &filter);
            }
            drop(filter);
            self.alarm.pause(T::PAUSE);
        }
    }
}
