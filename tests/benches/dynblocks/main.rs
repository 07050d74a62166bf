//! Dynamic blocks beside those of dnsdist: how long a flood lasts before it is dropped, and how often it comes back. And the
//! pictures of the guide.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a benchmark is for")]
#![allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]

#[path = "../common/mod.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod common;
mod picture;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use ebpf_filter_tests::limited::{self, Dnsdist, Flood, Ours, Outcome, Server};

use crate::common::{Result, Spread, exit, machine, require_root, table};

/// Floods a server whose limit is 20 queries a second over 10 s, and sees when it answers. Needs root.
#[derive(Debug, Parser)]
struct Args {
    /// Floods whose first excess is timed, for each of the two.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    repeat: u16,
    /// Leave dnsdist out.
    #[arg(long)]
    skip_dnsdist: bool,
    /// Draw the pictures of the guide into this folder; cargo runs this in `tests`, so `../docs/images` it is.
    #[arg(long, value_name = "FOLDER")]
    pictures: Option<PathBuf>,
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
    println!("{}\n", machine());
    println!(
        "Time from the first query above the limit to the first that the kernel drops, at 10,000 queries a second:\n"
    );
    let mut rows = Vec::new();
    let block = Duration::from_secs(60);
    rows.push(reaction("this library", args, || Ours::start(block))?);
    if !args.skip_dnsdist {
        rows.push(reaction("dnsdist", args, || Dnsdist::start(block))?);
    }
    println!("{}", table(["server", "min ms", "median ms", "max ms", "answered"], &rows));

    println!("A flood of 1,500 queries a second for 40 s, blocked for 4 s at a time:\n");
    let block = Duration::from_secs(4);
    let ours = long_flood(&Ours::start(block)?)?;
    let dnsdist = if args.skip_dnsdist { None } else { Some(long_flood(&Dnsdist::start(block)?)?) };
    let row = |name: &str, outcome: &Outcome| {
        [
            name.to_owned(),
            outcome.sent().to_string(),
            outcome.answered().to_string(),
            outcome.bursts(Duration::from_millis(500)).to_string(),
        ]
    };
    let mut rows = vec![row("this library", &ours)];
    rows.extend(dnsdist.as_ref().map(|outcome| row("dnsdist", outcome)));
    println!("{}", table(["server", "sent", "answered", "times let in"], &rows));
    if let Some(folder) = &args.pictures {
        picture::no_saw_tooth(&folder.join("no-saw-tooth.svg"), &ours, dnsdist.as_ref())?;
        picture::window(&folder.join("rate-window.svg"))?;
    }
    Ok(())
}

fn reaction<S: Server>(name: &str, args: &Args, start: impl Fn() -> Result<S>) -> Result<[String; 5]> {
    let flood = Flood { per_second: 10_000, lasts: Duration::from_secs(3) };
    let mut times = Vec::new();
    let mut answered = 0;
    for _ in 0..args.repeat {
        let server = start()?;
        let (time, outcome) = limited::reaction(&server, flood)?;
        times.push(time.as_secs_f64() * 1e3);
        answered = answered.max(outcome.answered());
    }
    let Spread { min, median, max } = Spread::of(times).ok_or("nothing was timed")?;
    let ms = |figure: f64| format!("{figure:.3}");
    Ok([name.to_owned(), ms(min), ms(median), ms(max), format!("up to {answered}")])
}

fn long_flood(server: &impl Server) -> Result<Outcome> {
    Flood { per_second: 1500, lasts: Duration::from_secs(40) }.run(server.address())
}
