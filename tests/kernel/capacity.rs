//! What cannot be added or removed, and that nothing changes then: the same in the kernel and in user space.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebpf_filter::{
    Action, BpfFilter, BpfFilterBuilder, BuildError, Enforcement, Kind, Match, Mode, QName, Qtypes, Rule,
    RuleError, Unavailable,
};
use ebpf_filter_tests::{
    dns::{A, AAAA, query},
    in_both_worlds, require_kernel,
    world::World,
};
use ipnet::IpNet;

type NewWorld = fn(BpfFilterBuilder) -> World;
type WithSize = fn(BpfFilterBuilder, u32) -> BpfFilterBuilder;

in_both_worlds!(
    a_full_map_refuses_one_more,
    a_full_map_of_names_refuses_one_more,
    a_full_map_of_v6_sources_refuses_one_more,
    room_comes_back,
    one_too_many_adds_none,
    a_failure_in_the_middle_adds_none,
    a_failure_in_each_kind_adds_none,
    duplicates_are_refused,
    a_duplicate_is_one_in_a_full_map_too,
    what_is_missing_cannot_be_removed,
    kinds_without_a_map_are_refused,
    nothing_is_blocked_after_clear,
    counters_start_anew,
    full_maps_can_be_reset,
    one_map_for_all_rules_of_a_name,
    as_many_as_there_is_room_for,
);

const BYSTANDER: Ipv4Addr = Ipv4Addr::new(127, 0, 11, 200);

fn small() -> BpfFilterBuilder {
    BpfFilter::builder().ipv4_max(2).ipv6_max(2).qnames_max(2)
}

fn client(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 11, host)
}

fn name(text: &str) -> QName {
    text.parse().unwrap()
}

fn drop_client(host: u8) -> Rule {
    Rule::drop(Match::address(client(host)))
}

fn drop_name(text: &str) -> Rule {
    Rule::drop(Match::qname(name(text), Qtypes::All))
}

fn drop_v6(host: u16) -> Rule {
    Rule::drop(Match::address(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host)))
}

#[track_caller]
fn stats(world: &World) -> String {
    world.filter.stats().unwrap().to_string()
}

#[track_caller]
fn assert_full<T: std::fmt::Debug>(outcome: Result<T, RuleError>, kind: Kind, max: u32) {
    match outcome {
        Err(error @ RuleError::Full { .. }) => {
            assert!(matches!(error, RuleError::Full { kind: of, max: size } if of == kind && size == max));
            assert!(error.to_string().contains(kind.setting()), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

fn a_full_map_refuses_one_more(new: NewWorld) {
    let world = new(small());
    world.filter.block(client(1)).unwrap();
    world.filter.block(client(2)).unwrap();
    assert!(!world.passes(client(1), &query("example.", A)));
    let before = stats(&world);
    assert_full(world.filter.block(client(3)), Kind::Ipv4, 2);
    assert_eq!(stats(&world), before);
    assert_eq!(before, "127.0.11.1: 1\n127.0.11.2: 0\n");
    assert!(!world.passes(client(1), &query("example.", A)));
    assert!(!world.passes(client(2), &query("example.", A)));
    assert!(world.passes(client(3), &query("example.", A)));
    // The other kinds have room of their own.
    world.filter.block(Ipv6Addr::LOCALHOST).unwrap();
    world.filter.block_qname(&name("evil.example"), Qtypes::All).unwrap();
    assert!(!world.passes(client(3), &query("evil.example.", A)));
}

fn a_full_map_of_names_refuses_one_more(new: NewWorld) {
    let world = new(small());
    world.filter.block_qname(&name("one.example"), Qtypes::All).unwrap();
    world.filter.block_qname(&name("two.example"), Qtypes::All).unwrap();
    assert_full(world.filter.block_qname(&name("three.example"), Qtypes::All), Kind::Qname, 2);
    assert_eq!(stats(&world), "one.example. 255: 0\ntwo.example. 255: 0\n");
    assert!(!world.passes(BYSTANDER, &query("two.example.", A)));
    assert!(world.passes(BYSTANDER, &query("three.example.", A)));
}

fn a_full_map_of_v6_sources_refuses_one_more(new: NewWorld) {
    let world = new(small());
    world.filter.insert_many([drop_v6(1), drop_v6(2)]).unwrap();
    assert_full(world.filter.insert(drop_v6(3)), Kind::Ipv6, 2);
    assert_eq!(stats(&world), "[2001:db8::1]: 0\n[2001:db8::2]: 0\n");
}

fn room_comes_back(new: NewWorld) {
    let world = new(small());
    for round in 0..50 {
        world.filter.insert_many([drop_client(1), drop_client(2), drop_name("a"), drop_name("b")]).unwrap();
        assert_full(world.filter.block(client(3)), Kind::Ipv4, 2);
        assert_full(world.filter.block_qname(&name("c"), Qtypes::All), Kind::Qname, 2);
        world.filter.unblock(client(1)).unwrap();
        world.filter.unblock_qname(&name("a"), Qtypes::All).unwrap();
        world.filter.block(client(3)).unwrap();
        world.filter.block_qname(&name("c"), Qtypes::All).unwrap();
        assert!(world.passes(client(1), &query("a.", A)), "round {round}");
        assert!(!world.passes(client(3), &query("a.", A)), "round {round}");
        assert!(!world.passes(client(1), &query("c.", A)), "round {round}");
        world.filter.clear().unwrap();
    }
}

fn one_too_many_adds_none(new: NewWorld) {
    let world = new(small());
    assert_full(world.filter.insert_many((1..=3).map(drop_client)), Kind::Ipv4, 2);
    assert_eq!(stats(&world), "");
    assert!((1..=3).all(|host| world.passes(client(host), &query("example.", A))));
    world.filter.block(client(3)).unwrap();
    assert_full(world.filter.insert_many((1..=2).map(drop_client)), Kind::Ipv4, 2);
    assert_eq!(stats(&world), "127.0.11.3: 0\n");
    assert!((1..=2).all(|host| world.passes(client(host), &query("example.", A))));
    world.filter.insert_many([drop_client(2)]).unwrap();
    assert!(!world.passes(client(2), &query("example.", A)));
}

fn a_failure_in_the_middle_adds_none(new: NewWorld) {
    let world = new(BpfFilter::builder().ipv4_max(3).ipv6_max(2).qnames_max(2));
    // So that kinds are in use, and what is left over would bite.
    world.filter.insert_many([drop_client(1), drop_name("old.example"), drop_v6(1)]).unwrap();
    let before = stats(&world);
    let twice = [drop_client(2), drop_name("new.example"), drop_v6(2), drop_client(2)];
    assert!(
        matches!(world.filter.insert_many(twice), Err(RuleError::Duplicate(of)) if of == drop_client(2).matches)
    );
    let known = [drop_client(2), drop_name("new.example"), drop_v6(2), drop_client(1)];
    assert!(
        matches!(world.filter.insert_many(known), Err(RuleError::Duplicate(of)) if of == drop_client(1).matches)
    );
    assert_eq!(stats(&world), before);
    assert!(world.passes(client(2), &query("new.example.", A)));
    // There is still room for all of them.
    world.filter.insert_many([drop_client(2), drop_name("new.example"), drop_v6(2)]).unwrap();
    assert!(!world.passes(client(2), &query("example.", A)));
    assert!(!world.passes(BYSTANDER, &query("new.example.", A)));
}

fn a_failure_in_each_kind_adds_none(new: NewWorld) {
    let world = new(small());
    world.filter.insert_many([drop_client(1), drop_name("old.example"), drop_v6(1)]).unwrap();
    let before = stats(&world);
    let fits = [drop_client(2), drop_v6(2), drop_name("new.example")];
    for (one_more, kind) in
        [(drop_client(3), Kind::Ipv4), (drop_v6(3), Kind::Ipv6), (drop_name("newer.example"), Kind::Qname)]
    {
        for at in 0..=fits.len() {
            let mut rules = fits.to_vec();
            rules.insert(at, one_more.clone());
            assert_full(world.filter.insert_many(rules), kind, 2);
            assert_eq!(stats(&world), before);
            assert!(world.passes(client(2), &query("new.example.", A)));
            assert!(world.passes(client(3), &query("newer.example.", A)));
        }
    }
    world.filter.insert_many(fits).unwrap();
    assert_eq!(world.filter.stats().unwrap().rules.len(), 6);
}

fn duplicates_are_refused(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.block(client(1)).unwrap();
    world.filter.block_qname(&name("evil.example"), Qtypes::Only(A)).unwrap();
    assert!(!world.passes(client(1), &query("example.", A)));
    let before = stats(&world);

    let mapped = IpAddr::from(client(1).to_ipv6_mapped());
    assert!(
        matches!(world.filter.block(client(1)), Err(RuleError::Duplicate(of)) if of == Match::address(client(1)))
    );
    assert!(matches!(world.filter.block(mapped), Err(RuleError::Duplicate(_))));
    let count = Rule::new(Match::address(client(1)), Action::Count);
    assert!(matches!(world.filter.insert(count), Err(RuleError::Duplicate(_))));
    let again = world.filter.block_qname(&name("EVIL.Example."), Qtypes::Only(A));
    assert!(matches!(again, Err(RuleError::Duplicate(_))));
    assert_eq!(stats(&world), before);
    assert!(!world.passes(client(1), &query("example.", A)), "the action has changed");

    world.filter.block_qname(&name("evil.example"), Qtypes::All).unwrap();
    world.filter.block_qname(&name("evil.example"), Qtypes::Only(AAAA)).unwrap();
}

/// It needs no room, so the lack of it is not what is wrong.
fn a_duplicate_is_one_in_a_full_map_too(new: NewWorld) {
    let world = new(small());
    world.filter.insert_many([drop_client(1), drop_client(2), drop_name("a"), drop_name("b")]).unwrap();
    for rule in [drop_client(1), drop_name("a")] {
        assert!(matches!(world.filter.insert(rule), Err(RuleError::Duplicate(_))));
    }
    assert_eq!(stats(&world), "127.0.11.1: 0\n127.0.11.2: 0\na. 255: 0\nb. 255: 0\n");
}

fn what_is_missing_cannot_be_removed(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.block_qname(&name("evil.example"), Qtypes::Only(A)).unwrap();
    let missing = world.filter.unblock(client(1));
    assert!(matches!(missing, Err(RuleError::Missing(of)) if of == Match::address(client(1))));
    for qtypes in [Qtypes::All, Qtypes::Only(AAAA)] {
        let missing = world.filter.unblock_qname(&name("evil.example"), qtypes);
        assert!(matches!(missing, Err(RuleError::Missing(_))));
    }
    assert!(matches!(
        world.filter.unblock_qname(&name("example"), Qtypes::Only(A)),
        Err(RuleError::Missing(_))
    ));
    assert_eq!(stats(&world), "evil.example. 1: 0\n");
    assert!(!world.passes(BYSTANDER, &query("evil.example.", A)));
    world.filter.unblock_qname(&name("Evil.Example"), Qtypes::Only(A)).unwrap();
    assert!(matches!(
        world.filter.unblock_qname(&name("evil.example"), Qtypes::Only(A)),
        Err(RuleError::Missing(_))
    ));
    assert!(world.passes(BYSTANDER, &query("evil.example.", A)));
}

fn kinds_without_a_map_are_refused(new: NewWorld) {
    let of_kind = |kind| {
        let net = |net: &str| net.parse::<IpNet>().unwrap();
        match kind {
            Kind::Ipv4 => drop_client(1),
            Kind::Ipv6 => drop_v6(1),
            Kind::Range4 => Rule::drop(Match::range(net("127.0.11.0/24"))),
            Kind::Range6 => Rule::drop(Match::range(net("2001:db8::/32"))),
            Kind::Qname => drop_name("evil.example"),
            Kind::Suffix => Rule::drop(Match::suffix(name("evil.example"), Qtypes::All)),
            other => panic!("a new kind of rule: {other}"),
        }
    };
    for unused in Kind::ALL {
        let size = |kind| u32::from(kind != unused);
        let world = new(BpfFilter::builder()
            .ipv4_max(size(Kind::Ipv4))
            .ipv6_max(size(Kind::Ipv6))
            .ranges4_max(size(Kind::Range4))
            .ranges6_max(size(Kind::Range6))
            .qnames_max(size(Kind::Qname))
            .suffixes_max(size(Kind::Suffix)));
        assert_eq!(world.filter.capacity(unused), 0);
        let outcome = world.filter.insert(of_kind(unused));
        assert!(matches!(outcome, Err(RuleError::KindNotUsed(kind)) if kind == unused), "{outcome:?}");
        assert!(outcome.unwrap_err().to_string().contains(unused.setting()));
        let outcome = world.filter.remove(&of_kind(unused).matches);
        assert!(matches!(outcome, Err(RuleError::KindNotUsed(kind)) if kind == unused), "{outcome:?}");
        let all = Kind::ALL.map(of_kind);
        assert!(matches!(world.filter.insert_many(all), Err(RuleError::KindNotUsed(kind)) if kind == unused));
        assert_eq!(stats(&world), "");
        assert!(world.passes(client(1), &query("evil.example.", A)));
        for used in Kind::ALL.into_iter().filter(|kind| *kind != unused) {
            world.filter.insert(of_kind(used)).unwrap();
        }
    }
}

fn nothing_is_blocked_after_clear(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.clear().unwrap();
    world
        .filter
        .insert_many((1..=9).map(drop_client).chain([drop_name("evil.example"), drop_v6(1)]))
        .unwrap();
    assert!(!world.passes(client(1), &query("evil.example.", A)));
    world.filter.clear().unwrap();
    assert_eq!(stats(&world), "");
    assert!(world.passes(client(1), &query("evil.example.", A)));
    assert!(matches!(world.filter.unblock(client(1)), Err(RuleError::Missing(_))));
    world.filter.block(client(1)).unwrap();
    assert!(!world.passes(client(1), &query("example.", A)));
    assert_eq!(stats(&world), "127.0.11.1: 1\n");
}

fn counters_start_anew(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.block(client(1)).unwrap();
    world.filter.insert(Rule::new(Match::address(client(2)), Action::Count)).unwrap();
    world.filter.insert(Rule::new(Match::qname(name("a.example"), Qtypes::Only(A)), Action::Pass)).unwrap();
    let send = || {
        assert!(!world.passes(client(1), &query("example.", A)));
        assert!(world.passes(client(2), &query("example.", A)));
        assert!(world.passes(client(3), &query("a.example.", A)));
    };
    send();
    send();
    assert_eq!(stats(&world), "127.0.11.1: 2\n127.0.11.2: 2\na.example. 1: 2\n");
    world.filter.reset_hits().unwrap();
    assert_eq!(stats(&world), "127.0.11.1: 0\n127.0.11.2: 0\na.example. 1: 0\n");
    send();
    assert_eq!(stats(&world), "127.0.11.1: 1\n127.0.11.2: 1\na.example. 1: 1\n");
    // A rule that is added again starts at zero, too.
    world.filter.unblock(client(1)).unwrap();
    world.filter.block(client(1)).unwrap();
    assert_eq!(stats(&world), "127.0.11.1: 0\n127.0.11.2: 1\na.example. 1: 1\n");
}

fn full_maps_can_be_reset(new: NewWorld) {
    let world = new(small());
    let rules =
        [1, 2].map(drop_client).into_iter().chain(["a", "b"].map(drop_name)).chain([1, 2].map(drop_v6));
    world.filter.insert_many(rules).unwrap();
    assert!(!world.passes(client(1), &query("a.", A)));
    assert!(!world.passes(BYSTANDER, &query("b.", A)));
    world.filter.reset_hits().unwrap();
    assert!(world.filter.stats().unwrap().rules.iter().all(|entry| entry.hits == 0));
    assert!(!world.passes(client(2), &query("c.", A)));
    assert!(!world.passes(BYSTANDER, &query("a.", A)));
}

fn one_map_for_all_rules_of_a_name(new: NewWorld) {
    let world = new(small());
    world.filter.block_qname(&name("a"), Qtypes::Only(A)).unwrap();
    world.filter.block_qname(&name("a"), Qtypes::All).unwrap();
    assert_full(world.filter.block_qname(&name("a"), Qtypes::Only(AAAA)), Kind::Qname, 2);
    world.filter.unblock_qname(&name("a"), Qtypes::All).unwrap();
    assert!(world.passes(BYSTANDER, &query("a.", AAAA)));
    world.filter.block_qname(&name("a"), Qtypes::Only(AAAA)).unwrap();
    assert!(!world.passes(BYSTANDER, &query("a.", AAAA)));
}

/// Ten thousand of a kind, up to the last one.
fn as_many_as_there_is_room_for(new: NewWorld) {
    const MANY: u32 = 10_000;
    let world = new(BpfFilter::builder().ipv4_max(MANY).ipv6_max(1).qnames_max(MANY));
    let address = |number: u32| Match::address(Ipv4Addr::from_bits(0x7f0d_0000 + number));
    let qname = |number: u32| Match::qname(name(&format!("n{number}.example")), Qtypes::All);
    let rules = |of: &dyn Fn(u32) -> Match, numbers: std::ops::Range<u32>| {
        numbers.map(of).map(Rule::drop).collect::<Vec<_>>()
    };
    world.filter.insert_many(rules(&address, 0..MANY)).unwrap();
    world.filter.insert_many(rules(&qname, 0..MANY)).unwrap();
    assert_full(world.filter.insert(Rule::drop(address(MANY))), Kind::Ipv4, MANY);
    assert_full(world.filter.insert(Rule::drop(qname(MANY))), Kind::Qname, MANY);
    assert_eq!(world.filter.stats().unwrap().rules.len(), 2 * MANY as usize);
    assert!(!world.passes(Ipv4Addr::from_bits(0x7f0d_0000 + MANY - 1), &query("example.", A)));
    assert!(!world.passes(BYSTANDER, &query("n9999.example.", A)));
    for number in [0, MANY / 2, MANY - 1] {
        world.filter.remove(&address(number)).unwrap();
        world.filter.remove(&qname(number)).unwrap();
    }
    assert_full(world.filter.insert_many(rules(&address, MANY..MANY + 4)), Kind::Ipv4, MANY);
    assert_full(world.filter.insert_many(rules(&qname, MANY..MANY + 4)), Kind::Qname, MANY);
    assert_eq!(world.filter.stats().unwrap().rules.len(), 2 * (MANY as usize - 3));
    world.filter.insert_many(rules(&address, MANY..MANY + 3)).unwrap();
    world.filter.insert_many(rules(&qname, MANY..MANY + 3)).unwrap();
    assert!(!world.passes(BYSTANDER, &query("n10002.example.", A)));
    assert!(world.passes(BYSTANDER, &query("n9999.example.", A)));
}

#[test]
fn a_map_that_is_too_large_is_an_error_or_left_to_user_space() {
    require_kernel!();
    let kinds: [(&str, WithSize); 6] = [
        ("IPV4", BpfFilterBuilder::ipv4_max),
        ("IPV6", BpfFilterBuilder::ipv6_max),
        ("RANGES4", BpfFilterBuilder::ranges4_max),
        ("RANGES6", BpfFilterBuilder::ranges6_max),
        ("NAMES", BpfFilterBuilder::qnames_max),
        ("NAMES", BpfFilterBuilder::suffixes_max),
    ];
    for (expected, sized) in kinds {
        let builder = sized(BpfFilter::builder(), u32::MAX);
        let Err(BuildError::Kernel(reason)) = builder.clone().mode(Mode::Require).build() else {
            panic!("{expected} has four billion entries")
        };
        assert!(matches!(&*reason, Unavailable::MapTooLarge { map, .. } if map == expected), "{reason:?}");
        assert!(reason.to_string().contains(expected));
        let filter = builder.mode(Mode::Prefer).build().unwrap();
        let status = filter.status();
        assert_eq!(status.enforcement, Enforcement::UserSpace);
        assert!(matches!(status.reason.as_deref(), Some(Unavailable::MapTooLarge { .. })));
        filter.block(client(1)).unwrap();
        assert_eq!(filter.stats().unwrap().to_string(), "127.0.11.1: 0\n");
    }
}
