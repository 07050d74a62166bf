//! Who is never blocked, and not even counted.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use std::net::IpAddr;

use crate::{Match, QName};

/// Clients and names that the group leaves alone. Of an excluded range and an included one in it, or the other way round,
/// the more specific decides; whoever is in none is included.
///
/// Nobody is exempt unless named, loopback addresses included.
///
/// ```
/// use ebpf_filter::dynblock::Exempt;
///
/// // All of the office but the guest network.
/// let exempt = Exempt::none()
///     .exclude("192.0.2.0/24".parse::<ipnet::IpNet>()?)
///     .include("192.0.2.128/25".parse::<ipnet::IpNet>()?);
/// assert!(exempt.is_exempt("192.0.2.1".parse()?));
/// assert!(!exempt.is_exempt("192.0.2.200".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Exempt {
    v4: PrefixMap<Ipv4Net, bool>,
    v6: PrefixMap<Ipv6Net, bool>,
    suffixes: Vec<QName>,
}

impl Exempt {
    /// Nobody.
    pub fn none() -> Self {
        Self::default()
    }

    /// Leaves clients in this range alone.
    pub fn exclude(self, net: impl Into<IpNet>) -> Self {
        self.set(net.into(), true)
    }

    /// Watches clients in this range, although a larger one is left alone.
    pub fn include(self, net: impl Into<IpNet>) -> Self {
        self.set(net.into(), false)
    }

    /// Never blocks this name or a name below it for its suffix: [`SuffixLimit`](super::SuffixLimit).
    pub fn exclude_suffix(mut self, name: QName) -> Self {
        self.suffixes.push(name);
        self
    }

    fn set(mut self, net: IpNet, exempt: bool) -> Self {
        match canonical(net) {
            IpNet::V4(net) => {
                self.v4.insert(net.trunc(), exempt);
            }
            IpNet::V6(net) => {
                self.v6.insert(net.trunc(), exempt);
            }
        }
        self
    }

    /// Whether this client is left alone.
    pub fn is_exempt(&self, client: IpAddr) -> bool {
        match client.to_canonical() {
            IpAddr::V4(address) if !self.v4.is_empty() => {
                self.v4.get_lpm(&Ipv4Net::from(address)).is_some_and(|(_, exempt)| *exempt)
            }
            IpAddr::V6(address) if !self.v6.is_empty() => {
                self.v6.get_lpm(&Ipv6Net::from(address)).is_some_and(|(_, exempt)| *exempt)
            }
            IpAddr::V4(_) | IpAddr::V6(_) => false,
        }
    }

    /// Whether any client is named.
    pub(super) fn has_clients(&self) -> bool {
        !self.v4.is_empty() || !self.v6.is_empty()
    }

    /// Whether somebody in this range is left alone.
    pub(super) fn is_in(&self, net: IpNet) -> bool {
        match net {
            IpNet::V4(net) => {
                self.v4.get_lpm(&net).is_some_and(|(_, exempt)| *exempt)
                    || self.v4.children(&net).any(|(_, exempt)| *exempt)
            }
            IpNet::V6(net) => {
                self.v6.get_lpm(&net).is_some_and(|(_, exempt)| *exempt)
                    || self.v6.children(&net).any(|(_, exempt)| *exempt)
            }
        }
    }

    /// Whether blocking this suffix would hit a name that is left alone, or one is asked for.
    pub(super) fn has_suffix(&self, name: &QName) -> bool {
        self.suffixes
            .iter()
            .any(|exempt| super::subject::is_below(name, exempt) || super::subject::is_below(exempt, name))
    }
}

/// A v4-mapped range is the IPv4 range in it.
fn canonical(net: IpNet) -> IpNet {
    match Match::range(net) {
        Match::Range4(net) => net.into(),
        Match::Range6(net) => net.into(),
        // A range makes no other match.
        Match::Ipv4(_) | Match::Ipv6(_) | Match::Qname(..) | Match::Suffix(..) => net,
    }
}
