//! Blocks that end before their time.

use crate::dynblock::{
    DynBlock, DynBlockEventKind, Scope, Subject, book::Book, entry::Entry, group::Inner, standing::loses_more,
};

/// Takes blocks of sources in a range out of the filter that would hide a block of the range which does more. They go on in
/// user space, where the one counts that does most.
pub(crate) fn make_way(book: &mut Book, range: &Subject, by: &Entry, now: u64) {
    let Some(net) = range.net().filter(|net| net.prefix_len() < net.max_prefix_len()) else { return };
    let hides = |subject: &Subject, entry: &Entry| {
        entry.placed.is_in_filter()
            && subject
                .net()
                .is_some_and(|inner| net.contains(&inner) && inner.prefix_len() > net.prefix_len())
            && loses_more(by.action, entry.action)
    };
    for (subject, scope) in keys(book, hides) {
        let Some(mut entry) = book.take(&subject, &scope) else { continue };
        entry.withdraw();
        entry.plan(now);
        book.put(subject, entry);
    }
}

fn keys(book: &Book, chosen: impl Fn(&Subject, &Entry) -> bool) -> Vec<(Subject, Scope)> {
    book.iter()
        .filter(|(subject, entry)| chosen(subject, entry))
        .map(|(subject, entry)| (subject.clone(), entry.scope.clone()))
        .collect()
}

impl Inner {
    /// Removes the blocks that are chosen, rules of the filter and all.
    pub(crate) fn remove_where(&self, chosen: impl Fn(&Subject, &Entry) -> bool) -> Vec<DynBlock> {
        let now = self.time.now();
        self.change(|book, events| {
            let keys = keys(book, chosen);
            let mut removed = Vec::with_capacity(keys.len());
            for (subject, scope) in keys {
                let Some(entry) = book.take(&subject, &scope) else { continue };
                if entry.is_over(now) {
                    self.end(&subject, &entry, DynBlockEventKind::Expired, now, events);
                } else {
                    removed.push(entry.view(&subject, now));
                    self.end(&subject, &entry, DynBlockEventKind::Removed, now, events);
                }
            }
            removed
        })
    }

    /// Does away with what hits who is exempt now.
    pub(crate) fn respect_exempt(&self) {
        let exempt = self.exempt.load_full();
        self.remove_where(|subject, _| match (subject, subject.net()) {
            (Subject::Suffix(name), _) => exempt.has_suffix(name),
            (_, Some(net)) => net.prefix_len() == net.max_prefix_len() && exempt.is_exempt(net.addr()),
            (_, None) => false,
        });
        let now = self.time.now();
        self.change(|book, _| {
            let is_hit = |subject: &Subject, entry: &Entry| {
                entry.placed.is_in_filter() && subject.net().is_some_and(|net| exempt.is_in(net))
            };
            for (subject, scope) in keys(book, is_hit) {
                let Some(mut entry) = book.take(&subject, &scope) else { continue };
                entry.withdraw();
                entry.plan(now);
                book.put(subject, entry);
            }
        });
    }
}
