//! Who is blocked, and from what.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;

use crate::{Match, QName, Qtypes};

/// Who is blocked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Subject {
    /// Sources in this range; one address is a range of full length.
    Source(IpNet),
    /// Sources with this address and a port in this range: one of many behind an address translator.
    Ports {
        /// The address that they share.
        address: Ipv4Addr,
        /// The first port.
        first: u16,
        /// The last port, itself included.
        last: u16,
    },
    /// Queries for this name and all below it, from anybody.
    Suffix(QName),
}

impl Subject {
    /// One address. A v4-mapped address means the IPv4 address in it.
    pub fn address(address: impl Into<IpAddr>) -> Self {
        Self::Source(IpNet::from(address.into().to_canonical()))
    }

    /// A range of addresses. Bits behind the prefix do not matter.
    pub fn range(net: impl Into<IpNet>) -> Self {
        match Match::range(net) {
            Match::Range4(net) => Self::Source(net.into()),
            Match::Range6(net) => Self::Source(net.into()),
            // A range makes no other match.
            Match::Ipv4(_) | Match::Ipv6(_) | Match::Qname(..) | Match::Suffix(..) => {
                Self::Suffix(QName::root())
            }
        }
    }

    /// The same without bits behind the prefix, and with an IPv4 range for a v4-mapped one.
    pub(super) fn canonical(self) -> Self {
        match self {
            Self::Source(net) if net.prefix_len() == net.max_prefix_len() => Self::address(net.addr()),
            Self::Source(net) => Self::range(net),
            Self::Ports { .. } | Self::Suffix(_) => self,
        }
    }

    /// What a rule for a filter would match, if there is one.
    pub(super) fn as_match(&self) -> Option<Match> {
        match self {
            Self::Source(net) if net.prefix_len() == net.max_prefix_len() => Some(Match::address(net.addr())),
            Self::Source(net) => Some(Match::range(*net)),
            Self::Ports { .. } => None,
            Self::Suffix(name) => Some(Match::suffix(name.clone(), Qtypes::All)),
        }
    }

    /// The range that the sources are in.
    pub(super) fn net(&self) -> Option<IpNet> {
        match self {
            Self::Source(net) => Some(*net),
            Self::Ports { address, .. } => Some(IpNet::from(IpAddr::from(*address))),
            Self::Suffix(_) => None,
        }
    }
}

/// `192.0.2.1/32`, `2001:db8::/64`, `192.0.2.1:0-16383`, `*.evildomain.com.`
impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(net) => write!(f, "{net}"),
            Self::Ports { address, first, last } => write!(f, "{address}:{first}-{last}"),
            Self::Suffix(name) if name.is_root() => f.write_str("*."),
            Self::Suffix(name) => write!(f, "*.{name}"),
        }
    }
}

/// Which queries of who is blocked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scope {
    /// All.
    #[default]
    All,
    /// Those for this type.
    Qtype(u16),
    /// Those for this name and all below it.
    Suffix(QName),
}

impl Scope {
    pub(super) fn covers(&self, name: &QName, qtype: u16) -> bool {
        match self {
            Self::All => true,
            Self::Qtype(only) => *only == qtype,
            Self::Suffix(suffix) => is_below(name, suffix),
        }
    }
}

/// Nothing for all, ` type 28`, ` below *.example.com.`
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Qtype(qtype) => write!(f, " type {qtype}"),
            Self::Suffix(name) => write!(f, " below *.{name}"),
        }
    }
}

/// The names that `name` is at or below, itself first and the root last, in wire form.
pub(super) fn suffixes(name: &QName) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(name.as_wire());
    std::iter::from_fn(move || {
        let this = rest?;
        let len = usize::from(*this.first()?);
        rest = if len == 0 { None } else { this.get(len + 1..) };
        Some(this)
    })
}

/// The last labels of `name`, if it has so many.
pub(super) fn last_labels(name: &QName, labels: u8) -> Option<&[u8]> {
    let count = name.labels().count();
    suffixes(name).nth(count.checked_sub(labels.into())?)
}

pub(super) fn is_below(name: &QName, suffix: &QName) -> bool {
    suffixes(name).any(|wire| wire == suffix.as_wire())
}
