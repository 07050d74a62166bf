//! Names and all below them: on label boundaries, the longest suffix first, exact rules before any.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::Ipv4Addr;

use ebpf_filter::{Action, BpfFilter, BpfFilterBuilder, Match, QName, Qtypes, Query, Rule, Verdict};
use ebpf_filter_tests::{
    dns::{A, AAAA, MX, query, raw_query, wire_name},
    hits, in_both_worlds,
    world::World,
};

type NewWorld = fn(BpfFilterBuilder) -> World;

in_both_worlds!(
    a_suffix_stops_the_name_and_all_below_it,
    labels_are_not_cut,
    the_longest_suffix_decides,
    an_exact_rule_comes_before_a_suffix,
    types_are_asked_one_first_then_all,
    what_only_counts_does_not_decide,
    the_root_covers_every_name,
    names_of_127_labels_and_255_bytes,
    dots_and_zeroes_in_labels_are_no_boundaries,
    removal_takes_the_rule_and_no_other,
    a_million_suffixes,
);

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 22, 1);

fn name(text: &str) -> QName {
    text.parse().unwrap()
}

fn suffix(text: &str, qtypes: Qtypes) -> Match {
    Match::suffix(name(text), qtypes)
}

fn passes(world: &World, text: &str) -> bool {
    world.passes(CLIENT, &query(text, A))
}

#[track_caller]
fn assert_fates(world: &World, passing: &[&str], dropped: &[&str]) {
    for text in passing {
        assert!(passes(world, text), "{text}");
    }
    for text in dropped {
        assert!(!passes(world, text), "{text}");
    }
}

fn a_suffix_stops_the_name_and_all_below_it(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.block_suffix(&name("Evil.Example"), Qtypes::All).unwrap();
    assert_fates(
        &world,
        &["example.", ".", "good.example.", "evil.example.org.", "evil.", "evil.test."],
        &["evil.example.", "EVIL.eXaMpLe.", "www.evil.example.", "a.b.c.d.e.f.WWW.Evil.EXAMPLE."],
    );
    assert_eq!(world.filter.stats().unwrap().to_string(), "*.evil.example. 255: 4\n");
    let client = CLIENT.into();
    assert_eq!(world.filter.check(&Query::new(client, &name("x.evil.example"), A)), Verdict::Drop);
    assert_eq!(world.filter.check(&Query::new(client, &name("notevil.example"), A)), Verdict::Pass);
}

fn labels_are_not_cut(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.block_suffix(&name("evil.example"), Qtypes::All).unwrap();
    // Whatever stands before it in the same label, and wherever that puts the label in a word.
    for len in 1..=59 {
        let label = format!("{}evil", "x".repeat(len));
        assert!(passes(&world, &format!("{label}.example.")), "{label}");
        assert!(!passes(&world, &format!("{}.evil.example.", "x".repeat(len))), "{len}");
    }
}

fn the_longest_suffix_decides(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.block_suffix(&name("example"), Qtypes::All).unwrap();
    world.filter.insert(Rule::new(suffix("good.example", Qtypes::All), Action::Pass)).unwrap();
    world.filter.block_suffix(&name("bad.good.example"), Qtypes::All).unwrap();
    assert_fates(
        &world,
        &["good.example.", "www.good.example.", "notbad.good.example."],
        &["example.", "www.example.", "notgood.example.", "bad.good.example.", "a.b.bad.good.example."],
    );
    let expected = "*.bad.good.example. 255: 2\n*.good.example. 255: 3\n*.example. 255: 3\n";
    let mut lines: Vec<_> = world.filter.stats().unwrap().to_string().lines().map(str::to_owned).collect();
    lines.sort();
    let mut expected: Vec<_> = expected.lines().collect();
    expected.sort_unstable();
    assert_eq!(lines, expected);
}

fn an_exact_rule_comes_before_a_suffix(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.block_suffix(&name("www.example"), Qtypes::Only(A)).unwrap();
    world.filter.insert(Rule::new(Match::qname(name("www.example"), Qtypes::All), Action::Pass)).unwrap();
    assert_fates(&world, &["www.example."], &["x.www.example."]);
    assert_eq!(hits(&world.filter, &suffix("www.example", Qtypes::Only(A))), 1);
    // An exact rule says nothing about what is below.
    world.filter.unblock_suffix(&name("www.example"), Qtypes::Only(A)).unwrap();
    assert_fates(&world, &["www.example.", "x.www.example."], &[]);
}

fn types_are_asked_one_first_then_all(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.block_suffix(&name("example"), Qtypes::All).unwrap();
    world.filter.insert(Rule::new(suffix("example", Qtypes::Only(AAAA)), Action::Pass)).unwrap();
    world.filter.insert(Rule::new(suffix("a.example", Qtypes::Only(MX)), Action::Pass)).unwrap();
    let passes = |text: &str, qtype| world.passes(CLIENT, &query(text, qtype));
    assert!(!passes("x.example.", A));
    assert!(passes("x.example.", AAAA));
    // The longer one has no rule for the type, the shorter one has.
    assert!(passes("a.example.", MX));
    assert!(passes("b.a.example.", MX));
    assert!(passes("a.example.", AAAA));
    assert!(!passes("a.example.", A));
}

fn what_only_counts_does_not_decide(new: NewWorld) {
    let world = new(BpfFilter::builder());
    let counted = [
        Match::qname(name("a.b.example"), Qtypes::Only(A)),
        Match::qname(name("a.b.example"), Qtypes::All),
        suffix("a.b.example", Qtypes::Only(A)),
        suffix("a.b.example", Qtypes::All),
        suffix("b.example", Qtypes::Only(A)),
        suffix("b.example", Qtypes::All),
        suffix("example", Qtypes::Only(A)),
    ];
    for of in &counted {
        world.filter.insert(Rule::new(of.clone(), Action::Count)).unwrap();
    }
    world.filter.block_suffix(&name("example"), Qtypes::All).unwrap();
    world.filter.insert(Rule::new(suffix(".", Qtypes::Only(MX)), Action::Count)).unwrap();
    world.filter.insert(Rule::new(suffix("test", Qtypes::All), Action::Count)).unwrap();
    assert!(!passes(&world, "a.b.example."));
    for of in &counted {
        assert_eq!(hits(&world.filter, of), 1, "{of}");
    }
    assert_eq!(hits(&world.filter, &suffix("example", Qtypes::All)), 1);
    assert_eq!(hits(&world.filter, &suffix(".", Qtypes::Only(MX))), 0);
    assert_eq!(hits(&world.filter, &suffix("test", Qtypes::All)), 0);
}

fn the_root_covers_every_name(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.block_suffix(&QName::root(), Qtypes::Only(MX)).unwrap();
    for text in [".", "example.", "a.b.c.d.example."] {
        assert!(!world.passes(CLIENT, &query(text, MX)), "{text}");
        assert!(world.passes(CLIENT, &query(text, A)), "{text}");
    }
    assert_eq!(world.filter.stats().unwrap().to_string(), "*. 15: 3\n");
}

fn names_of_127_labels_and_255_bytes(new: NewWorld) {
    let world = new(BpfFilter::builder());
    let labels = |count: usize, last: &[u8]| {
        let mut labels: Vec<&[u8]> = vec![b"q"; count - 1];
        labels.push(last);
        wire_name(&labels)
    };
    let long = wire_name(&[&[b'x'; 63], &[b'y'; 63], &[b'z'; 63], &[b'w'; 61]]);
    assert_eq!((labels(127, b"z").len(), long.len()), (255, 255));
    for wire in [labels(127, b"z"), labels(126, b"y"), labels(1, b"v"), long.clone(), long[64..].to_vec()] {
        world.filter.block_suffix(&QName::from_wire(&wire).unwrap(), Qtypes::All).unwrap();
    }
    let passes = |wire: &[u8]| world.passes(CLIENT, &raw_query(wire, A));
    assert!(!passes(&labels(127, b"z")));
    assert!(passes(&labels(126, b"z")));
    assert!(!passes(&labels(127, b"Y")));
    assert!(!passes(&labels(126, b"y")));
    assert!(passes(&labels(125, b"y")));
    // All 126 labels in front of the one with a rule are asked about.
    assert!(!passes(&labels(127, b"v")));
    assert!(!passes(&long));
    assert!(!passes(&wire_name(&[&[b'a'; 30], &[b'b'; 32], &[b'Y'; 63], &[b'z'; 63], &[b'W'; 61]])));
    assert!(passes(&wire_name(&[&[b'a'; 30], &[b'b'; 32], &[b'Y'; 63], &[b'z'; 63], &[b'v'; 61]])));
}

fn dots_and_zeroes_in_labels_are_no_boundaries(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.block_suffix(&name("evil.example"), Qtypes::All).unwrap();
    let passes = |labels: &[&[u8]]| world.passes(CLIENT, &raw_query(&wire_name(labels), A));
    assert!(passes(&[b"evil.example"]));
    assert!(passes(&[b"a.evil", b"example"]));
    assert!(passes(&[b"\x04evil\x07example\x00"]));
    assert!(passes(&[b"x", b"\x04evil\x07example"]));
    assert!(!passes(&[b"\x00", b"evil", b"example"]));
    assert!(!passes(&[b"a.b\x00c", b"evil", b"example"]));
}

fn removal_takes_the_rule_and_no_other(new: NewWorld) {
    let world = new(BpfFilter::builder());
    let texts = ["evil.example", "a.evil.example", "example", "evil.test"];
    for text in texts {
        world.filter.block_suffix(&name(text), Qtypes::All).unwrap();
        world.filter.block_qname(&name(text), Qtypes::All).unwrap();
    }
    world.filter.unblock_suffix(&name("example"), Qtypes::All).unwrap();
    world.filter.unblock_suffix(&name("a.EVIL.example"), Qtypes::All).unwrap();
    assert_fates(&world, &["www.example."], &["example.", "b.a.evil.example.", "x.evil.test."]);
    world.filter.unblock_suffix(&name("evil.example"), Qtypes::All).unwrap();
    assert_fates(&world, &["b.a.evil.example.", "x.evil.example."], &["a.evil.example.", "evil.example."]);
    assert_eq!(world.filter.stats().unwrap().rules.len(), 5);
}

fn a_million_suffixes(new: NewWorld) {
    const MANY: u32 = 1_000_000;
    let world = new(BpfFilter::builder().suffixes_max(MANY + 2).qnames_max(0));
    let of = |number: u32| suffix(&format!("blocked-{number}.example"), Qtypes::All);
    world.filter.insert_many((0..MANY).map(|number| Rule::drop(of(number)))).unwrap();
    let long = wire_name(&[&[b'x'; 63], &[b'y'; 63], &[b'z'; 63], &[b'w'; 61]]);
    world.filter.block_suffix(&QName::from_wire(&long).unwrap(), Qtypes::All).unwrap();
    for number in (0..MANY).step_by(99_991) {
        assert!(!passes(&world, &format!("blocked-{number}.example.")));
        assert!(!passes(&world, &format!("www.BLOCKED-{number}.example.")));
        assert!(passes(&world, &format!("www.not-blocked-{number}.example.")));
        assert_eq!(hits(&world.filter, &of(number)), 2);
    }
    assert!(!world.passes(CLIENT, &raw_query(&long, A)));
    world.filter.remove(&of(MANY - 1)).unwrap();
    assert!(passes(&world, &format!("blocked-{}.example.", MANY - 1)));
}
