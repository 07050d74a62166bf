//! The decision: what happens to a packet.
//!
//! Rules are asked in a fixed order and the first hit decides: source address, then name with this type, then name
//! with every type. A rule that only counts does not decide, and the search goes on.

use core::mem::MaybeUninit;

use crate::{
    layout::{ALL_QTYPES, Action, Ipv4Key, Ipv6Key, Kinds, Policy},
    malformed::Malformed,
    message::{Message, Question},
    shape::Shape,
};

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The application gets it.
    Pass,
    /// Nobody gets it.
    Drop,
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

    /// Reads the source of an IPv4 packet into `room`.
    fn ipv4_source<'a>(&self, room: &'a mut MaybeUninit<Ipv4Key>) -> Option<&'a Ipv4Key>;

    /// Reads the source of an IPv6 packet into `room`.
    fn ipv6_source<'a>(&self, room: &'a mut MaybeUninit<Ipv6Key>) -> Option<&'a Ipv6Key>;
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
    fn policy(&self) -> Policy;

    /// The rule for exactly this source.
    fn ipv4(&self, source: &Ipv4Key) -> Option<Self::Address>;

    /// The rule for exactly this source.
    fn ipv6(&self, source: &Ipv6Key) -> Option<Self::Address>;

    /// Whether there may be a rule for a name of this shape. It may say so of any name, but must of those with rules.
    fn may_know(&self, shape: Shape) -> bool;

    /// The digest of an empty name.
    fn digest(&self) -> Self::Name;

    /// The rule for exactly the name of `question`, which stands in `message` and was taken into `name`, and `qtypes`:
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
    let Policy { kinds, drop_malformed } = rules.policy();
    let drop_malformed = drop_malformed != 0;
    if !kinds.any(Kinds::QNAMES) && !drop_malformed {
        return Verdict::Pass;
    }
    let parsed = packet.message().and_then(|(message, loaded)| {
        let question = message.question(loaded)?;
        Ok((message, question))
    });
    match parsed {
        Ok((message, question)) => decide_question(message, &question, rules).unwrap_or(Verdict::Pass),
        Err(reason) => {
            rules.malformed(reason);
            if drop_malformed { Verdict::Drop } else { Verdict::Pass }
        }
    }
}

/// Decides by the source of a packet alone.
#[inline(always)]
pub fn decide_source<R: Rules>(packet: &impl Sourced, rules: &R) -> Option<Verdict> {
    let Policy { kinds, .. } = rules.policy();
    if kinds.any(Kinds::IPV4) && packet.is(Family::Ipv4) {
        let mut room = MaybeUninit::uninit();
        let source = packet.ipv4_source(&mut room)?;
        return rules.ipv4(source).and_then(|rule| apply(&rule));
    }
    if kinds.any(Kinds::IPV6) && packet.is(Family::Ipv6) {
        let mut room = MaybeUninit::uninit();
        let source = packet.ipv6_source(&mut room)?;
        return rules.ipv6(source).and_then(|rule| apply(&rule));
    }
    None
}

/// Decides by the question of a message alone.
#[inline(always)]
pub fn decide_question<R: Rules>(message: &mut Message, question: &Question, rules: &R) -> Option<Verdict> {
    let Policy { kinds, .. } = rules.policy();
    if !kinds.any(Kinds::QNAMES) || !rules.may_know(question.shape) {
        return None;
    }
    let mut name = rules.digest();
    message.fold_name(question.name_len, |word| name.word(word));
    if kinds.any(Kinds::QNAME_ONE_TYPE) {
        let rule = rules.qname(message, question, &name, u32::from(question.qtype));
        if let Some(verdict) = rule.and_then(|rule| apply(&rule)) {
            return Some(verdict);
        }
    }
    if kinds.any(Kinds::QNAME_ALL_TYPES) {
        return rules.qname(message, question, &name, ALL_QTYPES).and_then(|rule| apply(&rule));
    }
    None
}

#[inline(always)]
fn apply(rule: &impl Matched) -> Option<Verdict> {
    // In this order: in the kernel, nothing that follows an atomic addition starts before it ends.
    let action = rule.action();
    rule.hit();
    match action {
        Action::Pass => Some(Verdict::Pass),
        Action::Drop => Some(Verdict::Drop),
        Action::Count => None,
    }
}
