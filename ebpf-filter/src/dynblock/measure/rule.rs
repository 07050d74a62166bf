//! What is counted, against which limit.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::QName;
use crate::dynblock::{
    DynBlockError, Level, Penalty, Rate, Ratio, ResponseEvent, Scope, ScopeBy, SuffixLimit,
    meter::{Amount, Finding, Meter},
    slots::Slots,
    subject::last_labels,
    tiers::{Keys, Tier, Tiers},
};

/// What a rule counts.
#[derive(Clone, Debug)]
pub(crate) enum Trigger {
    QueryRate,
    QtypeRate(u16),
    RcodeRate(u16),
    ResponseByteRate,
    RcodeRatio(u16),
    AllowedRcodesRatio(Vec<u16>),
    CacheMissRatio { min_global_hits: f64 },
    SuffixRate(SuffixLimit),
    MalformedRate,
}

impl Trigger {
    /// As configurations spell it.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::QueryRate => "query-rate",
            Self::QtypeRate(_) => "qtype-rate",
            Self::RcodeRate(_) => "rcode-rate",
            Self::ResponseByteRate => "response-byte-rate",
            Self::RcodeRatio(_) => "rcode-ratio",
            Self::AllowedRcodesRatio(_) => "allowed-rcodes-ratio",
            Self::CacheMissRatio { .. } => "cache-miss-ratio",
            Self::SuffixRate(_) => "suffix-rate",
            Self::MalformedRate => "malformed-rate",
        }
    }

    const fn reason(&self) -> &'static str {
        match self {
            Self::QueryRate => "Exceeded query rate",
            Self::QtypeRate(_) => "Exceeded query type rate",
            Self::RcodeRate(_) => "Exceeded response code rate",
            Self::ResponseByteRate => "Exceeded response byte rate",
            Self::RcodeRatio(_) => "Exceeded response code ratio",
            Self::AllowedRcodesRatio(_) => "Exceeded ratio of response codes that are not allowed",
            Self::CacheMissRatio { .. } => "Exceeded cache miss ratio",
            Self::SuffixRate(_) => "Exceeded rate below a suffix",
            Self::MalformedRate => "Exceeded rate of malformed queries",
        }
    }
}

/// A limit as it was written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    Rate(Rate),
    Ratio(Ratio),
}

impl Limit {
    pub(crate) const fn window(&self) -> Duration {
        match self {
            Self::Rate(rate) => rate.window(),
            Self::Ratio(ratio) => ratio.window(),
        }
    }
}

/// A rule as it was written.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) trigger: Trigger,
    pub(crate) limit: Limit,
    pub(crate) penalty: Penalty,
}

/// Where the state of all rules is.
pub(crate) struct Stores {
    pub(crate) rates: Arc<Slots>,
    pub(crate) ratios: Option<Arc<Slots>>,
}

/// A rule with its meters.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) trigger: Trigger,
    pub(crate) penalty: Penalty,
    pub(crate) reason: Arc<str>,
    /// By protocol and prefix length; for suffixes, only one.
    meters: [Box<[Meter]>; 2],
    global: Global,
}

#[derive(Debug, Default)]
struct Global {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Rule {
    /// Checks the rule with this number, and sets up its meters.
    pub(crate) fn new(
        number: usize,
        spec: Spec,
        tiers: &Tiers,
        stores: &Stores,
    ) -> Result<Self, DynBlockError> {
        let Spec { trigger, limit, penalty } = spec;
        let kind = trigger.kind();
        let invalid = |problem| DynBlockError::Penalty { number, kind, problem };
        penalty.check(&trigger, &limit).map_err(invalid)?;
        let of_rate = |source| DynBlockError::Rate { number, kind, source };
        match limit {
            Limit::Rate(rate) => rate.check().map_err(of_rate)?,
            Limit::Ratio(ratio) => {
                ratio.check().map_err(|source| DynBlockError::Ratio { number, kind, source })?;
            }
        }
        let mut salts = 0_u64;
        let mut salt = || {
            salts += 1;
            tiers.hash(&[(number as u64).to_le_bytes(), salts.to_le_bytes()].concat())
        };
        let mut meters = |tiers: &[Tier]| -> Result<Box<[Meter]>, DynBlockError> {
            let meter = |tier: &Tier| Meter::new(&trigger, limit, &penalty, tier.multiple, stores, &mut salt);
            tiers.iter().map(meter).collect::<Result<_, _>>().map_err(of_rate)
        };
        let whole = [Tier { len: 0, multiple: 1 }];
        let meters = if matches!(trigger, Trigger::SuffixRate(_)) {
            [meters(&whole)?, Box::default()]
        } else {
            [meters(&tiers.v4)?, meters(&tiers.v6)?]
        };
        let reason = penalty.reason.clone().unwrap_or_else(|| trigger.reason().into());
        Ok(Self { trigger, penalty, reason, meters, global: Global::default() })
    }

    /// Brings into the cache what `observe` is going to need.
    #[inline]
    pub(crate) fn touch(&self, keys: &Keys, is_ipv4: bool) {
        for (&key, meter) in keys.as_slice().iter().zip(&self.meters[usize::from(!is_ipv4)]) {
            meter.touch(key);
        }
    }

    /// Counts an event for every prefix of a client, up to the first that has too many: what one client does too much is
    /// nothing that its network is to blame for. Says what has been exceeded, by the number of the prefix.
    #[inline]
    pub(crate) fn observe(
        &self,
        client: Client<'_>,
        now: u64,
        amount: Amount,
        mut found: impl FnMut(usize, Finding),
    ) {
        let meters = &self.meters[usize::from(!client.is_ipv4)];
        for (tier, (&key, meter)) in client.keys.as_slice().iter().zip(meters).enumerate() {
            let (level, step) = meter.observe(key ^ client.scope, now, amount, client.proven, &self.penalty);
            match level {
                Level::Under => {}
                Level::Warning => found(tier, meter.finding(true, None, amount)),
                Level::Over => {
                    found(tier, meter.finding(false, step, amount));
                    break;
                }
            }
        }
    }

    /// Counts an event for a suffix.
    pub(crate) fn observe_suffix(&self, key: u64, now: u64) -> Option<Finding> {
        let [meters, _] = &self.meters;
        let meter = meters.first()?;
        match meter.observe(key, now, Amount::ONE, false, &self.penalty) {
            (Level::Under, _) => None,
            (Level::Warning, _) => Some(meter.finding(true, None, Amount::ONE)),
            (Level::Over, step) => Some(meter.finding(false, step, Amount::ONE)),
        }
    }

    /// What a response adds; nothing if the rule is about something else.
    pub(crate) fn amount(&self, response: &ResponseEvent<'_>) -> Option<Amount> {
        let one_if = |counts: bool| counts.then_some(Amount::ONE);
        match &self.trigger {
            Trigger::RcodeRate(rcode) => one_if(response.rcode == *rcode),
            Trigger::ResponseByteRate => NonZeroU32::new(response.size).map(Amount::Cells),
            Trigger::RcodeRatio(rcode) => Some(Amount::Response { matching: response.rcode == *rcode }),
            Trigger::AllowedRcodesRatio(allowed) => {
                Some(Amount::Response { matching: !allowed.contains(&response.rcode) })
            }
            Trigger::CacheMissRatio { .. } => {
                response.cache_hit.map(|hit| Amount::Response { matching: !hit })
            }
            Trigger::QueryRate | Trigger::QtypeRate(_) | Trigger::SuffixRate(_) | Trigger::MalformedRate => {
                None
            }
        }
    }

    /// Counts what is counted of all clients together.
    pub(crate) fn count_for_all(&self, response: &ResponseEvent<'_>) {
        if let (Trigger::CacheMissRatio { .. }, Some(hit)) = (&self.trigger, response.cache_hit) {
            let counter = if hit { &self.global.hits } else { &self.global.misses };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether what holds for all clients lets the rule bite.
    pub(crate) fn bites(&self) -> bool {
        let Trigger::CacheMissRatio { min_global_hits } = self.trigger else { return true };
        let [hits, misses] = [&self.global.hits, &self.global.misses].map(|n| n.load(Ordering::Relaxed));
        #[expect(clippy::cast_precision_loss, reason = "a ratio")]
        let ratio = hits as f64 / (hits as f64 + misses as f64);
        hits > 0 && misses > 0 && ratio >= min_global_hits
    }

    /// Which of the queries of the client are counted together with one for this name and type, and a number for them;
    /// `None` if the rule does not count it.
    #[inline]
    pub(crate) fn scope_key(&self, tiers: &Tiers, name: &QName, qtype: u16) -> Option<u64> {
        match self.penalty.scope {
            ScopeBy::Client => Some(0),
            ScopeBy::Qtype => Some(tiers.hash(&qtype.to_le_bytes())),
            ScopeBy::Suffix { labels } => last_labels(name, labels).map(|suffix| tiers.hash(suffix)),
        }
    }

    /// The same in words.
    pub(crate) fn scope(&self, name: &QName, qtype: u16) -> Scope {
        match self.penalty.scope {
            ScopeBy::Client => Scope::All,
            ScopeBy::Qtype => Scope::Qtype(qtype),
            ScopeBy::Suffix { labels } => last_labels(name, labels)
                .and_then(|wire| QName::from_wire(wire).ok())
                .map_or(Scope::All, Scope::Suffix),
        }
    }
}

/// A client as the meters know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    pub(crate) keys: &'a Keys,
    pub(crate) is_ipv4: bool,
    pub(crate) scope: u64,
    pub(crate) proven: bool,
}
