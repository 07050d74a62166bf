//! What changing, counting and checking rules costs in user space. `docs/BENCHMARKS.md` says how to run it and how to
//! read it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a benchmark is for")]
#![allow(clippy::cast_precision_loss, reason = "counts here are far below 2^52")]

#[path = "../common/mod.rs"]
mod common;

use std::{
    hint::black_box,
    net::{Ipv4Addr, UdpSocket},
    process::ExitCode,
    time::{Duration, Instant},
};

use aya::{
    EbpfLoader,
    maps::{HashMap, MapData},
};
use clap::Parser;
use ebpf_filter::{BpfFilter, BpfFilterBuilder, Match, Mode, QName, Qtypes, Query, Rule, Stats, Verdict};
use ebpf_prog::{
    layout::{Action, AddressRule, Ipv4Key, maps},
    object,
};
use zerocopy::IntoBytes as _;

use crate::common::{Result, Spread, exit, judge, machine, require_root, table};

/// Rules that are moved at once.
const MANY: u32 = 100_000;

/// Single inserts that are timed one by one.
const SINGLE: u32 = 20_000;

/// They take turns with the reference, this many at a time.
const BLOCK: u32 = 500;

/// `check` is too fast to be timed one by one.
const CHECKS: u32 = 20_000;

const BPF_NOEXIST: u64 = 1;

type Reference = HashMap<MapData, [u8; 4], [u8; 16]>;

/// Measures what changing, counting and checking rules costs in user space. Needs root.
#[derive(Debug, Parser)]
struct Args {
    /// Repetitions of everything but single inserts.
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=1000))]
    repeat: u16,
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
    let mut report = Report::default();
    eprintln!("single inserts");
    single_inserts(&mut report)?;
    eprintln!("building");
    building(&mut report, args.repeat)?;
    eprintln!("{MANY} rules");
    many(&mut report, args.repeat)?;
    eprintln!("checks");
    checks(&mut report, args.repeat)?;
    println!("{}\n", machine());
    println!("{}", table(["what", "min", "median", "max", "bar", ""], &report.rows));
    Ok(())
}

#[derive(Default)]
struct Report {
    rows: Vec<[String; 6]>,
}

impl Report {
    fn add(&mut self, what: &str, times: Vec<Duration>, bar: Option<Duration>) {
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
}

fn human(nanoseconds: f64) -> String {
    match nanoseconds {
        ..1e3 => format!("{nanoseconds:.0} ns"),
        ..1e6 => format!("{:.2} µs", nanoseconds / 1e3),
        _ => format!("{:.2} ms", nanoseconds / 1e6),
    }
}

fn timed<T>(action: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = action();
    (start.elapsed(), result)
}

const fn builder() -> BpfFilterBuilder {
    BpfFilter::builder().mode(Mode::Require)
}

/// Different for each number, and not next to each other in a hash map.
fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b1))
}

fn addresses() -> impl Iterator<Item = Rule> {
    (0..MANY).map(|number| Rule::drop(Match::Ipv4(address(number))))
}

fn name(number: u32) -> Result<QName> {
    Ok(format!("host{number:08}.example.net").parse()?)
}

/// Beside the cheapest that aya offers: one system call for one entry of the same map.
fn single_inserts(report: &mut Report) -> Result<()> {
    let filter = builder().ipv4_max(SINGLE).qnames_max(SINGLE).build()?;
    let mut reference = reference()?;
    let value = AddressRule::new(Action::Drop);
    let value: [u8; 16] = value.as_bytes().try_into()?;
    let (mut ours, mut names, mut aya) = (Vec::new(), Vec::new(), Vec::new());
    for block in 0..SINGLE / BLOCK {
        for number in block * BLOCK..(block + 1) * BLOCK {
            let rule = Rule::drop(Match::Ipv4(address(number)));
            let (time, result) = timed(|| filter.insert(rule));
            result?;
            ours.push(time);
        }
        for number in block * BLOCK..(block + 1) * BLOCK {
            let rule = Rule::drop(Match::qname(name(number)?, Qtypes::All));
            let (time, result) = timed(|| filter.insert(rule));
            result?;
            names.push(time);
        }
        for number in block * BLOCK..(block + 1) * BLOCK {
            let key: [u8; 4] = Ipv4Key::from(address(number)).as_bytes().try_into()?;
            let (time, result) = timed(|| reference.insert(key, value, BPF_NOEXIST));
            result?;
            aya.push(time);
        }
    }
    report.add("insert an address", ours, Some(Duration::from_micros(2)));
    report.add("insert a name", names, Some(Duration::from_micros(2)));
    report.add("aya's HashMap::insert of an address, for reference", aya, None);
    Ok(())
}

/// The map for IPv4 rules, bare.
fn reference() -> Result<Reference> {
    let mut ebpf =
        EbpfLoader::new().btf(None).map_max_entries(maps::IPV4, SINGLE).load(object::SOCKET_FILTER)?;
    Ok(ebpf.take_map(maps::IPV4).ok_or("no map for IPv4 in the object")?.try_into()?)
}

fn building(report: &mut Report, repeat: u16) -> Result<()> {
    for (what, max) in [("build and attach, room for 1024 rules", 1024), ("same, 100,000 rules", MANY)] {
        let mut times = Vec::new();
        for _ in 0..repeat {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            let builder = builder().ipv4_max(max).ipv6_max(max).qnames_max(max);
            let (time, result) = timed(|| -> Result<_> {
                let filter = builder.build()?;
                filter.attach(&socket)?;
                Ok(filter)
            });
            result?;
            times.push(time);
        }
        report.add(what, times, Some(Duration::from_millis(200)));
    }
    Ok(())
}

fn many(report: &mut Report, repeat: u16) -> Result<()> {
    let names: Vec<_> = (0..MANY).map(name).collect::<Result<_>>()?;
    let names = || names.iter().map(|name| Rule::drop(Match::qname(name.clone(), Qtypes::All)));
    let mut times: [Vec<_>; 5] = Default::default();
    for _ in 0..repeat {
        let filter = builder().ipv4_max(MANY).qnames_max(MANY).build()?;
        let measured = [
            timed(|| filter.insert_many(addresses()).map_err(Into::into)),
            timed(|| filter.stats().map_err(Into::into).and_then(|stats| expect_all(&stats))),
            timed(|| filter.clear().map_err(Into::into)),
            timed(|| filter.insert_many(names()).map_err(Into::into)),
            timed(|| filter.stats().map_err(Into::into).and_then(|stats| expect_all(&stats))),
        ];
        for (times, (time, result)) in times.iter_mut().zip(measured) {
            let result: Result<()> = result;
            result?;
            times.push(time);
        }
    }
    let [insert, stats, clear, insert_names, stats_names] = times;
    report.add("insert_many of 100,000 addresses", insert, Some(Duration::from_millis(50)));
    report.add("insert_many of 100,000 names", insert_names, None);
    report.add("stats of 100,000 addresses", stats, None);
    report.add("stats of 100,000 names", stats_names, None);
    report.add("clear of 100,000 addresses", clear, None);
    Ok(())
}

fn expect_all(stats: &Stats) -> Result<()> {
    let count = stats.rules.len();
    if count == MANY as usize { Ok(()) } else { Err(format!("{count} rules of {MANY}").into()) }
}

fn checks(report: &mut Report, repeat: u16) -> Result<()> {
    let (hostile, client) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let blocked: QName = "evil.example".parse()?;
    let passing: QName = "www.example.com".parse()?;
    let longest: QName = format!("{}example", "abcdefghi.".repeat(24)).parse()?;

    let none = BpfFilter::builder().mode(Mode::Off).build()?;
    let some = BpfFilter::builder().mode(Mode::Off).build()?;
    some.block(hostile)?;
    some.block_qname(&blocked, Qtypes::All)?;
    let full = BpfFilter::builder().mode(Mode::Off).ipv4_max(MANY).qnames_max(MANY).build()?;
    full.insert_many(addresses())?;
    for number in 0..MANY {
        full.block_qname(&name(number)?, Qtypes::All)?;
    }

    for (what, filter, source, name, expected) in [
        ("check: no rules", &none, client, &passing, Verdict::Pass),
        ("check: address blocked", &some, hostile, &passing, Verdict::Drop),
        ("check: name blocked", &some, client, &blocked, Verdict::Drop),
        ("check: passes, 15 characters", &some, client, &passing, Verdict::Pass),
        ("check: passes, 247 characters", &some, client, &longest, Verdict::Pass),
        ("check: passes, 100,000 addresses and names blocked", &full, client, &passing, Verdict::Pass),
    ] {
        let query = Query::new(source.into(), name, 1);
        let mut times = Vec::new();
        for _ in 0..repeat {
            let (time, matched) = timed(|| (0..CHECKS).all(|_| filter.check(black_box(&query)) == expected));
            if !matched {
                return Err(format!("{what}: another verdict than {expected:?}").into());
            }
            times.push(time / CHECKS);
        }
        report.add(what, times, None);
    }
    Ok(())
}
