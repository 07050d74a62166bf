//! Ranges of sources: the longest prefix decides, in the kernel and in user space.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use ebpf_filter::{Action, BpfFilter, BpfFilterBuilder, Kind, Match, Mode, Query, Rule, RuleError, Verdict};
use ebpf_filter_tests::{
    dns::{A, query},
    hits, in_both_worlds,
    netns::{self, add_addresses},
    require_kernel, tcp,
    wire::Wire,
    world::World,
};
use ipnet::IpNet;

type NewWorld = fn(BpfFilterBuilder) -> World;

in_both_worlds!(
    the_longest_prefix_decides,
    an_exact_rule_comes_before_any_range,
    what_only_counts_does_not_decide,
    a_specific_range_and_its_removal_leave_the_covering_one,
    every_length_matches_its_addresses_and_no_others,
    bits_behind_the_prefix_do_not_matter,
);

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn client(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 21, host)
}

fn rule(range: &str, action: Action) -> Rule {
    Rule::new(Match::range(net(range)), action)
}

/// A filter, in whose ranges the harness may be: it sends from there what shows that nothing else has arrived.
fn world(new: NewWorld, builder: BpfFilterBuilder) -> World {
    let world = new(builder);
    allow_harness(&world.filter);
    world
}

fn allow_harness(filter: &BpfFilter) {
    for address in [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()] {
        filter.insert(Rule::new(Match::address(address), Action::Pass)).unwrap();
    }
}

/// The hits of all rules but those of the harness, a line each.
fn stats(filter: &BpfFilter) -> String {
    let stats = filter.stats().unwrap().to_string();
    let harness = |line: &&str| !line.starts_with("127.0.0.1: ") && !line.starts_with("[::1]: ");
    stats.split_inclusive('\n').filter(harness).collect()
}

fn passes(world: &World, host: u8) -> bool {
    world.passes(client(host), &query("example.", A))
}

fn the_longest_prefix_decides(new: NewWorld) {
    let world = world(new, BpfFilter::builder());
    let rules = [
        rule("127.0.0.0/8", Action::Drop),
        rule("127.0.21.0/24", Action::Pass),
        rule("127.0.21.128/25", Action::Drop),
        rule("127.0.21.192/26", Action::Pass),
        rule("127.0.21.255/32", Action::Drop),
    ];
    // In whatever order they are added.
    for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 4, 0, 3, 1]] {
        world.filter.clear().unwrap();
        allow_harness(&world.filter);
        for index in order {
            world.filter.insert(rules[index].clone()).unwrap();
        }
        for (host, expected) in
            [(1, true), (127, true), (128, false), (191, false), (192, true), (255, false)]
        {
            assert_eq!(passes(&world, host), expected, "127.0.21.{host}");
        }
        assert!(!world.passes([127, 0, 22, 1], &query("example.", A)));
        let expected =
            "127.0.0.0/8: 1\n127.0.21.0/24: 2\n127.0.21.128/25: 2\n127.0.21.192/26: 1\n127.0.21.255/32: 1\n";
        assert_eq!(stats(&world.filter), expected);
    }
}

fn an_exact_rule_comes_before_any_range(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.insert(rule("127.0.21.1/32", Action::Drop)).unwrap();
    world.filter.insert(Rule::new(Match::address(client(1)), Action::Pass)).unwrap();
    assert!(passes(&world, 1));
    assert_eq!(hits(&world.filter, &Match::range(net("127.0.21.1/32"))), 0);
    world.filter.unblock(client(1)).unwrap();
    assert!(!passes(&world, 1));
}

fn what_only_counts_does_not_decide(new: NewWorld) {
    let world = world(new, BpfFilter::builder());
    world.filter.insert(Rule::new(Match::address(client(1)), Action::Count)).unwrap();
    world.filter.insert(rule("127.0.21.0/30", Action::Count)).unwrap();
    world.filter.insert(rule("127.0.21.0/28", Action::Count)).unwrap();
    world.filter.insert(rule("127.0.0.0/16", Action::Drop)).unwrap();
    world.filter.insert(rule("0.0.0.0/0", Action::Count)).unwrap();
    assert!(!passes(&world, 1));
    let expected = "127.0.21.1: 1\n0.0.0.0/0: 0\n127.0.0.0/16: 1\n127.0.21.0/28: 1\n127.0.21.0/30: 1\n";
    assert_eq!(stats(&world.filter), expected);
}

/// Where counts went wrong in others: a range under another one was not counted, but its removal was.
fn a_specific_range_and_its_removal_leave_the_covering_one(new: NewWorld) {
    let world = new(BpfFilter::builder().ranges4_max(2));
    world.filter.block_range(net("127.0.21.0/24")).unwrap();
    for _ in 0..5 {
        world.filter.insert(rule("127.0.21.64/26", Action::Pass)).unwrap();
        assert!(matches!(world.filter.block_range(net("10.0.0.0/8")), Err(RuleError::Full { max: 2, .. })));
        assert!(passes(&world, 65));
        assert!(!passes(&world, 1));
        world.filter.unblock_range(net("127.0.21.64/26")).unwrap();
        assert!(!passes(&world, 65));
        let missing = world.filter.unblock_range(net("127.0.21.64/26"));
        assert!(matches!(missing, Err(RuleError::Missing(_))), "{missing:?}");
    }
    world.filter.unblock_range(net("127.0.21.0/24")).unwrap();
    assert!(passes(&world, 1));
    assert_eq!(world.filter.stats().unwrap().to_string(), "");
}

fn every_length_matches_its_addresses_and_no_others(new: NewWorld) {
    let world = world(new, BpfFilter::builder());
    let address = Ipv4Addr::new(127, 85, 170, 85);
    for len in 0..=32 {
        let range = Match::range(IpNet::new(address.into(), len).unwrap());
        world.filter.insert(Rule::drop(range.clone())).unwrap();
        assert!(!world.passes(address, &query("example.", A)), "/{len}");
        // The last bit of the prefix, as long as the client stays in 127.0.0.0/8.
        if len > 8 {
            let outside = Ipv4Addr::from_bits(address.to_bits() ^ 1 << (32 - len));
            assert!(world.passes(outside, &query("example.", A)), "/{len}: {outside}");
        }
        assert_eq!(hits(&world.filter, &range), 1);
        world.filter.remove(&range).unwrap();
        assert!(world.passes(address, &query("example.", A)), "/{len}");
    }
}

fn bits_behind_the_prefix_do_not_matter(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.block_range(net("127.0.21.77/24")).unwrap();
    assert!(matches!(world.filter.block_range(net("127.0.21.1/24")), Err(RuleError::Duplicate(_))));
    // Written as IPv6, these are IPv4 addresses all the same.
    assert!(matches!(world.filter.block_range(net("::ffff:127.0.21.0/120")), Err(RuleError::Duplicate(_))));
    assert!(!passes(&world, 1));
    assert_eq!(world.filter.stats().unwrap().to_string(), "127.0.21.0/24: 1\n");
    world.filter.unblock_range(net("::ffff:127.0.21.9/120")).unwrap();
    assert!(passes(&world, 1));
}

#[test]
fn ipv6_packets_meet_ranges_of_every_length() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        const CLIENT: &str = "2001:db8:5555:aaaa:5555:aaaa:5555:aaaa";
        add_addresses(&[CLIENT]);
        let address: Ipv6Addr = CLIENT.parse().unwrap();
        let wire = Wire::new(UdpSocket::bind("[::1]:0").unwrap(), Ipv6Addr::LOCALHOST.into());
        let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
        filter.attach(wire.server()).unwrap();
        allow_harness(&filter);
        let client = wire.client(address);
        let message = query("example.", A);
        for len in 1..=128 {
            let range = |bits| Match::range(IpNet::new(Ipv6Addr::from_bits(bits).into(), len).unwrap());
            let inside = range(address.to_bits());
            let outside = range(address.to_bits() ^ 1 << (128 - len));
            filter.insert(Rule::drop(outside.clone())).unwrap();
            wire.assert_passes(&client, &message);
            filter.insert(Rule::drop(inside.clone())).unwrap();
            wire.assert_drops(&client, &message);
            assert_eq!(hits(&filter, &inside), 1, "/{len}");
            assert_eq!(hits(&filter, &outside), 0, "/{len}");
            filter.remove(&inside).unwrap();
            filter.remove(&outside).unwrap();
        }
        // All lengths at once: the longest is asked first, and all are asked.
        let all = (0..=128)
            .map(|len| Rule::new(Match::range(IpNet::new(address.into(), len).unwrap()), Action::Count));
        filter.insert_many(all).unwrap();
        wire.assert_passes(&client, &message);
        let stats = filter.stats().unwrap();
        let ranges = stats.rules.iter().filter(|entry| entry.rule.matches.kind() == Kind::Range6);
        assert_eq!(ranges.map(|entry| entry.hits).collect::<Vec<_>>(), vec![1; 129]);
        filter.insert(Rule::new(Match::range(net("2001:db8::/47")), Action::Drop)).unwrap();
        wire.assert_passes(&client, &message);
        assert!(filter.replace(Rule::drop(Match::range(IpNet::new(address.into(), 1).unwrap()))).unwrap());
        wire.assert_drops(&client, &message);
    });
}

/// IPv4 is not in a range of IPv6, not even in the one of all.
#[test]
fn the_families_are_apart() {
    require_kernel!();
    let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
    let wire = Wire::ipv4();
    filter.attach(wire.server()).unwrap();
    filter.block_range(net("::/0")).unwrap();
    wire.assert_passes(&wire.client(client(1)), &query("example.", A));
    let name = "example".parse().unwrap();
    let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
    assert_eq!(filter.check(&Query::new(v6, &name, A)), Verdict::Drop);
    assert_eq!(filter.check(&Query::new(client(1).into(), &name, A)), Verdict::Pass);
}

#[test]
fn a_listener_drops_what_comes_from_a_range() {
    require_kernel!();
    let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    filter.attach(&listener).unwrap();
    filter.block_range(net("127.0.21.0/24")).unwrap();
    filter.insert(Rule::new(Match::address(client(7)), Action::Pass)).unwrap();
    let (allowed, server) = tcp::pair(client(7).into(), &listener);
    tcp::assert_answers(&allowed, &server, &query("example.", A));
    let waiting = tcp::start_connecting(client(1).into(), listener.local_addr().unwrap());
    tcp::assert_no_connection(&listener);
    drop(waiting);
    assert!(hits(&filter, &Match::range(net("127.0.21.0/24"))) >= 1);
}
