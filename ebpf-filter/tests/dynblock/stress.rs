//! Everything at once.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Instant,
};

use ebpf_filter::{
    Action, Enforcement, IpNet,
    dynblock::{
        DynBlockEventKind, DynBlockGroup, Exempt, Ladder, Penalty, QueryEvent, Rate, ResponseEvent, Scope,
        ScopeBy, Subject, Transport,
    },
};

use crate::common::*;

fn group_of_everything(filter: &ebpf_filter::BpfFilter, balance: &'static AtomicU64) -> DynBlockGroup {
    let short = Penalty::block_for(millis(50));
    DynBlockGroup::builder()
        .filter(filter.clone())
        .slots(1 << 12)
        .max_blocks(64, 24)
        .quiet()
        .query_rate(Rate::per_second(50).warn_above(20), short.clone().ladder(Ladder::new()))
        .query_rate(Rate::per_second(60), Penalty::block_for(millis(80)))
        .qtype_rate(AAAA, Rate::per_second(30), short.clone().scoped(ScopeBy::Qtype).action(Action::Refused))
        .rcode_rate(SERVFAIL, Rate::per_second(30), short.clone().dry_run())
        .response_byte_rate(Rate::per_second(5000), short)
        .on_event(move |event| {
            if matches!(event.kind, DynBlockEventKind::Inserted | DynBlockEventKind::Warned) {
                balance.fetch_add(1, Ordering::Relaxed);
            }
        })
        .build()
        .unwrap()
}

/// Threads observe, add, remove, clear, change who is exempt, maintain, list and save, for two seconds by the real clock.
#[test]
fn threads_in_each_others_way() {
    static EVENTS: AtomicU64 = AtomicU64::new(0);
    let filter = off();
    let group = group_of_everything(&filter, &EVENTS);
    let folder = tempfile::tempdir().unwrap();
    let stop = AtomicBool::new(false);
    let going = || !stop.load(Ordering::Relaxed);
    let office: IpNet = "192.0.0.0/17".parse().unwrap();
    thread::scope(|scope| {
        for seed in 0..3_u32 {
            let group = &group;
            scope.spawn(move || {
                let of = name("www.example");
                let mut random = seed * 7919 + 1;
                while going() {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let host = (random >> 16) as u16 % 400;
                    let client =
                        (IpAddr::from([192, (host / 100) as u8, 2, (host % 100) as u8]), 4242).into();
                    let query = QueryEvent::new(client, &of, if random & 1 == 0 { A } else { AAAA });
                    let query = if random & 6 == 0 { query.over(Transport::Tcp) } else { query };
                    for _ in 0..8 {
                        group.observe_query(&query);
                        group.observe_response(&ResponseEvent::new(query, SERVFAIL, 100));
                    }
                }
            });
        }
        scope.spawn(|| {
            for number in 0_u32.. {
                if !going() {
                    break;
                }
                let subject = source(&format!("192.0.2.{}", number % 100));
                let _ = group.add(subject.clone(), Scope::All, &Penalty::block_for(millis(20)));
                group.remove(&subject);
                if number % 50 == 0 {
                    group.clear();
                }
            }
        });
        scope.spawn(|| {
            while going() {
                group.set_exempt(Exempt::none().exclude(office));
                for block in group.blocks() {
                    let Subject::Source(net) = block.subject else { continue };
                    // Nobody who is exempt is blocked: threads that knew nothing of it have not brought one back.
                    assert!(net.prefix_len() < 32 || !office.contains(&net), "{net}");
                }
                group.set_exempt(Exempt::none());
            }
        });
        scope.spawn(|| {
            while going() {
                group.maintain();
                group.stats();
                let blocks = group.blocks();
                assert!(blocks.iter().filter(|block| !block.warning && !block.dry_run).count() <= 64);
                group.save(folder.path().join("state")).unwrap();
            }
        });
        // Long enough for blocks of 50 ms to come and go many times.
        thread::sleep(seconds(2));
        stop.store(true, Ordering::Relaxed);
    });
    // What is placed is in the filter, and nothing else.
    thread::sleep(millis(2));
    let left = group.clear();
    let stats = group.stats();
    assert!(filter.stats().unwrap().rules.is_empty(), "{left} were left: {}", filter.stats().unwrap());
    assert_eq!(stats.active, 0);
    // Each block began once and ended once; a warning that became a block began twice.
    let begun = stats.inserted + stats.warned;
    let over = stats.expired + stats.removed;
    assert!(over <= begun && over > 100, "{stats:?}");
    assert_eq!(EVENTS.load(Ordering::Relaxed), begun, "{stats:?}");
    assert_eq!(stats.degraded, 0, "{stats:?}");
}

/// The rules in the filter are those of the blocks.
#[test]
fn rules_and_blocks_agree() {
    let (clock, filter) = (Clock::default(), off());
    let group = DynBlockGroup::builder()
        .filter(filter.clone())
        .clock(clock.clone())
        .quiet()
        .max_blocks(200, 50)
        .tiers4([(32, 1), (24, 4), (16, 16)])
        .query_rate(Rate::per_second(5), Penalty::block_for(seconds(5)).ladder(Ladder::new().second_limit(3)))
        .query_rate(Rate::per_second(9), Penalty::block_for(seconds(2)).action(Action::Refused))
        .query_rate(Rate::per_second(40), Penalty::block_for(seconds(3)))
        .build()
        .unwrap();
    let of = name("www.example");
    let mut random = 1_u32;
    let mut complete = 0;
    for round in 0..20_000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let [a, b, c, _] = (random >> 4).to_le_bytes();
        let client = ([192, a % 2, b % 4, c % 32], 4242);
        let query = QueryEvent::new(client.into(), &of, A);
        let query = if random >> 31 == 0 { query } else { query.over(Transport::Tcp) };
        (0..=random % 16).for_each(|_| {
            group.observe_query(&query);
        });
        clock.advance(millis(u64::from(random % 64)));
        if round % 16 == 0 {
            group.maintain();
            let placed: BTreeMap<_, _> = group
                .blocks()
                .iter()
                .filter(|block| matches!(block.action, Action::Drop | Action::Slip(_)))
                .map(|block| (block.subject.to_string(), block.action))
                .collect();
            let stats = filter.stats().unwrap();
            let rules: BTreeMap<_, _> = stats
                .rules
                .iter()
                .map(|rule| {
                    let of = rule.rule.matches.to_string();
                    let net = if of.contains('/') { of } else { format!("{of}/32") };
                    (net, rule.rule.action)
                })
                .collect();
            let agree = rules.iter().all(|(net, action)| placed.get(net) == Some(action));
            assert!(agree, "round {round}: {rules:?} {placed:?}");
            // Only what would hide a stricter block is not there, or was not when it was refreshed last.
            let missing: Vec<_> = placed.iter().filter(|(net, _)| !rules.contains_key(*net)).collect();
            let mild = |(net, action): &(&String, &Action)| net.ends_with("/32") && **action != Action::Drop;
            assert!(missing.iter().all(mild), "round {round}: {missing:?}");
            complete += u32::from(missing.is_empty() && !rules.is_empty());
            assert!(group.blocks().iter().all(|block| block.enforced_by == Enforcement::UserSpace));
        }
    }
    assert!(group.stats().expired > 100 && complete > 100, "{complete} {:?}", group.stats());
}

/// A flood beyond the most blocks waits for nobody: it costs little more than one below the limit.
#[test]
fn a_refused_flood_is_cheap() {
    let clock = Clock::default();
    let build = |limit| {
        let group = group(&clock).max_blocks(16, 16).quiet().query_rate(limit, block()).build().unwrap();
        for host in 0..64 {
            send(&group, &format!("192.0.2.{host}"), 2);
        }
        group
    };
    let (refused, counted) = (build(one()), build(Rate::per_second(1_000_000).over(WINDOW)));
    let of = name("www.example");
    let query = QueryEvent::new(at("192.0.2.63"), &of, A);
    // The best of many short times: other programs come in between.
    let [refused_in, counted_in] = [&refused, &counted].map(|group| {
        let once = || {
            let start = Instant::now();
            (0..1000).for_each(|_| {
                group.observe_query(&query);
            });
            start.elapsed()
        };
        (0..200).map(|_| once()).min().unwrap()
    });
    assert!(refused.stats().refused_by_cap > 200_000);
    assert_eq!(counted.stats().refused_by_cap, 0);
    assert!(refused_in < counted_in * 40, "{refused_in:?} beside {counted_in:?}");
}
