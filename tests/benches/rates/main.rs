//! What it costs to ask whether a source sends too much: in time and in memory, beside governor's own store.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a benchmark is for")]
#![allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "shared with benchmarks that use more of it")]
mod common;
mod contestants;
mod flood;
mod limiters;
mod report;
mod sources;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    common::{Result, exit, machine},
    report::Report,
};

/// Measures what it costs to ask whether a source sends too much.
#[derive(Debug, Parser)]
struct Args {
    /// Repetitions, each of all contestants in turn.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,
    /// Leave out the flood and its memory.
    #[arg(long)]
    skip_flood: bool,
    /// For processes of the benchmark itself: measures the memory that a flood takes.
    #[arg(long, hide = true)]
    flood: Option<String>,
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
    exit(match &args.flood {
        Some(contestant) => flood::child(contestant),
        None => measure(&args),
    })
}

fn measure(args: &Args) -> Result<()> {
    let mut report = Report::default();
    limiters::one(&mut report, args.repeat)?;
    limiters::sixteen(&mut report, args.repeat)?;
    limiters::group_of_sixteen(&mut report, args.repeat)?;
    limiters::threads(&mut report, args.repeat)?;
    println!("{}\n\n{}", machine(), report.table());
    if !args.skip_flood {
        println!("{}", flood::measure()?);
    }
    Ok(())
}
