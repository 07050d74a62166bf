//! `[[filter.rules]]`: what the filter matches, and what it does then.

use std::{collections::HashMap, fmt};

use ebpf_filter::{Action, Kind, Rule};
use toml::Spanned;

use super::{
    error::{ConfigError, Problem},
    expiry,
    filter::Filter,
    matches,
    rule_problem::RuleProblem,
    schema,
    source::Source,
};

/// Which queries are answered with TC=1 by the action "slip", as most resolvers that limit responses have it.
pub(super) const DEFAULT_SLIP: u8 = 2;

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
            let invalid = |problem: Spanned<RuleProblem>| {
                let span = problem.span();
                source.invalid(&span, Problem::Rule { number: index + 1, problem: problem.into_inner() })
            };
            for rule in parse(raw).map_err(invalid)? {
                let at = |problem| invalid(Spanned::new(span.clone(), problem));
                let Rule { matches, .. } = &rule;
                if let Some(first) = lines.insert(matches.clone(), source.line(&span)) {
                    return Err(at(RuleProblem::Repeated { matches: matches.clone(), first }));
                }
                let kind = matches.kind();
                rules.make_room(kind, filter.max(kind)).map_err(at)?;
                rules.entries.push(rule);
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

/// One rule, or one for each type of a list.
fn parse(raw: schema::Rule) -> Result<Vec<Rule>, Spanned<RuleProblem>> {
    let schema::Rule { kind, value, qtype, action, slip, expires_in } = raw;
    let action = parse_action(action, slip)?;
    let matches = matches::parse(kind, &value, qtype)?;
    let expires_in = match expires_in {
        None => None,
        Some(time) => {
            Some(expiry::parse(time.get_ref()).map_err(|problem| Spanned::new(time.span(), problem))?)
        }
    };
    Ok(matches.into_iter().map(|matches| Rule { expires_in, ..Rule::new(matches, action) }).collect())
}

fn parse_action(action: schema::Action, slip: Option<Spanned<i64>>) -> Result<Action, Spanned<RuleProblem>> {
    let action = match (action, &slip) {
        (schema::Action::Slip, None) => return Ok(Action::Slip(DEFAULT_SLIP)),
        (schema::Action::Slip, Some(slip)) => {
            let every = u8::try_from(*slip.get_ref()).ok().filter(|every| *every <= Action::MAX_SLIP);
            let problem = RuleProblem::Slip { value: *slip.get_ref() };
            return every.map(Action::Slip).ok_or_else(|| Spanned::new(slip.span(), problem));
        }
        (schema::Action::Drop, _) => Action::Drop,
        (schema::Action::Pass, _) => Action::Pass,
        (schema::Action::Count, _) => Action::Count,
        (schema::Action::Truncate, _) => Action::Truncate,
        (schema::Action::Refused, _) => Action::Refused,
        (schema::Action::NxDomain, _) => Action::NxDomain,
    };
    slip.map_or(Ok(action), |slip| Err(Spanned::new(slip.span(), RuleProblem::SlipOfOther)))
}
