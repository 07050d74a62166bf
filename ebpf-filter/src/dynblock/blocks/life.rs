//! The life of a block: what makes it, changes it and ends it.

use std::{
    sync::{
        Arc, PoisonError, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ebpf_prog::rule::Action;

use crate::dynblock::{
    AddError, DynBlockEvent, DynBlockEventKind, Growth, Scope, Subject,
    book::Book,
    entry::{Entry, rank},
    group::Inner,
    keeper::Sight,
    meter::Pace,
    placing::{NotPlaced, Placed, is_expressible, place},
    removal::make_way,
    standing::Standing,
    view::strength,
};

pub(crate) const MINUTE: u64 = 60_000_000_000;

/// What somebody is to be blocked for.
#[derive(Clone, Debug)]
pub(crate) struct Sentence {
    pub(crate) action: Action,
    pub(crate) reason: Arc<str>,
    pub(crate) warning: bool,
    pub(crate) dry_run: bool,
    pub(crate) length: u64,
    /// When it ends, if it is not to last its whole length.
    pub(crate) until: Option<u64>,
    pub(crate) growth: Option<Growth>,
    /// How many there were before, if that is known.
    pub(crate) offence: Option<u32>,
    pub(crate) pace: Option<Pace>,
    /// Whatever action there is gives way.
    pub(crate) by_hand: bool,
}

impl Sentence {
    pub(crate) const fn is_harmless(&self) -> bool {
        self.warning || self.dry_run
    }

    pub(crate) const fn rank(&self) -> u8 {
        rank(self.warning, self.dry_run)
    }

    /// When a block of this length ends.
    pub(crate) fn end(&self, length: u64, now: u64) -> u64 {
        self.until.unwrap_or_else(|| now.saturating_add(length))
    }
}

/// What a change has come to.
pub(crate) type Events = Vec<DynBlockEvent>;

impl Inner {
    pub(crate) fn book(&self) -> RwLockReadGuard<'_, Book> {
        self.book.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn book_mut(&self) -> RwLockWriteGuard<'_, Book> {
        self.book.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody has exceeded a limit.
    pub(crate) fn punish(&self, subject: Subject, scope: Scope, sentence: &Sentence, now: u64) {
        let standing = self.standing(&self.book(), &subject, &scope, sentence, now);
        match standing {
            Standing::Settled(_) | Standing::Exempt => {}
            Standing::Full(max, within) => {
                let (_, event) = self.refuse(&subject, &scope, sentence, (max, within), now);
                if let Some(event) = event {
                    self.notices.file([event]);
                    self.notices.tell();
                }
            }
            Standing::Open => {
                // An error has been reported.
                let _ =
                    self.change(|book, events| self.sentence(book, subject, scope, sentence, now, events));
            }
        }
    }

    /// Changes blocks, and tells everybody who has to know. Events are filed while nobody else changes anything, so that they
    /// are told in the order of the changes.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Book, &mut Events) -> T) -> T {
        let mut events = Vec::new();
        let mut book = self.book_mut();
        let changed = change(&mut book, &mut events);
        self.alone.store(book.alone(), Ordering::Release);
        let due = book.next_due();
        self.notices.file(events);
        drop(book);
        if let Some(due) = due {
            self.keeper.expect(due);
        }
        self.notices.tell();
        changed
    }

    pub(crate) fn sentence(
        &self,
        book: &mut Book,
        subject: Subject,
        scope: Scope,
        sentence: &Sentence,
        now: u64,
        events: &mut Events,
    ) -> Result<u64, AddError> {
        if book.room_for(&subject, sentence.is_harmless()).is_err() {
            self.tend(book, now, events);
        }
        // Others may have been faster.
        match self.standing(book, &subject, &scope, sentence, now) {
            Standing::Settled(id) => return Ok(id),
            Standing::Exempt => return Err(AddError::Exempt(subject)),
            Standing::Full(max, within) => {
                let (error, event) = self.refuse(&subject, &scope, sentence, (max, within), now);
                events.extend(event);
                return Err(error);
            }
            Standing::Open => {}
        }
        let entry = match book.take(&subject, &scope) {
            Some(entry) if entry.is_over(now) => {
                self.end(&subject, &entry, DynBlockEventKind::Expired, now, events);
                self.create(book.next_id(), &subject, scope, sentence, now, events)
            }
            Some(entry) => self.renew(&subject, entry, sentence, now, events),
            None => self.create(book.next_id(), &subject, scope, sentence, now, events),
        };
        let id = entry.id;
        if entry.placed.is_in_filter() {
            make_way(book, &subject, &entry, now);
        }
        book.put(subject, entry);
        Ok(id)
    }

    fn create(
        &self,
        id: u64,
        subject: &Subject,
        scope: Scope,
        sentence: &Sentence,
        now: u64,
        events: &mut Events,
    ) -> Entry {
        let mut entry = Entry {
            id,
            scope,
            action: sentence.action,
            reason: Arc::clone(&sentence.reason),
            warning: sentence.warning,
            dry_run: sentence.dry_run,
            since: now,
            until: now,
            length: sentence.length,
            offence: 0,
            grows: false,
            hits: AtomicU64::new(0),
            placed: Placed::Alone,
            pace: sentence.pace,
            due: 0,
            sight: Sight::default(),
        };
        self.begin(subject, &mut entry, sentence, now, events);
        entry
    }

    /// A block, a warning or a dry run begins.
    fn begin(
        &self,
        subject: &Subject,
        entry: &mut Entry,
        sentence: &Sentence,
        now: u64,
        events: &mut Events,
    ) {
        entry.length = sentence.length;
        if !sentence.is_harmless() {
            let key = self.tiers.hash_subject(subject);
            if let Some(growth) = sentence.growth {
                entry.grows = true;
                (entry.length, entry.offence) = self.offences.length(key, sentence.length, growth, now);
            }
            if let Some(offence) = sentence.offence {
                entry.grows = true;
                entry.offence = offence;
                self.offences.restore(key, offence, sentence.end(entry.length, now), now);
            }
        }
        entry.until = sentence.end(entry.length, now);
        if !entry.is_harmless() {
            self.place(subject, entry, now);
        }
        let kind = if entry.warning { DynBlockEventKind::Warned } else { DynBlockEventKind::Inserted };
        self.planned(subject, entry, kind, now, events);
    }

    /// The limit was exceeded again, or somebody says so.
    fn renew(
        &self,
        subject: &Subject,
        mut entry: Entry,
        sentence: &Sentence,
        now: u64,
        events: &mut Events,
    ) -> Entry {
        if sentence.rank() < entry.rank() {
            return entry;
        }
        let upgraded = sentence.rank() > entry.rank();
        let stronger = strength(sentence.action) > strength(entry.action);
        let other = sentence.action != entry.action && (upgraded || stronger || sentence.by_hand);
        if other || upgraded {
            entry.action = sentence.action;
            entry.pace = sentence.pace;
        }
        entry.reason = Arc::clone(&sentence.reason);
        entry.warning = sentence.warning;
        entry.dry_run = sentence.dry_run;
        if upgraded {
            self.begin(subject, &mut entry, sentence, now, events);
            return entry;
        }
        entry.length = entry.length.max(sentence.length);
        entry.until = entry.until.max(sentence.end(entry.length, now));
        if !entry.is_harmless() {
            self.update(subject, &mut entry, now);
        }
        self.planned(subject, &mut entry, DynBlockEventKind::Refreshed, now, events);
        entry
    }

    fn planned(
        &self,
        subject: &Subject,
        entry: &mut Entry,
        kind: DynBlockEventKind,
        now: u64,
        events: &mut Events,
    ) {
        entry.plan(now);
        self.counters.count(kind);
        events.push(DynBlockEvent { kind, block: entry.view(subject, now) });
    }

    /// Puts a block into the filter, if there is one and it can be.
    fn place(&self, subject: &Subject, entry: &mut Entry, now: u64) {
        let remaining = Duration::from_nanos(entry.until.saturating_sub(now));
        let exempt = self.exempt.load();
        let placed = self.with_filter(|filter| {
            let filter = filter?;
            Some(place(filter, (subject, &entry.scope), entry.action, remaining, &exempt))
        });
        match placed {
            Some(Ok(placed)) => {
                entry.placed = placed;
                entry.sight.begin(now);
            }
            Some(Err(why)) => self.alone(subject, entry, &why, now),
            None => entry.placed = Placed::Alone,
        }
    }

    /// Tells the filter what has become of a block, or a filter that there was none of before.
    pub(crate) fn update(&self, subject: &Subject, entry: &mut Entry, now: u64) {
        let is_there = self.with_filter(|filter| filter.is_some_and(|filter| entry.placed.is_in(filter)));
        if !is_there || !is_expressible(entry.action, &entry.scope) {
            let was_degraded = entry.placed.is_degraded();
            entry.withdraw();
            if was_degraded {
                entry.placed = Placed::Degraded;
            }
            self.place(subject, entry, now);
            return;
        }
        let remaining = Duration::from_nanos(entry.until.saturating_sub(now));
        if let Err(why) = entry.placed.change(entry.action, remaining) {
            let seen = entry.hits_in_filter();
            entry.hits.fetch_add(seen, Ordering::Relaxed);
            self.alone(subject, entry, &why, now);
        }
    }

    /// User space enforces the block.
    fn alone(&self, subject: &Subject, entry: &mut Entry, why: &NotPlaced, now: u64) {
        let was_degraded = entry.placed.is_degraded();
        entry.placed = match why {
            NotPlaced::Inexpressible => Placed::Alone,
            NotPlaced::Failed(error) => {
                if !was_degraded {
                    self.counters.degraded.add();
                }
                if self.notices.degraded.is_due(now, MINUTE) {
                    tracing::warn!(%error, "a dynamic block for {subject} is enforced in user space alone");
                }
                Placed::Degraded
            }
        };
    }

    /// What is said and done when a block has ended or is removed.
    pub(crate) fn end(
        &self,
        subject: &Subject,
        entry: &Entry,
        kind: DynBlockEventKind,
        now: u64,
        events: &mut Events,
    ) {
        let block = entry.view(subject, now);
        entry.placed.remove();
        if entry.grows {
            self.offences.ended(self.tiers.hash_subject(subject), now);
        }
        self.counters.count(kind);
        events.push(DynBlockEvent { kind, block });
    }
}
