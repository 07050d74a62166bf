//! How long blocks last.

use std::time::Duration;

use ebpf_filter::{
    Action, BpfFilter, IpNet, Match, Qtypes, Query, Verdict,
    dynblock::{
        DynBlockGroup, DynBlockGroupBuilder, Penalty, QueryEvent, Rate, Ratio, ResponseEvent, Scope,
        SuffixLimit,
    },
};

use crate::common::*;

#[test]
fn a_block_ends_exactly() {
    let clock = Clock::default();
    let group = group(&clock).query_rate(one(), block()).build().unwrap();
    send(&group, "192.0.2.1", 2);
    assert_eq!(group.maintain(), Some(MINUTE));
    clock.advance(Duration::from_nanos(59_999_999_999));
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Drop);
    assert_eq!(only(&group).remaining, Duration::from_nanos(1));
    clock.advance(Duration::from_nanos(1));
    // Nobody has to come and clear it away for that.
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Pass);
    assert!(group.blocks().is_empty() && group.block_of(&source("192.0.2.1")).is_none());
    assert_eq!(group.stats().expired, 0);
    assert_eq!(group.maintain(), None);
    assert_eq!((group.stats().expired, group.stats().active), (1, 0));
}

#[test]
fn an_excess_extends_and_never_shortens() {
    let clock = Clock::default();
    let group = group(&clock).query_rate(one(), Penalty::block_for(seconds(10))).build().unwrap();
    send(&group, "192.0.2.1", 2);
    let id = only(&group).id;
    for _ in 0..100 {
        clock.advance(seconds(5));
        send(&group, "192.0.2.1", 6);
        assert_eq!((only(&group).id, only(&group).remaining), (id, seconds(10)));
    }
    assert_eq!(group.stats().inserted, 1);
    // By hand for longer, and then for shorter.
    group.add(source("192.0.2.1"), Scope::All, &Penalty::block_for(seconds(3600))).unwrap();
    group.add(source("192.0.2.1"), Scope::All, &Penalty::block_for(seconds(5))).unwrap();
    send(&group, "192.0.2.1", 6);
    assert_eq!((only(&group).id, only(&group).remaining), (id, seconds(3600)));
}

/// A block whose source goes on is refreshed ten times a second at most: it may end that much earlier.
#[test]
fn refreshes_are_few() {
    let clock = Clock::default();
    let group = group(&clock).query_rate(one(), block()).build().unwrap();
    for _ in 0..10_000 {
        send(&group, "192.0.2.1", 2);
        clock.advance(millis(1));
        assert!(group.blocks().is_empty() || only(&group).remaining >= millis(59_899));
    }
    assert!((90..=101).contains(&group.stats().refreshed), "{:?}", group.stats());
}

#[test]
fn by_hand() {
    let clock = Clock::default();
    let group = group(&clock).default_action(Action::Refused).build().unwrap();
    let id = group.add(source("192.0.2.1"), Scope::All, &block()).unwrap();
    let block_ = only(&group);
    assert_eq!((block_.id, block_.action, &*block_.reason), (id, Action::Refused, "Added by hand"));
    group.add(source("192.0.2.1"), Scope::All, &block().action(Action::NxDomain).reason("why")).unwrap();
    assert_eq!((only(&group).action, &*only(&group).reason), (Action::NxDomain, "why"));
    // Bits behind the prefix do not matter, and a v4-mapped address is the address.
    let untruncated = ebpf_filter::dynblock::Subject::Source("198.51.100.7/24".parse::<IpNet>().unwrap());
    group.add(untruncated.clone(), Scope::All, &block()).unwrap();
    assert_eq!(verdict(&group, "198.51.100.200"), Verdict::Refused);
    assert!(group.block_of(&untruncated).is_some());
    assert_eq!(group.remove(&untruncated).len(), 1);
    let mapped = ebpf_filter::dynblock::Subject::Source("::ffff:203.0.113.1/128".parse::<IpNet>().unwrap());
    group.add(mapped, Scope::All, &block()).unwrap();
    assert_eq!(verdict(&group, "203.0.113.1"), Verdict::Refused);
}

/// What a real block says is not changed by a warning or a dry run, and the other way round it is.
#[test]
fn a_block_takes_the_place_of_a_dry_run() {
    let clock = Clock::default();
    let group = group(&clock)
        .query_rate(one(), Penalty::block_for(seconds(3600)).dry_run().reason("trial"))
        .query_rate(Rate::per_second(2), Penalty::block_for(seconds(10)).reason("real"))
        .build()
        .unwrap();
    assert_eq!(send(&group, "192.0.2.1", 2), 2);
    assert!(only(&group).dry_run);
    assert_eq!(send(&group, "192.0.2.1", 1), 0);
    let real = only(&group);
    assert_eq!((real.dry_run, &*real.reason), (false, "real"));
    // It lasts as long as it says, and not as long as the dry run would have.
    assert_eq!(real.remaining, seconds(10));
    clock.advance(seconds(5));
    send(&group, "192.0.2.1", 2);
    assert!(!only(&group).dry_run);
}

#[test]
fn a_dry_run_warns_and_then_reports() {
    let clock = Clock::default();
    let group =
        group(&clock).query_rate(Rate::per_second(10).warn_above(2), block().dry_run()).build().unwrap();
    send(&group, "192.0.2.1", 3);
    assert!(only(&group).warning);
    assert_eq!(send(&group, "192.0.2.1", 20), 20);
    assert!(!only(&group).warning && only(&group).dry_run);
    assert_eq!((group.stats().warned, group.stats().inserted), (1, 1));
}

// What follows is about floods that the kernel drops, so that no server sees them: the filter is asked, as the kernel would
// be, and the group is told nothing.

struct Flood {
    clock: Clock,
    filter: BpfFilter,
    group: DynBlockGroup,
    length: Duration,
}

impl Flood {
    fn new(
        length: Duration,
        rules: impl FnOnce(DynBlockGroupBuilder, Penalty) -> DynBlockGroupBuilder,
    ) -> Self {
        let (clock, filter) = (Clock::default(), off());
        let builder = DynBlockGroup::builder().filter(filter.clone()).clock(clock.clone());
        let group = rules(builder, Penalty::block_for(length)).build().unwrap();
        Self { clock, filter, group, length }
    }

    /// Goes on for so long with so many queries a second, which all run into the block.
    fn goes_on(&self, time: Duration, per_second: u32, ask: &dyn Fn(&BpfFilter) -> Verdict) {
        let step = seconds(1) / per_second;
        let end = time.as_nanos() / step.as_nanos();
        for number in 0..end {
            assert_eq!(
                ask(&self.filter),
                Verdict::Drop,
                "query {number} of {end}: {:?}",
                self.group.blocks()
            );
            self.pass(step);
        }
    }

    /// Lets time pass, with the keeper at work.
    fn pass(&self, time: Duration) {
        let mut left = time;
        loop {
            let next = self.group.maintain().unwrap_or(left);
            let step = next.min(left);
            self.clock.advance(step);
            left -= step;
            if left.is_zero() {
                self.group.maintain();
                return;
            }
        }
    }

    /// Now the flood is over: the block ends, within its length from now and not before.
    fn is_over(&self) {
        assert!(self.group.stats().extended > 0, "{:?}", self.group.stats());
        assert_eq!((self.group.stats().inserted, self.group.stats().expired), (1, 0));
        // A look that has begun may see more than the limit even now, and then the last packet of the flood.
        self.pass(self.length);
        assert!(self.group.blocks().is_empty(), "{:?}", self.group.blocks());
        assert!(self.filter.stats().unwrap().rules.is_empty());
    }
}

fn from(client: &str) -> impl Fn(&BpfFilter) -> Verdict {
    let (client, of) = (at(client).ip(), name("www.example"));
    move |filter| filter.check(&Query::new(client, &of, A).over_plain_udp())
}

#[test]
fn a_flood_keeps_its_block_up() {
    for (length, window, per_second) in
        [(60, 10, 100), (10, 10, 100), (60, 1, 30), (3600, 10, 25), (2, 60, 100)]
    {
        let flood = Flood::new(seconds(length), |builder, penalty| {
            builder.query_rate(Rate::per_second(20).over(seconds(window)), penalty)
        });
        send(&flood.group, "192.0.2.1", 20 * u32::try_from(window).unwrap() + 1);
        flood.goes_on(seconds(length) * 3 + seconds(length) / 3, per_second, &from("192.0.2.1"));
        flood.is_over();
    }
}

/// However long it has gone on, and whenever it stops: who is silent is free after `block_for` at the latest, and not before
/// the last look has seen the end.
#[test]
fn a_silent_source_is_free_in_time() {
    for stops in (0..=120).chain([1000, 1001, 1002]) {
        let flood = Flood::new(MINUTE, |builder, penalty| {
            builder.query_rate(Rate::per_second(20).over(WINDOW), penalty)
        });
        send(&flood.group, "192.0.2.1", 201);
        flood.goes_on(seconds(stops), 50, &from("192.0.2.1"));
        let mut silent = 0;
        while !flood.group.blocks().is_empty() {
            flood.pass(millis(500));
            silent += 1;
            assert!(silent <= 120, "{stops}");
        }
        // No earlier than the block would have ended by itself.
        assert!(stops + silent / 2 >= 60, "{stops}");
    }
}

#[test]
fn less_than_the_limit_does_not_keep_a_block_up() {
    let flood =
        Flood::new(MINUTE, |builder, penalty| builder.query_rate(Rate::per_second(20).over(WINDOW), penalty));
    send(&flood.group, "192.0.2.1", 201);
    let ask = from("192.0.2.1");
    for _ in 0..59 * 19 {
        ask(&flood.filter);
        flood.pass(seconds(1) / 19);
    }
    flood.pass(seconds(2));
    assert!(flood.group.blocks().is_empty());
    assert_eq!((flood.group.stats().extended, flood.group.stats().expired), (0, 1));
}

#[test]
fn a_range_keeps_its_block_up() {
    let flood = Flood::new(MINUTE, |builder, penalty| {
        builder.masks(24, 64).tiers4([(32, 1), (24, 4)]).query_rate(Rate::per_second(20), penalty)
    });
    for host in 0..81 {
        send(&flood.group, &format!("192.0.2.{host}"), 1);
    }
    assert_eq!(subjects(&flood.group), ["192.0.2.0/24"]);
    // 70 a second are too many for a client, and not for the range.
    flood.goes_on(seconds(50), 70, &from("192.0.2.7"));
    flood.pass(seconds(20));
    assert!(flood.group.blocks().is_empty());
    for host in 0..81 {
        send(&flood.group, &format!("192.0.2.{host}"), 1);
    }
    flood.goes_on(seconds(200), 90, &from("192.0.2.7"));
    assert_eq!(flood.group.stats().inserted, 2);
    assert_eq!(only(&flood.group).hits, 200 * 90 + 1);
}

#[test]
fn a_suffix_keeps_its_block_up() {
    let flood = Flood::new(MINUTE, |builder, penalty| {
        builder.suffix_rate(SuffixLimit::labels(2).nxdomains(), Rate::per_second(20), penalty)
    });
    let of = name("r.victim.example");
    let response = ResponseEvent::new(QueryEvent::new(at("192.0.2.1"), &of, A), NXDOMAIN, 100);
    (0..21).for_each(|_| flood.group.observe_response(&response));
    assert!(flood.filter.rule(&Match::suffix(name("victim.example"), Qtypes::All)).is_some());
    let ask = |filter: &BpfFilter| filter.check(&Query::new([192, 0, 2, 9].into(), &of, A).over_plain_udp());
    flood.goes_on(seconds(200), 50, &ask);
    flood.is_over();
}

/// The kernel counts queries of all types, and no responses: who goes on at more than the limit is taken to go on as before.
#[test]
fn other_limits_keep_their_blocks_up() {
    let qtype = Flood::new(MINUTE, |builder, penalty| builder.qtype_rate(A, Rate::per_second(20), penalty));
    send(&qtype.group, "192.0.2.1", 21);
    let rcode =
        Flood::new(MINUTE, |builder, penalty| builder.rcode_rate(SERVFAIL, Rate::per_second(20), penalty));
    answer(&rcode.group, "192.0.2.1", SERVFAIL, 21);
    // 2000 bytes a second are 20 responses of 100.
    let bytes =
        Flood::new(MINUTE, |builder, penalty| builder.response_byte_rate(Rate::per_second(2000), penalty));
    answer(&bytes.group, "192.0.2.1", NOERROR, 21);
    // 200 responses in ten seconds are enough to ask for the ratio.
    let ratio = Flood::new(MINUTE, |builder, penalty| {
        builder.rcode_ratio(SERVFAIL, Ratio::above(0.5).over(WINDOW).at_least(200), penalty)
    });
    answer(&ratio.group, "192.0.2.1", SERVFAIL, 200);
    for flood in [&qtype, &rcode, &bytes, &ratio] {
        flood.goes_on(seconds(200), 25, &from("192.0.2.1"));
        flood.is_over();
    }
    for flood in [qtype, rcode, bytes] {
        send(&flood.group, "192.0.2.2", 21);
        answer(&flood.group, "192.0.2.2", SERVFAIL, 21);
        let ask = from("192.0.2.2");
        let before = flood.group.stats().extended;
        for _ in 0..58 * 15 {
            ask(&flood.filter);
            flood.pass(seconds(1) / 15);
        }
        assert_eq!(flood.group.stats().extended, before);
    }
}

/// Blocks that somebody added last as long as they said.
#[test]
fn by_hand_nothing_is_kept_up() {
    let flood = Flood::new(MINUTE, |builder, _| builder);
    flood.group.add(source("192.0.2.1"), Scope::All, &block()).unwrap();
    flood.goes_on(millis(59_990), 100, &from("192.0.2.1"));
    flood.pass(millis(20));
    assert!(flood.group.blocks().is_empty());
}

/// Somebody who tries again now and then after a flood is not blocked any longer for it.
#[test]
fn retries_do_not_keep_a_block_up() {
    let flood =
        Flood::new(MINUTE, |builder, penalty| builder.query_rate(Rate::per_second(20).over(WINDOW), penalty));
    send(&flood.group, "192.0.2.1", 201);
    // Into the look at the hits, which begins after 49 seconds, so that all of it has too many.
    flood.goes_on(seconds(55), 1000, &from("192.0.2.1"));
    flood.goes_on(seconds(59), 1, &from("192.0.2.1"));
    flood.pass(millis(1500));
    assert!(flood.group.blocks().is_empty(), "{:?}", flood.group.blocks());
    assert_eq!(flood.group.stats().extended, 1);
}
