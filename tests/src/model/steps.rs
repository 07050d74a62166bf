//! Changes of rules, and packets between them.

use std::{net::IpAddr, time::Duration};

use ebpf_filter::{Action, Match, QName, Qtypes, Rule};

use super::{
    bytes::{Bytes, Payload},
    names,
    packets::{self, QTYPES},
    sources,
};

/// One thing that happens to a filter.
#[derive(Clone, Debug)]
pub enum Step {
    /// A rule is added.
    Insert(Rule),
    /// Rules are added, all or none.
    InsertMany(Vec<Rule>),
    /// A rule is added or changed.
    Replace(Rule),
    /// One of those that there are is changed.
    ReplaceListed(usize, Action, Option<Duration>),
    /// A rule is removed, if there is one.
    Remove(Match),
    /// One of those that there are is removed.
    RemoveListed(usize),
    /// All are removed.
    Clear,
    /// Counters start anew.
    ResetHits,
    /// Somebody watches where malformed messages come from, or no longer.
    Watch(bool),
    /// A packet comes, where the kernel enforces if it does.
    Packet(IpAddr, Payload),
    /// A packet comes where user space enforces.
    Datagram(IpAddr, Payload),
    /// A query comes that somebody has decoded, over plain UDP or not.
    Query(IpAddr, QName, u16, bool),
}

const ACTIONS: [Action; 12] = [
    Action::Drop,
    Action::Count,
    Action::Pass,
    Action::Truncate,
    Action::Refused,
    Action::NxDomain,
    Action::Drop,
    Action::Count,
    Action::Slip(2),
    Action::Slip(3),
    Action::Slip(0),
    Action::Slip(1),
];

impl Step {
    /// Chooses one.
    pub fn choose(bytes: &mut Bytes<'_>) -> Self {
        match bytes.byte() % 32 {
            0..16 => Self::Packet(sources::source(bytes), Payload(packets::message(bytes))),
            16..21 => Self::Insert(rule(bytes)),
            21 => {
                let rules = bytes.below(8);
                Self::InsertMany((0..rules).map(|_| rule(bytes)).collect())
            }
            22 => Self::Replace(rule(bytes)),
            23 | 24 => {
                let which = usize::from(bytes.byte());
                Self::ReplaceListed(which, bytes.choose(&ACTIONS), time(bytes))
            }
            25 => Self::Remove(matches(bytes)),
            26 | 27 => Self::RemoveListed(bytes.byte().into()),
            28 => match bytes.byte() {
                0..112 => Self::ResetHits,
                on @ 112..192 => Self::Watch(on < 152),
                192.. => Self::Clear,
            },
            29 => Self::Datagram(sources::source(bytes), Payload(packets::message(bytes))),
            30.. => {
                let source = sources::source(bytes);
                let name = names::qname(bytes);
                Self::Query(source, name, bytes.choose(&QTYPES), bytes.byte() & 1 == 1)
            }
        }
    }
}

/// A rule.
pub fn rule(bytes: &mut Bytes<'_>) -> Rule {
    let rule = Rule::new(matches(bytes), bytes.choose(&ACTIONS));
    Rule { expires_in: time(bytes), ..rule }
}

fn matches(bytes: &mut Bytes<'_>) -> Match {
    match bytes.byte() % 8 {
        0 => sources::exact(bytes),
        1 | 2 => sources::range(bytes),
        3 | 4 => Match::qname(names::qname(bytes), qtypes(bytes)),
        _ => Match::suffix(names::qname(bytes), qtypes(bytes)),
    }
}

fn qtypes(bytes: &mut Bytes<'_>) -> Qtypes {
    match bytes.byte() % 16 {
        0..8 => Qtypes::All,
        which => Qtypes::Only(QTYPES[usize::from(which) % QTYPES.len()]),
    }
}

/// How long a rule lasts: for ever, longer than any test, or not at all.
fn time(bytes: &mut Bytes<'_>) -> Option<Duration> {
    match bytes.byte() {
        0..184 => None,
        184..216 => Some(Duration::from_secs(3600)),
        216..=254 => Some(Duration::from_nanos(1)),
        255 => Some(Duration::MAX),
    }
}
