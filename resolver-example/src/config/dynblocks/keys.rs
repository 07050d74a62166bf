//! Which keys go with which kind of rule.

use std::ops::Range;

use toml::Spanned;

use super::{
    problem::DynBlocksProblem,
    schema::{Kind, Rule},
};

/// Every rule has these.
const COMMON: &[&str] = &["block_for", "reason", "action", "slip", "dry_run", "growth"];
const RATE: &[&str] = &["rate", "window", "warning_rate"];
const RATIO: &[&str] = &["ratio", "window", "warning_ratio", "minimum"];
const SCOPE: &[&str] = &["scope", "scope_labels"];
const LADDER: &[&str] = &["ladder"];

impl Kind {
    /// As configurations spell it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::QueryRate => "query-rate",
            Self::QtypeRate => "qtype-rate",
            Self::RcodeRate => "rcode-rate",
            Self::ResponseByteRate => "response-byte-rate",
            Self::RcodeRatio => "rcode-ratio",
            Self::AllowedRcodesRatio => "allowed-rcodes-ratio",
            Self::CacheMissRatio => "cache-miss-ratio",
            Self::SuffixRate => "suffix-rate",
            Self::MalformedRate => "malformed-rate",
        }
    }

    fn keys(self) -> Vec<&'static str> {
        match self {
            Self::QueryRate | Self::ResponseByteRate => [RATE, SCOPE, LADDER, COMMON].concat(),
            Self::QtypeRate => [&["qtype"], RATE, SCOPE, LADDER, COMMON].concat(),
            Self::RcodeRate => [&["rcode"], RATE, SCOPE, LADDER, COMMON].concat(),
            Self::RcodeRatio => [&["rcode"], RATIO, SCOPE, COMMON].concat(),
            Self::AllowedRcodesRatio => [&["rcodes"], RATIO, SCOPE, COMMON].concat(),
            Self::CacheMissRatio => [RATIO, &["minimum_global_hits"], SCOPE, COMMON].concat(),
            Self::SuffixRate => [&["suffixes", "labels", "count"], RATE, COMMON].concat(),
            Self::MalformedRate => [RATE, LADDER, COMMON].concat(),
        }
    }

    /// That a rule lacks this key.
    pub(super) const fn lacks(self, key: &'static str, example: &'static str) -> DynBlocksProblem {
        DynBlocksProblem::Missing { kind: self.name(), key, example }
    }
}

/// Says which key the kind of the rule has no use for, if there is one.
pub(super) fn superfluous(rule: &Rule) -> Result<(), Spanned<DynBlocksProblem>> {
    let keys = rule.kind.keys();
    match present(rule).into_iter().find(|(key, _)| !keys.contains(key)) {
        None => Ok(()),
        Some((key, span)) => {
            let keys = keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
            let kind = rule.kind.name();
            Err(Spanned::new(span, DynBlocksProblem::Superfluous { kind, key, keys }))
        }
    }
}

/// The keys that are there, but for `kind`.
fn present(rule: &Rule) -> Vec<(&'static str, Range<usize>)> {
    fn span<T>(key: &'static str, value: Option<&Spanned<T>>) -> Option<(&'static str, Range<usize>)> {
        value.map(|value| (key, value.span()))
    }
    let Rule {
        kind: _,
        rate,
        window,
        warning_rate,
        ratio,
        warning_ratio,
        minimum,
        minimum_global_hits,
        qtype,
        rcode,
        rcodes,
        suffixes,
        labels,
        count,
        block_for,
        reason,
        action,
        slip,
        dry_run,
        scope,
        scope_labels,
        ladder,
        growth,
    } = rule;
    let all = [
        span("rate", rate.as_ref()),
        span("window", window.as_ref()),
        span("warning_rate", warning_rate.as_ref()),
        span("ratio", ratio.as_ref()),
        span("warning_ratio", warning_ratio.as_ref()),
        span("minimum", minimum.as_ref()),
        span("minimum_global_hits", minimum_global_hits.as_ref()),
        span("qtype", qtype.as_ref()),
        span("rcode", rcode.as_ref()),
        span("rcodes", rcodes.as_ref()),
        span("suffixes", suffixes.as_ref()),
        span("labels", labels.as_ref()),
        span("count", count.as_ref()),
        span("block_for", block_for.as_ref()),
        span("reason", reason.as_ref()),
        span("action", action.as_ref()),
        span("slip", slip.as_ref()),
        span("dry_run", dry_run.as_ref()),
        span("scope", scope.as_ref()),
        span("scope_labels", scope_labels.as_ref()),
        span("ladder", ladder.as_ref()),
        span("growth", growth.as_ref()),
    ];
    all.into_iter().flatten().collect()
}
