//! What the public types of rules are in memory.

use std::net::{Ipv4Addr, Ipv6Addr};

use ebpf_prog::{
    message::{Message, SuffixKey},
    names::Selector,
    rule::{Ipv4Prefix, Ipv6Prefix, Seed},
    shape::Shape,
    turns::Plain,
};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::{Match, QName, Qtypes};

/// What is looked up by types.
pub(crate) trait Selectable {
    fn selector(self) -> Selector;
}

impl Selectable for Qtypes {
    fn selector(self) -> Selector {
        match self {
            Self::All => Selector::all_types(),
            Self::Only(qtype) => Selector::one_type(qtype),
        }
    }
}

pub(super) fn ipv4(address: Ipv4Addr, len: u8) -> Ipv4Prefix {
    Ipv4Prefix::of(address.to_bits().into(), len)
}

pub(super) fn ipv6(address: Ipv6Addr, len: u8) -> Ipv6Prefix {
    Ipv6Prefix::of(halves(address.to_bits()), len)
}

#[allow(clippy::cast_possible_truncation, reason = "the halves")]
const fn halves(bits: u128) -> [u64; 2] {
    [(bits >> 64) as u64, bits as u64]
}

/// The rule of a range with these bits.
pub(super) fn range4(prefix: Ipv4Prefix) -> Option<Match> {
    Ipv4Net::new(Ipv4Addr::from_bits(prefix.bits), prefix.len).ok().map(Match::Range4)
}

pub(super) fn address6(prefix: Ipv6Prefix) -> Ipv6Addr {
    let [high, low] = prefix.bits.map(u128::from);
    Ipv6Addr::from_bits(high << 64 | low)
}

pub(super) fn range6(prefix: Ipv6Prefix) -> Option<Match> {
    Ipv6Net::new(address6(prefix), prefix.len).ok().map(Match::Range6)
}

/// A name as rules for it are looked up.
pub(super) struct NameKey {
    pub(super) message: Message,
    key: SuffixKey,
}

impl NameKey {
    pub(super) fn of(name: &QName, seed: Seed) -> Self {
        let (mut message, question) = Message::for_question(name.as_wire(), 0);
        message.start_suffixes::<Plain>(question.name_len);
        message.canonicalize::<Plain>(seed);
        let key = message.suffix().unwrap_or_else(|| unreachable!("a name has its root label at least"));
        Self { message, key }
    }

    /// The shape by which a rule for the name is found.
    pub(super) fn shape(&self, name: &QName, selector: Selector) -> Shape {
        if selector.is_suffix() { Shape::of_suffix(self.key) } else { Shape::of(name.as_wire()) }
    }
}

/// The rule for a name with this selector.
pub(super) fn name(wire: &[u8], selector: Selector) -> Option<Match> {
    let name = QName::from_wire(wire).ok()?;
    let qtypes = selector.qtype().map_or(Qtypes::All, Qtypes::Only);
    Some(if selector.is_suffix() { Match::Suffix(name, qtypes) } else { Match::Qname(name, qtypes) })
}
