//! What can be wrong with a rule, and what to write instead.

use ebpf_filter::{Action, Kind, Match, QNameError};
use thiserror::Error;

/// What can be wrong with a rule.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum RuleProblem {
    #[error(
        "{value:?} is not an IP address: write one address without port or prefix length, like \"192.0.2.7\" or \"2001:db8::7\", or kind = \"range\" for several"
    )]
    Address { value: String },
    #[error(
        "{value:?} has no prefix length: write a range like \"192.0.2.0/24\" or \"2001:db8::/32\", or kind = \"address\" for one address"
    )]
    NoPrefix { value: String },
    #[error(
        "{value:?} is not a range of IP addresses: write an address, a slash and a prefix length up to 32 (IPv4) or 128 (IPv6), like \"192.0.2.0/24\" or \"2001:db8::/32\""
    )]
    Range { value: String },
    #[error("{value:?} is not a domain name ({reason}): write it like \"evildomain.com\"")]
    Name { value: String, reason: QNameError },
    #[error(
        "{value:?}: a suffix stands for all names below it as it is: write it without \"*\", like \"evildomain.com\", or \".\" for every name"
    )]
    Wildcard { value: String },
    #[error("rules for addresses and ranges match every query of their sources: remove `qtype`")]
    QtypeOfSource,
    #[error(
        "{value} is not a qtype: write \"ALL\", a type such as \"A\", \"TYPE65\" for one without a name, or a number up to 65535"
    )]
    Qtype { value: String },
    #[error(
        "slip = {value}: write 1 to answer every query with TC=1, 2 for every second, up to {}, or 0 to answer none",
        Action::MAX_SLIP
    )]
    Slip { value: i64 },
    #[error("`slip` goes with action = \"slip\" alone: remove it, or change the action")]
    SlipOfOther,
    #[error("`qtype` is an empty list: remove the key to match every type")]
    NoQtype,
    #[error(
        "expires_in = {value} is not a time{}: write numbers with units, like \"10s\", \"5m\", \"1h30m\" or \"500ms\"",
        .reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
    )]
    ExpiresIn { value: String, reason: Option<Box<humantime::DurationError>> },
    #[error(
        "expires_in = {value} ends the rule before it starts: write a longer time, or remove the key for a rule that stays"
    )]
    ExpiresAtOnce { value: String },
    #[error("{matches} has a rule in line {first} already: remove one")]
    Repeated { matches: Match, first: usize },
    #[error("filter.{} = {max} has no room for this rule: raise it, or remove rules", .kind.setting())]
    Full { kind: Kind, max: u32 },
}
