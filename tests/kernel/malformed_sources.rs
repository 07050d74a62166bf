//! Where messages come from that are no well-formed queries: of real packets, at any rate, and only while somebody watches.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

use ebpf_filter::{
    Action, BpfFilter, BpfFilterBuilder, Malformed, MalformedPosition, Match, Mode, Qtypes, Rule,
};
use ebpf_filter_tests::{
    dns::{A, query, with_question},
    in_both_worlds,
    netns::{self, CLIENT4, CLIENT6, SERVER4, SERVER6},
    require_kernel,
    wire::{self, Wire, allowed_cpus, move_to_cpu},
    world::World,
};
use socket2::{Domain, Socket, Type};

type NewWorld = fn(BpfFilterBuilder) -> World;

in_both_worlds!(
    each_source_is_named_in_order,
    nothing_is_remembered_unless_somebody_watches,
    dropped_ones_are_named_and_decided_ones_are_not,
);

/// How many sources are remembered.
const PLACES: u64 = 4096;

fn client(host: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 26, host).into()
}

fn read(filter: &BpfFilter, position: &mut MalformedPosition) -> Vec<(IpAddr, u64)> {
    let mut all = Vec::new();
    filter.malformed_sources(position, |source, messages| all.push((source, messages)));
    all
}

fn totals(filter: &BpfFilter, position: &mut MalformedPosition) -> BTreeMap<IpAddr, u64> {
    let mut totals = BTreeMap::new();
    filter.malformed_sources(position, |source, messages| *totals.entry(source).or_default() += messages);
    totals
}

/// One for each way to be none.
fn malformed() -> [Vec<u8>; 5] {
    let mut response = query("example.", A);
    response[2] |= 0x80;
    let no_question = [&with_question(&[])[..4], &[0; 8]].concat();
    [vec![], no_question, with_question(b"\x05ab"), with_question(b"\xc0\x0c\0\x01\0\x01"), response]
}

fn each_source_is_named_in_order(new: NewWorld) {
    let world = new(BpfFilter::builder());
    world.filter.watch_malformed(true).unwrap();
    let mut position = world.filter.malformed_position();
    // With and without rules for names.
    for names in [false, true] {
        if names {
            world.filter.block_qname(&"evil.example".parse().unwrap(), Qtypes::All).unwrap();
        }
        let mut expected = Vec::new();
        for (host, message) in (1..).zip(malformed()) {
            assert!(world.passes(client(host), &message), "{message:02x?}");
            expected.push((client(host), 1));
            assert!(world.passes(client(100), &query("good.example.", A)));
        }
        let before = position;
        assert_eq!(read(&world.filter, &mut position), expected);
        assert_eq!(read(&world.filter, &mut position), []);
        assert_eq!(read(&world.filter, &mut before.clone()), expected, "whoever reads takes nothing away");
    }
}

fn nothing_is_remembered_unless_somebody_watches(new: NewWorld) {
    let world = new(BpfFilter::builder().malformed(Malformed::Drop));
    let mut position = MalformedPosition::default();
    let send = |host| assert!(!world.passes(client(host), b"no query"));
    send(1);
    assert_eq!(position, world.filter.malformed_position());
    world.filter.watch_malformed(true).unwrap();
    send(2);
    world.filter.watch_malformed(false).unwrap();
    send(3);
    // Rules that come and go do not switch it on again.
    world.filter.block_qname(&"evil.example".parse().unwrap(), Qtypes::All).unwrap();
    send(4);
    assert_eq!(read(&world.filter, &mut position), [(client(2), 1)]);
    world.filter.watch_malformed(true).unwrap();
    world.filter.clear().unwrap();
    send(5);
    assert_eq!(read(&world.filter, &mut position), [(client(5), 1)]);
    assert_eq!(world.filter.stats().unwrap().malformed_total(), 5);

    // Without another reason no message is read.
    let world = new(BpfFilter::builder());
    assert!(world.passes(client(6), b"no query"));
    assert_eq!(world.filter.stats().unwrap().malformed_total(), 0);
    assert_eq!(world.filter.malformed_position(), MalformedPosition::default());
}

fn dropped_ones_are_named_and_decided_ones_are_not(new: NewWorld) {
    let world = new(BpfFilter::builder().malformed(Malformed::Drop));
    world.filter.watch_malformed(true).unwrap();
    world.filter.block(client(1)).unwrap();
    world.filter.insert(Rule::new(Match::address(client(2)), Action::Pass)).unwrap();
    world.filter.insert(Rule::new(Match::address(client(3)), Action::Count)).unwrap();
    let passing = (1..=4).filter(|host| world.passes(client(*host), b"no query"));
    assert_eq!(passing.collect::<Vec<_>>(), [2]);
    let mut position = MalformedPosition::default();
    assert_eq!(read(&world.filter, &mut position), [(client(3), 1), (client(4), 1)]);
}

fn in_kernel(policy: Malformed) -> BpfFilter {
    let filter = BpfFilter::builder().mode(Mode::Require).malformed(policy).build().unwrap();
    filter.watch_malformed(true).unwrap();
    filter
}

#[test]
fn both_protocols_are_told_apart_on_a_dual_stack_socket() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let filter = in_kernel(Malformed::Pass);
        let socket = Socket::new(Domain::IPV6, Type::DGRAM, None).unwrap();
        socket.set_only_v6(false).unwrap();
        socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).unwrap();
        filter.attach(&socket).unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let wire = Wire::new(socket.into(), ip("::1"));
        let mut expected = Vec::new();
        for (client, server) in [(CLIENT4, SERVER4), (CLIENT6, SERVER6), (CLIENT4, SERVER4), ("::1", "::1")] {
            let client = ip(client);
            let socket = wire::client(client, SocketAddr::new(ip(server), wire.address().port()));
            wire.assert_passes(&socket, b"no query");
            wire.assert_passes(&socket, &query("good.example.", A));
            expected.push((client, 1));
        }
        let mut position = MalformedPosition::default();
        assert_eq!(read(&filter, &mut position), expected);
    });
}

/// Sends on two CPUs at once, from these sources on each, and returns when the server has seen all of it.
fn send_on_two_cpus(filter: &BpfFilter, times: u64, sources: [&[IpAddr]; 2]) {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    filter.attach(&server).unwrap();
    let (address, cpus) = (server.local_addr().unwrap(), allowed_cpus());
    thread::scope(|scope| {
        for (cpu, sources) in sources.into_iter().enumerate() {
            scope.spawn(move || {
                move_to_cpu(&cpus, cpu);
                let clients: Vec<_> = sources.iter().map(|source| wire::client(*source, address)).collect();
                for _ in 0..times {
                    for client in &clients {
                        wire::send(client, b"no query");
                    }
                }
                wire::send(&wire::client(client(100), address), &query("done.example.", A));
            });
        }
    });
    for _ in 0..2 {
        assert_eq!(wire::receive(&server).1, query("done.example.", A));
    }
    wire::assert_empty(&server);
}

#[test]
fn two_cpus_lose_nothing() {
    require_kernel!();
    let filter = in_kernel(Malformed::Drop);
    let mut position = MalformedPosition::default();
    for _ in 0..5 {
        let (times, one, other) = (PLACES / 2, client(1), client(2));
        send_on_two_cpus(&filter, times, [&[one], &[other]]);
        assert_eq!(totals(&filter, &mut position), BTreeMap::from([(one, times), (other, times)]));
    }
}

/// Many more than there is room for: what is left stands for them, in the same proportions.
#[test]
fn a_flood_keeps_its_proportions() {
    const TIMES: u64 = 15_000;
    require_kernel!();
    let filter = in_kernel(Malformed::Drop);
    let mut position = MalformedPosition::default();
    let [one, other] = [client(1), client(2)];
    send_on_two_cpus(&filter, TIMES, [&[one, one, one, other], &[other, one, one, one]]);
    let totals = totals(&filter, &mut position);
    assert_eq!(totals.values().sum::<u64>(), 8 * TIMES);
    for (source, share) in [(one, 6 * TIMES), (other, 2 * TIMES)] {
        assert!(
            totals[&source].abs_diff(share) < 8 * TIMES / 50,
            "{source}: {} for {share}",
            totals[&source]
        );
    }
}

/// Somebody reads while it comes: the numbers add up to about what came, and never to more.
#[test]
fn a_flood_is_read_while_it_comes() {
    const TIMES: u64 = 30_000;
    require_kernel!();
    let filter = in_kernel(Malformed::Drop);
    let done = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut position, mut seen) = (MalformedPosition::default(), BTreeMap::<IpAddr, u64>::new());
            loop {
                let last = done.load(Relaxed);
                for (source, messages) in totals(&filter, &mut position) {
                    *seen.entry(source).or_default() += messages;
                }
                if last {
                    return seen;
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        send_on_two_cpus(&filter, TIMES, [&[client(1), client(2)], &[client(2), client(1)]]);
        done.store(true, Relaxed);
        reader.join().unwrap()
    });
    let total: u64 = seen.values().sum();
    assert!((4 * TIMES * 9 / 10..=4 * TIMES).contains(&total), "{seen:?}");
    assert!(seen.len() == 2 && seen.values().all(|of| of.abs_diff(total / 2) < total / 10), "{seen:?}");
}
