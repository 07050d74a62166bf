//! Changing rules, one change at a time.

use ebpf_prog::{
    decision::Family,
    layout::{Kinds, Policy},
    names::{Blocks, NameNode, NoBlocks, Selector},
    rule::{Action, Ipv4Node, Ipv4Prefix, Ipv6Node, Ipv6Prefix},
    shape::{self, Shape},
    table::{Table, TableFull},
};

use super::{
    key::{self, NameKey},
    memory::Memory,
    place::{Place, Which, selector},
    reading::Found,
    sieve::SieveCounts,
};
use crate::{Kind, Match, Retired, RuleStats, clock, sizes::Sizes};

/// What is needed to change rules. Whoever has it is the only one who does.
#[derive(Debug)]
pub(crate) struct Writer {
    sizes: Sizes,
    drop_malformed: bool,
    /// Whether somebody watches where malformed messages come from.
    pub(crate) watch_malformed: bool,
    ipv4: Table,
    ipv6: Table,
    ranges4: Table,
    ranges6: Table,
    names: Table,
    blocks: Blocks,
    sieve: SieveCounts,
    /// How many ranges there are of each length.
    lengths: [Box<[u32]>; 2],
    /// How many rules there are for names: exact and suffixes, one type and all.
    named: [[u32; 2]; 2],
    retired: [Retired; Kind::ALL.len()],
    /// Before this, no rule of each table ends.
    soonest: [u64; Which::ALL.len()],
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
            #[cfg(test)]
            scans: 0,
        }
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

    /// The rule for this match, unless it has expired. Who holds the writer sees it whole.
    #[expect(clippy::unused_self, reason = "nobody else changes rules meanwhile")]
    pub(crate) fn rule(&self, memory: &Memory, of: &Match) -> Option<RuleStats> {
        let now = clock::now();
        let found = Found::at(memory, Place::of(memory, of)?, now)?;
        if found.expired { None } else { found.read(memory, now) }
    }

    /// Adds a rule, unless there is one for the same match that has not expired.
    pub(crate) fn insert(
        &mut self,
        memory: &Memory,
        of: &Match,
        action: Action,
        expires: u64,
    ) -> Result<(), Refusal> {
        if let Some(place) = Place::of(memory, of) {
            if !place.has_expired(memory, clock::now()) {
                return Err(Refusal::Duplicate);
            }
            self.remove_at(memory, place);
        }
        if self.count(of.kind()) >= self.sizes.of(of.kind()) {
            return Err(Refusal::Full);
        }
        match of {
            Match::Ipv4(address) => {
                let prefix = key::ipv4(*address, Ipv4Prefix::MAX_LEN);
                self.ipv4.insert_ipv4(&memory.ipv4, prefix, action, expires)?;
            }
            Match::Ipv6(address) => {
                let prefix = key::ipv6(*address, Ipv6Prefix::MAX_LEN);
                self.ipv6.insert_ipv6(&memory.ipv6, prefix, action, expires)?;
            }
            Match::Range4(net) => {
                let prefix = key::ipv4(net.network(), net.prefix_len());
                self.ranges4.insert_ipv4(&memory.ranges4, prefix, action, expires)?;
                self.remember(memory, memory.place(Shape::of_range(prefix.hash(memory.seed))));
                self.change_length(memory, Family::Ipv4, prefix.len, 1);
            }
            Match::Range6(net) => {
                let prefix = key::ipv6(net.network(), net.prefix_len());
                self.ranges6.insert_ipv6(&memory.ranges6, prefix, action, expires)?;
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
                    action,
                    expires,
                );
                if let Err(reason) = added {
                    self.forget(memory, place);
                    return Err(reason.into());
                }
                *self.named(selector) += 1;
            }
        }
        self.will_end(Which::of(of.kind()), expires);
        Ok(())
    }

    /// Gives the rule for this match another action and end, if there is one that has not expired.
    pub(crate) fn change(&mut self, memory: &Memory, of: &Match, action: Action, expires: u64) -> bool {
        match Place::of(memory, of) {
            Some(place) if !place.has_expired(memory, clock::now()) => {
                place.cell(memory).change(action, expires);
                self.will_end(place.table, expires);
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

    /// Removes what has ended by now, up to so many rules of this kind from this place on. Says where to go on.
    pub(crate) fn reap(&mut self, memory: &Memory, table: Which, from: u32, places: u32, now: u64) -> Reaped {
        let mut reaped = Reaped { next: None, soonest: None, removed: 0 };
        let end = from.saturating_add(places).min(table.len(memory));
        for index in from..end {
            let place = Place { table, index };
            let cell = place.cell(memory);
            if cell.life().is_none() || cell.expires() == clock::NEVER {
                continue;
            }
            if cell.expires() <= now {
                self.remove_at(memory, place);
                reaped.removed += 1;
            } else {
                reaped.soonest =
                    Some(reaped.soonest.map_or(cell.expires(), |at: u64| at.min(cell.expires())));
            }
        }
        reaped.next = (end < table.len(memory)).then_some(end);
        if from == 0 && reaped.next.is_none() {
            self.soonest[table as usize] = reaped.soonest.unwrap_or(u64::MAX);
        }
        reaped
    }

    /// Removes what has ended by now of the rules that share a table with those of this kind, and says whether that was
    /// any. Without a look at the table if none can have.
    pub(crate) fn make_room(&mut self, memory: &Memory, kind: Kind, now: u64) -> bool {
        let table = Which::of(kind);
        if now < self.soonest[table as usize] {
            return false;
        }
        #[cfg(test)]
        {
            self.scans += 1;
        }
        self.reap(memory, table, 0, u32::MAX, now).removed > 0
    }

    fn will_end(&mut self, table: Which, expires: u64) {
        if expires != clock::NEVER {
            let soonest = &mut self.soonest[table as usize];
            *soonest = expires.min(*soonest);
        }
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

    fn remove_at(&mut self, memory: &Memory, place: Place) {
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

    fn named(&mut self, selector: Selector) -> &mut u32 {
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

/// What a round of removing has done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reaped {
    /// Where to go on, if the table has more places.
    pub(crate) next: Option<u32>,
    /// When the next of the rules that it has seen ends.
    pub(crate) soonest: Option<u64>,
    pub(crate) removed: u32,
}

fn set_bits(memory: &Memory, word: u32, bits: u64, present: bool) {
    if let Some(word) = memory.sieve.get(word as usize) {
        word.set(bits, present);
    }
}
