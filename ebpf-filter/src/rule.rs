//! Rules: what they match, and what they do.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ebpf_prog::rule::Action;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

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
    /// How long the rule stays in force once it is added, or `None` for ever; of a rule that was read, how long it still
    /// does. It ends by itself, whatever becomes of this process.
    pub expires_in: Option<Duration>,
}

impl Rule {
    /// A rule that does `action` with what it matches.
    pub const fn new(matches: Match, action: Action) -> Self {
        Self { matches, action, expires_in: None }
    }

    /// A rule that drops what it matches.
    pub const fn drop(matches: Match) -> Self {
        Self::new(matches, Action::Drop)
    }

    /// The same rule, but it ends when so much time has passed since it was added.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use ebpf_filter::{BpfFilter, Match, Rule};
    /// let filter = BpfFilter::builder().build()?;
    /// filter.insert(Rule::drop(Match::address([192, 0, 2, 1])).expires_in(Duration::from_secs(60)))?;
    /// assert!(filter.stats()?.rules[0].rule.expires_in <= Some(Duration::from_secs(60)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn expires_in(mut self, time: Duration) -> Self {
        self.expires_in = Some(time);
        self
    }

    pub(crate) fn canonical(self) -> Self {
        Self { matches: self.matches.canonical(), ..self }
    }
}

/// What a rule matches. There is one rule for a match at most.
///
/// Rules are asked in this order, and the first that does not only count decides: source address; ranges of sources, the
/// longest prefix first; name with the type of the query, name with all types; then likewise the names above it, the
/// longest first, itself included.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Match {
    /// Packets from this IPv4 address, UDP and TCP, also on dual-stack sockets.
    Ipv4(Ipv4Addr),
    /// Packets from this IPv6 address, UDP and TCP.
    Ipv6(Ipv6Addr),
    /// Packets from this range of IPv4 addresses.
    Range4(Ipv4Net),
    /// Packets from this range of IPv6 addresses. It has no IPv4 addresses in it, however large it is.
    Range6(Ipv6Net),
    /// Queries for exactly this name, in any case, and for these types.
    Qname(QName, Qtypes),
    /// Queries for this name and for all names below it, in any case, and for these types.
    Suffix(QName, Qtypes),
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

    /// Packets from this range. Bits behind the prefix do not matter: 192.0.2.1/24 is 192.0.2.0/24. A range of v4-mapped
    /// addresses means the IPv4 addresses in it.
    pub fn range(net: impl Into<IpNet>) -> Self {
        match net.into() {
            IpNet::V4(net) => Self::Range4(net),
            IpNet::V6(net) => Self::Range6(net),
        }
        .canonical()
    }

    /// What comes over the wire: never a v4-mapped address, and no bits behind a prefix.
    pub(crate) fn canonical(self) -> Self {
        /// The length of the prefix of v4-mapped addresses (RFC 4291 §2.5.5.2).
        const MAPPED: u8 = 96;
        match self {
            Self::Ipv6(address) => Self::address(address),
            Self::Range4(net) => Self::Range4(net.trunc()),
            Self::Range6(net) => match (net.network().to_ipv4_mapped(), net.prefix_len()) {
                (Some(address), MAPPED..) => {
                    let len = net.prefix_len() - MAPPED;
                    Ipv4Net::new(address, len).map_or(Self::Range6(net.trunc()), Self::Range4)
                }
                _ => Self::Range6(net.trunc()),
            },
            other @ (Self::Ipv4(_) | Self::Qname(..) | Self::Suffix(..)) => other,
        }
    }

    /// Queries for exactly this name and these types.
    pub const fn qname(name: QName, qtypes: Qtypes) -> Self {
        Self::Qname(name, qtypes)
    }

    /// Queries for this name, all names below it, and these types. Below the root is every name.
    pub const fn suffix(name: QName, qtypes: Qtypes) -> Self {
        Self::Suffix(name, qtypes)
    }

    /// The kind of rule that this makes.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Ipv4(_) => Kind::Ipv4,
            Self::Ipv6(_) => Kind::Ipv6,
            Self::Range4(_) => Kind::Range4,
            Self::Range6(_) => Kind::Range6,
            Self::Qname(..) => Kind::Qname,
            Self::Suffix(..) => Kind::Suffix,
        }
    }
}

/// `192.0.2.1`, `[2001:db8::42]`, `192.0.2.0/24`, `[2001:db8::/32]`, `evildomain.com. 255`, `*.evildomain.com. 255`: the
/// last is a suffix, which matches the name without `*.` as well.
impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipv4(address) => write!(f, "{address}"),
            Self::Ipv6(address) => write!(f, "[{address}]"),
            Self::Range4(net) => write!(f, "{net}"),
            Self::Range6(net) => write!(f, "[{net}]"),
            Self::Qname(name, qtypes) => write!(f, "{name} {qtypes}"),
            Self::Suffix(name, qtypes) if name.is_root() => write!(f, "*. {qtypes}"),
            Self::Suffix(name, qtypes) => write!(f, "*.{name} {qtypes}"),
        }
    }
}

/// The kinds of rules. Each has room of its own, as much as the builder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// Exact IPv4 sources: [`BpfFilterBuilder::ipv4_max`](crate::BpfFilterBuilder::ipv4_max).
    Ipv4,
    /// Exact IPv6 sources: [`BpfFilterBuilder::ipv6_max`](crate::BpfFilterBuilder::ipv6_max).
    Ipv6,
    /// Ranges of IPv4 sources: [`BpfFilterBuilder::ranges4_max`](crate::BpfFilterBuilder::ranges4_max).
    Range4,
    /// Ranges of IPv6 sources: [`BpfFilterBuilder::ranges6_max`](crate::BpfFilterBuilder::ranges6_max).
    Range6,
    /// Exact names: [`BpfFilterBuilder::qnames_max`](crate::BpfFilterBuilder::qnames_max).
    Qname,
    /// Names and all below them: [`BpfFilterBuilder::suffixes_max`](crate::BpfFilterBuilder::suffixes_max).
    Suffix,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Ipv4, Self::Ipv6, Self::Range4, Self::Range6, Self::Qname, Self::Suffix];

    /// The name of the setting for how many there may be.
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4_max",
            Self::Ipv6 => "ipv6_max",
            Self::Range4 => "ranges4_max",
            Self::Range6 => "ranges6_max",
            Self::Qname => "qnames_max",
            Self::Suffix => "suffixes_max",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4 address",
            Self::Ipv6 => "IPv6 address",
            Self::Range4 => "IPv4 range",
            Self::Range6 => "IPv6 range",
            Self::Qname => "name",
            Self::Suffix => "suffix",
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
