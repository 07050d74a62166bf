//! Who keeps track of sources: the limits of this project, and governor's own.

use std::{
    hash::{BuildHasher as _, RandomState},
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    time::Duration,
};

use ebpf_filter::{
    QName,
    bench_support::Limits,
    dynblock::{DynBlockGroup, DynBlockGroupBuilder, Penalty, QueryEvent, Rate},
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::{
    common::Result,
    sources::{address, key},
};

/// The slots of a group, unless it is built with another number.
pub(crate) const SLOTS: usize = 1 << 18;

/// One limit for any number of sources.
pub(crate) trait Contestant: Sized + Sync {
    const NAME: &str;

    type Key: Sync;

    /// For this many sources.
    fn new(sources: usize) -> Result<Self>;

    fn key(number: u32) -> Self::Key;

    /// Counts an event, at a time that is read for it.
    fn observe(&self, key: &Self::Key);
}

/// With the keys that a group of limits has computed for all of them.
pub(crate) struct Ours(pub(crate) Limits);

impl Contestant for Ours {
    const NAME: &str = "slots";

    type Key = u64;

    fn new(sources: usize) -> Result<Self> {
        let limits = Limits::new(2 * sources, [Rate::per_second(1_000_000)]);
        limits.map(Self).ok_or_else(|| "not enough memory".into())
    }

    fn key(number: u32) -> u64 {
        key(number.into())
    }

    #[inline]
    fn observe(&self, key: &u64) {
        self.0.observe(&[*key]);
    }
}

/// A group with a limit for the rate of queries, as a server asks it: with the answer, what becomes of the query.
pub(crate) struct Group {
    group: DynBlockGroup,
    name: QName,
}

impl Group {
    /// With so many limits, for prefixes of these lengths.
    pub(crate) fn with(limits: u32, lengths: &[(u8, u32)], slots: usize) -> Result<Self> {
        let builder = DynBlockGroup::builder().no_filter().tiers4(lengths.iter().copied()).slots(slots);
        let limited = |builder: DynBlockGroupBuilder, limit: u32| {
            let rate = Rate::per_second(200_000 + limit).over(Duration::from_secs(10));
            builder.query_rate(rate, Penalty::block_for(Duration::from_secs(60)))
        };
        let group = (0..limits).fold(builder, limited).build()?;
        Ok(Self { group, name: "www.example".parse()? })
    }
}

impl Contestant for Group {
    const NAME: &str = "observe_query";

    type Key = Ipv4Addr;

    fn new(sources: usize) -> Result<Self> {
        Self::with(1, &[(32, 1)], SLOTS.max(2 * sources))
    }

    fn key(number: u32) -> Ipv4Addr {
        address(number)
    }

    #[inline]
    fn observe(&self, key: &Ipv4Addr) {
        let client = SocketAddr::new((*key).into(), 4242);
        black_box(self.group.observe_query(&QueryEvent::new(client, &self.name, 1)));
    }
}

/// A `DashMap` for each of so many limits, keyed by prefixes.
pub(crate) struct Dashmaps(Vec<DefaultKeyedRateLimiter<(u32, u8)>>);

impl Dashmaps {
    pub(crate) fn new(limits: u32) -> Result<Self> {
        let limiter =
            |limit| Some(RateLimiter::dashmap(Quota::per_second(NonZeroU32::new(1_000_000 + limit)?)));
        Ok(Self((0..limits).map(limiter).collect::<Option<_>>().ok_or("zero")?))
    }

    /// Counts an event for the prefixes of these lengths.
    #[inline]
    pub(crate) fn observe(&self, address: Ipv4Addr, lengths: &[(u8, u32)]) {
        for limiter in &self.0 {
            for (len, _) in lengths {
                let _ = limiter.check_key(&(address.to_bits() & (u32::MAX << (32 - len)), *len));
            }
        }
    }
}

/// The same, and every address is hashed as std does it.
pub(crate) struct Hashed(Ours, RandomState);

impl Contestant for Hashed {
    const NAME: &str = "slots and SipHash of the address";

    type Key = Ipv4Addr;

    fn new(sources: usize) -> Result<Self> {
        Ok(Self(Ours::new(sources)?, RandomState::new()))
    }

    fn key(number: u32) -> Ipv4Addr {
        address(number)
    }

    #[inline]
    fn observe(&self, key: &Ipv4Addr) {
        self.0.observe(&self.1.hash_one(IpAddr::from(*key)));
    }
}

/// A `DashMap`, and the clock that reads the processor's counter.
pub(crate) struct Dashmap(DefaultKeyedRateLimiter<IpAddr>);

impl Contestant for Dashmap {
    const NAME: &str = "governor's DashMap";

    type Key = Ipv4Addr;

    fn new(_sources: usize) -> Result<Self> {
        Ok(Self(RateLimiter::dashmap(Quota::per_second(NonZeroU32::new(1_000_000).ok_or("zero")?))))
    }

    fn key(number: u32) -> Ipv4Addr {
        address(number)
    }

    #[inline]
    fn observe(&self, key: &Ipv4Addr) {
        let _ = self.0.check_key(&IpAddr::from(*key));
    }
}
