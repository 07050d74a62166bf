//! Many rules at once, and filters for them.

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use ebpf_filter::{BpfFilter, Match, Qtypes, Rule, Selection};

use crate::{
    common::Result,
    report::{Report, timed},
    rules::{MANY, MILLION, address, addresses, builder, name, suffix},
};

pub(crate) fn build(report: &mut Report, repeat: u16) -> Result<()> {
    let bar = Some(Duration::from_millis(200));
    for (what, max, bar) in [
        ("build and attach, room for 1024 rules of each of three kinds", 1024, bar),
        ("same, 100,000 rules", MANY, bar),
        ("same, 1,000,000 rules", MILLION, None),
    ] {
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
        report.add(what, times, bar);
    }
    Ok(())
}

pub(crate) fn hundred_thousand(report: &mut Report, repeat: u16) -> Result<()> {
    let names: Vec<_> = (0..MANY).map(name).collect::<Result<_>>()?;
    let names = || names.iter().map(|name| Rule::drop(Match::qname(name.clone(), Qtypes::All)));
    let mut times: [Vec<_>; 5] = Default::default();
    for _ in 0..repeat {
        let filter = builder().ipv4_max(MANY).qnames_max(MANY).build()?;
        let measured = [
            timed(|| filter.insert_many(addresses()).map_err(Into::into)),
            timed(|| expect(&filter, &Selection::all(), MANY)),
            timed(|| filter.clear().map_err(Into::into)),
            timed(|| filter.insert_many(names()).map_err(Into::into)),
            timed(|| expect(&filter, &Selection::all(), MANY)),
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

pub(crate) fn million(report: &mut Report, repeat: u16) -> Result<()> {
    let suffixes: Vec<_> = (0..MILLION).map(suffix).collect::<Result<_>>()?;
    let mut times: [Vec<_>; 5] = Default::default();
    for round in 1..=repeat {
        eprint!("\r  round {round} of {repeat}");
        let filter = builder().ipv4_max(MILLION).suffixes_max(MILLION).build()?;
        let rules = suffixes.clone();
        let busiest = Selection::all().by_hits().limit(20);
        let alone = longest_insert(&filter, |longest| thread::sleep(Duration::from_millis(longest)))?;
        filter.clear()?;
        let (insert, result) = timed(|| filter.insert_many(rules));
        result?;
        let (all, result) = timed(|| expect(&filter, &Selection::all(), MILLION));
        result?;
        let (top, result) = timed(|| expect(&filter, &busiest, 20));
        result?;
        let mut read = Ok(());
        let beside = longest_insert(&filter, |_| read = filter.stats().map(drop))?;
        read?;
        for (times, time) in times.iter_mut().zip([insert, all, top, beside, alone]) {
            times.push(time);
        }
    }
    eprintln!();
    let [insert, all, top, beside, alone] = times;
    report.add("insert_many of 1,000,000 suffixes", insert, None);
    report.add("stats of 1,000,000 suffixes", all, None);
    report.add("stats_of the 20 busiest of 1,000,000 suffixes", top, None);
    report.add("longest single insert while those stats are read", beside, None);
    report.add("longest single insert in as long a time, for reference", alone, None);
    Ok(())
}

/// Inserts addresses on another thread, one by one, while `meanwhile` runs, which may take half a second if it has nothing
/// else to do. Returns how long the slowest took.
fn longest_insert(filter: &BpfFilter, meanwhile: impl FnOnce(u64)) -> Result<Duration> {
    let done = AtomicBool::new(false);
    let insert = || -> std::result::Result<_, ebpf_filter::RuleError> {
        let mut longest = Duration::ZERO;
        for number in (0..MILLION).take_while(|_| !done.load(Ordering::Relaxed)) {
            let rule = Rule::drop(Match::Ipv4(address(number)));
            let (time, result) = timed(|| filter.insert(rule));
            result?;
            longest = longest.max(time);
            // As often as somebody may, and not so often that there is no room in the end.
            thread::sleep(Duration::from_micros(50));
        }
        Ok(longest)
    };
    thread::scope(|scope| {
        let thread = scope.spawn(insert);
        meanwhile(500);
        done.store(true, Ordering::Relaxed);
        thread.join().map_err(|_| "the thread that inserts has panicked")?.map_err(Into::into)
    })
}

fn expect(filter: &BpfFilter, selection: &Selection, rules: u32) -> Result<()> {
    let count = filter.stats_of(selection)?.rules.len();
    if count == rules as usize { Ok(()) } else { Err(format!("{count} rules of {rules}").into()) }
}
