//! What happens to who exceeds a limit.

use std::ops::Range;

use ebpf_filter::{
    Action,
    dynblock::{Growth, Ladder, Penalty, ScopeBy},
};
use toml::Spanned;

use super::{
    problem::DynBlocksProblem,
    schema::{self, BlockAction, Scope},
    values::time,
};

type Wrong = Spanned<DynBlocksProblem>;

/// The penalty of a rule that is at `span`.
pub(super) fn check(raw: schema::Rule, span: &Range<usize>) -> Result<Penalty, Wrong> {
    let Some(block_for) = &raw.block_for else {
        return Err(Spanned::new(span.clone(), raw.kind.lacks("block_for", "block_for = \"60s\"")));
    };
    let mut penalty = Penalty::block_for(time("block_for", block_for)?);
    if let Some(action) = action(raw.action.as_ref(), raw.slip.as_ref())? {
        penalty = penalty.action(action);
    }
    if let Some(ladder) = raw.ladder.as_ref().and_then(|ladder| self::ladder(ladder.get_ref())) {
        penalty = penalty.ladder(ladder);
    }
    if let Some(growth) = raw.growth {
        penalty = self::growth(growth)?.map_or(penalty.clone(), |growth| penalty.growing(growth));
    }
    if raw.dry_run.is_some_and(Spanned::into_inner) {
        penalty = penalty.dry_run();
    }
    if let Some(reason) = raw.reason {
        penalty = penalty.reason(reason.into_inner());
    }
    Ok(penalty.scoped(scope(raw.scope, raw.scope_labels)?))
}

/// An action with its number.
pub(super) fn action(
    action: Option<&Spanned<BlockAction>>,
    slip: Option<&Spanned<u8>>,
) -> Result<Option<Action>, Wrong> {
    let plain = match (action, slip) {
        (Some(action), slip) if matches!(action.get_ref(), BlockAction::Slip) => {
            let Some(slip) = slip else { return Ok(Some(Action::Slip(crate::config::rules::DEFAULT_SLIP))) };
            let every = *slip.get_ref();
            if every > Action::MAX_SLIP {
                return Err(Spanned::new(slip.span(), DynBlocksProblem::Slip { slip: every }));
            }
            return Ok(Some(Action::Slip(every)));
        }
        (_, Some(slip)) => return Err(Spanned::new(slip.span(), DynBlocksProblem::SlipWithoutAction)),
        (None, None) => return Ok(None),
        (Some(action), None) => action.get_ref(),
    };
    Ok(Some(match plain {
        BlockAction::Truncate => Action::Truncate,
        BlockAction::Refused => Action::Refused,
        BlockAction::NxDomain => Action::NxDomain,
        BlockAction::Count => Action::Count,
        BlockAction::Drop | BlockAction::Slip => Action::Drop,
    }))
}

/// So many labels at the end of a name.
pub(super) fn labels(key: &'static str, labels: &Spanned<u8>) -> Result<u8, Wrong> {
    match *labels.get_ref() {
        labels @ 1..=127 => Ok(labels),
        other => Err(Spanned::new(labels.span(), DynBlocksProblem::Labels { key, labels: other })),
    }
}

fn scope(scope: Option<Spanned<Scope>>, count: Option<Spanned<u8>>) -> Result<ScopeBy, Wrong> {
    match (scope.as_ref().map_or(Scope::Client, |scope| *scope.get_ref()), count, scope) {
        (Scope::Suffix, Some(count), _) => Ok(ScopeBy::Suffix { labels: labels("scope_labels", &count)? }),
        (Scope::Suffix, None, Some(scope)) => {
            Err(Spanned::new(scope.span(), DynBlocksProblem::NoScopeLabels))
        }
        (_, Some(count), _) => Err(Spanned::new(count.span(), DynBlocksProblem::ScopeLabelsWithoutScope)),
        (Scope::Qtype, None, _) => Ok(ScopeBy::Qtype),
        (Scope::Client | Scope::Suffix, None, _) => Ok(ScopeBy::Client),
    }
}

fn ladder(raw: &schema::Ladder) -> Option<Ladder> {
    match raw {
        schema::Ladder::Switch(on) => on.then(Ladder::new),
        schema::Ladder::Steps(schema::Steps { slip, second_limit }) => {
            let ladder = Ladder::new();
            let ladder = slip.map_or(ladder, |slip| ladder.slip(slip));
            Some(second_limit.map_or(ladder, |multiple| ladder.second_limit(multiple)))
        }
    }
}

fn growth(raw: Spanned<schema::Growth>) -> Result<Option<Growth>, Wrong> {
    let span = raw.span();
    let schema::GrowthBy { factor, up_to, forgiven_after } = match raw.into_inner() {
        schema::Growth::Switch(on) => return Ok(on.then(Growth::doubling)),
        schema::Growth::By(by) => by,
    };
    // The parser loses the places inside of what may be one thing or another.
    let time = |key, value| time(key, &Spanned::new(span.clone(), value));
    let mut growth = Growth::doubling();
    if let Some(factor) = factor {
        growth = growth.factor(factor);
    }
    if let Some(ceiling) = up_to {
        growth = growth.up_to(time("up_to", ceiling)?);
    }
    if let Some(after) = forgiven_after {
        growth = growth.forgiven_after(time("forgiven_after", after)?);
    }
    Ok(Some(growth))
}
