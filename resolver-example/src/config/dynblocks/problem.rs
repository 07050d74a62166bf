//! What can be wrong with dynamic blocks, and what to write instead.

use ebpf_filter::{
    QNameError,
    dynblock::{DynBlockError, RateError, RatioError},
};
use ipnet::IpNet;
use thiserror::Error;

/// What can be wrong with `[dynblocks]`, or with one of its rules.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum DynBlocksProblem {
    #[error("a {kind} rule needs `{key}`: add it, like {example}")]
    Missing { kind: &'static str, key: &'static str, example: &'static str },
    #[error("a {kind} rule has no `{key}`: remove it; such a rule has {keys}")]
    Superfluous { kind: &'static str, key: &'static str, keys: String },
    #[error(
        "a suffix-rate rule needs `suffixes` or `labels`: add one, like suffixes = [\"victim.example\"] or labels = 2"
    )]
    NoSuffixes,
    #[error("`suffixes` and `labels` exclude each other: remove one")]
    SuffixesAndLabels,
    #[error("`suffixes` is an empty list: name at least one, like [\"victim.example\"]")]
    EmptySuffixes,
    #[error("{key} = {labels}: choose 1 to 127, like 2 for names such as example.com with all below them")]
    Labels { key: &'static str, labels: u8 },
    #[error(
        "`rcodes` is an empty list: name the response codes that are fine, like [\"NOERROR\", \"NXDOMAIN\"]"
    )]
    EmptyRcodes,
    #[error(
        "{value} is not a response code: write a name such as \"NXDOMAIN\" or \"SERVFAIL\", or a number up to 4095"
    )]
    Rcode { value: String },
    #[error(
        "{value} is not a single type: write one such as \"A\", \"TYPE65\" or 28; for all types, kind = \"query-rate\""
    )]
    Qtype { value: String },
    #[error(
        "{key} = {value} is not a time{}: write numbers with units, like \"10s\", \"5m\", \"1h30m\" or \"500ms\"",
        .reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
    )]
    Time { key: &'static str, value: String, reason: Option<Box<humantime::DurationError>> },
    #[error("nothing comes from a cache without [forward]: add that section, or remove this rule")]
    NoCache,
    #[error("minimum_global_hits = {value} is not a share: write one from 0.0 to 1.0")]
    GlobalHits { value: f64 },
    #[error("`slip` goes with action = \"slip\": add that, or remove `slip`")]
    SlipWithoutAction,
    #[error(
        "slip = {slip}: choose 1 to answer every query with TC=1, 2 for every second one, up to 127, or 0 for none"
    )]
    Slip { slip: u8 },
    #[error(
        "scope = \"suffix\" needs `scope_labels`: add scope_labels = 2 for names such as example.com with all below them"
    )]
    NoScopeLabels,
    #[error("`scope_labels` goes with scope = \"suffix\": add that, or remove `scope_labels`")]
    ScopeLabelsWithoutScope,
    #[error("{0}")]
    Rate(RateError),
    #[error("{0}")]
    Ratio(RatioError),
    #[error("{0}")]
    Penalty(&'static str),
    #[error("{0}")]
    Group(Box<DynBlockError>),
    #[error("`{mask}` and `{tiers}` exclude each other: remove one")]
    MaskAndTiers { mask: &'static str, tiers: &'static str },
    #[error(
        "{key} = {value} is no list of prefix lengths with multiples of the limit: write 1 to 8 pairs of a length up to {max} and a multiple from 1, each length once, like {example}"
    )]
    Tiers { key: &'static str, value: String, example: &'static str, max: u8 },
    #[error(
        "{value:?} is neither an IP address nor a range: write it like \"192.0.2.7\", \"192.0.2.0/24\" or \"2001:db8::/32\""
    )]
    Clients { value: String },
    #[error("{net} is in `exclude` and in `include`: remove one")]
    ExcludedAndIncluded { net: IpNet },
    #[error("{value:?} is not a domain name ({reason}): write it like \"victim.example\", without \"*\"")]
    Name { value: String, reason: QNameError },
    #[error(
        "{value:?}: a suffix stands for all names below it as it is: write it without \"*\", like \"victim.example\""
    )]
    Wildcard { value: String },
    #[error("{key} = {value}: choose {from} to {to}")]
    Number { key: &'static str, value: u64, from: u64, to: u64 },
}
