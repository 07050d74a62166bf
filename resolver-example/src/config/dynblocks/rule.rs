//! `[[dynblocks.rules]]`: who is blocked.

use std::{ops::Range, time::Duration};

use ebpf_filter::dynblock::{
    DynBlockError, DynBlockGroup, DynBlockGroupBuilder, Penalty, Rate, RateError, Ratio, RatioError,
    SuffixLimit,
};
use toml::Spanned;

use super::{
    keys, penalty,
    problem::DynBlocksProblem,
    schema::{self, Kind},
    values::{at, one_qtype, rcode, suffix, time},
};

/// What limits are measured over unless `window` says otherwise.
const WINDOW: Duration = Duration::from_secs(10);

type Wrong = Spanned<DynBlocksProblem>;

/// A limit, and what happens to who exceeds it.
#[derive(Clone, Debug)]
pub(crate) struct DynBlockRule {
    limit: Limit,
    penalty: Penalty,
}

#[derive(Clone, Debug)]
enum Limit {
    Queries(Rate),
    Qtype(u16, Rate),
    Rcode(u16, Rate),
    ResponseBytes(Rate),
    RcodeRatio(u16, Ratio),
    AllowedRcodes(Vec<u16>, Ratio),
    CacheMisses(Ratio, f64),
    Suffix(SuffixLimit, Rate),
    Malformed(Rate),
}

impl DynBlockRule {
    /// The group with this rule.
    pub(crate) fn add_to(self, group: DynBlockGroupBuilder) -> DynBlockGroupBuilder {
        let Self { limit, penalty } = self;
        match limit {
            Limit::Queries(rate) => group.query_rate(rate, penalty),
            Limit::Qtype(qtype, rate) => group.qtype_rate(qtype, rate, penalty),
            Limit::Rcode(rcode, rate) => group.rcode_rate(rcode, rate, penalty),
            Limit::ResponseBytes(rate) => group.response_byte_rate(rate, penalty),
            Limit::RcodeRatio(rcode, ratio) => group.rcode_ratio(rcode, ratio, penalty),
            Limit::AllowedRcodes(rcodes, ratio) => group.allowed_rcodes_ratio(rcodes, ratio, penalty),
            Limit::CacheMisses(ratio, hits) => group.cache_miss_ratio(ratio, hits, penalty),
            Limit::Suffix(suffixes, rate) => group.suffix_rate(suffixes, rate, penalty),
            Limit::Malformed(rate) => group.malformed_rate(rate, penalty),
        }
    }

    /// Whether it is about messages that cannot be read.
    pub(super) const fn counts_malformed(&self) -> bool {
        matches!(self.limit, Limit::Malformed(_))
    }

    /// Checks a rule, for clients that are counted as `group` says.
    pub(super) fn check(
        raw: Spanned<schema::Rule>,
        forwards: bool,
        group: impl FnOnce() -> DynBlockGroupBuilder,
    ) -> Result<Self, Wrong> {
        let (span, raw) = (raw.span(), raw.into_inner());
        keys::superfluous(&raw)?;
        let places = Places::of(&raw, &span);
        let limit = limit(&raw, &span)?;
        if matches!(limit, Limit::CacheMisses(..)) && !forwards {
            return Err(Spanned::new(span, DynBlocksProblem::NoCache));
        }
        let penalty = penalty::check(raw, &span)?;
        let rule = Self { limit, penalty };
        match rule.clone().add_to(group()).build() {
            Ok(group) => {
                drop::<DynBlockGroup>(group);
                Ok(rule)
            }
            Err(error) => Err(places.locate(error)),
        }
    }
}

fn limit(raw: &schema::Rule, span: &Range<usize>) -> Result<Limit, Wrong> {
    let missing = |key, example| Spanned::new(span.clone(), raw.kind.lacks(key, example));
    let rate = |example| {
        let limit = raw.rate.as_ref().ok_or_else(|| missing("rate", example))?;
        let rate = Rate::per_second(*limit.get_ref()).over(window(raw)?);
        Ok(raw.warning_rate.as_ref().map_or(rate, |warning| rate.warn_above(*warning.get_ref())))
    };
    let ratio = || {
        let limit = raw.ratio.as_ref().ok_or_else(|| missing("ratio", "ratio = 0.2"))?;
        let ratio = Ratio::above(*limit.get_ref()).over(window(raw)?);
        let ratio = raw.minimum.as_ref().map_or(ratio, |minimum| ratio.at_least(*minimum.get_ref()));
        Ok(raw.warning_ratio.as_ref().map_or(ratio, |warning| ratio.warn_above(*warning.get_ref())))
    };
    let one_rcode = || at(raw.rcode.as_ref().ok_or_else(|| missing("rcode", "rcode = \"SERVFAIL\""))?, rcode);
    Ok(match raw.kind {
        Kind::QueryRate => Limit::Queries(rate("rate = 20")?),
        Kind::QtypeRate => {
            let qtype = raw.qtype.as_ref().ok_or_else(|| missing("qtype", "qtype = \"ANY\""))?;
            Limit::Qtype(at(qtype, one_qtype)?, rate("rate = 5")?)
        }
        Kind::RcodeRate => Limit::Rcode(one_rcode()?, rate("rate = 5")?),
        Kind::ResponseByteRate => Limit::ResponseBytes(rate("rate = 10000, in bytes a second")?),
        Kind::RcodeRatio => Limit::RcodeRatio(one_rcode()?, ratio()?),
        Kind::AllowedRcodesRatio => {
            let example = "rcodes = [\"NOERROR\", \"NXDOMAIN\"]";
            let rcodes = raw.rcodes.as_ref().ok_or_else(|| missing("rcodes", example))?;
            let list = rcodes.get_ref().iter().map(|one| at(one, rcode)).collect::<Result<Vec<_>, _>>()?;
            if list.is_empty() {
                return Err(Spanned::new(rcodes.span(), DynBlocksProblem::EmptyRcodes));
            }
            Limit::AllowedRcodes(list, ratio()?)
        }
        Kind::CacheMissRatio => Limit::CacheMisses(ratio()?, global_hits(raw)?),
        Kind::SuffixRate => Limit::Suffix(suffixes(raw, span)?, rate("rate = 100")?),
        Kind::MalformedRate => Limit::Malformed(rate("rate = 5")?),
    })
}

fn window(raw: &schema::Rule) -> Result<Duration, Wrong> {
    raw.window.as_ref().map_or(Ok(WINDOW), |window| time("window", window))
}

fn global_hits(raw: &schema::Rule) -> Result<f64, Wrong> {
    let Some(value) = &raw.minimum_global_hits else { return Ok(0.0) };
    at(value, |&value| {
        let is_share = (0.0..=1.0).contains(&value);
        if is_share { Ok(value) } else { Err(DynBlocksProblem::GlobalHits { value }) }
    })
}

fn suffixes(raw: &schema::Rule, span: &Range<usize>) -> Result<SuffixLimit, Wrong> {
    let limit = match (&raw.suffixes, &raw.labels) {
        (None, None) => return Err(Spanned::new(span.clone(), DynBlocksProblem::NoSuffixes)),
        (Some(_), Some(labels)) => {
            return Err(Spanned::new(labels.span(), DynBlocksProblem::SuffixesAndLabels));
        }
        (Some(names), None) if names.get_ref().is_empty() => {
            return Err(Spanned::new(names.span(), DynBlocksProblem::EmptySuffixes));
        }
        (Some(names), None) => {
            let names = names
                .get_ref()
                .iter()
                .map(|name| at(name, |name| suffix(name)))
                .collect::<Result<Vec<_>, _>>()?;
            SuffixLimit::below(names)
        }
        (None, Some(labels)) => SuffixLimit::labels(penalty::labels("labels", labels)?),
    };
    Ok(match raw.count.as_ref().map_or(schema::Counted::Queries, |count| *count.get_ref()) {
        schema::Counted::Queries => limit.queries(),
        schema::Counted::NxDomain => limit.nxdomains(),
        schema::Counted::ServFail => limit.servfails(),
    })
}

/// Where in the file the reasons are for which the library refuses a rule.
struct Places {
    limit: Range<usize>,
    window: Range<usize>,
    warning: Range<usize>,
    minimum: Range<usize>,
    penalty: Range<usize>,
}

impl Places {
    fn of(raw: &schema::Rule, rule: &Range<usize>) -> Self {
        fn of<T>(value: Option<&Spanned<T>>) -> Option<Range<usize>> {
            value.map(Spanned::span)
        }
        let limit = of(raw.rate.as_ref()).or(of(raw.ratio.as_ref())).unwrap_or(rule.clone());
        let warning = of(raw.warning_rate.as_ref()).or(of(raw.warning_ratio.as_ref()));
        let penalty = of(raw.growth.as_ref()).or(of(raw.ladder.as_ref()));
        Self {
            window: of(raw.window.as_ref()).unwrap_or(limit.clone()),
            warning: warning.unwrap_or(limit.clone()),
            minimum: of(raw.minimum.as_ref()).unwrap_or(limit.clone()),
            penalty: penalty.or(of(raw.block_for.as_ref())).unwrap_or(rule.clone()),
            limit,
        }
    }

    fn locate(self, error: DynBlockError) -> Wrong {
        let Self { limit, window, warning, minimum, penalty } = self;
        match error {
            DynBlockError::Rate { source, .. } => {
                let place = if matches!(source, RateError::Window { .. }) {
                    window
                } else if matches!(source, RateError::Warning { .. }) {
                    warning
                } else {
                    limit
                };
                Spanned::new(place, DynBlocksProblem::Rate(source))
            }
            DynBlockError::Ratio { source, .. } => {
                let place = if matches!(source, RatioError::Window { .. }) {
                    window
                } else if matches!(source, RatioError::Warning { .. }) {
                    warning
                } else if matches!(source, RatioError::Minimum { .. }) {
                    minimum
                } else {
                    limit
                };
                Spanned::new(place, DynBlocksProblem::Ratio(source))
            }
            DynBlockError::Penalty { problem, .. } => {
                Spanned::new(penalty, DynBlocksProblem::Penalty(problem))
            }
            other @ (DynBlockError::PrefixLength { .. }
            | DynBlockError::RepeatedPrefixLength { .. }
            | DynBlockError::TooManyPrefixLengths { .. }
            | DynBlockError::PortBits { .. }
            | DynBlockError::Memory { .. }
            | _) => Spanned::new(limit, DynBlocksProblem::Group(Box::new(other))),
        }
    }
}
