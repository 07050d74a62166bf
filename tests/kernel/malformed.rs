//! Messages that are no well-formed queries, by reason and policy: the same in the kernel and in user space.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::Ipv4Addr;

use ebpf_filter::{BpfFilter, BpfFilterBuilder, Malformed, MalformedReason, Qtypes};
use ebpf_filter_tests::{
    dns::{A, HEADER, query, raw_query, wire_name, with_question},
    in_both_worlds,
    world::World,
};

type NewWorld = fn(BpfFilterBuilder) -> World;

in_both_worlds!(
    what_passes_is_counted_by_reason,
    what_is_dropped_is_counted_by_reason,
    nothing_is_read_without_a_reason,
    sources_come_first,
    the_question_must_be_whole,
);

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 14, 1);

fn unreadable() -> Vec<(MalformedReason, Vec<u8>)> {
    let good = query("example.", A);
    let no_question = [&with_question(&[])[..4], &[0; 8]].concat();
    let tail = [0, 1, 0, 1];
    let name_of_256 = wire_name(&[&[b'a'; 63], &[b'b'; 63], &[b'c'; 63], &[b'd'; 62]]);
    assert_eq!(name_of_256.len(), 256);
    let pointers = [&[0xc0, 0x0c][..], &[0xff, 0xff], b"\x03www\xc0\x0c"];
    let too_long = [64, 0x7f, 0x80, 0xbf].map(|len| [&[len][..], &[b'x'; 200], &[0], &tail].concat());
    let cut_short = [&b"\x05ab"[..], b"\x07example", b"\x07example\0", b"\x07example\0\0\x01\0", b"\0", b""];

    let mut response = good.clone();
    response[2] |= 0x80;

    let mut messages = vec![
        (MalformedReason::Response, response[..HEADER].to_vec()),
        (MalformedReason::Response, response),
        (MalformedReason::TooShort, vec![]),
        (MalformedReason::TooShort, vec![0]),
        (MalformedReason::TooShort, good[..HEADER - 1].to_vec()),
        (MalformedReason::NoQuestion, no_question.clone()),
        (MalformedReason::NoQuestion, [&no_question[..], &good[HEADER..]].concat()),
        (MalformedReason::NameTooLong, raw_query(&name_of_256, A)),
        (MalformedReason::NameTooLong, raw_query(&wire_name(&[&b"a"[..]; 128]), A)),
        (MalformedReason::NameTooLong, raw_query(&wire_name(&[&[b'x'; 63][..]; 20]), A)),
    ];
    // Whatever else is wrong with it, and whatever else the header says.
    let response = |message: &[u8], flags: [u8; 2]| [&message[..2], &flags, &message[4..]].concat();
    messages.extend([
        (MalformedReason::Response, response(&good, [0x80, 0])),
        (MalformedReason::Response, response(&good, [0xff, 0xff])),
        (MalformedReason::Response, response(&no_question, [0x84, 0])),
        (MalformedReason::Response, response(&with_question(b"\x05ab"), [0x80, 0])),
    ]);
    messages.extend(pointers.map(|name| (MalformedReason::Pointer, with_question(&[name, &tail].concat()))));
    messages.extend(too_long.map(|question| (MalformedReason::LabelTooLong, with_question(&question))));
    messages.extend(cut_short.map(|question| (MalformedReason::Truncated, with_question(question))));
    messages
}

#[track_caller]
fn assert_counts_each(world: &World, pass: bool) {
    let messages = unreadable();
    for (index, (reason, message)) in messages.iter().enumerate() {
        let before = world.filter.stats().unwrap();
        assert_eq!(world.passes(CLIENT, message), pass, "{message:02x?}");
        let after = world.filter.stats().unwrap();
        assert_eq!(after.malformed(*reason), before.malformed(*reason) + 1, "{message:02x?}");
        assert_eq!(after.malformed_total(), index as u64 + 1, "{message:02x?}");
    }
    for reason in MalformedReason::ALL {
        let expected = messages.iter().filter(|(of, _)| *of == reason).count();
        assert!(expected > 0);
        assert_eq!(world.filter.stats().unwrap().malformed(reason), expected as u64);
    }
    assert!(world.passes(CLIENT, &query("example.", A)));
}

fn what_passes_is_counted_by_reason(new: NewWorld) {
    let world = new(BpfFilter::builder().malformed(Malformed::Pass));
    world.filter.block_qname(&"evil.example".parse().unwrap(), Qtypes::Only(A)).unwrap();
    assert_counts_each(&world, true);
    assert_eq!(world.filter.stats().unwrap().to_string(), "evil.example. 1: 0\n");
}

fn what_is_dropped_is_counted_by_reason(new: NewWorld) {
    // With and without a rule that needs the name.
    let world = new(BpfFilter::builder().malformed(Malformed::Drop));
    assert_counts_each(&world, false);
    let world = new(BpfFilter::builder().malformed(Malformed::Drop));
    world.filter.block_qname(&"evil.example".parse().unwrap(), Qtypes::All).unwrap();
    assert_counts_each(&world, false);
}

fn nothing_is_read_without_a_reason(new: NewWorld) {
    let world = new(BpfFilter::builder().malformed(Malformed::Pass));
    world.filter.block([192, 0, 2, 1]).unwrap();
    let all_pass_uncounted = || {
        for (_, message) in unreadable() {
            assert!(world.passes(CLIENT, &message));
        }
    };
    all_pass_uncounted();
    assert_eq!(world.filter.stats().unwrap().malformed_total(), 0);
    let evil = "evil.example".parse().unwrap();
    world.filter.block_qname(&evil, Qtypes::All).unwrap();
    assert!(world.passes(CLIENT, &[0]));
    assert_eq!(world.filter.stats().unwrap().malformed_total(), 1);
    // With the last rule for a name the reading ends.
    world.filter.unblock_qname(&evil, Qtypes::All).unwrap();
    all_pass_uncounted();
    assert_eq!(world.filter.stats().unwrap().malformed_total(), 1);
}

fn sources_come_first(new: NewWorld) {
    let world = new(BpfFilter::builder().malformed(Malformed::Drop));
    world.filter.block(CLIENT).unwrap();
    for (_, message) in unreadable() {
        assert!(!world.passes(CLIENT, &message));
    }
    let stats = world.filter.stats().unwrap();
    assert_eq!(stats.malformed_total(), 0);
    assert_eq!(stats.to_string(), format!("127.0.14.1: {}\n", unreadable().len()));
}

/// Cut anywhere, a query that is blocked does not count as a hit.
fn the_question_must_be_whole(new: NewWorld) {
    let world = new(BpfFilter::builder().malformed(Malformed::Pass));
    let evil = "evil.example".parse().unwrap();
    world.filter.block_qname(&evil, Qtypes::All).unwrap();
    let message = query("evil.example.", A);
    for len in 0..message.len() {
        assert!(world.passes(CLIENT, &message[..len]), "{len} bytes");
    }
    assert!(!world.passes(CLIENT, &message));
    let stats = world.filter.stats().unwrap();
    assert_eq!(stats.malformed(MalformedReason::TooShort), HEADER as u64);
    assert_eq!(stats.malformed(MalformedReason::Truncated), (message.len() - HEADER) as u64);
    assert_eq!(stats.to_string(), "evil.example. 255: 1\n");
}
