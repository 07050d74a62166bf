//! Every action for every kind of rule: what the kernel does, and what it leaves to user space.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::{IpAddr, Ipv4Addr};

use ebpf_filter::{Action, BpfFilter, BpfFilterBuilder, Match, Mode, QName, Qtypes, Query, Rule, Verdict};
use ebpf_filter_tests::{
    dns::{A, query},
    hits, in_both_worlds, require_kernel,
    wire::Wire,
    world::World,
};

type NewWorld = fn(BpfFilterBuilder) -> World;

in_both_worlds!(only_drop_drops, all_but_count_decide, an_action_can_be_replaced);

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 25, 1);

fn name() -> QName {
    "evil.example".parse().unwrap()
}

fn matches() -> [Match; 6] {
    [
        Match::address(CLIENT),
        Match::range("127.0.25.0/24".parse::<ipnet::IpNet>().unwrap()),
        Match::qname(name(), Qtypes::Only(A)),
        Match::qname(name(), Qtypes::All),
        Match::suffix(name(), Qtypes::Only(A)),
        Match::suffix(name(), Qtypes::All),
    ]
}

const fn verdict(action: Action) -> Verdict {
    match action {
        Action::Pass | Action::Count => Verdict::Pass,
        Action::Drop => Verdict::Drop,
        Action::Truncate => Verdict::Truncate,
        Action::Refused => Verdict::Refused,
        Action::NxDomain => Verdict::NxDomain,
    }
}

fn only_drop_drops(new: NewWorld) {
    let world = new(BpfFilter::builder());
    for of in matches() {
        for action in Action::ALL {
            world.filter.insert(Rule::new(of.clone(), action)).unwrap();
            let message = query("evil.example.", A);
            assert_eq!(
                world.passes(CLIENT, &message),
                world.filter.check_datagram(CLIENT, &message) != Verdict::Drop
            );
            assert_eq!(world.filter.check_datagram(CLIENT, &message), verdict(action), "{of} {action:?}");
            // The first was the kernel's, if there is one.
            assert_eq!(hits(&world.filter, &of), 3, "{of} {action:?}");
            world.filter.remove(&of).unwrap();
        }
    }
}

fn all_but_count_decide(new: NewWorld) {
    let world = new(BpfFilter::builder());
    let all = matches();
    for (index, of) in all.iter().enumerate() {
        for action in Action::ALL {
            world.filter.clear().unwrap();
            world.filter.insert(Rule::new(of.clone(), action)).unwrap();
            for behind in &all[index + 1..] {
                world.filter.insert(Rule::drop(behind.clone())).unwrap();
            }
            let counts = action == Action::Count && index + 1 < all.len();
            let expected = if counts { Verdict::Drop } else { verdict(action) };
            let message = query("evil.example.", A);
            assert_eq!(world.filter.check_datagram(CLIENT, &message), expected, "{of} {action:?}");
            assert_eq!(world.passes(CLIENT, &message), expected != Verdict::Drop, "{of} {action:?}");
            assert_eq!(hits(&world.filter, of), 2);
            if let Some(next) = all.get(index + 1) {
                assert_eq!(hits(&world.filter, next), if counts { 2 } else { 0 }, "{next}");
            }
        }
    }
}

fn an_action_can_be_replaced(new: NewWorld) {
    let world = new(BpfFilter::builder());
    let message = query("evil.example.", A);
    for of in matches() {
        for (count, action) in Action::ALL.into_iter().enumerate() {
            assert_eq!(world.filter.replace(Rule::new(of.clone(), action)).unwrap(), count > 0);
            assert_eq!(world.passes(CLIENT, &message), action != Action::Drop, "{of} {action:?}");
            assert_eq!(hits(&world.filter, &of), count as u64 + 1);
        }
        world.filter.remove(&of).unwrap();
    }
}

/// The kernel has let the packet through and counted it; the server asks what to answer, and nothing is counted twice.
#[test]
fn what_the_server_answers_is_counted_once() {
    require_kernel!();
    let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
    let wire = Wire::ipv4();
    filter.attach(wire.server()).unwrap();
    let client = wire.client(CLIENT);
    let name = name();
    let asked = Query::new(CLIENT.into(), &name, A);
    for of in matches() {
        for action in [Action::Truncate, Action::Refused, Action::NxDomain, Action::Pass, Action::Count] {
            filter.insert(Rule::new(of.clone(), action)).unwrap();
            wire.assert_passes(&client, &query("Evil.Example.", A));
            assert_eq!(filter.check(&asked.over_plain_udp()), verdict(action), "{of} {action:?}");
            assert_eq!(hits(&filter, &of), 1, "{of} {action:?}");
            filter.remove(&of).unwrap();
        }
    }
}

/// Whoever asks over TCP is real, and its answer is never too long.
#[test]
fn nothing_is_truncated_over_tcp() {
    let filter = BpfFilter::builder().mode(Mode::Off).build().unwrap();
    let (name, client) = (name(), IpAddr::from(CLIENT));
    let over_tcp = Query::new(client, &name, A);
    for of in matches() {
        filter.insert(Rule::new(of.clone(), Action::Truncate)).unwrap();
        assert_eq!(filter.check(&over_tcp), Verdict::Pass);
        assert_eq!(filter.check(&over_tcp.over_plain_udp()), Verdict::Truncate);
        assert_eq!(hits(&filter, &of), 2);
        filter.remove(&of).unwrap();
    }
}
