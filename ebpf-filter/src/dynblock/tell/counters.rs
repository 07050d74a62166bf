//! How often what has happened.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::dynblock::DynBlockEventKind;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    inserted: Counter,
    warned: Counter,
    refreshed: Counter,
    extended: Counter,
    expired: Counter,
    removed: Counter,
    pub(crate) refused_by_cap: Counter,
    pub(crate) degraded: Counter,
}

impl Counters {
    pub(crate) fn count(&self, kind: DynBlockEventKind) {
        match kind {
            DynBlockEventKind::Inserted => &self.inserted,
            DynBlockEventKind::Warned => &self.warned,
            DynBlockEventKind::Refreshed => &self.refreshed,
            DynBlockEventKind::Extended => &self.extended,
            DynBlockEventKind::Expired => &self.expired,
            DynBlockEventKind::Removed => &self.removed,
            DynBlockEventKind::RefusedByCap => &self.refused_by_cap,
        }
        .add();
    }
}

/// What a group has done since it was built.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DynBlockStats {
    /// Blocks that there are, warnings and dry runs included.
    pub active: u64,
    /// Blocks that were inserted, those that were warnings before included.
    pub inserted: u64,
    /// Warnings that were inserted.
    pub warned: u64,
    /// How often the end of a block was put off because of a query above the limit, or its action changed.
    pub refreshed: u64,
    /// How often it was put off because the kernel still dropped too much.
    pub extended: u64,
    /// Blocks that have ended.
    pub expired: u64,
    /// Blocks that somebody has removed.
    pub removed: u64,
    /// Queries above a limit that caused no block, because there were as many as there may be.
    pub refused_by_cap: u64,
    /// Blocks that the filter should have taken and did not: it was full, or failed. User space enforces them.
    pub degraded: u64,
    /// How many clients, networks and names the group can count at the same time, over all rules.
    pub slots: u64,
    /// What the counters take, in bytes.
    pub slot_bytes: u64,
    /// How often a counter was given up for another one.
    pub evictions: u64,
}

impl Counters {
    pub(crate) fn stats(&self) -> DynBlockStats {
        DynBlockStats {
            active: 0,
            inserted: self.inserted.get(),
            warned: self.warned.get(),
            refreshed: self.refreshed.get(),
            extended: self.extended.get(),
            expired: self.expired.get(),
            removed: self.removed.get(),
            refused_by_cap: self.refused_by_cap.get(),
            degraded: self.degraded.get(),
            slots: 0,
            slot_bytes: 0,
            evictions: 0,
        }
    }
}
