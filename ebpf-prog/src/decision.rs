//! The decision: what happens to a packet.
//!
//! Rules are asked in a fixed order and the first hit decides: source address; ranges of sources, the longest prefix
//! first; the name with this type, then with every type; its suffixes, the longest first, likewise. A rule that only
//! counts does not decide, and the search goes on; a rule that has expired is no rule.

use core::ops::ControlFlow;

use crate::{
    layout::{Kinds, Policy},
    lengths::Lengths,
    malformed::Malformed,
    message::{Message, Question},
    names::{Block, NameNode, Selector},
    rule::{Action, Cell, Ipv4Node, Ipv4Prefix, Ipv6Node, Ipv6Prefix, Seed},
    shape::Shape,
    table::{Bucket, Node, Slots},
    turns::{Search, Turns},
};

/// What happens to a packet. The numbers are those of the [`Action`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Verdict {
    /// The application gets it.
    Pass = Action::Pass as u8,
    /// Nobody gets it.
    Drop = Action::Drop as u8,
    /// The application gets it, and answers with TC=1 and nothing else.
    Truncate = Action::Truncate as u8,
    /// The application gets it, and answers REFUSED.
    Refused = Action::Refused as u8,
    /// The application gets it, and answers NXDOMAIN.
    NxDomain = Action::NxDomain as u8,
}

impl Verdict {
    /// What an action comes to, unless the search goes on.
    #[inline(always)]
    #[must_use]
    pub const fn of(action: Action) -> Option<Self> {
        match action {
            Action::Count => None,
            Action::Pass => Some(Self::Pass),
            Action::Drop => Some(Self::Drop),
            Action::Truncate => Some(Self::Truncate),
            Action::Refused => Some(Self::Refused),
            Action::NxDomain => Some(Self::NxDomain),
        }
    }
}

/// Which protocol a packet came over. No rule matches a packet of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4, also where a dual-stack socket shows the source as v4-mapped.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// What came from some address.
pub trait Sourced {
    /// Whether the packet came over this protocol.
    fn is(&self, family: Family) -> bool;

    /// The source of an IPv4 packet: the number that is in network order on the wire.
    fn ipv4_source(&self) -> Option<u64>;

    /// The source of an IPv6 packet: the two numbers that are in network order on the wire.
    fn ipv6_source(&self) -> Option<[u64; 2]>;
}

/// A packet that waits for its decision.
pub trait Packet: Sourced {
    /// Loads the DNS message, and says how many bytes of it are there.
    ///
    /// # Errors
    ///
    /// [`Malformed::TooShort`] if there is no DNS header in it.
    fn message(&mut self) -> Result<(&mut Message, usize), Malformed>;
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Where the packet came from.
    Source,
    /// What it asks for.
    Name,
}

/// The rules in force, and the world that they are in.
pub trait Rules<'a>: Turns {
    /// Which kinds of rules there are, and the policies.
    fn policy(&self) -> Policy;

    /// What hashes start from.
    fn seed(&self) -> Seed;

    /// `CLOCK_MONOTONIC` in nanoseconds. Only rules that end ask for it, once they have matched.
    fn now(&self) -> u64;

    /// Rules for exact IPv4 sources.
    fn ipv4(&self) -> impl Slots<'a, Ipv4Node>;

    /// Rules for exact IPv6 sources.
    fn ipv6(&self) -> impl Slots<'a, Ipv6Node>;

    /// Rules for ranges of IPv4 sources.
    fn ranges4(&self) -> impl Slots<'a, Ipv4Node>;

    /// Rules for ranges of IPv6 sources.
    fn ranges6(&self) -> impl Slots<'a, Ipv6Node>;

    /// The lengths of prefixes that ranges of IPv4 and of IPv6 sources have.
    fn lengths(&self) -> Option<[&'a Lengths; 2]>;

    /// Rules for names, exact ones and suffixes.
    fn names(&self) -> impl Slots<'a, NameNode>;

    /// The ends of long names.
    fn blocks(&self) -> impl Slots<'a, Block>;

    /// Whether there may be a rule for a name, a suffix or a range of this shape. It may say so of any, but must of those
    /// with rules.
    fn may_know(&self, shape: Shape) -> bool;

    /// Whether a match counts as a hit of a rule about this that does that.
    fn counts(&self, subject: Subject, action: Action) -> bool;

    /// Counts a message that is no well-formed query.
    fn malformed(&self, reason: Malformed);
}

/// Decides on a packet that carries a DNS message.
///
/// Nothing is parsed unless a rule or a policy needs it.
#[inline(always)]
pub fn decide<'a, R: Rules<'a>>(packet: &mut impl Packet, rules: &R) -> Verdict {
    if let Some(verdict) = decide_source(packet, rules) {
        return verdict;
    }
    let policy = rules.policy();
    if !policy.reads_messages() {
        return Verdict::Pass;
    }
    match read(packet, rules) {
        Ok((message, question)) => decide_question(message, &question, rules).unwrap_or(Verdict::Pass),
        Err(_) if policy.drops_malformed() => Verdict::Drop,
        Err(_) => Verdict::Pass,
    }
}

/// Reads the question, and counts what is wrong with the message. A response is decided like a query unless it is to be
/// dropped: a bit in the header is no way around a rule.
#[inline(always)]
fn read<'p, 'a, R: Rules<'a>>(
    packet: &'p mut impl Packet,
    rules: &R,
) -> Result<(&'p mut Message, Question), Malformed> {
    let (message, loaded) = packet.message().inspect_err(|reason| rules.malformed(*reason))?;
    let question = message.question(loaded);
    if message.is_response() {
        rules.malformed(Malformed::Response);
        if rules.policy().drops_malformed() {
            return Err(Malformed::Response);
        }
    } else if let Err(reason) = question {
        rules.malformed(reason);
    }
    question.map(|question| (message, question))
}

/// Decides by the source of a packet alone.
#[inline(always)]
pub fn decide_source<'a, R: Rules<'a>>(packet: &impl Sourced, rules: &R) -> Option<Verdict> {
    let kinds = rules.policy().kinds();
    if kinds.any(Kinds::SOURCES4) && packet.is(Family::Ipv4) {
        let source = packet.ipv4_source()?;
        if kinds.any(Kinds::IPV4)
            && let Some(verdict) = decide_ipv4(rules, source)
        {
            return Some(verdict);
        }
        if kinds.any(Kinds::RANGES4) {
            let [lengths, _] = rules.lengths()?;
            return search_lengths::<R>(lengths, move |len| {
                let prefix = Ipv4Prefix::of(source, len);
                let bucket = range_bucket(rules, rules.ranges4(), prefix.hash(rules.seed()))?;
                search_bucket::<R, _>(rules.ranges4(), bucket, rules.seed(), |node| {
                    ask_ipv4(rules, node, prefix)
                })
            });
        }
    } else if kinds.any(Kinds::SOURCES6) && packet.is(Family::Ipv6) {
        let source = packet.ipv6_source()?;
        if kinds.any(Kinds::IPV6)
            && let Some(verdict) = decide_ipv6(rules, source)
        {
            return Some(verdict);
        }
        if kinds.any(Kinds::RANGES6) {
            let [_, lengths] = rules.lengths()?;
            return search_lengths::<R>(lengths, move |len| {
                let prefix = Ipv6Prefix::of(source, len);
                let bucket = range_bucket(rules, rules.ranges6(), prefix.hash(rules.seed()))?;
                search_bucket::<R, _>(rules.ranges6(), bucket, rules.seed(), |node| {
                    ask_ipv6(rules, node, prefix)
                })
            });
        }
    }
    None
}

#[inline(always)]
fn decide_ipv4<'a, R: Rules<'a>>(rules: &R, source: u64) -> Option<Verdict> {
    let prefix = Ipv4Prefix::of(source, Ipv4Prefix::MAX_LEN);
    let bucket = Bucket::of(rules.ipv4(), prefix.hash(rules.seed()))?;
    // The first rule is mostly the only one, and this is what floods of packets come to: no loop for it.
    if let ControlFlow::Break(verdict) = ask_ipv4(rules, bucket.first(rules.ipv4())?, prefix) {
        return verdict;
    }
    search_bucket::<R, _>(rules.ipv4(), bucket, rules.seed(), |node| ask_ipv4(rules, node, prefix))
}

#[inline(always)]
fn decide_ipv6<'a, R: Rules<'a>>(rules: &R, source: [u64; 2]) -> Option<Verdict> {
    let prefix = Ipv6Prefix::of(source, Ipv6Prefix::MAX_LEN);
    let bucket = Bucket::of(rules.ipv6(), prefix.hash(rules.seed()))?;
    search_bucket::<R, _>(rules.ipv6(), bucket, rules.seed(), |node| ask_ipv6(rules, node, prefix))
}

#[inline(always)]
fn ask_ipv4<'a, R: Rules<'a>>(rules: &R, node: &Ipv4Node, prefix: Ipv4Prefix) -> Search {
    if !node.is(prefix) {
        return ControlFlow::Continue(());
    }
    ControlFlow::Break(apply(rules, Subject::Source, node.cell()))
}

#[inline(always)]
fn ask_ipv6<'a, R: Rules<'a>>(rules: &R, node: &Ipv6Node, prefix: Ipv6Prefix) -> Search {
    if !node.is(prefix) {
        return ControlFlow::Continue(());
    }
    ControlFlow::Break(apply(rules, Subject::Source, node.cell()))
}

/// The bucket of a range with this hash, if the sieve may know of one.
#[inline(always)]
fn range_bucket<'a, R: Rules<'a>, N: Node + 'a>(
    rules: &R,
    table: impl Slots<'a, N>,
    hash: u32,
) -> Option<Bucket> {
    if rules.may_know(Shape::of_range(hash)) { Bucket::of(table, hash) } else { None }
}

/// Asks for each length of a prefix that ranges have, the longest first.
#[inline(always)]
#[allow(clippy::cast_possible_truncation, reason = "a place is a byte")]
fn search_lengths<'a, R: Rules<'a>>(
    lengths: &Lengths,
    ask: impl Fn(u8) -> Option<Verdict>,
) -> Option<Verdict> {
    let mut before = 0;
    R::search(Lengths::PLACES, move |index| {
        let place = u64::from(lengths.place(index));
        if place == 0 {
            return ControlFlow::Break(None);
        }
        // A hole repeats what is behind it.
        if place == before {
            return ControlFlow::Continue(());
        }
        before = place;
        unless_found(ask((place - 1) as u8))
    })
}

/// Goes through a bucket until `ask` breaks.
#[inline(always)]
fn search_bucket<'a, R: Rules<'a>, N: Node + 'a>(
    table: impl Slots<'a, N>,
    mut bucket: Bucket,
    seed: Seed,
    ask: impl Fn(&N) -> Search,
) -> Option<Verdict> {
    if bucket.is_done() {
        return None;
    }
    R::search(Bucket::MAX_TURNS, move |_| {
        let Some(node) = bucket.next(table) else { return ControlFlow::Break(None) };
        let answer = ask(node);
        if answer.is_continue() {
            bucket.stay(table, node, seed);
        }
        answer
    })
}

#[inline(always)]
const fn unless_found(verdict: Option<Verdict>) -> Search {
    match verdict {
        Some(_) => ControlFlow::Break(verdict),
        None => ControlFlow::Continue(()),
    }
}

/// Decides by the question of a message alone.
#[inline(always)]
pub fn decide_question<'a, R: Rules<'a>>(
    message: &mut Message,
    question: &Question,
    rules: &R,
) -> Option<Verdict> {
    let kinds = rules.policy().kinds();
    let exact = kinds.any(Kinds::QNAMES) && rules.may_know(question.shape);
    let suffixes = kinds.any(Kinds::SUFFIXES);
    if !exact && !suffixes {
        return None;
    }
    message.start_suffixes::<R>(question.name_len);
    let asked = Asked::new(kinds, exact, question.qtype);
    if suffixes && !exact && skip_unknown(message, rules).is_none() {
        return None;
    }
    let turns = if suffixes { Message::MAX_SUFFIXES } else { 1 };
    R::search(turns, move |_| {
        let Some(key) = message.suffix() else { return ControlFlow::Break(None) };
        let known = asked.suffixes() && rules.may_know(Shape::of_suffix(key));
        let here = asked.at(message.is_whole(), known);
        if !here.nothing() {
            message.canonicalize::<R>(rules.seed());
            let message = &*message;
            let verdict = R::search(Asked::KINDS, move |kind| {
                let Some(selector) = here.selector(kind) else { return ControlFlow::Continue(()) };
                let tag = selector.tag(message.digest(), rules.seed());
                let Some(bucket) = Bucket::of(rules.names(), tag.hash()) else {
                    return ControlFlow::Continue(());
                };
                unless_found(search_bucket::<R, _>(rules.names(), bucket, rules.seed(), |node: &NameNode| {
                    if !node.is::<R>(tag, message, rules.blocks()) {
                        return ControlFlow::Continue(());
                    }
                    ControlFlow::Break(apply(rules, Subject::Name, node.cell()))
                }))
            });
            if verdict.is_some() {
                return ControlFlow::Break(verdict);
            }
        }
        message.next_suffix();
        ControlFlow::Continue(())
    })
}

/// Goes over the first suffixes that have no rules, without a loop: few names have more labels. `None` if there are no others.
#[inline(always)]
fn skip_unknown<'a, R: Rules<'a>>(message: &mut Message, rules: &R) -> Option<()> {
    for _ in 0..FEW_SUFFIXES {
        if rules.may_know(Shape::of_suffix(message.suffix()?)) {
            break;
        }
        message.next_suffix();
    }
    Some(())
}

/// Three labels and the root.
const FEW_SUFFIXES: usize = 4;

/// Which rules are asked about a name, one bit a kind in the order of asking, and the type of the query. In one word, like
/// [`crate::layout::Policy`].
#[derive(Clone, Copy)]
struct Asked(u64);

impl Asked {
    const KINDS: usize = 4;
    const ONE_TYPE: u64 = 1;
    const ALL_TYPES: u64 = 1 << 1;
    const EXACT: u64 = Self::ONE_TYPE | Self::ALL_TYPES;
    const SUFFIXES: u64 = Self::EXACT << 2;

    #[inline(always)]
    fn new(kinds: Kinds, exact: bool, qtype: u16) -> Self {
        let [one, all, one_below, all_below] = [
            (Kinds::QNAME_ONE_TYPE, exact),
            (Kinds::QNAME_ALL_TYPES, exact),
            (Kinds::SUFFIX_ONE_TYPE, true),
            (Kinds::SUFFIX_ALL_TYPES, true),
        ]
        .map(|(kind, asked)| u64::from(asked && kinds.any(kind)));
        Self(u64::from(qtype) << 4 | all_below << 3 | one_below << 2 | all << 1 | one)
    }

    #[inline(always)]
    const fn suffixes(self) -> bool {
        self.0 & Self::SUFFIXES != 0
    }

    /// What is asked about one of the suffixes: whether it is the whole name, and whether its shape is known.
    #[inline(always)]
    const fn at(self, whole: bool, known: bool) -> Self {
        let without = if whole { 0 } else { Self::EXACT } | if known { 0 } else { Self::SUFFIXES };
        Self(self.0 & !without)
    }

    #[inline(always)]
    const fn nothing(self) -> bool {
        self.0 & (Self::EXACT | Self::SUFFIXES) == 0
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation, reason = "the type is all that is left")]
    const fn selector(self, kind: usize) -> Option<Selector> {
        if self.0 >> kind & 1 == 0 {
            return None;
        }
        let types =
            if kind & 1 == 0 { Selector::one_type((self.0 >> 4) as u16) } else { Selector::all_types() };
        Some(if kind & 2 == 0 { types } else { types.below() })
    }
}

#[inline(always)]
fn apply<'a, R: Rules<'a>>(rules: &R, subject: Subject, rule: &Cell) -> Option<Verdict> {
    // In this order: in the kernel, nothing that follows an atomic addition starts before it ends.
    let action = rule.action();
    let expires = rule.expires();
    if expires != 0 && rules.now() >= expires {
        return None;
    }
    if rules.counts(subject, action) {
        rule.hit();
    }
    Verdict::of(action)
}
