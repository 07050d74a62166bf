//! What the benchmarks share: measured figures, tables of them, and the machine that they were measured on.

use std::{error::Error, fmt::Write as _, fs, process::ExitCode};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What `main` ends with.
pub(crate) fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The kernel tells only root how long programs ran, and lets only root load dnsdist's program.
pub(crate) fn require_root() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err("not root: only root may load and measure kernel programs; run it as root".into())
    }
}

/// Smallest, middle and largest of some figures.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` if there are no figures.
    pub(crate) fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median = if figures.len() % 2 == 1 {
            figures[middle]
        } else {
            f64::midpoint(figures[middle - 1], figures[middle])
        };
        Some(Self { min, median, max })
    }
}

/// `met` or `NOT MET`, and the empty string if there is no bar.
pub(crate) fn judge(figure: f64, bar: Option<f64>) -> &'static str {
    match bar {
        Some(bar) if figure <= bar => "met",
        Some(_) => "NOT MET",
        None => "",
    }
}

/// A Markdown table whose columns line up in a terminal as well; all but the first are right-aligned.
pub(crate) fn table<const N: usize>(header: [&str; N], rows: &[[String; N]]) -> String {
    let widths: [_; N] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count(), 3]).max().unwrap_or(0)
    });
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
            // Writing to a string does not fail.
            let _ = if column == 0 {
                write!(text, "| {cell:<width$} ")
            } else {
                write!(text, "| {cell:>width$} ")
            };
        }
        text.push_str("|\n");
    };
    line(header);
    let rules: [_; N] = std::array::from_fn(|column| {
        let dashes = "-".repeat(widths[column] - 1);
        if column == 0 { format!(":{dashes}") } else { format!("{dashes}:") }
    });
    line(rules.each_ref().map(String::as_str));
    for row in rows {
        line(row.each_ref().map(String::as_str));
    }
    text
}

/// The kernel, the processor, and what makes programs slower or faster on it.
pub(crate) fn machine() -> String {
    let read = |path| fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let models: Vec<_> = cpuinfo
        .lines()
        .filter(|line| line.starts_with("model name"))
        .filter_map(|line| Some(line.split_once(':')?.1.trim()))
        .collect();
    format!(
        "Linux {}, {} × {}, spectre_v1: {}, bpf_jit_enable {}, bpf_jit_harden {}",
        read("/proc/sys/kernel/osrelease"),
        models.len(),
        models.first().copied().unwrap_or("?"),
        read("/sys/devices/system/cpu/vulnerabilities/spectre_v1"),
        read("/proc/sys/net/core/bpf_jit_enable"),
        read("/proc/sys/net/core/bpf_jit_harden"),
    )
}
