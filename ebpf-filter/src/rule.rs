//! Rules: what they match, and what they do.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ebpf_prog::layout::{ALL_QTYPES, Action};

use crate::QName;

/// A rule: what it matches, and what happens to what it matches.
///
/// ```
/// use ebpf_filter::{Action, Match, Qtypes, Rule};
///
/// let drop = Rule::drop(Match::address([192, 0, 2, 1]));
/// let count = Rule::new(Match::qname("example.com".parse()?, Qtypes::All), Action::Count);
/// # Ok::<(), ebpf_filter::QNameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What the rule matches.
    pub matches: Match,
    /// What happens to a packet that it matches.
    pub action: Action,
}

impl Rule {
    /// A rule that does `action` with what it matches.
    pub const fn new(matches: Match, action: Action) -> Self {
        Self { matches, action }
    }

    /// A rule that drops what it matches.
    pub const fn drop(matches: Match) -> Self {
        Self::new(matches, Action::Drop)
    }

    pub(crate) fn canonical(self) -> Self {
        Self { matches: self.matches.canonical(), action: self.action }
    }
}

/// What a rule matches. There is one rule for a match at most.
///
/// Rules are asked in this order, and the first that does not only count decides: source address, name with the type
/// of the query, name with all types.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Match {
    /// Packets from this IPv4 address, UDP and TCP, also on dual-stack sockets.
    Ipv4(Ipv4Addr),
    /// Packets from this IPv6 address, UDP and TCP.
    Ipv6(Ipv6Addr),
    /// Queries for exactly this name, in any case, and for these types.
    Qname(QName, Qtypes),
}

impl Match {
    /// Packets from this address. A v4-mapped address means the IPv4 address in it (RFC 4291 §2.5.5.2): that is what
    /// comes over the wire.
    pub fn address(address: impl Into<IpAddr>) -> Self {
        match address.into().to_canonical() {
            IpAddr::V4(address) => Self::Ipv4(address),
            IpAddr::V6(address) => Self::Ipv6(address),
        }
    }

    /// What comes over the wire: never a v4-mapped address.
    pub(crate) fn canonical(self) -> Self {
        match self {
            Self::Ipv6(address) => Self::address(address),
            other @ (Self::Ipv4(_) | Self::Qname(..)) => other,
        }
    }

    /// Queries for exactly this name and these types.
    pub const fn qname(name: QName, qtypes: Qtypes) -> Self {
        Self::Qname(name, qtypes)
    }

    /// The kind of rule that this makes.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Ipv4(_) => Kind::Ipv4,
            Self::Ipv6(_) => Kind::Ipv6,
            Self::Qname(..) => Kind::Qname,
        }
    }
}

/// `192.0.2.1`, `[2001:db8::42]`, `evildomain.com. 255`.
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(address) => write!(f, "{address}"),
            Self::Ipv6(address) => write!(f, "[{address}]"),
            Self::Qname(name, qtypes) => write!(f, "{name} {qtypes}"),
        }
    }
}

/// The kinds of rules. Each has a map of its own, of the size that the builder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// Exact IPv4 sources: [`BpfFilterBuilder::ipv4_max`](crate::BpfFilterBuilder::ipv4_max).
    Ipv4,
    /// Exact IPv6 sources: [`BpfFilterBuilder::ipv6_max`](crate::BpfFilterBuilder::ipv6_max).
    Ipv6,
    /// Exact names: [`BpfFilterBuilder::qnames_max`](crate::BpfFilterBuilder::qnames_max).
    Qname,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Ipv4, Self::Ipv6, Self::Qname];

    /// The name of the setting for the size of its map.
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4_max",
            Self::Ipv6 => "ipv6_max",
            Self::Qname => "qnames_max",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4 address",
            Self::Ipv6 => "IPv6 address",
            Self::Qname => "name",
        })
    }
}

/// The types of queries that a rule for a name matches. Several types are several rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qtypes {
    /// Every type.
    All,
    /// One type, by its number (the IANA registry "Resource Record (RR) TYPEs"), 255 (ANY) included.
    Only(u16),
}

impl Qtypes {
    pub(crate) const fn selector(self) -> u32 {
        match self {
            Self::All => ALL_QTYPES,
            Self::Only(qtype) => qtype as u32,
        }
    }
}

/// 255 means every type, as in dnsdist's configuration up to version 1.9; to match queries for ANY alone, say
/// [`Qtypes::Only`]`(255)`.
impl From<u16> for Qtypes {
    fn from(number: u16) -> Self {
        if number == 255 { Self::All } else { Self::Only(number) }
    }
}

/// `255` for every type, else the number; the one type 255 is `ANY`.
impl fmt::Display for Qtypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("255"),
            Self::Only(255) => f.write_str("ANY"),
            Self::Only(number) => write!(f, "{number}"),
        }
    }
}
