//! `[filter]`: how rules are enforced, and how many there may be.

use std::path::PathBuf;

use ebpf_filter::{Kind, Malformed, Mode};
use toml::Spanned;

use super::{
    error::{ConfigError, Problem},
    rules::Rules,
    schema,
    source::Source,
};

/// Room for rules of each kind.
const DEFAULT_MAX: u32 = 1024;

/// What the packet filter is to be.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) mode: Mode,
    pub(crate) malformed: Malformed,
    pub(crate) ipv4_max: u32,
    pub(crate) ipv6_max: u32,
    pub(crate) ranges4_max: u32,
    pub(crate) ranges6_max: u32,
    pub(crate) qnames_max: u32,
    pub(crate) suffixes_max: u32,
    /// Absolute.
    pub(crate) pin_dir: Option<PathBuf>,
    /// No more of a kind than its maximum, no two that match the same.
    pub(crate) rules: Rules,
}

impl Filter {
    /// How many rules of this kind there is room for; none of a kind that has no setting here.
    pub(super) fn max(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Ipv4 => self.ipv4_max,
            Kind::Ipv6 => self.ipv6_max,
            Kind::Range4 => self.ranges4_max,
            Kind::Range6 => self.ranges6_max,
            Kind::Qname => self.qnames_max,
            Kind::Suffix => self.suffixes_max,
            _ => 0,
        }
    }

    /// Unless the file says otherwise, there is room for so many blocks beside the rules.
    pub(super) fn check(raw: schema::Filter, blocks: u32, source: &Source<'_>) -> Result<Self, ConfigError> {
        let schema::Filter {
            mode,
            malformed,
            ipv4_max,
            ipv6_max,
            ranges4_max,
            ranges6_max,
            qnames_max,
            suffixes_max,
            pin_dir,
            rules,
        } = raw;
        let pin_dir = match pin_dir {
            Some(directory) if !directory.get_ref().is_absolute() => {
                let span = directory.span();
                return Err(source.invalid(&span, Problem::PinDir { value: directory.into_inner() }));
            }
            pin_dir => pin_dir.map(Spanned::into_inner),
        };
        let default = DEFAULT_MAX.saturating_add(blocks);
        let mut filter = Self {
            mode: match mode {
                schema::Mode::Prefer => Mode::Prefer,
                schema::Mode::Require => Mode::Require,
                schema::Mode::Off => Mode::Off,
            },
            malformed: match malformed {
                schema::Malformed::Pass => Malformed::Pass,
                schema::Malformed::Drop => Malformed::Drop,
            },
            ipv4_max: ipv4_max.unwrap_or(default),
            ipv6_max: ipv6_max.unwrap_or(default),
            ranges4_max: ranges4_max.unwrap_or(default),
            ranges6_max: ranges6_max.unwrap_or(default),
            qnames_max: qnames_max.unwrap_or(DEFAULT_MAX),
            suffixes_max: suffixes_max.unwrap_or(default),
            pin_dir,
            rules: Rules::default(),
        };
        filter.rules = Rules::check(rules, &filter, source)?;
        Ok(filter)
    }
}

impl Default for Filter {
    fn default() -> Self {
        Self {
            mode: Mode::Prefer,
            malformed: Malformed::Pass,
            ipv4_max: DEFAULT_MAX,
            ipv6_max: DEFAULT_MAX,
            ranges4_max: DEFAULT_MAX,
            ranges6_max: DEFAULT_MAX,
            qnames_max: DEFAULT_MAX,
            suffixes_max: DEFAULT_MAX,
            pin_dir: None,
            rules: Rules::default(),
        }
    }
}
