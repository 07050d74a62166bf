//! Every action for every kind of rule: what the kernel does, and what it leaves to user space.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::{IpAddr, Ipv4Addr, TcpListener};

use ebpf_filter::{
    Action, BpfFilter, BpfFilterBuilder, Match, Mode, QName, Qtypes, Query, Rule, RuleError, Verdict,
};
use ebpf_filter_tests::{
    dns::{A, query},
    hits, in_both_worlds, require_kernel, tcp,
    wire::Wire,
    world::World,
};

type NewWorld = fn(BpfFilterBuilder) -> World;

in_both_worlds!(
    only_drop_drops,
    all_but_count_decide,
    an_action_can_be_replaced,
    every_so_many_th_slips_through,
    a_slip_has_its_limit,
);

const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 0, 25, 1);

/// Actions that do the same with the first few packets.
const ALL_ALIKE: [Action; 8] = [
    Action::Pass,
    Action::Drop,
    Action::Count,
    Action::Truncate,
    Action::Refused,
    Action::NxDomain,
    Action::Slip(0),
    Action::Slip(127),
];

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

/// What an action comes to for every packet; the first of those that a rule lets slip through is none yet.
const fn verdict(action: Action) -> Verdict {
    match action {
        Action::Pass | Action::Count => Verdict::Pass,
        Action::Drop | Action::Slip(_) => Verdict::Drop,
        Action::Truncate => Verdict::Truncate,
        Action::Refused => Verdict::Refused,
        Action::NxDomain => Verdict::NxDomain,
    }
}

fn only_drop_drops(new: NewWorld) {
    let world = new(BpfFilter::builder());
    for of in matches() {
        for action in ALL_ALIKE {
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
        for action in ALL_ALIKE {
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

fn every_so_many_th_slips_through(new: NewWorld) {
    let world = new(BpfFilter::builder());
    let message = query("evil.example.", A);
    for of in matches() {
        for every in [1, 2, 3, 7] {
            world.filter.insert(Rule::new(of.clone(), Action::Slip(every))).unwrap();
            for nth in 1..=u64::from(every) * 3 {
                let expected = nth.is_multiple_of(every.into());
                assert_eq!(world.passes(CLIENT, &message), expected, "{of} {every} {nth}");
            }
            assert_eq!(hits(&world.filter, &of), u64::from(every) * 3);
            // The next one is the first again, whoever counts it.
            let verdict = if every == 1 { Verdict::Truncate } else { Verdict::Drop };
            assert_eq!(world.filter.check_datagram(CLIENT, &message), verdict, "{of} {every}");
            world.filter.remove(&of).unwrap();
        }
    }
}

fn a_slip_has_its_limit(new: NewWorld) {
    let world = new(BpfFilter::builder());
    for of in matches() {
        let rule = |every| Rule::new(of.clone(), Action::Slip(every));
        for refused in [world.filter.insert(rule(128)), world.filter.replace(rule(255)).map(drop)] {
            let Err(RuleError::SlipTooLarge { of: told, every: 128 | 255 }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(told, of);
        }
        assert_eq!(world.filter.rule(&of), None);
        for every in [0, 1, Action::MAX_SLIP] {
            world.filter.replace(rule(every)).unwrap();
            assert_eq!(world.filter.rule(&of).unwrap().rule, rule(every));
        }
        world.filter.remove(&of).unwrap();
    }
}

fn an_action_can_be_replaced(new: NewWorld) {
    let world = new(BpfFilter::builder());
    let message = query("evil.example.", A);
    for of in matches() {
        for (count, action) in ALL_ALIKE.into_iter().enumerate() {
            assert_eq!(world.filter.replace(Rule::new(of.clone(), action)).unwrap(), count > 0);
            assert_eq!(world.passes(CLIENT, &message), verdict(action) != Verdict::Drop, "{of} {action:?}");
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

/// The kernel has chosen what slips through: all of that is answered, and counted once.
#[test]
fn what_slipped_through_the_kernel_is_answered() {
    require_kernel!();
    let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
    let wire = Wire::ipv4();
    filter.attach(wire.server()).unwrap();
    let client = wire.client(CLIENT);
    let name = name();
    let asked = Query::new(CLIENT.into(), &name, A);
    for of in matches() {
        filter.insert(Rule::new(of.clone(), Action::Slip(3))).unwrap();
        for _ in 0..3 {
            wire.assert_drops(&client, &query("Evil.Example.", A));
            wire.assert_drops(&client, &query("Evil.Example.", A));
            wire.assert_passes(&client, &query("Evil.Example.", A));
            assert_eq!(filter.check(&asked.over_plain_udp()), Verdict::Truncate, "{of}");
        }
        assert_eq!(hits(&filter, &of), 9, "{of}");
        filter.replace(Rule::new(of.clone(), Action::Slip(0))).unwrap();
        wire.assert_drops(&client, &query("Evil.Example.", A));
        assert_eq!(filter.check(&asked.over_plain_udp()), Verdict::Drop, "{of}");
        filter.remove(&of).unwrap();
    }
}

/// A client whose address is forged gets its answers over TCP, and so does whoever is behind something else than plain DNS.
#[test]
fn nothing_is_dropped_over_anything_but_udp() {
    require_kernel!();
    let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    filter.attach(&listener).unwrap();
    let wire = Wire::ipv4();
    filter.attach_address_only(wire.server()).unwrap();
    let client = wire.client(CLIENT);
    let (name, message) = (name(), query("evil.example.", A));
    for action in [Action::Slip(0), Action::Slip(2), Action::Truncate] {
        for of in &matches()[..2] {
            filter.insert(Rule::new(of.clone(), action)).unwrap();
            for _ in 0..4 {
                let connected = tcp::connect(CLIENT.into(), listener.local_addr().unwrap());
                let (server, _) = tcp::accept(&listener);
                tcp::write_message(&connected, &message);
                assert_eq!(tcp::read_message(&server), message);
                wire.assert_passes(&client, &message);
                assert_eq!(filter.check(&Query::new(CLIENT.into(), &name, A)), Verdict::Pass, "{of}");
            }
            assert!(hits(&filter, of) >= 12, "a SYN, a segment and a datagram each");
            filter.remove(of).unwrap();
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
        filter.insert(Rule::new(of.clone(), Action::Slip(4))).unwrap();
        let verdicts: Vec<_> = (0..8).map(|_| filter.check(&over_tcp.over_plain_udp())).collect();
        let expected = [[Verdict::Drop; 3].as_slice(), &[Verdict::Truncate]].concat().repeat(2);
        assert_eq!(verdicts, expected, "{of}");
        assert_eq!(filter.check(&over_tcp), Verdict::Pass);
        assert_eq!(hits(&filter, &of), 9);
        filter.remove(&of).unwrap();
        filter.insert(Rule::new(of.clone(), Action::Truncate)).unwrap();
        assert_eq!(filter.check(&over_tcp), Verdict::Pass);
        assert_eq!(filter.check(&over_tcp.over_plain_udp()), Verdict::Truncate);
        assert_eq!(hits(&filter, &of), 2);
        filter.remove(&of).unwrap();
    }
}
