//! The prefixes that a client is counted by: itself, and the networks around it.

use std::{
    hash::BuildHasher as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::hash::Secret;
use crate::dynblock::{DynBlockError, Subject};

/// More lengths than this are an error.
pub(crate) const MAX_TIERS: usize = 8;

/// A prefix length, and how many times the limit all of such a prefix may have together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tier {
    pub(crate) len: u8,
    pub(crate) multiple: u32,
}

/// The lengths for both protocols, the longest first.
#[derive(Clone, Debug)]
pub(crate) struct Tiers {
    pub(crate) v4: Vec<Tier>,
    pub(crate) v6: Vec<Tier>,
    /// Into how many parts the ports of an IPv4 address are split: 2 to the power of this.
    pub(crate) port_bits: u8,
    secret: Secret,
    hasher: foldhash::quality::RandomState,
}

impl Tiers {
    /// Those of Knot Resolver 6 (`daemon/ratelimiting.c`).
    pub(crate) fn new() -> Self {
        Self {
            v4: tiers([(32, 1), (24, 32), (20, 256), (18, 768)]),
            v6: tiers([(128, 1), (64, 2), (56, 3), (48, 4), (32, 64)]),
            port_bits: 0,
            secret: Secret::new(),
            hasher: foldhash::quality::RandomState::default(),
        }
    }

    pub(crate) fn check(&mut self) -> Result<(), DynBlockError> {
        for (tiers, max) in [(&mut self.v4, 32), (&mut self.v6, 128)] {
            tiers.sort_by_key(|tier| std::cmp::Reverse(tier.len));
            if tiers.len() > MAX_TIERS {
                return Err(DynBlockError::TooManyPrefixLengths { max: MAX_TIERS });
            }
            if let Some(tier) = tiers.iter().find(|tier| tier.len > max || tier.multiple == 0) {
                return Err(DynBlockError::PrefixLength { len: tier.len, multiple: tier.multiple, max });
            }
            if let Some(pair) = tiers.windows(2).find(|pair| pair[0].len == pair[1].len) {
                return Err(DynBlockError::RepeatedPrefixLength { len: pair[0].len });
            }
        }
        let whole_addresses = self.v4.first().is_some_and(|tier| tier.len == 32);
        if self.port_bits > 16 || (self.port_bits > 0 && !whole_addresses) {
            return Err(DynBlockError::PortBits { bits: self.port_bits });
        }
        Ok(())
    }

    pub(crate) fn of(&self, client: IpAddr) -> &[Tier] {
        if client.is_ipv4() { &self.v4 } else { &self.v6 }
    }

    /// A number for each prefix of the client, by the lengths in order. Nobody else knows which.
    #[inline]
    pub(crate) fn keys_into(&self, client: SocketAddr, keys: &mut Keys) {
        match client.ip() {
            IpAddr::V4(address) => {
                let bits = u64::from(address.to_bits());
                let part = u64::from(self.part(client.port())) << 40;
                keys.fill(&self.v4, |Tier { len, .. }| {
                    let masked = bits & (u64::MAX << (32 - len));
                    self.secret.hash([if *len == 32 { masked | part } else { masked }, 0], u64::from(*len))
                });
            }
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                keys.fill(&self.v6, |Tier { len, .. }| {
                    let masked = if *len == 0 { 0 } else { bits & (u128::MAX << (128 - len)) };
                    self.secret.hash(zerocopy::transmute!(masked), u64::from(*len) | 1 << 8)
                });
            }
        }
    }

    /// The same, for who asks once.
    pub(crate) fn keys(&self, client: SocketAddr) -> Keys {
        let mut keys = Keys::default();
        self.keys_into(client, &mut keys);
        keys
    }

    /// A number for anything else.
    pub(crate) fn hash(&self, bytes: &[u8]) -> u64 {
        self.hasher.hash_one(bytes)
    }

    pub(crate) fn hash_net(&self, net: IpNet) -> u64 {
        self.hasher.hash_one(net)
    }

    pub(crate) fn hash_subject(&self, subject: &Subject) -> u64 {
        self.hasher.hash_one(subject)
    }

    /// Who is meant by the tier with this number.
    pub(crate) fn subject(&self, client: SocketAddr, tier: usize) -> Option<Subject> {
        let Tier { len, .. } = self.of(client.ip()).get(tier)?;
        Some(match client.ip() {
            IpAddr::V4(address) if *len == 32 && self.port_bits > 0 => self.ports(address, client.port()),
            IpAddr::V4(address) => Subject::Source(Ipv4Net::new(address, *len).ok()?.trunc().into()),
            IpAddr::V6(address) => Subject::Source(Ipv6Net::new(address, *len).ok()?.trunc().into()),
        })
    }

    fn part(&self, port: u16) -> u16 {
        port.checked_shr(16 - u32::from(self.port_bits)).unwrap_or(0)
    }

    /// The part of the ports of this address that has this port in it.
    pub(crate) fn ports(&self, address: Ipv4Addr, port: u16) -> Subject {
        let last = u16::MAX.checked_shr(self.port_bits.into()).unwrap_or(0);
        Subject::Ports { address, first: port & !last, last: port | last }
    }
}

/// From pairs of prefix length and multiple.
pub(crate) fn tiers(pairs: impl IntoIterator<Item = (u8, u32)>) -> Vec<Tier> {
    pairs.into_iter().map(|(len, multiple)| Tier { len, multiple }).collect()
}

/// One number for each prefix length.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    hashes: [u64; MAX_TIERS],
    len: usize,
}

impl Keys {
    #[inline]
    fn fill(&mut self, tiers: &[Tier], hash: impl Fn(&Tier) -> u64) {
        self.len = tiers.len();
        for (place, tier) in self.hashes.iter_mut().zip(tiers) {
            *place = hash(tier);
        }
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u64] {
        &self.hashes[..self.len.min(MAX_TIERS)]
    }
}
