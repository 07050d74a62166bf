//! Times, and the table of them.

use std::time::{Duration, Instant};

use crate::common::{Spread, judge, table};

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<[String; 6]>,
}

impl Report {
    pub(crate) fn add(&mut self, what: &str, times: Vec<Duration>, bar: Option<Duration>) {
        let nanoseconds = |time: Duration| time.as_nanos() as f64;
        let Some(spread) = Spread::of(times.into_iter().map(nanoseconds).collect()) else { return };
        self.rows.push([
            what.to_owned(),
            human(spread.min),
            human(spread.median),
            human(spread.max),
            bar.map_or_else(String::new, |bar| format!("≤ {bar:?}")),
            judge(spread.median, bar.map(nanoseconds)).to_owned(),
        ]);
    }

    pub(crate) fn table(&self) -> String {
        table(["what", "min", "median", "max", "bar", ""], &self.rows)
    }
}

fn human(nanoseconds: f64) -> String {
    match nanoseconds {
        ..1e3 => format!("{nanoseconds:.0} ns"),
        ..1e6 => format!("{:.2} µs", nanoseconds / 1e3),
        _ => format!("{:.2} ms", nanoseconds / 1e6),
    }
}

pub(crate) fn timed<T>(action: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = action();
    (start.elapsed(), result)
}
