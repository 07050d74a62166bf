//! Rules in pinned maps for programs of others, on the real kernel.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod conformance;
mod ends;
mod operations;
mod pins;
mod ranges;
mod xdp;

use ebpf_filter::{Action, Match, QName, Qtypes, Rule};

fn name(text: &str) -> QName {
    text.parse().unwrap()
}

fn address(text: &str) -> Match {
    Match::address(text.parse::<std::net::IpAddr>().unwrap())
}

fn range(text: &str) -> Match {
    Match::range(text.parse::<ebpf_filter::IpNet>().unwrap())
}

fn qname(text: &str, qtypes: Qtypes) -> Match {
    Match::qname(name(text), qtypes)
}

/// One rule of each kind, with all actions.
fn every_kind() -> [Rule; 5] {
    [
        Rule::drop(address("192.0.2.1")),
        Rule::new(address("2001:db8::1"), Action::Truncate),
        Rule::new(range("198.51.100.0/24"), Action::Pass),
        Rule::drop(range("2001:db8:1::/48")),
        Rule::new(qname("Evil.Example", Qtypes::All), Action::Truncate),
    ]
}
