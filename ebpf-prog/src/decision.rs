//! The decision: what happens to a packet.
//!
//! Rules are asked in a fixed order and the first hit decides: source address; ranges of sources, the longest prefix
//! first; the name with this type, then with every type; its suffixes, the longest first, likewise. A rule that only
//! counts does not decide, and the search goes on; a rule that has expired is no rule.

use core::ops::ControlFlow;

pub use self::question::decide_question;
pub use crate::action::{Came, Decided, Verdict};
use crate::{
    layout::{Kinds, Policy},
    lengths::Lengths,
    malformed::Malformed,
    message::Message,
    names::{Block, NameNode},
    rule::{Action, Cell, Ipv4Node, Ipv4Prefix, Ipv6Node, Ipv6Prefix, Seed},
    shape::Shape,
    sightings::{self, Sighted, Sighting},
    table::{Bucket, Node, Slots},
    turns::{Search, Turns},
};

mod question;

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

    /// How many sources of such messages were added to the ring.
    fn sighted(&self) -> Option<&'a Sighted>;

    /// An entry of that ring.
    fn sighting(&self, place: u32) -> Option<&'a Sighting>;
}

/// Decides on a packet that carries a DNS message.
///
/// Nothing is parsed unless a rule or a policy needs it.
#[inline(always)]
pub fn decide<'a, R: Rules<'a>>(packet: &mut impl Packet, rules: &R) -> Verdict {
    let decided = decide_source(packet, rules).or_else(|| decide_message(packet, rules));
    decided.unwrap_or(Decided::PASS).verdict(Came::OverPlainUdp)
}

/// Decides by the message of a packet alone. A response is decided like a query unless it is to be dropped: a bit in the
/// header is no way around a rule.
#[inline(always)]
fn decide_message<'a, R: Rules<'a>>(packet: &mut impl Packet, rules: &R) -> Option<Decided> {
    let policy = rules.policy();
    if !policy.reads_messages() {
        return None;
    }
    // None rather than nothing: the verifier lets not everybody read what was not written.
    let source = if policy.watches_malformed() { sightings::source(packet) } else { [0; 2] };
    let (message, loaded) = match packet.message() {
        Ok(loaded) => loaded,
        Err(reason) => return malformed(rules, reason, source),
    };
    let question = message.question(loaded);
    let reason = if message.is_response() { Some(Malformed::Response) } else { question.err() };
    if let Some(reason) = reason {
        let decided = malformed(rules, reason, source);
        if decided.is_some() {
            return decided;
        }
    }
    decide_question(message, &question.ok()?, rules)
}

/// Counts a message that is no well-formed query, and says where it came from, if somebody watches.
#[inline(always)]
fn malformed<'a, R: Rules<'a>>(rules: &R, reason: Malformed, source: [u64; 2]) -> Option<Decided> {
    rules.malformed(reason);
    if rules.policy().watches_malformed()
        && let Some(sighted) = rules.sighted()
    {
        let number = sighted.next();
        if let Some(sighting) = rules.sighting(Sighting::place(number)) {
            sighting.write(number, source);
        }
    }
    if rules.policy().drops_malformed() { Some(Decided::DROP) } else { None }
}

/// Decides by the source of a packet alone.
#[inline(always)]
pub fn decide_source<'a, R: Rules<'a>>(packet: &impl Sourced, rules: &R) -> Option<Decided> {
    let kinds = rules.policy().kinds();
    if kinds.any(Kinds::SOURCES4) && packet.is(Family::Ipv4) {
        let source = packet.ipv4_source()?;
        if kinds.any(Kinds::IPV4)
            && let Some(decided) = decide_ipv4(rules, source)
        {
            return Some(decided);
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
            && let Some(decided) = decide_ipv6(rules, source)
        {
            return Some(decided);
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
fn decide_ipv4<'a, R: Rules<'a>>(rules: &R, source: u64) -> Option<Decided> {
    let prefix = Ipv4Prefix::of(source, Ipv4Prefix::MAX_LEN);
    let bucket = Bucket::of(rules.ipv4(), prefix.hash(rules.seed()))?;
    // The first rule is mostly the only one, and this is what floods of packets come to: no loop for it.
    if let ControlFlow::Break(decided) = ask_ipv4(rules, bucket.first(rules.ipv4())?, prefix) {
        return decided;
    }
    search_bucket::<R, _>(rules.ipv4(), bucket, rules.seed(), |node| ask_ipv4(rules, node, prefix))
}

#[inline(always)]
fn decide_ipv6<'a, R: Rules<'a>>(rules: &R, source: [u64; 2]) -> Option<Decided> {
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
    ask: impl Fn(u8) -> Option<Decided>,
) -> Option<Decided> {
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
) -> Option<Decided> {
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
const fn unless_found(decided: Option<Decided>) -> Search {
    match decided {
        Some(_) => ControlFlow::Break(decided),
        None => ControlFlow::Continue(()),
    }
}

#[inline(always)]
fn apply<'a, R: Rules<'a>>(rules: &R, subject: Subject, rule: &Cell) -> Option<Decided> {
    // In this order: in the kernel, nothing that follows an atomic addition starts before it ends.
    let action = rule.action_byte();
    let expires = rule.expires();
    if expires != 0 && rules.now() >= expires {
        return None;
    }
    let hits = if rules.counts(subject, Action::from_byte(action)) { rule.hit() } else { 0 };
    Decided::by(action, hits)
}
