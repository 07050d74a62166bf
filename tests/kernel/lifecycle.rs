//! The life of a filter at a socket: replaced, removed, locked, without its owner, and gone with the socket.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use ebpf_filter::{AttachError, BpfFilter, Match, Mode, Qtypes};
use ebpf_filter_tests::{
    dns::{A, query},
    hits, programs, require_kernel, socket_option,
    wire::{self, Wire, allowed_cpus, move_to_cpu},
};

/// How long it may take until both of two filters have dropped something.
const PATIENCE: Duration = Duration::from_secs(20);

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 8, 1));
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 8, 2));

fn filter() -> BpfFilter {
    BpfFilter::builder().mode(Mode::Require).build().unwrap()
}

fn blocking(source: IpAddr) -> BpfFilter {
    let filter = filter();
    filter.block(source).unwrap();
    filter
}

fn program(filter: &BpfFilter, name: &str) -> u32 {
    filter.status().programs.iter().find(|program| program.name == name).unwrap().id
}

#[test]
fn the_rules_of_the_last_filter_apply() {
    require_kernel!();
    let wire = Wire::ipv4();
    let (client, other) = (wire.client(CLIENT), wire.client(OTHER));
    let query = query("example.", A);
    let first = blocking(CLIENT);
    first.attach(wire.server()).unwrap();
    wire.assert_drops(&client, &query);
    wire.assert_passes(&other, &query);

    let second = blocking(OTHER);
    second.attach(wire.server()).unwrap();
    wire.assert_passes(&client, &query);
    wire.assert_drops(&other, &query);
    assert_eq!(first.stats().unwrap().to_string(), "127.0.8.1: 1\n");
    assert_eq!(second.stats().unwrap().to_string(), "127.0.8.2: 1\n");
}

#[test]
fn no_packet_slips_through_while_filters_are_replaced() {
    require_kernel!();
    let filters = [blocking(CLIENT), blocking(CLIENT)];
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    filters[0].attach(&server).unwrap();
    let (client, last) = (wire::client(CLIENT, address), wire::client(OTHER, address));
    let cpus = allowed_cpus();
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            move_to_cpu(&cpus, 1);
            let query = query("example.", A);
            let mut sent = 0_u64;
            while !done.load(Ordering::Relaxed) {
                wire::send(&client, &query);
                sent += 1;
            }
            wire::send(&last, b"done");
            sent
        });
        move_to_cpu(&cpus, 0);
        let mut replaced = 0;
        let busy = |filter| hits(filter, &Match::address(CLIENT)) > 100;
        let start = Instant::now();
        while (replaced < 1000 || !filters.iter().all(busy)) && start.elapsed() < PATIENCE {
            filters[(replaced + 1) % 2].attach(&server).unwrap();
            replaced += 1;
        }
        done.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    assert_eq!(wire::receive(&server), (last.local_addr().unwrap(), b"done".to_vec()));
    wire::assert_empty(&server);
    let dropped: Vec<_> = filters.iter().map(|filter| hits(filter, &Match::address(CLIENT))).collect();
    assert_eq!(dropped.iter().sum::<u64>(), sent);
    assert!(dropped.iter().all(|dropped| *dropped > 100), "one of them was hardly asked: {dropped:?}");
}

/// The same filter again, as a server does that reloads its configuration.
#[test]
fn attaching_again_changes_nothing() {
    require_kernel!();
    let wire = Wire::ipv4();
    let client = wire.client(CLIENT);
    let filter = blocking(CLIENT);
    for _ in 0..3 {
        filter.attach(wire.server()).unwrap();
        wire.assert_drops(&client, &query("example.", A));
    }
    filter.detach(wire.server()).unwrap();
    assert!(matches!(filter.detach(wire.server()), Err(AttachError::NotAttached)));
}

#[test]
fn a_detached_socket_gets_everything() {
    require_kernel!();
    let wire = Wire::ipv4();
    let client = wire.client(CLIENT);
    let filter = blocking(CLIENT);
    let query = query("example.", A);
    assert!(matches!(filter.detach(wire.server()), Err(AttachError::NotAttached)));
    filter.attach(wire.server()).unwrap();
    wire.assert_drops(&client, &query);
    filter.detach(wire.server()).unwrap();
    wire.assert_passes(&client, &query);
    assert_eq!(filter.stats().unwrap().to_string(), "127.0.8.1: 1\n");
    assert!(matches!(filter.detach(wire.server()), Err(AttachError::NotAttached)));
    filter.attach(wire.server()).unwrap();
    wire.assert_drops(&client, &query);
}

#[test]
fn sockets_are_independent() {
    require_kernel!();
    let (one, two) = (Wire::ipv4(), Wire::ipv4());
    let filter = blocking(CLIENT);
    filter.attach(one.server()).unwrap();
    filter.attach(two.server()).unwrap();
    let query = query("example.", A);
    one.assert_drops(&one.client(CLIENT), &query);
    two.assert_drops(&two.client(CLIENT), &query);
    filter.detach(one.server()).unwrap();
    one.assert_passes(&one.client(CLIENT), &query);
    two.assert_drops(&two.client(CLIENT), &query);
    assert_eq!(hits(&filter, &Match::address(CLIENT)), 3);
}

#[test]
fn a_locked_filter_stays() {
    require_kernel!();
    let wire = Wire::ipv4();
    let client = wire.client(CLIENT);
    let filter = blocking(CLIENT);
    filter.attach(wire.server()).unwrap();
    socket_option::lock_filter(wire.server()).unwrap();
    assert!(matches!(filter.detach(wire.server()), Err(AttachError::Locked(_))));
    let other = blocking(OTHER);
    assert!(matches!(other.attach(wire.server()), Err(AttachError::Locked(_))));
    assert_eq!(other.status().attached, 0);
    wire.assert_drops(&client, &query("example.", A));
    // Its rules are not locked.
    filter.unblock(CLIENT).unwrap();
    wire.assert_passes(&client, &query("example.", A));
}

/// A lock is nothing that user space could make up for, so it is an error in every mode that tries.
#[test]
fn a_locked_socket_without_a_filter_cannot_get_one() {
    require_kernel!();
    for mode in [Mode::Require, Mode::Prefer] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket_option::lock_filter(&socket).unwrap();
        let filter = BpfFilter::builder().mode(mode).build().unwrap();
        assert!(matches!(filter.attach(&socket), Err(AttachError::Locked(_))));
    }
}

#[test]
fn a_socket_outlives_the_handles() {
    require_kernel!(BPF | SYS_ADMIN);
    let wire = Wire::ipv4();
    let client = wire.client(CLIENT);
    let filter = blocking(CLIENT);
    filter.block_qname(&"evil.example".parse().unwrap(), Qtypes::All).unwrap();
    let clone = filter.clone();
    filter.attach(wire.server()).unwrap();
    let (full, address_only) = (program(&filter, "dns_full"), program(&filter, "dns_address"));
    assert!(programs::is_loaded(full) && programs::is_loaded(address_only));

    drop(filter);
    wire.assert_drops(&client, &query("example.", A));
    assert_eq!(hits(&clone, &Match::address(CLIENT)), 1);
    drop(clone);
    // The program that no socket uses goes, the other stays.
    programs::wait_until_gone(address_only);
    assert!(programs::is_loaded(full));
    wire.assert_drops(&client, &query("example.", A));
    wire.assert_drops(&wire.client(OTHER), &query("evil.example.", A));
    wire.assert_passes(&wire.client(OTHER), &query("example.", A));

    drop(wire);
    programs::wait_until_gone(full);
}

#[test]
fn a_closed_listener_leaves_nothing_behind() {
    require_kernel!(BPF | SYS_ADMIN);
    let filter = blocking(CLIENT);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    filter.attach(&listener).unwrap();
    let (full, address_only) = (program(&filter, "dns_full"), program(&filter, "dns_address"));
    drop(filter);
    programs::wait_until_gone(full);
    assert!(programs::is_loaded(address_only));
    drop(listener);
    programs::wait_until_gone(address_only);
}

#[test]
fn detaching_after_the_handles_are_gone_is_for_any_filter() {
    require_kernel!(BPF | SYS_ADMIN);
    let wire = Wire::ipv4();
    let filter = blocking(CLIENT);
    filter.attach(wire.server()).unwrap();
    let full = program(&filter, "dns_full");
    drop(filter);
    let client = wire.client(CLIENT);
    wire.assert_drops(&client, &query("example.", A));
    self::filter().detach(wire.server()).unwrap();
    wire.assert_passes(&client, &query("example.", A));
    programs::wait_until_gone(full);
}
