//! The rules that are moved.

use std::net::Ipv4Addr;

use ebpf_filter::{BpfFilter, BpfFilterBuilder, Match, Mode, QName, Qtypes, Rule};

use crate::common::Result;

/// Rules that are moved at once.
pub(crate) const MANY: u32 = 100_000;

pub(crate) const MILLION: u32 = 1_000_000;

pub(crate) const fn builder() -> BpfFilterBuilder {
    BpfFilter::builder().mode(Mode::Require)
}

/// Different for each number, and not next to each other in a hash map.
pub(crate) fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b1))
}

pub(crate) fn addresses() -> impl Iterator<Item = Rule> {
    (0..MANY).map(|number| Rule::drop(Match::Ipv4(address(number))))
}

pub(crate) fn name(number: u32) -> Result<QName> {
    Ok(format!("host{number:08}.example.net").parse()?)
}

/// As lists of domains have them.
pub(crate) fn suffix(number: u32) -> Result<Rule> {
    let name = format!("{:07x}.example", number.wrapping_mul(0x9e37_79b1));
    Ok(Rule::drop(Match::suffix(name.parse()?, Qtypes::All)))
}
