//! Sources over IPv4 and IPv6: each socket's packets are told apart by what is on the wire, not by the socket.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ebpf_filter::{BpfFilter, Match, Mode, Qtypes, Rule};
use ebpf_filter_tests::{
    dns::{A, query},
    netns::{self, CLIENT4, CLIENT6, SERVER4, SERVER6},
    require_kernel, tcp,
    wire::{self, Wire},
};
use socket2::{Domain, Socket, Type};

fn filter() -> BpfFilter {
    BpfFilter::builder().mode(Mode::Require).build().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A socket at `[::]` that also takes IPv4, and any port.
fn dual_stack(kind: Type) -> Socket {
    let socket = Socket::new(Domain::IPV6, kind, None).unwrap();
    socket.set_only_v6(false).unwrap();
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into()).unwrap();
    socket
}

/// The same server, for a client of the other protocol.
fn at(address: &str, wire: &Wire) -> SocketAddr {
    SocketAddr::new(ip(address), wire.address().port())
}

#[test]
fn a_dual_stack_socket_filters_both_protocols() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let filter = filter();
        let server: UdpSocket = dual_stack(Type::DGRAM).into();
        filter.attach(&server).unwrap();
        let wire = Wire::new(server, ip("::1"));
        let query = query("example.", A);
        let v4 = wire::client(ip(CLIENT4), at(SERVER4, &wire));
        let v6 = wire::client(ip(CLIENT6), at(SERVER6, &wire));
        wire.assert_passes(&v4, &query);
        wire.assert_passes(&v6, &query);

        filter.block(ip(CLIENT4)).unwrap();
        wire.assert_drops(&v4, &query);
        wire.assert_passes(&v6, &query);
        filter.block(ip(CLIENT6)).unwrap();
        wire.assert_drops(&v4, &query);
        wire.assert_drops(&v6, &query);
        assert_eq!(filter.stats().unwrap().to_string(), "192.0.2.2: 2\n[2001:db8::2]: 1\n");
        filter.unblock(ip(CLIENT4)).unwrap();
        wire.assert_passes(&v4, &query);
        wire.assert_drops(&v6, &query);
    });
}

#[test]
fn names_are_the_same_over_both_protocols() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let filter = filter();
        let server: UdpSocket = dual_stack(Type::DGRAM).into();
        filter.attach(&server).unwrap();
        let wire = Wire::new(server, ip("::1"));
        filter.block_qname(&"evil.example".parse().unwrap(), Qtypes::Only(A)).unwrap();
        for (client, server) in [(CLIENT4, SERVER4), (CLIENT6, SERVER6)] {
            let client = wire::client(ip(client), at(server, &wire));
            wire.assert_drops(&client, &query("evil.example.", A));
            wire.assert_passes(&client, &query("good.example.", A));
        }
        assert_eq!(filter.stats().unwrap().to_string(), "evil.example. 1: 2\n");
    });
}

#[test]
fn a_v4_mapped_rule_means_the_address_on_the_wire() {
    require_kernel!();
    let filter = filter();
    let server: UdpSocket = dual_stack(Type::DGRAM).into();
    filter.attach(&server).unwrap();
    let wire = Wire::new(server, ip("::1"));
    let source = Ipv4Addr::new(127, 0, 2, 1);
    let client = wire::client(source.into(), at("127.0.0.1", &wire));
    let query = query("example.", A);

    filter.block(source.to_ipv6_mapped()).unwrap();
    wire.assert_drops(&client, &query);
    assert_eq!(filter.stats().unwrap().to_string(), "127.0.2.1: 1\n");
    filter.unblock(source).unwrap();

    // The server sees the client as v4-mapped, and may pass on what it sees.
    let arrivals = wire.arrivals(|| wire::send(&client, &query));
    let [(seen, _)] = arrivals.as_slice() else { panic!("{arrivals:?}") };
    assert_eq!(seen.ip(), IpAddr::from(source.to_ipv6_mapped()));
    filter.block(seen.ip()).unwrap();
    wire.assert_drops(&client, &query);
}

/// However the rule is made: an IPv6 packet cannot have a v4-mapped source, Linux drops it, so that such a rule would
/// never match anything.
#[test]
fn a_v4_mapped_match_means_the_address_on_the_wire() {
    require_kernel!();
    let filter = filter();
    let server: UdpSocket = dual_stack(Type::DGRAM).into();
    filter.attach(&server).unwrap();
    let wire = Wire::new(server, ip("::1"));
    let source = Ipv4Addr::new(127, 0, 2, 3);
    let client = wire::client(source.into(), at("127.0.0.1", &wire));
    let mapped = Match::Ipv6(source.to_ipv6_mapped());
    filter.insert(Rule::drop(mapped.clone())).unwrap();
    wire.assert_drops(&client, &query("example.", A));
    filter.remove(&mapped).unwrap();
    wire.assert_passes(&client, &query("example.", A));
}

/// The IPv4-compatible address `::127.0.2.2` (RFC 4291 §2.5.5.1) is another one than 127.0.2.2.
#[test]
fn an_ipv6_rule_does_not_match_ipv4() {
    require_kernel!();
    let filter = filter();
    let server: UdpSocket = dual_stack(Type::DGRAM).into();
    filter.attach(&server).unwrap();
    let wire = Wire::new(server, ip("::1"));
    let client = wire::client(ip("127.0.2.2"), at("127.0.0.1", &wire));
    filter.block(ip("::127.0.2.2")).unwrap();
    filter.block(ip("::ffff:0:127.0.2.2")).unwrap();
    wire.assert_passes(&client, &query("example.", A));
}

#[test]
fn sources_over_ipv6_are_compared_whole() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        // Differ from the blocked one in one byte each, at both ends and in the middle.
        let neighbours = ["3001:db8::2", "2001:db8:0:1::2", "2001:db8::1:0:0:2", "2001:db8::3"];
        netns::add_addresses(&neighbours);
        let filter = filter();
        let server = UdpSocket::bind((ip(SERVER6), 0)).unwrap();
        filter.attach(&server).unwrap();
        let wire = Wire::new(server, ip(SERVER6));
        filter.block(ip(CLIENT6)).unwrap();
        let query = query("example.", A);
        wire.assert_drops(&wire.client(ip(CLIENT6)), &query);
        for neighbour in neighbours {
            wire.assert_answers(&wire.client(ip(neighbour)), &query);
        }
        filter.block(ip("fe80::1")).unwrap();
        assert_eq!(filter.stats().unwrap().to_string(), "[2001:db8::2]: 1\n[fe80::1]: 0\n");
    });
}

#[test]
fn a_dual_stack_listener_filters_both_protocols() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let filter = filter();
        let socket = dual_stack(Type::STREAM);
        filter.attach(&socket).unwrap();
        socket.listen(16).unwrap();
        let listener: std::net::TcpListener = socket.into();
        let port = listener.local_addr().unwrap().port();
        let fence = Wire::ipv4();
        for (blocked, server) in [(CLIENT4, SERVER4), (CLIENT6, SERVER6)] {
            filter.block(ip(blocked)).unwrap();
            let stuck = tcp::start_connecting(ip(blocked), SocketAddr::new(ip(server), port));
            fence.settle();
            let passing = tcp::connect(ip(server), SocketAddr::new(ip(server), port));
            let (_, from) = tcp::accept(&listener);
            assert_eq!(from.port(), passing.local_addr().unwrap().port());
            tcp::assert_no_connection(&listener);
            assert!(stuck.peer_addr().is_err(), "connected");
        }
    });
}
