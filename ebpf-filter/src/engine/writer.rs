//! Changing rules, one change at a time.

use ebpf_prog::{
    decision::Family,
    layout::{Kinds, Policy},
    names::{Blocks, NameNode, NoBlocks, Selector},
    rule::{Ipv4Node, Ipv4Prefix, Ipv6Node, Ipv6Prefix, Maker, Terms},
    shape::{self, Shape},
    table::{Table, TableFull},
};

use super::{
    key::{self, NameKey},
    memory::Memory,
    place::{Place, Which, selector},
    reading::Found,
    shared::Sharing,
    sieve::SieveCounts,
};
use crate::{Kind, Match, Retired, RuleStats, clock, sizes::Sizes};

/// What is needed to change rules. Whoever has it is the only one who does.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(super) sizes: Sizes,
    drop_malformed: bool,
    /// Whether somebody watches where malformed messages come from.
    pub(super) watch_malformed: bool,
    pub(super) ipv4: Table,
    pub(super) ipv6: Table,
    pub(super) ranges4: Table,
    pub(super) ranges6: Table,
    pub(super) names: Table,
    pub(super) blocks: Blocks,
    pub(super) sieve: SieveCounts,
    /// How many ranges there are of each length.
    pub(super) lengths: [Box<[u32]>; 2],
    /// How many rules there are for names: exact and suffixes, one type and all.
    named: [[u32; 2]; 2],
    retired: [Retired; Kind::ALL.len()],
    /// Before this, no rule of each table ends.
    pub(super) soonest: [u64; Which::ALL.len()],
    pub(super) sharing: Sharing,
    #[cfg(test)]
    pub(crate) scans: u32,
}

/// Why a rule is not added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Duplicate,
    Full,
    /// The memory for long names is used up.
    NamesTooLong,
}

impl From<TableFull> for Refusal {
    fn from(TableFull: TableFull) -> Self {
        Self::Full
    }
}

impl From<NoBlocks> for Refusal {
    fn from(reason: NoBlocks) -> Self {
        match reason {
            NoBlocks::Rules => Self::Full,
            NoBlocks::Memory => Self::NamesTooLong,
        }
    }
}

impl Writer {
    pub(super) fn new(memory: &Memory, sizes: Sizes, drop_malformed: bool) -> Self {
        let table = |max| Table::new(memory.seed, max);
        let sieve_words = if sizes.sieved() == 0 { 0 } else { memory.sieve.len() };
        Self {
            sizes,
            drop_malformed,
            watch_malformed: false,
            ipv4: table(sizes.ipv4),
            ipv6: table(sizes.ipv6),
            ranges4: table(sizes.ranges4),
            ranges6: table(sizes.ranges6),
            names: table(sizes.names()),
            blocks: Blocks::new(Blocks::needed(sizes.names())),
            sieve: SieveCounts::new(sieve_words),
            lengths: [Ipv4Prefix::MAX_LEN, Ipv6Prefix::MAX_LEN]
                .map(|max| vec![0; usize::from(max) + 1].into_boxed_slice()),
            named: [[0; 2]; 2],
            retired: [Retired::default(); Kind::ALL.len()],
            soonest: [u64::MAX; Which::ALL.len()],
            sharing: Sharing::default(),
            #[cfg(test)]
            scans: 0,
        }
    }

    /// Says that shared rules change from here on. To be called before anything is written.
    fn begin(&mut self, memory: &Memory) {
        if let Some(shared) = &memory.shared
            && !self.sharing.is_changing
        {
            shared.begin();
            self.sharing.is_changing = true;
        }
    }

    /// Says whether malformed messages are dropped.
    pub(crate) fn set_drop_malformed(&mut self, memory: &Memory, on: bool) {
        if self.drop_malformed != on {
            self.begin(memory);
            self.drop_malformed = on;
        }
    }

    /// Says whether somebody watches where malformed messages come from.
    pub(crate) fn set_watch_malformed(&mut self, memory: &Memory, on: bool) {
        if self.watch_malformed != on {
            self.begin(memory);
            self.watch_malformed = on;
        }
    }

    /// Whether others had changed rules, and nobody has asked this since.
    pub(crate) const fn take_caught_up(&mut self) -> bool {
        std::mem::replace(&mut self.sharing.caught_up, false)
    }

    /// Which kinds of rules there are, and the policy.
    pub(crate) fn policy(&self) -> Policy {
        let [[one, all], [one_below, all_below]] = self.named;
        let kinds = [
            (self.ipv4.len(), Kinds::IPV4),
            (self.ipv6.len(), Kinds::IPV6),
            (self.ranges4.len(), Kinds::RANGES4),
            (self.ranges6.len(), Kinds::RANGES6),
            (one, Kinds::QNAME_ONE_TYPE),
            (all, Kinds::QNAME_ALL_TYPES),
            (one_below, Kinds::SUFFIX_ONE_TYPE),
            (all_below, Kinds::SUFFIX_ALL_TYPES),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .fold(Kinds::NONE, |kinds, (_, kind)| kinds.and(kind));
        Policy::new(kinds, self.drop_malformed).watched(self.watch_malformed)
    }

    /// How many rules there are of this kind, those that have expired and still have their place included.
    pub(crate) fn count(&self, kind: Kind) -> u32 {
        let [exact, suffixes] = self.named.map(|[one, all]| one + all);
        match kind {
            Kind::Ipv4 => self.ipv4.len(),
            Kind::Ipv6 => self.ipv6.len(),
            Kind::Range4 => self.ranges4.len(),
            Kind::Range6 => self.ranges6.len(),
            Kind::Qname => exact,
            Kind::Suffix => suffixes,
        }
    }

    /// What became of the rules that are gone.
    pub(crate) const fn retired(&self) -> [Retired; Kind::ALL.len()] {
        self.retired
    }

    pub(super) const fn set_retired(&mut self, retired: [Retired; Kind::ALL.len()]) {
        self.retired = retired;
    }

    /// The rule for this match, unless it has expired. Who holds the writer sees it whole.
    #[expect(clippy::unused_self, reason = "nobody else changes rules meanwhile")]
    pub(crate) fn rule(&self, memory: &Memory, of: &Match) -> Option<RuleStats> {
        let now = clock::now();
        let found = Found::at(memory, Place::of(memory, of)?, now)?;
        if found.expired { None } else { found.read(memory, now) }
    }

    /// Who has made the rule for this match.
    #[expect(clippy::unused_self, reason = "nobody else changes rules meanwhile")]
    pub(crate) fn maker(&self, memory: &Memory, of: &Match) -> Option<Maker> {
        Place::of(memory, of).map(|place| place.cell(memory).maker())
    }

    /// Adds a rule, unless there is one for the same match that has not expired.
    pub(crate) fn insert(&mut self, memory: &Memory, of: &Match, terms: Terms) -> Result<(), Refusal> {
        if let Some(place) = Place::of(memory, of) {
            if !place.has_expired(memory, clock::now()) {
                return Err(Refusal::Duplicate);
            }
            self.remove_at(memory, place);
        }
        if self.count(of.kind()) >= self.sizes.of(of.kind()) {
            return Err(Refusal::Full);
        }
        self.begin(memory);
        match of {
            Match::Ipv4(address) => {
                let prefix = key::ipv4(*address, Ipv4Prefix::MAX_LEN);
                self.ipv4.insert_ipv4(&memory.ipv4, prefix, terms)?;
            }
            Match::Ipv6(address) => {
                let prefix = key::ipv6(*address, Ipv6Prefix::MAX_LEN);
                self.ipv6.insert_ipv6(&memory.ipv6, prefix, terms)?;
            }
            Match::Range4(net) => {
                let prefix = key::ipv4(net.network(), net.prefix_len());
                self.ranges4.insert_ipv4(&memory.ranges4, prefix, terms)?;
                self.remember(memory, memory.place(Shape::of_range(prefix.hash(memory.seed))));
                self.change_length(memory, Family::Ipv4, prefix.len, 1);
            }
            Match::Range6(net) => {
                let prefix = key::ipv6(net.network(), net.prefix_len());
                self.ranges6.insert_ipv6(&memory.ranges6, prefix, terms)?;
                self.remember(memory, memory.place(Shape::of_range(prefix.hash(memory.seed))));
                self.change_length(memory, Family::Ipv6, prefix.len, 1);
            }
            Match::Qname(name, qtypes) | Match::Suffix(name, qtypes) => {
                let selector = selector(of, *qtypes);
                let key = NameKey::of(name, memory.seed);
                let place = memory.place(key.shape(name, selector));
                // First the sieve: a bit too many costs a lookup, one too few would let a name through.
                self.remember(memory, place);
                let tag = selector.tag(key.message.digest(), memory.seed);
                let added = self.names.insert_name(
                    &memory.names,
                    (&mut self.blocks, &memory.blocks),
                    (name.as_wire(), tag),
                    terms,
                );
                if let Err(reason) = added {
                    self.forget(memory, place);
                    return Err(reason.into());
                }
                *self.named(selector) += 1;
            }
        }
        self.will_end(Which::of(of.kind()), terms.expires);
        Ok(())
    }

    /// Gives the rule for this match another action and end, if there is one that has not expired.
    pub(crate) fn change(&mut self, memory: &Memory, of: &Match, terms: Terms) -> bool {
        match Place::of(memory, of) {
            Some(place) if !place.has_expired(memory, clock::now()) => {
                self.begin(memory);
                place.cell(memory).change(terms);
                self.will_end(place.table, terms.expires);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Removes the rule for this match. One that has expired is gone already for whoever asks.
    pub(crate) fn remove(&mut self, memory: &Memory, of: &Match) -> bool {
        let Some(place) = Place::of(memory, of) else { return false };
        let expired = place.has_expired(memory, clock::now());
        self.remove_at(memory, place);
        !expired
    }

    /// Removes the rule for this match as if it had never been there.
    pub(crate) fn undo(&mut self, memory: &Memory, of: &Match) {
        let retired = self.retired;
        self.remove(memory, of);
        self.retired = retired;
    }

    /// Removes every rule.
    pub(crate) fn clear(&mut self, memory: &Memory) {
        for table in Which::ALL {
            for index in 0..table.len(memory) {
                let place = Place { table, index };
                if place.cell(memory).life().is_some() {
                    self.remove_at(memory, place);
                }
            }
        }
    }

    /// Starts the hit counters of all rules anew.
    pub(crate) fn reset_hits(&mut self, memory: &Memory) {
        self.begin(memory);
        for table in Which::ALL {
            for index in 0..table.len(memory) {
                let place = Place { table, index };
                if place.cell(memory).life().is_some() {
                    let hits = place.cell(memory).reset_hits();
                    self.retired[place.kind(memory) as usize].hits += hits;
                }
            }
        }
    }

    pub(super) fn remove_at(&mut self, memory: &Memory, place: Place) {
        self.begin(memory);
        let kind = place.kind(memory);
        match place.table {
            Which::Ipv4 => self.ipv4.remove(&memory.ipv4, place.node(&memory.ipv4)),
            Which::Ipv6 => self.ipv6.remove(&memory.ipv6, place.node(&memory.ipv6)),
            Which::Ranges4 => {
                let node: &Ipv4Node = place.node(&memory.ranges4);
                let prefix = node.prefix();
                self.ranges4.remove(&memory.ranges4, node);
                self.forget(memory, memory.place(Shape::of_range(prefix.hash(memory.seed))));
                self.change_length(memory, Family::Ipv4, prefix.len, -1);
            }
            Which::Ranges6 => {
                let node: &Ipv6Node = place.node(&memory.ranges6);
                let prefix = node.prefix();
                self.ranges6.remove(&memory.ranges6, node);
                self.forget(memory, memory.place(Shape::of_range(prefix.hash(memory.seed))));
                self.change_length(memory, Family::Ipv6, prefix.len, -1);
            }
            Which::Names => {
                let node: &NameNode = place.node(&memory.names);
                if let Some((wire, selector)) = node.name(&memory.blocks)
                    && let Ok(name) = crate::QName::from_wire(&wire)
                {
                    let place = memory.place(NameKey::of(&name, memory.seed).shape(&name, selector));
                    self.names.remove_name(&memory.names, (&mut self.blocks, &memory.blocks), node);
                    self.forget(memory, place);
                    *self.named(selector) -= 1;
                }
            }
        }
        let retired = &mut self.retired[kind as usize];
        retired.rules += 1;
        retired.hits += place.cell(memory).hits();
    }

    fn remember(&mut self, memory: &Memory, place: shape::Place) {
        self.sieve.add(place);
        set_bits(memory, place.word, place.bits, true);
    }

    fn forget(&mut self, memory: &Memory, place: shape::Place) {
        set_bits(memory, place.word, self.sieve.remove(place), false);
    }

    pub(super) fn named(&mut self, selector: Selector) -> &mut u32 {
        &mut self.named[usize::from(selector.is_suffix())][usize::from(selector.qtype().is_none())]
    }

    /// Counts a range of this length, and says so if it is the first or was the last one.
    fn change_length(&mut self, memory: &Memory, family: Family, len: u8, by: i32) {
        let count = &mut self.lengths[family as usize][usize::from(len)];
        let before = *count;
        *count = count.saturating_add_signed(by);
        if (before == 0) != (*count == 0)
            && let Some(control) = memory.control.first()
        {
            let lengths = &control.lengths[family as usize];
            if *count > 0 { lengths.add(len) } else { lengths.remove(len) }
        }
    }
}

fn set_bits(memory: &Memory, word: u32, bits: u64, present: bool) {
    if let Some(word) = memory.sieve.get(word as usize) {
        word.set(bits, present);
    }
}
