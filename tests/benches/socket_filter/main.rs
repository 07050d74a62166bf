//! Nanoseconds that a packet costs in the kernel: ours, dnsdist's filter, and a program that does nothing, side by side.
//! `docs/BENCHMARKS.md` says how to run it and how to read it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a benchmark is for")]
#![allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
#![allow(clippy::cast_possible_truncation, reason = "the only one is of a number below 26")]

mod cases;
#[path = "../common/mod.rs"]
mod common;
mod contestant;
mod dnsdist;
mod sender;

use std::process::ExitCode;

use aya::sys::{Stats, enable_stats};
use clap::Parser;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{
    cases::Case,
    common::{Result, Spread, exit, judge, machine, require_root, table},
    contestant::{Contestant, Kind},
};

/// Measures what a packet costs in the kernel, beside dnsdist. Needs root, and dnsdist 1.7 to 1.9 (Debian: dnsdist).
#[derive(Debug, Parser)]
struct Args {
    /// Packets for each contestant in each repetition.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1000..=10_000_000))]
    packets: u32,
    /// Repetitions of each case; the contestants take turns.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,
    /// Only cases whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    case: String,
    /// Leave dnsdist out.
    #[arg(long)]
    skip_dnsdist: bool,
    /// Measure ours a second time, loaded with `CAP_BPF` but without `CAP_PERFMON`.
    #[arg(long)]
    cap_bpf_only: bool,
    /// What cargo passes.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The figures of one contestant in one case.
struct Figures {
    kind: Kind,
    spread: Spread,
}

fn main() -> ExitCode {
    let args = Args::parse();
    if !args.bench {
        eprintln!("nothing measured: this is no test, run it with `cargo bench`");
        return ExitCode::SUCCESS;
    }
    exit(measure(&args))
}

fn measure(args: &Args) -> Result<()> {
    require_root()?;
    let _stats = enable_stats(Stats::RunTime)
        .map_err(|error| format!("cannot switch the statistics of programs on: {error}"))?;
    pin()?;

    let mut rows = Vec::new();
    for case in cases::all().iter().filter(|case| case.name.contains(&args.case)) {
        eprintln!("{}", case.name);
        rows.extend(report(case, &run(case, args)?));
    }
    println!("{}", machine());
    println!(
        "{} × {} packets; nanoseconds per packet; net: median less that of the empty program\n",
        args.repeat, args.packets
    );
    println!("{}", table(["case", "program", "min", "median", "max", "net", "× dnsdist", "bar", ""], &rows));
    Ok(())
}

/// Keeps the sender on one CPU, the last one it may use, and with it the filters.
fn pin() -> Result<()> {
    let allowed = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu)).ok_or("no CPU")?;
    let mut only = CpuSet::new();
    only.set(last);
    Ok(sched_setaffinity(None, &only)?)
}

fn run(case: &Case, args: &Args) -> Result<Vec<Figures>> {
    let kinds = [
        Some(Kind::Ours),
        args.cap_bpf_only.then_some(Kind::OursGuarded),
        (!args.skip_dnsdist).then_some(Kind::Dnsdist),
        Some(Kind::Empty),
    ];
    let contestants: Vec<_> =
        kinds.into_iter().flatten().map(|kind| Contestant::start(kind, case)).collect::<Result<_>>()?;
    for contestant in &contestants {
        eprintln!("  {}", contestant.size()?);
    }
    let mut figures = vec![Vec::new(); contestants.len()];
    for round in 1..=args.repeat {
        eprint!("\r  round {round} of {}", args.repeat);
        for (contestant, figures) in contestants.iter().zip(&mut figures) {
            figures.push(contestant.measure(case, args.packets as usize)?);
        }
    }
    eprintln!();
    let spreads = figures.into_iter().filter_map(Spread::of);
    Ok(contestants.iter().zip(spreads).map(|(of, spread)| Figures { kind: of.kind, spread }).collect())
}

fn report(case: &Case, figures: &[Figures]) -> Vec<[String; 9]> {
    let median = |kind| Some(figures.iter().find(|figures| figures.kind == kind)?.spread.median);
    let empty = median(Kind::Empty).unwrap_or(0.0);
    let dnsdist = median(Kind::Dnsdist).map(|median| median - empty);
    let row = |figures: &Figures| {
        let Spread { min, median, max } = figures.spread;
        let net = median - empty;
        let ratio = dnsdist.map(|dnsdist| net / dnsdist);
        let (net, ratio, bar) = match figures.kind {
            Kind::Ours => (Some(net), ratio, case.bar),
            Kind::OursGuarded => (Some(net), ratio, None),
            Kind::Dnsdist => (Some(net), None, None),
            Kind::Empty => (None, None, None),
        };
        let text =
            |figure: Option<f64>, decimals| figure.map_or_else(String::new, |f| format!("{f:.decimals$}"));
        [
            case.name.clone(),
            figures.kind.name().to_owned(),
            text(Some(min), 0),
            text(Some(median), 0),
            text(Some(max), 0),
            text(net, 0),
            text(ratio, 3),
            bar.map_or_else(String::new, |bar| format!("≤ {bar}")),
            ratio.map_or("", |ratio| judge(ratio, bar)).to_owned(),
        ]
    };
    figures.iter().map(row).collect()
}
