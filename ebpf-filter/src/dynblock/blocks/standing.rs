//! Whether an excess changes anything. Most do not: who is blocked and goes on exceeds a limit with every packet, and so does
//! who cannot be blocked because there are too many blocks. So this needs no more than to read the book.

use ebpf_prog::rule::Action;
use ipnet::IpNet;

use crate::Enforcement;
use crate::dynblock::{
    AddError, DynBlock, DynBlockEvent, DynBlockEventKind, Scope, Subject,
    book::Book,
    entry::Entry,
    group::Inner,
    life::{MINUTE, Sentence},
    view::strength,
};

/// Blocks are refreshed this often at most, or a hundred times while they last: nobody waits for a lock at every packet.
const REFRESH: u64 = 100_000_000;

/// What is to be done about somebody who is to be blocked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Standing {
    /// Nothing: there is a block that says the same or more, for as long.
    Settled(u64),
    /// Nothing: nobody may block the client.
    Exempt,
    /// Nothing: there are as many blocks as there may be, in this range if only that is full.
    Full(usize, Option<IpNet>),
    /// Something.
    Open,
}

impl Inner {
    pub(crate) fn standing(
        &self,
        book: &Book,
        subject: &Subject,
        scope: &Scope,
        sentence: &Sentence,
        now: u64,
    ) -> Standing {
        if let Some(range) = book.around(subject).find(|range| sentence.is_milder_than(range, now)) {
            return Standing::Settled(range.id);
        }
        let known = book.get(subject, scope).filter(|entry| !entry.is_over(now));
        let harmless = sentence.is_harmless();
        match known {
            Some(entry) if sentence.changes_nothing(entry, now) => return Standing::Settled(entry.id),
            // It takes no room that it does not have.
            Some(entry) if entry.is_harmless() == harmless => return Standing::Open,
            Some(_) => {}
            None if self.is_exempt(subject) => return Standing::Exempt,
            None => {
                if let Some(entry) = book.around(subject).find(|entry| sentence.is_within(entry, now)) {
                    return Standing::Settled(entry.id);
                }
            }
        }
        match book.room_for(subject, harmless) {
            Ok(()) => Standing::Open,
            // What has ended is still there until the keeper comes.
            Err(_) if book.next_due().is_some_and(|due| due <= now) => Standing::Open,
            Err((max, within)) => Standing::Full(max, within),
        }
    }

    fn is_exempt(&self, subject: &Subject) -> bool {
        match (subject, subject.net()) {
            (Subject::Suffix(name), _) => self.exempt.load().has_suffix(name),
            (_, Some(net)) if net.prefix_len() == net.max_prefix_len() => {
                self.exempt.load().is_exempt(net.addr()) || self.lets_pass(net.addr())
            }
            (_, _) => false,
        }
    }

    /// Whether the operator has a rule in the filter that lets this client pass, whatever there is.
    pub(crate) fn lets_pass(&self, client: std::net::IpAddr) -> bool {
        self.with_filter(|filter| filter.is_some_and(|filter| filter.lets_pass(client)))
    }

    /// Counts that there is no room for a block, and says so now and then.
    pub(crate) fn refuse(
        &self,
        subject: &Subject,
        scope: &Scope,
        sentence: &Sentence,
        (max, within): (usize, Option<IpNet>),
        now: u64,
    ) -> (AddError, Option<DynBlockEvent>) {
        self.counters.refused_by_cap.add();
        if self.caps_logged.is_due(now, MINUTE) {
            let within = within.map(|net| format!(" in {net}")).unwrap_or_default();
            let refused = self.counters.refused_by_cap.get();
            tracing::warn!(
                "no more dynamic blocks: there are {max}{within}, as many as there may be; refused so far: {refused}"
            );
        }
        let event = self.notices.reports_refusal(now).then(|| DynBlockEvent {
            kind: DynBlockEventKind::RefusedByCap,
            block: DynBlock {
                id: 0,
                subject: subject.clone(),
                scope: scope.clone(),
                action: sentence.action,
                reason: sentence.reason.clone(),
                warning: sentence.warning,
                dry_run: sentence.dry_run,
                age: std::time::Duration::ZERO,
                remaining: std::time::Duration::ZERO,
                hits: 0,
                offence: 0,
                enforced_by: Enforcement::UserSpace,
                degraded: false,
            },
        });
        (AddError::Cap { max, within }, event)
    }
}

impl Sentence {
    /// Whether the block says the same or more, for as long.
    fn changes_nothing(&self, entry: &Entry, now: u64) -> bool {
        if self.by_hand || self.rank() > entry.rank() {
            return false;
        }
        let [ours, theirs] = [entry.action, self.action].map(strength);
        self.rank() < entry.rank()
            || ours > theirs
            || (ours == theirs && lasts(entry, self.end(entry.length.max(self.length), now)))
    }

    /// Whether the block of a range around the source loses more of its queries. A filter would find the milder one first.
    fn is_milder_than(&self, range: &Entry, now: u64) -> bool {
        !self.by_hand
            && self.until.is_none()
            && !self.is_harmless()
            && !range.is_over(now)
            && loses_more(range.action, self.action)
    }

    /// Whether the block of a range around the source says the same or more, for as long: another one would only take room.
    fn is_within(&self, range: &Entry, now: u64) -> bool {
        !self.by_hand
            && self.until.is_none()
            && !self.is_harmless()
            && !range.is_over(now)
            && (range.action == self.action || loses_more(range.action, self.action))
            && lasts(range, self.end(self.length, now))
    }
}

/// Whether whatever the second action does not answer, the first one does not either, and more.
pub(crate) fn loses_more(action: Action, than: Action) -> bool {
    let udp_alone = |action| matches!(action, Action::Truncate | Action::Slip(_));
    strength(action) > strength(than) && (action == Action::Drop || (udp_alone(action) && udp_alone(than)))
}

/// Whether the block lasts until then, or nearly so.
fn lasts(entry: &Entry, until: u64) -> bool {
    entry.until.saturating_add(REFRESH.min(entry.length / 100)) >= until
}
