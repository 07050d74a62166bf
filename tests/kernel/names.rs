//! Which names a rule for a name matches, over the wire: exactly that one, in any case.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{collections::HashMap, net::UdpSocket};

use ebpf_filter::{Action, BpfFilter, Malformed, Match, Mode, QName, Qtypes, Rule};
use ebpf_filter_tests::{
    dns::{A, AAAA, ANY, query, raw_query, wire_name},
    hits, require_kernel,
    wire::Wire,
};
use ebpf_prog::shape::Shape;

struct Guarded {
    filter: BpfFilter,
    wire: Wire,
    client: UdpSocket,
}

impl Guarded {
    /// Messages that cannot be read are dropped, so whatever passes was read.
    fn new() -> Self {
        let filter = BpfFilter::builder().malformed(Malformed::Drop).mode(Mode::Require).build().unwrap();
        let wire = Wire::ipv4();
        filter.attach(wire.server()).unwrap();
        let client = wire.client([127, 0, 4, 1]);
        Self { filter, wire, client }
    }

    fn block(&self, name: &[u8]) {
        self.filter.block_qname(&QName::from_wire(name).unwrap(), Qtypes::All).unwrap();
    }

    #[track_caller]
    fn assert_drops(&self, name: &[u8]) {
        self.wire.assert_drops(&self.client, &raw_query(name, A));
    }

    #[track_caller]
    fn assert_passes(&self, name: &[u8]) {
        self.wire.assert_passes(&self.client, &raw_query(name, A));
    }
}

/// 255 bytes with the root label.
fn longest() -> Vec<u8> {
    let name = wire_name(&[&[b'a'; 63], &[b'b'; 63], &[b'c'; 63], &[b'd'; 61]]);
    assert_eq!(name.len(), QName::MAX_LEN);
    name
}

#[test]
fn one_character() {
    require_kernel!();
    let guarded = Guarded::new();
    guarded.block(&wire_name(&[b"a"]));
    guarded.assert_drops(&wire_name(&[b"a"]));
    guarded.assert_drops(&wire_name(&[b"A"]));
    for other in ["", "b", "aa", "a.a", "b.a", "a.b"] {
        guarded.wire.assert_passes(&guarded.client, &query(&format!("{other}."), A));
    }
    guarded.assert_passes(&wire_name(&[b"\0"]));
}

#[test]
fn the_root() {
    require_kernel!();
    let guarded = Guarded::new();
    guarded.filter.block_qname(&QName::root(), Qtypes::Only(ANY)).unwrap();
    guarded.wire.assert_drops(&guarded.client, &raw_query(&[0], ANY));
    guarded.wire.assert_drops(&guarded.client, &query(".", ANY));
    guarded.assert_passes(&[0]);
    guarded.wire.assert_passes(&guarded.client, &query("example.", ANY));
    guarded.filter.block_qname(&QName::root(), Qtypes::All).unwrap();
    guarded.assert_drops(&[0]);
    guarded.assert_passes(&wire_name(&[b"com"]));
    assert_eq!(guarded.filter.stats().unwrap().to_string(), ". 255: 1\n. ANY: 2\n");
}

#[test]
fn labels_of_63_bytes() {
    require_kernel!();
    let guarded = Guarded::new();
    let long = [b'x'; 63];
    guarded.block(&wire_name(&[&long, b"example"]));
    guarded.assert_drops(&wire_name(&[&long, b"example"]));
    guarded.assert_drops(&wire_name(&[&[b'X'; 63], b"EXAMPLE"]));
    guarded.assert_passes(&wire_name(&[&long[..62], b"example"]));
    guarded.assert_passes(&wire_name(&[&long[..62], b"x", b"example"]));
    guarded.assert_passes(&wire_name(&[&long, &long, b"example"]));
}

#[test]
fn names_of_255_bytes() {
    require_kernel!();
    let guarded = Guarded::new();
    let longest = longest();
    guarded.block(&longest);
    guarded.assert_drops(&longest);
    guarded.assert_drops(&longest.to_ascii_uppercase());
    let mut other = longest.clone();
    other[253] = b'x';
    guarded.assert_passes(&other);
    let mut other = longest.clone();
    other[1] = b'x';
    guarded.assert_passes(&other);
    guarded.assert_passes(&longest[64..]);
    assert_eq!(guarded.filter.stats().unwrap().malformed_total(), 0);
}

/// The end of the question decides on the type, whatever is behind it.
#[test]
fn the_type_behind_the_longest_name_is_read() {
    require_kernel!();
    let guarded = Guarded::new();
    let longest = longest();
    guarded.filter.block_qname(&QName::from_wire(&longest).unwrap(), Qtypes::Only(AAAA)).unwrap();
    guarded.assert_passes(&longest);
    guarded.wire.assert_drops(&guarded.client, &raw_query(&longest, AAAA));
    let with_more = [&raw_query(&longest, AAAA)[..], &[0; 600]].concat();
    guarded.wire.assert_drops(&guarded.client, &with_more);
}

#[test]
fn labels_127() {
    require_kernel!();
    let guarded = Guarded::new();
    let most = wire_name(&[&b"a"[..]; 127]);
    assert_eq!(most.len(), QName::MAX_LEN);
    guarded.block(&most);
    guarded.assert_drops(&most);
    guarded.assert_drops(&most.to_ascii_uppercase());
    guarded.assert_passes(&most[2..]);
    let mut other = most.clone();
    other[127] = b'b';
    guarded.assert_passes(&other);
}

#[test]
fn every_length_has_its_own_rule() {
    require_kernel!();
    let guarded = Guarded::new();
    let name = |len: usize| {
        let labels: Vec<_> = vec![b'n'; len].chunks(20).map(<[u8]>::to_vec).collect();
        wire_name(&labels.iter().map(Vec::as_slice).collect::<Vec<_>>())
    };
    let lengths = 1..=240;
    for len in lengths.clone().step_by(2) {
        guarded.block(&name(len));
    }
    for len in lengths {
        let passes = guarded.wire.passes(&guarded.client, &raw_query(&name(len), A));
        assert_eq!(passes, len % 2 == 0, "{len} bytes");
    }
}

#[test]
fn mixed_case() {
    require_kernel!();
    let guarded = Guarded::new();
    guarded.filter.block_qname(&"EvilDomain.Com".parse().unwrap(), Qtypes::All).unwrap();
    for name in ["evildomain.com.", "EVILDOMAIN.COM.", "eViLdOmAiN.cOm.", "Evildomain.coM."] {
        guarded.wire.assert_drops(&guarded.client, &query(name, A));
    }
    assert_eq!(guarded.filter.stats().unwrap().to_string(), "evildomain.com. 255: 4\n");
}

/// Lower case is an ASCII affair: bytes next to the letters, and those with the high bit, stay what they are.
#[test]
fn only_letters_have_a_case() {
    require_kernel!();
    let guarded = Guarded::new();
    guarded.block(&wire_name(&[b"a[@`{\xc0\xe0z"]));
    guarded.assert_drops(&wire_name(&[b"A[@`{\xc0\xe0Z"]));
    for other in
        [b"a{@`{\xc0\xe0z", b"a[``{\xc0\xe0z", b"a[@`[\xc0\xe0z", b"a[@`{\xe0\xe0z", b"a[@`{\xc0\xc0z"]
    {
        guarded.assert_passes(&wire_name(&[other]));
    }
}

#[test]
fn zero_bytes_and_dots_in_labels() {
    require_kernel!();
    let guarded = Guarded::new();
    guarded.filter.block_qname(&r"evil\000x.example".parse().unwrap(), Qtypes::All).unwrap();
    guarded.filter.block_qname(&r"dot\.ted.example".parse().unwrap(), Qtypes::All).unwrap();
    guarded.assert_drops(&wire_name(&[b"evil\0x", b"example"]));
    guarded.assert_drops(&wire_name(&[b"EVIL\0X", b"example"]));
    guarded.assert_passes(&wire_name(&[b"evil\0y", b"example"]));
    guarded.assert_passes(&wire_name(&[b"evil\0\0", b"example"]));
    guarded.assert_passes(&wire_name(&[b"evil", b"x", b"example"]));
    guarded.assert_passes(&wire_name(&[b"evil"]));
    guarded.assert_drops(&wire_name(&[b"dot.ted", b"example"]));
    guarded.assert_passes(&wire_name(&[b"dot", b"ted", b"example"]));
    guarded.assert_passes(&wire_name(&[b"dot", b"ted.example"]));
    // Looks like the labels of the other name, with their lengths.
    guarded.assert_passes(&wire_name(&[b"dot.ted\x07example"]));
}

#[test]
fn longer_and_shorter_names_pass() {
    require_kernel!();
    let guarded = Guarded::new();
    guarded.block(&wire_name(&[b"evil", b"example"]));
    guarded.assert_drops(&wire_name(&[b"evil", b"example"]));
    for other in [
        &[&b"evil"[..], b"example", b"com"][..],
        &[b"www", b"evil", b"example"],
        &[b"notevil", b"example"],
        &[b"evil", b"examples"],
        &[b"evil", b"exampl"],
        &[b"evil"],
        &[b"example"],
        &[b"evilexample"],
        &[b"evil.example"],
        &[b"example", b"evil"],
    ] {
        guarded.assert_passes(&wire_name(other));
    }
    let rule = Match::qname("evil.example".parse().unwrap(), Qtypes::All);
    assert_eq!(hits(&guarded.filter, &rule), 1);
}

#[test]
fn each_of_several_rules_counts_its_own() {
    require_kernel!();
    let guarded = Guarded::new();
    let name = |number: usize| format!("name{number}.example.");
    let rules: Vec<_> = (0..500)
        .map(|number| Rule::drop(Match::qname(name(number).parse().unwrap(), Qtypes::Only(A))))
        .collect();
    guarded.filter.insert_many(rules.clone()).unwrap();
    for number in 0..rules.len() {
        guarded.wire.assert_drops(&guarded.client, &query(&name(number), A));
    }
    guarded.wire.assert_passes(&guarded.client, &query(&name(500), A));
    guarded.wire.assert_passes(&guarded.client, &query(&name(0), AAAA));
    assert!(guarded.filter.stats().unwrap().rules.iter().all(|entry| entry.hits == 1));
}

/// One type before all types; what only counts does not decide.
#[test]
fn the_first_rule_that_decides_wins() {
    require_kernel!();
    let guarded = Guarded::new();
    let name: QName = "example.com".parse().unwrap();
    let rule = |qtypes, action| Rule::new(Match::qname(name.clone(), qtypes), action);
    guarded.filter.insert(rule(Qtypes::All, Action::Drop)).unwrap();
    guarded.filter.insert(rule(Qtypes::Only(A), Action::Pass)).unwrap();
    guarded.filter.insert(rule(Qtypes::Only(AAAA), Action::Count)).unwrap();
    guarded.wire.assert_passes(&guarded.client, &query("example.com.", A));
    guarded.wire.assert_drops(&guarded.client, &query("example.com.", AAAA));
    guarded.wire.assert_drops(&guarded.client, &query("example.com.", ANY));
    let expected = "example.com. 255: 2\nexample.com. 1: 1\nexample.com. 28: 1\n";
    assert_eq!(guarded.filter.stats().unwrap().to_string(), expected);

    let source = [127, 0, 4, 9];
    guarded.filter.insert(Rule::new(Match::address(source), Action::Pass)).unwrap();
    guarded.wire.assert_passes(&guarded.wire.client(source), &query("example.com.", ANY));
}

/// Whatever carries a question is decided by it: answers, notifications and updates, too, of any class.
#[test]
fn only_the_question_counts() {
    require_kernel!();
    let guarded = Guarded::new();
    guarded.block(&wire_name(&[b"evil", b"example"]));
    let evil = raw_query(&wire_name(&[b"evil", b"example"]), A);
    for flags in [[0x80, 0], [0x28, 0], [0x20, 0], [0xff, 0xff]] {
        let mut message = evil.clone();
        message[2..4].copy_from_slice(&flags);
        guarded.wire.assert_drops(&guarded.client, &message);
    }
    let mut chaos = evil.clone();
    *chaos.last_mut().unwrap() = 3;
    guarded.wire.assert_drops(&guarded.client, &chaos);
    // The first of two questions is what servers answer.
    let mut two = raw_query(&wire_name(&[b"good", b"example"]), A);
    two[5] = 2;
    two.extend(&evil[12..]);
    guarded.wire.assert_passes(&guarded.client, &two);
}

/// The programs look at the shape of a name before they look it up. Names share shapes.
#[test]
fn names_of_one_shape_do_not_hinder_each_other() {
    require_kernel!();
    let guarded = Guarded::new();
    let mut of_shape = HashMap::<_, Vec<_>>::new();
    let three = (0..)
        .find_map(|number| {
            let name = wire_name(&[format!("host-{number}").as_bytes(), b"example"]);
            // The sieve of a filter of the default size has 2^9 words.
            let place = Shape::of(&name).place(32 - 9);
            let alike = of_shape.entry((place.word, place.bits)).or_default();
            alike.push(name);
            (alike.len() == 3).then(|| alike.clone())
        })
        .unwrap();
    let [one, other, third] = &three[..] else { unreachable!() };
    let unblock = |name: &[u8], qtypes| {
        guarded.filter.unblock_qname(&QName::from_wire(name).unwrap(), qtypes).unwrap();
    };

    guarded.block(one);
    guarded.block(other);
    guarded.filter.block_qname(&QName::from_wire(other).unwrap(), Qtypes::Only(1)).unwrap();
    guarded.assert_drops(one);
    guarded.assert_drops(other);
    guarded.assert_passes(third);

    unblock(one, Qtypes::All);
    guarded.assert_passes(one);
    guarded.assert_drops(other);

    unblock(other, Qtypes::All);
    guarded.assert_drops(other);

    // A rule that is refused leaves the others as they were.
    assert!(guarded.filter.block_qname(&QName::from_wire(other).unwrap(), Qtypes::Only(1)).is_err());
    guarded.assert_drops(other);

    unblock(other, Qtypes::Only(1));
    guarded.assert_passes(other);
}
