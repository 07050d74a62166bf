//! The decision in user space.

use std::{hint::black_box, net::Ipv4Addr};

use ebpf_filter::{BpfFilter, Mode, QName, Qtypes, Query, Verdict};

use crate::{
    common::Result,
    report::{Report, timed},
    rules::{MANY, addresses, name},
};

/// It is too fast to be timed one by one.
const CHECKS: u32 = 20_000;

pub(crate) fn measure(report: &mut Report, repeat: u16) -> Result<()> {
    let (hostile, client) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
    let blocked: QName = "evil.example".parse()?;
    let passing: QName = "www.example.com".parse()?;
    let longest: QName = format!("{}example", "abcdefghi.".repeat(24)).parse()?;

    let none = BpfFilter::builder().mode(Mode::Off).build()?;
    let some = BpfFilter::builder().mode(Mode::Off).build()?;
    some.block(hostile)?;
    some.block_qname(&blocked, Qtypes::All)?;
    let below = BpfFilter::builder().mode(Mode::Off).build()?;
    below.block_suffix(&blocked, Qtypes::All)?;
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
        ("check: suffix blocked", &below, client, &blocked, Verdict::Drop),
        ("check: passes a suffix, 15 characters", &below, client, &passing, Verdict::Pass),
        ("check: passes a suffix, 247 characters", &below, client, &longest, Verdict::Pass),
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
