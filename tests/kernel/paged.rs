//! Packets whose payload is not in the linear part of their buffer. A program that reads only that part does not see the
//! name, and lets the packet through: the classic way around a name filter.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::{IpAddr, UdpSocket};

use ebpf_filter::{BpfFilter, Malformed, Match, Mode, QName, Qtypes};
use ebpf_filter_tests::{
    dns::{self, A, padded_query, query, raw_query, wire_name},
    hits,
    netns::{self, CLIENT4, CLIENT6, SERVER4, SERVER6},
    require_kernel, socket_option,
    wire::Wire,
};
use socket2::SockRef;

fn filter(malformed: Malformed) -> BpfFilter {
    let filter = BpfFilter::builder().malformed(malformed).mode(Mode::Require).build().unwrap();
    filter.block_qname(&"evil.example".parse().unwrap(), Qtypes::Only(A)).unwrap();
    filter
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Sends from the pages of this process, and makes sure that the kernel did.
fn send_zerocopy(client: &UdpSocket, datagram: &[u8]) {
    let socket = SockRef::from(client);
    assert_eq!(socket.send_with_flags(datagram, libc::MSG_ZEROCOPY).unwrap(), datagram.len());
    let mut nothing = [];
    let notified = socket.recv_with_flags(&mut nothing, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT);
    assert_eq!(notified.unwrap(), 0, "the kernel says that it is done with the pages");
}

#[test]
fn zerocopy_does_not_hide_the_name() {
    require_kernel!();
    let filter = filter(Malformed::Pass);
    let wire = Wire::ipv4();
    filter.attach(wire.server()).unwrap();
    let client = wire.client(ip("127.0.3.1"));
    socket_option::allow_zerocopy(&client).unwrap();
    for len in [200, 1400, 9000] {
        let evil = padded_query("evil.example.", A, len);
        assert_eq!(wire.arrivals(|| send_zerocopy(&client, &evil)), [], "{len} bytes");
        let good = padded_query("good.example.", A, len);
        let arrivals = wire.arrivals(|| send_zerocopy(&client, &good));
        assert_eq!(arrivals, [(client.local_addr().unwrap(), good)]);
    }
    assert_eq!(filter.stats().unwrap().to_string(), "evil.example. 1: 3\n");
    assert_eq!(filter.stats().unwrap().malformed_total(), 0);
}

#[test]
fn zerocopy_does_not_hide_the_source() {
    require_kernel!();
    let filter = filter(Malformed::Pass);
    let wire = Wire::ipv4();
    filter.attach(wire.server()).unwrap();
    let client = wire.client(ip("127.0.3.2"));
    socket_option::allow_zerocopy(&client).unwrap();
    filter.block(ip("127.0.3.2")).unwrap();
    let query = padded_query("good.example.", A, 1400);
    assert_eq!(wire.arrivals(|| send_zerocopy(&client, &query)), []);
    assert_eq!(hits(&filter, &Match::address(ip("127.0.3.2"))), 1);
}

/// `MSG_MORE` makes one datagram of several pieces, each in a page of its own. Cut everywhere in the header, the name and
/// behind it.
#[test]
fn pieces_do_not_hide_the_name() {
    require_kernel!();
    for policy in [Malformed::Pass, Malformed::Drop] {
        let filter = filter(policy);
        let wire = Wire::ipv4();
        filter.attach(wire.server()).unwrap();
        let client = wire.client(ip("127.0.3.3"));
        let (evil, good) = (query("evil.example.", A), query("good.example.", A));
        for cut in 1..evil.len() {
            let in_pieces = |datagram: &[u8]| {
                let socket = SockRef::from(&client);
                socket.send_with_flags(&datagram[..cut], libc::MSG_MORE).unwrap();
                socket.send_with_flags(&datagram[cut..], 0).unwrap();
            };
            assert_eq!(wire.arrivals(|| in_pieces(&evil)), [], "cut at {cut}");
            let arrivals = wire.arrivals(|| in_pieces(&good));
            assert_eq!(arrivals, [(client.local_addr().unwrap(), good.clone())], "cut at {cut}");
        }
        assert_eq!(filter.stats().unwrap().to_string(), format!("evil.example. 1: {}\n", evil.len() - 1));
        assert_eq!(filter.stats().unwrap().malformed_total(), 0);
    }
}

#[test]
fn large_datagrams_are_read_as_small_ones() {
    require_kernel!();
    let filter = filter(Malformed::Drop);
    let wire = Wire::ipv4();
    filter.attach(wire.server()).unwrap();
    let client = wire.client(ip("127.0.3.4"));
    for len in [2048, 4096, 16_000, 65_000] {
        wire.assert_drops(&client, &padded_query("evil.example.", A, len));
        wire.assert_passes(&client, &padded_query("good.example.", A, len));
    }
    assert_eq!(filter.stats().unwrap().to_string(), "evil.example. 1: 4\n");
}

/// The filter runs on reassembled datagrams, whose fragments stay buffers of their own.
#[test]
fn fragments_do_not_hide_the_name() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        netns::ip("link set lo mtu 1280");
        for (server, client) in [(SERVER4, CLIENT4), (SERVER6, CLIENT6)] {
            let filter = filter(Malformed::Drop);
            let wire = Wire::new(UdpSocket::bind((ip(server), 0)).unwrap(), ip(server));
            filter.attach(wire.server()).unwrap();
            let client = wire.client(ip(client));
            wire.assert_drops(&client, &padded_query("evil.example.", A, 4000));
            wire.assert_passes(&client, &padded_query("good.example.", A, 4000));
            assert_eq!(filter.stats().unwrap().to_string(), "evil.example. 1: 1\n");
        }
    });
}

/// With the smallest MTU of IPv4 a fragment carries 48 bytes, so the name spans several of them.
#[test]
fn a_name_across_fragments_is_read_whole() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        netns::ip("link set lo mtu 68");
        let filter = filter(Malformed::Drop);
        let longest = wire_name(&[&[b'a'; 63], &[b'b'; 63], &[b'c'; 63], &[b'd'; 61]]);
        assert_eq!(longest.len(), QName::MAX_LEN);
        filter.block_qname(&QName::from_wire(&longest).unwrap(), Qtypes::All).unwrap();
        let wire = Wire::new(UdpSocket::bind((ip(SERVER4), 0)).unwrap(), ip(SERVER4));
        filter.attach(wire.server()).unwrap();
        let client = wire.client(ip(CLIENT4));
        wire.assert_drops(&client, &raw_query(&longest, A));
        for at in [1, 40, 90, 150, 200, 253] {
            let mut other = longest.clone();
            other[at] = if [64, 128, 192].contains(&at) { other[at] } else { b'x' };
            wire.assert_passes(&client, &raw_query(&other, A));
        }
        let rule = Match::qname(QName::from_wire(&longest).unwrap(), Qtypes::All);
        assert_eq!(hits(&filter, &rule), 1);
        wire.assert_drops(&client, &query("evil.example.", A));
        wire.assert_passes(&client, &query("evil.example.", dns::AAAA));
    });
}
