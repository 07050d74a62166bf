//! The time that one limit takes, and that several take for a packet.

use std::{hint::black_box, net::Ipv4Addr, thread};

use ebpf_filter::{
    bench_support::{Limits, now},
    dynblock::Rate,
};

use crate::{
    common::Result,
    contestants::{Contestant, Dashmap, Dashmaps, Group, Hashed, Ours},
    report::{Report, each},
    sources::{key, shuffled},
};

/// The fewest events that are timed.
const EVENTS: usize = 1 << 20;

pub(crate) fn one(report: &mut Report, repeat: u16) -> Result<()> {
    let clock =
        (0..repeat).map(|_| each(EVENTS, || (0..EVENTS).for_each(|_| _ = black_box(now())))).collect();
    report.add("reading the clock", clock, None);
    for (sources, bar) in [(16_000, 60.0), (1_000_000, 120.0)] {
        eprintln!("{sources} sources");
        let order = shuffled(sources);
        let ours = Case::<Ours>::new(&order)?;
        let hashed = Case::<Hashed>::new(&order)?;
        let group = Case::<Group>::new(&order)?;
        let dashmap = Case::<Dashmap>::new(&order)?;
        let mut times: [Vec<_>; 4] = Default::default();
        for _ in 0..repeat {
            let round = [ours.time(), hashed.time(), group.time(), dashmap.time()];
            times.iter_mut().zip(round).for_each(|(times, time)| times.push(time));
        }
        let [ours, hashed, group, dashmap] = times;
        report.add(&format!("{}, {sources} sources", Group::NAME), group, Some(bar));
        report.add(&format!("{}, {sources} sources", Ours::NAME), ours, Some(bar));
        report.add(&format!("{}, {sources} sources", Hashed::NAME), hashed, None);
        report.add(&format!("{}, {sources} sources", Dashmap::NAME), dashmap, None);
    }
    Ok(())
}

/// A contestant that knows its sources.
struct Case<C: Contestant> {
    contestant: C,
    keys: Vec<C::Key>,
    passes: usize,
}

impl<C: Contestant> Case<C> {
    fn new(order: &[u32]) -> Result<Self> {
        let contestant = C::new(order.len())?;
        let keys: Vec<_> = order.iter().map(|number| C::key(*number)).collect();
        let case = Self { contestant, passes: EVENTS.div_ceil(keys.len()), keys };
        case.pass(case.keys.iter());
        Ok(case)
    }

    fn time(&self) -> f64 {
        each(self.keys.len() * self.passes, || self.run())
    }

    fn run(&self) {
        (0..self.passes).for_each(|_| self.pass(self.keys.iter()));
    }

    fn pass<'a>(&'a self, keys: impl Iterator<Item = &'a C::Key>) {
        for key in keys {
            self.contestant.observe(black_box(key));
        }
    }
}

/// Four limits with four prefixes of each source.
pub(crate) fn sixteen(report: &mut Report, repeat: u16) -> Result<()> {
    const SOURCES: u32 = 16_000;
    let rates = [1_000_000, 1_100_000, 1_200_000, 1_300_000].map(Rate::per_second);
    let limits = Limits::new(2 * 16 * SOURCES as usize, rates).ok_or("not enough memory")?;
    // An address, and prefixes that it shares with others.
    let keys: Vec<_> = shuffled(SOURCES)
        .into_iter()
        .map(|number| [0, 1, 2, 3].map(|length| key(length << 32 | u64::from(number) >> (4 * length))))
        .collect();
    let pass = || keys.iter().for_each(|keys| _ = black_box(limits.observe(black_box(keys))));
    pass();
    let times = (0..repeat).map(|_| each(4 * keys.len(), || (0..4).for_each(|_| pass()))).collect();
    report.add("four limits × four prefixes, 16000 sources", times, Some(250.0));
    Ok(())
}

/// The same, as a server asks a group with the slots that it has by default: for clients of 64 networks, as a resolver has them,
/// and for sources that share no prefix with each other, each of which is sixteen lines of memory.
pub(crate) fn group_of_sixteen(report: &mut Report, repeat: u16) -> Result<()> {
    const SOURCES: u32 = 16_000;
    const NETWORKS: u32 = 64;
    let lengths = [(32, 1), (24, 32), (20, 256), (18, 768)];
    let neighbours =
        |number: u32| 10_u32 << 24 | (number % NETWORKS) << 16 | (number / NETWORKS * 37) & 0xffff;
    let neighbours = |number| Ipv4Addr::from_bits(neighbours(number));
    let numbers = shuffled(SOURCES);
    let sources = [
        (
            "16000 sources in 64 networks",
            1 << 18,
            numbers.iter().copied().map(neighbours).collect::<Vec<_>>(),
        ),
        ("16000 sources everywhere", 1 << 19, numbers.iter().copied().map(Group::key).collect()),
    ];
    for (what, slots, keys) in sources {
        let (group, dashmaps) = (Group::with(4, &lengths, slots)?, Dashmaps::new(4)?);
        let ours = || keys.iter().for_each(|key| group.observe(black_box(key)));
        let theirs = || keys.iter().for_each(|key| dashmaps.observe(*black_box(key), &lengths));
        ours();
        theirs();
        let mut times: [Vec<_>; 2] = Default::default();
        for _ in 0..repeat {
            times[0].push(each(4 * keys.len(), || (0..4).for_each(|_| ours())));
            times[1].push(each(4 * keys.len(), || (0..4).for_each(|_| theirs())));
        }
        let [ours, theirs] = times;
        report.add(&format!("observe_query, four limits × four prefixes, {what}"), ours, Some(250.0));
        report.add(&format!("governor's DashMap, four × four prefixes, {what}"), theirs, None);
    }
    Ok(())
}

/// Two threads. Where sockets share a port, the kernel spreads packets over them by source, so that a thread has sources of its
/// own; the harder case is that both have all of them, each in another order.
pub(crate) fn threads(report: &mut Report, repeat: u16) -> Result<()> {
    for sources in [16_000, 1_000_000] {
        eprintln!("{sources} sources, two threads");
        let order = shuffled(sources);
        let group = Case::<Group>::new(&order)?;
        let what =
            |name: &str, which| format!("{name}, {sources} sources, {which}: events of two threads / one");
        report.add_ratio(&what(Group::NAME, "half for each"), two_threads(&group, repeat, true), 1.6);
        report.add_ratio(&what(Group::NAME, "the same for both"), two_threads(&group, repeat, false), 1.6);
        let dashmap = Case::<Dashmap>::new(&order)?;
        report.add_ratio(&what(Dashmap::NAME, "half for each"), two_threads(&dashmap, repeat, true), 0.0);
        report.add_ratio(
            &what(Dashmap::NAME, "the same for both"),
            two_threads(&dashmap, repeat, false),
            0.0,
        );
    }
    Ok(())
}

fn two_threads<C: Contestant>(case: &Case<C>, repeat: u16, apart: bool) -> Vec<f64> {
    let events = case.keys.len() * case.passes;
    let (first, second) = case.keys.split_at(case.keys.len() / 2);
    let (first, second) = if apart { (first, second) } else { (&*case.keys, &*case.keys) };
    // As many events for each.
    let passes = if apart { 2 * case.passes } else { case.passes };
    let observe = |key: &C::Key| case.contestant.observe(black_box(key));
    let both = || {
        thread::scope(|scope| {
            let other =
                scope.spawn(|| each(events, || (0..passes).for_each(|_| first.iter().for_each(observe))));
            let this = each(events, || (0..passes).for_each(|_| second.iter().rev().for_each(observe)));
            other.join().map_or(f64::INFINITY, |other| f64::midpoint(this, other))
        })
    };
    (0..repeat).map(|_| 2.0 * each(events, || case.run()) / both()).collect()
}
