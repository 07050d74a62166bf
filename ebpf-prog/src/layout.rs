//! What the programs and their loader call things, and what the programs read first.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{lengths::Lengths, sightings::Sighted};

/// The version of everything that lies in maps and may outlive the process that wrote it.
///
/// To be raised with every change after which a program or a process of the version before would read such memory in another
/// way: sizes, order or meaning of fields in [`Cell`](crate::rule::Cell) and the nodes around it, in [`Block`](crate::names::Block),
/// [`SieveWord`](crate::shape::SieveWord), [`Lengths`], [`Control`], [`Policy`], [`Kinds`], `Format` or the counters of malformed
/// messages; how hashes, digests, tags and shapes are made; the length of chains; the numbers of
/// [`Action`](crate::rule::Action)s. Not with a change of the programs alone.
pub const VERSION: u32 = 1;

/// Names of the maps in the object, as `bpftool map` shows them.
pub mod maps {
    /// One [`Policy`](super::Policy): the memory of a variable of the programs.
    pub const POLICY: &str = ".bss";
    /// One [`Control`](super::Control).
    pub const CONTROL: &str = "CONTROL";
    /// A table of [`Ipv4Node`](crate::rule::Ipv4Node).
    pub const IPV4: &str = "IPV4";
    /// A table of [`Ipv6Node`](crate::rule::Ipv6Node).
    pub const IPV6: &str = "IPV6";
    /// A table of [`Ipv4Node`](crate::rule::Ipv4Node).
    pub const RANGES4: &str = "RANGES4";
    /// A table of [`Ipv6Node`](crate::rule::Ipv6Node).
    pub const RANGES6: &str = "RANGES6";
    /// A table of [`NameNode`](crate::names::NameNode).
    pub const NAMES: &str = "NAMES";
    /// [`Block`](crate::names::Block)s.
    pub const BLOCKS: &str = "BLOCKS";
    /// Words of a bitmap of [`Shape`](crate::shape::Shape)s.
    pub const SIEVE: &str = "SIEVE";
    /// The ring of [`Sighting`](crate::sightings::Sighting)s.
    pub const SIGHTINGS: &str = "SIGHTINGS";
    /// One counter a [`Malformed`](crate::Malformed) reason and CPU.
    pub const MALFORMED: &str = "MALFORMED";
}

/// Names of the programs in the object, and of their load-time constants.
pub mod programs {
    /// Sources and names: for UDP sockets that receive plain DNS.
    pub const FULL: &str = "dns_full";
    /// Sources only: for TCP sockets, and datagrams that do not start with a DNS header.
    pub const ADDRESS_ONLY: &str = "dns_address";
    /// Where the DNS header starts, counted from the start of the data that a program sees.
    pub const PAYLOAD_OFFSET: &str = "PAYLOAD_OFFSET";
    /// The variable whose memory is the map [`maps::POLICY`](super::maps::POLICY).
    pub const POLICY: &str = "POLICY";
    /// The two numbers of a [`Seed`](crate::rule::Seed).
    pub const SEED: [&str; 2] = ["SEED_ONE", "SEED_OTHER"];
    /// [`Slots::shift`](crate::table::Slots::shift) of the tables, in the order of [`TABLES`](super::TABLES).
    pub const SHIFTS: [&str; 5] =
        ["IPV4_SHIFT", "IPV6_SHIFT", "RANGES4_SHIFT", "RANGES6_SHIFT", "NAMES_SHIFT"];
    /// The same of the sieve, for the numbers of its bits.
    pub const SIEVE_SHIFT: &str = "SIEVE_SHIFT";
}

/// The tables.
pub const TABLES: [&str; 5] = [maps::IPV4, maps::IPV6, maps::RANGES4, maps::RANGES6, maps::NAMES];

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
    /// Ranges of IPv4 sources.
    pub const RANGES4: Self = Self(1 << 4);
    /// Ranges of IPv6 sources.
    pub const RANGES6: Self = Self(1 << 5);
    /// Suffixes of names, one type each.
    pub const SUFFIX_ONE_TYPE: Self = Self(1 << 6);
    /// Suffixes of names, every type.
    pub const SUFFIX_ALL_TYPES: Self = Self(1 << 7);
    /// IPv4 sources.
    pub const SOURCES4: Self = Self::IPV4.and(Self::RANGES4);
    /// IPv6 sources.
    pub const SOURCES6: Self = Self::IPV6.and(Self::RANGES6);
    /// Exact names.
    pub const QNAMES: Self = Self::QNAME_ONE_TYPE.and(Self::QNAME_ALL_TYPES);
    /// Suffixes of names.
    pub const SUFFIXES: Self = Self::SUFFIX_ONE_TYPE.and(Self::SUFFIX_ALL_TYPES);
    /// Names.
    pub const NAMES: Self = Self::QNAMES.and(Self::SUFFIXES);

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

/// What a decision asks first. In one word, which is read at once, and which the verifier lets a program keep on its
/// stack where a pointer was before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Policy(u64);

impl Policy {
    const DROP_MALFORMED: u64 = 1 << 32;
    const WATCH_MALFORMED: u64 = 1 << 33;

    /// The kinds of rules in use, and whether malformed messages are dropped.
    #[must_use]
    pub const fn new(kinds: Kinds, drop_malformed: bool) -> Self {
        Self(kinds.0 as u64 | if drop_malformed { Self::DROP_MALFORMED } else { 0 })
    }

    /// The same, and whether somebody watches where malformed messages come from.
    #[must_use]
    pub const fn watched(self, watched: bool) -> Self {
        Self(self.0 & !Self::WATCH_MALFORMED | if watched { Self::WATCH_MALFORMED } else { 0 })
    }

    /// The kinds of rules in use.
    #[inline(always)]
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
    pub const fn kinds(self) -> Kinds {
        Kinds(self.0 as u32)
    }

    /// Whether messages are read at all: if there are rules for names, or malformed ones are dropped or watched. One question, and
    /// not several, so that the compiler does not make a copy of the program for each answer.
    #[inline(always)]
    #[must_use]
    pub const fn reads_messages(self) -> bool {
        self.0 & (Kinds::NAMES.0 as u64 | Self::DROP_MALFORMED | Self::WATCH_MALFORMED) != 0
    }

    /// Whether malformed messages are dropped.
    #[inline(always)]
    #[must_use]
    pub const fn drops_malformed(self) -> bool {
        self.0 & Self::DROP_MALFORMED != 0
    }

    /// Whether somebody watches where malformed messages come from.
    #[inline(always)]
    #[must_use]
    pub const fn watches_malformed(self) -> bool {
        self.0 & Self::WATCH_MALFORMED != 0
    }
}

/// What a decision needs to know about the tables and the ring.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "bpf"), derive(zerocopy::FromBytes))]
#[repr(C)]
pub struct Control {
    /// The lengths of prefixes that ranges of IPv4 and of IPv6 sources have.
    pub lengths: [Lengths; 2],
    /// How many sources of malformed messages were written into the ring; on a cache line of its own.
    pub sighted: Sighted,
}

const _: () = assert!(size_of::<Policy>() == 8 && size_of::<Control>() == 520);
