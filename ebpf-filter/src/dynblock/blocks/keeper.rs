//! Looks after blocks: ends them, and keeps those up whose source goes on.
//!
//! What the kernel drops, no server sees, so nothing would refresh a block that works: it would end, let the flood in, and
//! begin again. So before a block ends, the hits of its rule are looked at for a while. If they are still more than the
//! limit allows, the block lasts on.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
    time::Duration,
};

use ebpf_prog::rule::Action;

use crate::clock;
use crate::dynblock::{
    DynBlockEvent, DynBlockEventKind, Subject, book::Book, entry::Entry, group::Inner, life::Events,
    meter::Pace, time::Time,
};

const SECOND: u64 = 1_000_000_000;

const MILLISECOND: u64 = 1_000_000;

/// A look at the hits takes so many glances, so that the end of a flood is known that well.
const GLANCES: u64 = 20;

/// Malformed messages are fetched from the filter this often.
const FETCH: u64 = 50 * MILLISECOND;

/// What is known of the hits of a rule.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sight {
    /// The last glance, and the hits then.
    at: u64,
    pub(crate) hits: u64,
    /// The look before the block ends, while it lasts.
    look: Option<Look>,
    /// What is above the second limit of a ladder, in thousandths of queries, as a leaking bucket has it.
    excess: u64,
}

/// A look at the hits before a block ends.
#[derive(Clone, Copy, Debug)]
struct Look {
    /// When it began, and the hits then.
    since: u64,
    hits: u64,
    /// The glance before the last one that saw too many hits: the source exceeded the limit after it.
    busy: Option<u64>,
}

impl Sight {
    /// There is a new rule.
    pub(crate) fn begin(&mut self, now: u64) {
        *self = Self { at: now, ..Self::default() };
    }
}

impl Entry {
    /// When the hits are looked at: from, to.
    fn look(&self, pace: &Pace) -> (u64, u64) {
        let margin = (self.length / 20).min(SECOND);
        let time = pace.window.min(self.length / 2);
        let to = self.until.saturating_sub(margin);
        (to.saturating_sub(time), to)
    }

    fn glance(&self, pace: &Pace) -> u64 {
        (pace.window.min(self.length / 2) / GLANCES).max(MILLISECOND)
    }

    /// Says when the keeper comes next.
    pub(crate) fn plan(&mut self, now: u64) {
        let mut due = self.until;
        if self.placed.is_in_filter() {
            // Once the rule has ended, nobody knows any more what it has matched.
            let last = self.until.saturating_sub((self.length / 50).min(5 * MILLISECOND));
            if now < last {
                due = last;
            }
            if let Some(pace) = self.pace {
                let (from, to) = self.look(&pace);
                if now < from {
                    self.sight.look = None;
                    due = due.min(from);
                } else if now < to {
                    due = due.min(to).min(self.sight.at.saturating_add(self.glance(&pace)));
                }
                if self.climbs(&pace).is_some() {
                    // From the last glance on: a refresh does not put it off.
                    due = due.min(self.sight.at.saturating_add((pace.window / 4).max(10 * MILLISECOND)));
                }
            }
        }
        self.due = due.max(now.saturating_add(1));
    }

    /// The second limit, if there is one above which it does more.
    fn climbs(&self, pace: &Pace) -> Option<u64> {
        pace.second_milli_per_second.filter(|_| matches!(self.action, Action::Slip(1..)))
    }

    /// Takes a glance at the hits, and says what has become of the source, if anything.
    fn glanced(&mut self, now: u64) -> Option<DynBlockEventKind> {
        if !self.placed.is_in_filter() {
            return None;
        }
        let before = self.sight;
        let hits = self.placed.hits().unwrap_or(before.hits);
        let more = hits.saturating_sub(before.hits);
        (self.sight.at, self.sight.hits) = (now, hits);
        let pace = self.pace?;
        if let Some(second) = self.climbs(&pace) {
            let leaked = per(second, now.saturating_sub(before.at));
            self.sight.excess =
                before.excess.saturating_sub(leaked).saturating_add(more.saturating_mul(1000));
            if self.sight.excess > per(second, pace.window) {
                self.action = Action::Slip(0);
                self.until = self.until.max(now.saturating_add(self.length));
                return Some(DynBlockEventKind::Refreshed);
            }
        }
        let (from, to) = self.look(&pace);
        let Some(mut look) = before.look else {
            if (from..to).contains(&now) {
                self.sight.look = Some(Look { since: now, hits, busy: None });
            }
            return None;
        };
        let exceeded = |hits: u64, time: u64| {
            u128::from(hits) * 1000 * u128::from(SECOND)
                > u128::from(pace.milli_per_second) * u128::from(time)
        };
        if exceeded(more, now.saturating_sub(before.at)) {
            look.busy = Some(before.at);
        }
        self.sight.look = Some(look).filter(|_| now < to);
        let goes_on = now >= to && exceeded(hits.saturating_sub(look.hits), now.saturating_sub(look.since));
        let until = look.busy?.saturating_add(self.length);
        if goes_on && until > self.until {
            self.until = until;
            return Some(DynBlockEventKind::Extended);
        }
        None
    }
}

/// So many in this time, of so many a second.
fn per(second: u64, time: u64) -> u64 {
    u64::try_from(u128::from(second) * u128::from(time) / u128::from(SECOND)).unwrap_or(u64::MAX)
}

impl Inner {
    /// Does what is due. Says when to come again, if there is something to come for.
    pub(crate) fn maintain(&self) -> Option<Duration> {
        let fetches = self.fetch_malformed();
        let now = self.time.now();
        let mut next = self.book().next_due();
        if next.is_some_and(|due| due <= now) {
            next = self.change(|book, events| {
                self.tend(book, now, events);
                book.next_due()
            });
        }
        if fetches {
            next = next.into_iter().chain([now + FETCH]).min();
        }
        if let Some(next) = next {
            self.keeper.expect(next);
        }
        next.map(|due| Duration::from_nanos(due.saturating_sub(now)))
    }

    /// Looks at all blocks that are due.
    pub(crate) fn tend(&self, book: &mut Book, now: u64, events: &mut Events) {
        while let Some((subject, scope)) = book.first_due(now) {
            let Some(mut entry) = book.take(&subject, &scope) else { return };
            if entry.is_over(now) {
                self.end(&subject, &entry, DynBlockEventKind::Expired, now, events);
                continue;
            }
            self.look_after(&subject, &mut entry, now, events);
            entry.plan(now);
            book.put(subject, entry);
        }
    }

    fn look_after(&self, subject: &Subject, entry: &mut Entry, now: u64, events: &mut Events) {
        if let Some(kind) = entry.glanced(now) {
            self.update(subject, entry, now);
            self.counters.count(kind);
            events.push(DynBlockEvent { kind, block: entry.view(subject, now) });
        }
    }
}

/// Starts the thread that looks after blocks, unless somebody else has the time. It stops with the group.
pub(crate) fn start(group: &Arc<Inner>) {
    let Time::Monotonic { start } = group.time else { return };
    let (alarm, group) = (Arc::clone(&group.keeper), Arc::downgrade(group));
    let run = move || {
        while alarm.wait(|| clock::now().saturating_sub(start)) {
            let Some(group) = group.upgrade() else { return };
            // A hook may panic, and whoever wrote it hears of it. Blocks have to end all the same.
            if catch_unwind(AssertUnwindSafe(|| group.maintain())).is_err() {
                alarm.expect(group.time.now().saturating_add(SECOND));
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("ebpf-dynblock".to_owned()).spawn(run) {
        tracing::warn!(%error, "no thread to look after dynamic blocks: they end, but are not kept up");
    }
}
