//! What happens to who exceeds a limit.

use std::{sync::Arc, time::Duration};

use ebpf_prog::rule::Action;

use super::rule::{Limit, Trigger};

/// What happens to who exceeds a limit: for how long which action, and why.
///
/// ```
/// use std::time::Duration;
/// use ebpf_filter::{Action, dynblock::{Growth, Ladder, Penalty}};
///
/// let minute = Duration::from_secs(60);
/// let plain = Penalty::block_for(minute).reason("Exceeded query rate");
/// let softer = Penalty::block_for(minute).action(Action::Truncate);
/// let spoof_safe = Penalty::block_for(minute).ladder(Ladder::new()).growing(Growth::doubling());
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Penalty {
    pub(super) duration: Duration,
    pub(super) reason: Option<Arc<str>>,
    pub(super) action: Option<Action>,
    pub(super) dry_run: bool,
    pub(super) scope: ScopeBy,
    pub(super) ladder: Option<Ladder>,
    pub(super) growth: Option<Growth>,
}

impl Penalty {
    /// A block of this length, counted from the last query above the limit.
    pub const fn block_for(duration: Duration) -> Self {
        Self {
            duration,
            reason: None,
            action: None,
            dry_run: false,
            scope: ScopeBy::Client,
            ladder: None,
            growth: None,
        }
    }

    /// Why, for logs and lists. Unless set, the kind of limit: "Exceeded query rate".
    pub fn reason(self, reason: impl Into<Arc<str>>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// What happens to the queries. Unless set, what the group does by default.
    pub const fn action(mut self, action: Action) -> Self {
        self.action = Some(action);
        self
    }

    /// Counts and reports, but blocks nobody: to see what a limit would do.
    pub const fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// Counts and blocks only part of what a client asks, in user space.
    pub const fn scoped(mut self, by: ScopeBy) -> Self {
        self.scope = by;
        self
    }

    /// Climbs a ladder instead of doing one thing, so that forged sources do not cut off whom they impersonate.
    pub const fn ladder(mut self, ladder: Ladder) -> Self {
        self.ladder = Some(ladder);
        self
    }

    /// Longer blocks for who comes back.
    pub const fn growing(mut self, growth: Growth) -> Self {
        self.growth = Some(growth);
        self
    }
}

/// Which of the queries of a client are counted together, and blocked together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScopeBy {
    /// All of them.
    #[default]
    Client,
    /// Those for one query type.
    Qtype,
    /// Those for names that have their last labels in common, so many of them: 2 are `example.com`, and all below it.
    /// Queries for shorter names are not counted.
    Suffix {
        /// How many labels.
        labels: u8,
    },
}

/// Steps against a flood that may come from forged sources.
///
/// 1. Above the limit, plain DNS over UDP is *slipped*: every n-th query is answered with TC=1, and no other one. A real
///    client asks again over TCP, and is answered there. [`Action::Slip`].
/// 2. Above a second limit, UDP is dropped as a whole; TCP still works. [`Action::Slip`]`(0)`.
/// 3. Who exceeds the limit with queries that cannot be forged, over TCP, TLS, HTTPS or QUIC or with a valid cookie, is
///    dropped outright, TCP and all. [`Action::Drop`].
///
/// Queries that cannot be forged are not counted for the first two steps, and forged ones not for the third. So a victim
/// whose address somebody else uses keeps its answers over TCP, whatever the flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Ladder {
    pub(super) slip: u8,
    pub(super) second: u32,
}

impl Ladder {
    /// Every second query is answered with TC=1; UDP is dropped above ten times the limit.
    pub const fn new() -> Self {
        Self { slip: 2, second: 10 }
    }

    /// Every n-th query is answered with TC=1: 1 for all of them, 0 for none. 127 at most.
    pub const fn slip(self, every: u8) -> Self {
        Self { slip: every, ..self }
    }

    /// How many times the limit UDP is dropped above.
    pub const fn second_limit(self, multiple: u32) -> Self {
        Self { second: multiple, ..self }
    }
}

impl Default for Ladder {
    fn default() -> Self {
        Self::new()
    }
}

/// How blocks become longer for who comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Growth {
    pub(super) factor: u32,
    pub(super) ceiling: Duration,
    pub(super) forgiven_after: Duration,
}

impl Growth {
    /// Twice as long each time, up to a day; an hour without a block makes it half as long again.
    pub const fn doubling() -> Self {
        Self { factor: 2, ceiling: Duration::from_secs(24 * 3600), forgiven_after: Duration::from_secs(3600) }
    }

    /// So many times as long each time.
    pub const fn factor(self, factor: u32) -> Self {
        Self { factor, ..self }
    }

    /// The longest that a block gets.
    pub const fn up_to(self, ceiling: Duration) -> Self {
        Self { ceiling, ..self }
    }

    /// How long after its end a block takes to be forgotten, one at a time.
    pub const fn forgiven_after(self, time: Duration) -> Self {
        Self { forgiven_after: time, ..self }
    }
}

impl Penalty {
    /// What it does first.
    pub(super) fn first_action(&self) -> Option<Action> {
        self.action.or(self.ladder.map(|ladder| Action::Slip(ladder.slip)))
    }

    /// What is wrong with it, whatever the limit.
    pub(super) fn check_alone(&self) -> Result<(), &'static str> {
        if self.duration < Duration::from_millis(1) {
            return Err("the block has to last for a millisecond at least");
        }
        self.first_action().map_or(Ok(()), check_action)
    }

    /// What is wrong with it for this limit.
    pub(super) fn check(&self, trigger: &Trigger, limit: &Limit) -> Result<(), &'static str> {
        self.check_alone()?;
        if self.ladder.is_some() && self.action.is_some() {
            return Err("a ladder has actions of its own: remove the action, or the ladder");
        }
        if self.ladder.is_some() && matches!(limit, Limit::Ratio(_)) {
            return Err("a ladder has a second limit, which a ratio cannot have: remove the ladder");
        }
        if let Some(ladder) = &self.ladder
            && ladder.second < 2
        {
            return Err("the second limit of a ladder is twice the first at least");
        }
        if let Some(growth) = &self.growth {
            if growth.factor < 2 || growth.forgiven_after.is_zero() {
                return Err(
                    "growing blocks grow by a factor of 2 at least, and are forgiven after some time",
                );
            }
            if growth.ceiling < self.duration {
                return Err("the ceiling of growing blocks is shorter than the first block");
            }
        }
        if let Trigger::SuffixRate(suffixes) = trigger {
            suffixes.check()?;
        }
        if let Trigger::CacheMissRatio { min_global_hits } = trigger
            && !(0.0..=1.0).contains(min_global_hits)
        {
            return Err(
                "the share of all responses that come from the cache is none: write one from 0.0 to 1.0",
            );
        }
        match (trigger, self.scope) {
            (Trigger::SuffixRate(_) | Trigger::MalformedRate, ScopeBy::Qtype | ScopeBy::Suffix { .. }) => {
                Err("this kind of limit is about all queries: remove the scope")
            }
            (_, ScopeBy::Suffix { labels: 0 }) => Err("a scope has one label at least"),
            (Trigger::SuffixRate(_), ScopeBy::Client) if self.ladder.is_some() => {
                Err("a suffix has no source to prove: remove the ladder")
            }
            _ => Ok(()),
        }
    }
}

/// What is wrong with an action for a block.
pub(super) const fn check_action(action: Action) -> Result<(), &'static str> {
    match action {
        Action::Pass => Err("to let everything pass and count it, choose the action `count`"),
        Action::Slip(every) if every > Action::MAX_SLIP => {
            Err("every 127th query is answered at least: slip 127 or less, or 0 for none")
        }
        Action::Drop
        | Action::Count
        | Action::Truncate
        | Action::Refused
        | Action::NxDomain
        | Action::Slip(_) => Ok(()),
    }
}
