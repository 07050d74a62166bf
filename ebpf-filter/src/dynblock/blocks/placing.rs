//! Blocks that a filter has a rule for: the kernel enforces them, if it enforces the filter.

use std::time::Duration;

use ebpf_prog::rule::Action;

use crate::dynblock::{Exempt, Scope, Subject, time::nanos};
use crate::{BpfFilter, Enforcement, Match, Rule, RuleError, clock};

/// Where a block is enforced.
#[derive(Debug)]
pub(crate) enum Placed {
    /// By this rule.
    Filter(RuleOf),
    /// In user space alone: a filter cannot express it.
    Alone,
    /// In user space alone, although a filter could express it.
    Degraded,
}

/// A rule of a block.
#[derive(Debug)]
pub(crate) struct RuleOf {
    filter: BpfFilter,
    of: Match,
    action: Action,
    /// When it ends: not before, not after. By that, others' rules for the same match are told from it.
    end: (u64, u64),
}

impl RuleOf {
    /// Adds or changes the rule, as `set` does it.
    fn set<T>(
        filter: &BpfFilter,
        of: &Match,
        action: Action,
        remaining: Duration,
        set: impl FnOnce(Rule) -> Result<T, RuleError>,
    ) -> Result<Self, RuleError> {
        let end = || clock::now().saturating_add(nanos(remaining));
        let before = end();
        set(Rule::new(of.clone(), action).expires_in(remaining))?;
        Ok(Self { filter: filter.clone(), of: of.clone(), action, end: (before, end()) })
    }

    /// Whether nobody has put another rule in the place of this one. That it is gone is another matter.
    fn is_not_replaced(&self) -> bool {
        let before = clock::now();
        let Some(found) = self.filter.rule(&self.of) else { return true };
        let Some(left) = found.rule.expires_in.map(nanos) else { return false };
        let (first, last) = (before.saturating_add(left), clock::now().saturating_add(left));
        found.rule.action == self.action && first <= self.end.1 && self.end.0 <= last
    }
}

impl Placed {
    pub(crate) const fn is_in_filter(&self) -> bool {
        matches!(self, Self::Filter(_))
    }

    pub(crate) fn is_in(&self, filter: &BpfFilter) -> bool {
        matches!(self, Self::Filter(rule) if rule.filter.is_same(filter))
    }

    pub(crate) const fn is_degraded(&self) -> bool {
        matches!(self, Self::Degraded)
    }

    /// What the rule has matched; `None` if there is none any more.
    pub(crate) fn hits(&self) -> Option<u64> {
        match self {
            Self::Filter(RuleOf { filter, of, .. }) => filter.rule(of).map(|rule| rule.hits),
            Self::Alone | Self::Degraded => Some(0),
        }
    }

    pub(crate) fn enforcement(&self) -> Enforcement {
        match self {
            Self::Filter(RuleOf { filter, .. }) => filter.enforcement(),
            Self::Alone | Self::Degraded => Enforcement::UserSpace,
        }
    }

    /// Gives the rule this action and end, and adds it again if it is gone.
    pub(crate) fn change(&mut self, action: Action, remaining: Duration) -> Result<(), NotPlaced> {
        let Self::Filter(rule) = self else { return Ok(()) };
        if !rule.is_not_replaced() {
            return Err(NotPlaced::Inexpressible);
        }
        let replace = |new| rule.filter.replace_block(new);
        *rule = RuleOf::set(&rule.filter, &rule.of, action, remaining, replace).map_err(NotPlaced::Failed)?;
        Ok(())
    }

    /// Removes the rule, unless it is gone or somebody has put another one in its place.
    pub(crate) fn remove(&self) {
        if let Self::Filter(rule) = self
            && rule.is_not_replaced()
        {
            // It may be gone.
            let _ = rule.filter.remove(&rule.of);
        }
    }
}

/// Why a block is not in the filter.
#[derive(Debug)]
pub(crate) enum NotPlaced {
    /// It cannot be.
    Inexpressible,
    /// It could be.
    Failed(RuleError),
}

/// Whether a filter can do this to these queries.
pub(crate) fn is_expressible(action: Action, scope: &Scope) -> bool {
    matches!(action, Action::Drop | Action::Truncate | Action::Slip(_)) && *scope == Scope::All
}

/// Puts a block into the filter: all queries of a source or below a suffix, if nobody is hit who is exempt.
pub(crate) fn place(
    filter: &BpfFilter,
    (subject, scope): (&Subject, &Scope),
    action: Action,
    remaining: Duration,
    exempt: &Exempt,
) -> Result<Placed, NotPlaced> {
    if !is_expressible(action, scope) || subject.net().is_some_and(|net| exempt.is_in(net)) {
        return Err(NotPlaced::Inexpressible);
    }
    let of = subject.as_match().ok_or(NotPlaced::Inexpressible)?;
    let placed = match RuleOf::set(filter, &of, action, remaining, |rule| filter.insert_block(rule)) {
        // A process before has left it: nobody else ends it earlier, or keeps it up.
        Err(RuleError::Duplicate(_)) if filter.inherit(&of) => {
            RuleOf::set(filter, &of, action, remaining, |rule| filter.replace_block(rule))
        }
        placed => placed,
    };
    match placed {
        Ok(rule) => Ok(Placed::Filter(rule)),
        // Somebody has a rule of their own for the same sources, and it stands.
        Err(RuleError::Duplicate(_)) => Err(NotPlaced::Inexpressible),
        Err(error) => Err(NotPlaced::Failed(error)),
    }
}
