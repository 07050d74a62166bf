//! The rules in user space: for transports where the kernel cannot see the name, and for everything where the kernel
//! does not enforce. The decision itself is `ebpf-prog`'s; this is where it looks rules up.

use std::{
    hash::Hash,
    ops::Deref,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use dashmap::{
    DashMap,
    mapref::{
        entry::Entry,
        one::{MappedRef, Ref},
    },
};
use ebpf_prog::{
    Malformed as MalformedReason,
    decision::{Matched, Rules, Verdict, decide, decide_question, decide_source},
    layout::{Action, Ipv4Key, Ipv6Key, Kinds, Policy},
    message::{Message, Question},
    shape::Shape,
};

use crate::{Kind, Match, Qtypes, Query, query::Datagram, rule::Rule};

/// Rules can be looked up while they change; changes come one at a time (the filter sees to that).
#[derive(Debug)]
pub(crate) struct Engine {
    ipv4: DashMap<Ipv4Key, Stored>,
    ipv6: DashMap<Ipv6Key, Stored>,
    qnames: DashMap<Box<[u8]>, NameRules>,
    kinds: AtomicU32,
    drop_malformed: bool,
    malformed: [AtomicU64; MalformedReason::ALL.len()],
}

/// How many rules there are of each kind. Kept by whoever serialises the changes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    ipv4: usize,
    ipv6: usize,
    one_type: usize,
    all_types: usize,
}

impl Counts {
    pub(crate) const fn of(&self, kind: Kind) -> usize {
        match kind {
            Kind::Ipv4 => self.ipv4,
            Kind::Ipv6 => self.ipv6,
            Kind::Qname => self.one_type + self.all_types,
        }
    }

    pub(crate) fn kinds(&self) -> Kinds {
        [
            (self.ipv4, Kinds::IPV4),
            (self.ipv6, Kinds::IPV6),
            (self.one_type, Kinds::QNAME_ONE_TYPE),
            (self.all_types, Kinds::QNAME_ALL_TYPES),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .fold(Kinds::NONE, |kinds, (_, kind)| kinds.and(kind))
    }

    pub(crate) fn slot(&mut self, of: &Match) -> &mut usize {
        match of {
            Match::Ipv4(_) => &mut self.ipv4,
            Match::Ipv6(_) => &mut self.ipv6,
            Match::Qname(_, Qtypes::Only(_)) => &mut self.one_type,
            Match::Qname(_, Qtypes::All) => &mut self.all_types,
        }
    }
}

#[derive(Debug)]
struct Stored {
    action: Action,
    hits: AtomicU64,
}

impl Stored {
    const fn new(action: Action) -> Self {
        Self { action, hits: AtomicU64::new(0) }
    }
}

/// The rules for one name: rarely more than one.
#[derive(Debug, Default)]
struct NameRules(Vec<(u32, Stored)>);

impl NameRules {
    fn find(&self, qtypes: u32) -> Option<&Stored> {
        self.0.iter().find(|(of, _)| *of == qtypes).map(|(_, rule)| rule)
    }
}

impl Engine {
    pub(crate) fn new(drop_malformed: bool) -> Self {
        Self {
            ipv4: DashMap::new(),
            ipv6: DashMap::new(),
            qnames: DashMap::new(),
            kinds: AtomicU32::new(0),
            drop_malformed,
            malformed: Default::default(),
        }
    }

    /// `behind_kernel`: the kernel has let the query through by the same rules, as far as it could see them.
    pub(crate) fn check(&self, query: &Query<'_>, behind_kernel: bool) -> Verdict {
        let rules = &InForce {
            sources: Counting::behind(behind_kernel),
            names: Counting::behind(behind_kernel && query.is_plain_udp()),
            ..InForce::new(self)
        };
        if let Some(verdict) = decide_source(query.source(), rules) {
            return verdict;
        }
        if !rules.policy.kinds.any(Kinds::QNAMES) {
            return Verdict::Pass;
        }
        let (mut message, question) = Message::for_question(query.name().as_wire(), query.qtype());
        decide_question(&mut message, &question, rules).unwrap_or(Verdict::Pass)
    }

    pub(crate) fn check_datagram(&self, mut datagram: Datagram) -> Verdict {
        decide(&mut datagram, &InForce::new(self))
    }

    pub(crate) fn contains(&self, of: &Match) -> bool {
        match of {
            Match::Ipv4(address) => self.ipv4.contains_key(&(*address).into()),
            Match::Ipv6(address) => self.ipv6.contains_key(&(*address).into()),
            Match::Qname(name, qtypes) => {
                self.qnames.get(name.as_wire()).is_some_and(|rules| rules.find(qtypes.selector()).is_some())
            }
        }
    }

    /// Adds a rule, unless there is one for the same match.
    pub(crate) fn insert(&self, rule: &Rule) -> bool {
        let stored = Stored::new(rule.action);
        match &rule.matches {
            Match::Ipv4(address) => add(&self.ipv4, (*address).into(), stored),
            Match::Ipv6(address) => add(&self.ipv6, (*address).into(), stored),
            Match::Qname(name, qtypes) => {
                let mut rules = self.qnames.entry(name.as_wire().into()).or_default();
                let new = rules.find(qtypes.selector()).is_none();
                if new {
                    rules.0.reserve_exact(1);
                    rules.0.push((qtypes.selector(), stored));
                }
                new
            }
        }
    }

    pub(crate) fn remove_all(&self, rules: &[Rule]) {
        for rule in rules {
            self.remove(&rule.matches);
        }
    }

    pub(crate) fn remove(&self, of: &Match) {
        match of {
            Match::Ipv4(address) => drop(self.ipv4.remove(&(*address).into())),
            Match::Ipv6(address) => drop(self.ipv6.remove(&(*address).into())),
            Match::Qname(name, qtypes) => {
                let last = self.qnames.get_mut(name.as_wire()).is_some_and(|mut rules| {
                    rules.0.retain(|(of, _)| *of != qtypes.selector());
                    rules.0.is_empty()
                });
                if last {
                    self.qnames.remove(name.as_wire());
                }
            }
        }
    }

    pub(crate) fn clear(&self) {
        self.ipv4.clear();
        self.ipv6.clear();
        self.qnames.clear();
    }

    /// Says which kinds of rules there are. Lookups skip the others.
    pub(crate) fn set_kinds(&self, kinds: Kinds) {
        self.kinds.store(u32::from_ne_bytes(zerocopy::transmute!(kinds)), Ordering::Release);
    }

    /// Every rule with its hits in user space, in no particular order.
    pub(crate) fn rules(&self) -> Vec<(Rule, u64)> {
        let mut rules = Vec::new();
        let mut push = |matches, stored: &Stored| {
            rules.push((Rule::new(matches, stored.action), stored.hits.load(Ordering::Relaxed)));
        };
        for entry in &self.ipv4 {
            push(Match::Ipv4(entry.key().address()), entry.value());
        }
        for entry in &self.ipv6 {
            push(Match::Ipv6(entry.key().address()), entry.value());
        }
        for entry in &self.qnames {
            let Ok(name) = crate::QName::from_wire(entry.key()) else { continue };
            for (selector, stored) in &entry.value().0 {
                let qtypes = match u16::try_from(*selector) {
                    Ok(qtype) => Qtypes::Only(qtype),
                    Err(_) => Qtypes::All,
                };
                push(Match::Qname(name.clone(), qtypes), stored);
            }
        }
        rules
    }

    pub(crate) fn reset_hits(&self) {
        for entry in &self.ipv4 {
            entry.hits.store(0, Ordering::Relaxed);
        }
        for entry in &self.ipv6 {
            entry.hits.store(0, Ordering::Relaxed);
        }
        for entry in &self.qnames {
            for (_, stored) in &entry.0 {
                stored.hits.store(0, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn malformed(&self) -> [u64; MalformedReason::ALL.len()] {
        std::array::from_fn(|reason| self.malformed[reason].load(Ordering::Relaxed))
    }
}

/// Which matches are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    Every,
    /// Only those that drop: the kernel has counted what it let through.
    Drops,
}

impl Counting {
    const fn behind(kernel: bool) -> Self {
        if kernel { Self::Drops } else { Self::Every }
    }
}

fn add<K: Eq + Hash>(map: &DashMap<K, Stored>, key: K, rule: Stored) -> bool {
    match map.entry(key) {
        Entry::Occupied(_) => false,
        Entry::Vacant(place) => {
            place.insert(rule);
            true
        }
    }
}

/// The rules as one decision sees them.
struct InForce<'a> {
    engine: &'a Engine,
    policy: Policy,
    sources: Counting,
    names: Counting,
}

impl<'a> InForce<'a> {
    fn new(engine: &'a Engine) -> Self {
        let kinds = zerocopy::transmute!(engine.kinds.load(Ordering::Acquire).to_ne_bytes());
        let policy = Policy { kinds, drop_malformed: engine.drop_malformed.into() };
        Self { engine, policy, sources: Counting::Every, names: Counting::Every }
    }
}

impl<'a> Rules for InForce<'a> {
    type Address = Hit<AddressRef<'a>>;
    type Qname = Hit<MappedRef<'a, Box<[u8]>, NameRules, Stored>>;
    type Name = ();

    fn policy(&self) -> Policy {
        self.policy
    }

    fn ipv4(&self, source: &Ipv4Key) -> Option<Self::Address> {
        self.engine.ipv4.get(source).map(|rule| Hit(AddressRef::V4(rule), self.sources))
    }

    fn ipv6(&self, source: &Ipv6Key) -> Option<Self::Address> {
        self.engine.ipv6.get(source).map(|rule| Hit(AddressRef::V6(rule), self.sources))
    }

    /// Lookups are by the name itself and cheap: there is no table of shapes to ask first.
    fn may_know(&self, _shape: Shape) -> bool {
        true
    }

    fn digest(&self) {}

    fn qname(&self, message: &Message, question: &Question, (): &(), qtypes: u32) -> Option<Self::Qname> {
        let rules = self.engine.qnames.get(&message.name_bytes()[..question.name_len])?;
        rules.try_map(|rules| rules.find(qtypes)).ok().map(|rule| Hit(rule, self.names))
    }

    fn malformed(&self, reason: MalformedReason) {
        self.engine.malformed[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// A rule that matched, which nobody changes while this is held.
struct Hit<R>(R, Counting);

impl<R: Deref<Target = Stored>> Matched for Hit<R> {
    fn hit(&self) {
        let Self(rule, counting) = self;
        if *counting == Counting::Every || rule.action == Action::Drop {
            rule.hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn action(&self) -> Action {
        self.0.action
    }
}

/// A rule for an address of either kind.
enum AddressRef<'a> {
    V4(Ref<'a, Ipv4Key, Stored>),
    V6(Ref<'a, Ipv6Key, Stored>),
}

impl Deref for AddressRef<'_> {
    type Target = Stored;

    fn deref(&self) -> &Stored {
        match self {
            Self::V4(rule) => rule.value(),
            Self::V6(rule) => rule.value(),
        }
    }
}
