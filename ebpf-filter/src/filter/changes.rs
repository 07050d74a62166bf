//! Changing rules.

use crate::{
    BpfFilter, Match, Rule, RuleError, clock,
    engine::{Refusal, Writer},
};

use super::Inner;

impl BpfFilter {
    /// Adds a rule. It bites at once.
    ///
    /// # Errors
    ///
    /// If there is a rule for the same match, if there is no room, or if rules of this kind are not used. The rules are
    /// as they were then.
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
        self.insert_all(&[rule.canonical()])
    }

    /// Adds all of these rules, or none. Much faster than one by one.
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
        self.insert_all(&rules)
    }

    fn insert_all(&self, rules: &[Rule]) -> Result<(), RuleError> {
        let Inner { engine, .. } = &*self.inner;
        for Rule { matches, .. } in rules {
            self.used(matches.kind())?;
        }
        let mut writer = engine.writer();
        let mut soonest = None;
        let mut inserted = Ok(());
        for (index, rule) in rules.iter().enumerate() {
            let expires = clock::deadline(rule.expires_in);
            inserted = self.insert_one(&mut writer, rule, expires);
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

    fn insert_one(&self, writer: &mut Writer, rule: &Rule, expires: u64) -> Result<(), RuleError> {
        let memory = self.inner.engine.memory();
        let mut insert = || writer.insert(memory, &rule.matches, rule.action, expires);
        let refusal = match insert() {
            Ok(()) => return Ok(()),
            // What has expired may still have a place.
            Err(Refusal::Full | Refusal::NamesTooLong) => {
                writer.reap_all(memory, clock::now());
                match writer.insert(memory, &rule.matches, rule.action, expires) {
                    Ok(()) => return Ok(()),
                    Err(refusal) => refusal,
                }
            }
            Err(Refusal::Duplicate) => Refusal::Duplicate,
        };
        let kind = rule.matches.kind();
        Err(match refusal {
            Refusal::Duplicate => RuleError::Duplicate(rule.matches.clone()),
            Refusal::Full => RuleError::Full { kind, max: self.capacity(kind) },
            Refusal::NamesTooLong => RuleError::NamesTooLong { of: rule.matches.clone() },
        })
    }

    /// Has rules cleared away once they have ended.
    fn expect(&self, soonest: Option<u64>) {
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
        let rule = rule.canonical();
        self.used(rule.matches.kind())?;
        let expires = clock::deadline(rule.expires_in);
        let mut writer = self.inner.engine.writer();
        let changed = writer.change(self.inner.engine.memory(), &rule.matches, rule.action, expires);
        if !changed {
            let inserted = self.insert_one(&mut writer, &rule, expires);
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
        let mut writer = self.inner.engine.writer();
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
        let mut writer = self.inner.engine.writer();
        writer.clear(self.inner.engine.memory());
        Ok(self.inner.publish(&writer)?)
    }
}
