//! The clocks of others: tokio's, and the real one.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use ebpf_filter::{
    Query, Verdict,
    dynblock::{DynBlockEventKind, DynBlockGroup, Penalty, Rate, Scope, TokioClock},
};

use crate::common::*;

#[tokio::test(start_paused = true)]
async fn a_block_ends_by_tokios_clock() {
    let filter = off();
    let group = DynBlockGroup::builder()
        .clock(TokioClock::new())
        .filter(filter.clone())
        .query_rate(one(), block())
        .build()
        .unwrap();
    let mut events = group.subscribe();
    let running = tokio::spawn({
        let group = group.clone();
        async move { group.run().await }
    });
    let start = tokio::time::Instant::now();
    assert_eq!(send(&group, "192.0.2.1", 2), 1);
    assert_eq!(events.recv().await.unwrap().kind, DynBlockEventKind::Inserted);
    tokio::time::sleep(seconds(59)).await;
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Drop);
    let ended = events.recv().await.unwrap();
    assert_eq!((ended.kind, ended.block.hits), (DynBlockEventKind::Expired, 2));
    // Tokio's timer is as exact as a millisecond.
    let after = start.elapsed();
    assert!((MINUTE..MINUTE + millis(5)).contains(&after), "{after:?}");
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Pass);
    assert!(filter.stats().unwrap().rules.is_empty());
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn a_flood_goes_on_by_tokios_clock() {
    let filter = off();
    let group = DynBlockGroup::builder()
        .clock(TokioClock::new())
        .filter(filter.clone())
        .query_rate(Rate::per_second(20).over(WINDOW), block())
        .build()
        .unwrap();
    let running = tokio::spawn({
        let group = group.clone();
        async move { group.run().await }
    });
    send(&group, "192.0.2.1", 201);
    let of = name("www.example");
    for _ in 0..200 * 50 {
        let query = Query::new([192, 0, 2, 1].into(), &of, A).over_plain_udp();
        assert_eq!(filter.check(&query), Verdict::Drop);
        tokio::time::sleep(millis(20)).await;
    }
    assert_eq!((group.stats().inserted, group.stats().expired), (1, 0));
    tokio::time::sleep(MINUTE + millis(100)).await;
    assert!(group.blocks().is_empty());
    running.abort();
}

/// The thread of a group goes by the real clock, so these wait for real.
#[test]
fn the_keeper_ends_blocks_in_time() {
    let filter = off();
    let ended = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&ended);
    let group = DynBlockGroup::builder()
        .filter(filter.clone())
        .query_rate(one(), Penalty::block_for(millis(300)))
        .on_event(move |event| {
            if event.kind == DynBlockEventKind::Expired {
                told.lock().unwrap().push((Instant::now(), event.block.hits));
            }
        })
        .build()
        .unwrap();
    let start = Instant::now();
    send(&group, "192.0.2.1", 10);
    while ended.lock().unwrap().is_empty() {
        thread::sleep(millis(5));
        assert!(start.elapsed() < seconds(10));
    }
    let (end, hits) = ended.lock().unwrap()[0];
    assert!(end - start >= millis(300), "{:?}", end - start);
    // A busy machine may be late; that it is not by seconds shows that nobody polls.
    assert!(end - start < millis(1300), "{:?}", end - start);
    assert_eq!(hits, 9, "also those that the rule had before it ended");
    assert!(group.blocks().is_empty() && filter.stats().unwrap().rules.is_empty());
}

#[test]
fn the_keeper_keeps_blocks_up() {
    let filter = off();
    let group = DynBlockGroup::builder()
        .filter(filter.clone())
        .query_rate(Rate::per_second(20), Penalty::block_for(millis(600)))
        .build()
        .unwrap();
    send(&group, "192.0.2.1", 21);
    let of = name("www.example");
    let query = Query::new([192, 0, 2, 1].into(), &of, A).over_plain_udp();
    let start = Instant::now();
    while start.elapsed() < seconds(3) {
        filter.check(&query);
        thread::sleep(millis(2));
    }
    // Without that it would have ended five times.
    let stats = group.stats();
    assert!(stats.extended >= 3 && stats.expired <= 1, "{stats:?}");
    thread::sleep(millis(1000));
    assert!(group.blocks().is_empty());
}

#[test]
fn a_hook_that_panics_does_not_stop_the_keeper() {
    let group = DynBlockGroup::builder()
        .no_filter()
        .on_event(|event| assert_ne!(event.kind, DynBlockEventKind::Expired, "not that one"))
        .build()
        .unwrap();
    for (host, length) in [("192.0.2.1", 20), ("192.0.2.2", 60), ("192.0.2.3", 100)] {
        group.add(source(host), Scope::All, &Penalty::block_for(millis(length))).unwrap();
    }
    let start = Instant::now();
    while group.stats().expired < 3 {
        assert!(start.elapsed() < seconds(10), "{:?}", group.stats());
        thread::sleep(millis(5));
    }
}

/// The thread goes with the group, and what is in the filter ends by itself.
#[test]
fn a_group_that_is_dropped() {
    let filter = off();
    let group = DynBlockGroup::builder()
        .filter(filter.clone())
        .query_rate(one(), Penalty::block_for(millis(100)))
        .build();
    let group = group.unwrap();
    send(&group, "192.0.2.1", 2);
    drop(group);
    assert_eq!(filter.stats().unwrap().rules.len(), 1);
    thread::sleep(millis(120));
    assert!(filter.stats().unwrap().rules.is_empty());
}

#[test]
fn forever_is_long() {
    let group = group(&Clock::default()).filter(off()).build().unwrap();
    group.add(source("192.0.2.1"), Scope::All, &Penalty::block_for(Duration::MAX)).unwrap();
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Drop);
    group.maintain();
    assert_eq!(group.clear(), 1);
}

/// A tick of the kernel is longer than this window.
#[test]
fn short_windows_go_by_the_exact_clock() {
    let short = Rate::per_second(1000).over(millis(1));
    let group = DynBlockGroup::builder().no_filter().query_rate(short, block()).build().unwrap();
    for _ in 0..50 {
        let last = Instant::now();
        assert_eq!(send(&group, "192.0.2.1", 1), 1);
        while last.elapsed() < Duration::from_micros(1100) {
            std::hint::spin_loop();
        }
    }
    assert_eq!(send(&group, "192.0.2.1", 2), 1);
}
