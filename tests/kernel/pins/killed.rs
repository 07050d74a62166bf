//! A process that changes rules is killed: after every single store, and at moments that nobody chooses.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    thread,
    time::{Duration, Instant},
};

use ebpf_filter::{Action, BpfFilter, IpNet, Kind, Match, QName, Qtypes, Query, Rule, Verdict};
use ebpf_filter_tests::{
    dns::{A, query},
    fork::Forked,
    model::frame::{PAYLOAD_OFFSET, frame},
    pins::{PinDir, PinnedMemory},
    require_kernel,
};

use super::{MAX, builder};

/// The rules that there are, with what they do.
type Rules = BTreeMap<Match, Action>;

/// Clients that no rule for sources matches ask for names; whoever asks for this name matches none for names.
const ELSEWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1));
const NO_NAME: &str = "none.invalid";

/// What rules of the tests match: every kind, names in the node alone and with one to ten blocks.
fn universe() -> Vec<Match> {
    let label = |len: usize, nth: usize| format!("{}{nth}", "x".repeat(len));
    let name =
        |labels: usize, nth: usize| -> QName { vec![label(48, nth); labels].join(".").parse().unwrap() };
    let short = |nth: usize| -> QName { format!("a{nth}.example").parse().unwrap() };
    let mut all = Vec::new();
    for nth in 0..4 {
        let byte = u8::try_from(nth).unwrap();
        all.push(Match::address([10, 0, 0, byte]));
        all.push(Match::address(format!("2001:db8::{nth}").parse::<IpAddr>().unwrap()));
        all.push(Match::range(IpNet::new([10, 8 + byte, 0, 0].into(), 16 + byte).unwrap()));
        all.push(Match::range(format!("2001:db8:{}::/{}", nth + 1, 48 + nth).parse::<IpNet>().unwrap()));
        all.push(Match::qname(short(nth), Qtypes::All));
        all.push(Match::qname(name(1 + nth, nth), Qtypes::Only(A)));
        all.push(Match::suffix(format!("{}.test", label(48, nth)).parse().unwrap(), Qtypes::All));
    }
    all
}

/// A source that the rule is about, and a name that it is about.
fn hit_by(of: &Match) -> (IpAddr, String) {
    match of {
        Match::Ipv4(address) => ((*address).into(), NO_NAME.to_owned()),
        Match::Ipv6(address) => ((*address).into(), NO_NAME.to_owned()),
        Match::Range4(net) => (net.broadcast().into(), NO_NAME.to_owned()),
        Match::Range6(net) => (net.broadcast().into(), NO_NAME.to_owned()),
        Match::Qname(name, _) => (ELSEWHERE, name.to_string()),
        Match::Suffix(name, _) => (ELSEWHERE, format!("below.{name}")),
        other => panic!("{other}"),
    }
}

fn drops_in_kernel(filter: &BpfFilter, of: &Match) -> bool {
    let (source, name) = hit_by(of);
    filter.run_in_kernel("dns_full", &frame(source, &query(&name, A))) == Some(0)
}

fn drops_in_user_space(filter: &BpfFilter, of: &Match) -> bool {
    let (source, name) = hit_by(of);
    filter.check(&Query::new(source, &name.parse().unwrap(), A)) == Verdict::Drop
}

fn listed(filter: &BpfFilter) -> Rules {
    let rules = filter.stats().unwrap().rules;
    rules.into_iter().map(|found| (found.rule.matches, found.rule.action)).collect()
}

/// These rules are found by everybody, nothing else matches, and no room is lost. What is added to find that out is removed.
#[track_caller]
fn assert_sound(filter: &BpfFilter, expected: &Rules, what: &str) {
    // Reading what is not to be changed puts right what was left half done. This takes everything over.
    for kind in Kind::ALL {
        let count = expected.keys().filter(|of| of.kind() == kind).count();
        assert_eq!(filter.count(kind) as usize, count, "{kind} {what}");
    }
    assert_eq!(listed(filter), *expected, "{what}");
    for of in universe() {
        let drops = expected.get(&of) == Some(&Action::Drop);
        assert_eq!(
            filter.rule(&of).map(|found| found.rule.action),
            expected.get(&of).copied(),
            "{of} {what}"
        );
        assert_eq!(drops_in_kernel(filter, &of), drops, "{of} in the kernel, {what}");
        assert_eq!(drops_in_user_space(filter, &of), drops, "{of} in user space, {what}");
    }
    let more: Vec<_> = Kind::ALL.into_iter().flat_map(|kind| fill(kind, filter.count(kind))).collect();
    filter.insert_many(more.clone()).unwrap_or_else(|error| panic!("{error}, {what}"));
    for rule in &more {
        filter.remove(&rule.matches).unwrap();
    }
    assert_eq!(listed(filter), *expected, "{what}");
}

/// Rules for all places of a kind that are left. The names are as long as there is memory for.
fn fill(kind: Kind, count: u32) -> impl Iterator<Item = Rule> {
    let long = |nth: u32| -> QName {
        let label = "y".repeat(60);
        format!("{label}.{label}.{label}.{}{nth:04}", "z".repeat(50)).parse().unwrap()
    };
    (count..MAX).map(move |nth| {
        let byte = u8::try_from(nth).unwrap();
        Rule::drop(match kind {
            Kind::Ipv4 => Match::address([172, 16, 0, byte]),
            Kind::Ipv6 => Match::address(format!("fd00::{nth}").parse::<IpAddr>().unwrap()),
            Kind::Range4 => Match::range(IpNet::new([172, 17, byte, 0].into(), 24).unwrap()),
            Kind::Range6 => Match::range(format!("fd00:{nth}::/64").parse::<IpNet>().unwrap()),
            Kind::Qname => Match::qname(long(nth), Qtypes::All),
            Kind::Suffix => Match::suffix(long(nth), Qtypes::Only(A)),
            other => panic!("{other}"),
        })
    })
}

/// A change, and the rules after it.
#[derive(Clone, Debug)]
enum Change {
    Insert(Match, Action),
    Replace(Match, Action),
    Remove(Match),
    Clear,
}

impl Change {
    fn apply(&self, filter: &BpfFilter) {
        match self {
            Self::Insert(of, action) => filter.insert(Rule::new(of.clone(), *action)).unwrap(),
            Self::Replace(of, action) => drop(filter.replace(Rule::new(of.clone(), *action)).unwrap()),
            Self::Remove(of) => filter.remove(of).unwrap(),
            Self::Clear => filter.clear().unwrap(),
        }
    }

    fn after(&self, rules: &Rules) -> Rules {
        let mut rules = rules.clone();
        match self {
            Self::Insert(of, action) | Self::Replace(of, action) => drop(rules.insert(of.clone(), *action)),
            Self::Remove(of) => drop(rules.remove(of)),
            Self::Clear => rules.clear(),
        }
        rules
    }
}

/// A process does `change` until its `stores`th store to shared memory, and is killed. Whether it got to so many.
fn kill_after(filter: &BpfFilter, memory: &[PinnedMemory], change: &Change, stores: usize) -> bool {
    let mut before: Vec<_> = memory.iter().map(PinnedMemory::bytes).collect();
    let mut process = Forked::run_traced(|| change.apply(filter));
    let mut seen = 0;
    while seen < stores {
        if !process.step() {
            return false;
        }
        let changed = memory.iter().zip(&mut before).map(|(memory, before)| memory.update(before));
        seen += usize::from(changed.fold(false, |any, one| any | one));
    }
    process.kill();
    true
}

#[test]
fn killed_after_every_single_store() {
    require_kernel!(BPF | SYS_PTRACE);
    let pins = PinDir::new();
    let filter = builder(pins.path()).payload_offset(PAYLOAD_OFFSET).build().unwrap();
    let parts =
        ["format", "policy", "control", "ipv4", "ipv6", "ranges4", "ranges6", "names", "blocks", "sieve"];
    let memory = parts.map(|pin| PinnedMemory::of(&pins.pin(pin)));
    let universe = universe();
    // Two of every kind stay all the time, or none at all.
    let steady: Vec<_> = universe[..14].to_vec();
    let mut total = 0;
    for with_steady in [true, false] {
        for of in &universe[21..] {
            let mut base = Rules::new();
            if with_steady {
                base.extend(steady.iter().map(|of| (of.clone(), Action::Drop)));
            }
            let with = Change::Insert(of.clone(), Action::Drop).after(&base);
            for (before, change) in [
                (&base, Change::Insert(of.clone(), Action::Drop)),
                (&with, Change::Remove(of.clone())),
                (&with, Change::Replace(of.clone(), Action::Count)),
                (&with, Change::Clear),
            ] {
                // The first and the last rule of a kind, and the first and the last of many.
                let is_for_few = matches!(change, Change::Clear | Change::Insert(..));
                if !with_steady && !is_for_few || with_steady && matches!(change, Change::Clear) {
                    continue;
                }
                total += kill_after_each(&filter, &memory, before, &change, &steady);
            }
        }
    }
    // Or the processes died of something else, or not at all.
    assert!(total > 150, "{total}");
    println!("killed {total} times");
}

fn kill_after_each(
    filter: &BpfFilter,
    memory: &[PinnedMemory],
    before: &Rules,
    change: &Change,
    steady: &[Match],
) -> usize {
    for stores in 1.. {
        filter.clear().unwrap();
        filter.insert_many(before.iter().map(|(of, action)| Rule::new(of.clone(), *action))).unwrap();
        let was_killed = kill_after(filter, memory, change, stores);
        let what = format!("{change:?} until store {stores}");
        // Whoever was in force stays so, before anybody has looked.
        if !matches!(change, Change::Clear) {
            for of in steady.iter().filter(|of| before.contains_key(of)) {
                assert!(drops_in_kernel(filter, of), "{of} at once after {what}");
                assert!(drops_in_user_space(filter, of), "{of} at once after {what}");
            }
        }
        let after = change.after(before);
        let found = listed(filter);
        if matches!(change, Change::Clear) && was_killed {
            assert!(found.iter().all(|(of, action)| before.get(of) == Some(action)), "{what}: {found:?}");
        } else if was_killed {
            assert!(found == *before || found == after, "{what}: {found:?}");
        } else {
            assert_eq!(found, after, "{what}");
        }
        assert_sound(filter, &found, &what);
        if !was_killed {
            return stores - 1;
        }
    }
    unreachable!("every change ends")
}

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// A thousand processes, each killed within three milliseconds. What rules there may be then: whatever it has changed it may have
/// changed, but of each only as a whole; what it leaves alone stays.
#[test]
fn killed_a_thousand_times() {
    const TIMES: usize = 1000;
    const PATIENCE: Duration = Duration::from_secs(120);
    require_kernel!();
    let pins = PinDir::new();
    let filter = builder(pins.path()).payload_offset(PAYLOAD_OFFSET).build().unwrap();
    let universe = universe();
    let (steady, others) = universe.split_at(14);
    let drop_rule = |of: &Match| Rule::drop(of.clone());
    filter.insert_many(steady.iter().map(drop_rule)).unwrap();
    let mut random = Random(1);
    let (start, mut kills, mut changed) = (Instant::now(), 0, 0);
    let mut last = listed(&filter);
    while kills < TIMES && start.elapsed() < PATIENCE {
        let seed = random.below(usize::MAX);
        let process = Forked::run(|| {
            let mut random = Random(seed as u64);
            loop {
                let of = &others[random.below(others.len())];
                match random.below(3) {
                    0 => drop(filter.insert(drop_rule(of))),
                    1 => drop(filter.remove(of)),
                    _ => drop(filter.replace(Rule::new(of.clone(), Action::Count))),
                }
            }
        });
        thread::sleep(Duration::from_micros(u64::try_from(300 + random.below(2700)).unwrap()));
        process.kill();
        kills += 1;
        for of in steady {
            assert!(drops_in_kernel(&filter, of), "{of} after {kills}");
        }
        let found = listed(&filter);
        assert!(steady.iter().all(|of| found.get(of) == Some(&Action::Drop)), "after {kills}");
        assert!(found.keys().all(|of| universe.contains(of)), "after {kills}: {found:?}");
        changed += usize::from(found != last);
        assert_sound(&filter, &found, &format!("after {kills} kills, seed {seed}"));
        last = found;
    }
    println!("{kills} kills in {:?}, {changed} of which changed something", start.elapsed());
    assert!(kills >= 100 && changed > kills / 2, "{kills}, {changed}");
}
