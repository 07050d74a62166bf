//! Keys and values of the maps: the native format.
//!
//! Addresses are byte arrays in network order; counters and numbers are in the host's order, as both sides run on
//! the same machine. Padding is explicit and zero. User space moves these types as bytes, the kernel by pointer.

use core::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{malformed::Malformed, shape::Shapes};

/// Names of the maps in the object, as `bpftool map` shows them.
pub mod maps {
    /// One [`Config`](super::Config): the memory of a variable of the programs.
    pub const CONFIG: &str = ".bss";
    /// [`Ipv4Key`](super::Ipv4Key) to [`AddressRule`](super::AddressRule).
    pub const IPV4: &str = "IPV4";
    /// [`Ipv6Key`](super::Ipv6Key) to [`AddressRule`](super::AddressRule).
    pub const IPV6: &str = "IPV6";
    /// [`QnameKey`](super::QnameKey) to [`QnameRule`](super::QnameRule).
    pub const QNAMES: &str = "QNAMES";
    /// One counter a [`Malformed`](crate::Malformed) reason and CPU.
    pub const MALFORMED: &str = "MALFORMED";
}

/// Names of the programs in the object.
pub mod programs {
    /// Sources and names: for UDP sockets that receive plain DNS.
    pub const FULL: &str = "dns_full";
    /// Sources only: for TCP sockets, and datagrams that do not start with a DNS header.
    pub const ADDRESS_ONLY: &str = "dns_address";
    /// Load-time constant: where the DNS header starts, counted from the start of the data that a program sees.
    pub const PAYLOAD_OFFSET: &str = "PAYLOAD_OFFSET";
}

/// Stands for every type where a rule names the type of the question.
pub const ALL_QTYPES: u32 = 0x1_0000;

/// What a rule does with the packets that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Action {
    /// Let the packet through and stop looking.
    Pass = 0,
    /// Discard the packet.
    Drop = 1,
    /// Count the packet and go on looking.
    Count = 2,
}

impl Action {
    /// The action of a value in a map; what no version ever wrote lets the packet through.
    #[inline(always)]
    #[must_use]
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Drop,
            2 => Self::Count,
            _ => Self::Pass,
        }
    }
}

/// Which kinds of rules exist. A kind that does not costs a packet nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Kinds(u32);

impl Kinds {
    /// No rules at all.
    pub const NONE: Self = Self(0);
    /// Exact IPv4 sources.
    pub const IPV4: Self = Self(1);
    /// Exact IPv6 sources.
    pub const IPV6: Self = Self(1 << 1);
    /// Exact names, one type each.
    pub const QNAME_ONE_TYPE: Self = Self(1 << 2);
    /// Exact names, every type.
    pub const QNAME_ALL_TYPES: Self = Self(1 << 3);
    /// Exact names.
    pub const QNAMES: Self = Self(Self::QNAME_ONE_TYPE.0 | Self::QNAME_ALL_TYPES.0);

    /// Whether there are rules of any of these kinds.
    #[inline(always)]
    #[must_use]
    pub const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    /// These kinds and those.
    #[must_use]
    pub const fn and(self, those: Self) -> Self {
        Self(self.0 | those.0)
    }
}

/// What a decision asks first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Policy {
    /// The kinds of rules in use.
    pub kinds: Kinds,
    /// 1 if malformed messages are dropped, else 0.
    pub drop_malformed: u32,
}

/// What the programs read of the filter, besides its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    /// What a decision asks first.
    pub policy: Policy,
    /// Seed of the name hash.
    pub seed: [u64; 2],
    /// The shapes of the names that have rules.
    pub shapes: Shapes,
}

/// Key of a rule for one IPv4 source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4))]
pub struct Ipv4Key([u8; 4]);

impl Ipv4Key {
    /// The address.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        let [a, b, c, d] = self.0;
        Ipv4Addr::new(a, b, c, d)
    }
}

impl From<Ipv4Addr> for Ipv4Key {
    fn from(address: Ipv4Addr) -> Self {
        Self(address.octets())
    }
}

/// Key of a rule for one IPv6 source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Ipv6Key([u8; 16]);

impl Ipv6Key {
    /// The address.
    #[must_use]
    pub const fn address(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(u128::from_be_bytes(self.0))
    }
}

impl From<Ipv6Addr> for Ipv6Key {
    fn from(address: Ipv6Addr) -> Self {
        Self(address.octets())
    }
}

/// Key of a rule for one name and one or all types: a hash of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct QnameKey {
    high: u64,
    low: u64,
}

impl QnameKey {
    #[inline(always)]
    pub(crate) const fn new(high: u64, low: u64) -> Self {
        Self { high, low }
    }
}

/// A rule for one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddressRule {
    /// Packets that matched.
    pub hits: u64,
    /// An [`Action`].
    pub action: u8,
    padding: [u8; 7],
}

impl AddressRule {
    /// A rule that has matched nothing yet.
    #[must_use]
    pub const fn new(action: Action) -> Self {
        Self { hits: 0, action: action as u8, padding: [0; 7] }
    }
}

/// A rule for one name and one or all types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct QnameRule {
    /// Packets that matched.
    pub hits: u64,
    /// [`ALL_QTYPES`] or a type.
    pub qtypes: u32,
    /// An [`Action`].
    pub action: u8,
    padding: [u8; 3],
    /// The canonical name, zero-padded.
    pub name: [u64; 32],
}

impl QnameRule {
    /// A rule that has matched nothing yet, for a canonical name in wire form. What is behind the 255th byte of it is
    /// cut off.
    #[must_use]
    pub fn new(name: &[u8], qtypes: u32, action: Action) -> Self {
        let mut bytes = [0; 256];
        for (to, from) in bytes[..crate::name::MAX_LEN].iter_mut().zip(name) {
            *to = *from;
        }
        Self { hits: 0, qtypes, action: action as u8, padding: [0; 3], name: zerocopy::transmute!(bytes) }
    }
}

const _: () = {
    assert!(size_of::<Config>() == 24 + 512);
    assert!(size_of::<Ipv4Key>() == 4 && size_of::<Ipv6Key>() == 16 && size_of::<QnameKey>() == 16);
    assert!(size_of::<AddressRule>() == 16);
    assert!(size_of::<QnameRule>() == 272);
    assert!(Malformed::ALL.len() == 6);
};
