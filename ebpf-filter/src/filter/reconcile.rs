//! Making the rules those of a configuration.

use std::collections::HashMap;

use ebpf_prog::rule::Terms;

use crate::{BpfFilter, Match, Rule, RuleError, Selection, clock, engine::Writer};

/// What [`BpfFilter::reconcile`] and [`ExternalFilter::reconcile`](crate::ExternalFilter::reconcile) have done with the rules that
/// do not end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconciled {
    /// How many were there already, as they were to be.
    pub kept: usize,
    /// How many were added.
    pub added: usize,
    /// How many were there, but with another action, or an end.
    pub changed: usize,
    /// How many were there and were not to be.
    pub removed: usize,
}

impl BpfFilter {
    /// Makes the rules that do not end exactly those of `rules` that do not end: for a configuration that is read again, or rules that a
    /// process before has left on pins. Rules that end are left alone, unless `rules` has one for the same match; those of `rules`
    /// that end are added, or given the time that they are to last.
    ///
    /// The hits of a rule that stays are kept, and at no moment is it not in force: what is new is added or changed first, and only
    /// if all of it was, the others are removed. That takes room for both; without it, rules that are not to stay make room.
    ///
    /// # Errors
    ///
    /// As [`BpfFilter::insert_many`]. Some of the rules may be added or changed then.
    ///
    /// # Example
    ///
    /// ```
    /// # use ebpf_filter::{BpfFilter, Match, Rule};
    /// let filter = BpfFilter::builder().build()?;
    /// let rule = |host| Rule::drop(Match::address([192, 0, 2, host]));
    /// filter.insert_many([rule(1), rule(2)])?;
    /// let done = filter.reconcile([rule(2), rule(3)])?;
    /// assert_eq!((done.kept, done.added, done.changed, done.removed), (1, 1, 0, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reconcile(&self, rules: impl IntoIterator<Item = Rule>) -> Result<Reconciled, RuleError> {
        let mut wanted: HashMap<Match, Rule> = HashMap::new();
        for rule in rules.into_iter().map(Rule::canonical) {
            self.takes(&rule)?;
            if let Some(twice) = wanted.insert(rule.matches.clone(), rule) {
                return Err(RuleError::Duplicate(twice.matches));
            }
        }
        let (inner, mut done) = (&self.inner, Reconciled::default());
        let memory = inner.engine.memory();
        let mut soonest = None;
        let mut writer = inner.writer()?;
        let (present, _) = Selection::all().read(memory);
        let mut others = Vec::new();
        for found in present {
            match wanted.get(&found.rule.matches) {
                Some(rule) if *rule == found.rule => {
                    done.kept += 1;
                    wanted.remove(&found.rule.matches);
                }
                None if found.rule.expires_in.is_none() => others.push(found.rule.matches),
                Some(_) | None => {}
            }
        }
        let mut outcome = Ok(());
        for rule in wanted.values() {
            let expires = clock::deadline(rule.expires_in);
            if expires != clock::NEVER {
                soonest = soonest.into_iter().chain([expires]).min();
            }
            let terms = Terms::new(rule.action, expires);
            if writer.change(memory, &rule.matches, terms) {
                done.changed += 1;
                continue;
            }
            outcome = self.insert_in_place_of(&mut writer, &rule.matches, terms, &mut others, &mut done);
            if outcome.is_err() {
                break;
            }
        }
        if outcome.is_ok() {
            done.removed += others.iter().filter(|other| writer.remove(memory, other)).count();
        }
        let published = inner.publish(&writer);
        drop(writer);
        self.expect(soonest);
        outcome?;
        published?;
        Ok(done)
    }

    /// Adds a rule. If there is no room, those that are not to stay make room.
    fn insert_in_place_of(
        &self,
        writer: &mut Writer,
        of: &Match,
        terms: Terms,
        others: &mut Vec<Match>,
        done: &mut Reconciled,
    ) -> Result<(), RuleError> {
        loop {
            let inserted = self.insert_one(writer, of, terms);
            let is_full = matches!(inserted, Err(RuleError::Full { .. } | RuleError::NamesTooLong { .. }));
            let kind = of.kind();
            let Some(at) = others.iter().position(|other| is_full && other.kind() == kind) else {
                inserted?;
                done.added += 1;
                return Ok(());
            };
            done.removed += usize::from(writer.remove(self.inner.engine.memory(), &others.swap_remove(at)));
        }
    }
}
