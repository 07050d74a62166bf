//! What dnsdist had before groups: number 59 of its unit tests and the regression tests 7 to 12, as far as they are about that.

use std::net::IpAddr;

use ebpf_filter::{
    Action, Match, Rule,
    dynblock::{DynBpfFilter, Exempt},
};

use crate::common::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn who_exceeds_a_rate() {
    let clock = Clock::default();
    let exempt = Exempt::none().exclude(ip("192.0.2.9"));
    let group = group(&clock).exempt(exempt).build().unwrap();
    assert_eq!(group.exceed_query_rate(20, WINDOW).unwrap(), Vec::<IpAddr>::new());
    for client in ["192.0.2.2", "192.0.2.1", "2001:db8::1", "192.0.2.9"] {
        assert_eq!(send(&group, client, 201), 201);
    }
    send(&group, "192.0.2.3", 200);
    let exceeding = group.exceed_query_rate(20, WINDOW).unwrap();
    assert_eq!(exceeding, ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(ip));
    // Another rate is another question, and counts from when it is asked.
    assert!(group.exceed_query_rate(10, WINDOW).unwrap().is_empty());
    send(&group, "192.0.2.3", 101);
    assert_eq!(group.exceed_query_rate(10, WINDOW).unwrap(), [ip("192.0.2.3")]);
    // Who has stopped does not exceed it any more once the window has passed.
    clock.advance(WINDOW + seconds(1));
    assert!(group.exceed_query_rate(20, WINDOW).unwrap().is_empty());
    assert!(group.blocks().is_empty());
    assert!(group.exceed_query_rate(0, WINDOW).is_err());
}

/// Windows that differ by less than a millisecond are two.
#[test]
fn windows_are_told_apart() {
    let group = group(&Clock::default()).build().unwrap();
    let nearly = WINDOW + std::time::Duration::from_micros(1);
    group.exceed_query_rate(20, WINDOW).unwrap();
    group.exceed_query_rate(20, nearly).unwrap();
    send(&group, "192.0.2.1", 150);
    assert!(group.exceed_query_rate(20, WINDOW).unwrap().is_empty());
    assert!(group.exceed_query_rate(20, nearly).unwrap().is_empty());
}

#[test]
fn blocks_of_a_filter() {
    let filter = off();
    let dbpf = DynBpfFilter::new(filter.clone());
    assert!(dbpf.block(ip("192.0.2.1"), MINUTE).unwrap());
    assert!(dbpf.block(ip("::ffff:192.0.2.2"), MINUTE).unwrap());
    assert!(dbpf.block(ip("2001:db8::1"), MINUTE).unwrap());
    let blocked: Vec<_> = dbpf.blocks().into_iter().map(|(address, ..)| address).collect();
    assert_eq!(blocked, ["192.0.2.1", "192.0.2.2", "2001:db8::1"].map(ip));
    // A longer block stays, a shorter one becomes longer.
    assert!(!dbpf.block(ip("192.0.2.1"), seconds(1)).unwrap());
    assert!(dbpf.blocks()[0].1 > seconds(50));
    assert!(!dbpf.block(ip("192.0.2.1"), seconds(3600)).unwrap());
    assert!(dbpf.blocks()[0].1 > seconds(3500));
    assert_eq!((dbpf.blocks().len(), dbpf.purge_expired()), (3, 0));
}

/// By the clock of the kernel, so this waits for real.
#[test]
fn blocks_of_a_filter_end() {
    let dbpf = DynBpfFilter::new(off());
    dbpf.block(ip("192.0.2.1"), millis(20)).unwrap();
    dbpf.block(ip("192.0.2.2"), MINUTE).unwrap();
    std::thread::sleep(millis(30));
    assert_eq!(dbpf.purge_expired(), 1);
    assert_eq!(dbpf.blocks().len(), 1);
    assert!(dbpf.block(ip("192.0.2.1"), MINUTE).unwrap(), "a new one");
}

#[test]
fn rules_of_the_operator_stay() {
    let filter = off();
    let dbpf = DynBpfFilter::new(filter.clone());
    for (host, rule) in [
        (1, Rule::drop(Match::address([192, 0, 2, 1]))),
        (2, Rule::new(Match::address([192, 0, 2, 2]), Action::Pass)),
        (3, Rule::new(Match::address([192, 0, 2, 3]), Action::Pass).expires_in(seconds(10))),
    ] {
        filter.insert(rule.clone()).unwrap();
        assert!(!dbpf.block(IpAddr::from([192, 0, 2, host]), MINUTE).unwrap());
        let found = filter.rule(&rule.matches).unwrap().rule;
        assert_eq!((found.action, found.expires_in.is_some()), (rule.action, rule.expires_in.is_some()));
    }
    assert!(dbpf.blocks().is_empty());
}

/// A block of a group that ends earlier gives way, and the group leaves the longer one alone.
#[test]
fn beside_a_group() {
    let (clock, filter) = (Clock::default(), off());
    let group = group(&clock).filter(filter.clone()).query_rate(one(), block()).build().unwrap();
    let dbpf = DynBpfFilter::new(filter.clone());
    send(&group, "192.0.2.1", 2);
    assert!(!dbpf.block(ip("192.0.2.1"), seconds(3600)).unwrap());
    group.clear();
    assert_eq!(dbpf.blocks().len(), 1);
}
