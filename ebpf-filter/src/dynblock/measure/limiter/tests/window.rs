//! Beside a window that slides over every single event.

use proptest::{collection::vec, prelude::*};

use super::*;

/// All events so far, as time and cells.
#[derive(Default)]
struct Exact(Vec<(u64, u32)>);

impl Exact {
    /// Counts, and returns the cells of the window that ends now.
    fn observe(&mut self, now: u64, cells: NonZeroU32, window: Duration) -> u64 {
        self.0.push((now, cells.get()));
        let within = |time: u64| u128::from(now - time) < window.as_nanos();
        self.0.iter().filter(|(time, _)| within(*time)).map(|(_, cells)| u64::from(*cells)).sum()
    }
}

fn rates() -> impl Strategy<Value = Rate> {
    let rate = (1_u32..300, 1_u64..5000)
        .prop_map(|(limit, window)| Rate::per_second(limit).over(Duration::from_millis(window)));
    rate.prop_filter("less than one event", |rate| rate.check().is_ok())
}

/// Pauses in thousandths of the time that an event takes, and cells.
fn events(cells: u32) -> impl Strategy<Value = Vec<(u64, NonZeroU32)>> {
    let pause = prop_oneof![
        4 => Just(0_u64),
        4 => 0_u64..1000,
        4 => 900_u64..1100,
        1 => 0_u64..20_000,
    ];
    let cells = (1..=cells).prop_filter_map("none", NonZeroU32::new);
    vec((pause, cells), 1..400)
}

/// Never without a window that has more, and always in one that has twice as many.
fn compare(rate: Rate, events: &[(u64, NonZeroU32)]) -> Result<(), TestCaseError> {
    let limiter = limiter(rate, 64);
    let window = rate.window();
    let allowed = u128::from(rate.limit()) * window.as_nanos();
    let mut exact = Exact::default();
    let (mut now, mut exceeded, mut last_over) = (1_000_000_000, false, None);
    for (pause, cells) in events {
        now += pause * 1_000_000 / u64::from(rate.limit());
        let sum = exact.observe(now, *cells, window);
        exceeded |= u128::from(sum) * 1_000_000_000 > allowed;
        let level = limiter.observe(1, now, *cells);
        prop_assert!(level != Level::Over || exceeded, "over at {now}, where {sum} are in the window");
        if level == Level::Over {
            last_over = Some(now);
        }
        // One less, for what rounding makes of the time of an event.
        if u128::from(sum - 1) * 1_000_000_000 > 2 * allowed {
            let within = last_over.is_some_and(|over| u128::from(now - over) < window.as_nanos());
            prop_assert!(within, "not over at {now}, where {sum} are in the window");
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn single_events(rate in rates(), events in events(1)) {
        compare(rate, &events)?;
    }

    #[test]
    fn events_of_several_cells(rate in rates(), events in events(30)) {
        compare(rate, &events)?;
    }
}
