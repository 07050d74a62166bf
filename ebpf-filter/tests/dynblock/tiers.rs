//! Networks around clients: number 60 of dnsdist's unit tests, and what Knot Resolver does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebpf_filter::{
    Action, BpfFilter, IpNet, Match, Mode, Rule, Verdict,
    dynblock::{
        DynBlockGroup, DynBlockGroupBuilder, Exempt, Ladder, Penalty, QueryEvent, Rate, Scope, Transport,
    },
};

use crate::common::*;

/// By Knot Resolver's lengths and multiples, as it is unless set.
fn knot(clock: &Clock, filter: &BpfFilter) -> DynBlockGroupBuilder {
    DynBlockGroup::builder().filter(filter.clone()).slots(1 << 18).clock(clock.clone())
}

fn ask(group: &DynBlockGroup, client: impl Into<IpAddr>) -> Verdict {
    group.observe_query(&QueryEvent::new((client.into(), 4242).into(), &name("www.example"), A))
}

/// An attacker with a network of its own sends every query from another address.
#[test]
fn hopping_within_a_network_blocks_the_network() {
    for (text, times, free) in [
        ("2001:db8:1:1::/64", 2, 64),
        ("2001:db8:1::/56", 3, 8),
        ("2001:db8::/48", 4, 8),
        ("192.0.2.0/24", 32, 8),
    ] {
        let net: IpNet = text.parse().unwrap();
        let (clock, filter) = (Clock::default(), off());
        let limit = Rate::per_second(100);
        let group = knot(&clock, &filter).query_rate(limit, block()).build().unwrap();
        let mut answered = 0;
        for hop in 0_u32..10_000 {
            // Spread over the bits right behind the prefix.
            let client: IpAddr = match net {
                IpNet::V4(net) => Ipv4Addr::from_bits(net.addr().to_bits() | (hop % 256)).into(),
                IpNet::V6(net) => {
                    let spread = u128::from(hop) % (1 << free);
                    let shift = 128 - u32::from(net.prefix_len()) - free;
                    Ipv6Addr::from_bits(net.addr().to_bits() | (spread << shift) | u128::from(hop)).into()
                }
            };
            if ask(&group, client) != Verdict::Pass {
                break;
            }
            answered += 1;
        }
        assert_eq!((answered, subjects(&group)), (100 * times, vec![text.to_owned()]));
        // The whole range is one rule of the filter.
        let rule = filter.rule(&Match::range(net)).unwrap();
        assert_eq!((rule.rule.action, rule.hits), (Action::Drop, 1));
        assert_eq!(filter.stats().unwrap().rules.len(), 1);
        assert_eq!(
            filter.rule(&Match::range(net)).unwrap().rule.expires_in.map(|left| left <= MINUTE),
            Some(true)
        );
    }
}

#[test]
fn a_heavy_host_does_not_take_its_network_down() {
    let (clock, filter) = (Clock::default(), off());
    let group = knot(&clock, &filter).query_rate(Rate::per_second(100), block()).build().unwrap();
    for _ in 0..1_000_000 {
        ask(&group, [192, 0, 2, 1]);
    }
    for _ in 0..100_000 {
        ask(&group, "2001:db8::1".parse::<Ipv6Addr>().unwrap());
    }
    assert_eq!(subjects(&group), ["192.0.2.1/32", "2001:db8::1/128"]);
    assert_eq!(ask(&group, [192, 0, 2, 2]), Verdict::Pass);
    assert_eq!(ask(&group, "2001:db8::2".parse::<Ipv6Addr>().unwrap()), Verdict::Pass);
}

/// The multiples of `daemon/ratelimiting.c` in Knot Resolver 6.
#[test]
fn the_multiples_of_knot_resolver() {
    for (len, times) in [(32, 1_u32), (24, 32), (20, 256), (18, 768)] {
        let (clock, filter) = (Clock::default(), off());
        let group = knot(&clock, &filter).query_rate(Rate::per_second(10), block()).build().unwrap();
        let mut answered = 0;
        // Hosts that are as far apart as the network allows, each of them once or a few times.
        let hosts = if len == 32 { 1 } else { 1 << (32 - len) };
        'flood: for round in 0.. {
            for host in 0..hosts {
                let host: u32 = u32::reverse_bits(host) >> len.min(31);
                if ask(&group, Ipv4Addr::from_bits(0xc633_0000 | host)) != Verdict::Pass {
                    break 'flood;
                }
                answered += 1;
            }
            assert!(round < 100);
        }
        assert_eq!(answered, 10 * times, "/{len}");
        assert!(subjects(&group).contains(&format!("198.51.0.0/{len}")), "{:?}", subjects(&group));
    }
}

#[test]
fn masks_are_one_length() {
    let clock = Clock::default();
    for (v4, v6, subject4, subject6) in [
        (24, 56, "192.0.2.0/24", "2001:db8::/56"),
        (0, 0, "0.0.0.0/0", "::/0"),
        (32, 128, "192.0.2.1/32", "2001:db8::1/128"),
    ] {
        let group = group(&clock).masks(v4, v6).query_rate(one(), block()).build().unwrap();
        send(&group, "192.0.2.1", 2);
        send(&group, "2001:db8::1", 2);
        assert_eq!(subjects(&group), [subject4, subject6]);
        assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Drop);
        assert_eq!(verdict(&group, "2001:db8::1"), Verdict::Drop);
    }
}

/// A range with somebody in it who is exempt is nothing for the kernel, which would drop them as well.
#[test]
fn who_is_exempt_in_a_blocked_range_is_answered() {
    let (clock, filter) = (Clock::default(), off());
    let exempt = || Exempt::none().exclude("192.0.2.53".parse::<IpAddr>().unwrap());
    let group =
        knot(&clock, &filter).masks(24, 64).query_rate(one(), block()).exempt(exempt()).build().unwrap();
    send(&group, "192.0.2.1", 2);
    assert_eq!(only(&group).subject, source("192.0.2.0/24"));
    assert!(!only(&group).degraded);
    assert!(filter.stats().unwrap().rules.is_empty());
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Drop);
    assert_eq!(send(&group, "192.0.2.53", 10), 10);

    // At run time as well: the rule is taken out of the filter, and its hits stay.
    let group = knot(&clock, &filter).masks(24, 64).query_rate(one(), block()).build().unwrap();
    send(&group, "192.0.2.1", 6);
    assert_eq!((filter.stats().unwrap().rules.len(), only(&group).hits), (1, 5));
    assert_eq!(send(&group, "192.0.2.53", 1), 0);
    group.set_exempt(exempt());
    assert!(filter.stats().unwrap().rules.is_empty());
    assert_eq!(only(&group).hits, 6);
    assert_eq!(send(&group, "192.0.2.53", 10), 10);
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Drop);
    assert!(group.exempt().is_exempt([192, 0, 2, 53].into()));
}

#[test]
fn who_becomes_exempt_is_not_blocked_any_more() {
    let (clock, filter) = (Clock::default(), off());
    let group = knot(&clock, &filter).query_rate(one(), block()).build().unwrap();
    send(&group, "192.0.2.1", 2);
    send(&group, "192.0.2.2", 2);
    group.set_exempt(Exempt::none().exclude("192.0.2.1".parse::<IpAddr>().unwrap()));
    assert_eq!(subjects(&group), ["192.0.2.2/32"]);
    assert_eq!(filter.stats().unwrap().rules.len(), 1);
    assert_eq!(send(&group, "192.0.2.1", 100), 100);
    assert!(group.add(source("192.0.2.1"), Scope::All, &block()).is_err());
}

/// A rule of the operator that lets somebody pass holds against blocks.
#[test]
fn whom_the_operator_lets_pass_is_not_blocked() {
    let (clock, filter) = (Clock::default(), off());
    let pass = |of| filter.insert(Rule::new(of, Action::Pass)).unwrap();
    pass(Match::address([192, 0, 2, 1]));
    pass(Match::range("198.51.0.0/16".parse::<IpNet>().unwrap()));
    let group = knot(&clock, &filter).tiers4([(32, 1), (24, 2)]).query_rate(one(), block()).build().unwrap();
    assert_eq!(send(&group, "192.0.2.1", 1000), 1000);
    for host in 0..=255 {
        // Neither the client, nor a range of which the filter would find the block before the operator's rule.
        assert_eq!(send(&group, &format!("198.51.100.{host}"), 3), 3);
    }
    assert!(group.blocks().is_empty());
    assert!(group.add(source("192.0.2.1"), Scope::All, &block()).is_err());
}

/// The block of a range that only user space can enforce does not hit them either, as the kernel would not.
#[test]
fn whom_the_operator_lets_pass_in_a_range_is_answered() {
    let (clock, filter) = (Clock::default(), off());
    filter.insert(Rule::new(Match::address([192, 0, 2, 53]), Action::Pass)).unwrap();
    let group = knot(&clock, &filter).build().unwrap();
    group.add(source("192.0.2.0/24"), Scope::All, &block().action(Action::Refused)).unwrap();
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Refused);
    assert_eq!(verdict(&group, "192.0.2.53"), Verdict::Pass);
    assert_eq!(only(&group).hits, 1);
}

#[test]
fn the_operators_own_rule_is_left_alone() {
    let (clock, filter) = (Clock::default(), off());
    let of = Match::address([192, 0, 2, 1]);
    filter.insert(Rule::new(of.clone(), Action::Count)).unwrap();
    let group = knot(&clock, &filter).query_rate(one(), block()).build().unwrap();
    assert_eq!(send(&group, "192.0.2.1", 10), 1);
    let rule = || filter.rule(&of).unwrap().rule;
    assert_eq!((rule().action, rule().expires_in), (Action::Count, None));
    assert!(!only(&group).degraded);
    assert_eq!(group.clear(), 1);
    assert_eq!(rule().action, Action::Count);

    // Put in the place of a block while that lasts, it stays as well.
    let of = Match::address([192, 0, 2, 2]);
    send(&group, "192.0.2.2", 2);
    filter.replace(Rule::new(of.clone(), Action::Count)).unwrap();
    clock.advance(seconds(30));
    send(&group, "192.0.2.2", 10);
    assert_eq!(filter.rule(&of).unwrap().rule.action, Action::Count);
    assert_eq!((only(&group).remaining, verdict(&group, "192.0.2.2")), (MINUTE, Verdict::Drop));
    clock.advance(seconds(61));
    group.maintain();
    assert_eq!(filter.rule(&of).unwrap().rule.action, Action::Count);

    // So does one with the same action and another end.
    let of = Match::address([192, 0, 2, 3]);
    send(&group, "192.0.2.3", 2);
    filter.replace(Rule::drop(of.clone()).expires_in(seconds(3600))).unwrap();
    group.clear();
    assert!(filter.rule(&of).is_some());
}

/// What is about the whole range needs no blocks within it.
#[test]
fn hosts_in_a_blocked_range_take_no_room() {
    let clock = Clock::default();
    let group = group(&clock).tiers4([(32, 1), (24, 2)]).query_rate(one(), block()).build().unwrap();
    for host in 0..200 {
        send(&group, &format!("192.0.2.{host}"), 2);
    }
    assert!(subjects(&group).contains(&"192.0.2.0/24".to_owned()));
    assert!(group.blocks().len() < 5, "{:?}", subjects(&group));
}

#[test]
fn a_block_by_hand_is_one_of_its_own() {
    let clock = Clock::default();
    let group = group(&clock).build().unwrap();
    let net = group.add(source("192.0.2.0/24"), Scope::All, &block()).unwrap();
    let host = group.add(source("192.0.2.1"), Scope::All, &block()).unwrap();
    assert_ne!(net, host);
    group.remove_id(net).unwrap();
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Drop);
}

#[test]
fn a_filter_of_each_kind() {
    let filter = BpfFilter::builder().mode(Mode::Off).ranges4_max(0).build().unwrap();
    let clock = Clock::default();
    let group = knot(&clock, &filter).build().unwrap();
    // There is no room for ranges in this one at all.
    group.add(source("192.0.2.0/24"), Scope::All, &block()).unwrap();
    assert!(only(&group).degraded);
    assert_eq!((verdict(&group, "192.0.2.9"), group.stats().degraded), (Verdict::Drop, 1));
}

/// A filter finds the rule of a host before that of its network, so the milder one must not be there.
#[test]
fn a_mild_block_does_not_hide_a_strict_one() {
    let of = name("www.example");
    let ask = |group: &DynBlockGroup| {
        let query = QueryEvent::new(at("192.0.2.1"), &of, A);
        [query, query.over(Transport::Tcp)].map(|query| group.check(&query))
    };
    let ladder = || Penalty::block_for(MINUTE).ladder(Ladder::new());
    for network_first in [false, true] {
        let (clock, filter) = (Clock::default(), off());
        let group = knot(&clock, &filter).query_rate(Rate::per_second(10), ladder()).build().unwrap();
        let network = || group.add(source("192.0.2.0/24"), Scope::All, &block()).unwrap();
        if network_first {
            network();
        }
        send(&group, "192.0.2.1", 12);
        if !network_first {
            assert_eq!(ask(&group)[1], Verdict::Pass, "over TCP");
            network();
        }
        clock.advance(seconds(1));
        send(&group, "192.0.2.1", 12);
        assert_eq!(ask(&group), [Verdict::Drop; 2], "{network_first}: {:?}", group.blocks());
        let drops = |rule: &ebpf_filter::RuleStats| rule.rule.action == Action::Drop;
        assert!(filter.stats().unwrap().rules.iter().all(drops));
        // Once the network is free, the host is on its own.
        group.remove(&source("192.0.2.0/24"));
        clock.advance(seconds(1));
        send(&group, "192.0.2.1", 12);
        assert_eq!(ask(&group)[1], Verdict::Pass);
        assert!(filter.rule(&Match::address([192, 0, 2, 1])).is_some());
    }
    // Where the strict one says nothing about TCP, what is milder over UDP still counts there.
    let clock = Clock::default();
    let group =
        group(&clock).query_rate(Rate::per_second(10), block().action(Action::Refused)).build().unwrap();
    group.add(source("192.0.2.0/24"), Scope::All, &block().action(Action::Slip(0))).unwrap();
    send(&group, "192.0.2.1", 12);
    assert_eq!(ask(&group), [Verdict::Drop, Verdict::Refused]);
}
