//! Limits on shares of the responses: numbers 53, 54 and 56 of dnsdist's unit tests.

use ebpf_filter::dynblock::{DynBlockGroup, Exempt, QueryEvent, Ratio, ResponseEvent};

use crate::common::*;

const fn fifth() -> Ratio {
    Ratio::above(0.2).over(WINDOW).at_least(51)
}

fn cached(group: &DynBlockGroup, client: &str, hits: u32, misses: u32) {
    let of = name("www.example");
    let response = ResponseEvent::new(QueryEvent::new(at(client), &of, A), NOERROR, 100);
    (0..hits).for_each(|_| group.observe_response(&response.cache_hit(true)));
    (0..misses).for_each(|_| group.observe_response(&response.cache_hit(false)));
}

#[test]
fn rcode_ratio() {
    let build = || {
        let clock = Clock::default();
        group(&clock).rcode_ratio(SERVFAIL, fifth(), block()).build().unwrap()
    };
    let group = build();
    answer(&group, "192.0.2.1", NOERROR, 80);
    answer(&group, "192.0.2.1", SERVFAIL, 20);
    assert!(group.blocks().is_empty(), "20 of 100 are not more than a fifth");
    answer(&group, "192.0.2.2", FORMERR, 50);
    assert!(group.blocks().is_empty());

    let group = build();
    answer(&group, "192.0.2.1", NOERROR, 79);
    answer(&group, "192.0.2.1", SERVFAIL, 21);
    assert_eq!(&*only(&group).reason, "Exceeded response code ratio");

    let group = build();
    answer(&group, "192.0.2.1", NOERROR, 39);
    answer(&group, "192.0.2.1", SERVFAIL, 11);
    assert!(group.blocks().is_empty(), "50 are fewer than 51");
    answer(&group, "192.0.2.1", NOERROR, 1);
    assert_eq!(group.blocks().len(), 1);
}

#[test]
fn allowed_rcodes_ratio() {
    let build = || {
        let clock = Clock::default();
        group(&clock).allowed_rcodes_ratio([NOERROR, NXDOMAIN], fifth(), block()).build().unwrap()
    };
    let group = build();
    answer(&group, "192.0.2.1", NOERROR, 40);
    answer(&group, "192.0.2.1", NXDOMAIN, 40);
    answer(&group, "192.0.2.1", SERVFAIL, 20);
    assert!(group.blocks().is_empty());
    answer(&group, "192.0.2.2", FORMERR, 60);
    assert_eq!(subjects(&group), ["192.0.2.2/32"]);

    let group = build();
    answer(&group, "192.0.2.1", NOERROR, 79);
    answer(&group, "192.0.2.1", SERVFAIL, 11);
    answer(&group, "192.0.2.1", FORMERR, 10);
    assert_eq!(&*only(&group).reason, "Exceeded ratio of response codes that are not allowed");

    let group = build();
    answer(&group, "192.0.2.1", NOERROR, 39);
    answer(&group, "192.0.2.1", SERVFAIL, 11);
    assert!(group.blocks().is_empty());
}

#[test]
fn cache_miss_ratio() {
    let build = |exempt| {
        let clock = Clock::default();
        let limit = Ratio::above(0.5).over(WINDOW).at_least(51);
        let group = group(&clock).cache_miss_ratio(limit, 0.8, block()).exempt(exempt).build().unwrap();
        // What all clients together get.
        cached(&group, "198.51.100.1", 800, 0);
        cached(&group, "198.51.100.1", 0, 100);
        group
    };
    let group = build(Exempt::none());
    cached(&group, "192.0.2.1", 80, 20);
    assert!(group.blocks().is_empty());
    cached(&group, "192.0.2.2", 49, 51);
    assert_eq!(subjects(&group), ["192.0.2.2/32"]);
    cached(&group, "192.0.2.3", 10, 40);
    assert_eq!(group.blocks().len(), 1, "50 are fewer than 51");

    // Now only 60 % come from the cache in all: that says something of the cache, and nothing of the client.
    cached(&group, "198.51.100.1", 0, 500);
    cached(&group, "192.0.2.4", 49, 51);
    assert_eq!(group.blocks().len(), 1);

    // Everybody counts for the whole, who is exempt too.
    let group = build(Exempt::none().exclude("198.51.100.1".parse::<std::net::IpAddr>().unwrap()));
    cached(&group, "192.0.2.2", 49, 51);
    assert_eq!(subjects(&group), ["192.0.2.2/32"]);
}

/// The regression test with a ratio of 0.8, 17 misses and 3 hits.
#[test]
fn misses_alone_block_nobody() {
    let clock = Clock::default();
    let limit = Ratio::above(0.8).over(WINDOW).at_least(20);
    let group = group(&clock).cache_miss_ratio(limit, 0.0, block()).build().unwrap();
    // As long as nothing has come from the cache, it may just be cold. A response that says nothing counts for nothing.
    cached(&group, "192.0.2.1", 0, 30);
    answer(&group, "192.0.2.1", NOERROR, 100);
    assert!(group.blocks().is_empty());
    cached(&group, "192.0.2.2", 3, 17);
    assert_eq!(subjects(&group), ["192.0.2.2/32"]);
}

#[test]
fn a_share_warns_first() {
    let clock = Clock::default();
    let group = group(&clock).rcode_ratio(SERVFAIL, fifth().warn_above(0.1), block()).build().unwrap();
    answer(&group, "192.0.2.1", NOERROR, 80);
    answer(&group, "192.0.2.1", SERVFAIL, 12);
    assert!(only(&group).warning);
    answer(&group, "192.0.2.1", SERVFAIL, 10);
    assert!(!only(&group).warning);
}

/// A network has to get as many times more responses as it may send more queries.
#[test]
fn a_few_clients_do_not_take_their_network_down() {
    let clock = Clock::default();
    let ratio = Ratio::above(0.2).over(WINDOW).at_least(51);
    let group = group(&clock)
        .tiers4([(32, 1), (24, 4), (8, 1_000_000)])
        .rcode_ratio(NXDOMAIN, ratio, block())
        .build()
        .unwrap();
    for host in 0..50 {
        answer(&group, &format!("192.0.2.{host}"), NXDOMAIN, 4);
    }
    assert!(group.blocks().is_empty(), "{:?}", group.blocks());
    for host in 50..60 {
        answer(&group, &format!("192.0.2.{host}"), NXDOMAIN, 4);
    }
    assert_eq!(subjects(&group), ["192.0.2.0/24"]);
}
