//! Several threads at once.

use crate::dynblock::measure::hash::mix;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use super::*;

const THREADS: u64 = 4;

/// Runs this on several threads, which know their number, and returns the sum.
fn on_threads(run: impl Fn(u64) -> u64 + Sync) -> u64 {
    let run = &run;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || run(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

/// No more than an event for each thread is lost, where two make a slot at the same time.
#[test]
fn threads_share_the_limit_of_a_key() {
    for _ in 0..50 {
        let limiter = limiter(Rate::per_second(10_000), 64);
        let clock = AtomicU64::new(1);
        let under = on_threads(|_| {
            let run = || one(&limiter, 1, clock.fetch_add(1000, Ordering::Relaxed)) == Level::Under;
            (0..20_000).map(|_| u64::from(run())).sum()
        });
        // The clock stops at 80 ms.
        let allowed = 10_000 + 800;
        assert!((allowed - 1..=allowed + THREADS).contains(&under), "{under} of {allowed}");
    }
}

#[test]
fn no_key_is_lost_and_no_event_but_the_first() {
    const KEYS: u64 = 1000;
    const EVENTS: u64 = 50;
    let rate = Rate::per_second(1000).over(Duration::from_secs(10));
    let limiter = limiter(rate, 16 * 1024);
    let order = |thread: u64, number: u64| (number * 7 + thread * 13) % KEYS;
    on_threads(|thread| {
        let keys = (0..EVENTS).flat_map(|_| 0..KEYS);
        keys.map(|number| u64::from(one(&limiter, mix(order(thread, number) + 1), 0) == Level::Over)).sum()
    });
    for key in 0..KEYS {
        let value = limiter.slots.get(Tag::new(mix(key + 1), 7).0).expect("the key is lost");
        let counted = value / 1_000_000;
        assert!((THREADS * EVENTS - THREADS..=THREADS * EVENTS).contains(&counted), "{counted} of key {key}");
    }
    assert_eq!(limiter.slots.evictions(), 0);
}

/// Keys take slots from each other all the time, some of which belong to somebody who is over its limit.
#[test]
fn nobody_is_taken_for_somebody_else() {
    let limiter = limiter(Rate::per_second(2), 8);
    let over = on_threads(|thread| {
        let events = 0..300_000_u64;
        let over = events.map(|event| {
            let abuser = one(&limiter, event % 6, event * 1000);
            let innocent = one(&limiter, mix(event << 3 | thread) | 1 << 63, event * 1000);
            assert_eq!(innocent, Level::Under);
            u64::from(abuser == Level::Over)
        });
        over.sum()
    });
    assert!(over > 0);
}
