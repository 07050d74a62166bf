//! Reading rules while they are counted and changed: nobody waits for it.

use std::collections::HashSet;

use ebpf_prog::rule::{Action, Maker};

use super::{
    Writer, key,
    memory::Memory,
    place::{Place, Which},
};
use crate::{Match, Rule, RuleStats, clock};

/// A rule that was seen: enough to sort by, and to find it again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) hits: u64,
    life: u32,
    /// It has ended, but nobody has cleared it away yet.
    pub(crate) expired: bool,
}

impl Found {
    /// Every rule, in the order of the tables.
    pub(crate) fn all(memory: &Memory, now: u64) -> impl Iterator<Item = Self> + '_ {
        Which::ALL.into_iter().flat_map(move |table| {
            (0..table.len(memory)).filter_map(move |index| Self::at(memory, Place { table, index }, now))
        })
    }

    /// The rule in this place.
    pub(crate) fn at(memory: &Memory, place: Place, now: u64) -> Option<Self> {
        let cell = place.cell(memory);
        let life = cell.life()?;
        let expired = clock::is_over(cell.expires(), now);
        Some(Self { place, hits: cell.hits(), life, expired })
    }

    /// The rule itself, unless it has gone meanwhile.
    pub(crate) fn read(self, memory: &Memory, now: u64) -> Option<RuleStats> {
        let Self { place, hits, life, .. } = self;
        let cell = place.cell(memory);
        let (action, expires): (Action, u64) = (cell.action(), cell.expires());
        let matches = place.matches(memory)?;
        if cell.life() != Some(life) {
            return None;
        }
        Some(RuleStats { rule: Rule { matches, action, expires_in: clock::until(expires, now) }, hits })
    }
}

impl Writer {
    /// What dynamic blocks have rules for, if others had them before.
    #[expect(clippy::unused_self, reason = "nobody else changes rules meanwhile")]
    pub(crate) fn blocks(&self, memory: &Memory) -> HashSet<Match> {
        if memory.shared.is_none() {
            return HashSet::new();
        }
        let all = Found::all(memory, clock::now());
        all.filter(|found| found.place.cell(memory).maker() == Maker::Block)
            .filter_map(|found| found.place.matches(memory))
            .collect()
    }
}

impl Place {
    fn matches(self, memory: &Memory) -> Option<Match> {
        match self.table {
            Which::Ipv4 => Some(Match::Ipv4(self.node(&memory.ipv4).prefix().bits.into())),
            Which::Ipv6 => Some(Match::Ipv6(key::address6(self.node(&memory.ipv6).prefix()))),
            Which::Ranges4 => key::range4(self.node(&memory.ranges4).prefix()),
            Which::Ranges6 => key::range6(self.node(&memory.ranges6).prefix()),
            Which::Names => {
                let (wire, selector) = self.node(&memory.names).name(&memory.blocks)?;
                key::name(&wire, selector)
            }
        }
    }
}
