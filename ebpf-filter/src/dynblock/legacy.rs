//! What dnsdist had before groups of rules: who exceeds a rate, and blocks in a filter that somebody has to purge.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use ipnet::IpNet;

use super::{
    DynBlockGroup, Level, Rate, RateError,
    limiter::Limiter,
    slots::Slots,
    tiers::Tiers,
    time::{is_short, nanos},
};
use crate::{Action, BpfFilter, Match, Rule, RuleError};

/// Blocks addresses for a time: `newDynBPFFilter(bpf)` in dnsdist. For new code there is [`DynBlockGroup`].
///
/// ```
/// use std::time::Duration;
/// use ebpf_filter::{BpfFilter, dynblock::{DynBlockGroup, DynBpfFilter, Rate}};
///
/// let bpf = BpfFilter::builder().build()?;
/// let dbpf = DynBpfFilter::new(bpf);
/// let group = DynBlockGroup::builder().no_filter().build()?;
/// // In dnsdist: addBPFFilterDynBlocks(exceedQRate(20, 10), dbpf, 60)
/// for address in group.exceed_query_rate(20, Duration::from_secs(10))? {
///     dbpf.block(address, Duration::from_secs(60))?;
/// }
/// dbpf.purge_expired();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct DynBpfFilter {
    filter: BpfFilter,
    blocked: Arc<Mutex<Vec<IpAddr>>>,
}

impl DynBpfFilter {
    /// Puts blocks into this filter.
    pub fn new(filter: BpfFilter) -> Self {
        Self { filter, blocked: Arc::default() }
    }

    /// Drops what comes from `address` for so long from now on, and says whether there was no block of it before. A block that
    /// ends later stays as it is.
    ///
    /// # Errors
    ///
    /// As [`BpfFilter::insert`], except that a block of the same address is none.
    pub fn block(&self, address: impl Into<IpAddr>, duration: Duration) -> Result<bool, RuleError> {
        let of = Match::address(address);
        let mut blocked = self.blocked();
        let known = self.filter.rule(&of).map(|known| (known.rule.action, known.rule.expires_in));
        match known {
            None => {}
            Some((Action::Drop, Some(left))) if left < duration => {}
            // Somebody's own rule stays, and so does a block that ends later.
            Some(_) => return Ok(false),
        }
        self.filter.replace(Rule::drop(of.clone()).expires_in(duration))?;
        if let Match::Ipv4(_) | Match::Ipv6(_) = of
            && let Some(address) = address_of(&of)
            && !blocked.contains(&address)
        {
            blocked.push(address);
        }
        Ok(known.is_none())
    }

    /// The addresses that are blocked, how long they still are, and how many packets were dropped.
    pub fn blocks(&self) -> Vec<(IpAddr, Duration, u64)> {
        let of = |address: &IpAddr| {
            let found = self.filter.rule(&Match::address(*address))?;
            Some((*address, found.rule.expires_in?, found.hits))
        };
        self.blocked().iter().filter_map(of).collect()
    }

    /// Forgets the blocks that have ended, and says how many. They do nothing any more as it is.
    pub fn purge_expired(&self) -> usize {
        let mut blocked = self.blocked();
        let before = blocked.len();
        blocked.retain(|address| self.filter.rule(&Match::address(*address)).is_some());
        before - blocked.len()
    }

    fn blocked(&self) -> std::sync::MutexGuard<'_, Vec<IpAddr>> {
        self.blocked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address_of(of: &Match) -> Option<IpAddr> {
    match of {
        Match::Ipv4(address) => Some((*address).into()),
        Match::Ipv6(address) => Some((*address).into()),
        Match::Range4(_) | Match::Range6(_) | Match::Qname(..) | Match::Suffix(..) => None,
    }
}

/// So many addresses are returned at most.
const MAX_EXCEEDING: usize = 8192;

/// Rates that somebody asks for now and then.
#[derive(Debug)]
pub(super) struct Watches {
    slots: Arc<Slots>,
    any: AtomicBool,
    all: ArcSwap<Vec<Arc<Watch>>>,
}

#[derive(Debug)]
struct Watch {
    rate: Rate,
    limiter: Limiter,
    /// Who has exceeded the rate, and when last.
    exceeding: Mutex<HashMap<IpAddr, u64>>,
}

impl Watches {
    pub(super) fn new(slots: Arc<Slots>) -> Self {
        Self { slots, any: AtomicBool::new(false), all: ArcSwap::default() }
    }

    #[inline]
    pub(super) fn observe(&self, tiers: &Tiers, client: SocketAddr, now: u64) {
        if self.any.load(Ordering::Relaxed) {
            let address = client.ip();
            let key = tiers.hash_net(IpNet::from(address));
            for watch in self.all.load().iter() {
                watch.observe(address, key, now);
            }
        }
    }

    fn of(&self, rate: Rate, tiers: &Tiers) -> Result<Arc<Watch>, RateError> {
        rate.check()?;
        if let Some(watch) = self.all.load().iter().find(|watch| watch.rate == rate) {
            return Ok(Arc::clone(watch));
        }
        let salt =
            tiers.hash(&[u64::from(rate.limit()).to_le_bytes(), nanos(rate.window()).to_le_bytes()].concat());
        let watch = Arc::new(Watch {
            rate,
            limiter: Limiter::new(rate, Arc::clone(&self.slots), salt),
            exceeding: Mutex::default(),
        });
        self.all.rcu(|all| {
            let mut all = Vec::clone(all);
            if all.iter().all(|known| known.rate != rate) {
                all.push(Arc::clone(&watch));
            }
            all
        });
        self.any.store(true, Ordering::Relaxed);
        Ok(watch)
    }
}

impl Watch {
    fn observe(&self, address: IpAddr, key: u64, now: u64) {
        if self.limiter.observe(key, now, NonZeroU32::MIN) == Level::Over {
            let mut exceeding = self.exceeding.lock().unwrap_or_else(PoisonError::into_inner);
            if exceeding.len() < MAX_EXCEEDING || exceeding.contains_key(&address) {
                exceeding.insert(address, now);
            }
        }
    }
}

impl DynBlockGroup {
    /// The addresses that exceed so many queries a second over so long, and have done so within that time: `exceedQRate` in
    /// dnsdist. Nobody is blocked. Counting starts with the first call for a rate, so ask again and again.
    ///
    /// # Errors
    ///
    /// If the rate makes no sense.
    pub fn exceed_query_rate(&self, rate: u32, window: Duration) -> Result<Vec<IpAddr>, RateError> {
        let inner = &*self.inner;
        let rate = Rate::per_second(rate).over(window);
        let watch = inner.watches.of(rate, &inner.tiers)?;
        if is_short(window) {
            inner.precise.store(true, Ordering::Relaxed);
        }
        let since = inner.time_of_event().saturating_sub(nanos(window));
        let mut exceeding = watch.exceeding.lock().unwrap_or_else(PoisonError::into_inner);
        exceeding.retain(|_, last| *last >= since);
        let mut addresses: Vec<_> = exceeding.keys().copied().collect();
        addresses.sort_unstable();
        Ok(addresses)
    }
}
