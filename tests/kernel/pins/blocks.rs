//! Dynamic blocks that a process has left which was killed.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use ebpf_filter::{
    Action, BpfFilter, Enforcement, Match, Rule,
    dynblock::{DynBlockGroup, Penalty, Scope, Subject},
};
use ebpf_filter_tests::{
    dns::{A, query},
    fork::Forked,
    hits,
    pins::PinDir,
    require_kernel,
    wire::Wire,
};
use ipnet::IpNet;

use super::filter;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 36, 1));
const SECONDS: fn(u64) -> Duration = Duration::from_secs;

fn group(filter: &BpfFilter) -> DynBlockGroup {
    DynBlockGroup::builder().filter(filter.clone()).quiet().build().unwrap()
}

fn client() -> Subject {
    Subject::Source(IpNet::from(CLIENT))
}

fn left(filter: &BpfFilter) -> Duration {
    filter.rule(&Match::address(CLIENT)).unwrap().rule.expires_in.unwrap()
}

/// A process blocks the client for so long, and is killed.
fn killed_after_blocking(pins: &PinDir, duration: Duration, action: Action) {
    let filter = filter(pins.path());
    let mut changed = filter.count(ebpf_filter::Kind::Ipv4);
    let process = Forked::run(|| {
        let penalty = Penalty::block_for(duration).action(action);
        group(&filter).add(client(), Scope::All, &penalty).unwrap();
        std::thread::sleep(SECONDS(60));
    });
    while changed == 0 {
        changed = filter.count(ebpf_filter::Kind::Ipv4);
    }
    process.kill();
}

/// What it has left ends when it was to end, and whoever blocks the same client has the rule for their own.
#[test]
fn a_block_that_was_left_is_taken_over() {
    require_kernel!();
    let pins = PinDir::new();
    let wire = Wire::ipv4();
    let sender = wire.client(CLIENT);
    killed_after_blocking(&pins, SECONDS(30), Action::Drop);

    let filter = filter(pins.path());
    filter.attach(wire.server()).unwrap();
    wire.assert_drops(&sender, &query("example.", A));
    assert!(left(&filter) <= SECONDS(30) && left(&filter) > SECONDS(20));
    let group = group(&filter);
    assert_eq!(group.blocks(), []);
    // Longer, and by another action, with the same rule and its hits.
    group.add(client(), Scope::All, &Penalty::block_for(SECONDS(90)).action(Action::Truncate)).unwrap();
    let block = group.block_of(&client()).unwrap();
    assert_eq!((block.enforced_by, block.degraded, block.hits), (Enforcement::Kernel, false, 1));
    assert!(left(&filter) > SECONDS(80));
    assert_eq!(filter.rule(&Match::address(CLIENT)).unwrap().rule.action, Action::Truncate);
    // Whoever ends the block ends the rule.
    assert_eq!(group.remove(&client()).len(), 1);
    assert_eq!(filter.rule(&Match::address(CLIENT)), None);
    wire.assert_passes(&sender, &query("example.", A));
}

/// What an operator has made is never taken over, also if it ends.
#[test]
fn rules_of_an_operator_stay() {
    require_kernel!();
    let pins = PinDir::new();
    let own = Rule::new(Match::address(CLIENT), Action::Count).expires_in(SECONDS(60));
    filter(pins.path()).insert(own.clone()).unwrap();
    let second = filter(pins.path());
    let by = group(&second);
    by.add(client(), Scope::All, &Penalty::block_for(SECONDS(600))).unwrap();
    assert_eq!(by.block_of(&client()).unwrap().enforced_by, Enforcement::UserSpace);
    assert!(left(&second) <= SECONDS(60));
    assert_eq!(second.rule(&Match::address(CLIENT)).unwrap().rule.action, Action::Count);
    drop(by);
    second.clear().unwrap();

    // What a block has left becomes the operator's if they say so.
    killed_after_blocking(&pins, SECONDS(30), Action::Drop);
    let third = filter(pins.path());
    let done = third.reconcile([Rule::drop(Match::address(CLIENT))]).unwrap();
    assert_eq!((done.changed, done.added, done.removed), (1, 0, 0));
    let by = group(&third);
    by.add(client(), Scope::All, &Penalty::block_for(SECONDS(600)).action(Action::Truncate)).unwrap();
    assert_eq!(by.block_of(&client()).unwrap().enforced_by, Enforcement::UserSpace);
    assert_eq!(third.rule(&Match::address(CLIENT)).unwrap().rule, Rule::drop(Match::address(CLIENT)));
    drop(by);
    assert_eq!(hits(&third, &Match::address(CLIENT)), 0);
}

/// The state file of the process before is restored into the rules that it has left, not beside them.
#[test]
fn a_state_file_and_pins_go_together() {
    require_kernel!();
    let pins = PinDir::new();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("blocks.json");
    let first = filter(pins.path());
    let by = group(&first);
    by.add(client(), Scope::All, &Penalty::block_for(SECONDS(30))).unwrap();
    by.save(&file).unwrap();
    // Neither ends as it would if it were asked to.
    std::mem::forget((by, first));

    let second = filter(pins.path());
    let by = group(&second);
    assert_eq!(by.restore(&file).unwrap(), 1);
    let block = by.block_of(&client()).unwrap();
    assert_eq!((block.enforced_by, block.degraded), (Enforcement::Kernel, false));
    assert!(left(&second) <= SECONDS(30));
    by.remove(&client());
    assert_eq!(second.rule(&Match::address(CLIENT)), None);
}
