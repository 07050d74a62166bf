//! One thread changes a table while others look rules up in it: a rule that is always there is always found.
//!
//! The kernel reads while user space writes, so whatever a reader can see in between must do no harm.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use ebpf_prog::{
    lengths::Lengths,
    rule::{Action, Ipv4Node, Ipv4Prefix, Seed, Terms},
    table::{Bucket, Slots as _, Table, find},
};
use zerocopy::FromZeros as _;

/// Long enough for millions of changes.
const TIME: Duration = Duration::from_secs(2);

const SEED: Seed = Seed::new(0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);

fn prefix(address: u32) -> Ipv4Prefix {
    Ipv4Prefix::of(address.into(), Ipv4Prefix::MAX_LEN)
}

/// As a decision looks a rule up.
fn is_found(nodes: &[Ipv4Node], prefix: Ipv4Prefix) -> bool {
    let Some(mut bucket) = Bucket::of(nodes, prefix.hash(SEED)) else { return false };
    let mut turns = 0..Bucket::MAX_TURNS;
    while let (Some(_), Some(node)) = (turns.next(), bucket.next(nodes)) {
        if node.is(prefix) {
            return true;
        }
        bucket.stay(nodes, node, SEED);
    }
    false
}

fn bucket_of(nodes: &[Ipv4Node], address: u32) -> u64 {
    u64::from(prefix(address).hash(SEED)) >> nodes.shift()
}

/// Calls `change` over and over while other threads call `look`, and says how often that was true and how often not.
fn while_changing(mut change: impl FnMut(u32), look: impl Fn() -> bool + Sync) -> (u64, u64) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let (mut found, mut missed) = (0, 0);
                    while !stop.load(Relaxed) {
                        if look() { found += 1 } else { missed += 1 }
                    }
                    (found, missed)
                })
            })
            .collect();
        let end = Instant::now() + TIME;
        for turn in 0.. {
            change(turn);
            if turn % 64 == 0 && Instant::now() > end {
                break;
            }
        }
        stop.store(true, Relaxed);
        readers
            .into_iter()
            .map(|reader| reader.join().unwrap())
            .fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    })
}

fn churn(max: u32) -> (u64, u64) {
    let nodes: Vec<_> = (0..Table::nodes(max)).map(|_| Ipv4Node::default()).collect();
    let mut table = Table::new(SEED, max);
    let steady = 1;
    // Half of what comes and goes shares a bucket with the rule that stays, in front of it.
    let beside = (2..).filter(|other| bucket_of(&nodes, *other) == bucket_of(&nodes, steady));
    let elsewhere = (2..).filter(|other| bucket_of(&nodes, *other) != bucket_of(&nodes, steady));
    let others: Vec<u32> = beside.take(8).chain(elsewhere.take(8)).collect();
    table.insert_ipv4(&nodes, prefix(steady), Terms::new(Action::Drop, 0)).unwrap();
    let mut state = 1_u32;
    while_changing(
        |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let other = prefix(others[(state >> 16) as usize % others.len()]);
            match find(&nodes, other.hash(SEED), |node: &Ipv4Node| node.is(other)) {
                Some(index) => table.remove(&nodes, &nodes[index as usize]),
                None => drop(table.insert_ipv4(&nodes, other, Terms::new(Action::Pass, 0))),
            }
        },
        || is_found(&nodes, prefix(steady)),
    )
}

#[test]
fn a_rule_that_stays_is_found_while_others_come_and_go() {
    for max in [2, 3, 6, 12, 24] {
        let (found, missed) = churn(max);
        assert_eq!(missed, 0, "missed {missed} times, found {found} times in a table for {max} rules");
    }
}

#[test]
fn a_length_that_stays_is_found_while_others_come_and_go() {
    let lengths = Lengths::new_zeroed();
    lengths.add(16);
    for others in [&[24][..], &[8], &[24, 8, 20, 0, 32, 12]] {
        let mut in_use = vec![false; others.len()];
        let (found, missed) = while_changing(
            |turn| {
                let which = turn as usize % others.len();
                if in_use[which] {
                    lengths.remove(others[which]);
                } else {
                    lengths.add(others[which]);
                }
                in_use[which] = !in_use[which];
            },
            || {
                (0..Lengths::PLACES)
                    .map(|index| lengths.place(index))
                    .take_while(|place| *place != 0)
                    .any(|place| place == 17)
            },
        );
        assert_eq!(missed, 0, "missed {missed} times, found {found} times while {others:?} come and go");
        others.iter().zip(in_use).filter(|(_, in_use)| *in_use).for_each(|(len, _)| lengths.remove(*len));
    }
}

/// Whatever comes and goes, in whatever order, the list has what is in use, the longest first.
#[test]
fn lengths_stay_in_order() {
    let lengths = Lengths::new_zeroed();
    let mut in_use = std::collections::BTreeSet::new();
    let mut state = 7_u64;
    for _ in 0..200_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let len = u8::try_from((state >> 33) % 129).unwrap();
        if in_use.remove(&len) {
            lengths.remove(len);
        } else {
            in_use.insert(len);
            lengths.add(len);
        }
        assert_eq!(lengths_of(&lengths), in_use.iter().rev().copied().collect::<Vec<_>>());
    }
}

fn lengths_of(lengths: &Lengths) -> Vec<u8> {
    let places = (0..Lengths::PLACES).map(|index| lengths.place(index)).take_while(|place| *place != 0);
    let mut list: Vec<_> = places.map(|place| place - 1).collect();
    list.dedup();
    list
}
