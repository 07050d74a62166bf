//! What is measured: rules, and the packets that meet them.

mod exact;
mod many;
mod names;
pub(crate) mod networks;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebpf_filter::{Match, Qtypes, Rule};

use crate::common::Result;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const HOSTILE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
const HOSTILE_V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Type A.
const A: u16 = 1;

/// A case that is not made yet: some have a million rules.
pub(crate) struct Plan {
    pub(crate) name: String,
    pub(crate) case: Box<dyn FnOnce() -> Result<Case>>,
}

/// Rules, and packets that all meet the same fate.
pub(crate) struct Case {
    pub(crate) ours: Vec<Rule>,
    pub(crate) dnsdist: Exact,
    /// What dnsdist has in place of our rules, which it does not know.
    pub(crate) beside: Option<&'static str>,
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) payloads: Vec<Vec<u8>>,
    /// Whether a rule of ours drops them all; else none matches.
    pub(crate) dropped: bool,
    /// What ours may cost, as a multiple of what dnsdist costs.
    pub(crate) bar: Option<f64>,
}

/// What is dropped, in rules that dnsdist has as well.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exact {
    pub(crate) addresses: Vec<IpAddr>,
    /// With the type, or `None` for every type.
    pub(crate) names: Vec<(String, Option<u16>)>,
}

impl Exact {
    fn address(address: IpAddr) -> Self {
        Self { addresses: vec![address], ..Self::default() }
    }

    fn name(name: String) -> Self {
        Self { names: vec![(name, None)], ..Self::default() }
    }

    fn rules(&self) -> Result<Vec<Rule>> {
        let mut rules: Vec<_> =
            self.addresses.iter().map(|address| Rule::drop(Match::address(*address))).collect();
        for (name, qtype) in &self.names {
            let qtypes = qtype.map_or(Qtypes::All, Qtypes::Only);
            rules.push(Rule::drop(Match::qname(name.parse()?, qtypes)));
        }
        Ok(rules)
    }
}

impl Case {
    /// Packets that meet rules that dnsdist has as well. They pass unless said otherwise.
    fn beside_dnsdist(rules: Exact, source: IpAddr, payloads: Vec<Vec<u8>>) -> Result<Self> {
        Ok(Self {
            ours: rules.rules()?,
            dnsdist: rules,
            beside: None,
            sources: vec![source],
            payloads,
            dropped: false,
            bar: None,
        })
    }
}

pub(crate) fn all() -> Vec<Plan> {
    exact::all().into_iter().chain(many::all()).collect()
}

fn plan(name: impl Into<String>, case: impl FnOnce() -> Result<Case> + 'static) -> Plan {
    Plan { name: name.into(), case: Box::new(case) }
}
