//! A rule or two, most of which dnsdist has as well.

use std::time::Duration;

use ebpf_filter::{Match, Qtypes, Rule};
use ipnet::IpNet;

use super::{
    A, CLIENT, Case, Exact, HOSTILE, HOSTILE_V6, Plan,
    names::{LONG, MANY_LABELS, MIDDLE, SHORT, Shape},
    plan,
};
use crate::common::Result;

pub(super) fn all() -> Vec<Plan> {
    let mut plans = Vec::new();
    for (family, source) in [("IPv4", HOSTILE), ("IPv6", HOSTILE_V6)] {
        plans.push(plan(format!("{family} source blocked"), move || {
            let case = Case::beside_dnsdist(Exact::address(source), source, SHORT.others())?;
            Ok(Case { dropped: true, bar: Some(1.0), ..case })
        }));
    }
    plans.push(plan("IPv4 source blocked, with an expiry", || {
        let case = Case::beside_dnsdist(Exact::address(HOSTILE), HOSTILE, SHORT.others())?;
        let rule = Rule::drop(Match::address(HOSTILE)).expires_in(Duration::from_secs(24 * 60 * 60));
        Ok(Case { ours: vec![rule], dropped: true, ..case })
    }));
    plans.push(plan("IPv4 source blocked, every kind of rule in use", || {
        let case = every_kind(HOSTILE)?;
        Ok(Case { dropped: true, ..case })
    }));
    for (shape, bar) in [(SHORT, 0.35), (MIDDLE, 0.15), (LONG, 0.08)] {
        plans.push(passes(shape, bar));
    }
    for (shape, bar) in [(SHORT, 0.35), (MIDDLE, 0.15), (LONG, 0.08)] {
        let name = format!("passes, {} characters, random labels and case", shape.characters);
        plans.push(plan(name, move || {
            let case = Case::beside_dnsdist(Exact::name(shape.name(0)), CLIENT, shape.varied())?;
            Ok(Case { bar: Some(bar), ..case })
        }));
    }
    for shape in [SHORT, MIDDLE, LONG] {
        plans.push(plan(format!("name blocked, {} characters", shape.characters), move || {
            blocked(&shape, shape.same())
        }));
    }
    plans.push(plan("name blocked, 199 characters, random case", || blocked(&LONG, LONG.cased())));
    plans.push(plan("passes, 253 characters, 127 labels", || {
        Case::beside_dnsdist(Exact::name(MANY_LABELS.name(0)), CLIENT, MANY_LABELS.others())
    }));
    plans.push(plan("passes, 57 characters, no rules at all", || {
        Case::beside_dnsdist(Exact::default(), CLIENT, MIDDLE.others())
    }));
    plans.push(plan("passes, 57 characters, IPv4; rules for IPv6 alone", || {
        let case = Case::beside_dnsdist(Exact::address(HOSTILE_V6), CLIENT, MIDDLE.others())?;
        let range = Rule::drop(Match::range("2001:db8::/32".parse::<IpNet>()?));
        Ok(Case { ours: [case.ours, vec![range]].concat(), beside: Some("1 address"), ..case })
    }));
    plans.push(plan("passes, 57 characters, every kind of rule in use", || every_kind(CLIENT)));
    plans
}

fn passes(shape: Shape, bar: f64) -> Plan {
    plan(format!("passes, {} characters", shape.characters), move || {
        let case = Case::beside_dnsdist(Exact::name(shape.name(0)), CLIENT, shape.others())?;
        Ok(Case { bar: Some(bar), ..case })
    })
}

fn blocked(shape: &Shape, payloads: Vec<Vec<u8>>) -> Result<Case> {
    let case = Case::beside_dnsdist(Exact::name(shape.name(0)), CLIENT, payloads)?;
    Ok(Case { dropped: true, ..case })
}

/// Packets that no rule matches, unless one for the source does.
fn every_kind(source: std::net::IpAddr) -> Result<Case> {
    let exact = Exact {
        addresses: vec![HOSTILE, HOSTILE_V6],
        names: vec![(MIDDLE.name(0), None), (SHORT.name(0), Some(A))],
    };
    let case = Case::beside_dnsdist(exact, source, MIDDLE.others())?;
    let mut ours = case.ours;
    for range in ["192.0.2.0/24", "2001:db8::/32"] {
        ours.push(Rule::drop(Match::range(range.parse::<IpNet>()?)));
    }
    for qtypes in [Qtypes::All, Qtypes::Only(A)] {
        ours.push(Rule::drop(Match::suffix(MIDDLE.suffix().parse()?, qtypes)));
    }
    Ok(Case { ours, beside: Some("those it has"), ..case })
}
