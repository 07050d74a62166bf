//! `[dynblocks]`: who is counted, who is left alone, and what becomes of blocks.

mod keys;
mod penalty;
mod problem;
mod rule;
pub(super) mod schema;
mod tiers;
mod values;

use std::path::PathBuf;

use ebpf_filter::{
    Action, QName,
    dynblock::{
        DynBlockError, DynBlockGroup, DynBlockGroupBuilder, Exempt, governor::clock::FakeRelativeClock,
    },
};
use ipnet::IpNet;
use toml::Spanned;

pub(crate) use self::problem::DynBlocksProblem;
use self::{
    rule::DynBlockRule,
    tiers::Tiers,
    values::{at, clients, suffix},
};
use super::{
    error::{ConfigError, Problem},
    source::Source,
};

/// Rules that watch queries and responses, and what they have in common.
#[derive(Clone, Debug)]
pub(crate) struct DynBlocks {
    tiers4: Option<Tiers>,
    tiers6: Option<Tiers>,
    port_bits: u8,
    exclude: Vec<IpNet>,
    include: Vec<IpNet>,
    exclude_suffixes: Vec<QName>,
    slots: Option<usize>,
    max_blocks: usize,
    max_blocks_per_network: usize,
    action: Action,
    quiet: bool,
    /// Where blocks are kept while the server does not run.
    pub(crate) state_file: Option<PathBuf>,
    /// In the order of the file.
    pub(crate) rules: Vec<DynBlockRule>,
}

impl DynBlocks {
    /// All of it but the filter that blocks go into.
    pub(crate) fn builder(&self) -> DynBlockGroupBuilder {
        let group = self.rules.iter().fold(self.without_rules(), |group, rule| rule.clone().add_to(group));
        match self.slots {
            Some(slots) => group.slots(slots),
            None => group,
        }
    }

    fn without_rules(&self) -> DynBlockGroupBuilder {
        let Self { exclude, include, exclude_suffixes, .. } = self;
        let exempt = exclude.iter().fold(Exempt::none(), |exempt, net| exempt.exclude(*net));
        let exempt = include.iter().fold(exempt, |exempt, net| exempt.include(*net));
        let exempt = exclude_suffixes.iter().cloned().fold(exempt, Exempt::exclude_suffix);
        let mut group = DynBlockGroup::builder()
            .port_bits(self.port_bits)
            .exempt(exempt)
            .max_blocks(self.max_blocks, self.max_blocks_per_network)
            .default_action(self.action);
        if let Some(tiers) = &self.tiers4 {
            group = group.tiers4(tiers.iter());
        }
        if let Some(tiers) = &self.tiers6 {
            group = group.tiers6(tiers.iter());
        }
        if self.quiet { group.quiet() } else { group }
    }

    /// Like that, to see whether it can be built: nothing is counted, kept or started.
    fn on_trial(&self) -> DynBlockGroupBuilder {
        self.without_rules().no_filter().slots(1).clock(FakeRelativeClock::default())
    }

    /// The most blocks that there may be.
    pub(super) fn max_blocks(&self) -> u32 {
        self.max_blocks.try_into().unwrap_or(u32::MAX)
    }

    /// Whether there are rules about messages that cannot be read.
    pub(crate) fn counts_malformed(&self) -> bool {
        self.rules.iter().any(DynBlockRule::counts_malformed)
    }

    pub(super) fn check(
        raw: schema::DynBlocks,
        forwards: bool,
        source: &Source<'_>,
    ) -> Result<Self, ConfigError> {
        let (mut dynblocks, rules) = Self::of(raw, source).map_err(|wrong| {
            let span = wrong.span();
            source.invalid(&span, Problem::DynBlocks(wrong.into_inner()))
        })?;
        for (index, rule) in rules.into_iter().enumerate() {
            let rule = DynBlockRule::check(rule, forwards, || dynblocks.on_trial()).map_err(|wrong| {
                let span = wrong.span();
                source
                    .invalid(&span, Problem::DynBlockRule { number: index + 1, problem: wrong.into_inner() })
            })?;
            dynblocks.rules.push(rule);
        }
        Ok(dynblocks)
    }

    /// All but the rules, and these as they are written.
    fn of(raw: schema::DynBlocks, source: &Source<'_>) -> Result<(Self, RawRules), Wrong> {
        let schema::DynBlocks {
            mask4,
            mask6,
            tiers4,
            tiers6,
            port_bits,
            exclude,
            include,
            exclude_suffixes,
            state_file,
            slots,
            max_blocks,
            max_blocks_per_network,
            action,
            slip,
            quiet,
            rules,
        } = raw;
        let [tiers4, tiers6] = [Tiers::v4(mask4, tiers4)?, Tiers::v6(mask6, tiers6)?];
        let exclude = exclude.iter().map(|net| at(net, |net| clients(net))).collect::<Result<Vec<_>, _>>()?;
        let apart = |net: &Spanned<String>| match at(net, |net| clients(net))? {
            both if exclude.contains(&both) => {
                Err(Spanned::new(net.span(), DynBlocksProblem::ExcludedAndIncluded { net: both }))
            }
            included => Ok(included),
        };
        let include = include.iter().map(apart).collect::<Result<Vec<_>, _>>()?;
        let dynblocks = Self {
            tiers4,
            tiers6,
            port_bits: port_bits.as_ref().map_or(0, |bits| *bits.get_ref()),
            exclude,
            include,
            exclude_suffixes: exclude_suffixes
                .iter()
                .map(|name| at(name, |name| suffix(name)))
                .collect::<Result<_, _>>()?,
            slots: number("slots", slots, MAX_SLOTS)?,
            max_blocks: number("max_blocks", max_blocks, MAX_BLOCKS)?.unwrap_or(8192),
            max_blocks_per_network: number("max_blocks_per_network", max_blocks_per_network, MAX_BLOCKS)?
                .unwrap_or(256),
            action: penalty::action(action.as_ref(), slip.as_ref())?.unwrap_or(Action::Drop),
            quiet,
            state_file: state_file.map(|file| source.folder().join(file)),
            rules: Vec::new(),
        };
        // Prefix lengths fit; so it is the ports if something does not.
        match (dynblocks.on_trial().build(), port_bits) {
            (Err(error @ DynBlockError::PortBits { .. }), Some(bits)) => {
                Err(Spanned::new(bits.span(), DynBlocksProblem::Group(Box::new(error))))
            }
            (_, _) => Ok((dynblocks, rules)),
        }
    }
}

type Wrong = Spanned<DynBlocksProblem>;
type RawRules = Vec<Spanned<schema::Rule>>;

/// 64 GiB.
const MAX_SLOTS: u64 = 1 << 32;
/// More than any filter has room for.
const MAX_BLOCKS: u64 = 1 << 24;

/// A number from 1 to `to`.
fn number<T: Copy + Into<u64>>(
    key: &'static str,
    value: Option<Spanned<T>>,
    to: u64,
) -> Result<Option<usize>, Wrong> {
    let Some(raw) = value else { return Ok(None) };
    let value = (*raw.get_ref()).into();
    match usize::try_from(value) {
        Ok(number) if (1..=to).contains(&value) => Ok(Some(number)),
        Ok(_) | Err(_) => Err(Spanned::new(raw.span(), DynBlocksProblem::Number { key, value, from: 1, to })),
    }
}
