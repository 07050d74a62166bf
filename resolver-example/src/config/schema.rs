//! The configuration file as it is written: names, types and nothing else.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Spanned;

use super::dynblocks::schema::DynBlocks;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    pub(super) listen: Listen,
    pub(super) zones: Vec<Zone>,
    pub(super) forward: Option<Forward>,
    pub(super) filter: Filter,
    pub(super) dynblocks: Option<DynBlocks>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Listen {
    pub(super) dns: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) udp_sockets: Option<Spanned<u32>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Zone {
    pub(super) origin: Spanned<String>,
    pub(super) file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Forward {
    pub(super) upstreams: Spanned<Vec<Spanned<String>>>,
    pub(super) cache_size: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Filter {
    pub(super) mode: Mode,
    pub(super) malformed: Malformed,
    pub(super) ipv4_max: Option<u32>,
    pub(super) ipv6_max: Option<u32>,
    pub(super) ranges4_max: Option<u32>,
    pub(super) ranges6_max: Option<u32>,
    pub(super) qnames_max: Option<u32>,
    pub(super) suffixes_max: Option<u32>,
    pub(super) pin_dir: Option<Spanned<PathBuf>>,
    pub(super) rules: Vec<Rule>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    #[default]
    Prefer,
    Require,
    Off,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Malformed {
    #[default]
    Pass,
    Drop,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) kind: RuleKind,
    pub(super) value: Spanned<String>,
    pub(super) qtype: Option<Spanned<QtypeSet>>,
    #[serde(default)]
    pub(super) action: Action,
    pub(super) slip: Option<Spanned<i64>>,
    /// Text; whatever else it is gets the same error as text that is no time.
    pub(super) expires_in: Option<Spanned<toml::Value>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RuleKind {
    Address,
    Range,
    Qname,
    Suffix,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    #[default]
    Drop,
    Pass,
    Count,
    Truncate,
    Slip,
    Refused,
    NxDomain,
}

/// One qtype or a list of them.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "a qtype is \"ALL\", a type such as \"A\" or \"TYPE65\", a number, or a list of these"
)]
pub(super) enum QtypeSet {
    One(Qtype),
    Several(Vec<Qtype>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Qtype {
    Number(i64),
    Text(String),
}
