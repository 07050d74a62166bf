//! A filter that is built again has the rules of the one before, and their hits.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::MetadataExt as _,
    time::{Duration, Instant},
};

use ebpf_filter::{Action, BpfFilter, IpNet, Kind, Match, QName, Qtypes, Rule, RuleError};
use ebpf_filter_tests::{
    dns::{A, query},
    hits,
    pins::PinDir,
    require_kernel,
    wire::Wire,
};

use super::{MAX, builder, filter};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 30, 1));
const BYSTANDER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 31, 1));

/// A name of so many bytes on the wire.
fn name(len: usize) -> QName {
    let mut labels = Vec::new();
    let mut left = len - 1;
    while left > 0 {
        let mut label = left.min(64);
        // What is left must not be a label of no bytes.
        if left - label == 1 {
            label -= 1;
        }
        labels.push("x".repeat(label - 1));
        left -= label;
    }
    labels.join(".").parse().unwrap()
}

/// Rules of every kind, with names of many lengths: in the node alone, and with one to ten blocks.
fn rules() -> Vec<Rule> {
    let names = [3, 8, 23, 24, 25, 48, 49, 72, 100, 150, 200, 239, 240, 254, 255];
    let qnames = names.map(|len| Match::qname(name(len), Qtypes::All));
    let suffixes = names.map(|len| Match::suffix(name(len), Qtypes::Only(A)));
    let ranges = ["0.0.0.0/0", "10.0.0.0/8", "127.0.30.0/24", "::/0", "2001:db8::/32", "2001:db8::/127"];
    let ranges = ranges.map(|net| Match::range(net.parse::<IpNet>().unwrap()));
    let addresses = ["127.0.30.1", "0.0.0.0", "255.255.255.255", "2001:db8::1", "::"];
    let addresses = addresses.map(|address| Match::address(address.parse::<IpAddr>().unwrap()));
    qnames
        .into_iter()
        .chain(suffixes)
        .chain(ranges)
        .chain(addresses)
        .map(|of| Rule::new(of, Action::Count))
        .collect()
}

#[test]
fn rules_and_hits_of_every_kind_stay() {
    require_kernel!();
    let pins = PinDir::new();
    let wire = Wire::ipv4();
    let client = wire.client(CLIENT);
    let rules = rules();
    let name_of =
        |rule: &Rule| if let Match::Qname(name, _) = &rule.matches { Some(name.clone()) } else { None };
    let names: Vec<_> = rules.iter().filter_map(name_of).collect();
    let ask = |filter: &BpfFilter| {
        filter.attach(wire.server()).unwrap();
        for name in &names {
            wire.assert_passes(&client, &query(&name.to_string(), A));
        }
    };

    let first = filter(pins.path());
    first.insert_many(rules.clone()).unwrap();
    ask(&first);
    let before = first.stats().unwrap();
    let total = |of: &ebpf_filter::Stats| of.rules.iter().map(|rule| rule.hits).sum::<u64>();
    assert!(total(&before) > names.len() as u64 * 3, "{before}");
    drop(first);

    let second = filter(pins.path());
    assert_eq!(second.stats().unwrap().to_string(), before.to_string());
    for kind in Kind::ALL {
        let expected = rules.iter().filter(|rule| rule.matches.kind() == kind).count();
        assert_eq!(second.count(kind) as usize, expected, "{kind}");
    }
    for rule in &rules {
        assert_eq!(second.rule(&rule.matches).unwrap().rule, *rule);
    }
    // They match what they matched, in the new programs as well.
    ask(&second);
    let after = second.stats().unwrap();
    for (before, after) in before.rules.iter().zip(&after.rules) {
        assert_eq!((&before.rule, before.hits * 2), (&after.rule, after.hits));
    }
    // And nothing of the room is lost.
    for rule in &rules {
        assert!(matches!(second.insert(rule.clone()), Err(RuleError::Duplicate(_))));
        second.remove(&rule.matches).unwrap();
    }
    let many = |net: u8| {
        (0..MAX).map(move |host| Rule::drop(Match::address([10, net, 0, u8::try_from(host).unwrap()])))
    };
    second.insert_many(many(1)).unwrap();
    assert!(matches!(second.insert_many(many(2)), Err(RuleError::Full { kind: Kind::Ipv4, max: MAX })));
}

#[test]
fn pins_are_for_this_user_alone() {
    require_kernel!();
    let pins = PinDir::new();
    let below = pins.pin("a").join("b");
    let filter = filter(&below);
    let modes = |path: &std::path::Path| fs::metadata(path).unwrap().mode() & 0o7777;
    for directory in [pins.path(), &pins.pin("a"), &below] {
        assert_eq!(modes(directory), 0o700, "{}", directory.display());
    }
    let mut names: Vec<_> = fs::read_dir(&below).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let expected = [
        "blocks",
        "control",
        "format",
        "ipv4",
        "ipv6",
        "malformed",
        "names",
        "policy",
        "ranges4",
        "ranges6",
        "sieve",
        "sightings",
    ];
    assert_eq!(names, expected);
    assert!(names.iter().all(|name| modes(&below.join(name)) == 0o600));
    let status = filter.status();
    assert_eq!(status.pin_dir.as_deref(), Some(&*below));
    assert!(status.to_string().ends_with(&format!(", pinned in {}", below.display())), "{status}");
}

/// The end is in the map, so it takes no process to keep it.
#[test]
fn what_ends_ends_on_time_while_nobody_lives() {
    const LIFE: Duration = Duration::from_millis(400);
    const ALMOST: Duration = Duration::from_millis(350);
    require_kernel!();
    let pins = PinDir::new();
    let wire = Wire::ipv4();
    let (client, bystander) = (wire.client(CLIENT), wire.client(BYSTANDER));
    let query = query("example.", A);
    let first = filter(pins.path());
    first.insert(Rule::drop(Match::address(CLIENT)).expires_in(LIFE)).unwrap();
    let start = Instant::now();
    first.attach(wire.server()).unwrap();
    drop(first);
    wire.assert_drops(&client, &query);
    wire.assert_passes(&bystander, &query);
    let second = filter(pins.path());
    second.attach(wire.server()).unwrap();
    let left = second.rule(&Match::address(CLIENT)).unwrap().rule.expires_in.unwrap();
    assert!(left <= LIFE.saturating_sub(start.elapsed()) + Duration::from_millis(5));
    drop(second);
    while start.elapsed() < ALMOST {
        wire.assert_drops(&client, &query);
    }
    while start.elapsed() < LIFE + Duration::from_millis(10) {
        std::thread::yield_now();
    }
    wire.assert_passes(&client, &query);
    // And whoever comes then clears it away.
    let third = filter(pins.path());
    let deadline = Instant::now() + Duration::from_secs(10);
    while third.count(Kind::Ipv4) > 0 {
        assert!(Instant::now() < deadline, "it was not cleared away");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_configuration_is_reconciled() {
    require_kernel!();
    let pins = PinDir::new();
    let wire = Wire::ipv4();
    let client = wire.client(CLIENT);
    let hour = Duration::from_secs(3600);
    let [stays, changes, goes, new] =
        [CLIENT, [10, 0, 0, 1].into(), [10, 0, 0, 2].into(), [10, 0, 0, 3].into()].map(Match::address);
    let ends = Match::address([10, 0, 0, 4]);
    let first = filter(pins.path());
    first.insert_many([&stays, &changes, &goes].map(|of| Rule::drop(of.clone()))).unwrap();
    first.insert(Rule::drop(ends.clone()).expires_in(hour)).unwrap();
    first.attach(wire.server()).unwrap();
    wire.assert_drops(&client, &query("example.", A));
    drop(first);

    let second = filter(pins.path());
    let wanted =
        || [Rule::drop(stays.clone()), Rule::new(changes.clone(), Action::Count), Rule::drop(new.clone())];
    let done = second.reconcile(wanted()).unwrap();
    assert_eq!((done.kept, done.added, done.changed, done.removed), (1, 1, 1, 1));
    assert_eq!(hits(&second, &stays), 1);
    assert_eq!(second.rule(&goes), None);
    assert_eq!(second.rule(&changes).unwrap().rule.action, Action::Count);
    assert!(second.rule(&ends).unwrap().rule.expires_in.is_some());
    let again = second.reconcile(wanted()).unwrap();
    assert_eq!((again.kept, again.added, again.changed, again.removed), (3, 0, 0, 0));
    let twice = second.reconcile([Rule::drop(new.clone()), Rule::new(new.clone(), Action::Pass)]);
    assert!(matches!(twice, Err(RuleError::Duplicate(of)) if of == new));
}

/// There is no room for the old rules and the new ones together.
#[test]
fn what_goes_makes_room_for_what_comes() {
    require_kernel!();
    let pins = PinDir::new();
    let rules = |net: u8| {
        (0..MAX).map(move |host| Rule::drop(Match::address([10, net, 0, u8::try_from(host).unwrap()])))
    };
    filter(pins.path()).insert_many(rules(0)).unwrap();
    let second = filter(pins.path());
    let one = rules(0).next().unwrap();
    let wanted = rules(1).skip(1).chain([one]);
    let done = second.reconcile(wanted).unwrap();
    let max = MAX as usize;
    assert_eq!((done.kept, done.added, done.changed, done.removed), (1, max - 1, 0, max - 1));
    assert!(matches!(
        second.reconcile(rules(1).chain(rules(2))),
        Err(RuleError::Full { kind: Kind::Ipv4, .. })
    ));
}

#[test]
fn without_pins_one_begins_anew() {
    require_kernel!();
    let pins = PinDir::new();
    let wire = Wire::ipv4();
    let (client, query) = (wire.client(CLIENT), query("example.", A));
    let first = filter(pins.path());
    first.block(CLIENT).unwrap();
    first.attach(wire.server()).unwrap();
    first.unpin().unwrap();
    assert!(!pins.path().exists());
    // It goes on without.
    wire.assert_drops(&client, &query);
    first.unblock(CLIENT).unwrap();
    wire.assert_passes(&client, &query);
    first.block(CLIENT).unwrap();

    let second = filter(pins.path());
    assert_eq!(second.stats().unwrap().rules, []);
    // Those of the other are none of its business.
    first.unpin().unwrap();
    assert_eq!(pins.pins().len(), 12);
    assert_eq!(second.count(Kind::Ipv4), 0);
    // What is not ours stays.
    fs::create_dir(pins.pin("other")).unwrap();
    assert!(second.unpin().is_err());
    assert_eq!(pins.pins(), ["other"]);
}

/// The policy of the pins is that of the filter that was built last.
#[test]
fn what_happens_to_malformed_messages_can_be_changed() {
    use ebpf_filter::Malformed::{Drop, Pass};
    require_kernel!();
    let pins = PinDir::new();
    let wire = Wire::ipv4();
    let client = wire.client(CLIENT);
    for policy in [Drop, Pass, Drop] {
        let filter = builder(pins.path()).malformed(policy).build().unwrap();
        filter.attach(wire.server()).unwrap();
        assert_eq!(wire.passes(&client, &[0; 3]), policy == Pass);
        assert_eq!(filter.check_datagram(CLIENT, &[0; 3]) == ebpf_filter::Verdict::Pass, policy == Pass);
    }
    // In the first and the third; nothing reads messages if that matters to nobody.
    assert_eq!(builder(pins.path()).build().unwrap().stats().unwrap().malformed_total(), 2);
}
