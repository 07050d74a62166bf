//! Ranges and suffixes, which dnsdist has not: it gets one exact address or name.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ebpf_filter::{Match, Qtypes, Rule};
use ipnet::IpNet;

use super::{
    CLIENT, Case, Exact, Plan,
    names::{LONG, MANY_LABELS, MIDDLE, SHORT, query},
    networks::{self, mixed4, mixed6},
    plan,
};
use crate::{
    common::Result,
    random::{letters, pick, random},
};

/// Different packets that take turns: so many that the processor has no memory in its caches because of the packets
/// before.
const PACKETS: usize = 200_000;

const RANGES: usize = 100_000;

/// Far from the other ranges.
const HOSTILE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 9, 9));
const HOSTILE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 9, 9, 9, 0, 0, 0, 9));

pub(super) fn all() -> Vec<Plan> {
    let mut plans = Vec::new();
    for (label, family, hostile, len) in [("/24", "IPv4", HOSTILE, 24), ("/64", "IPv6", HOSTILE_V6, 64)] {
        plans.push(plan(format!("1 {family} range: passes"), move || passes_ranges(hostile, len, 0)));
        plans.push(plan(format!("1 {family} range: dropped"), move || dropped_by_range(hostile, len, 0)));
        let many = format!("100,000 {family} ranges");
        plans.push(plan(format!("{many}: passes"), move || passes_ranges(hostile, len, RANGES)));
        plans.push(plan(format!("{many}: dropped by a {label}"), move || {
            dropped_by_range(hostile, len, RANGES)
        }));
    }
    for shape in [SHORT, MIDDLE, LONG, MANY_LABELS] {
        let labels = if shape.characters == 253 { ", 127 labels" } else { "" };
        let name = format!("1 suffix: passes, {} characters{labels}", shape.characters);
        plans.push(plan(name, move || {
            let case = Case::beside_dnsdist(Exact::name(shape.name(0)), CLIENT, shape.others())?;
            Ok(Case { ours: vec![suffix(&shape.suffix())?], beside: Some("1 name"), ..case })
        }));
    }
    for (what, count, bar) in [("1,000", 1000, 0.5), ("1,000,000", 1_000_000, 1.0)] {
        plans.push(plan(format!("{what} suffixes: passes, 3 labels"), move || {
            Ok(Case { bar: Some(bar), ..suffixes(count, false)? })
        }));
        plans.push(plan(format!("{what} suffixes: dropped"), move || suffixes(count, true)));
    }
    plans
}

/// A range, as many others, and packets.
fn ranges(hostile: IpAddr, len: u8, others: usize, sources: Vec<IpAddr>) -> Result<Case> {
    let mut nets = vec![IpNet::new(hostile, len)?];
    nets.extend(if hostile.is_ipv4() { mixed4(others) } else { mixed6(others) });
    Ok(Case {
        ours: nets.into_iter().map(|net| Rule::drop(Match::range(net))).collect(),
        beside: Some("1 address"),
        sources,
        ..Case::beside_dnsdist(Exact::address(hostile), hostile, SHORT.others())?
    })
}

/// Every packet is from another source.
fn passes_ranges(hostile: IpAddr, len: u8, others: usize) -> Result<Case> {
    ranges(hostile, len, others, networks::outside(hostile, PACKETS))
}

fn dropped_by_range(hostile: IpAddr, len: u8, others: usize) -> Result<Case> {
    Ok(Case { dropped: true, ..ranges(hostile, len, others, vec![hostile])? })
}

/// As many suffixes, and as many packets as there are, each for another name.
fn suffixes(count: usize, dropped: bool) -> Result<Case> {
    let blocked = blocklist(count);
    let state = &mut 7;
    let mut seen = HashSet::new();
    while seen.len() < PACKETS {
        if dropped {
            seen.insert(format!("{}.{}", host(state), pick(&blocked.names, state)));
        } else {
            let (host, domain) = (host(state), domain(state));
            let name = format!("{host}.{domain}");
            if !blocked.set.contains(&domain) && !blocked.set.contains(&name) {
                seen.insert(name);
            }
        }
    }
    let mut names: Vec<_> = seen.into_iter().collect();
    // The order of a set is another one in every run.
    names.sort_unstable();
    shuffle(&mut names, state);
    let payloads = names.iter().map(|name| query(name)).collect();
    let dnsdist = Exact::name("www.evildomain.com".to_owned());
    Ok(Case {
        ours: blocked.names.iter().map(|name| suffix(name)).collect::<Result<_>>()?,
        beside: Some("1 name"),
        dropped,
        ..Case::beside_dnsdist(dnsdist, CLIENT, payloads)?
    })
}

fn suffix(name: &str) -> Result<Rule> {
    Ok(Rule::drop(Match::suffix(name.parse()?, Qtypes::All)))
}

/// Names to block.
struct Blocklist {
    names: Vec<String>,
    set: HashSet<String>,
}

/// As public lists have them: two labels, or three one time in three.
fn blocklist(count: usize) -> Blocklist {
    let (state, mut names, mut set) = (&mut 1, Vec::new(), HashSet::new());
    while names.len() < count {
        let domain = domain(state);
        let name = if random(state).is_multiple_of(3) { format!("{}.{domain}", host(state)) } else { domain };
        if set.insert(name.clone()) {
            names.push(name);
        }
    }
    Blocklist { names, set }
}

fn domain(state: &mut u64) -> String {
    const TOP: [&str; 12] =
        ["com", "com", "com", "com", "net", "org", "de", "info", "top", "xyz", "ru", "online"];
    let len = 5 + (random(state) % 10) as usize;
    format!("{}.{}", letters(len, state), pick(&TOP, state))
}

fn host(state: &mut u64) -> String {
    const HOSTS: [&str; 4] = ["www", "api", "cdn", "mail"];
    if random(state).is_multiple_of(2) {
        (*pick(&HOSTS, state)).to_owned()
    } else {
        let len = 3 + (random(state) % 8) as usize;
        letters(len, state)
    }
}

fn shuffle<T>(items: &mut [T], state: &mut u64) {
    for end in (1..items.len()).rev() {
        items.swap(end, (random(state) % (end as u64 + 1)) as usize);
    }
}
