//! Forged sources, each of which sends one packet.

use super::*;
use crate::dynblock::measure::hash;

const SECOND: u64 = 1_000_000_000;

const SLOTS: usize = 1 << 16;

/// As good as random: one step alone spreads numbers in a row too evenly for them to get into each other's way.
fn mix(number: u64) -> u64 {
    hash::mix(hash::mix(number) ^ 0x5851_f42d_4c95_7f2d)
}

/// When the last of 16 who send at one and a half times the limit is caught, in nanoseconds after it begins, among so many
/// forged sources at a million a second.
fn caught_after(rate: Rate, forged: u64) -> u64 {
    let limiter = limiter(rate, SLOTS);
    let bytes = limiter.slots.bytes();
    let interval = SECOND / u64::from(rate.limit());
    let sender = |number, interval| Sender { key: mix(number), interval, next: SECOND + number * 1_234_567 };
    let mut abusers: Vec<_> = (1..=16).map(|number| sender(number, interval * 2 / 3)).collect();
    let mut innocents: Vec<_> = (101..=116).map(|number| sender(number, interval * 11 / 10)).collect();
    let mut caught = 0;
    for packet in 0..forged.max(60_000_000) {
        let now = packet * 1000;
        if packet < forged {
            assert_eq!(one(&limiter, mix(packet + 1000), now), Level::Under);
        }
        abusers.retain_mut(|abuser| {
            let over = abuser.sends(now) && one(&limiter, abuser.key, now) == Level::Over;
            caught = if over { now - SECOND } else { caught };
            !over
        });
        for innocent in &mut innocents {
            assert!(!innocent.sends(now) || one(&limiter, innocent.key, now) == Level::Under, "at {now}");
        }
        if packet > forged && abusers.is_empty() {
            break;
        }
    }
    assert!(abusers.is_empty(), "{} are never caught", abusers.len());
    assert_eq!((limiter.slots.bytes(), limiter.slots.len()), (bytes, SLOTS));
    assert_eq!(forged > 0, limiter.slots.evictions() > 1000);
    caught
}

/// Somebody who sends evenly.
struct Sender {
    key: u64,
    interval: u64,
    next: u64,
}

impl Sender {
    fn sends(&mut self, now: u64) -> bool {
        let sends = now >= self.next;
        if sends {
            self.next += self.interval;
        }
        sends
    }
}

#[test]
fn an_abuser_is_caught_among_ten_million_forged_sources() {
    for rate in [Rate::per_second(10).over(Duration::from_secs(2)), Rate::per_second(3)] {
        let (alone, flooded) = (caught_after(rate, 0), caught_after(rate, 10_000_000));
        let late = flooded - alone;
        println!("{} ms later than {} ms", late / 1_000_000, alone / 1_000_000);
        // A few events pass until it has a slot.
        assert!(late < alone / 5 + 16 * SECOND / u64::from(rate.limit()), "{late} ns later than {alone}");
    }
}

#[test]
fn an_abuser_is_caught_among_a_hundred_million_forged_sources() {
    let rate = Rate::per_second(20).over(Duration::from_secs(10));
    let (alone, flooded) = (caught_after(rate, 0), caught_after(rate, 100_000_000));
    let late = flooded - alone;
    println!("{} ms later than {} ms", late / 1_000_000, alone / 1_000_000);
    assert!(late < alone / 5, "{late} ns later than {alone}");
}
