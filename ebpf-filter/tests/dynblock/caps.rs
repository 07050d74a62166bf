//! The most blocks that there may be.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex},
};

use ebpf_filter::{
    Verdict,
    dynblock::{AddError, DynBlockEventKind, DynBlockGroup, QueryEvent, Rate, Scope},
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use crate::common::*;

fn twice(group: &DynBlockGroup, client: impl Into<IpAddr>) -> Verdict {
    let of = name("www.example");
    let query = QueryEvent::new((client.into(), 4242).into(), &of, A);
    group.observe_query(&query);
    group.observe_query(&query)
}

#[test]
fn in_all_and_in_each_network() {
    let clock = Clock::default();
    let group = group(&clock).max_blocks(10, 4).query_rate(one(), block()).build().unwrap();
    for host in 0..100 {
        twice(&group, [192, 0, 2, host]);
    }
    assert_eq!(group.blocks().len(), 4);
    assert_eq!(group.stats().refused_by_cap, 96);
    assert_eq!(twice(&group, [192, 0, 200, 1]), Verdict::Pass, "in the same /16");
    for net in 0..100 {
        twice(&group, [10, net, 0, 1]);
    }
    assert_eq!(group.blocks().len(), 10);
    // What is there still holds, and is refreshed.
    clock.advance(seconds(30));
    assert_eq!(twice(&group, [192, 0, 2, 0]), Verdict::Drop);
    let first = group.block_of(&source("192.0.2.0")).unwrap();
    assert_eq!(first.remaining, MINUTE);
    let refused = group.add(source("198.51.100.1"), Scope::All, &block());
    assert_eq!(refused, Err(AddError::Cap { max: 10, within: None }));
    // Once some have ended there is room again, also before anybody has cleared them away.
    clock.advance(seconds(31));
    assert_eq!(group.blocks().len(), 1);
    assert_eq!(group.stats().active, 1);
    assert_eq!(twice(&group, [192, 0, 2, 77]), Verdict::Drop);
    assert_eq!(group.blocks().len(), 2);
}

#[test]
fn in_each_network_by_hand() {
    let clock = Clock::default();
    let group = group(&clock).max_blocks(100, 2).build().unwrap();
    for host in ["2001:db8::1", "2001:db8:1::/48"] {
        group.add(source(host), Scope::All, &block()).unwrap();
    }
    let error = group.add(source("2001:db8:ffff::2"), Scope::All, &block()).unwrap_err();
    assert_eq!(error, AddError::Cap { max: 2, within: Some("2001:db8::/32".parse().unwrap()) });
    assert_eq!(
        error.to_string(),
        "there are 2 dynamic blocks already in 2001:db8::/32: remove some, or build the group with a larger limit"
    );
    // The network itself counts for no network.
    group.add(source("2001:db8::/32"), Scope::All, &block()).unwrap();
    group.add(source("2001:db9::1"), Scope::All, &block()).unwrap();
}

/// Whoever forges sources gets no more blocks than there may be, and no more events and lines than one would read.
#[test]
fn a_million_forged_sources() {
    let clock = Clock::default();
    let filter = off();
    // For all threads: what is set for one alone is not reliable while others meet the same places for the first time.
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).unwrap();
    let events = Arc::new(Mutex::new(0));
    let refusals = Arc::clone(&events);
    let group = DynBlockGroup::builder()
        .filter(filter.clone())
        .clock(clock.clone())
        .slots(1 << 16)
        .max_blocks(503, 9)
        .query_rate(one(), block())
        .quiet()
        .on_event(move |event| {
            if event.kind == DynBlockEventKind::RefusedByCap {
                *refusals.lock().unwrap() += 1;
            }
        })
        .build()
        .unwrap();
    let of = name("www.example");
    for number in 0_u32..1_000_000 {
        let client = Ipv4Addr::from_bits(number.wrapping_mul(0x9e37_79b9));
        let query = QueryEvent::new((client, 4242).into(), &of, A);
        group.observe_query(&query);
        group.observe_query(&query);
        if number % 10_000 == 0 {
            // A million in two minutes.
            clock.advance(millis(1200));
            assert!(group.blocks().len() <= 503 && filter.stats().unwrap().rules.len() <= 503);
        }
    }
    let refused = *events.lock().unwrap();
    assert!((2..=121).contains(&refused), "{refused}");
    let stats = group.stats();
    assert!(stats.active <= 503 && stats.refused_by_cap > 900_000, "{stats:?}");
    let lines = lines.0.lock().unwrap();
    let about = |line: &&String| line.contains("there are 503,") || line.contains("there are 9 in ");
    let about: Vec<_> = lines.iter().filter(about).collect();
    assert!((2..=3).contains(&about.len()), "one a minute: {about:?}");
    assert!(about[0].contains("no more dynamic blocks: "), "{about:?}");
}

/// Warnings and dry runs take no room from blocks.
#[test]
fn warnings_take_no_room() {
    let clock = Clock::default();
    let limit = Rate::per_second(10).warn_above(2);
    let group = group(&clock)
        .max_blocks(8, 8)
        .query_rate(limit, block())
        .qtype_rate(AAAA, one(), block().dry_run())
        .build()
        .unwrap();
    for host in 0..100 {
        send(&group, &format!("192.0.2.{host}"), 3);
        send_for(&group, &format!("192.0.2.{host}"), "www.example", AAAA, 2);
    }
    assert_eq!(group.blocks().len(), 8);
    assert!(group.blocks().iter().all(|block| block.warning));
    for host in 100..200 {
        send(&group, &format!("192.0.2.{host}"), 11);
    }
    let blocks = group.blocks();
    assert_eq!(blocks.iter().filter(|block| !block.warning).count(), 8);
    assert_eq!(blocks.len(), 16);
    // There is no room for what a warning would become.
    send(&group, "192.0.2.1", 20);
    assert!(group.block_of(&source("192.0.2.1")).unwrap().warning);
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Pass);
}

/// What is logged as trouble.
#[derive(Clone, Debug, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
                let _ = write!(self.0, "{value:?} ");
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
