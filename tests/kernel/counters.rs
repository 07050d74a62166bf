//! Counters are exact: every packet counts, once, whichever CPU decides on it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    thread,
};

use ebpf_filter::{Action, BpfFilter, Match, Mode, QName, Qtypes, Query, Rule, Verdict};
use ebpf_filter_tests::{
    dns::{A, AAAA, query},
    hits, require_kernel,
    wire::{self, Wire, allowed_cpus, move_to_cpu},
};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 12, 1));
const BYSTANDER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 12, 2));

fn filter() -> BpfFilter {
    BpfFilter::builder().mode(Mode::Require).build().unwrap()
}

/// Two senders on two CPUs, at one rule.
#[track_caller]
fn assert_counts_every_packet(source: IpAddr, datagram: &[u8], rule: &Match) {
    const PACKETS: u64 = 20_000;
    let filter = filter();
    filter.insert(Rule::drop(rule.clone())).unwrap();
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    filter.attach(&server).unwrap();
    let address = server.local_addr().unwrap();
    let cpus = allowed_cpus();
    thread::scope(|scope| {
        for cpu in 0..2 {
            scope.spawn(move || {
                move_to_cpu(&cpus, cpu);
                let client = wire::client(source, address);
                for _ in 0..PACKETS {
                    wire::send(&client, datagram);
                }
                wire::send(&wire::client(BYSTANDER, address), b"done");
            });
        }
    });
    for _ in 0..2 {
        assert_eq!(wire::receive(&server).1, b"done");
    }
    wire::assert_empty(&server);
    assert_eq!(hits(&filter, rule), 2 * PACKETS);
}

#[test]
fn sources_on_two_cpus() {
    require_kernel!();
    assert_counts_every_packet(CLIENT, &query("example.", A), &Match::address(CLIENT));
}

#[test]
fn names_on_two_cpus() {
    require_kernel!();
    let rule = Match::qname("evil.example".parse().unwrap(), Qtypes::Only(A));
    assert_counts_every_packet(CLIENT, &query("eviL.examplE.", A), &rule);
}

#[test]
fn ranges_and_suffixes_on_two_cpus() {
    require_kernel!();
    let range = Match::range("127.0.12.0/31".parse::<ipnet::IpNet>().unwrap());
    assert_counts_every_packet(CLIENT, &query("example.", A), &range);
    let rule = Match::suffix("example".parse().unwrap(), Qtypes::All);
    assert_counts_every_packet(CLIENT, &query("a.B.evil.examplE.", A), &rule);
}

#[test]
fn kernel_and_user_space_add_up() {
    require_kernel!();
    let filter = filter();
    let evil: QName = "evil.example".parse().unwrap();
    filter.block(CLIENT).unwrap();
    filter.block_qname(&evil, Qtypes::All).unwrap();
    let wire = Wire::ipv4();
    filter.attach(wire.server()).unwrap();
    let (client, bystander) = (wire.client(CLIENT), wire.client(BYSTANDER));
    for _ in 0..3 {
        wire.assert_drops(&client, &query("good.example.", A));
        wire.assert_drops(&bystander, &query("evil.example.", A));
    }
    for _ in 0..4 {
        assert_eq!(filter.check(&Query::new(CLIENT, &evil, A)), Verdict::Drop);
        assert_eq!(filter.check_datagram(BYSTANDER, &query("evil.example.", A)), Verdict::Drop);
    }
    assert_eq!(filter.stats().unwrap().to_string(), "127.0.12.1: 7\nevil.example. 255: 7\n");
    filter.reset_hits().unwrap();
    assert_eq!(filter.stats().unwrap().to_string(), "127.0.12.1: 0\nevil.example. 255: 0\n");
}

/// The rule for the source decides, so the one for the name is not asked.
#[test]
fn the_deciding_rule_counts_alone() {
    require_kernel!();
    let filter = filter();
    filter.block(CLIENT).unwrap();
    filter.block_qname(&"evil.example".parse().unwrap(), Qtypes::All).unwrap();
    filter.block_qname(&"evil.example".parse().unwrap(), Qtypes::Only(A)).unwrap();
    let wire = Wire::ipv4();
    filter.attach(wire.server()).unwrap();
    wire.assert_drops(&wire.client(CLIENT), &query("evil.example.", A));
    wire.assert_drops(&wire.client(BYSTANDER), &query("evil.example.", A));
    wire.assert_drops(&wire.client(BYSTANDER), &query("evil.example.", AAAA));
    let expected = "127.0.12.1: 1\nevil.example. 255: 1\nevil.example. 1: 1\n";
    assert_eq!(filter.stats().unwrap().to_string(), expected);
}

#[test]
fn what_passes_is_counted_without_being_dropped() {
    require_kernel!();
    let filter = filter();
    filter.insert(Rule::new(Match::address(CLIENT), Action::Count)).unwrap();
    filter.insert(Rule::new(Match::address(BYSTANDER), Action::Pass)).unwrap();
    filter.block_qname(&"evil.example".parse().unwrap(), Qtypes::All).unwrap();
    let wire = Wire::ipv4();
    filter.attach(wire.server()).unwrap();
    wire.assert_passes(&wire.client(CLIENT), &query("good.example.", A));
    wire.assert_drops(&wire.client(CLIENT), &query("evil.example.", A));
    wire.assert_passes(&wire.client(BYSTANDER), &query("evil.example.", A));
    let expected = "127.0.12.1: 2\n127.0.12.2: 1\nevil.example. 255: 1\n";
    assert_eq!(filter.stats().unwrap().to_string(), expected);
}

/// One filter at several sockets counts for all of them.
#[test]
fn sockets_share_the_counters() {
    require_kernel!();
    let filter = filter();
    filter.block(CLIENT).unwrap();
    for socket in 1..=3 {
        let wire = Wire::ipv4();
        filter.attach(wire.server()).unwrap();
        wire.assert_drops(&wire.client(CLIENT), &query("example.", A));
        assert_eq!(hits(&filter, &Match::address(CLIENT)), socket);
    }
}
