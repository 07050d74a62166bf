//! Every operation.

use std::net::Ipv4Addr;

use ebpf_filter::{Action, BpfFilter, ExternalMaps, Kind, Match, Qtypes, Rule, RuleError, Selection};
use ebpf_filter_tests::{pins::PinDir, require_kernel, shared_maps};

use crate::{address, every_kind, name, qname, range};

#[test]
fn rules_of_every_kind_come_and_go() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    for rule in every_kind() {
        assert_eq!(filter.rule(&rule.matches).unwrap(), None);
        filter.insert(rule.clone()).unwrap();
        let found = filter.rule(&rule.matches).unwrap().unwrap();
        assert_eq!((found.rule, found.hits), (rule.clone(), 0));
        assert_eq!(filter.count(rule.matches.kind()).unwrap(), 1);
        let again = filter.insert(rule.clone()).unwrap_err();
        assert!(matches!(again, RuleError::Duplicate(of) if of == rule.matches));
    }
    let expected =
        "192.0.2.1: 0\n[2001:db8::1]: 0\n198.51.100.0/24: 0\n[2001:db8:1::/48]: 0\nevil.example. 255: 0\n";
    assert_eq!(filter.stats().unwrap().to_string(), expected);
    for rule in every_kind() {
        filter.remove(&rule.matches).unwrap();
        assert_eq!(filter.rule(&rule.matches).unwrap(), None);
        assert!(matches!(filter.remove(&rule.matches), Err(RuleError::Missing(of)) if of == rule.matches));
    }
    assert_eq!(filter.stats().unwrap().rules, []);
}

#[test]
fn short_forms() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    let (client, net, evil) = (
        Ipv4Addr::new(192, 0, 2, 1),
        "192.0.2.0/24".parse::<ebpf_filter::IpNet>().unwrap(),
        name("evil.example"),
    );
    filter.block(client).unwrap();
    filter.block_range(net).unwrap();
    filter.block_qname(&evil, Qtypes::Only(28)).unwrap();
    assert_eq!(filter.stats().unwrap().to_string(), "192.0.2.1: 0\n192.0.2.0/24: 0\nevil.example. 28: 0\n");
    filter.unblock(client).unwrap();
    filter.unblock_range(net).unwrap();
    filter.unblock_qname(&evil, Qtypes::Only(28)).unwrap();
    assert_eq!(filter.stats().unwrap().to_string(), "");
}

/// The addresses in v4-mapped ones are what comes over the wire.
#[test]
fn mapped_addresses_are_ipv4() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    filter.insert(Rule::drop(Match::Ipv6("::ffff:192.0.2.1".parse().unwrap()))).unwrap();
    filter.insert(Rule::drop(Match::Range6("::ffff:192.0.2.0/120".parse().unwrap()))).unwrap();
    assert_eq!(shared_maps::list(&pins.pin("addr-v4"), "addr-v4"), ["192.0.2.1 0 1"]);
    assert_eq!(shared_maps::list(&pins.pin("cidr4"), "cidr4"), ["192.0.2.0/24 0 1"]);
    filter.remove(&Match::Ipv6("::ffff:192.0.2.1".parse().unwrap())).unwrap();
    assert!(filter.rule(&Match::Range6("::ffff:192.0.2.9/120".parse().unwrap())).unwrap().is_some());
}

#[test]
fn what_the_format_has_not_is_refused() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    for action in [Action::Count, Action::Slip(2), Action::Refused, Action::NxDomain] {
        let rule = Rule::new(address("192.0.2.1"), action);
        for error in [filter.insert(rule.clone()).unwrap_err(), filter.replace(rule).unwrap_err()] {
            assert!(matches!(error, RuleError::NotInFormat { .. }), "{error}");
            assert!(error.to_string().contains("pass, drop and truncate"), "{error}");
        }
    }
    let suffix = Match::suffix(name("evil.example"), Qtypes::All);
    assert!(matches!(filter.insert(Rule::drop(suffix.clone())), Err(RuleError::NotInFormat { .. })));
    assert!(matches!(filter.remove(&suffix), Err(RuleError::NotInFormat { .. })));
    assert_eq!(filter.rule(&suffix).unwrap(), None);
    // The number that stands for every type stands for no single one.
    let any = qname("evil.example", Qtypes::Only(255));
    let error = filter.insert(Rule::drop(any)).unwrap_err();
    assert!(matches!(error, RuleError::NotInFormat { .. }), "{error}");
    assert_eq!(filter.stats().unwrap().rules, []);
}

#[test]
fn kinds_without_a_map_are_refused() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let maps = ExternalMaps {
        qnames: Some(pins.pin("qnames")),
        addr_v4: Some(pins.pin("addr-v4")),
        ..Default::default()
    };
    let filter = BpfFilter::builder().ipv4_max(0).external(maps).build().unwrap();
    for rule in every_kind() {
        let kind = rule.matches.kind();
        let outcome = filter.insert(rule.clone());
        if kind == Kind::Qname {
            outcome.unwrap();
        } else {
            assert!(matches!(outcome, Err(RuleError::KindNotUsed(of)) if of == kind));
            assert!(matches!(filter.remove(&rule.matches), Err(RuleError::KindNotUsed(of)) if of == kind));
            assert_eq!((filter.capacity(kind), filter.count(kind).unwrap()), (0, 0));
        }
    }
    // Without a path of its own, the map of ends is beside the first one.
    assert_eq!(pins.pins(), ["qnames", "qnames-ends"]);
}

#[test]
fn full_maps_refuse_one_more_and_say_which() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let small = BpfFilter::builder().ipv4_max(2).ipv6_max(2).ranges4_max(2).ranges6_max(2).qnames_max(2);
    let filter = pins.external_with(small);
    let of = |number: u16| {
        [
            address(&format!("192.0.2.{number}")),
            address(&format!("2001:db8::{number}")),
            range(&format!("10.{number}.0.0/16")),
            range(&format!("2001:db8:{number}::/48")),
            qname(&format!("{number}.example"), Qtypes::All),
        ]
    };
    for one in of(1).into_iter().chain(of(2)) {
        filter.insert(Rule::drop(one)).unwrap();
    }
    for one in of(3) {
        let kind = one.kind();
        let error =
            filter.insert(Rule::drop(one.clone()).expires_in(std::time::Duration::from_secs(9))).unwrap_err();
        assert!(matches!(error, RuleError::Full { kind: of, max: 2 } if of == kind), "{error}");
        assert!(error.to_string().contains(kind.setting()), "{error}");
        assert!(matches!(filter.replace(Rule::drop(one)), Err(RuleError::Full { .. })));
    }
    for (gone, one) in of(1).into_iter().zip(of(3)) {
        // A rule that is there is one in a full map as well.
        assert!(matches!(filter.insert(Rule::drop(gone.clone())), Err(RuleError::Duplicate(_))));
        assert!(filter.replace(Rule::new(gone.clone(), Action::Pass)).unwrap());
        filter.remove(&gone).unwrap();
        filter.insert(Rule::drop(one)).unwrap();
    }
}

/// What others add and remove is counted like the rest: nobody keeps a count.
#[test]
fn others_take_room_and_give_it_back() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external_with(BpfFilter::builder().ipv4_max(2));
    let pin = pins.pin("addr-v4");
    shared_maps::set(&pin, "addr-v4", "198.51.100.1", 0, 1);
    shared_maps::set(&pin, "addr-v4", "198.51.100.2", 0, 1);
    assert_eq!(filter.count(Kind::Ipv4).unwrap(), 2);
    assert!(matches!(filter.block([192, 0, 2, 1]), Err(RuleError::Full { kind: Kind::Ipv4, max: 2 })));
    shared_maps::delete(&pin, "addr-v4", "198.51.100.2");
    filter.block([192, 0, 2, 1]).unwrap();
    filter.unblock([198, 51, 100, 1]).unwrap();
    assert_eq!(shared_maps::list(&pin, "addr-v4"), ["192.0.2.1 0 1"]);
}

#[test]
fn many_are_added_or_none() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external_with(BpfFilter::builder().ipv4_max(5000));
    let rule = |host: u32| Rule::drop(Match::address(Ipv4Addr::from_bits(host)));
    // The address 0.0.0.0, whose key is all zeros, included.
    filter.insert_many((0..3000).map(rule)).unwrap();
    let error = filter.insert_many((3000..4000).chain([7]).map(rule)).unwrap_err();
    assert!(matches!(error, RuleError::Duplicate(of) if of == rule(7).matches));
    assert!(matches!(filter.insert_many((4000..4010).chain([4000]).map(rule)), Err(RuleError::Duplicate(_))));
    assert!(matches!(filter.insert_many((3000..6000).map(rule)), Err(RuleError::Full { .. })));
    let suffix = Rule::drop(Match::suffix(name("a.example"), Qtypes::All));
    assert!(filter.insert_many([rule(4000), suffix]).is_err());
    assert_eq!(filter.count(Kind::Ipv4).unwrap(), 3000);
    let stats = filter.stats().unwrap();
    let expected = (0..3000).map(|host| rule(host).matches);
    assert!(stats.rules.iter().map(|found| found.rule.matches.clone()).eq(expected));
    assert!(stats.to_string().starts_with("0.0.0.0: 0\n"));
}

#[test]
fn replace_keeps_hits() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    let client = address("192.0.2.1");
    assert!(!filter.replace(Rule::drop(client.clone())).unwrap());
    shared_maps::set(&pins.pin("addr-v4"), "addr-v4", "192.0.2.1", 42, 1);
    assert!(filter.replace(Rule::new(client.clone(), Action::Truncate)).unwrap());
    let found = filter.rule(&client).unwrap().unwrap();
    assert_eq!((found.rule.action, found.hits), (Action::Truncate, 42));
    filter.reset_hits().unwrap();
    assert_eq!(shared_maps::list(&pins.pin("addr-v4"), "addr-v4"), ["192.0.2.1 0 2"]);
}

#[test]
fn everything_goes_at_once() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    filter.insert_many(every_kind()).unwrap();
    // Also what no rule can be made of.
    shared_maps::set(&pins.pin("addr-v4"), "addr-v4", "192.0.2.9", 1, 77);
    assert_eq!(filter.stats().unwrap().rules.len(), 5);
    assert_eq!(filter.count(Kind::Ipv4).unwrap(), 2);
    filter.clear().unwrap();
    for map in ["addr-v4", "addr-v6", "qnames", "cidr4", "cidr6"] {
        assert_eq!(shared_maps::list(&pins.pin(map), map), [""; 0], "{map}");
    }
}

#[test]
fn statistics_can_be_chosen() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    filter.insert_many(every_kind()).unwrap();
    for (host, hits) in [(1, 5), (2, 7), (3, 6)] {
        shared_maps::set(&pins.pin("addr-v4"), "addr-v4", &format!("192.0.2.{host}"), hits, 1);
    }
    let busiest = Selection::all().kinds([Kind::Ipv4, Kind::Qname]).min_hits(6).by_hits();
    assert_eq!(filter.stats_of(&busiest).unwrap().to_string(), "192.0.2.2: 7\n192.0.2.3: 6\n");
    assert_eq!(filter.stats_of(&busiest.limit(1)).unwrap().to_string(), "192.0.2.2: 7\n");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let names = Selection::all().kinds([Kind::Qname]);
    assert_eq!(runtime.block_on(filter.read_stats(names)).unwrap().to_string(), "evil.example. 255: 0\n");
}

#[test]
fn what_was_left_is_reconciled_with_the_configuration() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    let pin = pins.pin("addr-v4");
    for host in 1..=4 {
        shared_maps::set(&pin, "addr-v4", &format!("192.0.2.{host}"), host, 1);
    }
    let hour = std::time::Duration::from_secs(3600);
    filter.insert(Rule::drop(address("192.0.2.100")).expires_in(hour)).unwrap();
    filter.insert(Rule::drop(address("192.0.2.101")).expires_in(hour)).unwrap();
    filter.block_range("192.0.2.0/24".parse::<ebpf_filter::IpNet>().unwrap()).unwrap();
    let wanted = [
        Rule::drop(address("192.0.2.1")),
        Rule::new(address("192.0.2.2"), Action::Pass),
        Rule::drop(address("192.0.2.5")),
        Rule::drop(address("192.0.2.101")),
        Rule::drop(qname("evil.example", Qtypes::All)),
    ];
    let done = filter.reconcile(wanted.clone()).unwrap();
    assert_eq!((done.added, done.changed, done.removed), (2, 2, 3));
    let expected = ["192.0.2.1 1 1", "192.0.2.100 0 1", "192.0.2.101 0 1", "192.0.2.2 2 0", "192.0.2.5 0 1"];
    assert_eq!(shared_maps::list(&pin, "addr-v4"), expected);
    assert_eq!(shared_maps::list(&pins.pin("cidr4"), "cidr4"), [""; 0]);
    let ends = |text| filter.rule(&address(text)).unwrap().unwrap().rule.expires_in.is_some();
    assert!(ends("192.0.2.100") && !ends("192.0.2.101"));

    let nothing = filter.reconcile(wanted.clone()).unwrap();
    assert_eq!((nothing.added, nothing.changed, nothing.removed), (0, 0, 0));
    let twice = wanted.iter().cloned().chain([wanted[0].clone()]);
    assert!(matches!(filter.reconcile(twice), Err(RuleError::Duplicate(_))));
    let too_many = (0..1025).map(|host| Rule::drop(Match::address(Ipv4Addr::from_bits(host))));
    assert!(matches!(filter.reconcile(too_many), Err(RuleError::Full { kind: Kind::Ipv4, max: 1024 })));
    assert_eq!(shared_maps::list(&pin, "addr-v4"), expected);
}
