//! What once went wrong: rules refused without need, and rules that others hid while they changed.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use ebpf_filter::{BpfFilter, BpfFilterBuilder, BuildError, Kind, Match, Mode, QName, Qtypes, Rule, Verdict};
use ebpf_filter_tests::{
    model::{
        frame::{PAYLOAD_OFFSET, frame},
        names,
    },
    require_kernel,
};
use ipnet::IpNet;

fn in_user_space(builder: BpfFilterBuilder) -> BpfFilter {
    builder.mode(Mode::Off).build().unwrap()
}

/// A bucket has room for 16. With hashes that were one product with a random number, the multiples of regular addresses fell
/// into few buckets for some numbers: one filter in 200 refused one of these rules.
#[test]
fn consecutive_addresses_find_room() {
    for round in 0..500 {
        let sizes =
            BpfFilter::builder().ipv6_max(0).ranges4_max(0).ranges6_max(0).qnames_max(0).suffixes_max(0);
        let filter = in_user_space(sizes.ipv4_max(1024));
        for host in 0..1024 {
            let address = Ipv4Addr::from_bits(0xc633_6400 + host);
            let outcome = filter.block(address);
            assert!(outcome.is_ok(), "filter {round}, with {host} rules of 1024: {}", outcome.unwrap_err());
        }
    }
}

/// Whoever can make somebody block names of their choice can make names that find no room, in any filter.
#[test]
fn names_that_collide_find_room() {
    let filter = in_user_space(BpfFilter::builder());
    for which in 0..32 {
        let name = QName::from_wire(&names::colliding(which)).unwrap();
        let outcome = filter.block_qname(&name, Qtypes::All);
        assert!(outcome.is_ok(), "{name} after {which} others: {}", outcome.unwrap_err());
    }
}

/// A refused change may have cleared the last rule of a kind away that shares the table.
#[test]
fn a_refused_rule_leaves_no_kind_behind() {
    let filter = in_user_space(BpfFilter::builder().qnames_max(1));
    let (evil, good) = ("evil.example".parse().unwrap(), "good.example".parse().unwrap());
    let below = Match::suffix("example".parse().unwrap(), Qtypes::All);
    filter.block_qname(&evil, Qtypes::All).unwrap();
    filter.insert(Rule::drop(below).expires_in(Duration::from_nanos(1))).unwrap();
    filter.block_qname(&good, Qtypes::All).unwrap_err();
    assert_eq!(filter.count(Kind::Suffix), 0);
    filter.unblock_qname(&evil, Qtypes::All).unwrap();
    filter.check_datagram([192, 0, 2, 3], b"short");
    assert_eq!(filter.stats().unwrap().malformed_total(), 0, "there is no rule for a name");
}

#[test]
fn what_was_never_added_is_not_gone() {
    let filter = in_user_space(BpfFilter::builder());
    let rule = |host| Rule::drop(Match::address([192, 0, 2, host]));
    filter.insert_many([rule(1), rule(2), rule(2)]).unwrap_err();
    assert_eq!(filter.stats().unwrap().retired(Kind::Ipv4).rules, 0);
}

#[test]
fn the_largest_size_is_refused_with_a_reason() {
    require_kernel!();
    let built = BpfFilter::builder().qnames_max(1 << 27).mode(Mode::Require).build();
    assert!(matches!(built, Ok(_) | Err(BuildError::Kernel(_))));
}

/// How many packets from 10.0.0.1, for which there is a rule all the time, get through while others change.
#[track_caller]
fn assert_none_slips_through(filter: &BpfFilter, mut change: impl FnMut(u32)) {
    let source = IpAddr::from([10, 0, 0, 1]);
    let in_kernel = filter.status().reason.is_none();
    let frame = frame(source, &[0; 40]);
    let drops = || {
        if in_kernel {
            filter.run_in_kernel("dns_full", &frame) == Some(0)
        } else {
            filter.check_datagram(source, &[0; 40]) == Verdict::Drop
        }
    };
    let stop = AtomicBool::new(false);
    let (packets, through) = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let (mut packets, mut through) = (0_u64, 0_u64);
            while !stop.load(Relaxed) {
                packets += 1;
                through += u64::from(!drops());
            }
            (packets, through)
        });
        let begin = Instant::now();
        let mut turn = 0;
        while begin.elapsed() < Duration::from_secs(3) {
            change(turn);
            turn += 1;
        }
        stop.store(true, Relaxed);
        sender.join().unwrap()
    });
    assert_eq!(through, 0, "of {packets} packets, in the kernel: {in_kernel}");
}

fn change_ranges(mode: Mode) {
    let filter = BpfFilter::builder().mode(mode).payload_offset(PAYLOAD_OFFSET).build().unwrap();
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    filter.block_range(net("10.0.0.0/16")).unwrap();
    let other = net("192.0.2.0/24");
    assert_none_slips_through(&filter, |turn| {
        if turn % 2 == 0 { filter.block_range(other) } else { filter.unblock_range(other) }.unwrap();
    });
}

/// The list of lengths is read place by place, while changes move lengths to other places.
#[test]
fn a_range_bites_while_others_change_in_user_space() {
    change_ranges(Mode::Off);
}

#[test]
fn a_range_bites_while_others_change_in_the_kernel() {
    require_kernel!();
    change_ranges(Mode::Require);
}

/// In a table that is full, a place that was just freed is used at once, for a chain of another bucket. Whoever stood on it
/// must not go on there.
#[test]
fn an_address_bites_while_others_change() {
    let filter = in_user_space(BpfFilter::builder().ipv4_max(16));
    let other = |number: u32| Ipv4Addr::from_bits(0xc000_0200 + number);
    (0..15).for_each(|number| filter.block(other(number)).unwrap());
    filter.block([10, 0, 0, 1]).unwrap();
    assert_none_slips_through(&filter, |turn| {
        filter.unblock(other(turn)).unwrap();
        filter.block(other(turn + 15)).unwrap();
    });
}
