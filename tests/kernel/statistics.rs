//! Reading what a million rules have matched, while they change and while packets come.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use ebpf_filter::{Action, BpfFilter, BpfFilterBuilder, IpNet, Kind, Match, Mode, Qtypes, Rule, Selection};
use ebpf_filter_tests::{
    dns::{A, query},
    in_both_worlds, require_kernel,
    wire::{Wire, allowed_cpus},
    world::World,
};
use rustix::thread::sched_setaffinity;

type NewWorld = fn(BpfFilterBuilder) -> World;

in_both_worlds!(
    rules_are_chosen_and_sorted,
    resetting_folds_into_the_totals,
    one_rule_is_found_by_its_match,
    who_is_let_pass_is_not_counted,
);

const MANY: u32 = 1_000_000;

fn client(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 24, host)
}

fn rules_are_chosen_and_sorted(new: NewWorld) {
    let world = new(BpfFilter::builder());
    for host in 1..=5 {
        world.filter.block(client(host)).unwrap();
        (0..host).for_each(|_| assert!(!world.passes(client(host), &query("example.", A))));
    }
    world.filter.block_suffix(&"evil.example".parse().unwrap(), Qtypes::All).unwrap();
    assert!(!world.passes(client(9), &query("www.evil.example.", A)));
    let lines = |selection: Selection| world.filter.stats_of(&selection).unwrap().to_string();

    let suffix = "*.evil.example. 255: 1\n";
    assert_eq!(lines(Selection::all().kinds([Kind::Suffix])), suffix);
    assert_eq!(lines(Selection::all().kinds([Kind::Range4, Kind::Qname])), "");
    assert_eq!(lines(Selection::all().min_hits(4)), "127.0.24.4: 4\n127.0.24.5: 5\n");
    assert_eq!(lines(Selection::all().by_hits().limit(2)), "127.0.24.5: 5\n127.0.24.4: 4\n");
    assert_eq!(lines(Selection::all().limit(1)), "127.0.24.1: 1\n");
    assert_eq!(lines(Selection::all().by_hits().limit(0)), "");
    // Those with as many hits stand in the order of all.
    let by_hits = lines(Selection::all().by_hits().kinds([Kind::Ipv4, Kind::Suffix]));
    assert!(by_hits.ends_with(&format!("127.0.24.1: 1\n{suffix}")), "{by_hits}");
}

fn one_rule_is_found_by_its_match(new: NewWorld) {
    let world = new(BpfFilter::builder());
    let range = |net: &str| Match::range(net.parse::<IpNet>().unwrap());
    let name = |text: &str| Match::suffix(text.parse().unwrap(), Qtypes::Only(A));
    let all = [Match::address(client(1)), range("127.0.24.0/24"), range("127.0.16.0/20"), name("a.example")];
    for of in &all {
        assert_eq!(world.filter.rule(of), None);
        world.filter.insert(Rule::new(of.clone(), Action::Count)).unwrap();
    }
    assert!(world.passes(client(1), &query("b.A.example.", A)));
    assert!(world.passes(client(2), &query("b.example.", A)));
    for (of, hits) in all.iter().zip([1, 2, 2, 1]) {
        let found = world.filter.rule(of).unwrap();
        assert_eq!((found.rule, found.hits), (Rule::new(of.clone(), Action::Count), hits), "{of}");
    }
    assert_eq!(world.filter.rule(&range("127.0.24.0/25")), None);
    assert_eq!(world.filter.rule(&name("b.a.example")), None);
    // What the match means, however it is written.
    let mapped = Match::Ipv6(client(1).to_ipv6_mapped());
    assert_eq!(world.filter.rule(&mapped).unwrap().rule.matches, all[0]);

    let short = Rule::new(all[0].clone(), Action::Count).expires_in(Duration::from_nanos(1));
    world.filter.replace(short).unwrap();
    assert_eq!(world.filter.rule(&all[0]), None);
    world.filter.remove(&all[1]).unwrap();
    assert_eq!(world.filter.rule(&all[1]), None);
}

fn who_is_let_pass_is_not_counted(new: NewWorld) {
    let world = new(BpfFilter::builder());
    let range = |net: &str| Match::range(net.parse::<IpNet>().unwrap());
    for (of, action) in [
        (range("127.0.0.0/8"), Action::Drop),
        (range("127.0.24.0/24"), Action::Pass),
        (range("127.0.24.0/28"), Action::Count),
        (Match::address(client(1)), Action::Count),
        (Match::address(client(2)), Action::Truncate),
        (Match::address(client(3)), Action::Pass),
        (range("2001:db8::/32"), Action::Pass),
    ] {
        world.filter.insert(Rule::new(of, action)).unwrap();
    }
    let lets_pass = |source: &str| world.filter.lets_pass(source.parse().unwrap());
    for (source, expected) in [
        ("127.0.24.1", true),
        ("::ffff:127.0.24.1", true),
        ("127.0.24.2", false),
        ("127.0.24.3", true),
        ("127.0.25.1", false),
        ("192.0.2.1", false),
        ("2001:db8::1", true),
        ("2001:db9::1", false),
    ] {
        assert_eq!(lets_pass(source), expected, "{source}");
    }
    assert!(world.filter.stats().unwrap().rules.iter().all(|rule| rule.hits == 0));
}

fn resetting_folds_into_the_totals(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.block(client(1)).unwrap();
    assert!(!world.passes(client(1), &query("example.", A)));
    world.filter.reset_hits().unwrap();
    assert!(!world.passes(client(1), &query("example.", A)));
    let stats = world.filter.stats().unwrap();
    assert_eq!((stats.rules[0].hits, stats.retired(Kind::Ipv4).hits), (1, 1));
    assert_eq!(stats.retired(Kind::Ipv4).rules, 0);
}

fn million() -> BpfFilter {
    let filter = BpfFilter::builder().mode(Mode::Require).suffixes_max(MANY).qnames_max(0).build().unwrap();
    let rule = |number| Match::suffix(format!("blocked-{number}.example").parse().unwrap(), Qtypes::All);
    filter.insert_many((0..MANY).map(rule).map(Rule::drop)).unwrap();
    filter
}

/// Rules come and go while a million are read, and no packet is lost to the count.
#[test]
fn nobody_waits_for_statistics() {
    require_kernel!();
    let filter = million();
    let cpus = allowed_cpus();
    let wire = Wire::ipv4();
    filter.attach(wire.server()).unwrap();
    let (counted, done) = (Match::address(client(1)), AtomicBool::new(false));
    filter.insert(Rule::new(counted.clone(), Action::Drop)).unwrap();

    let (mut changes, mut slowest, mut packets) = (0, Duration::ZERO, 0);
    thread::scope(|scope| {
        let reading = scope.spawn(|| {
            // The harness keeps its thread on one.
            sched_setaffinity(None, &cpus).unwrap();
            let start = Instant::now();
            let rules = filter.stats().unwrap().rules.len();
            let time = start.elapsed();
            done.store(true, Ordering::Release);
            (rules, time)
        });
        let sender = wire.client(client(1));
        while !done.load(Ordering::Acquire) {
            let start = Instant::now();
            filter.block(client(2)).unwrap();
            filter.unblock(client(2)).unwrap();
            slowest = slowest.max(start.elapsed());
            changes += 1;
            wire.assert_drops(&sender, &query("example.", A));
            packets += 1;
        }
        let (rules, time) = reading.join().unwrap();
        assert!(rules > MANY as usize && rules <= MANY as usize + 2, "{rules}");
        // Whoever had to wait for the reader would have changed rules once.
        assert!(changes > 10, "{changes} changes in {time:?}, the slowest in {slowest:?}");
    });
    let busiest = filter.stats_of(&Selection::all().by_hits().limit(1)).unwrap();
    assert_eq!(busiest.rules[0].rule.matches, counted);
    assert_eq!(busiest.rules[0].hits, packets);
}

/// The one thread of a runtime goes on with other work meanwhile.
#[test]
fn a_runtime_does_not_wait_for_statistics() {
    require_kernel!();
    let filter = million();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let reading = filter.read_stats(Selection::all());
        tokio::pin!(reading);
        let mut turns = 0;
        let stats = loop {
            tokio::select! {
                biased;
                stats = &mut reading => break stats.unwrap(),
                () = tokio::task::yield_now() => turns += 1,
            }
        };
        assert_eq!(stats.rules.len(), MANY as usize);
        assert!(turns > 100, "the thread had {turns} turns of its own");
    });
}
