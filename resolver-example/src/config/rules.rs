//! `[[filter.rules]]`: what the filter matches, and what it does then.

use std::{collections::HashMap, fmt, net::IpAddr, ops::Range};

use ebpf_filter::{Action, Kind, Match, QNameError, Qtypes, Rule};
use thiserror::Error;
use toml::Spanned;

use super::{
    error::{ConfigError, Problem},
    filter::Filter,
    qtype, schema,
    source::Source,
};

/// Rules that fit into their filter.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    entries: Vec<Rule>,
    counts: HashMap<Kind, u32>,
}

impl Rules {
    /// The rules, in the order of the file.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.entries.iter()
    }

    /// Checks `raw` against each other and against the room that `filter` has.
    pub(super) fn check(
        raw: Vec<schema::Rule>,
        filter: &Filter,
        source: &Source<'_>,
    ) -> Result<Self, ConfigError> {
        let mut rules = Self::default();
        let mut lines = HashMap::new();
        for (index, raw) in raw.into_iter().enumerate() {
            let span = raw.value.span();
            let at = |span: &Range<usize>, problem| {
                source.invalid(span, Problem::Rule { number: index + 1, problem })
            };
            let schema::Rule { kind, value, qtype, action } = raw;
            let action = match action {
                schema::Action::Drop => Action::Drop,
                schema::Action::Pass => Action::Pass,
                schema::Action::Count => Action::Count,
            };
            let matches = match (kind, qtype) {
                (schema::RuleKind::Address, None) => vec![parse_address(&value)],
                (schema::RuleKind::Address, Some(qtype)) => {
                    return Err(at(&qtype.span(), RuleProblem::QtypeOfAddress));
                }
                (schema::RuleKind::Qname, None) => vec![parse_qname(&value, Qtypes::All)],
                (schema::RuleKind::Qname, Some(qtypes)) => {
                    let span = qtypes.span();
                    let qtypes = parse_qtypes(qtypes.into_inner()).map_err(|problem| at(&span, problem))?;
                    qtypes.into_iter().map(|qtypes| parse_qname(&value, qtypes)).collect()
                }
            };
            for matches in matches {
                let matches = matches.map_err(|problem| at(&span, problem))?;
                if let Some(first) = lines.insert(matches.clone(), source.line(&span)) {
                    return Err(at(&span, RuleProblem::Repeated { matches, first }));
                }
                let kind = matches.kind();
                rules.make_room(kind, filter.max(kind)).map_err(|problem| at(&span, problem))?;
                rules.entries.push(Rule::new(matches, action));
            }
        }
        Ok(rules)
    }

    /// Counts a rule of this kind, unless there is no room for it.
    fn make_room(&mut self, kind: Kind, max: u32) -> Result<(), RuleProblem> {
        let count = self.counts.entry(kind).or_default();
        if *count >= max {
            return Err(RuleProblem::Full { kind, max });
        }
        *count += 1;
        Ok(())
    }
}

/// How many there are of each kind.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, kind) in Kind::ALL.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            let count = self.counts.get(kind).unwrap_or(&0);
            write!(f, "{separator}{count} {kind}")?;
        }
        f.write_str(" rules")
    }
}

fn parse_qtypes(raw: schema::QtypeSet) -> Result<Vec<Qtypes>, RuleProblem> {
    match raw {
        schema::QtypeSet::One(qtype) => Ok(vec![qtype::parse(&qtype)?]),
        schema::QtypeSet::Several(qtypes) if qtypes.is_empty() => Err(RuleProblem::NoQtype),
        schema::QtypeSet::Several(qtypes) => qtypes.iter().map(qtype::parse).collect(),
    }
}

/// An IPv4 address in IPv6 form becomes the IPv4 address: that is what packets carry.
fn parse_address(value: &Spanned<String>) -> Result<Match, RuleProblem> {
    let value = value.get_ref();
    match value.parse::<IpAddr>() {
        Ok(address) => Ok(Match::address(address)),
        Err(_) => Err(RuleProblem::Address { value: value.clone() }),
    }
}

fn parse_qname(value: &Spanned<String>, qtypes: Qtypes) -> Result<Match, RuleProblem> {
    let value = value.get_ref();
    match value.parse() {
        Ok(name) => Ok(Match::qname(name, qtypes)),
        Err(reason) => Err(RuleProblem::Qname { value: value.clone(), reason }),
    }
}

/// What can be wrong with a rule.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum RuleProblem {
    #[error(
        "{value:?} is not an IP address: write one address without port or prefix length, like \"192.0.2.7\" or \"2001:db8::7\""
    )]
    Address { value: String },
    #[error("{value:?} is not a domain name ({reason}): write it like \"evildomain.com\"")]
    Qname { value: String, reason: QNameError },
    #[error("an address rule matches every query of its source: remove `qtype`")]
    QtypeOfAddress,
    #[error(
        "{value} is not a qtype: write \"ALL\", a type such as \"A\", \"TYPE65\" for one without a name, or a number up to 65535"
    )]
    Qtype { value: String },
    #[error("`qtype` is an empty list: remove the key to match every type")]
    NoQtype,
    #[error("{matches} has a rule in line {first} already: remove one")]
    Repeated { matches: Match, first: usize },
    #[error("filter.{} = {max} has no room for this rule: raise it, or remove rules", .kind.setting())]
    Full { kind: Kind, max: u32 },
}
