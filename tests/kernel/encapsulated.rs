//! Packets that the kernel takes out of something before they get to the socket: out of VLAN tags, out of other packets.

use std::net::Ipv6Addr;

use ebpf_filter_tests::{
    gate::{Gate, TcpGate},
    headers::{Extension, Headers, accept_segments},
    netns::{self, SERVER6},
    packet::{self, Ends, Segment},
    require_kernel,
    tun::{BLOCKED6, Tun},
};

const DOT1Q: u16 = 0x8100;
const DOT1AD: u16 = 0x88a8;
/// In a tag, beside the number of the VLAN.
const PRIORITY: u16 = 5 << 13;

/// Tags with the number 0, which every host takes off: those are about priority, or come from a link that has no VLANs.
const TAGS: [&[(u16, u16)]; 6] = [
    &[],
    &[(DOT1Q, 0)],
    &[(DOT1Q, PRIORITY)],
    &[(DOT1AD, 0)],
    &[(DOT1AD, 0), (DOT1Q, 0)],
    &[(DOT1AD, PRIORITY), (DOT1Q, 0), (DOT1Q, PRIORITY)],
];

fn plain(ipv4: bool) -> Headers {
    if ipv4 { Headers::Options(vec![]) } else { Headers::Extensions(vec![]) }
}

/// With headers that are longer than usual.
fn long(ipv4: bool) -> Headers {
    if ipv4 {
        Headers::Options(vec![1; 40])
    } else {
        Headers::Extensions(vec![Extension::hop_by_hop(), Extension::fragment()])
    }
}

fn udp_out_of_vlan_tags(ipv4: bool) {
    let tun = Tun::with_ethernet();
    let gate = if ipv4 { Gate::ipv4() } else { Gate::ipv6() };
    for tags in TAGS {
        for headers in [plain(ipv4), long(ipv4)] {
            gate.assert_bites(&format!("{tags:x?} {headers:x?}"), |ends, payload| {
                tun.send(tags, &packet::udp(ends, &headers, payload));
            });
        }
        gate.assert_bites(&format!("{tags:x?} in fragments"), |ends, payload| {
            for fragment in packet::udp_fragments(ends, &long(ipv4), 8, payload) {
                tun.send(tags, &fragment);
            }
        });
    }
}

fn tcp_out_of_vlan_tags(ipv4: bool) {
    let tun = Tun::with_ethernet();
    let gate = if ipv4 { TcpGate::ipv4(tun) } else { TcpGate::ipv6(tun) };
    for tags in TAGS {
        for headers in [plain(ipv4), long(ipv4)] {
            gate.assert_bites(&format!("{tags:x?} {headers:x?}"), |tun, ends, segment, payload| {
                tun.send(tags, &packet::tcp(ends, &headers, segment, payload));
            });
        }
    }
}

#[test]
fn udp_over_ipv4_out_of_vlan_tags() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| udp_out_of_vlan_tags(true));
}

#[test]
fn udp_over_ipv6_out_of_vlan_tags() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| udp_out_of_vlan_tags(false));
}

#[test]
fn tcp_over_ipv4_out_of_vlan_tags() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| tcp_out_of_vlan_tags(true));
}

#[test]
fn tcp_over_ipv6_out_of_vlan_tags() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| tcp_out_of_vlan_tags(false));
}

/// A tunnel of segment routing (RFC 8986), which ends at the server. It begins at an address that is blocked, which must not
/// matter: that is not where the packet in it comes from.
fn send_through_tunnel(tun: &Tun, packet: &[u8]) {
    let end: Ipv6Addr = SERVER6.parse().expect("an address");
    let around = [Extension::hop_by_hop(), Extension::segment_routing(&[end], 0)];
    tun.send(&[], &packet::tunneled(BLOCKED6, end, &around, packet));
}

fn udp_out_of_a_tunnel(ipv4: bool) {
    let tun = Tun::new();
    accept_segments();
    let gate = if ipv4 { Gate::ipv4() } else { Gate::ipv6() };
    for headers in [plain(ipv4), long(ipv4)] {
        gate.assert_bites(&format!("{headers:x?}"), |ends, payload| {
            send_through_tunnel(&tun, &packet::udp(ends, &headers, payload));
        });
    }
    gate.assert_bites("in fragments", |ends, payload| {
        for fragment in packet::udp_fragments(ends, &long(ipv4), 8, payload) {
            send_through_tunnel(&tun, &fragment);
        }
    });
}

fn tcp_out_of_a_tunnel(ipv4: bool) {
    let tun = Tun::new();
    accept_segments();
    let gate = if ipv4 { TcpGate::ipv4(tun) } else { TcpGate::ipv6(tun) };
    for headers in [plain(ipv4), long(ipv4)] {
        let send = |tun: &Tun, ends: Ends, segment: Segment, payload: &[u8]| {
            send_through_tunnel(tun, &packet::tcp(ends, &headers, segment, payload));
        };
        gate.assert_bites(&format!("{headers:x?}"), send);
    }
}

#[test]
fn udp_over_ipv4_out_of_a_tunnel_over_ipv6() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| udp_out_of_a_tunnel(true));
}

#[test]
fn udp_over_ipv6_out_of_a_tunnel_over_ipv6() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| udp_out_of_a_tunnel(false));
}

#[test]
fn tcp_over_ipv4_out_of_a_tunnel_over_ipv6() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| tcp_out_of_a_tunnel(true));
}

#[test]
fn tcp_over_ipv6_out_of_a_tunnel_over_ipv6() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| tcp_out_of_a_tunnel(false));
}
