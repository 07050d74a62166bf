//! What there is, and what it has matched.

use super::{ExternalFilter, Key, Value, ends::Ends, format};
use crate::{KernelError, Kind, Match, Rule, RuleStats, Selection, Stats, clock};

impl ExternalFilter {
    /// The entry for exactly this match and its hits; `None` if there is none, or it has ended.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    ///
    /// # Example
    ///
    /// ```no_run
    /// # use ebpf_filter::{Action, BpfFilter, ExternalMaps, Match};
    /// # let filter = BpfFilter::builder().external(ExternalMaps::in_directory("/sys/fs/bpf/example")).build()?;
    /// filter.block([192, 0, 2, 1])?;
    /// let found = filter.rule(&Match::address([192, 0, 2, 1]))?;
    /// assert_eq!(found.map(|found| (found.rule.action, found.hits)), Some((Action::Drop, 0)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn rule(&self, of: &Match) -> Result<Option<RuleStats>, KernelError> {
        let Some(key) = self.inner.format.key(&of.clone().canonical()) else { return Ok(None) };
        let Some(value) = self.inner.maps.lookup(&key)? else { return Ok(None) };
        Ok(self.read(&self.inner.ends(), &key, &value, clock::now()))
    }

    /// How many entries there are of this kind, whoever has made them: a walk over the map.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    pub fn count(&self, kind: Kind) -> Result<u32, KernelError> {
        let entries = self.inner.maps.entries(kind)?.len();
        Ok(entries.try_into().unwrap_or(u32::MAX))
    }

    /// What the entries have matched, as the programs that look at them have counted it. Nobody waits for it: entries may change
    /// meanwhile. It is a walk over the maps, so async code asks [`ExternalFilter::read_stats`] instead if there are many.
    ///
    /// Entries that no rule can be made of (another action than the three, a name in upper case) are left alone, and not listed. Nobody
    /// counts malformed messages in this format, nor rules that are gone: these totals are zero.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    pub fn stats(&self) -> Result<Stats, KernelError> {
        self.stats_of(&Selection::all())
    }

    /// What some of the entries have matched.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    pub fn stats_of(&self, selection: &Selection) -> Result<Stats, KernelError> {
        let mut rules = Vec::new();
        for kind in Kind::ALL.into_iter().filter(|kind| selection.has(*kind)) {
            let entries = self.inner.maps.entries(kind)?;
            let (ends, now) = (self.inner.ends(), clock::now());
            rules.extend(entries.iter().filter_map(|(key, value)| self.read(&ends, key, value, now)));
        }
        Ok(Stats::new(selection.choose(rules), Default::default(), Default::default()))
    }

    /// As [`ExternalFilter::stats_of`], on a thread for blocking work.
    ///
    /// # Errors
    ///
    /// If the kernel fails.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn read_stats(&self, selection: Selection) -> Result<Stats, KernelError> {
        let filter = self.clone();
        crate::filter::blocking(move || filter.stats_of(&selection)).await
    }

    /// The rule that an entry is, unless it has ended.
    fn read(&self, ends: &Ends, key: &Key, value: &Value, now: u64) -> Option<RuleStats> {
        let (matches, action) =
            (self.inner.format.matches(key)?, format::action(format::action_number(value))?);
        // An end may be for an entry that is not there any more.
        let at = ends.get(key).filter(|end| end.is_for(value)).map_or(clock::NEVER, |end| end.at);
        let rule = Rule { matches, action, expires_in: clock::until(at, now) };
        (!clock::is_over(at, now)).then(|| RuleStats { rule, hits: format::hits(value) })
    }
}
