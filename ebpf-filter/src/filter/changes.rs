//! Changing rules.

use ebpf_prog::rule::{Maker, Terms};

use crate::{
    Action, BpfFilter, Match, Rule, RuleError, clock,
    engine::{Refusal, Writer},
};

use super::Inner;

impl BpfFilter {
    /// Adds a rule. It bites at once.
    ///
    /// # Errors
    ///
    /// If there is a rule for the same match, if there is no room, if rules of this kind are not used, or if the number of an
    /// [`Action::Slip`] is too large. The rules are as they were then.
    ///
    /// # Example
    ///
    /// ```
    /// # use ebpf_filter::{Action, BpfFilter, Match, Qtypes, Rule, RuleError};
    /// let filter = BpfFilter::builder().qnames_max(2).build()?;
    /// let rule = Rule::new(Match::qname("example.com".parse()?, Qtypes::Only(1)), Action::Count);
    /// filter.insert(rule.clone())?;
    /// assert!(matches!(filter.insert(rule), Err(RuleError::Duplicate(_))));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert(&self, rule: Rule) -> Result<(), RuleError> {
        self.insert_all(&[rule.canonical()], Maker::Operator)
    }

    /// The same for a dynamic block.
    pub(crate) fn insert_block(&self, rule: Rule) -> Result<(), RuleError> {
        self.insert_all(&[rule.canonical()], Maker::Block)
    }

    /// Adds all of these rules, or none; whoever is killed meanwhile may leave some of them on pins. Much faster than one by one.
    ///
    /// # Errors
    ///
    /// As [`BpfFilter::insert`], for the first rule that cannot be added; two rules for the same match are an error, too.
    ///
    /// # Example
    ///
    /// ```
    /// # use ebpf_filter::{BpfFilter, Match, Rule};
    /// let filter = BpfFilter::builder().ipv4_max(256).build()?;
    /// filter.insert_many((0..=255).map(|host| Rule::drop(Match::address([192, 0, 2, host]))))?;
    /// assert_eq!(filter.stats()?.rules.len(), 256);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn insert_many(&self, rules: impl IntoIterator<Item = Rule>) -> Result<(), RuleError> {
        let rules: Vec<_> = rules.into_iter().map(Rule::canonical).collect();
        self.insert_all(&rules, Maker::Operator)
    }

    fn insert_all(&self, rules: &[Rule], by: Maker) -> Result<(), RuleError> {
        let Inner { engine, .. } = &*self.inner;
        for rule in rules {
            self.takes(rule)?;
        }
        let mut writer = self.inner.writer()?;
        let mut soonest = None;
        let mut inserted = Ok(());
        for (index, rule) in rules.iter().enumerate() {
            let expires = clock::deadline(rule.expires_in);
            inserted =
                self.insert_one(&mut writer, &rule.matches, Terms { action: rule.action, expires, by });
            if inserted.is_err() {
                for Rule { matches, .. } in &rules[..index] {
                    writer.undo(engine.memory(), matches);
                }
                break;
            }
            if expires != clock::NEVER {
                soonest = soonest.into_iter().chain([expires]).min();
            }
        }
        // Also if nothing was added: rules that had expired may have made room in vain.
        let published = self.inner.publish(&writer);
        drop(writer);
        inserted?;
        self.expect(soonest);
        Ok(published?)
    }

    pub(super) fn insert_one(&self, writer: &mut Writer, of: &Match, terms: Terms) -> Result<(), RuleError> {
        let (memory, kind) = (self.inner.engine.memory(), of.kind());
        let mut inserted = writer.insert(memory, of, terms);
        // What has expired may still have a place.
        if matches!(inserted, Err(Refusal::Full | Refusal::NamesTooLong))
            && writer.make_room(memory, kind, clock::now())
        {
            inserted = writer.insert(memory, of, terms);
        }
        inserted.map_err(|refusal| match refusal {
            Refusal::Duplicate => RuleError::Duplicate(of.clone()),
            Refusal::Full => RuleError::Full { kind, max: self.capacity(kind) },
            Refusal::NamesTooLong => RuleError::NamesTooLong { of: of.clone() },
        })
    }

    pub(super) fn takes(&self, rule: &Rule) -> Result<(), RuleError> {
        if let Action::Slip(every) = rule.action
            && every > Action::MAX_SLIP
        {
            return Err(RuleError::SlipTooLarge { of: rule.matches.clone(), every });
        }
        self.used(rule.matches.kind())
    }

    /// Has rules cleared away once they have ended.
    pub(super) fn expect(&self, soonest: Option<u64>) {
        if let Some(deadline) = soonest {
            self.inner.reaper.expect(deadline, &self.inner);
        }
    }

    /// Adds a rule, or gives the rule for the same match this action and this time to live, and says whether there was
    /// one. Its hits stay. At no moment is there no rule.
    ///
    /// # Errors
    ///
    /// As [`BpfFilter::insert`], except that a rule for the same match is none.
    ///
    /// # Example
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ebpf_filter::{Action, BpfFilter, Match, Rule};
    /// let filter = BpfFilter::builder().build()?;
    /// let client = Match::address([192, 0, 2, 1]);
    /// let block = Rule::drop(client.clone()).expires_in(Duration::from_secs(60));
    /// assert!(!filter.replace(block)?);
    /// assert!(filter.replace(Rule::new(client, Action::Count))?);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn replace(&self, rule: Rule) -> Result<bool, RuleError> {
        self.replace_by(rule, Maker::Operator)
    }

    /// The same for a dynamic block.
    pub(crate) fn replace_block(&self, rule: Rule) -> Result<bool, RuleError> {
        self.replace_by(rule, Maker::Block)
    }

    fn replace_by(&self, rule: Rule, by: Maker) -> Result<bool, RuleError> {
        let rule = rule.canonical();
        self.takes(&rule)?;
        let expires = clock::deadline(rule.expires_in);
        let terms = Terms { action: rule.action, expires, by };
        let mut writer = self.inner.writer()?;
        let changed = writer.change(self.inner.engine.memory(), &rule.matches, terms);
        if !changed {
            let inserted = self.insert_one(&mut writer, &rule.matches, terms);
            let published = self.inner.publish(&writer);
            inserted?;
            published?;
        }
        drop(writer);
        self.expect((expires != clock::NEVER).then_some(expires));
        Ok(changed)
    }

    /// Removes the rule for this match.
    ///
    /// # Errors
    ///
    /// [`RuleError::Missing`] if there is none.
    pub fn remove(&self, of: &Match) -> Result<(), RuleError> {
        let of = &of.clone().canonical();
        self.used(of.kind())?;
        let mut writer = self.inner.writer()?;
        let removed = writer.remove(self.inner.engine.memory(), of);
        self.inner.publish(&writer)?;
        if removed { Ok(()) } else { Err(RuleError::Missing(of.clone())) }
    }

    /// Removes every rule. They stop biting at once.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    pub fn clear(&self) -> Result<(), RuleError> {
        let mut writer = self.inner.writer()?;
        writer.clear(self.inner.engine.memory());
        Ok(self.inner.publish(&writer)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::{net::Ipv4Addr, thread, time::Duration};

    use super::*;
    use crate::{Kind, Mode};

    const HOUR: Duration = Duration::from_secs(3600);

    fn drop(host: u32) -> Rule {
        Rule::drop(Match::address(Ipv4Addr::from_bits(host)))
    }

    fn scans(filter: &BpfFilter) -> u32 {
        filter.inner.engine.reader().scans
    }

    #[test]
    fn a_full_table_is_not_searched_while_nothing_can_have_ended() {
        const MAX: u32 = 1_000_000;
        let filter = BpfFilter::builder().mode(Mode::Off).ipv4_max(MAX).build().unwrap();
        filter.insert_many((0..MAX).map(|host| drop(host).expires_in(HOUR))).unwrap();
        for host in MAX..MAX + 1000 {
            assert!(matches!(filter.insert(drop(host)), Err(RuleError::Full { kind: Kind::Ipv4, max: MAX })));
        }
        assert_eq!(scans(&filter), 0);
        // One search finds the rules that have ended, and when the next one does.
        for host in 0..10 {
            filter.replace(drop(host).expires_in(Duration::from_millis(1))).unwrap();
        }
        thread::sleep(Duration::from_millis(2));
        for host in MAX..MAX + 1000 {
            assert_eq!(filter.insert(drop(host)).is_ok(), host < MAX + 10, "{host}");
        }
        assert!(scans(&filter) <= 1);
    }

    #[test]
    fn rules_elsewhere_that_end_are_no_reason_to_search() {
        let filter = BpfFilter::builder().mode(Mode::Off).ipv4_max(1).build().unwrap();
        let name = Match::qname("a.example".parse().unwrap(), crate::Qtypes::All);
        filter.insert(Rule::drop(name).expires_in(Duration::from_nanos(1))).unwrap();
        filter.insert(drop(1).expires_in(HOUR)).unwrap();
        assert!(filter.insert(drop(2)).is_err());
        assert_eq!(scans(&filter), 0);
    }
}
