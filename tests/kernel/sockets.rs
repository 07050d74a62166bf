//! Which sockets can be filtered, and when.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
};

use ebpf_filter::{AttachError, BpfFilter, Enforcement, Match, Mode};
use ebpf_filter_tests::{
    dns::{A, query},
    hits, netns, require_kernel, tcp,
    wire::{self, Wire},
};
use socket2::{Domain, Socket, Type};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 7, 1));
const BYSTANDER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn blocking(source: IpAddr) -> BpfFilter {
    let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
    filter.block(source).unwrap();
    filter
}

/// The filter is at the UDP socket.
#[track_caller]
fn assert_drops_udp(filter: &BpfFilter, socket: UdpSocket) {
    let before = hits(filter, &Match::address(CLIENT));
    socket.set_nonblocking(false).unwrap();
    let wire = Wire::new(socket, BYSTANDER);
    wire.assert_drops(&wire.client(CLIENT), &query("example.", A));
    assert_eq!(hits(filter, &Match::address(CLIENT)), before + 1);
}

/// The filter is at the listener.
#[track_caller]
fn assert_drops_tcp(filter: &BpfFilter, listener: &TcpListener) {
    let before = hits(filter, &Match::address(CLIENT));
    listener.set_nonblocking(false).unwrap();
    let fence = Wire::ipv4();
    let stuck = tcp::start_connecting(CLIENT, listener.local_addr().unwrap());
    fence.settle();
    assert_ne!(hits(filter, &Match::address(CLIENT)), before);
    tcp::pair(BYSTANDER, listener);
    tcp::assert_no_connection(listener);
    assert!(stuck.peer_addr().is_err(), "connected");
}

#[test]
fn std_sockets() {
    require_kernel!();
    let filter = blocking(CLIENT);
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(filter.attach(&udp).unwrap(), Enforcement::Kernel);
    assert_drops_udp(&filter, udp);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(filter.attach(&listener).unwrap(), Enforcement::Kernel);
    assert_drops_tcp(&filter, &listener);
    assert_eq!(filter.status().attached, 2);
}

#[tokio::test]
async fn tokio_sockets() {
    require_kernel!();
    let filter = blocking(CLIENT);
    let udp = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    filter.attach(&udp).unwrap();
    assert_drops_udp(&filter, udp.into_std().unwrap());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    filter.attach(&listener).unwrap();
    assert_drops_tcp(&filter, &listener.into_std().unwrap());
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    filter.attach(&socket).unwrap();
    socket.bind(SocketAddr::new(BYSTANDER, 0)).unwrap();
    assert_drops_tcp(&filter, &socket.listen(16).unwrap().into_std().unwrap());
}

/// A task that waits for a datagram is woken up by those that pass only.
#[tokio::test]
async fn a_tokio_server_sees_what_passes() {
    require_kernel!();
    let filter = blocking(CLIENT);
    let server = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    filter.attach(&server).unwrap();
    let address = server.local_addr().unwrap();
    let fence = Wire::ipv4();
    let receiving = tokio::spawn(async move {
        let mut buffer = [0; 512];
        let (len, from) = server.recv_from(&mut buffer).await.unwrap();
        (buffer[..len].to_vec(), from.ip())
    });
    tokio::task::yield_now().await;
    wire::send(&wire::client(CLIENT, address), &query("first.example.", A));
    fence.settle();
    tokio::task::yield_now().await;
    assert!(!receiving.is_finished());
    wire::send(&wire::client(BYSTANDER, address), &query("second.example.", A));
    assert_eq!(receiving.await.unwrap(), (query("second.example.", A), BYSTANDER));
}

#[test]
fn socket2_sockets_and_descriptors() {
    require_kernel!();
    let filter = blocking(CLIENT);
    let any = SocketAddr::new(BYSTANDER, 0).into();
    let udp = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    udp.bind(&any).unwrap();
    filter.attach(&udp).unwrap();
    assert_drops_udp(&filter, udp.into());
    let owned: OwnedFd = UdpSocket::bind("127.0.0.1:0").unwrap().into();
    filter.attach(&owned.as_fd()).unwrap();
    assert_drops_udp(&filter, owned.into());
}

#[test]
fn before_the_socket_is_bound() {
    require_kernel!();
    let filter = blocking(CLIENT);
    let any = SocketAddr::new(BYSTANDER, 0).into();
    let udp = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    filter.attach(&udp).unwrap();
    udp.bind(&any).unwrap();
    assert_drops_udp(&filter, udp.into());
    let tcp = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    filter.attach(&tcp).unwrap();
    tcp.bind(&any).unwrap();
    tcp.listen(16).unwrap();
    assert_drops_tcp(&filter, &tcp.into());
}

/// What the socket has received already, it has.
#[test]
fn what_waits_in_the_queue_stays_there() {
    require_kernel!();
    let filter = blocking(CLIENT);
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let wire = Wire::new(server, BYSTANDER);
    let early = wire.client(CLIENT);
    let query = query("example.", A);
    let arrivals = wire.arrivals(|| {
        wire::send(&early, &query);
        filter.attach(wire.server()).unwrap();
        wire::send(&wire::client(CLIENT, address), &query);
    });
    assert_eq!(arrivals, [(early.local_addr().unwrap(), query)]);
}

fn assert_refuses_what_cannot_be_filtered(filter: &BpfFilter) {
    let (stream, _peer) = UnixStream::pair().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    let datagrams = UnixDatagram::unbound().unwrap();
    let file = tempfile::tempfile().unwrap();
    for (what, descriptor) in [
        ("unix stream", stream.as_fd()),
        ("unix listener", listener.as_fd()),
        ("unix datagram", datagrams.as_fd()),
    ] {
        for outcome in [
            filter.attach(&descriptor),
            filter.attach_address_only(&descriptor),
            filter.detach(&descriptor).map(|()| Enforcement::Kernel),
        ] {
            assert!(matches!(outcome, Err(AttachError::Unsupported(_))), "{what}: {outcome:?}");
        }
    }
    for outcome in [
        filter.attach(&file),
        filter.attach_address_only(&file),
        filter.detach(&file).map(|()| Enforcement::Kernel),
    ] {
        assert!(matches!(outcome, Err(AttachError::NotASocket(_))), "{outcome:?}");
    }
    assert_eq!(filter.status().attached, 0);
}

#[test]
fn other_descriptors_are_refused() {
    require_kernel!();
    assert_refuses_what_cannot_be_filtered(&BpfFilter::builder().mode(Mode::Require).build().unwrap());
}

/// Where user space enforces, the same mistakes are found.
#[test]
fn other_descriptors_are_refused_in_user_space() {
    assert_refuses_what_cannot_be_filtered(&BpfFilter::builder().mode(Mode::Off).build().unwrap());
}

#[test]
fn raw_sockets_are_refused() {
    require_kernel!(BPF | NET_RAW);
    let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
    let raw = Socket::new(Domain::IPV4, Type::RAW, Some(socket2::Protocol::UDP)).unwrap();
    assert!(matches!(filter.attach(&raw), Err(AttachError::Unsupported(_))));
}

/// A datagram socket, but one for ICMP echoes (see icmp(7)).
#[test]
fn ping_sockets_are_refused() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        netns::set_sysctl("ipv4/ping_group_range", "0 2147483647");
        let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
        let ping = Socket::new(Domain::IPV4, Type::DGRAM, Some(socket2::Protocol::ICMPV4)).unwrap();
        assert!(matches!(filter.attach(&ping), Err(AttachError::Unsupported(_))));
    });
}
