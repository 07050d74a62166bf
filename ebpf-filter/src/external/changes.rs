//! Changing rules.

use std::collections::HashSet;

use super::{
    ExternalFilter, Key,
    ends::{Deadline, Ends},
    format,
};
use crate::{
    Kind, Match, Reconciled, Rule, RuleError, clock,
    filter::short_forms,
    kernel::{Update, Updated},
};

short_forms!(ExternalFilter);

/// A rule that the format can say.
struct Entry {
    rule: Rule,
    key: Key,
    action: u8,
}

impl ExternalFilter {
    /// Adds a rule. Programs that look at the map see it at once.
    ///
    /// # Errors
    ///
    /// If there is an entry for the same match, whoever has made it; if there is no room; if the format has no such rule, or no map was
    /// given for it. Before Linux 6.13 tries cannot tell, so that an entry for a range that somebody else adds in the very same moment
    /// may be overwritten (kernel commit [eae6a075]).
    ///
    /// [eae6a075]: https://git.kernel.org/torvalds/c/eae6a075e9537dd69891cf77ca5a88fa8a28b4a1
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use ebpf_filter::{Action, BpfFilter, ExternalMaps, Match, Qtypes, Rule, RuleError};
    /// # let filter = BpfFilter::builder().external(ExternalMaps::in_directory("/sys/fs/bpf/example")).build()?;
    /// let rule = Rule::new(Match::qname("example.com".parse()?, Qtypes::All), Action::Truncate);
    /// filter.insert(rule.clone())?;
    /// assert!(matches!(filter.insert(rule), Err(RuleError::Duplicate(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert(&self, rule: Rule) -> Result<(), RuleError> {
        self.insert_all(&[self.entry(rule)?])
    }

    /// Adds all of these rules, or none.
    ///
    /// # Errors
    ///
    /// As [`ExternalFilter::insert`], for the first rule that cannot be added; two rules for the same match are an error, too.
    pub fn insert_many(&self, rules: impl IntoIterator<Item = Rule>) -> Result<(), RuleError> {
        let entries = rules.into_iter().map(|rule| self.entry(rule)).collect::<Result<Vec<_>, _>>()?;
        self.insert_all(&entries)
    }

    fn insert_all(&self, entries: &[Entry]) -> Result<(), RuleError> {
        let mut ends = self.inner.changing()?;
        for (index, entry) in entries.iter().enumerate() {
            if let Err(error) = self.insert_one(&mut ends, entry) {
                for Entry { key, .. } in &entries[..index] {
                    self.remove_one(&mut ends, key)?;
                }
                return Err(error);
            }
        }
        self.release(ends);
        Ok(())
    }

    /// Adds a rule, or gives the entry for the same match this action and this time to live, and says whether there was one. Its
    /// hits stay, but for those in the moment between reading and writing them, about a microsecond. At no moment is there no
    /// entry.
    ///
    /// # Errors
    ///
    /// As [`ExternalFilter::insert`], except that an entry for the same match is none.
    pub fn replace(&self, rule: Rule) -> Result<bool, RuleError> {
        let entry = self.entry(rule)?;
        let mut ends = self.inner.changing()?;
        let changed = self.set(&mut ends, &entry)?;
        self.release(ends);
        Ok(changed)
    }

    /// Removes the entry for this match, whoever has made it.
    ///
    /// # Errors
    ///
    /// [`RuleError::Missing`] if there is none.
    pub fn remove(&self, of: &Match) -> Result<(), RuleError> {
        let of = &of.clone().canonical();
        let key = self.key(of)?;
        let mut ends = self.inner.changing()?;
        if self.remove_one(&mut ends, &key)? { Ok(()) } else { Err(RuleError::Missing(of.clone())) }
    }

    /// Removes every entry of every map, whoever has made it. It is a walk over the maps.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    pub fn clear(&self) -> Result<(), RuleError> {
        let mut ends = self.inner.changing()?;
        for kind in Kind::ALL {
            for (key, _) in self.inner.maps.entries(kind)? {
                self.inner.maps.remove(&key)?;
            }
        }
        for key in ends.keys() {
            ends.forget(&self.inner.maps, &key)?;
        }
        Ok(())
    }

    /// Makes the entries without an end exactly these rules: adds what is missing, changes what has another action or an end, and removes
    /// all others, whoever has made them. Entries that stay keep their hits, and entries that end and are not among the rules
    /// stay as they are. It is a walk over the maps.
    ///
    /// This is for the start, when the maps hold what was left there before and the configuration may have changed since.
    ///
    /// # Errors
    ///
    /// As [`ExternalFilter::insert`], before anything is changed, if the rules themselves are wrong: two for the same match, or more
    /// than there is room for. If it fails later, for lack of room beside entries that end, say, what was done until then stays.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use ebpf_filter::{BpfFilter, ExternalMaps, Match, Rule};
    /// # let filter = BpfFilter::builder().external(ExternalMaps::in_directory("/sys/fs/bpf/example")).build()?;
    /// let done = filter.reconcile([Rule::drop(Match::address([192, 0, 2, 1]))])?;
    /// println!("{} added, {} changed, {} removed", done.added, done.changed, done.removed);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reconcile(&self, rules: impl IntoIterator<Item = Rule>) -> Result<Reconciled, RuleError> {
        let entries = rules.into_iter().map(|rule| self.entry(rule)).collect::<Result<Vec<_>, _>>()?;
        let mut wanted = HashSet::new();
        for Entry { key, rule, .. } in &entries {
            if !wanted.insert(key) {
                return Err(RuleError::Duplicate(rule.matches.clone()));
            }
        }
        for kind in Kind::ALL {
            let max = self.capacity(kind);
            if wanted.iter().filter(|key| key.kind() == kind).count() > max as usize {
                return Err(RuleError::Full { kind, max });
            }
        }
        let mut ends = self.inner.changing()?;
        let mut done = Reconciled::default();
        for kind in Kind::ALL {
            for (found, _) in self.inner.maps.entries(kind)? {
                // Others may have written bits behind a prefix.
                let key = self.inner.format.matches(&found).and_then(|of| self.inner.format.key(&of));
                let key = key.as_ref().unwrap_or(&found);
                if !wanted.contains(key) && ends.get(key).is_none() && self.inner.maps.remove(&found)? {
                    done.removed += 1;
                }
            }
        }
        for entry in &entries {
            let value = self.inner.maps.lookup(&entry.key)?;
            let is_there = value.is_some_and(|value| format::action_number(&value) == entry.action)
                && ends.get(&entry.key).is_none()
                && entry.rule.expires_in.is_none();
            if is_there {
                done.kept += 1;
                continue;
            }
            let count = if self.set(&mut ends, entry)? { &mut done.changed } else { &mut done.added };
            *count += 1;
        }
        self.release(ends);
        Ok(done)
    }

    /// Starts the hit counters of all entries anew: a walk over the maps. Hits that come while an entry is written are lost.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    pub fn reset_hits(&self) -> Result<(), RuleError> {
        let maps = &self.inner.maps;
        let mut ends = self.inner.changing()?;
        for kind in Kind::ALL {
            for (key, value) in maps.entries(kind)? {
                if let Some(deadline) = ends.get(&key).filter(|deadline| deadline.hits > 0) {
                    ends.set(maps, &key, Deadline { hits: 0, ..deadline })?;
                }
                // It may be gone.
                maps.update(&key, &format::value(0, format::action_number(&value)), Update::Change)?;
            }
        }
        Ok(())
    }

    fn entry(&self, rule: Rule) -> Result<Entry, RuleError> {
        let rule = rule.canonical();
        let key = self.key(&rule.matches)?;
        let Some(action) = format::number(rule.action) else {
            let missing = format!("action {:?}", rule.action).to_lowercase();
            return Err(RuleError::NotInFormat { of: rule.matches, missing });
        };
        Ok(Entry { rule, key, action })
    }

    /// Changes the entry, and says whether there was one.
    fn set(&self, ends: &mut Ends, entry: &Entry) -> Result<bool, RuleError> {
        let maps = &self.inner.maps;
        let Some(old) = maps.lookup(&entry.key)? else {
            self.insert_one(ends, entry)?;
            return Ok(false);
        };
        let hits = format::hits(&old);
        self.set_end(ends, entry, hits)?;
        match maps.update(&entry.key, &format::value(hits, entry.action), Update::Change)? {
            // Somebody else has removed it just now.
            Updated::Missing => self.insert_one(ends, entry).map(|()| false),
            Updated::Done | Updated::Duplicate => Ok(true),
            Updated::Full => Err(self.full(entry)),
        }
    }

    fn insert_one(&self, ends: &mut Ends, entry: &Entry) -> Result<(), RuleError> {
        let maps = &self.inner.maps;
        if maps.lookup(&entry.key)?.is_some() {
            return Err(RuleError::Duplicate(entry.rule.matches.clone()));
        }
        // The end comes first: an entry that nobody ends is worse than an end without an entry.
        self.set_end(ends, entry, 0)?;
        let error = match maps.update(&entry.key, &format::value(0, entry.action), Update::Insert)? {
            Updated::Done => return Ok(()),
            Updated::Full => self.full(entry),
            Updated::Duplicate | Updated::Missing => RuleError::Duplicate(entry.rule.matches.clone()),
        };
        ends.forget(maps, &entry.key)?;
        Err(error)
    }

    fn set_end(&self, ends: &mut Ends, entry: &Entry, hits: u64) -> Result<(), RuleError> {
        let at = clock::deadline(entry.rule.expires_in);
        if at == clock::NEVER {
            ends.forget(&self.inner.maps, &entry.key)?;
        } else {
            ends.set(&self.inner.maps, &entry.key, Deadline { at, hits, action: entry.action })?;
        }
        Ok(())
    }

    fn remove_one(&self, ends: &mut Ends, key: &Key) -> Result<bool, RuleError> {
        let removed = self.inner.maps.remove(key)?;
        ends.forget(&self.inner.maps, key)?;
        Ok(removed)
    }

    fn full(&self, entry: &Entry) -> RuleError {
        let kind = entry.rule.matches.kind();
        RuleError::Full { kind, max: self.capacity(kind) }
    }

    /// Lets others change entries, and has those end that do.
    fn release(&self, ends: std::sync::MutexGuard<'_, Ends>) {
        let first = ends.first();
        drop(ends);
        self.expect(first);
    }
}
