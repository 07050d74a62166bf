//! Takes filters through steps, and compares them with the statement after each.

use std::{
    fmt::{Debug, Display},
    net::IpAddr,
    time::{Duration, Instant},
};

use ebpf_filter::{
    Action, BpfFilter, Kind, Malformed, MalformedPosition, MalformedReason, Match, Mode, Query, Rule,
    RuleError, RuleStats, Stats, Verdict,
};

use super::{
    frame::{PAYLOAD_OFFSET, frame},
    question::Question,
    rules::{Decision, Entry, Model, Over, Refusal, Sizes},
    steps::Step,
    what::labels_of,
};

/// What is wrong.
pub type Failure = String;

/// Who counts at a filter in user space, and at one in the kernel.
const HOST: usize = 0;
const KERNEL: usize = 1;
const WHO: [&str; 2] = ["user space", "kernel"];

/// Sizes and policies that make a difference: room for a rule or two and none at all, or for as many as a test adds.
pub const WORLDS: [(Sizes, bool); 4] = [
    ([32; Kind::ALL.len()], false),
    ([32; Kind::ALL.len()], true),
    ([1, 2, 3, 0, 2, 3], false),
    ([2, 0, 1, 5, 3, 1], true),
];

/// Filters that must do the same, and the statement of what that is.
#[derive(Debug)]
pub struct Trial {
    /// First the one in user space, then the one in the kernel, if there is one.
    filters: Vec<BpfFilter>,
    sizes: Sizes,
    drop_malformed: bool,
    model: Model,
    /// How many messages were malformed for sure, and how many of them and others may have been counted.
    malformed: [(u64, u64); MalformedReason::ALL.len()],
    /// Where malformed messages came from while somebody watched, since that was compared last.
    sources: Vec<IpAddr>,
    /// How far each filter was asked about that.
    positions: Vec<MalformedPosition>,
    /// What was counted before.
    before: Vec<Stats>,
}

impl Trial {
    /// Filters without rules: one in user space, and one in the kernel on demand.
    ///
    /// # Panics
    ///
    /// If the kernel cannot.
    pub fn new(sizes: Sizes, drop_malformed: bool, kernel: bool) -> Self {
        let modes: &[_] = if kernel { &[Mode::Off, Mode::Require] } else { &[Mode::Off] };
        let [ipv4, ipv6, ranges4, ranges6, qnames, suffixes] = sizes;
        let build = |mode: &Mode| {
            BpfFilter::builder()
                .ipv4_max(ipv4)
                .ipv6_max(ipv6)
                .ranges4_max(ranges4)
                .ranges6_max(ranges6)
                .qnames_max(qnames)
                .suffixes_max(suffixes)
                .malformed(if drop_malformed { Malformed::Drop } else { Malformed::Pass })
                .payload_offset(PAYLOAD_OFFSET)
                .mode(*mode)
                .build()
                .expect("the kernel can")
        };
        let mut trial = Self {
            filters: modes.iter().map(build).collect(),
            sizes,
            drop_malformed,
            model: Model::new(sizes, drop_malformed),
            malformed: Default::default(),
            sources: Vec::new(),
            positions: Vec::new(),
            before: Vec::new(),
        };
        trial.begin();
        trial
    }

    /// The statement.
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// Takes the filters through these steps, from no rules on to none.
    ///
    /// # Errors
    ///
    /// If they do anything else than they must.
    pub fn run<'a>(&mut self, steps: impl IntoIterator<Item = &'a Step>) -> Result<(), Failure> {
        let outcome = steps.into_iter().try_for_each(|step| self.step(step)).and_then(|()| self.end());
        if outcome.is_err() {
            self.begin();
        }
        outcome
    }

    /// Starts anew, whatever came before.
    ///
    /// # Panics
    ///
    /// If the kernel fails.
    pub fn begin(&mut self) {
        self.model = Model::new(self.sizes, self.drop_malformed);
        self.malformed = Default::default();
        self.sources.clear();
        self.positions = self.filters.iter().map(BpfFilter::malformed_position).collect();
        self.before = self
            .filters
            .iter()
            .map(|filter| {
                filter.watch_malformed(false).expect("the kernel can");
                filter.clear().expect("the kernel can");
                filter.stats().expect("the kernel counts")
            })
            .collect();
    }

    /// Takes the filters through one step.
    ///
    /// # Errors
    ///
    /// If one of them does anything else than it must.
    pub fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Insert(rule) => {
                let expected = self.model.insert(rule);
                self.all(&expected, |filter| filter.insert(rule.clone()))?;
                pass(rule.expires_in);
            }
            Step::InsertMany(rules) => {
                let expected = self.model.insert_many(rules);
                self.all(&expected, |filter| filter.insert_many(rules.iter().cloned()))?;
                for rule in rules {
                    pass(rule.expires_in);
                }
            }
            Step::Replace(rule) => self.replace(rule)?,
            Step::ReplaceListed(which, action, expires_in) => {
                if let Some(matches) = self.listed(*which) {
                    self.replace(&Rule { matches, action: *action, expires_in: *expires_in })?;
                }
            }
            Step::Remove(of) => self.remove(of)?,
            Step::RemoveListed(which) => {
                if let Some(of) = self.listed(*which) {
                    self.remove(&of)?;
                }
            }
            Step::Clear => {
                self.model.clear();
                self.all(&Ok(()), BpfFilter::clear)?;
            }
            Step::ResetHits => {
                self.model.reset_hits();
                self.all(&Ok(()), |filter| Ok(filter.reset_hits()?))?;
            }
            Step::Watch(on) => {
                self.model.watched = *on;
                self.all(&Ok(()), |filter| Ok(filter.watch_malformed(*on)?))?;
            }
            Step::Packet(source, payload) => {
                let decision = self.decide(*source, &payload.0);
                let expected = self.model.verdict(&decision, HOST, Over::Udp);
                same(WHO[HOST], expected, self.filters[HOST].check_datagram(*source, &payload.0))?;
                self.in_kernel("dns_full", *source, &payload.0, &decision, Over::Udp)?;
                self.count(&decision, |_, _| true);
            }
            Step::Datagram(source, payload) => {
                let decision = self.decide(*source, &payload.0);
                for (counter, filter) in self.filters.iter().enumerate() {
                    let expected = self.model.verdict(&decision, counter, Over::Udp);
                    same(WHO[counter], expected, filter.check_datagram(*source, &payload.0))?;
                }
                self.count(&decision, |_, _| true);
            }
            Step::Query(source, name, qtype, plain_udp) => {
                let question = Question { name: labels_of(name), qtype: *qtype };
                let decision = self.model.decide_query(*source, &question);
                let lets_pass = self.model.lets_pass(*source);
                let query = Query::new(*source, name, *qtype);
                let query = if *plain_udp { query.over_plain_udp() } else { query };
                let over = if *plain_udp { [Over::Udp, Over::UdpBehindKernel] } else { [Over::Else; 2] };
                for (counter, filter) in self.filters.iter().enumerate() {
                    same("lets pass", lets_pass, filter.lets_pass(*source))?;
                    let expected = self.model.verdict(&decision, counter, over[counter]);
                    same(WHO[counter], expected, filter.check(&query))?;
                }
                // Behind the kernel, only what it cannot have seen is counted, and what it would have dropped.
                self.count(&decision, |counter, rule| {
                    let drops = matches!(rule.action, Action::Drop | Action::Slip(0));
                    counter == HOST || drops || rule.what.is_name() && !plain_udp
                });
            }
        }
        Ok(())
    }

    /// Compares all rules and counters.
    ///
    /// # Errors
    ///
    /// If anything differs.
    pub fn compare(&mut self) -> Result<(), Failure> {
        self.same_sources()?;
        for (counter, (filter, before)) in self.filters.iter().zip(&self.before).enumerate() {
            let stats = filter.stats().map_err(|error| error.to_string())?;
            self.same_rules(counter, &stats)?;
            for listed in &stats.rules {
                let found = filter.rule(&listed.rule.matches).map(|found| (found.rule.action, found.hits));
                same("the rule alone", Some((listed.rule.action, listed.hits)), found)?;
            }
            self.same_malformed(counter, before, &stats)?;
            for kind in Kind::ALL {
                let (expected, count) = (self.model.count(kind), filter.count(kind) as usize);
                if !expected.contains(&count) {
                    return Err(format!("{count} {kind} rules, expected {expected:?}"));
                }
            }
        }
        Ok(())
    }

    /// Compares all rules and counters, removes the rules, and compares what is left of them.
    ///
    /// # Errors
    ///
    /// If anything differs.
    pub fn end(&mut self) -> Result<(), Failure> {
        self.compare()?;
        self.step(&Step::Clear)?;
        self.step(&Step::Watch(false))?;
        let after: Result<Vec<_>, _> = self.filters.iter().map(BpfFilter::stats).collect();
        let after = after.map_err(|error| error.to_string())?;
        for kind in Kind::ALL {
            let mut gone = Vec::new();
            for (counter, (before, after)) in self.before.iter().zip(&after).enumerate() {
                same(kind, &[][..], &after.rules[..])?;
                let (before, after) = (before.retired(kind), after.retired(kind));
                let hits = self.model.retired_hits[kind as usize][counter];
                same(format!("hits of {kind} rules that are gone"), hits, after.hits - before.hits)?;
                gone.push(after.rules - before.rules);
            }
            same(format!("{kind} rules that are gone"), gone[HOST], gone[gone.len() - 1])?;
        }
        self.before = after;
        self.model = Model::new(self.sizes, self.drop_malformed);
        self.malformed = Default::default();
        Ok(())
    }

    /// What the program that sees sources alone does with a packet.
    ///
    /// # Errors
    ///
    /// If it does anything else than it must.
    pub fn address_only(&mut self, source: IpAddr, payload: &[u8]) -> Result<(), Failure> {
        let decision = self.model.decide_source(source);
        self.in_kernel("dns_address", source, payload, &decision, Over::Else)?;
        self.count(&decision, |counter, _| counter == KERNEL);
        Ok(())
    }

    fn listed(&self, which: usize) -> Option<Match> {
        let rules = self.model.rules();
        Some(rules.get(which % rules.len().max(1))?.what.to_match())
    }

    fn replace(&mut self, rule: &Rule) -> Result<(), Failure> {
        let expected = self.model.replace(rule);
        self.all(&expected, |filter| filter.replace(rule.clone()))?;
        pass(rule.expires_in);
        Ok(())
    }

    fn remove(&mut self, of: &Match) -> Result<(), Failure> {
        let expected = self.model.remove(of);
        self.all(&expected, |filter| filter.remove(of))
    }

    /// Changes all filters, which must say what is expected of them.
    fn all<T: PartialEq + Debug>(
        &self,
        expected: &Result<T, Refusal>,
        change: impl Fn(&BpfFilter) -> Result<T, RuleError>,
    ) -> Result<(), Failure> {
        self.filters
            .iter()
            .try_for_each(|filter| same("change", expected, &change(filter).map_err(Refusal::of)))
    }

    fn decide(&mut self, source: IpAddr, payload: &[u8]) -> Decision {
        let decision = self.model.decide(source, payload);
        if let Some(reason) = decision.malformed {
            let (certain, possible) = &mut self.malformed[reason as usize];
            *certain += u64::from(self.model.counts_malformed());
            *possible += 1;
            if self.model.watched {
                self.sources.push(source.to_canonical());
            }
        }
        decision
    }

    fn in_kernel(
        &self,
        program: &str,
        source: IpAddr,
        payload: &[u8],
        decision: &Decision,
        over: Over,
    ) -> Result<(), Failure> {
        let Some(filter) = self.filters.get(KERNEL) else { return Ok(()) };
        let returned = match self.model.verdict(decision, KERNEL, over) {
            Verdict::Drop => 0,
            Verdict::Pass | Verdict::Truncate | Verdict::Refused | Verdict::NxDomain => u32::MAX,
        };
        same(program, Some(returned), filter.run_in_kernel(program, &frame(source, payload)))
    }

    /// Counts a packet at all filters, as far as `counts` says of a filter and a rule that it does.
    fn count(&mut self, decision: &Decision, counts: impl Fn(usize, &Entry) -> bool) {
        for counter in 0..self.filters.len() {
            self.model.count_hits(counter, decision, |rule| counts(counter, rule));
        }
    }

    fn same_rules(&self, counter: usize, stats: &Stats) -> Result<(), Failure> {
        let listed: Vec<_> = stats
            .rules
            .iter()
            .map(|RuleStats { rule: Rule { matches, action, expires_in }, hits, .. }| {
                (matches.clone(), *action, expires_in.is_some(), *hits)
            })
            .collect();
        let expected: Vec<_> = self
            .model
            .rules()
            .iter()
            .map(|rule| (rule.what.to_match(), rule.action, rule.ends, rule.hits[counter]))
            .collect();
        same(format!("{}: rules (match, action, whether it ends, hits)", WHO[counter]), expected, listed)
    }

    fn same_sources(&mut self) -> Result<(), Failure> {
        let expected: Vec<_> =
            std::mem::take(&mut self.sources).into_iter().map(|source| (source, 1)).collect();
        for (counter, (filter, position)) in self.filters.iter().zip(&mut self.positions).enumerate() {
            let mut found = Vec::new();
            filter.malformed_sources(position, |source, weight| found.push((source, weight)));
            same(format!("{}: sources of malformed messages", WHO[counter]), &expected, &found)?;
        }
        Ok(())
    }

    fn same_malformed(&self, counter: usize, before: &Stats, after: &Stats) -> Result<(), Failure> {
        for reason in MalformedReason::ALL {
            let (certain, possible) = self.malformed[reason as usize];
            let times = after.malformed(reason) - before.malformed(reason);
            if !(certain..=possible).contains(&times) {
                let who = WHO[counter];
                return Err(format!("{who}: {times} times {reason:?}, expected {certain} to {possible}"));
            }
        }
        Ok(())
    }
}

#[allow(clippy::needless_pass_by_value, reason = "callers read better")]
fn same<T: PartialEq + Debug>(what: impl Display, expected: T, found: T) -> Result<(), Failure> {
    if expected == found { Ok(()) } else { Err(format!("{what}: expected {expected:?}, found {found:?}")) }
}

/// Waits until a rule with such a time to live has ended, unless it outlasts the test.
fn pass(time: Option<Duration>) {
    let Some(time) = time.filter(|time| *time < Duration::from_secs(1)) else { return };
    let begin = Instant::now();
    while begin.elapsed() <= time {}
}
