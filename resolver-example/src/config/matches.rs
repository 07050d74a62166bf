//! What a rule matches: its kind, value and qtype together.

use std::net::IpAddr;

use ebpf_filter::{Match, QName, Qtypes};
use ipnet::IpNet;
use toml::Spanned;

use super::{
    qtype,
    rule_problem::RuleProblem,
    schema::{QtypeSet, RuleKind},
};

/// One match, or one for each type of a list; what is wrong, and where.
pub(super) fn parse(
    kind: RuleKind,
    value: &Spanned<String>,
    qtype: Option<Spanned<QtypeSet>>,
) -> Result<Vec<Match>, Spanned<RuleProblem>> {
    let text = value.get_ref();
    let of_value = |problem| Spanned::new(value.span(), problem);
    match (kind, qtype) {
        (RuleKind::Address, None) => Ok(vec![parse_address(text).map_err(of_value)?]),
        (RuleKind::Range, None) => Ok(vec![parse_range(text).map_err(of_value)?]),
        (RuleKind::Address | RuleKind::Range, Some(qtype)) => {
            Err(Spanned::new(qtype.span(), RuleProblem::QtypeOfSource))
        }
        (RuleKind::Qname, qtype) => {
            let name = parse_name(text).map_err(of_value)?;
            Ok(of_types(qtype)?.into_iter().map(|qtypes| Match::qname(name.clone(), qtypes)).collect())
        }
        (RuleKind::Suffix, qtype) => {
            let name = parse_suffix(text).map_err(of_value)?;
            Ok(of_types(qtype)?.into_iter().map(|qtypes| Match::suffix(name.clone(), qtypes)).collect())
        }
    }
}

/// An IPv4 address in IPv6 form becomes the IPv4 address: that is what packets carry.
fn parse_address(value: &str) -> Result<Match, RuleProblem> {
    match value.parse::<IpAddr>() {
        Ok(address) => Ok(Match::address(address)),
        Err(_) => Err(RuleProblem::Address { value: value.to_owned() }),
    }
}

fn parse_range(value: &str) -> Result<Match, RuleProblem> {
    match value.parse::<IpNet>() {
        Ok(net) => Ok(Match::range(net)),
        Err(_) if !value.contains('/') => Err(RuleProblem::NoPrefix { value: value.to_owned() }),
        Err(_) => Err(RuleProblem::Range { value: value.to_owned() }),
    }
}

fn parse_name(value: &str) -> Result<QName, RuleProblem> {
    value.parse().map_err(|reason| RuleProblem::Name { value: value.to_owned(), reason })
}

/// Logs show a suffix with `*.` before it. Read as a label, that asterisk would match next to nothing.
fn parse_suffix(value: &str) -> Result<QName, RuleProblem> {
    if value == "*" || value.starts_with("*.") {
        return Err(RuleProblem::Wildcard { value: value.to_owned() });
    }
    parse_name(value)
}

fn of_types(qtype: Option<Spanned<QtypeSet>>) -> Result<Vec<Qtypes>, Spanned<RuleProblem>> {
    let Some(qtype) = qtype else { return Ok(vec![Qtypes::All]) };
    let span = qtype.span();
    let qtypes = match qtype.into_inner() {
        QtypeSet::One(qtype) => qtype::parse(&qtype).map(|qtype| vec![qtype]),
        QtypeSet::Several(qtypes) if qtypes.is_empty() => Err(RuleProblem::NoQtype),
        QtypeSet::Several(qtypes) => qtypes.iter().map(qtype::parse).collect(),
    };
    qtypes.map_err(|problem| Spanned::new(span, problem))
}
