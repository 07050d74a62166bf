//! What rules match, and in which order they are asked.

use std::{
    cmp::Reverse,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ebpf_filter::{Kind, Match, QName, Qtypes};
use ipnet::{Ipv4Net, Ipv6Net};

/// The labels of a name in lower case, the last one first: what is below a name starts with it.
pub type Labels = Vec<Vec<u8>>;

/// The same for matches that are the same. The order is that of lists of rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// An IPv4 address.
    Ipv4(u32),
    /// An IPv6 address.
    Ipv6(u128),
    /// The first bits of IPv4 addresses, and how many.
    Range4(u32, u8),
    /// The first bits of IPv6 addresses, and how many.
    Range6(u128, u8),
    /// A name, and one type or all.
    Qname(Labels, Option<u16>),
    /// Likewise, with all names below it.
    Suffix(Labels, Option<u16>),
}

/// When a rule is asked among those that match a packet: the least comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    kind: u8,
    longest_first: Reverse<usize>,
    every_type: bool,
}

impl Turn {
    const fn new(kind: u8, len: usize, every_type: bool) -> Self {
        Self { kind, longest_first: Reverse(len), every_type }
    }
}

impl What {
    /// What the rule for `of` matches on the wire.
    ///
    /// # Panics
    ///
    /// If it is of a kind that is not known here.
    pub fn of(of: &Match) -> Self {
        match of {
            Match::Ipv4(address) => Self::Ipv4(address.to_bits()),
            Match::Ipv6(address) => {
                mapped(address.to_bits()).map_or(Self::Ipv6(address.to_bits()), Self::Ipv4)
            }
            Match::Range4(net) => Self::range4(net.addr().to_bits(), net.prefix_len()),
            Match::Range6(net) => {
                let (bits, len) = (net.addr().to_bits(), net.prefix_len());
                match (mapped(bits), len.checked_sub(96)) {
                    (Some(bits), Some(len)) => Self::range4(bits, len),
                    _ => Self::Range6(first6(bits, len), len),
                }
            }
            Match::Qname(name, qtypes) => Self::Qname(labels_of(name), one(*qtypes)),
            Match::Suffix(name, qtypes) => Self::Suffix(labels_of(name), one(*qtypes)),
            other => panic!("no such rule: {other:?}"),
        }
    }

    const fn range4(bits: u32, len: u8) -> Self {
        Self::Range4(first4(bits, len), len)
    }

    /// The match in the form that the library lists.
    ///
    /// # Panics
    ///
    /// If there is no such match.
    pub fn to_match(&self) -> Match {
        match self {
            Self::Ipv4(bits) => Match::Ipv4(Ipv4Addr::from_bits(*bits)),
            Self::Ipv6(bits) => Match::Ipv6(Ipv6Addr::from_bits(*bits)),
            Self::Range4(bits, len) => {
                Match::Range4(Ipv4Net::new(Ipv4Addr::from_bits(*bits), *len).expect("up to 32 bits"))
            }
            Self::Range6(bits, len) => {
                Match::Range6(Ipv6Net::new(Ipv6Addr::from_bits(*bits), *len).expect("up to 128 bits"))
            }
            Self::Qname(labels, qtype) => Match::Qname(name_of(labels), types(*qtype)),
            Self::Suffix(labels, qtype) => Match::Suffix(name_of(labels), types(*qtype)),
        }
    }

    /// The kind of rule.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Ipv4(_) => Kind::Ipv4,
            Self::Ipv6(_) => Kind::Ipv6,
            Self::Range4(..) => Kind::Range4,
            Self::Range6(..) => Kind::Range6,
            Self::Qname(..) => Kind::Qname,
            Self::Suffix(..) => Kind::Suffix,
        }
    }

    /// Whether it is about what a packet asks for.
    pub const fn is_name(&self) -> bool {
        matches!(self, Self::Qname(..) | Self::Suffix(..))
    }

    /// Whether it matches packets from there, and when it is asked then.
    pub fn turn_for_source(&self, source: IpAddr) -> Option<Turn> {
        let (matches, turn) = match (self, source.to_canonical()) {
            (Self::Ipv4(bits), IpAddr::V4(source)) => (*bits == source.to_bits(), Turn::new(0, 0, false)),
            (Self::Ipv6(bits), IpAddr::V6(source)) => (*bits == source.to_bits(), Turn::new(0, 0, false)),
            (Self::Range4(bits, len), IpAddr::V4(source)) => {
                (*bits == first4(source.to_bits(), *len), Turn::new(1, usize::from(*len), false))
            }
            (Self::Range6(bits, len), IpAddr::V6(source)) => {
                (*bits == first6(source.to_bits(), *len), Turn::new(1, usize::from(*len), false))
            }
            _ => return None,
        };
        matches.then_some(turn)
    }

    /// Whether it matches queries for this name and type, and when it is asked then.
    pub fn turn_for_name(&self, name: &Labels, asked: u16) -> Option<Turn> {
        let (matches, turn, qtype) = match self {
            Self::Qname(of, qtype) => (name == of, Turn::new(2, 0, qtype.is_none()), qtype),
            Self::Suffix(of, qtype) => (name.starts_with(of), Turn::new(3, of.len(), qtype.is_none()), qtype),
            Self::Ipv4(_) | Self::Ipv6(_) | Self::Range4(..) | Self::Range6(..) => return None,
        };
        (matches && qtype.is_none_or(|qtype| qtype == asked)).then_some(turn)
    }
}

/// The IPv4 address in a v4-mapped one (RFC 4291 §2.5.5.2).
fn mapped(bits: u128) -> Option<u32> {
    if bits >> 32 == 0xffff { u32::try_from(bits & 0xffff_ffff).ok() } else { None }
}

const fn first4(bits: u32, len: u8) -> u32 {
    if len == 0 { 0 } else { bits >> (32 - len) << (32 - len) }
}

const fn first6(bits: u128, len: u8) -> u128 {
    if len == 0 { 0 } else { bits >> (128 - len) << (128 - len) }
}

/// The labels of a name.
pub fn labels_of(name: &QName) -> Labels {
    let mut labels: Labels = name.labels().map(<[u8]>::to_vec).collect();
    labels.reverse();
    labels
}

fn name_of(labels: &Labels) -> QName {
    let wire: Vec<_> = labels.iter().rev().map(Vec::as_slice).collect();
    QName::from_wire(&crate::dns::wire_name(&wire)).expect("it was one before")
}

const fn one(qtypes: Qtypes) -> Option<u16> {
    match qtypes {
        Qtypes::All => None,
        Qtypes::Only(qtype) => Some(qtype),
    }
}

fn types(qtype: Option<u16>) -> Qtypes {
    qtype.map_or(Qtypes::All, Qtypes::Only)
}
