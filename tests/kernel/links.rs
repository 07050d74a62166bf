//! Real clients at the other end of tunnels and VLANs.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::{IpAddr, TcpListener, UdpSocket};

use ebpf_filter::{BpfFilter, Malformed, Mode, Qtypes};
use ebpf_filter_tests::{
    dns::{A, query},
    link::{self, ENDS4, ENDS6, HERE4, HERE6, Kind},
    netns::{self, Namespace},
    require_kernel, tcp,
    tun::{BLOCKED4, BLOCKED6, CLIENT4, CLIENT6},
    wire::{self, Wire},
};

/// The other end of the tunnel is blocked as well, which must not matter: that is not where the packets in it come from.
fn filter() -> BpfFilter {
    let filter = BpfFilter::builder().malformed(Malformed::Drop).mode(Mode::Require).build().unwrap();
    for blocked in [BLOCKED4.into(), ENDS4[1].into(), BLOCKED6.into(), ENDS6[1].into()] as [IpAddr; 4] {
        filter.block(blocked).unwrap();
    }
    filter.block_qname(&"evil.example".parse().unwrap(), Qtypes::All).unwrap();
    filter
}

/// Drops one datagram and one first segment from the blocked client, and one datagram for the name.
fn assert_bites(filter: &BpfFilter, there: &Namespace, server: IpAddr, client: IpAddr, blocked: IpAddr) {
    let [good, evil] = ["good.example.", "evil.example."].map(|name| query(name, A));

    let socket = UdpSocket::bind((server, 0)).unwrap();
    filter.attach(&socket).unwrap();
    let address = socket.local_addr().unwrap();
    let client_at = |source: IpAddr| there.enter(|| wire::client(source, address));
    let wire = Wire::with_marker(socket, client_at(client));
    wire.assert_drops(&client_at(blocked), &good);
    wire.assert_drops(&client_at(client), &evil);
    wire.assert_answers(&client_at(client), &good);

    let listener = TcpListener::bind((server, 0)).unwrap();
    filter.attach(&listener).unwrap();
    let address = listener.local_addr().unwrap();
    let stuck = there.enter(|| tcp::start_connecting(blocked, address));
    wire.settle();
    assert!(stuck.peer_addr().is_err(), "connected");
    // Before it asks again, after a second.
    drop(stuck);
    let client = there.enter(|| tcp::connect(client, address));
    let (server, from) = tcp::accept(&listener);
    assert_eq!(from, client.local_addr().unwrap());
    tcp::assert_answers(&client, &server, &evil);
    tcp::assert_no_connection(&listener);
}

fn assert_bites_over(kind: &Kind) {
    netns::run(|| {
        let Some(there) = link::connect(kind) else { return };
        let filter = filter();
        if kind.ipv4 {
            assert_bites(&filter, &there, HERE4.into(), CLIENT4.into(), BLOCKED4.into());
        }
        if kind.ipv6 {
            assert_bites(&filter, &there, HERE6.into(), CLIENT6.into(), BLOCKED6.into());
        }
        let (ipv4, ipv6) = (u8::from(kind.ipv4), u8::from(kind.ipv6));
        let expected = format!(
            "198.51.100.2: {}\n203.0.113.2: 0\n[2001:db8:1::2]: {}\n[2001:db8:2::2]: 0\nevil.example. 255: {}\n",
            2 * ipv4,
            2 * ipv6,
            ipv4 + ipv6
        );
        assert_eq!(filter.stats().unwrap().to_string(), expected);
        assert_eq!(filter.stats().unwrap().malformed_total(), 0);
    });
}

macro_rules! over {
    ($($test:ident => $kind:ident),+ $(,)?) => {
        $(#[test]
        fn $test() {
            require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
            assert_bites_over(&Kind::$kind);
        })+
    };
}

over! {
    gre => GRE,
    ethernet_in_gre => GRETAP,
    gre_over_ipv6 => IP6GRE,
    ipv4_in_ipv4 => IPIP,
    ipv6_in_ipv4 => SIT,
    ip_in_ipv6 => IP6TNL,
    vxlan => VXLAN,
    vxlan_without_ethernet => VXLAN_GPE,
    geneve => GENEVE,
    vlan => VLAN,
    vlan_in_vlan => QINQ,
    macvlan => MACVLAN,
}
