//! Entries that end: the format does not say when, so this library removes them.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use ebpf_filter::{Action, BpfFilter, ExternalMaps, Match, Qtypes, Rule};
use ebpf_filter_tests::{child, pins::PinDir, require_kernel, shared_maps};

use crate::{address, every_kind, qname, range};

const HOUR: Duration = Duration::from_secs(3600);

fn lines(pins: &PinDir, map: &str) -> Vec<String> {
    shared_maps::list(&pins.pin(map), map)
}

/// Waits until the entry is gone from the map itself, and says how long that took.
#[track_caller]
fn wait_until_gone(pins: &PinDir, of: &Match) -> Duration {
    // This one knows of no ends, as they are elsewhere: it says what is in the maps.
    let maps = ExternalMaps { ends: Some(pins.pin("others-ends")), ..pins.maps() };
    let other = BpfFilter::builder().external(maps).build().unwrap();
    let start = Instant::now();
    while other.rule(of).unwrap().is_some() {
        assert!(start.elapsed() < Duration::from_secs(20), "{of} is still there");
        thread::sleep(Duration::from_micros(100));
    }
    start.elapsed()
}

/// Nobody has to ask for it.
#[test]
fn entries_are_removed_within_milliseconds() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    let time = Duration::from_millis(300);
    // A machine that is busy with other tests may be late.
    let late = |of: &Match| {
        let start = Instant::now();
        filter.insert(Rule::drop(of.clone()).expires_in(time)).unwrap();
        wait_until_gone(&pins, of);
        start.elapsed().checked_sub(time).expect("it is there for as long as it should be")
    };
    for Rule { matches, .. } in every_kind() {
        let soonest = (0..10).map(|_| late(&matches)).find(|late| *late < Duration::from_millis(5));
        assert!(soonest.is_some(), "{matches} was never removed within 5 ms");
    }
}

#[test]
fn what_has_not_ended_says_when_it_does() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    for rule in every_kind() {
        filter.insert(rule.clone().expires_in(HOUR)).unwrap();
        let left = filter.rule(&rule.matches).unwrap().unwrap().rule.expires_in.unwrap();
        assert!(left <= HOUR && left > HOUR / 2, "{left:?}");
    }
    let rules = filter.stats().unwrap().rules;
    assert!(rules.len() == 5 && rules.iter().all(|found| found.rule.expires_in.is_some()));
    // A rule without an end in the place of one with an end.
    assert!(filter.replace(Rule::drop(address("192.0.2.1"))).unwrap());
    filter.unblock([192, 0, 2, 1]).unwrap();
    filter.block([192, 0, 2, 1]).unwrap();
    assert_eq!(filter.rule(&address("192.0.2.1")).unwrap().unwrap().rule.expires_in, None);
    filter.clear().unwrap();
    drop(filter);
    let filter = pins.external();
    filter.insert_many(every_kind()).unwrap();
    assert!(filter.stats().unwrap().rules.iter().all(|found| found.rule.expires_in.is_none()));
}

#[test]
fn what_ends_is_known_to_the_next_filter() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    for rule in every_kind() {
        filter.insert(rule.expires_in(Duration::from_millis(400))).unwrap();
    }
    filter.block([192, 0, 2, 2]).unwrap();
    filter.insert(Rule::drop(address("192.0.2.3")).expires_in(HOUR)).unwrap();
    filter.insert(Rule::drop(address("192.0.2.4")).expires_in(Duration::from_millis(1500))).unwrap();
    drop(filter);
    thread::sleep(Duration::from_millis(500));
    // Nobody was there to remove anything.
    assert_eq!(lines(&pins, "addr-v4").len(), 4);
    let filter = pins.external();
    assert_eq!(lines(&pins, "addr-v4"), ["192.0.2.2 0 1", "192.0.2.3 0 1", "192.0.2.4 0 1"]);
    for map in ["addr-v6", "qnames", "cidr4", "cidr6"] {
        assert_eq!(lines(&pins, map), [""; 0], "{map}");
    }
    wait_until_gone(&pins, &address("192.0.2.4"));
    let ends = |text| filter.rule(&address(text)).unwrap().unwrap().rule.expires_in;
    assert_eq!(ends("192.0.2.2"), None);
    assert!(ends("192.0.2.3").is_some_and(|left| left > HOUR / 2));
}

#[test]
fn what_ends_does_so_after_a_crash() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    child::kill_when_ready("ends::what_ends_does_so_after_a_crash", pins.path(), |directory| {
        let maps = ExternalMaps::in_directory(directory);
        let filter = BpfFilter::builder().external(maps).build().unwrap();
        filter.block([192, 0, 2, 2]).unwrap();
        for rule in every_kind() {
            filter.insert(rule.expires_in(Duration::from_millis(600))).unwrap();
        }
        filter.insert(Rule::drop(address("192.0.2.3")).expires_in(Duration::from_secs(2))).unwrap();
        std::mem::forget(filter);
    });
    // What was pinned is as it was.
    assert_eq!(lines(&pins, "addr-v4"), ["192.0.2.1 0 1", "192.0.2.2 0 1", "192.0.2.3 0 1"]);
    assert_eq!(lines(&pins, "cidr6"), ["2001:db8:1::/48 0 1"]);
    thread::sleep(Duration::from_millis(700));
    let filter = pins.external();
    assert_eq!(lines(&pins, "addr-v4"), ["192.0.2.2 0 1", "192.0.2.3 0 1"]);
    for map in ["addr-v6", "qnames", "cidr4", "cidr6"] {
        assert_eq!(lines(&pins, map), [""; 0], "{map}");
    }
    assert!(filter.rule(&address("192.0.2.3")).unwrap().unwrap().rule.expires_in.is_some());
    wait_until_gone(&pins, &address("192.0.2.3"));
    assert_eq!(lines(&pins, "addr-v4"), ["192.0.2.2 0 1"]);
}

/// An end is for one entry, not for whatever others put in its place.
#[test]
fn entries_of_others_are_spared() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    let pin = pins.pin("addr-v4");
    let time = Duration::from_millis(300);
    // Another action.
    filter.insert(Rule::drop(address("192.0.2.1")).expires_in(time)).unwrap();
    shared_maps::set(&pin, "addr-v4", "192.0.2.1", 0, 0);
    // Fewer hits.
    shared_maps::set(&pin, "addr-v4", "192.0.2.2", 10, 1);
    filter.replace(Rule::drop(address("192.0.2.2")).expires_in(time)).unwrap();
    shared_maps::set(&pin, "addr-v4", "192.0.2.2", 3, 1);
    // This one is as it was.
    shared_maps::set(&pin, "addr-v4", "192.0.2.3", 10, 1);
    filter.replace(Rule::drop(address("192.0.2.3")).expires_in(time)).unwrap();
    shared_maps::set(&pin, "addr-v4", "192.0.2.3", 11, 1);
    // Counters that start anew are no sign of others.
    shared_maps::set(&pin, "addr-v4", "192.0.2.4", 10, 1);
    filter.replace(Rule::drop(address("192.0.2.4")).expires_in(time)).unwrap();
    wait_until_gone(&pins, &address("192.0.2.3"));
    wait_until_gone(&pins, &address("192.0.2.4"));
    assert_eq!(lines(&pins, "addr-v4"), ["192.0.2.1 0 0", "192.0.2.2 3 1"]);
    // It is without an end from then on.
    assert_eq!(filter.rule(&address("192.0.2.1")).unwrap().unwrap().rule.expires_in, None);

    filter.reset_hits().unwrap();
    shared_maps::set(&pin, "addr-v4", "192.0.2.5", 10, 1);
    filter.replace(Rule::drop(address("192.0.2.5")).expires_in(time)).unwrap();
    filter.reset_hits().unwrap();
    wait_until_gone(&pins, &address("192.0.2.5"));
}

/// An end of an entry that others have removed is not for one that they add while nobody looks.
#[test]
fn ends_of_what_is_gone_are_forgotten_at_the_start() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external();
    let pin = pins.pin("addr-v4");
    filter.insert(Rule::drop(address("192.0.2.1")).expires_in(Duration::from_millis(300))).unwrap();
    drop(filter);
    shared_maps::delete(&pin, "addr-v4", "192.0.2.1");
    let filter = pins.external();
    shared_maps::set(&pin, "addr-v4", "192.0.2.1", 0, 1);
    thread::sleep(Duration::from_millis(400));
    assert_eq!(lines(&pins, "addr-v4"), ["192.0.2.1 0 1"]);
    assert_eq!(filter.rule(&address("192.0.2.1")).unwrap().unwrap().rule.action, Action::Drop);
}

/// The map of ends has room for as many as there may be entries, however many came and went.
#[test]
fn ends_come_and_go() {
    require_kernel!(BPF | SYS_ADMIN);
    let pins = PinDir::new();
    let filter = pins.external_with(
        BpfFilter::builder().ipv4_max(50).qnames_max(50).ipv6_max(0).ranges4_max(50).ranges6_max(0),
    );
    for round in 0..20 {
        for number in 0..50 {
            let (net, name) = (format!("10.{number}.0.0/16"), format!("{round}-{number}.example"));
            filter.insert(Rule::drop(address(&format!("192.0.2.{number}"))).expires_in(HOUR)).unwrap();
            filter.insert(Rule::drop(range(&net)).expires_in(HOUR)).unwrap();
            filter.insert(Rule::drop(qname(&name, Qtypes::All)).expires_in(HOUR)).unwrap();
        }
        if round % 2 == 0 {
            filter.clear().unwrap();
        } else {
            // Others clear the maps, and nobody is told.
            for map in ["addr-v4", "qnames", "cidr4"] {
                for line in lines(&pins, map) {
                    shared_maps::delete(&pins.pin(map), map, line.split(' ').next().unwrap());
                }
            }
        }
    }
    assert!(fs::exists(pins.pin("ends")).unwrap());
}
