//! Building a group.

use std::sync::{
    Arc, RwLock,
    atomic::{AtomicBool, AtomicU64},
};

use arc_swap::ArcSwap;
use ebpf_prog::rule::Action;
use governor::clock::Clock;

use super::{
    DynBlockError, DynBlockEvent, DynBlockGroup, Exempt, Penalty, Rate, Ratio, SuffixLimit,
    book::{Book, Caps},
    counters::Counters,
    group::{FilterChoice, Inner, Rules},
    keeper,
    legacy::Watches,
    malformed::Malformed,
    notice::{Hook, Notices, Sometimes},
    offences::Offences,
    penalty::check_action,
    rule::{Limit, Rule, Spec, Stores, Trigger},
    slots::Slots,
    suffix_limit::Counted,
    tiers::{Tier, Tiers, tiers},
    time::{Time, is_short},
};
use crate::BpfFilter;

/// Builds a [`DynBlockGroup`]: [`DynBlockGroup::builder`].
///
/// Rules are asked in the order in which they are added. There may be several of one kind, with limits and penalties of their
/// own; the one that loses most of the queries decides what a block does.
#[must_use = "nothing is built before `build` is called"]
pub struct DynBlockGroupBuilder {
    specs: Vec<Spec>,
    tiers: Tiers,
    slots: usize,
    caps: Caps,
    default_action: Action,
    filter: FilterChoice,
    exempt: Exempt,
    hooks: Vec<Hook>,
    buffered: usize,
    quiet: bool,
    time: Time,
}

impl DynBlockGroupBuilder {
    pub(super) fn new() -> Self {
        Self {
            specs: Vec::new(),
            tiers: Tiers::new(),
            slots: 1 << 18,
            caps: Caps { total: 8192, per_cover: 256, cover4: 16, cover6: 32 },
            default_action: Action::Drop,
            filter: FilterChoice::Default,
            exempt: Exempt::none(),
            hooks: Vec::new(),
            buffered: 1024,
            quiet: false,
            time: Time::monotonic(),
        }
    }

    fn rule(mut self, trigger: Trigger, limit: Limit, penalty: Penalty) -> Self {
        self.specs.push(Spec { trigger, limit, penalty });
        self
    }

    /// Limits queries: `setQueryRate` in dnsdist.
    pub fn query_rate(self, limit: Rate, penalty: Penalty) -> Self {
        self.rule(Trigger::QueryRate, Limit::Rate(limit), penalty)
    }

    /// Limits queries for the type with this number: `setQTypeRate`.
    pub fn qtype_rate(self, qtype: u16, limit: Rate, penalty: Penalty) -> Self {
        self.rule(Trigger::QtypeRate(qtype), Limit::Rate(limit), penalty)
    }

    /// Limits responses with this code: `setRCodeRate`.
    pub fn rcode_rate(self, rcode: u16, limit: Rate, penalty: Penalty) -> Self {
        self.rule(Trigger::RcodeRate(rcode), Limit::Rate(limit), penalty)
    }

    /// Limits the bytes in responses, so many a second: `setResponseByteRate`.
    pub fn response_byte_rate(self, limit: Rate, penalty: Penalty) -> Self {
        self.rule(Trigger::ResponseByteRate, Limit::Rate(limit), penalty)
    }

    /// Limits which part of the responses has this code: `setRCodeRatio`.
    pub fn rcode_ratio(self, rcode: u16, limit: Ratio, penalty: Penalty) -> Self {
        self.rule(Trigger::RcodeRatio(rcode), Limit::Ratio(limit), penalty)
    }

    /// Limits which part of the responses has another code than these: `setAllowedRCodesRatio`.
    pub fn allowed_rcodes_ratio(
        self,
        allowed: impl IntoIterator<Item = u16>,
        limit: Ratio,
        penalty: Penalty,
    ) -> Self {
        let allowed = allowed.into_iter().collect();
        self.rule(Trigger::AllowedRcodesRatio(allowed), Limit::Ratio(limit), penalty)
    }

    /// Limits which part of the responses came from no cache, while at least `min_global_hits` of the responses to all
    /// clients did: `setCacheMissRatio`. While nothing has come from the cache, or everything, nobody is blocked.
    pub fn cache_miss_ratio(self, limit: Ratio, min_global_hits: f64, penalty: Penalty) -> Self {
        self.rule(Trigger::CacheMissRatio { min_global_hits }, Limit::Ratio(limit), penalty)
    }

    /// Limits what is asked or answered below a suffix, whoever asks, and blocks the suffix: what `setSuffixMatchRule` is
    /// used for.
    pub fn suffix_rate(self, suffixes: SuffixLimit, limit: Rate, penalty: Penalty) -> Self {
        self.rule(Trigger::SuffixRate(suffixes), Limit::Rate(limit), penalty)
    }

    /// Limits messages that cannot be read. The filter that blocks go into tells the group about those that it sees.
    pub fn malformed_rate(self, limit: Rate, penalty: Penalty) -> Self {
        self.rule(Trigger::MalformedRate, Limit::Rate(limit), penalty)
    }

    /// Counts IPv4 clients by prefixes of these lengths, each with so many times the limit. Unless set, 32 with the limit as
    /// it is, 24 with 32 times, 20 with 256 times and 18 with 768 times, as Knot Resolver does.
    pub fn tiers4(mut self, lengths: impl IntoIterator<Item = (u8, u32)>) -> Self {
        self.tiers.v4 = tiers(lengths);
        self
    }

    /// Counts IPv6 clients likewise. Unless set, 128 once, 64 with 2 times, 56 with 3 times, 48 with 4 times and 32 with 64
    /// times the limit, as Knot Resolver does.
    pub fn tiers6(mut self, lengths: impl IntoIterator<Item = (u8, u32)>) -> Self {
        self.tiers.v6 = tiers(lengths);
        self
    }

    /// Counts clients by prefixes of this length and no other: `setMasks` in dnsdist.
    pub fn masks(mut self, v4: u8, v6: u8) -> Self {
        self.tiers.v4 = vec![Tier { len: v4, multiple: 1 }];
        self.tiers.v6 = vec![Tier { len: v6, multiple: 1 }];
        self
    }

    /// Takes the ports of an IPv4 address in 2 to the power of `bits` parts for as many clients, behind an address translator
    /// that gives each of its clients a range of ports (RFC 6888 §2). Such blocks are enforced in user space. 0 unless set.
    pub const fn port_bits(mut self, bits: u8) -> Self {
        self.tiers.port_bits = bits;
        self
    }

    /// How many counters there are for clients, networks and names together, each of 16 bytes; rounded up to a power of two.
    /// 262,144 unless set: 4 MiB. Those with the least to remember make room for new ones.
    pub const fn slots(mut self, slots: usize) -> Self {
        self.slots = slots;
        self
    }

    /// The most blocks that there may be, and the most of sources in the same /16 (IPv4) or /32 (IPv6). 8192 and 256 unless set.
    /// There may be as many warnings and dry runs in addition; they take no room from blocks.
    /// Make the filter large enough for them; what does not fit is enforced in user space.
    pub const fn max_blocks(mut self, total: usize, per_network: usize) -> Self {
        self.caps.total = total;
        self.caps.per_cover = per_network;
        self
    }

    /// What happens to queries where a penalty does not say: `setDynBlocksAction`. [`Action::Drop`] unless set.
    pub const fn default_action(mut self, action: Action) -> Self {
        self.default_action = action;
        self
    }

    /// Puts blocks into this filter. Unless set, into the [`default_filter`](crate::default_filter), if there is one at the
    /// time.
    pub fn filter(mut self, filter: BpfFilter) -> Self {
        self.filter = FilterChoice::This(filter);
        self
    }

    /// Puts blocks into no filter.
    pub fn no_filter(mut self) -> Self {
        self.filter = FilterChoice::None;
        self
    }

    /// Who is never blocked, nor counted. Nobody unless set.
    pub fn exempt(mut self, exempt: Exempt) -> Self {
        self.exempt = exempt;
        self
    }

    /// Calls this with everything that becomes of a block, in the order in which it happens: `setNewBlockInsertedHook`. That is
    /// on the thread where it happens, or on another one that is just calling it. It may use the group; queries wait for it.
    pub fn on_event(mut self, hook: impl Fn(&DynBlockEvent) + Send + Sync + 'static) -> Self {
        self.hooks.push(Arc::new(hook));
        self
    }

    /// How many events a [`subscriber`](DynBlockGroup::subscribe) may be behind. 1024 unless set.
    pub const fn buffered_events(mut self, events: usize) -> Self {
        self.buffered = events;
        self
    }

    /// Logs no blocks: `setQuiet`. Trouble is still logged.
    pub const fn quiet(mut self) -> Self {
        self.quiet = true;
        self
    }

    /// Goes by this clock instead of `CLOCK_MONOTONIC`: a [`FakeRelativeClock`](governor::clock::FakeRelativeClock), or
    /// [`TokioClock`](super::TokioClock). Then no thread looks after blocks; see [`DynBlockGroup::maintain`]. What the filter has
    /// of them ends by `CLOCK_MONOTONIC` all the same.
    pub fn clock<C: Clock + Send + Sync + 'static>(mut self, clock: C) -> Self {
        self.time = Time::injected(clock);
        self
    }

    /// Builds the group, and starts the thread that looks after its blocks.
    ///
    /// # Errors
    ///
    /// If a limit, a penalty or a prefix length makes no sense, or there is not enough memory.
    pub fn build(self) -> Result<DynBlockGroup, DynBlockError> {
        let Self {
            specs,
            mut tiers,
            slots,
            caps,
            default_action,
            filter,
            exempt,
            hooks,
            buffered,
            quiet,
            time,
        } = self;
        tiers.check()?;
        check_action(default_action).map_err(|problem| DynBlockError::DefaultAction { problem })?;
        let store = || Slots::new(slots).map(Arc::new).map_err(|_| DynBlockError::Memory { slots });
        let ratios = specs.iter().any(|spec| matches!(spec.limit, Limit::Ratio(_)));
        let stores = Stores { rates: store()?, ratios: if ratios { Some(store()?) } else { None } };
        let precise = specs.iter().any(|spec| is_short(spec.limit.window()));
        let mut rules = Rules::default();
        for (index, spec) in specs.into_iter().enumerate() {
            let rule = Rule::new(index + 1, spec, &tiers, &stores)?;
            match &rule.trigger {
                Trigger::QueryRate | Trigger::QtypeRate(_) => rules.queries.push(rule),
                Trigger::SuffixRate(limit) if limit.counted == Counted::Queries => rules.queries.push(rule),
                Trigger::MalformedRate => rules.malformed.push(rule),
                Trigger::RcodeRate(_)
                | Trigger::ResponseByteRate
                | Trigger::RcodeRatio(_)
                | Trigger::AllowedRcodesRatio(_)
                | Trigger::CacheMissRatio { .. }
                | Trigger::SuffixRate(_) => rules.responses.push(rule),
            }
        }
        let inner = Arc::new(Inner {
            watches: Watches::new(Arc::clone(&stores.rates)),
            rates: stores.rates,
            time,
            precise: AtomicBool::new(precise),
            tiers,
            rules,
            default_action,
            filter,
            anybody_exempt: AtomicBool::new(exempt.has_clients()),
            exempt: ArcSwap::from_pointee(exempt),
            book: RwLock::new(Book::new(caps)),
            alone: AtomicU64::new(0),
            offences: Offences::new()?,
            malformed: Malformed::default(),
            notices: Notices::new(hooks, buffered, quiet),
            counters: Counters::default(),
            caps_logged: Sometimes::default(),
            keeper: Arc::default(),
        });
        keeper::start(&inner);
        if !inner.rules.malformed.is_empty() {
            inner.keeper.expect(0);
        }
        Ok(DynBlockGroup { inner })
    }
}
