//! Several sockets at one address (`SO_REUSEPORT`), as a server has that wants to use several CPUs: each is filtered.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use ebpf_filter::{BpfFilter, Match, Mode, Qtypes};
use ebpf_filter_tests::{
    dns::{A, query},
    hits, require_kernel,
    wire::{self, Wire},
};
use socket2::{Domain, Socket, Type};

const MEMBERS: usize = 4;
/// With so many the kernel's hash passes over one of the members once in 10^15 runs.
const CLIENTS: usize = 128;
const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 6, 1);

fn member(address: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.into()
}

fn group() -> Vec<UdpSocket> {
    let first = member(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let address = first.local_addr().unwrap();
    let others = (1..MEMBERS).map(|_| member(address));
    std::iter::once(first).chain(others).collect()
}

/// What waits in the receive queue.
fn drain(socket: &UdpSocket) -> Vec<Vec<u8>> {
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 512];
    std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|len| buffer[..len].to_vec())).collect()
}

#[test]
fn every_member_filters() {
    require_kernel!();
    let group = group();
    let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
    for socket in &group {
        filter.attach(socket).unwrap();
    }
    assert_eq!(filter.status().attached, MEMBERS as u64);
    let rule = Match::qname("evil.example".parse().unwrap(), Qtypes::All);
    filter.block_qname(&"evil.example".parse().unwrap(), Qtypes::All).unwrap();
    // Stays on its CPU, as every wire does.
    let fence = Wire::ipv4();
    let clients: Vec<_> =
        (0..CLIENTS).map(|_| wire::client(SOURCE.into(), group[0].local_addr().unwrap())).collect();

    let (evil, good) = (query("evil.example.", A), query("good.example.", A));
    for client in &clients {
        wire::send(client, &evil);
        wire::send(client, &good);
    }
    fence.settle();
    assert_eq!(hits(&filter, &rule), CLIENTS as u64);
    let received: Vec<_> = group.iter().map(drain).collect();
    assert!(received.iter().all(|queue| !queue.is_empty()), "a member got nothing at all");
    assert_eq!(received.concat(), vec![good; CLIENTS]);

    filter.block(SOURCE).unwrap();
    for client in &clients {
        wire::send(client, &query("good.example.", A));
    }
    fence.settle();
    assert_eq!(hits(&filter, &Match::address(SOURCE)), CLIENTS as u64);
    group.iter().for_each(wire::assert_empty);
}

/// Nobody filters for the others: the filter belongs to the socket, not to the address.
#[test]
fn a_member_without_the_filter_filters_nothing() {
    require_kernel!();
    let group = group();
    let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
    for socket in &group[1..] {
        filter.attach(socket).unwrap();
    }
    filter.block(SOURCE).unwrap();
    let fence = Wire::ipv4();
    for _ in 0..CLIENTS {
        let client = wire::client(SOURCE.into(), group[0].local_addr().unwrap());
        wire::send(&client, &query("good.example.", A));
    }
    fence.settle();
    group[1..].iter().for_each(wire::assert_empty);
    let unfiltered = drain(&group[0]).len() as u64;
    assert!(unfiltered > 0);
    assert_eq!(hits(&filter, &Match::address(SOURCE)), CLIENTS as u64 - unfiltered);
}
