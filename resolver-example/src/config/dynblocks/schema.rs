//! `[dynblocks]` as it is written: names, types and nothing else.

use std::path::PathBuf;

use serde::Deserialize;
use toml::{Spanned, Value};

use super::super::schema::Qtype;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct DynBlocks {
    pub(super) mask4: Option<Spanned<u8>>,
    pub(super) mask6: Option<Spanned<u8>>,
    /// Pairs; whatever else they are gets the same error as pairs that do not fit.
    pub(super) tiers4: Option<Spanned<Value>>,
    pub(super) tiers6: Option<Spanned<Value>>,
    pub(super) port_bits: Option<Spanned<u8>>,
    pub(super) exclude: Vec<Spanned<String>>,
    pub(super) include: Vec<Spanned<String>>,
    pub(super) exclude_suffixes: Vec<Spanned<String>>,
    pub(super) state_file: Option<PathBuf>,
    pub(super) slots: Option<Spanned<u64>>,
    pub(super) max_blocks: Option<Spanned<u32>>,
    pub(super) max_blocks_per_network: Option<Spanned<u32>>,
    pub(super) action: Option<Spanned<BlockAction>>,
    pub(super) slip: Option<Spanned<u8>>,
    pub(super) quiet: bool,
    pub(super) rules: Vec<Spanned<Rule>>,
}

/// Which of the keys a rule has to have, and which it must not, depends on its kind: see `keys`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) kind: Kind,
    pub(super) rate: Option<Spanned<u32>>,
    pub(super) window: Option<Spanned<Value>>,
    pub(super) warning_rate: Option<Spanned<u32>>,
    pub(super) ratio: Option<Spanned<f64>>,
    pub(super) warning_ratio: Option<Spanned<f64>>,
    pub(super) minimum: Option<Spanned<u32>>,
    pub(super) minimum_global_hits: Option<Spanned<f64>>,
    pub(super) qtype: Option<Spanned<Qtype>>,
    pub(super) rcode: Option<Spanned<Rcode>>,
    pub(super) rcodes: Option<Spanned<Vec<Spanned<Rcode>>>>,
    pub(super) suffixes: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) labels: Option<Spanned<u8>>,
    pub(super) count: Option<Spanned<Counted>>,
    pub(super) block_for: Option<Spanned<Value>>,
    pub(super) reason: Option<Spanned<String>>,
    pub(super) action: Option<Spanned<BlockAction>>,
    pub(super) slip: Option<Spanned<u8>>,
    pub(super) dry_run: Option<Spanned<bool>>,
    pub(super) scope: Option<Spanned<Scope>>,
    pub(super) scope_labels: Option<Spanned<u8>>,
    pub(super) ladder: Option<Spanned<Ladder>>,
    pub(super) growth: Option<Spanned<Growth>>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(in crate::config) enum Kind {
    QueryRate,
    QtypeRate,
    RcodeRate,
    ResponseByteRate,
    RcodeRatio,
    AllowedRcodesRatio,
    CacheMissRatio,
    SuffixRate,
    MalformedRate,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum BlockAction {
    Drop,
    Truncate,
    Refused,
    NxDomain,
    Count,
    Slip,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Counted {
    Queries,
    NxDomain,
    ServFail,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Scope {
    Client,
    Qtype,
    Suffix,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "a response code is a name such as \"NXDOMAIN\", or a number")]
pub(super) enum Rcode {
    Number(i64),
    Text(String),
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "write `ladder = true`, or `ladder = { slip = 2, second_limit = 10 }`")]
pub(super) enum Ladder {
    Switch(bool),
    Steps(Steps),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Steps {
    pub(super) slip: Option<u8>,
    pub(super) second_limit: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "write `growth = true`, or `growth = { factor = 2, up_to = \"24h\", forgiven_after = \"1h\" }`"
)]
pub(super) enum Growth {
    Switch(bool),
    By(GrowthBy),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GrowthBy {
    pub(super) factor: Option<u32>,
    pub(super) up_to: Option<Value>,
    pub(super) forgiven_after: Option<Value>,
}
