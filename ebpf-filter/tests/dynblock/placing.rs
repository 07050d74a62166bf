//! Blocks in a filter.

use std::sync::Mutex;

use ebpf_filter::{
    Action, BpfFilter, Enforcement, Match, Mode, Verdict,
    dynblock::{DynBlockGroup, Penalty, QueryEvent, Scope, ScopeBy, Transport},
    set_default_filter,
};

use crate::common::*;

fn address(host: u8) -> Match {
    Match::address([192, 0, 2, host])
}

fn in_filter(filter: &BpfFilter, host: u8) -> Option<Action> {
    filter.rule(&address(host)).map(|rule| rule.rule.action)
}

/// The filter of the process is everybody's: one test at a time.
static DEFAULT: Mutex<()> = Mutex::new(());

#[test]
fn the_default_filter_another_one_and_none() {
    let _alone = DEFAULT.lock().unwrap();
    let (clock, default, explicit) = (Clock::default(), off(), off());
    let builder = || DynBlockGroup::builder().clock(clock.clone()).query_rate(one(), block());
    let by_default = builder().build().unwrap();

    // As long as there is none, user space.
    send(&by_default, "192.0.2.1", 2);
    assert_eq!((verdict(&by_default, "192.0.2.1"), only(&by_default).degraded), (Verdict::Drop, false));
    set_default_filter(default.clone());
    send(&by_default, "192.0.2.2", 2);
    assert_eq!(in_filter(&default, 2), Some(Action::Drop));
    // Refreshed, the one before is put into it as well.
    clock.advance(seconds(10));
    send(&by_default, "192.0.2.1", 10);
    assert_eq!(in_filter(&default, 1), Some(Action::Drop));

    // It goes where the default goes.
    let other = off();
    set_default_filter(other.clone());
    clock.advance(seconds(10));
    send(&by_default, "192.0.2.1", 10);
    assert_eq!((in_filter(&default, 1), in_filter(&other, 1)), (None, Some(Action::Drop)));
    assert_eq!(by_default.block_of(&source("192.0.2.1")).unwrap().hits, 1 + 1 + 10 + 9);

    let explicitly = builder().filter(explicit.clone()).build().unwrap();
    send(&explicitly, "192.0.2.3", 2);
    let nowhere = builder().no_filter().build().unwrap();
    send(&nowhere, "192.0.2.4", 2);
    assert_eq!((in_filter(&other, 3), in_filter(&explicit, 3)), (None, Some(Action::Drop)));
    assert_eq!((in_filter(&other, 4), in_filter(&explicit, 4)), (None, None));
    assert_eq!(verdict(&nowhere, "192.0.2.4"), Verdict::Drop);
    set_default_filter(None);
}

/// When `observe_query` returns, the block is in force, and the query that was too many was the first that it hit.
#[test]
fn at_once() {
    let (clock, filter) = (Clock::default(), off());
    let group = group(&clock).filter(filter.clone()).query_rate(fifty(), block()).build().unwrap();
    assert_eq!(send(&group, "192.0.2.1", 500), 500);
    assert_eq!(in_filter(&filter, 1), None);
    assert_eq!(send(&group, "192.0.2.1", 1), 0);
    let rule = filter.rule(&address(1)).unwrap();
    assert_eq!((rule.rule.action, rule.hits), (Action::Drop, 1));
    let left = rule.rule.expires_in.unwrap();
    assert!(left <= MINUTE && left > seconds(50), "it ends with the block: {left:?}");
    assert_eq!(only(&group).hits, 1, "counted once");
    send(&group, "192.0.2.1", 9);
    assert_eq!((only(&group).hits, filter.rule(&address(1)).unwrap().hits), (10, 10));
}

#[test]
fn what_a_filter_cannot_do_user_space_does() {
    let (clock, filter) = (Clock::default(), off());
    let group = group(&clock).filter(filter.clone()).port_bits(1).build().unwrap();
    let add = |host: u8, scope, action| {
        group.add(source(&format!("192.0.2.{host}")), scope, &block().action(action)).unwrap();
    };
    add(1, Scope::All, Action::Drop);
    add(2, Scope::All, Action::Truncate);
    add(3, Scope::All, Action::Slip(2));
    add(4, Scope::All, Action::Refused);
    add(5, Scope::All, Action::NxDomain);
    add(6, Scope::All, Action::Count);
    add(7, Scope::Qtype(A), Action::Drop);
    add(8, Scope::Suffix(name("example")), Action::Drop);
    let placed: Vec<_> = (1..=8).map(|host| in_filter(&filter, host).is_some()).collect();
    assert_eq!(placed, [true, true, true, false, false, false, false, false]);
    let verdicts: Vec<_> = (1..=8).map(|host| verdict(&group, &format!("192.0.2.{host}"))).collect();
    assert_eq!(
        verdicts,
        [
            Verdict::Drop,
            Verdict::Truncate,
            Verdict::Drop,
            Verdict::Refused,
            Verdict::NxDomain,
            Verdict::Pass,
            Verdict::Drop,
            Verdict::Drop
        ]
    );
    assert!(group.blocks().iter().all(|block| block.hits == 1 && !block.degraded));
}

/// Ranges of ports are only for user space, and hold however they came about.
#[test]
fn ports_by_hand() {
    let clock = Clock::default();
    let group = group(&clock).build().unwrap();
    let ports =
        |first, last| ebpf_filter::dynblock::Subject::Ports { address: [192, 0, 2, 1].into(), first, last };
    group.add(ports(100, 199), Scope::All, &block()).unwrap();
    group.add(ports(150, 299), Scope::Qtype(AAAA), &block()).unwrap();
    assert_eq!(verdict(&group, "192.0.2.1:100"), Verdict::Drop);
    assert_eq!(verdict(&group, "192.0.2.1:199"), Verdict::Drop);
    assert_eq!(verdict(&group, "192.0.2.1:200"), Verdict::Pass);
    assert_eq!(verdict(&group, "192.0.2.2:100"), Verdict::Pass);
    assert!(group.add(ports(2, 1), Scope::All, &block()).is_err());
    assert_eq!(group.remove(&ports(100, 199)).len(), 1);
    assert_eq!(verdict(&group, "192.0.2.1:100"), Verdict::Pass);
    group.clear();
}

#[test]
fn a_full_filter() {
    let clock = Clock::default();
    let filter = BpfFilter::builder().mode(Mode::Off).ipv4_max(2).build().unwrap();
    let group = group(&clock).filter(filter.clone()).query_rate(one(), block()).build().unwrap();
    for host in 1..=4 {
        assert_eq!(send(&group, &format!("192.0.2.{host}"), 10), 1);
    }
    let degraded: Vec<_> = group.blocks().iter().map(|block| (block.degraded, block.hits)).collect();
    assert_eq!(degraded, [(false, 9), (false, 9), (true, 9), (true, 9)]);
    assert_eq!(group.stats().degraded, 2);
    assert_eq!(group.blocks()[3].enforced_by, Enforcement::UserSpace);
    // Once there is room, the next excess takes it, and hits are neither lost nor counted twice.
    group.remove(&source("192.0.2.1"));
    clock.advance(seconds(10));
    assert_eq!(send(&group, "192.0.2.3", 11), 0);
    let third = group.block_of(&source("192.0.2.3")).unwrap();
    assert_eq!((third.degraded, third.hits, in_filter(&filter, 3)), (false, 20, Some(Action::Drop)));
    assert_eq!(send(&group, "192.0.2.4", 20), 0);
    assert_eq!(group.stats().degraded, 2, "the same blocks are not counted again");
}

#[test]
fn a_changed_action_changes_the_rule() {
    let (clock, filter) = (Clock::default(), off());
    let group = group(&clock).filter(filter.clone()).build().unwrap();
    let add = |action| group.add(source("192.0.2.1"), Scope::All, &block().action(action)).unwrap();
    let id = add(Action::Drop);
    verdict(&group, "192.0.2.1");
    for (action, expected) in [
        (Action::Truncate, Verdict::Truncate),
        (Action::Refused, Verdict::Refused),
        (Action::Slip(0), Verdict::Drop),
        (Action::Count, Verdict::Pass),
        (Action::Drop, Verdict::Drop),
    ] {
        let hits = only(&group).hits;
        assert_eq!(add(action), id);
        assert_eq!(verdict(&group, "192.0.2.1"), expected, "{action:?}");
        let expressible = matches!(action, Action::Drop | Action::Truncate | Action::Slip(_));
        assert_eq!(in_filter(&filter, 1), expressible.then_some(action));
        assert_eq!((only(&group).action, only(&group).hits), (action, hits + 1), "{action:?}");
    }
}

#[test]
fn removal_removes_rules() {
    let (clock, filter) = (Clock::default(), off());
    let group = group(&clock).filter(filter.clone()).build().unwrap();
    let mut ids = Vec::new();
    for host in 1..=4 {
        ids.push(group.add(source(&format!("192.0.2.{host}")), Scope::All, &block()).unwrap());
    }
    let also = group.add(source("192.0.2.1"), Scope::Qtype(A), &block()).unwrap();
    assert_eq!(filter.stats().unwrap().rules.len(), 4);
    let removed = group.remove(&source("192.0.2.1"));
    assert_eq!(removed.len(), 2);
    assert!(removed.iter().any(|block| block.id == also));
    assert_eq!(group.remove_id(ids[1]).map(|block| block.subject), Some(source("192.0.2.2")));
    assert_eq!(group.remove_id(ids[1]), None);
    assert_eq!(filter.stats().unwrap().rules.len(), 2);
    assert_eq!(verdict(&group, "192.0.2.2"), Verdict::Pass);
    assert_eq!(group.clear(), 2);
    assert!(filter.stats().unwrap().rules.is_empty());
    assert_eq!((group.stats().removed, group.stats().active), (5, 0));
}

/// The filter is asked as it would be without the group.
#[test]
fn static_rules_hold_too() {
    let (clock, filter) = (Clock::default(), off());
    filter.block([192, 0, 2, 1]).unwrap();
    let group = group(&clock).filter(filter).query_rate(fifty(), block()).build().unwrap();
    assert_eq!(send(&group, "192.0.2.1", 1), 0);
    assert_eq!(send(&group, "192.0.2.2", 1), 1);
}

#[test]
fn a_rule_that_somebody_removed_comes_back() {
    let (clock, filter) = (Clock::default(), off());
    let group = group(&clock).filter(filter.clone()).query_rate(one(), block()).build().unwrap();
    send(&group, "192.0.2.1", 2);
    filter.clear().unwrap();
    clock.advance(millis(200));
    send(&group, "192.0.2.1", 2);
    assert_eq!(in_filter(&filter, 1), Some(Action::Drop));
}

#[test]
fn two_groups_share_a_filter() {
    let (clock, filter) = (Clock::default(), off());
    let build = |length| {
        let penalty = Penalty::block_for(seconds(length));
        group(&clock).filter(filter.clone()).query_rate(one(), penalty).build().unwrap()
    };
    let (short, long) = (build(10), build(60));
    send(&short, "192.0.2.1", 2);
    send(&long, "192.0.2.1", 2);
    assert_eq!(filter.stats().unwrap().rules.len(), 1);
    clock.advance(seconds(10));
    short.maintain();
    assert!(filter.stats().unwrap().rules.is_empty());
    assert_eq!(verdict(&long, "192.0.2.1"), Verdict::Drop);
    assert_eq!(verdict(&short, "192.0.2.1"), Verdict::Pass);
}

/// Of several blocks that are about a query, the one counts that does most to it.
#[test]
fn the_strictest_block_counts() {
    let clock = Clock::default();
    let group = group(&clock).build().unwrap();
    let add = |net, action| group.add(source(net), Scope::All, &block().action(action)).unwrap();
    add("192.0.2.0/24", Action::Refused);
    add("192.0.2.1", Action::Truncate);
    let of = name("www.example");
    let query = QueryEvent::new(at("192.0.2.1"), &of, A);
    assert_eq!(group.check(&query), Verdict::Truncate);
    // Over TCP, the truncating one does nothing, and the other one what it says.
    assert_eq!(group.check(&query.over(Transport::Tcp)), Verdict::Refused);
    assert_eq!(verdict(&group, "192.0.2.2"), Verdict::Refused);
}

#[test]
fn scopes_stay_in_user_space() {
    let (clock, filter) = (Clock::default(), off());
    let penalty = block().scoped(ScopeBy::Qtype);
    let group = group(&clock).filter(filter.clone()).query_rate(one(), penalty).build().unwrap();
    send(&group, "192.0.2.1", 2);
    assert!(filter.stats().unwrap().rules.is_empty());
    assert_eq!(verdict(&group, "192.0.2.1"), Verdict::Drop);
}
