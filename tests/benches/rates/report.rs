//! Times of a single event, and the table of them.

use rustix::time::{ClockId, clock_gettime};

use crate::common::{Spread, judge, table};

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<[String; 6]>,
}

impl Report {
    /// Nanoseconds.
    pub(crate) fn add(&mut self, what: &str, times: Vec<f64>, bar: Option<f64>) {
        let Some(spread) = Spread::of(times) else { return };
        let bound = bar.map_or_else(String::new, |bar| format!("≤ {bar:.0}"));
        self.row(what, spread, &bound, judge(spread.median, bar));
    }

    /// How many times as much.
    pub(crate) fn add_ratio(&mut self, what: &str, ratios: Vec<f64>, bar: f64) {
        let Some(spread) = Spread::of(ratios) else { return };
        self.row(what, spread, &format!("≥ {bar}"), judge(bar, Some(spread.median)));
    }

    fn row(&mut self, what: &str, Spread { min, median, max }: Spread, bound: &str, judged: &str) {
        let [min, median, max] = [min, median, max].map(|figure| format!("{figure:.1}"));
        self.rows.push([what.to_owned(), min, median, max, bound.to_owned(), judged.to_owned()]);
    }

    pub(crate) fn table(&self) -> String {
        table(["nanoseconds", "min", "median", "max", "bar", ""], &self.rows)
    }
}

/// How long each of so many events takes the processor, in nanoseconds: what other processes do meanwhile does not count.
pub(crate) fn each(events: usize, action: impl FnOnce()) -> f64 {
    let start = processor_time();
    action();
    (processor_time() - start) as f64 / events as f64
}

/// The time of this thread in nanoseconds.
fn processor_time() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}
