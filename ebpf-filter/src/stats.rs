//! What the rules have matched.

use std::fmt;

use ebpf_prog::Malformed as MalformedReason;

use crate::Rule;

/// A rule, and how many packets it has matched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleStats {
    /// The rule.
    pub rule: Rule,
    /// Packets that it matched since it was added or reset, in the kernel and in user space.
    pub hits: u64,
}

/// What the rules have matched: [`BpfFilter::stats`](crate::BpfFilter::stats).
///
/// `Display` prints a line a rule, `[2001:db8::42]: 0` or `evildomain.com. 255: 0`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Every rule: IPv4 addresses, IPv6 addresses, then names, each in order.
    pub rules: Vec<RuleStats>,
    malformed: [u64; MalformedReason::ALL.len()],
}

impl Stats {
    pub(crate) fn new(mut rules: Vec<RuleStats>, malformed: [u64; MalformedReason::ALL.len()]) -> Self {
        rules.sort_by(|a, b| a.rule.matches.cmp(&b.rule.matches));
        Self { rules, malformed }
    }

    /// Messages whose question could not be read for this reason, in the kernel and in user space.
    pub const fn malformed(&self, reason: MalformedReason) -> u64 {
        self.malformed[reason as usize]
    }

    /// Messages whose question could not be read.
    pub fn malformed_total(&self) -> u64 {
        self.malformed.iter().sum()
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
