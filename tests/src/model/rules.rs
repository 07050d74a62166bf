//! The rules in force: changing them, and deciding by them.

use std::{net::IpAddr, time::Duration};

use ebpf_filter::{Action, Kind, MalformedReason, Match, Rule, RuleError, Verdict};

use super::{
    question::{self, Question},
    what::{Turn, What},
};

/// How many rules of each kind there may be, in the order of [`Kind::ALL`].
pub type Sizes = [u32; Kind::ALL.len()];

/// Who counts: user space and the kernel, each with rules of its own.
pub const COUNTERS: usize = 2;

/// A rule.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it matches.
    pub what: What,
    /// What it does.
    pub action: Action,
    /// Whether it ends some day.
    pub ends: bool,
    /// How many packets it has matched since it was added or reset.
    pub hits: [u64; COUNTERS],
}

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Rules of this kind are not used.
    NotUsed(Kind),
    /// There is such a rule.
    Duplicate(Match),
    /// There is none.
    Missing(Match),
    /// There is room for so many.
    Full(Kind, u32),
}

impl Refusal {
    /// What the library says.
    ///
    /// # Panics
    ///
    /// If that is something else.
    pub fn of(error: RuleError) -> Self {
        match error {
            RuleError::KindNotUsed(kind) => Self::NotUsed(kind),
            RuleError::Duplicate(of) => Self::Duplicate(of),
            RuleError::Missing(of) => Self::Missing(of),
            RuleError::Full { kind, max } => Self::Full(kind, max),
            RuleError::NamesTooLong { .. }
            | RuleError::SlipTooLarge { .. }
            | RuleError::NotInFormat { .. }
            | RuleError::Kernel(_) => {
                panic!("{error}")
            }
            _ => panic!("unknown: {error}"),
        }
    }
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is done with it.
    pub action: Action,
    /// The rules that matched it, up to the one that decided: where they are in the list.
    pub matched: Vec<usize>,
    /// What is wrong with its message.
    pub malformed: Option<MalformedReason>,
}

/// How a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// As plain DNS over UDP, to whoever decides first.
    Udp,
    /// Likewise, but the kernel has decided before.
    UdpBehindKernel,
    /// Over TCP, or so.
    Else,
}

/// What there is of the rules, and of all that there were.
#[derive(Clone, Debug)]
pub struct Model {
    sizes: Sizes,
    drop_malformed: bool,
    /// Whether somebody watches where malformed messages come from.
    pub watched: bool,
    rules: Vec<Entry>,
    /// Rules that have expired, and may still have a place.
    lingering: Vec<What>,
    /// Hits of rules that are gone, and hits before a reset, by kind.
    pub retired_hits: [[u64; COUNTERS]; Kind::ALL.len()],
}

impl Model {
    /// No rules.
    pub const fn new(sizes: Sizes, drop_malformed: bool) -> Self {
        Self {
            sizes,
            drop_malformed,
            watched: false,
            rules: Vec::new(),
            lingering: Vec::new(),
            retired_hits: [[0; COUNTERS]; Kind::ALL.len()],
        }
    }

    /// The rules in the order of lists of them.
    pub fn rules(&self) -> &[Entry] {
        &self.rules
    }

    /// The least and the most that the library may say there are of this kind: some may have expired just now.
    pub fn count(&self, kind: Kind) -> std::ops::RangeInclusive<usize> {
        let live = self.rules.iter().filter(|rule| rule.what.kind() == kind).count();
        live..=live + self.lingering.iter().filter(|what| what.kind() == kind).count()
    }

    /// Adds a rule.
    ///
    /// # Errors
    ///
    /// If it cannot be added.
    pub fn insert(&mut self, rule: &Rule) -> Result<(), Refusal> {
        let what = What::of(&rule.matches);
        let kind = what.kind();
        self.used(kind)?;
        let Err(place) = self.place(&what) else { return Err(Refusal::Duplicate(what.to_match())) };
        let max = self.sizes[kind as usize];
        if *self.count(kind).start() >= max as usize {
            return Err(Refusal::Full(kind, max));
        }
        self.lingering.retain(|other| *other != what);
        let ends = ends(rule.expires_in);
        self.rules.insert(place, Entry { what, action: rule.action, ends, hits: [0; COUNTERS] });
        self.expire_at(place, rule.expires_in);
        Ok(())
    }

    /// Adds all of these rules or none.
    ///
    /// # Errors
    ///
    /// If one of them cannot be added.
    pub fn insert_many(&mut self, rules: &[Rule]) -> Result<(), Refusal> {
        for rule in rules {
            self.used(What::of(&rule.matches).kind())?;
        }
        let before = self.clone();
        let outcome = rules.iter().try_for_each(|rule| self.insert(rule));
        if outcome.is_err() {
            *self = before;
        }
        outcome
    }

    /// Adds a rule, or changes the one for the same match, and says whether there was one.
    ///
    /// # Errors
    ///
    /// If it cannot be added.
    pub fn replace(&mut self, rule: &Rule) -> Result<bool, Refusal> {
        let what = What::of(&rule.matches);
        let Ok(place) = self.place(&what) else { return self.insert(rule).map(|()| false) };
        let entry = &mut self.rules[place];
        entry.action = rule.action;
        entry.ends = ends(rule.expires_in);
        self.expire_at(place, rule.expires_in);
        Ok(true)
    }

    /// Removes a rule.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn remove(&mut self, of: &Match) -> Result<(), Refusal> {
        let what = What::of(of);
        self.used(what.kind())?;
        self.lingering.retain(|other| *other != what);
        let place = self.place(&what).map_err(|_| Refusal::Missing(what.to_match()))?;
        self.retire(place);
        Ok(())
    }

    /// Removes every rule.
    pub fn clear(&mut self) {
        while !self.rules.is_empty() {
            self.retire(self.rules.len() - 1);
        }
        self.lingering.clear();
    }

    /// Starts the counters of all rules anew.
    pub fn reset_hits(&mut self) {
        for Entry { what, hits, .. } in &mut self.rules {
            for (total, hits) in self.retired_hits[what.kind() as usize].iter_mut().zip(hits) {
                *total += std::mem::take(hits);
            }
        }
    }

    fn used(&self, kind: Kind) -> Result<(), Refusal> {
        if self.sizes[kind as usize] == 0 { Err(Refusal::NotUsed(kind)) } else { Ok(()) }
    }

    fn place(&self, what: &What) -> Result<usize, usize> {
        self.rules.binary_search_by(|rule| rule.what.cmp(what))
    }

    fn retire(&mut self, place: usize) -> What {
        let Entry { what, hits, .. } = self.rules.remove(place);
        for (total, hits) in self.retired_hits[what.kind() as usize].iter_mut().zip(hits) {
            *total += hits;
        }
        what
    }

    /// A rule that lasts for less than a second has ended when anybody looks. All others outlast the test.
    fn expire_at(&mut self, place: usize, expires_in: Option<Duration>) {
        if expires_in.is_some_and(|time| time < Duration::from_secs(1)) {
            let what = self.retire(place);
            self.lingering.push(what);
        }
    }
}

impl Model {
    /// Decides on a packet by its source alone.
    pub fn decide_source(&self, source: IpAddr) -> Decision {
        let mut decision = Decision { action: Action::Pass, matched: Vec::new(), malformed: None };
        self.ask(&mut decision, |what| what.turn_for_source(source));
        decision
    }

    /// Whether it is a rule for this source that lets it pass.
    pub fn lets_pass(&self, source: IpAddr) -> bool {
        let last = self.decide_source(source).matched.last().copied();
        last.is_some_and(|place| self.rules[place].action == Action::Pass)
    }

    /// Decides on a packet.
    pub fn decide(&self, source: IpAddr, message: &[u8]) -> Decision {
        let mut decision = Decision { action: Action::Pass, matched: Vec::new(), malformed: None };
        if self.ask(&mut decision, |what| what.turn_for_source(source)) || !self.reads_messages() {
            return decision;
        }
        let question = question::read(message);
        decision.malformed = if question::is_response(message) {
            Some(MalformedReason::Response)
        } else {
            question.as_ref().err().copied()
        };
        if decision.malformed.is_some() && self.drop_malformed {
            decision.action = Action::Drop;
        } else if let Ok(Question { name, qtype }) = question {
            self.ask(&mut decision, |what| what.turn_for_name(&name, qtype));
        }
        decision
    }

    /// Decides on a query that somebody has decoded.
    pub fn decide_query(&self, source: IpAddr, Question { name, qtype }: &Question) -> Decision {
        let mut decision = Decision { action: Action::Pass, matched: Vec::new(), malformed: None };
        if !self.ask(&mut decision, |what| what.turn_for_source(source)) {
            self.ask(&mut decision, |what| what.turn_for_name(name, *qtype));
        }
        decision
    }

    /// What becomes of a packet that has not been counted yet.
    pub fn verdict(&self, decision: &Decision, counter: usize, over: Over) -> Verdict {
        let nth = decision.matched.last().map_or(0, |place| self.rules[*place].hits[counter] + 1);
        match (decision.action, over) {
            (Action::Truncate | Action::Slip(_), Over::Else) | (Action::Pass | Action::Count, _) => {
                Verdict::Pass
            }
            (Action::Drop, _) | (Action::Slip(0), Over::Udp | Over::UdpBehindKernel) => Verdict::Drop,
            (Action::Slip(every), Over::Udp) if !nth.is_multiple_of(every.into()) => Verdict::Drop,
            (Action::Truncate | Action::Slip(_), Over::Udp | Over::UdpBehindKernel) => Verdict::Truncate,
            (Action::Refused, _) => Verdict::Refused,
            (Action::NxDomain, _) => Verdict::NxDomain,
        }
    }

    /// Counts a packet at the rules that matched it, as far as `counts` says so.
    pub fn count_hits(&mut self, counter: usize, decision: &Decision, counts: impl Fn(&Entry) -> bool) {
        for place in &decision.matched {
            let rule = &mut self.rules[*place];
            if counts(rule) {
                rule.hits[counter] += 1;
            }
        }
    }

    /// Whether what is wrong with messages is counted for sure. With rules for names that have expired it may be, until they
    /// are cleared away.
    pub fn counts_malformed(&self) -> bool {
        self.drop_malformed || self.watched || self.rules.iter().any(|rule| rule.what.is_name())
    }

    fn reads_messages(&self) -> bool {
        self.counts_malformed() || self.lingering.iter().any(What::is_name)
    }

    /// Asks the rules that match, and says whether one has decided.
    fn ask(&self, decision: &mut Decision, turn: impl Fn(&What) -> Option<Turn>) -> bool {
        let mut asked: Vec<(Turn, usize)> = self
            .rules
            .iter()
            .enumerate()
            .filter_map(|(place, rule)| Some((turn(&rule.what)?, place)))
            .collect();
        asked.sort_unstable();
        for (_, place) in asked {
            decision.matched.push(place);
            if self.rules[place].action != Action::Count {
                decision.action = self.rules[place].action;
                return true;
            }
        }
        false
    }
}

/// Whether a rule with this time to live ends at all: centuries are for ever.
fn ends(time: Option<Duration>) -> bool {
    const CENTURY: u64 = 100 * 365 * 24 * 60 * 60;
    time.is_some_and(|time| time.as_secs() < 5 * CENTURY)
}
