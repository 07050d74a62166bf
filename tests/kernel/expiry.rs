//! Rules that end by themselves, on time, whoever is left to see it.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    env,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, UdpSocket},
    os::fd::AsFd as _,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use ebpf_filter::{Action, BpfFilter, BpfFilterBuilder, Kind, Match, Mode, Qtypes, Rule, RuleError};
use ebpf_filter_tests::{
    dns::{A, query},
    in_both_worlds, require_kernel,
    wire::{self, Wire},
    world::World,
};
use rustix::time::{ClockId, clock_gettime};

type NewWorld = fn(BpfFilterBuilder) -> World;

in_both_worlds!(
    a_rule_ends_and_is_no_rule_any_more,
    what_is_behind_an_expired_rule_decides,
    the_place_of_an_expired_rule_is_free,
    replacing_moves_the_end,
    what_has_expired_is_counted_on,
);

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 23, 1);
const HOUR: Duration = Duration::from_secs(3600);
const HALF_AN_HOUR: Duration = Duration::from_secs(1800);
/// Over before a packet can be sent.
const AT_ONCE: Duration = Duration::from_nanos(1);

fn rules() -> Vec<Rule> {
    let name = || "evil.example".parse().unwrap();
    [
        Match::address(CLIENT),
        Match::range("127.0.23.0/24".parse::<ipnet::IpNet>().unwrap()),
        Match::qname(name(), Qtypes::Only(A)),
        Match::qname(name(), Qtypes::All),
        Match::suffix(name(), Qtypes::Only(A)),
        Match::suffix(name(), Qtypes::All),
    ]
    .map(Rule::drop)
    .into()
}

fn passes(world: &World) -> bool {
    world.passes(CLIENT, &query("evil.example.", A))
}

fn a_rule_ends_and_is_no_rule_any_more(new: NewWorld) {
    let world = new(BpfFilter::builder());
    for rule in rules() {
        world.filter.insert(rule.clone().expires_in(HOUR)).unwrap();
        assert!(!passes(&world), "{}", rule.matches);
        let stats = world.filter.stats().unwrap();
        let left = stats.rules[0].rule.expires_in.unwrap();
        assert!((HALF_AN_HOUR..=HOUR).contains(&left), "{left:?}");
        world.filter.remove(&rule.matches).unwrap();

        world.filter.insert(rule.clone().expires_in(AT_ONCE)).unwrap();
        assert!(passes(&world), "{}", rule.matches);
        assert_eq!(world.filter.stats().unwrap().to_string(), "");
        let removed = world.filter.remove(&rule.matches);
        assert!(matches!(removed, Err(RuleError::Missing(_))), "{removed:?}");
    }
}

fn what_is_behind_an_expired_rule_decides(new: NewWorld) {
    let world = new(BpfFilter::builder());
    for rule in rules() {
        let pass = Rule::new(rule.matches, Action::Pass);
        world.filter.insert(pass.expires_in(AT_ONCE)).unwrap();
    }
    assert!(passes(&world));
    world.filter.block_suffix(&"example".parse().unwrap(), Qtypes::All).unwrap();
    assert!(!passes(&world));
    assert_eq!(world.filter.stats().unwrap().to_string(), "*.example. 255: 1\n");
}

fn the_place_of_an_expired_rule_is_free(new: NewWorld) {
    let world = new(BpfFilter::builder().ipv4_max(1).ranges4_max(1).qnames_max(2).suffixes_max(2));
    // More often than there is room for.
    for _ in 0..5 {
        for rule in rules() {
            world.filter.insert(rule.expires_in(AT_ONCE)).unwrap();
        }
    }
    world.filter.insert(Rule::drop(Match::address([127, 0, 23, 2])).expires_in(HOUR)).unwrap();
    assert!(matches!(world.filter.block(CLIENT), Err(RuleError::Full { kind: Kind::Ipv4, max: 1 })));
}

fn replacing_moves_the_end(new: NewWorld) {
    let world = new(BpfFilter::builder());
    for rule in rules() {
        assert!(!world.filter.replace(rule.clone().expires_in(AT_ONCE)).unwrap());
        assert!(passes(&world));
        // It is gone, so this is a new one.
        assert!(!world.filter.replace(rule.clone().expires_in(HOUR)).unwrap());
        assert!(!passes(&world));
        assert!(world.filter.replace(rule.clone()).unwrap());
        assert_eq!(world.filter.stats().unwrap().rules[0].rule.expires_in, None);
        assert!(!passes(&world));
        assert!(world.filter.replace(Rule::new(rule.matches.clone(), Action::Count)).unwrap());
        assert!(passes(&world));
        assert_eq!(world.filter.stats().unwrap().rules[0].hits, 3, "{}", rule.matches);
        assert!(world.filter.replace(rule.clone().expires_in(AT_ONCE)).unwrap());
        assert!(passes(&world));
    }
}

fn what_has_expired_is_counted_on(new: NewWorld) {
    let world = new(BpfFilter::builder());
    let rule = Rule::drop(Match::address(CLIENT));
    world.filter.insert(rule.clone().expires_in(HOUR)).unwrap();
    (0..3).for_each(|_| assert!(!passes(&world)));
    world.filter.replace(rule.clone().expires_in(AT_ONCE)).unwrap();
    let retired = || {
        let retired = world.filter.stats().unwrap().retired(Kind::Ipv4);
        (retired.rules, retired.hits)
    };
    assert_eq!(retired(), (1, 3));
    // Cleared away by whoever comes first: this, or the thread that does nothing else.
    world.filter.insert(rule.clone()).unwrap();
    assert_eq!(retired(), (1, 3));
    assert!(!passes(&world));
    world.filter.remove(&rule.matches).unwrap();
    assert_eq!(retired(), (2, 4));
    // What was not added at all is not counted.
    assert!(world.filter.insert_many([rule.clone(), rule]).is_err());
    assert_eq!(retired(), (2, 4));
}

/// Nobody asks for them, and their places are free again.
#[test]
fn expired_rules_are_cleared_away() {
    let filter = BpfFilter::builder().mode(Mode::Off).build().unwrap();
    filter.insert_many(rules().into_iter().map(|rule| rule.expires_in(Duration::from_millis(50)))).unwrap();
    filter.insert(Rule::drop(Match::address([127, 0, 23, 2])).expires_in(HOUR)).unwrap();
    let start = Instant::now();
    while Kind::ALL.map(|kind| filter.count(kind)).iter().sum::<u32>() > 1 {
        assert!(start.elapsed() < Duration::from_secs(20), "they are still there");
        // Time is what this is about.
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(filter.count(Kind::Ipv4), 1);
    let stats = filter.stats().unwrap();
    assert_eq!(stats.retired(Kind::Qname).rules, 2);
}

/// What the process at the other end does.
const HOLDER: &str = "EBPF_FILTER_TEST_EXPIRY";
const LIFE: Duration = Duration::from_millis(1500);

/// The rules of a process that was killed stop biting on time, in a socket that another process still holds.
#[test]
fn rules_end_on_time_though_their_process_was_killed() {
    require_kernel!();
    if env::var_os(HOLDER).is_some() {
        return hold();
    }
    let wire = Wire::ipv4();
    let client = wire.client(CLIENT);
    let (mut holder, deadline) = start_holder(wire.server());
    let message = query("example.", A);
    wire.assert_drops(&client, &message);
    holder.kill().unwrap();
    holder.wait().unwrap();
    wire.assert_drops(&client, &message);

    let (mut dropped, mut passed) = (0, 0);
    while passed < 3 {
        let before = now();
        let got_through = wire.passes(&client, &message);
        let after = now();
        if got_through {
            assert!(after >= deadline.start, "it passed {:?} too early", deadline.start.checked_sub(after));
            passed += 1;
        } else {
            assert!(before < deadline.end, "it was dropped {:?} too late", before.checked_sub(deadline.end));
            dropped += 1;
        }
    }
    assert!(dropped > 0, "nothing was dropped after the process was killed");
}

fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(u64::try_from(now.tv_sec).unwrap(), u32::try_from(now.tv_nsec).unwrap())
}

/// A process that blocks the client at this socket for a while, and when that ends.
fn start_holder(socket: &UdpSocket) -> (Child, std::ops::Range<Duration>) {
    let mut holder = Command::new(env::current_exe().unwrap())
        .args(["rules_end_on_time_though_their_process_was_killed", "--exact", "--nocapture"])
        .env(HOLDER, "1")
        .stdin(Stdio::from(socket.as_fd().try_clone_to_owned().unwrap()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let times = BufReader::new(holder.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("blocked ").map(str::to_owned))
        .expect("it says so");
    let mut times = times.split(' ').map(|time| Duration::from_nanos(time.parse().unwrap()) + LIFE);
    (holder, times.next().unwrap()..times.next().unwrap())
}

fn hold() {
    let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
    let before = now();
    filter.insert(Rule::drop(Match::address(CLIENT)).expires_in(LIFE)).unwrap();
    let after = now();
    filter.attach(&std::io::stdin()).unwrap();
    println!("\nblocked {} {}", before.as_nanos(), after.as_nanos());
    std::io::stdout().flush().unwrap();
    // Until it is killed.
    loop {
        thread::park();
    }
}

/// A filter that nobody has any more is gone, though a rule of it would end one day.
#[test]
fn nothing_is_left_of_a_dropped_filter() {
    let filter = BpfFilter::builder().mode(Mode::Off).build().unwrap();
    let named = |name: &str| {
        std::fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|comm| comm.trim() == name)
            .count()
    };
    let before = named("ebpf-filter");
    filter.insert(Rule::drop(Match::address(CLIENT)).expires_in(HOUR)).unwrap();
    drop(filter);
    let start = Instant::now();
    while named("ebpf-filter") > before {
        assert!(start.elapsed() < Duration::from_secs(20), "its thread is still there");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Dropping every handle leaves the socket filtered; what ends, ends all the same.
#[test]
fn a_socket_keeps_its_rules_without_a_filter() {
    require_kernel!();
    let wire = Wire::ipv4();
    let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
    filter.attach(wire.server()).unwrap();
    filter.insert(Rule::drop(Match::address(CLIENT)).expires_in(Duration::from_millis(300))).unwrap();
    drop(filter);
    let client = wire.client(CLIENT);
    let message = query("example.", A);
    wire.assert_drops(&client, &message);
    let start = Instant::now();
    while !wire.passes(&client, &message) {
        assert!(start.elapsed() < Duration::from_secs(20), "the rule does not end");
    }
    wire::assert_empty(wire.server());
}
