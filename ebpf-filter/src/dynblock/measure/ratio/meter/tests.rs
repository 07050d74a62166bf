#![expect(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]

use std::{collections::VecDeque, num::NonZeroU32};

use proptest::prelude::*;

use super::{
    super::super::{hash::mix, limiter::Limiter, rate::Rate},
    *,
};

/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

fn meter(ratio: Ratio) -> RatioMeter {
    ratio.check().unwrap();
    RatioMeter::new(ratio, Arc::new(Slots::new(1024).unwrap()), 7)
}

impl RatioMeter {
    fn counts(&self, key: u64) -> Counts {
        self.packing.unpack(self.slots.get(Tag::new(key, self.salt).number()).unwrap())
    }
}

/// Where a key stands after this many responses at one instant, the matching ones last.
fn after(ratio: Ratio, matching: u32, total: u32) -> Level {
    let meter = meter(ratio);
    (0..total).fold(Level::Under, |_, number| meter.observe(1, SECOND, number >= total - matching))
}

#[test]
fn a_fifth_is_not_above_a_fifth() {
    let ratio = Ratio::above(0.2).over(Duration::from_secs(10)).at_least(51);
    assert_eq!(after(ratio, 20, 100), Level::Under);
    assert_eq!(after(ratio, 21, 100), Level::Over);
    assert_eq!(after(ratio, 11, 50), Level::Under);
    assert_eq!(after(ratio, 50, 50), Level::Under);
    assert_eq!(after(ratio, 51, 51), Level::Over);
}

/// Whatever it looks like in binary.
#[test]
fn no_share_is_above_itself() {
    for percent in 0..100_u32 {
        let ratio = Ratio::above(f64::from(percent) / 100.0);
        assert_eq!(after(ratio, percent, 100), Level::Under, "{percent}");
        assert_eq!(after(ratio, percent + 1, 100), Level::Over, "{percent}");
    }
}

#[test]
fn a_warning_comes_first() {
    let ratio = Ratio::above(0.5).warn_above(0.2).at_least(10);
    assert_eq!(ratio.warning(), Some(Ratio::above(0.2).at_least(10)));
    let levels =
        [(2, 9), (2, 10), (3, 10), (5, 10), (6, 10)].map(|(matching, total)| after(ratio, matching, total));
    assert_eq!(levels, [Level::Under, Level::Under, Level::Warning, Level::Warning, Level::Over]);
}

#[test]
fn counts_are_halved_with_half_a_window() {
    let meter = meter(Ratio::above(0.5).over(Duration::from_secs(10)));
    let counts = || {
        let Counts { total, matching, .. } = meter.counts(1);
        (total, matching)
    };
    (0..101).for_each(|number| _ = meter.observe(1, SECOND, number % 2 == 0));
    assert_eq!(counts(), (101, 51));
    meter.observe(1, 5 * SECOND, true);
    assert_eq!(counts(), (102, 52));
    meter.observe(1, 7 * SECOND, false);
    assert_eq!(counts(), (52, 26));
    // Another thread may be a little behind.
    meter.observe(1, 5 * SECOND, true);
    assert_eq!(counts(), (53, 27));
    meter.observe(1, 17 * SECOND, true);
    assert_eq!(counts(), (15, 7));
    meter.observe(1, 1000 * SECOND, true);
    assert_eq!(counts(), (2, 1));
}

#[test]
fn full_counts_are_halved_and_keep_the_share() {
    let ratio = Ratio::above(0.2).over(Duration::from_secs(1)).at_least(2047);
    let meter = meter(ratio);
    for number in 0..1_000_000 {
        let level = meter.observe(1, SECOND, number % 4 == 0);
        let counts = meter.counts(1);
        assert!(counts.matching * 4 + 8 >= counts.total && counts.total < 1 << 12);
        assert_eq!(level == Level::Over, number >= 2046, "{number}");
    }
}

/// Both a rate and the ratio are asked about every forged source.
#[test]
fn who_sends_too_many_is_caught_among_forged_sources() {
    let slots = Arc::new(Slots::new(1 << 16).unwrap());
    let limiter = Limiter::new(Rate::per_second(10).over(Duration::from_secs(10)), Arc::clone(&slots), 1);
    let meter = RatioMeter::new(Ratio::above(0.2).at_least(51), slots, 2);
    let mut caught = [None; 16];
    for packet in 0..4_000_000 {
        let now = packet * 1000;
        let forged = mix(packet + 1000);
        limiter.observe(forged, now, NonZeroU32::MIN);
        assert_eq!(meter.observe(forged, now, true), Level::Under);
        // When the slots are taken, 16 sources begin to send 75 a second each, half of which match.
        if packet > 2_000_000 && packet % 833 == 0 {
            let number = packet / 833;
            let matching = number / 16 % 2 == 0;
            if meter.observe(mix(number % 16 + 1), now, matching) == Level::Over {
                caught[usize::try_from(number % 16).unwrap()].get_or_insert(now);
            }
        }
    }
    assert!(caught.iter().all(|time| time.is_some_and(|time| time < 4 * SECOND)), "{caught:?}");
}

/// A window that slides over every single response.
struct Exact {
    window: u64,
    responses: VecDeque<(u64, bool)>,
    matching: u64,
}

impl Exact {
    fn observe(&mut self, now: u64, matching: bool) -> (u64, f64) {
        self.responses.push_back((now, matching));
        self.matching += u64::from(matching);
        while let Some((_, matching)) = self.responses.front().filter(|(time, _)| now - time >= self.window) {
            self.matching -= u64::from(*matching);
            self.responses.pop_front();
        }
        let total = self.responses.len() as u64;
        (total, self.matching as f64 / total as f64)
    }
}

proptest! {
    /// Responses come evenly, matching ones by chance.
    #[test]
    fn steady_traffic_is_judged_as_by_an_exact_window(
        share in 0.0..1.0,
        in_window in 500_u64..2000,
        window in 1_u64..20_000,
        seed: u64,
    ) {
        let window = window * 1_000_000;
        let ratio = Ratio::above(0.3).over(Duration::from_nanos(window)).at_least(16);
        prop_assume!(ratio.check().is_ok());
        let meter = meter(ratio);
        let mut exact = Exact { window, responses: VecDeque::new(), matching: 0 };
        // Half of what is in the window, or less where that is more than is counted.
        let least = (in_window / 2).min(meter.packing.most / 4) - 2;
        for number in 0..8 * in_window {
            let now = SECOND + number * window / in_window;
            let matching = (mix(seed ^ number) >> 11) as f64 / (1_u64 << 53) as f64 <= share;
            let level = meter.observe(1, now, matching);
            let (total, exact) = exact.observe(now, matching);
            if number < 5 * in_window {
                continue;
            }
            let counts = meter.counts(1);
            // Half a window is rounded to a 16th, and an odd count up.
            prop_assert!(counts.total <= total + total / 16 + 4 && counts.total >= least, "{counts:?} of {total}");
            // Five standard deviations of a share of so many.
            let close = 5.0 * (0.25 / least as f64).sqrt();
            if (exact - 0.3).abs() > close {
                prop_assert_eq!(level == Level::Over, exact > 0.3, "{:?}, exactly {}", counts, exact);
            }
        }
    }

    #[test]
    fn what_is_packed_is_unpacked(
        window in 1_000_000_u64..86_400_000_000_000,
        minimum: u32,
        since in 0_u64..1 << 60,
        counts: (u64, u64),
    ) {
        let length = Duration::from_nanos(window);
        let ratio = Ratio::above(0.5).over(length).at_least(1 + minimum % most_at_least(length));
        prop_assert_eq!(ratio.check(), Ok(()));
        let packing = Packing::of(ratio);
        prop_assert!(packing.most / 2 >= ratio.minimum().into());
        let unit = 1 << (2 * packing.bits);
        prop_assert!((2 * packing.half * unit).abs_diff(window) <= window / 16);
        let total = counts.0 % (packing.most + 1);
        let counts = Counts { since: since / unit, total, matching: counts.1 % (total + 1) };
        let value = packing.pack(counts);
        prop_assert_eq!(packing.unpack(value), counts);
        prop_assert!(value > since - unit.min(since) && value < since + 2 * packing.half * unit + unit);
    }
}
