//! Ladders, against sources that may be forged; and blocks that grow.

use ebpf_filter::{
    Action, Match, Query, Verdict,
    dynblock::{DynBlockGroup, Growth, Ladder, Penalty, QueryEvent, Rate, ScopeBy, Transport},
};

use crate::common::*;

fn observe(group: &DynBlockGroup, transport: Transport, cookie: bool) -> Verdict {
    let of = name("www.example");
    let query = QueryEvent::new(at("192.0.2.1"), &of, A).over(transport);
    group.observe_query(&if cookie { query.with_valid_cookie() } else { query })
}

fn ladder() -> Penalty {
    block().ladder(Ladder::new().slip(3).second_limit(10))
}

#[test]
fn three_steps() {
    let clock = Clock::default();
    let group = group(&clock).query_rate(Rate::per_second(10), ladder()).build().unwrap();
    let udp = || observe(&group, Transport::Udp, false);
    (0..10).for_each(|_| assert_eq!(udp(), Verdict::Pass));
    let slipped: Vec<_> = (0..6).map(|_| udp()).collect();
    assert_eq!(
        slipped,
        [Verdict::Drop, Verdict::Drop, Verdict::Truncate, Verdict::Drop, Verdict::Drop, Verdict::Truncate]
    );
    assert_eq!(only(&group).action, Action::Slip(3));
    assert_eq!(observe(&group, Transport::Tcp, false), Verdict::Pass);
    // 16 so far; above 100 none is answered.
    (0..84).for_each(|_| {
        udp();
    });
    assert_eq!(only(&group).action, Action::Slip(3));
    (0..30).for_each(|_| assert_eq!(udp(), Verdict::Drop));
    assert_eq!(only(&group).action, Action::Slip(0));
    assert_eq!(observe(&group, Transport::Tcp, false), Verdict::Pass);
    // Who proves the source exceeds the limit by proven queries alone: two so far.
    (0..8).for_each(|_| assert_eq!(observe(&group, Transport::Https, false), Verdict::Pass));
    assert_eq!(observe(&group, Transport::Quic, false), Verdict::Drop);
    assert_eq!(only(&group).action, Action::Drop);
    assert_eq!(observe(&group, Transport::Tcp, false), Verdict::Drop);
}

#[test]
fn a_cookie_proves_the_source() {
    let clock = Clock::default();
    let group = group(&clock).query_rate(Rate::per_second(10), ladder()).build().unwrap();
    (0..10).for_each(|_| assert_eq!(observe(&group, Transport::Udp, true), Verdict::Pass));
    assert!(group.blocks().is_empty());
    assert_eq!(observe(&group, Transport::Udp, true), Verdict::Drop);
    assert_eq!(only(&group).action, Action::Drop);
}

/// Somebody forges the address of a victim, whatever they send; the victim asks over TCP, and keeps to the limit.
#[test]
fn a_victim_keeps_its_answers_over_tcp() {
    let (clock, filter) = (Clock::default(), off());
    let group = DynBlockGroup::builder()
        .filter(filter.clone())
        .clock(clock.clone())
        .query_rate(Rate::per_second(10), ladder())
        .qtype_rate(A, Rate::per_second(5), ladder())
        .build()
        .unwrap();
    let of = name("www.example");
    for second in 0..300_u32 {
        for number in 0..2_000_u32 {
            // From the victim's address, and from its neighbours.
            let host = if number % 2 == 0 { 1 } else { number % 256 };
            let client = ([192, 0, 2, u8::try_from(host).unwrap()], 4242).into();
            group.observe_query(&QueryEvent::new(client, &of, A));
        }
        for _ in 0..3 {
            assert_eq!(observe(&group, Transport::Tcp, false), Verdict::Pass, "second {second}");
        }
        clock.advance(seconds(1));
        group.maintain();
    }
    assert!(
        group.blocks().iter().all(|block| matches!(block.action, Action::Slip(_))),
        "{:#?}",
        group.blocks()
    );
    let rule = filter.rule(&Match::address([192, 0, 2, 1])).unwrap();
    assert_eq!(rule.rule.action, Action::Slip(0));
}

/// Once the kernel slips, no server sees the flood any more: its hits say that the second limit is exceeded.
#[test]
fn the_kernel_climbs_as_well() {
    let (clock, filter) = (Clock::default(), off());
    let group = group(&clock)
        .filter(filter.clone())
        .query_rate(Rate::per_second(10).over(WINDOW), ladder())
        .build()
        .unwrap();
    (0..101).for_each(|_| {
        observe(&group, Transport::Udp, false);
    });
    assert_eq!(only(&group).action, Action::Slip(3));
    // 10 times the limit over the window are 1000: a burst of 900 is not more than that.
    hit(&filter, 900);
    for _ in 0..40 {
        clock.advance(millis(250));
        group.maintain();
    }
    assert_eq!(only(&group).action, Action::Slip(3));
    // 200 a second are, after ten seconds.
    let mut climbed = None;
    for step in 0..80 {
        hit(&filter, 50);
        clock.advance(millis(250));
        group.maintain();
        if only(&group).action == Action::Slip(0) {
            climbed.get_or_insert(step);
        }
    }
    assert!(climbed.is_some_and(|step| (36..=56).contains(&step)), "{climbed:?}");
    assert_eq!(
        filter.rule(&Match::address([192, 0, 2, 1])).map(|rule| rule.rule.action),
        Some(Action::Slip(0))
    );
    assert!(group.stats().refreshed > 0);
}

/// Between the look before the end and the end itself there is nothing to do all the time.
#[test]
fn the_keeper_does_not_spin() {
    let (clock, filter) = (Clock::default(), off());
    let group = group(&clock).filter(filter).query_rate(Rate::per_second(10), ladder()).build().unwrap();
    (0..11).for_each(|_| {
        observe(&group, Transport::Udp, false);
    });
    let mut calls = 0;
    while let Some(next) = group.maintain() {
        clock.advance(next);
        calls += 1;
        assert!(calls < 1000);
    }
    assert_eq!(group.stats().expired, 1);
    assert!(calls > 20, "{calls}");
}

fn hit(filter: &ebpf_filter::BpfFilter, queries: u32) {
    let of = name("www.example");
    let query = Query::new([192, 0, 2, 1].into(), &of, A).over_plain_udp();
    (0..queries).for_each(|_| {
        filter.check(&query);
    });
}

#[test]
fn blocks_grow_up_to_a_ceiling_and_are_forgiven() {
    let clock = Clock::default();
    let growth = Growth::doubling().up_to(seconds(35)).forgiven_after(seconds(100));
    let penalty = Penalty::block_for(seconds(10)).growing(growth);
    let group = group(&clock).query_rate(one(), penalty).build().unwrap();
    let again = || {
        send(&group, "192.0.2.1", 2);
        let block = only(&group);
        clock.advance(block.remaining);
        assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Pass);
        group.maintain();
        clock.advance(seconds(2));
        (block.remaining.as_secs(), block.offence)
    };
    assert_eq!((0..5).map(|_| again()).collect::<Vec<_>>(), [(10, 0), (20, 1), (35, 2), (35, 3), (35, 4)]);
    // Three are forgiven.
    clock.advance(seconds(300));
    assert_eq!(again(), (35, 2));
    clock.advance(seconds(3600));
    assert_eq!(again(), (10, 0));
    // Others have nothing to do with it.
    send(&group, "192.0.2.2", 2);
    assert_eq!(only(&group).remaining, seconds(10));
}

/// What is forgiven counts from when the block has really ended, and not from when it was to end at first.
#[test]
fn nothing_is_forgiven_while_a_block_lasts() {
    let clock = Clock::default();
    let growth = Growth::doubling().forgiven_after(seconds(100));
    let penalty = Penalty::block_for(seconds(10)).growing(growth);
    let group = group(&clock).query_rate(one(), penalty).build().unwrap();
    for _ in 0..600 {
        send(&group, "192.0.2.1", 2);
        clock.advance(seconds(1));
    }
    clock.advance(seconds(10));
    group.maintain();
    assert!(group.blocks().is_empty());
    clock.advance(seconds(50));
    send(&group, "192.0.2.1", 2);
    assert_eq!((only(&group).remaining, only(&group).offence), (seconds(20), 1));
}

#[test]
fn a_warning_is_no_offence() {
    let clock = Clock::default();
    let penalty = Penalty::block_for(seconds(10)).growing(Growth::doubling());
    let group = group(&clock).query_rate(Rate::per_second(10).warn_above(2), penalty).build().unwrap();
    for _ in 0..3 {
        send(&group, "192.0.2.1", 5);
        assert!(only(&group).warning);
        clock.advance(seconds(11));
        group.maintain();
    }
    send(&group, "192.0.2.1", 11);
    assert_eq!((only(&group).offence, only(&group).remaining), (0, seconds(10)));
}

#[test]
fn a_ladder_for_part_of_the_queries() {
    let clock = Clock::default();
    let penalty = ladder().scoped(ScopeBy::Qtype);
    let group = group(&clock).query_rate(Rate::per_second(10), penalty).build().unwrap();
    send_for(&group, "192.0.2.1", "www.example", AAAA, 200);
    assert_eq!(only(&group).action, Action::Slip(0));
    assert_eq!(send_for(&group, "192.0.2.1", "www.example", A, 10), 10);
    assert_eq!(send_for(&group, "192.0.2.1", "www.example", AAAA, 10), 0);
}

/// What slips through refreshes the block all the time; the hits are looked at all the same.
#[test]
fn refreshes_do_not_keep_the_keeper_from_climbing() {
    let (clock, filter) = (Clock::default(), off());
    let penalty = block().ladder(Ladder::new().slip(100).second_limit(4));
    let group = DynBlockGroup::builder()
        .filter(filter.clone())
        .masks(32, 128)
        .clock(clock.clone())
        .query_rate(Rate::per_second(10).over(WINDOW), penalty)
        .build()
        .unwrap();
    send(&group, "192.0.2.1", 101);
    assert_eq!(only(&group).action, Action::Slip(100));
    let (client, of) = (at("192.0.2.1"), name("www.example"));
    // A thousand a second, of which a server gets too few to see for itself within this time.
    for _ in 0..500 {
        for _ in 0..9 {
            filter.check(&Query::new(client.ip(), &of, A).over_plain_udp());
        }
        clock.advance(millis(10));
        group.observe_query(&QueryEvent::new(client, &of, A));
        group.maintain();
    }
    assert_eq!(only(&group).action, Action::Slip(0));
}
