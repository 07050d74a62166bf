//! What the rules have matched.

use std::{
    cmp::{Ordering, Reverse},
    fmt,
};

use ebpf_prog::Malformed as MalformedReason;

use crate::{
    Kind, Rule, clock,
    engine::{Found, Memory},
};

/// A rule, and how many packets it has matched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleStats {
    /// The rule.
    pub rule: Rule,
    /// Packets that it matched since it was added or reset, in the kernel and in user space.
    pub hits: u64,
}

/// Rules that are gone: removed, or expired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retired {
    /// How many.
    pub rules: u64,
    /// Packets that they matched, and that rules matched before their counters were reset.
    pub hits: u64,
}

impl Retired {
    pub(crate) const fn and(self, other: Self) -> Self {
        Self { rules: self.rules + other.rules, hits: self.hits + other.hits }
    }
}

/// Which rules [`BpfFilter::stats_of`](crate::BpfFilter::stats_of) returns, and in which order.
///
/// ```
/// # use ebpf_filter::{BpfFilter, Kind, Selection};
/// # let filter = BpfFilter::builder().build()?;
/// let busiest = Selection::all().kinds([Kind::Qname, Kind::Suffix]).min_hits(1).by_hits().limit(20);
/// print!("{}", filter.stats_of(&busiest)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Selection {
    kinds: [bool; Kind::ALL.len()],
    min_hits: u64,
    by_hits: bool,
    limit: usize,
}

impl Selection {
    /// Every rule, in the order of kinds and matches.
    pub const fn all() -> Self {
        Self { kinds: [true; Kind::ALL.len()], min_hits: 0, by_hits: false, limit: usize::MAX }
    }

    /// Rules of these kinds only.
    pub fn kinds(self, kinds: impl IntoIterator<Item = Kind>) -> Self {
        let mut chosen = [false; Kind::ALL.len()];
        kinds.into_iter().for_each(|kind| chosen[kind as usize] = true);
        Self { kinds: chosen, ..self }
    }

    /// Rules with so many hits at least.
    pub const fn min_hits(self, hits: u64) -> Self {
        Self { min_hits: hits, ..self }
    }

    /// Those with the most hits first.
    pub const fn by_hits(self) -> Self {
        Self { by_hits: true, ..self }
    }

    /// No more rules than this: the first ones in the order asked for.
    pub const fn limit(self, rules: usize) -> Self {
        Self { limit: rules, ..self }
    }

    /// Whether rules of this kind are wanted.
    pub(crate) const fn has(&self, kind: Kind) -> bool {
        self.kinds[kind as usize]
    }

    /// Those of these rules that are wanted, in the order that they are wanted in.
    pub(crate) fn choose(&self, mut rules: Vec<RuleStats>) -> Vec<RuleStats> {
        rules.retain(|found| found.hits >= self.min_hits && self.has(found.rule.matches.kind()));
        rules.sort_unstable_by(|a, b| self.compare(a, b));
        rules.truncate(self.limit);
        rules
    }

    fn compare(&self, a: &RuleStats, b: &RuleStats) -> Ordering {
        let hits = if self.by_hits { b.hits.cmp(&a.hits) } else { Ordering::Equal };
        hits.then_with(|| a.rule.matches.cmp(&b.rule.matches))
    }

    /// What there is of them; and of all rules, what has expired and was not cleared away yet.
    pub(crate) fn read(&self, memory: &Memory) -> (Vec<RuleStats>, [Retired; Kind::ALL.len()]) {
        let now = clock::now();
        let mut expired = [Retired::default(); Kind::ALL.len()];
        let mut found = Vec::new();
        for one in Found::all(memory, now) {
            let kind = one.place.kind(memory) as usize;
            if one.expired {
                expired[kind] = expired[kind].and(Retired { rules: 1, hits: one.hits });
            } else if one.hits >= self.min_hits && self.kinds[kind] {
                found.push(one);
            }
        }
        (self.sort(found, memory, now), expired)
    }

    fn sort(&self, mut found: Vec<Found>, memory: &Memory, now: u64) -> Vec<RuleStats> {
        // Only those that are wanted are read whole.
        if self.by_hits && self.limit < found.len() {
            found.select_nth_unstable_by_key(self.limit, |found| Reverse(found.hits));
            found.truncate(self.limit);
        }
        let mut rules: Vec<_> = found.into_iter().filter_map(|found| found.read(memory, now)).collect();
        rules.sort_unstable_by(|a, b| self.compare(a, b));
        rules.truncate(self.limit);
        rules
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self::all()
    }
}

/// What the rules have matched: [`BpfFilter::stats`](crate::BpfFilter::stats).
///
/// `Display` prints a line a rule, `[2001:db8::42]: 0` or `evildomain.com. 255: 0`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The rules that were asked for.
    pub rules: Vec<RuleStats>,
    malformed: [u64; MalformedReason::ALL.len()],
    retired: [Retired; Kind::ALL.len()],
}

impl Stats {
    pub(crate) const fn new(
        rules: Vec<RuleStats>,
        malformed: [u64; MalformedReason::ALL.len()],
        retired: [Retired; Kind::ALL.len()],
    ) -> Self {
        Self { rules, malformed, retired }
    }

    /// Messages that were no well-formed queries for this reason, in the kernel and in user space.
    pub const fn malformed(&self, reason: MalformedReason) -> u64 {
        self.malformed[reason as usize]
    }

    /// Messages that were no well-formed queries.
    pub fn malformed_total(&self) -> u64 {
        self.malformed.iter().sum()
    }

    /// What became of the rules of this kind that are gone, since the filter was built. With the hits of all rules that
    /// there are, this makes a count that never goes back; but a rule that goes in the very moment may be in neither.
    pub const fn retired(&self, kind: Kind) -> Retired {
        self.retired[kind as usize]
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for RuleStats { rule, hits } in &self.rules {
            writeln!(f, "{}: {hits}", rule.matches)?;
        }
        Ok(())
    }
}
