//! Filters on the same pins, in one process and in several: what one changes, all have.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Write as _},
    net::IpAddr,
    path::Path,
    process::Child,
    thread,
    time::{Duration, Instant},
};

use ebpf_filter::{Action, BpfFilter, IpNet, Kind, Match, QName, Qtypes, Query, Rule, RuleError, Verdict};
use ebpf_filter_tests::{
    child,
    dns::{A, query},
    hits,
    pins::PinDir,
    require_kernel,
    wire::Wire,
};

use super::{MAX, builder, filter};

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 32, 1));

fn host(net: u8, nth: u32) -> Match {
    Match::address([10, net, 0, u8::try_from(nth).unwrap()])
}

fn evil() -> QName {
    "evil.example".parse().unwrap()
}

#[test]
fn what_one_changes_the_other_has() {
    require_kernel!();
    let pins = PinDir::new();
    let wire = Wire::ipv4();
    let client = wire.client(CLIENT);
    let (one, other) = (filter(pins.path()), filter(pins.path()));
    other.attach(wire.server()).unwrap();
    let verdict =
        |filter: &BpfFilter| filter.check(&Query::new(CLIENT, &"below.evil.example".parse().unwrap(), A));
    let matches = [
        Match::address(CLIENT),
        Match::range("127.0.32.0/24".parse::<IpNet>().unwrap()),
        Match::range("::/0".parse::<IpNet>().unwrap()),
        Match::suffix(evil(), Qtypes::All),
        Match::qname("below.evil.example".parse().unwrap(), Qtypes::Only(A)),
    ];
    for (nth, of) in matches.iter().enumerate() {
        let (one, other) = if nth % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let hits_it = nth != 2;
        one.insert(Rule::drop(of.clone())).unwrap();
        assert_eq!(other.rule(of).unwrap().rule, Rule::drop(of.clone()));
        assert_eq!(other.count(of.kind()), 1);
        assert_eq!(other.stats().unwrap().to_string(), one.stats().unwrap().to_string());
        assert_eq!([one, other].map(verdict).map(|it| it == Verdict::Drop), [hits_it; 2]);
        assert_eq!(wire.passes(&client, &query("below.evil.example.", A)), !hits_it);
        assert!(matches!(other.insert(Rule::drop(of.clone())), Err(RuleError::Duplicate(_))));
        assert!(other.replace(Rule::new(of.clone(), Action::Count)).unwrap());
        assert_eq!([one, other].map(verdict), [Verdict::Pass; 2]);
        assert_eq!(hits(one, of), hits(other, of));
        other.remove(of).unwrap();
        assert!(matches!(one.remove(of), Err(RuleError::Missing(_))));
        assert_eq!([one, other].map(|filter| filter.stats().unwrap().retired(of.kind()).rules), [1; 2]);
        wire.assert_passes(&client, &query("below.evil.example.", A));
    }
    // Room is for both together.
    one.insert_many((0..MAX / 2).map(|nth| Rule::drop(host(1, nth)))).unwrap();
    other.insert_many((0..MAX / 2).map(|nth| Rule::drop(host(2, nth)))).unwrap();
    for filter in [&one, &other] {
        assert!(matches!(filter.insert(Rule::drop(host(3, 0))), Err(RuleError::Full { .. })));
    }
    one.reset_hits().unwrap();
    other.clear().unwrap();
    assert_eq!(one.count(Kind::Ipv4), 0);
    assert_eq!(one.stats().unwrap().rules, []);
}

/// Changes by turns, many of them, so that each finds out anew what the other has done.
#[test]
fn changes_by_turns_lose_nothing() {
    require_kernel!();
    let pins = PinDir::new();
    let filters = [filter(pins.path()), filter(pins.path())];
    let mut expected = BTreeSet::new();
    for turn in 0..2000_u32 {
        let filter = &filters[turn as usize % 2];
        let of = host(1, turn.wrapping_mul(2_654_435_761) >> 26);
        if expected.insert(of.clone()) {
            filter.insert(Rule::drop(of)).unwrap();
        } else {
            expected.remove(&of);
            filter.remove(&of).unwrap();
        }
        let other = &filters[(turn as usize + 1) % 2];
        assert_eq!(other.count(Kind::Ipv4) as usize, expected.len());
    }
    let found: BTreeSet<_> =
        filters[0].stats().unwrap().rules.into_iter().map(|it| it.rule.matches).collect();
    assert_eq!(found, expected);
}

/// What a child does until it is told to end.
fn change_own_rules(directory: &Path, net: u8) {
    let filter = filter(directory);
    println!("ready");
    let mut line = String::new();
    let stop = thread::spawn(move || std::io::stdin().read_line(&mut line).unwrap());
    let rules = || (0..16).map(|nth| Rule::drop(host(net, nth)));
    let name: QName = format!("{}.net{net}.example", "x".repeat(60)).parse().unwrap();
    let mut rounds = 0_u32;
    while !stop.is_finished() {
        filter.insert_many(rules()).unwrap();
        filter.block_suffix(&name, Qtypes::All).unwrap();
        assert!(filter.rule(&host(net, 7)).is_some());
        filter.unblock_suffix(&name, Qtypes::All).unwrap();
        for rule in rules() {
            filter.remove(&rule.matches).unwrap();
        }
        rounds += 1;
    }
    filter.insert_many(rules()).unwrap();
    println!("rounds {rounds}");
}

fn end(mut child: Child) -> u32 {
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text.lines().find_map(|line| line.strip_prefix("rounds ")?.parse().ok()).unwrap()
}

fn wait_until_ready(child: &mut Child) {
    let mut output = BufReader::new(child.stdout.as_mut().unwrap());
    let mut line = String::new();
    while !line.contains("ready") {
        line.clear();
        assert!(output.read_line(&mut line).unwrap() > 0, "it ended");
    }
}

#[test]
fn three_processes_change_rules_at_once() {
    require_kernel!();
    if let Some(role) = child::role() {
        let (net, directory) = role.split_once(' ').unwrap();
        return change_own_rules(Path::new(directory), net.parse().unwrap());
    }
    let pins = PinDir::new();
    let wire = Wire::ipv4();
    let client = wire.client(CLIENT);
    let own = filter(pins.path());
    own.block(CLIENT).unwrap();
    own.attach(wire.server()).unwrap();
    let mut children = [1, 2].map(|net| {
        let role = format!("{net} {}", pins.path().display());
        child::spawn("sharing::three_processes_change_rules_at_once", &role)
    });
    children.iter_mut().for_each(wait_until_ready);
    let start = Instant::now();
    let mut rounds = 0_u32;
    while start.elapsed() < Duration::from_secs(2) {
        own.insert(Rule::drop(host(3, rounds % 8))).unwrap();
        wire.assert_drops(&client, &query("example.", A));
        own.remove(&host(3, rounds % 8)).unwrap();
        rounds += 1;
    }
    let others = children.map(end);
    println!("rounds: {rounds} {others:?}");
    assert!(rounds > 10 && others.iter().all(|rounds| *rounds > 10), "{rounds} {others:?}");
    let expected: BTreeSet<_> = [1, 2]
        .into_iter()
        .flat_map(|net| (0..16).map(move |nth| host(net, nth)))
        .chain([Match::address(CLIENT)])
        .collect();
    let stats = own.stats().unwrap();
    let found: BTreeSet<_> = stats.rules.iter().map(|it| it.rule.matches.clone()).collect();
    assert_eq!(found, expected);
    assert_eq!(hits(&own, &Match::address(CLIENT)), u64::from(rounds));
    // Everybody's changes are counted.
    let gone = u64::from(rounds) + others.iter().map(|rounds| u64::from(*rounds) * 16).sum::<u64>();
    assert_eq!(stats.retired(Kind::Ipv4).rules, gone);
    assert_eq!(own.count(Kind::Suffix), 0);
}

/// Several begin at once, and nobody else has created the pins.
#[test]
fn whoever_comes_first_creates_the_pins() {
    require_kernel!();
    let pins = PinDir::new();
    let path = pins.path().to_owned();
    let filters: Vec<_> = (0..6)
        .map(|_| {
            let builder = builder(&path);
            thread::spawn(move || builder.build().unwrap())
        })
        .collect::<Vec<_>>()
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    for (nth, filter) in (0..).zip(&filters) {
        filter.insert(Rule::drop(host(1, nth))).unwrap();
    }
    assert!(filters.iter().all(|filter| filter.count(Kind::Ipv4) == 6));
    assert!(pins.siblings().is_empty());
}

/// Rules that end are cleared away once, by whoever is there.
#[test]
fn whoever_lives_clears_away_what_has_ended() {
    require_kernel!();
    let pins = PinDir::new();
    let (one, other) = (filter(pins.path()), filter(pins.path()));
    let wait = |filter: &BpfFilter, gone: u64| {
        let deadline = Instant::now() + Duration::from_secs(10);
        while filter.count(Kind::Ipv4) > 0 {
            assert!(Instant::now() < deadline, "it was not cleared away");
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(filter.stats().unwrap().retired(Kind::Ipv4).rules, gone);
    };
    let ending = |nth| Rule::drop(host(1, nth)).expires_in(Duration::from_millis(100));
    one.insert_many((0..8).map(ending)).unwrap();
    other.insert_many((8..16).map(ending)).unwrap();
    wait(&one, 16);
    wait(&other, 16);
    // Who has added them is gone.
    one.insert_many((0..8).map(ending)).unwrap();
    drop(one);
    wait(&other, 24);
}
