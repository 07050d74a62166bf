//! The pictures of the guide.

use std::{collections::VecDeque, path::Path, time::Duration};

use ebpf_filter_tests::limited::{LIMIT, Outcome, WINDOW};
use plotters::prelude::*;

use crate::common::Result;

const SIZE: (u32, u32) = (900, 360);
const OURS: RGBColor = RGBColor(0, 114, 178);
const THEIRS: RGBColor = RGBColor(213, 94, 0);
const EXACT: RGBColor = RGBColor(100, 100, 100);

/// What a flood gets answered over time.
pub(crate) fn no_saw_tooth(file: &Path, ours: &Outcome, dnsdist: Option<&Outcome>) -> Result<()> {
    let span = Duration::from_millis(100);
    let points = |outcome: &Outcome| -> Vec<(f64, f64)> {
        let counts = outcome.answers_per(span);
        counts
            .iter()
            .enumerate()
            .map(|(at, count)| (at as f64 * span.as_secs_f64(), f64::from(*count)))
            .collect()
    };
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("A flood of 1,500 queries a second, blocked for 4 s at a time", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..40.0, 0.0..220.0)?;
    chart.configure_mesh().x_desc("seconds").y_desc("answers in 100 ms").light_line_style(WHITE).draw()?;
    if let Some(dnsdist) = dnsdist {
        chart
            .draw_series(AreaSeries::new(points(dnsdist), 0.0, THEIRS.mix(0.25)).border_style(THEIRS))?
            .label("dnsdist 1.7.3: the block ends, the flood is let in until it is seen again")
            .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 16, y + 5)], THEIRS.mix(0.6).filled()));
    }
    chart
        .draw_series(AreaSeries::new(points(ours), 0.0, OURS.mix(0.4)).border_style(OURS.stroke_width(2)))?
        .label("ebpf-filter: the block lasts for as long as the flood does")
        .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 16, y + 5)], OURS.mix(0.6).filled()));
    legend(&mut chart)?;
    root.present()?;
    Ok(())
}

/// How full governor's bucket is, and how much is in an exact sliding window, for the same queries.
pub(crate) fn window(file: &Path) -> Result<()> {
    let burst = f64::from(LIMIT) * WINDOW.as_secs_f64();
    // Three clients in one, by the time of day: steady at the limit, a short burst, a flood.
    let per_second = |second: f64| match second {
        s if s < 15.0 => 20.0,
        s if (25.0..26.0).contains(&s) => 190.0,
        s if (42.0..60.0).contains(&s) => 34.0,
        _ => 0.0,
    };
    let (mut bucket, mut in_window, mut due) = (0.0_f64, VecDeque::new(), 0.0);
    let (mut exact, mut ours) = (Vec::new(), Vec::new());
    let step = 0.01;
    for tick in 0..7000 {
        let now = f64::from(tick) * step;
        bucket = (bucket - f64::from(LIMIT) * step).max(0.0);
        due += per_second(now) * step;
        while due >= 1.0 {
            due -= 1.0;
            in_window.push_back(now);
            if bucket < burst {
                bucket += 1.0;
            }
        }
        while in_window.front().is_some_and(|then| now - then > WINDOW.as_secs_f64()) {
            in_window.pop_front();
        }
        if tick % 20 == 0 {
            exact.push((now, in_window.len() as f64));
            ours.push((now, bucket));
        }
    }
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption("20 queries a second over 10 s: 20/s, then 190 at once, then 34/s", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(52)
        .build_cartesian_2d(0.0..70.0, 0.0..480.0)?;
    chart.configure_mesh().x_desc("seconds").y_desc("queries").light_line_style(WHITE).draw()?;
    chart
        .draw_series(LineSeries::new(exact, EXACT.stroke_width(2)))?
        .label("in the last 10 s (dnsdist): over the limit above 200")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], EXACT.stroke_width(2)));
    chart
        .draw_series(LineSeries::new(ours, OURS.stroke_width(2)))?
        .label("in the bucket (governor): over the limit when it is full, at 200")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], OURS.stroke_width(2)));
    chart
        .draw_series(LineSeries::new([(0.0, burst), (70.0, burst)], THEIRS))?
        .label("limit × window")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], THEIRS));
    legend(&mut chart)?;
    root.present()?;
    Ok(())
}

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

fn legend<'a>(chart: &mut Chart<'a, 'a>) -> Result<()> {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .label_font(("sans-serif", 13))
        .draw()?;
    Ok(())
}
