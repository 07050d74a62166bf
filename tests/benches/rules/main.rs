//! What changing, counting and checking rules costs in user space, in time and in memory. `docs/BENCHMARKS.md` says how to
//! run it and how to read it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a benchmark is for")]
#![allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]

mod checks;
#[path = "../common/mod.rs"]
mod common;
mod expiry;
mod many;
mod memory;
mod report;
mod rules;
mod single;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    common::{Result, exit, machine, require_root},
    report::Report,
};

/// Measures what changing, counting and checking rules costs in user space. Needs root.
#[derive(Debug, Parser)]
struct Args {
    /// Repetitions of everything but single inserts and memory.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,
    /// Leave out what has a million rules.
    #[arg(long)]
    skip_million: bool,
    /// Leave out memory.
    #[arg(long)]
    skip_memory: bool,
    /// For processes of the benchmark itself: measures the memory of one kind of rule.
    #[arg(long, hide = true, requires = "count")]
    memory: Option<String>,
    #[arg(long, hide = true)]
    count: Option<u32>,
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
    exit(match (&args.memory, args.count) {
        (Some(kind), Some(count)) => memory::child(kind, count),
        _ => measure(&args),
    })
}

fn measure(args: &Args) -> Result<()> {
    require_root()?;
    let mut report = Report::default();
    eprintln!("single inserts");
    single::measure(&mut report)?;
    eprintln!("building");
    many::build(&mut report, args.repeat)?;
    eprintln!("100,000 rules");
    many::hundred_thousand(&mut report, args.repeat)?;
    if !args.skip_million {
        eprintln!("1,000,000 rules");
        many::million(&mut report, args.repeat)?;
    }
    eprintln!("expiry");
    expiry::measure(&mut report, args.repeat)?;
    eprintln!("checks");
    checks::measure(&mut report, args.repeat)?;
    println!("{}\n\n{}", machine(), report.table());
    if !args.skip_memory {
        eprintln!("memory");
        println!("{}", memory::measure()?);
    }
    Ok(())
}
