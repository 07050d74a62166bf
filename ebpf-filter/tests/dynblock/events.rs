//! Who is told what.

use std::{
    sync::{Arc, Mutex, OnceLock},
    thread,
};

use ebpf_filter::{
    Query,
    dynblock::{
        DynBlockEventKind::{self, Expired, Extended, Inserted, Refreshed, RefusedByCap, Removed, Warned},
        DynBlockGroup, DynBlockGroupBuilder, Rate, Scope,
    },
};
use tokio::sync::broadcast::error::TryRecvError;

use crate::common::*;

type Told = Arc<Mutex<Vec<(DynBlockEventKind, String)>>>;

fn listening(builder: DynBlockGroupBuilder) -> (DynBlockGroupBuilder, Told) {
    let told = Told::default();
    let tell = Arc::clone(&told);
    let builder = builder.on_event(move |event| {
        tell.lock().unwrap().push((event.kind, event.block.subject.to_string()));
    });
    (builder, told)
}

#[test]
fn every_kind_in_order() {
    let (clock, filter) = (Clock::default(), off());
    let builder = group(&clock)
        .filter(filter.clone())
        .max_blocks(1, 1)
        .query_rate(Rate::per_second(10).warn_above(5), block());
    let (builder, told) = listening(builder);
    let group = builder.build().unwrap();
    let mut stream = group.subscribe();

    send(&group, "192.0.2.1", 6);
    send(&group, "192.0.2.1", 5);
    clock.advance(seconds(20));
    send(&group, "192.0.2.1", 11);
    send(&group, "192.0.2.2", 11);
    // The kernel drops, and nobody is told.
    let of = name("www.example");
    let query = Query::new([192, 0, 2, 1].into(), &of, A).over_plain_udp();
    for _ in 0..650 {
        filter.check(&query);
        clock.advance(millis(100));
        filter.check(&query);
        group.maintain();
    }
    group.remove(&source("192.0.2.1"));
    group.add(source("192.0.2.3"), Scope::All, &block()).unwrap();
    clock.advance(MINUTE);
    group.maintain();

    let expected: Vec<_> = [
        (Warned, "192.0.2.1/32"),
        (Inserted, "192.0.2.1/32"),
        (Refreshed, "192.0.2.1/32"),
        (Warned, "192.0.2.2/32"),
        (RefusedByCap, "192.0.2.2/32"),
        (Extended, "192.0.2.1/32"),
        (Expired, "192.0.2.2/32"),
        (Removed, "192.0.2.1/32"),
        (Inserted, "192.0.2.3/32"),
        (Expired, "192.0.2.3/32"),
    ]
    .map(|(kind, subject)| (kind, subject.to_owned()))
    .into();
    let mut sorted = told.lock().unwrap().clone();
    // The warning of the second client ends about when the block of the first is extended.
    let ends = sorted.iter().position(|(kind, _)| *kind == Expired).unwrap();
    let goes_on = sorted.iter().position(|(kind, _)| *kind == Extended).unwrap();
    if ends < goes_on {
        sorted.swap(ends, goes_on);
    }
    assert_eq!(sorted, expected);
    let streamed: Vec<_> = std::iter::from_fn(|| stream.try_recv().ok())
        .map(|event| (event.kind, event.block.subject.to_string()))
        .collect();
    assert_eq!(streamed, *told.lock().unwrap());
    assert_eq!(group.stats().refused_by_cap, 1);
}

#[test]
fn one_refusal_a_second_is_told() {
    let clock = Clock::default();
    let (builder, told) = listening(group(&clock).max_blocks(1, 1).query_rate(one(), block()));
    let group = builder.build().unwrap();
    send(&group, "192.0.2.1", 2);
    for host in 2..102 {
        send(&group, &format!("192.0.2.{host}"), 2);
        clock.advance(millis(30));
    }
    assert_eq!(told.lock().unwrap().iter().filter(|(kind, _)| *kind == RefusedByCap).count(), 3);
    assert_eq!(group.stats().refused_by_cap, 100);
}

/// A hook may use the group for anything. What that leads to is told after what led to it.
#[test]
fn a_hook_may_use_the_group() {
    let clock = Clock::default();
    let itself = Arc::new(OnceLock::<DynBlockGroup>::new());
    let used = Arc::clone(&itself);
    let builder = group(&clock).query_rate(one(), block()).on_event(move |event| {
        let Some(group) = used.get() else { return };
        group.blocks();
        group.stats();
        group.maintain();
        group.set_exempt((*group.exempt()).clone());
        if event.kind == Inserted && event.block.subject == source("192.0.2.1") {
            group.add(source("192.0.2.2"), Scope::All, &block()).unwrap();
            assert!(group.remove_id(event.block.id).is_some());
        }
    });
    let (builder, told) = listening(builder);
    let group = builder.build().unwrap();
    itself.set(group.clone()).ok().unwrap();
    send(&group, "192.0.2.1", 2);
    assert_eq!(subjects(&group), ["192.0.2.2/32"]);
    let kinds: Vec<_> = told.lock().unwrap().iter().map(|(kind, subject)| (*kind, subject.clone())).collect();
    assert_eq!(
        kinds,
        [(Inserted, "192.0.2.1/32"), (Inserted, "192.0.2.2/32"), (Removed, "192.0.2.1/32")]
            .map(|(kind, subject)| (kind, subject.to_owned()))
    );
}

/// A hook that panics does so where the query came in. The next events are told all the same.
#[test]
fn a_hook_may_panic() {
    let clock = Clock::default();
    let (builder, told) = listening(group(&clock).query_rate(one(), block()));
    let group = builder
        .on_event(|event| assert_ne!(event.block.subject, source("192.0.2.1"), "not this one"))
        .build()
        .unwrap();
    let flooding = group.clone();
    assert!(thread::spawn(move || send(&flooding, "192.0.2.1", 2)).join().is_err());
    send(&group, "192.0.2.2", 2);
    assert_eq!(told.lock().unwrap().len(), 2);
    assert_eq!(group.blocks().len(), 2);
}

/// For each block, what happens is told in the order in which it happens, whoever does it.
#[test]
fn threads_are_told_in_order() {
    let clock = Clock::default();
    let (builder, told) = listening(group(&clock).quiet());
    let group = builder.build().unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let _ = group.add(source("192.0.2.1"), Scope::All, &block());
                    group.clear();
                }
            });
        }
    });
    let mut there = false;
    for (kind, _) in told.lock().unwrap().iter() {
        match kind {
            Inserted => assert!(!there),
            Refreshed | Removed => assert!(there),
            Warned | Extended | Expired | _ => panic!("{kind:?}"),
        }
        there = *kind != Removed;
    }
    assert!(!there);
}

#[test]
fn a_slow_subscriber_is_told_that_it_missed_some() {
    let clock = Clock::default();
    let group = group(&clock).buffered_events(4).build().unwrap();
    let mut stream = group.subscribe();
    for host in 1..=10 {
        group.add(source(&format!("192.0.2.{host}")), Scope::All, &block()).unwrap();
    }
    assert!(matches!(stream.try_recv(), Err(TryRecvError::Lagged(6))));
    assert_eq!(stream.try_recv().unwrap().block.subject, source("192.0.2.7"));
}

#[test]
fn a_dry_run_is_told_and_does_nothing() {
    let (clock, filter) = (Clock::default(), off());
    let builder = group(&clock).filter(filter.clone()).query_rate(one(), block().dry_run());
    let (builder, told) = listening(builder);
    let group = builder.build().unwrap();
    assert_eq!(send(&group, "192.0.2.1", 10), 10);
    assert!(filter.stats().unwrap().rules.is_empty());
    assert_eq!(told.lock().unwrap().as_slice(), [(Inserted, "192.0.2.1/32".to_owned())]);
    clock.advance(MINUTE);
    group.maintain();
    assert_eq!(told.lock().unwrap().len(), 2);
    assert!(group.blocks().is_empty());
}
