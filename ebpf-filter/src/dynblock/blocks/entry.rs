//! One block, as the group keeps it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ebpf_prog::{
    decision::{Came, Decided, Verdict},
    rule::Action,
};

use crate::dynblock::{
    DynBlock, Scope, Subject, Transport, keeper::Sight, meter::Pace, placing::Placed, view::strength,
};

/// A block. Times are nanoseconds since the group was built.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) scope: Scope,
    pub(crate) action: Action,
    pub(crate) reason: Arc<str>,
    pub(crate) warning: bool,
    pub(crate) dry_run: bool,
    pub(crate) since: u64,
    pub(crate) until: u64,
    /// How long it lasts from the last excess.
    pub(crate) length: u64,
    /// How many there were before.
    pub(crate) offence: u32,
    /// Whether the next one is longer.
    pub(crate) grows: bool,
    /// What user space has caught, and rules that the block had before.
    pub(crate) hits: AtomicU64,
    pub(crate) placed: Placed,
    /// How many hits of the filter are enough to go on.
    pub(crate) pace: Option<Pace>,
    /// When the keeper comes next, and what it saw.
    pub(crate) due: u64,
    pub(crate) sight: Sight,
}

/// What counts more: a block more than a warning, and whatever a dry run says less than either.
pub(crate) const fn rank(warning: bool, dry_run: bool) -> u8 {
    match (dry_run, warning) {
        (true, true) => 0,
        (true, false) => 1,
        (false, true) => 2,
        (false, false) => 3,
    }
}

impl Entry {
    /// Nothing happens to the queries.
    pub(crate) const fn is_harmless(&self) -> bool {
        self.warning || self.dry_run
    }

    pub(crate) const fn is_over(&self, now: u64) -> bool {
        self.until <= now
    }

    pub(crate) const fn rank(&self) -> u8 {
        rank(self.warning, self.dry_run)
    }

    /// What the rule in the filter has matched; what it had when it was last seen, if there is none any more.
    pub(crate) fn hits_in_filter(&self) -> u64 {
        if self.placed.is_in_filter() { self.placed.hits().unwrap_or(self.sight.hits) } else { 0 }
    }

    /// Takes the block out of the filter. Its hits stay.
    pub(crate) fn withdraw(&mut self) {
        self.hits.fetch_add(self.hits_in_filter(), Ordering::Relaxed);
        self.placed.remove();
        self.placed = Placed::Alone;
    }

    pub(crate) fn view(&self, subject: &Subject, now: u64) -> DynBlock {
        DynBlock {
            id: self.id,
            subject: subject.clone(),
            scope: self.scope.clone(),
            action: self.action,
            reason: Arc::clone(&self.reason),
            warning: self.warning,
            dry_run: self.dry_run,
            age: Duration::from_nanos(now.saturating_sub(self.since)),
            remaining: Duration::from_nanos(self.until.saturating_sub(now)),
            hits: self.hits.load(Ordering::Relaxed).saturating_add(self.hits_in_filter()),
            offence: self.offence,
            enforced_by: self.placed.enforcement(),
            degraded: self.placed.is_degraded(),
        }
    }

    /// How much it does to a query; `None` for nothing at all.
    pub(crate) fn strength_over(&self, transport: Transport) -> Option<u8> {
        match self.action {
            Action::Pass => None,
            Action::Truncate | Action::Slip(_) if transport != Transport::Udp => None,
            Action::Drop
            | Action::Count
            | Action::Truncate
            | Action::Refused
            | Action::NxDomain
            | Action::Slip(_) => Some(strength(self.action)),
        }
    }

    /// What becomes of a query that it does something to.
    pub(crate) fn verdict(&self) -> Verdict {
        let hits = self.hits.fetch_add(1, Ordering::Relaxed) + 1;
        let decided = Decided::by(self.action.to_byte(), hits);
        decided.map_or(Verdict::Pass, |decided| decided.verdict(Came::OverPlainUdp))
    }
}
