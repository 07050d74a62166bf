//! Nanoseconds that a packet costs in the kernel: ours, dnsdist's filter, and a program that does nothing, side by side.
//! `docs/BENCHMARKS.md` says how to run it and how to read it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a benchmark is for")]
#![allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]
#![allow(clippy::cast_possible_truncation, reason = "numbers here are small, or random anyway")]

mod alternatives;
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod contestant;
mod dnsdist;
mod random;
mod sender;

use std::process::ExitCode;

use aya::sys::{Stats, enable_stats};
use clap::Parser;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::{
    cases::{Case, Plan},
    common::{Result, Spread, exit, judge, machine, require_root, table},
    contestant::{Contestant, Kind},
};

/// Measures what a packet costs in the kernel, beside dnsdist. Needs root, and dnsdist 1.7 to 1.9 (Debian: dnsdist).
#[derive(Debug, Parser)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option")]
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
    /// Leave out the alternatives to our tables.
    #[arg(long)]
    skip_alternatives: bool,
    /// Measure those with a million entries as well.
    #[arg(long)]
    million: bool,
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

    println!("{}", machine());
    println!(
        "{} × {} packets; nanoseconds per packet: medians and ranges, less the median of the empty program\n",
        args.repeat, args.packets
    );
    let (mut rows, mut empty) = (Vec::new(), Vec::new());
    for Plan { name, case } in cases::all().into_iter().filter(|plan| plan.name.contains(&args.case)) {
        eprintln!("{name}");
        let case = case()?;
        let figures = run(&case, args)?;
        empty.extend(figures.iter().find(|(kind, _)| *kind == Kind::Empty).map(|(_, spread)| spread.median));
        rows.push(report(name, &case, &figures));
    }
    if let Some(Spread { min, median, max }) = Spread::of(empty) {
        println!("{}", table(HEADER, &rows));
        println!("empty program: {median:.0}, from case to case {min:.0} to {max:.0}\n");
    }
    if args.skip_alternatives { Ok(()) } else { alternatives::measure(args) }
}

/// Keeps the sender on one CPU, the last one it may use, and with it the filters.
fn pin() -> Result<()> {
    let allowed = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu)).ok_or("no CPU")?;
    let mut only = CpuSet::new();
    only.set(last);
    Ok(sched_setaffinity(None, &only)?)
}

fn run(case: &Case, args: &Args) -> Result<Vec<(Kind, Spread)>> {
    let kinds = [
        Some(Kind::Ours),
        args.cap_bpf_only.then_some(Kind::OursGuarded),
        (!args.skip_dnsdist).then_some(Kind::Dnsdist),
        Some(Kind::Empty),
    ];
    let contestants: Vec<_> =
        kinds.into_iter().flatten().map(|kind| Contestant::start(kind, case)).collect::<Result<_>>()?;
    let spreads = take_turns(&contestants, case.dropped, args)?;
    Ok(contestants.iter().map(|contestant| contestant.kind).zip(spreads).collect())
}

/// Measures each, in turn.
fn take_turns(contestants: &[Contestant<'_>], dropped: bool, args: &Args) -> Result<Vec<Spread>> {
    for contestant in contestants {
        eprintln!("  {}", contestant.size()?);
    }
    let mut figures = vec![Vec::new(); contestants.len()];
    for round in 1..=args.repeat {
        eprint!("\r  round {round} of {}", args.repeat);
        for (contestant, figures) in contestants.iter().zip(&mut figures) {
            figures.push(contestant.measure(args.packets as usize)?);
        }
    }
    eprintln!();
    for contestant in contestants {
        contestant.verify(dropped)?;
    }
    Ok(figures.into_iter().filter_map(Spread::of).collect())
}

/// All of it less so much.
fn net(Spread { min, median, max }: Spread, by: f64) -> Spread {
    Spread { min: min - by, median: median - by, max: max - by }
}

fn range(spread: Spread) -> String {
    format!("{:.0}–{:.0}", spread.min, spread.max)
}

const HEADER: [&str; 10] = [
    "case",
    "ours",
    "range",
    "without `CAP_PERFMON`",
    "dnsdist",
    "range",
    "dnsdist has",
    "ours / dnsdist",
    "bar",
    "",
];

fn report(name: String, case: &Case, figures: &[(Kind, Spread)]) -> [String; 10] {
    let of = |kind| figures.iter().find(|(of, _)| *of == kind).map(|(_, spread)| *spread);
    let empty = of(Kind::Empty).map_or(0.0, |empty| empty.median);
    let [ours, guarded, dnsdist] =
        [Kind::Ours, Kind::OursGuarded, Kind::Dnsdist].map(|kind| of(kind).map(|spread| net(spread, empty)));
    let median = |spread: Option<Spread>| spread.map_or_else(String::new, |s| format!("{:.0}", s.median));
    let ratio = ours.zip(dnsdist).map(|(ours, dnsdist)| ours.median / dnsdist.median);
    [
        name,
        median(ours),
        ours.map_or_else(String::new, range),
        median(guarded),
        median(dnsdist),
        dnsdist.map_or_else(String::new, range),
        case.beside.map_or("the same", |beside| beside).to_owned(),
        ratio.map_or_else(String::new, |ratio| format!("{ratio:.3}")),
        case.bar.map_or_else(String::new, |bar| format!("≤ {bar}")),
        ratio.map_or("", |ratio| judge(ratio, case.bar)).to_owned(),
    ]
}
