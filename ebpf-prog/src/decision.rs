//! The decision: what happens to a packet.
//!
//! Rules are asked in a fixed order and the first hit decides: source address, then name with this type, then name
//! with every type. A rule that only counts does not decide, and the search goes on.

use crate::{
    layout::{ALL_QTYPES, Action, Config, Ipv4Key, Ipv6Key, Kinds},
    malformed::Malformed,
    message::{Message, Question},
};

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The application gets it.
    Pass,
    /// Nobody gets it.
    Drop,
}

/// Which protocol a packet came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4, also where a dual-stack socket shows the source as v4-mapped.
    Ipv4,
    /// IPv6.
    Ipv6,
    /// Neither: no rule matches it.
    Other,
}

/// What came from some address.
pub trait Sourced {
    /// Which protocol the packet came over.
    fn family(&self) -> Family;

    /// The source of an IPv4 packet.
    fn ipv4_source(&self) -> Option<Ipv4Key>;

    /// The source of an IPv6 packet.
    fn ipv6_source(&self) -> Option<Ipv6Key>;
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

/// A rule that matched.
pub trait Matched {
    /// Counts the packet.
    fn hit(&self);

    /// What the rule does.
    fn action(&self) -> Action;
}

/// Takes in a name, eight bytes at a time, so that it can be looked up.
pub trait Digest {
    /// Adds the next word of the canonical name, in little-endian order; the last one is padded with zeroes.
    fn word(&mut self, word: u64);
}

/// For rules that are looked up by the name itself.
impl Digest for () {
    fn word(&mut self, _word: u64) {}
}

/// The rules in force.
pub trait Rules {
    /// A rule for an address.
    type Address: Matched;
    /// A rule for a name.
    type Qname: Matched;
    /// What names are looked up by.
    type Name: Digest;

    /// Which kinds of rules there are, and the policies.
    fn config(&self) -> &Config;

    /// The rule for exactly this source.
    fn ipv4(&self, source: &Ipv4Key) -> Option<Self::Address>;

    /// The rule for exactly this source.
    fn ipv6(&self, source: &Ipv6Key) -> Option<Self::Address>;

    /// The digest of an empty name.
    fn digest(&self) -> Self::Name;

    /// The rule for exactly the name of `question`, which was read from `message` and into `name`, and `qtypes`:
    /// [`ALL_QTYPES`] or a type.
    fn qname(
        &self,
        message: &Message,
        question: &Question,
        name: &Self::Name,
        qtypes: u32,
    ) -> Option<Self::Qname>;

    /// Counts a message that cannot be parsed.
    fn malformed(&self, reason: Malformed);
}

/// Decides on a packet that carries a DNS message.
///
/// Nothing is parsed unless a rule or a policy needs it.
#[inline(always)]
pub fn decide<R: Rules>(packet: &mut impl Packet, rules: &R) -> Verdict {
    if let Some(verdict) = decide_source(packet, rules) {
        return verdict;
    }
    let config = rules.config();
    let drop_malformed = config.drop_malformed != 0;
    if !config.kinds.any(Kinds::QNAMES) && !drop_malformed {
        return Verdict::Pass;
    }
    let mut name = rules.digest();
    let parsed = packet.message().and_then(|(message, loaded)| {
        let question = message.question(loaded, |word| name.word(word))?;
        Ok((message, question))
    });
    match parsed {
        Ok((message, question)) => decide_question(message, &question, &name, rules).unwrap_or(Verdict::Pass),
        Err(reason) => {
            rules.malformed(reason);
            if drop_malformed { Verdict::Drop } else { Verdict::Pass }
        }
    }
}

/// Decides by the source of a packet alone.
#[inline(always)]
pub fn decide_source<R: Rules>(packet: &impl Sourced, rules: &R) -> Option<Verdict> {
    let kinds = rules.config().kinds;
    if !kinds.any(Kinds::IPV4.and(Kinds::IPV6)) {
        return None;
    }
    match packet.family() {
        Family::Ipv4 if kinds.any(Kinds::IPV4) => apply(rules.ipv4(&packet.ipv4_source()?)),
        Family::Ipv6 if kinds.any(Kinds::IPV6) => apply(rules.ipv6(&packet.ipv6_source()?)),
        Family::Ipv4 | Family::Ipv6 | Family::Other => None,
    }
}

/// Decides by the question of a message alone.
#[inline(always)]
pub fn decide_question<R: Rules>(
    message: &Message,
    question: &Question,
    name: &R::Name,
    rules: &R,
) -> Option<Verdict> {
    let kinds = rules.config().kinds;
    if kinds.any(Kinds::QNAME_ONE_TYPE) {
        let verdict = apply(rules.qname(message, question, name, u32::from(question.qtype)));
        if verdict.is_some() {
            return verdict;
        }
    }
    if kinds.any(Kinds::QNAME_ALL_TYPES) {
        return apply(rules.qname(message, question, name, ALL_QTYPES));
    }
    None
}

#[inline(always)]
fn apply(rule: Option<impl Matched>) -> Option<Verdict> {
    let rule = rule?;
    rule.hit();
    match rule.action() {
        Action::Pass => Some(Verdict::Pass),
        Action::Drop => Some(Verdict::Drop),
        Action::Count => None,
    }
}
