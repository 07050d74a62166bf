//! Limits on rates: numbers 45 to 52, 55, 57, 58 and 61 of dnsdist's unit tests.

use std::{net::IpAddr, num::NonZeroU32};

use ebpf_filter::{
    Action, Enforcement, IpNet, Verdict,
    dynblock::{Exempt, Penalty, QueryEvent, Rate, ResponseEvent, Transport},
};

use crate::common::*;

#[test]
fn query_rate() {
    let clock = Clock::default();
    let group = group(&clock).query_rate(fifty(), block().reason("Exceeded query rate")).build().unwrap();
    assert_eq!(send(&group, "192.0.2.1", 450), 450);
    assert!(group.blocks().is_empty());
    // The 501st within the window; dnsdist finds out within a second, here it is the 501st that is not answered any more.
    assert_eq!(send(&group, "192.0.2.1", 51), 50);
    let found = only(&group);
    assert_eq!(found.subject, source("192.0.2.1"));
    assert_eq!(&*found.reason, "Exceeded query rate");
    assert_eq!((found.action, found.warning, found.dry_run), (Action::Drop, false, false));
    assert_eq!((found.remaining, found.age), (MINUTE, seconds(0)));
    // In dnsdist none, as the block comes after all 501. Here the 501st runs into it.
    assert_eq!(found.hits, 1);
    assert_eq!((found.enforced_by, found.degraded), (Enforcement::UserSpace, false));
    assert_eq!(found.to_string(), "192.0.2.1/32: Exceeded query rate (drop, 60 s left, 1 hits, user space)");
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Drop);
    assert_eq!(verdict(&group, "192.0.2.2"), Verdict::Pass);
    assert_eq!(send(&group, "192.0.2.2", 450), 450);
    assert_eq!(group.blocks().len(), 1);
}

#[test]
fn query_rate_over_the_window() {
    let clock = Clock::default();
    let group = group(&clock).query_rate(fifty(), block()).build().unwrap();
    // A hundred a second for ten seconds: dnsdist counts 1000 in the window. The bucket holds 500 and refills with 50 a
    // second, so at twice the rate it is empty after ten seconds, and not before.
    let answered: u32 = (0..1000)
        .map(|_| {
            clock.advance(millis(10));
            send(&group, "192.0.2.1", 1)
        })
        .sum();
    assert_eq!(answered, 999);
    assert_eq!(only(&group).subject, source("192.0.2.1"));
    // Applied 5 s later, dnsdist still finds 600 of the entries, 6 s later 500. Here nothing is decided later: who is silent
    // is not blocked.
    group.clear();
    clock.advance(seconds(5));
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Pass);
    assert_eq!(send(&group, "192.0.2.1", 300), 250, "five seconds at 50");
}

#[test]
fn who_keeps_to_the_rate_is_never_blocked() {
    let clock = Clock::default();
    let group = group(&clock).query_rate(fifty(), block()).build().unwrap();
    for _ in 0..3000 {
        assert_eq!(send(&group, "192.0.2.1", 1), 1);
        clock.advance(millis(20));
    }
}

#[test]
fn several_clients_in_a_mask_and_one_excluded() {
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let build = || {
        let clock = Clock::default();
        group(&clock)
            .masks(24, 128)
            .query_rate(fifty(), block())
            .exempt(Exempt::none().exclude(net("192.0.2.2/32")))
            .build()
            .unwrap()
    };
    let group = build();
    send(&group, "192.0.2.1", 501);
    assert_eq!(subjects(&group), ["192.0.2.0/24"]);
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Drop);
    assert_eq!(verdict(&group, "192.0.2.3"), Verdict::Drop);
    // dnsdist blocks the excluded client with its range. Here it is still answered.
    assert_eq!(verdict(&group, "192.0.2.2"), Verdict::Pass);
    // Traffic of the excluded client is not even counted.
    let group = build();
    assert_eq!(send(&group, "192.0.2.2", 1000), 1000);
    assert!(group.blocks().is_empty());
    assert_eq!(send(&group, "192.0.2.1", 500), 500);
}

#[test]
fn ipv6_by_64() {
    let clock = Clock::default();
    let group = group(&clock).masks(32, 64).query_rate(fifty(), block()).build().unwrap();
    for host in 0..501 {
        send(&group, &format!("2001:db8:0:1::{host:x}"), 1);
    }
    assert_eq!(subjects(&group), ["2001:db8:0:1::/64"]);
    assert_eq!(verdict(&group, "2001:db8:0:1::"), Verdict::Drop);
    assert_eq!(verdict(&group, "2001:db8:0:1:ffff:ffff:ffff:ffff"), Verdict::Drop);
    assert_eq!(verdict(&group, "2001:db8:0:2::"), Verdict::Pass);
    assert_eq!(verdict(&group, "2001:db8::ffff"), Verdict::Pass);
}

#[test]
fn ports_of_an_ipv4_address() {
    let clock = Clock::default();
    let group = group(&clock).port_bits(2).query_rate(fifty(), block()).build().unwrap();
    send(&group, "192.0.2.1:0", 250);
    assert_eq!(send(&group, "192.0.2.1:16383", 251), 250);
    assert_eq!(subjects(&group), ["192.0.2.1:0-16383"]);
    for (client, expected) in [
        ("192.0.2.1:0", Verdict::Drop),
        ("192.0.2.1:16383", Verdict::Drop),
        ("192.0.2.1:16384", Verdict::Pass),
        ("192.0.2.1:65535", Verdict::Pass),
        ("192.0.2.2:0", Verdict::Pass),
    ] {
        assert_eq!(verdict(&group, client), expected, "{client}");
    }
    // Refreshed, and the hits stay.
    let before = only(&group);
    clock.advance(seconds(30));
    send(&group, "192.0.2.1:1", 1501);
    let after = only(&group);
    assert_eq!((after.id, after.remaining), (before.id, MINUTE));
    assert_eq!(after.hits, before.hits + 1501);
}

/// dnsdist's 61, with 16, 15 and 1 bits; and the port does not matter for IPv6.
#[test]
fn masks_of_ports() {
    for (bits, first, last, beyond) in [(16, 53, 53, 54), (15, 52, 53, 54), (1, 0, 32767, 32768)] {
        let clock = Clock::default();
        let group = group(&clock).port_bits(bits).query_rate(one(), block()).build().unwrap();
        send(&group, "192.0.2.1:53", 2);
        assert_eq!(subjects(&group), [format!("192.0.2.1:{first}-{last}")]);
        assert_eq!(verdict(&group, &format!("192.0.2.1:{last}")), Verdict::Drop, "{bits}");
        assert_eq!(verdict(&group, &format!("192.0.2.1:{beyond}")), Verdict::Pass, "{bits}");
        send(&group, "[2001:db8::1]:53", 2);
        assert_eq!(verdict(&group, "[2001:db8::1]:65535"), Verdict::Drop);
    }
}

#[test]
fn responses_are_no_queries() {
    let clock = Clock::default();
    let group =
        group(&clock).query_rate(fifty(), block()).rcode_rate(SERVFAIL, fifty(), block()).build().unwrap();
    assert_eq!(send(&group, "192.0.2.1", 450), 450);
    answer(&group, "192.0.2.1", NOERROR, 450);
    answer(&group, "192.0.2.1", SERVFAIL, 450);
    assert!(group.blocks().is_empty());
    assert_eq!(send(&group, "192.0.2.1", 50), 50);
}

#[test]
fn qtype_rate() {
    let clock = Clock::default();
    let group = group(&clock).qtype_rate(AAAA, fifty(), block()).build().unwrap();
    send_for(&group, "192.0.2.1", "www.example", AAAA, 450);
    send_for(&group, "192.0.2.2", "www.example", A, 501);
    assert!(group.blocks().is_empty());
    send_for(&group, "192.0.2.1", "www.example", AAAA, 51);
    let found = only(&group);
    assert_eq!((&found.subject, &*found.reason), (&source("192.0.2.1"), "Exceeded query type rate"));
    // The client is blocked, whatever the type.
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Drop);
}

#[test]
fn rcode_rate() {
    let clock = Clock::default();
    let group = group(&clock).rcode_rate(SERVFAIL, fifty(), block()).build().unwrap();
    answer(&group, "192.0.2.1", SERVFAIL, 450);
    answer(&group, "192.0.2.1", FORMERR, 501);
    assert!(group.blocks().is_empty());
    answer(&group, "192.0.2.1", SERVFAIL, 51);
    let found = only(&group);
    assert_eq!((&found.subject, &*found.reason), (&source("192.0.2.1"), "Exceeded response code rate"));
    assert_eq!(found.hits, 0);
    assert_eq!(verdict(&group, "192.0.2.2"), Verdict::Pass);
}

#[test]
fn response_byte_rate() {
    let clock = Clock::default();
    let limit = Rate::per_second(10_000).over(WINDOW);
    let group = group(&clock).response_byte_rate(limit, block()).build().unwrap();
    answer(&group, "192.0.2.1", NOERROR, 99);
    assert!(group.blocks().is_empty());
    answer(&group, "192.0.2.1", NOERROR, 901);
    assert!(group.blocks().is_empty(), "100,000 bytes");
    answer(&group, "192.0.2.1", NOERROR, 1);
    assert_eq!(&*only(&group).reason, "Exceeded response byte rate");
    // A single response that is larger than the whole window, and one of nothing.
    let of = name("www.example");
    let large = |client| ResponseEvent::new(QueryEvent::new(at(client), &of, A), NOERROR, 100_001);
    group.observe_response(&large("192.0.2.2"));
    assert_eq!(group.blocks().len(), 2);
    group.observe_response(&ResponseEvent::new(QueryEvent::new(at("192.0.2.3"), &of, A), NOERROR, 0));
    assert_eq!(group.blocks().len(), 2);
}

/// dnsdist's 57.
#[test]
fn a_warning_becomes_a_block() {
    let clock = Clock::default();
    let limit = fifty().warn_above(20);
    let group = group(&clock).query_rate(limit, block()).build().unwrap();
    assert_eq!(send(&group, "192.0.2.1", 200), 200);
    assert!(group.blocks().is_empty());
    assert_eq!(send(&group, "192.0.2.1", 1), 1);
    let warning = only(&group);
    assert_eq!((warning.warning, warning.remaining, warning.hits), (true, MINUTE, 0));
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Pass);
    assert_eq!(send(&group, "192.0.2.1", 299), 299);
    assert_eq!(send(&group, "192.0.2.1", 1), 0);
    let found = only(&group);
    assert_eq!((found.id, found.warning, found.hits), (warning.id, false, 1));
    assert_eq!((group.stats().warned, group.stats().inserted), (1, 1));
    // 30 s later the same again: it lasts longer, and the count goes on.
    clock.advance(seconds(30));
    let before = only(&group);
    assert_eq!(before.remaining, seconds(30));
    send(&group, "192.0.2.1", 1501);
    let after = only(&group);
    assert_eq!((after.remaining, after.hits, after.id), (MINUTE, before.hits + 1501, before.id));
    // Above the warning level alone, nothing changes.
    clock.advance(seconds(20));
    send(&group, "192.0.2.1", 300);
    assert_eq!(only(&group).remaining, seconds(40));
    assert!(!only(&group).warning);
}

/// 501 at once: in dnsdist a block without a warning before. Here the warning comes first, 300 queries earlier.
#[test]
fn a_burst_is_blocked_whatever_the_warning() {
    let clock = Clock::default();
    let group = group(&clock).query_rate(fifty().warn_above(20), block()).build().unwrap();
    assert_eq!(send(&group, "192.0.2.1", 501), 500);
    assert!(!only(&group).warning);
    assert_eq!(group.stats().active, 1);
}

#[test]
fn a_warning_ends() {
    let clock = Clock::default();
    let group = group(&clock).query_rate(fifty().warn_above(20), block()).build().unwrap();
    send(&group, "192.0.2.1", 201);
    for _ in 0..61 {
        // Below the warning level.
        clock.advance(seconds(1));
        send(&group, "192.0.2.1", 15);
        group.maintain();
    }
    assert!(group.blocks().is_empty());
    assert_eq!(group.stats().expired, 1);
}

/// dnsdist's 58.
#[test]
fn ranges_that_are_watched_and_ranges_that_are_not() {
    let clock = Clock::default();
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let exempt =
        Exempt::none().exclude(net("0.0.0.0/0")).include(net("192.0.2.0/26")).exclude(net("192.0.2.42/32"));
    let group = group(&clock).query_rate(fifty(), block()).exempt(exempt).build().unwrap();
    for client in ["192.0.2.1", "192.0.2.42", "192.0.2.64", "198.51.100.1"] {
        send(&group, client, 501);
    }
    assert_eq!(subjects(&group), ["192.0.2.1/32"]);
    assert_eq!(verdict(&group, "192.0.2.42"), Verdict::Pass);
    // As a v4-mapped address and range, the same.
    assert_eq!(verdict(&group, "::ffff:192.0.2.1"), Verdict::Drop);
    assert!(Exempt::none().exclude(net("::ffff:192.0.2.0/120")).is_exempt([192, 0, 2, 1].into()));
}

#[test]
fn several_rules_of_a_kind() {
    let clock = Clock::default();
    let penalty = |seconds_, action| Penalty::block_for(seconds(seconds_)).action(action);
    let group = group(&clock)
        .query_rate(Rate::per_second(10), penalty(60, Action::Truncate).reason("ten"))
        .query_rate(Rate::per_second(20), penalty(30, Action::Drop).reason("twenty"))
        .query_rate(Rate::per_second(30), penalty(300, Action::Refused).reason("thirty"))
        .build()
        .unwrap();
    send(&group, "192.0.2.1", 11);
    assert_eq!((only(&group).action, &*only(&group).reason), (Action::Truncate, "ten"));
    send(&group, "192.0.2.1", 10);
    let stronger = only(&group);
    assert_eq!((stronger.action, &*stronger.reason), (Action::Drop, "twenty"));
    // It does not end earlier than the weaker one would have.
    assert_eq!(stronger.remaining, seconds(60));
    // The third one is weaker, so it changes nothing, and certainly not the action.
    send(&group, "192.0.2.1", 20);
    assert_eq!((only(&group).action, only(&group).remaining), (Action::Drop, seconds(60)));
}

/// Of two rules with the same action, the longer one decides from its first excess on.
#[test]
fn the_longer_of_two_rules_counts() {
    let clock = Clock::default();
    let group = group(&clock)
        .query_rate(Rate::per_second(10), Penalty::block_for(seconds(10)))
        .query_rate(Rate::per_second(11), Penalty::block_for(seconds(3600)))
        .build()
        .unwrap();
    send(&group, "192.0.2.1", 12);
    assert_eq!(only(&group).remaining, seconds(3600));
}

#[test]
fn actions_of_user_space() {
    for (action, udp, tcp) in [
        (Action::Refused, Verdict::Refused, Verdict::Refused),
        (Action::NxDomain, Verdict::NxDomain, Verdict::NxDomain),
        (Action::Truncate, Verdict::Truncate, Verdict::Pass),
        (Action::Count, Verdict::Pass, Verdict::Pass),
    ] {
        let clock = Clock::default();
        let group = group(&clock).default_action(action).query_rate(one(), block()).build().unwrap();
        send(&group, "192.0.2.1", 2);
        let of = name("www.example");
        let query = QueryEvent::new(at("192.0.2.1"), &of, A);
        assert_eq!(group.check(&query), udp, "{action:?}");
        assert_eq!(group.check(&query.over(Transport::Tcp)), tcp, "{action:?}");
        // TC=1 means nothing over TCP, so nothing is caught there.
        let caught = if udp == Verdict::Truncate { 2 } else { 3 };
        assert_eq!(only(&group).hits, caught, "{action:?}");
    }
}

#[test]
fn malformed_rate() {
    let clock = Clock::default();
    let exempt = Exempt::none().exclude("192.0.2.9".parse::<IpAddr>().unwrap());
    let group = group(&clock).malformed_rate(fifty(), block()).exempt(exempt).build().unwrap();
    let malformed = |client: &str, messages| {
        group.observe_malformed(client.parse().unwrap(), NonZeroU32::new(messages).unwrap());
    };
    send(&group, "192.0.2.1", 1000);
    (0..450).for_each(|_| malformed("192.0.2.1", 1));
    // Several that were counted together; and more than there may be in all.
    malformed("192.0.2.1", 50);
    malformed("192.0.2.9", 1_000_000);
    assert!(group.blocks().is_empty());
    malformed("::ffff:192.0.2.1", 1);
    malformed("2001:db8::1", 501);
    assert_eq!(subjects(&group), ["192.0.2.1/32", "2001:db8::1/128"]);
    assert_eq!(&*group.blocks()[0].reason, "Exceeded rate of malformed queries");
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Drop);
}
