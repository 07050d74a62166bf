//! Blocks as they are shown.

use std::{fmt, sync::Arc, time::Duration};

use ebpf_prog::rule::Action;

use crate::Enforcement;
use crate::dynblock::{Scope, Subject};

/// A block, as it is at the moment.
///
/// `Display` makes a line of it: `192.0.2.1/32: Exceeded query rate (drop, 60 s left, 12 hits, kernel)`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DynBlock {
    /// A number that no other block of the group has; 0 for one that there was no room for.
    pub id: u64,
    /// Who is blocked.
    pub subject: Subject,
    /// Which of their queries are.
    pub scope: Scope,
    /// What happens to them.
    pub action: Action,
    /// Why.
    pub reason: Arc<str>,
    /// Only the warning level is exceeded: nothing happens to the queries.
    pub warning: bool,
    /// The rule only tries out what it would do: nothing happens to the queries.
    pub dry_run: bool,
    /// How long it has lasted.
    pub age: Duration,
    /// How long it still lasts, unless the limit is exceeded again.
    pub remaining: Duration,
    /// Packets and queries that it has caught, in the kernel and in user space.
    pub hits: u64,
    /// How many times the source was blocked before, as far as is remembered.
    pub offence: u32,
    /// Who enforces it.
    pub enforced_by: Enforcement,
    /// The filter should have it, and could not take it.
    pub degraded: bool,
}

impl fmt::Display for DynBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, scope, reason, remaining, hits, .. } = self;
        let action = if self.dry_run {
            "dry run".to_owned()
        } else if self.warning {
            "warning".to_owned()
        } else {
            name_of(self.action)
        };
        let enforced_by = match self.enforced_by {
            Enforcement::Kernel => "kernel",
            Enforcement::UserSpace => "user space",
        };
        let left = remaining.as_secs_f64();
        write!(f, "{subject}{scope}: {reason} ({action}, {left:.0} s left, {hits} hits, {enforced_by})")
    }
}

/// An action in a word.
pub(crate) fn name_of(action: Action) -> String {
    match action {
        Action::Pass => "pass".to_owned(),
        Action::Drop => "drop".to_owned(),
        Action::Count => "count".to_owned(),
        Action::Truncate => "truncate".to_owned(),
        Action::Refused => "refused".to_owned(),
        Action::NxDomain => "nxdomain".to_owned(),
        Action::Slip(every) => format!("slip {every}"),
    }
}

/// How much of the queries gets lost: a block never becomes milder while it lasts.
pub(crate) const fn strength(action: Action) -> u8 {
    match action {
        Action::Pass | Action::Count => 0,
        Action::Refused | Action::NxDomain => 1,
        Action::Truncate | Action::Slip(1) => 2,
        Action::Slip(2..) => 3,
        Action::Slip(0) => 4,
        Action::Drop => 5,
    }
}
