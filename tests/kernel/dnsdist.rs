//! What dnsdist's own regression tests expect of its socket filter, row by row (`test_EBPF.py`), as far as it concerns
//! UDP and TCP; names over TCP are for `check` there, as they are for a rule of dnsdist's.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener},
};

use ebpf_filter::{BpfFilter, Enforcement, Mode, QName, Qtypes, Query, Verdict};
use ebpf_filter_tests::{
    child,
    dns::{self, A, ANY, query},
    require_kernel, socket_option, tcp,
    wire::{self, Wire},
};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1));
const BYSTANDER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 2));

/// A server that answers over UDP and TCP, and its filter.
struct Server {
    filter: BpfFilter,
    udp: Wire,
    tcp: TcpListener,
}

impl Server {
    fn start() -> Self {
        let filter = BpfFilter::builder()
            .ipv4_max(10)
            .ipv6_max(10)
            .qnames_max(10)
            .mode(Mode::Require)
            .build()
            .unwrap();
        let udp = Wire::ipv4();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(filter.attach(udp.server()).unwrap(), Enforcement::Kernel);
        assert_eq!(filter.attach(&tcp).unwrap(), Enforcement::Kernel);
        Self { filter, udp, tcp }
    }

    #[track_caller]
    fn assert_answers_over_tcp(&self, query: &[u8]) {
        let (client, server) = tcp::pair(CLIENT, &self.tcp);
        tcp::assert_answers(&client, &server, query);
    }
}

fn name(text: &str) -> QName {
    text.parse().unwrap()
}

#[test]
fn not_blocked() {
    require_kernel!();
    let server = Server::start();
    server.filter.block_qname(&name("blocked.example"), Qtypes::All).unwrap();
    server.filter.block([192, 0, 2, 1]).unwrap();
    let query = query("simplea.example.", A);
    server.udp.assert_answers(&server.udp.client(CLIENT), &query);
    server.assert_answers_over_tcp(&query);
}

#[test]
fn name_blocked() {
    require_kernel!();
    let server = Server::start();
    server.filter.block_qname(&name("blocked.example"), Qtypes::from(255)).unwrap();
    assert_eq!(server.filter.stats().unwrap().to_string(), "blocked.example. 255: 0\n");
    let client = server.udp.client(CLIENT);
    for qtype in [A, dns::AAAA, dns::TXT, ANY, 65535, 0] {
        server.udp.assert_drops(&client, &query("blocked.example.", qtype));
    }
    assert_eq!(server.filter.stats().unwrap().to_string(), "blocked.example. 255: 6\n");
    server.assert_answers_over_tcp(&query("blocked.example.", A));
    assert_eq!(server.filter.stats().unwrap().to_string(), "blocked.example. 255: 6\n");
}

#[test]
fn name_blocked_only_for_any() {
    require_kernel!();
    let server = Server::start();
    server.filter.block_qname(&name("blocked.example"), Qtypes::Only(ANY)).unwrap();
    let client = server.udp.client(CLIENT);
    server.udp.assert_drops(&client, &query("blocked.example.", ANY));
    server.udp.assert_answers(&client, &query("blocked.example.", A));
    assert_eq!(server.filter.stats().unwrap().to_string(), "blocked.example. ANY: 1\n");
}

#[test]
fn several_types_of_one_name() {
    require_kernel!();
    let server = Server::start();
    let blocked = name("blocked.example");
    for qtype in [A, ANY, dns::TXT] {
        server.filter.block_qname(&blocked, Qtypes::Only(qtype)).unwrap();
    }
    let client = server.udp.client(CLIENT);
    for qtype in [A, ANY, dns::TXT] {
        server.udp.assert_drops(&client, &query("blocked.example.", qtype));
    }
    server.udp.assert_answers(&client, &query("blocked.example.", dns::MX));
    server.filter.unblock_qname(&blocked, Qtypes::Only(ANY)).unwrap();
    server.udp.assert_answers(&client, &query("blocked.example.", ANY));
    server.udp.assert_drops(&client, &query("blocked.example.", A));
    assert_eq!(server.filter.stats().unwrap().to_string(), "blocked.example. 1: 2\nblocked.example. 16: 1\n");
}

#[test]
fn client_blocked_and_unblocked() {
    require_kernel!();
    let server = Server::start();
    let query = query("simplea.example.", A);
    let client = server.udp.client(CLIENT);
    let (connection, accepted) = tcp::pair(CLIENT, &server.tcp);
    server.udp.assert_answers(&client, &query);

    server.filter.block(CLIENT).unwrap();
    server.udp.assert_drops(&client, &query);
    server.udp.assert_drops(&client, &query);
    assert_eq!(server.filter.stats().unwrap().to_string(), "127.0.1.1: 2\n");
    let stuck = tcp::start_connecting(CLIENT, server.tcp.local_addr().unwrap());
    server.udp.settle();
    tcp::pair(BYSTANDER, &server.tcp);
    tcp::assert_no_connection(&server.tcp);
    assert!(stuck.peer_addr().is_err(), "connected");
    tcp::write_message(&connection, &query);
    server.udp.settle();
    tcp::assert_no_data(&accepted);

    server.filter.unblock(CLIENT).unwrap();
    assert_eq!(server.filter.stats().unwrap().to_string(), "");
    server.udp.assert_answers(&client, &query);
    assert_eq!(tcp::read_message(&accepted), query);
}

#[test]
fn the_client_is_the_local_host() {
    require_kernel!();
    let filter = BpfFilter::builder().mode(Mode::Require).build().unwrap();
    let udp = Wire::new(std::net::UdpSocket::bind("127.0.0.1:0").unwrap(), BYSTANDER);
    filter.attach(udp.server()).unwrap();
    let client = udp.client(Ipv4Addr::LOCALHOST);
    filter.block(Ipv4Addr::LOCALHOST).unwrap();
    udp.assert_drops(&client, &query("simplea.example.", A));
    assert!(filter.stats().unwrap().to_string().contains("127.0.0.1: 1"));
}

/// The key of all zeroes got lost when dnsdist walked its maps.
#[test]
fn unspecified_addresses_are_listed() {
    require_kernel!();
    let server = Server::start();
    server.filter.block(Ipv4Addr::UNSPECIFIED).unwrap();
    server.filter.block(Ipv6Addr::UNSPECIFIED).unwrap();
    server.filter.block(CLIENT).unwrap();
    server.filter.block_qname(&QName::root(), Qtypes::Only(0)).unwrap();
    assert_eq!(server.filter.stats().unwrap().to_string(), "0.0.0.0: 0\n127.0.1.1: 0\n[::]: 0\n. 0: 0\n");
    server.filter.unblock(Ipv4Addr::UNSPECIFIED).unwrap();
    server.filter.unblock(Ipv6Addr::UNSPECIFIED).unwrap();
    assert_eq!(server.filter.stats().unwrap().to_string(), "127.0.1.1: 0\n. 0: 0\n");
}

/// `dnsdist --check-config` must not touch the kernel. In a process of its own, to see which descriptors it has.
#[test]
fn mode_off_leaves_the_kernel_alone() {
    require_kernel!();
    child::under_setpriv("mode_off_leaves_the_kernel_alone", &["--inh-caps", "-all"], || {
        let filter = BpfFilter::builder().mode(Mode::Off).build().unwrap();
        let wire = Wire::ipv4();
        let client = wire.client(CLIENT);
        assert_eq!(filter.attach(wire.server()).unwrap(), Enforcement::UserSpace);
        let blocked = name("blocked.example");
        filter.block(CLIENT).unwrap();
        filter.block_qname(&blocked, Qtypes::All).unwrap();
        assert_eq!(filter.check(&Query::new(CLIENT, &name("a.example"), A)), Verdict::Drop);
        assert_eq!(filter.check(&Query::new(BYSTANDER, &blocked, A)), Verdict::Drop);
        assert_eq!(filter.check(&Query::new(BYSTANDER, &name("a.example"), A)), Verdict::Pass);
        wire.assert_answers(&client, &query("blocked.example.", A));
        assert_eq!(filter.stats().unwrap().to_string(), "127.0.1.1: 1\nblocked.example. 255: 1\n");

        assert!(filter.status().programs.is_empty());
        assert_eq!(bpf_descriptors(), 0);
        let detached = socket_option::detach_filter(wire.server());
        assert_eq!(detached.unwrap_err().raw_os_error(), Some(2), "the socket has a filter");

        let enforced = BpfFilter::builder().mode(Mode::Require).build().unwrap();
        assert!(bpf_descriptors() > 0, "this test would not see a descriptor");
        enforced.attach(wire.server()).unwrap();
        socket_option::detach_filter(wire.server()).unwrap();
        wire::assert_empty(wire.server());
    });
}

/// The maps and programs that this process has open.
fn bpf_descriptors() -> usize {
    fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .filter(|target| target.to_string_lossy().contains("bpf"))
        .count()
}
