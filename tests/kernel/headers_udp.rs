//! UDP behind options of IPv4 and extension headers of IPv6, from an interface without Ethernet headers. A program that
//! counts from the start of an Ethernet frame, or takes an IP header to be of one length, reads the wrong source.

use ebpf_filter_tests::{
    gate::Gate,
    headers::{Extension, Headers, accept_segments, accepted_extensions, accepted_options},
    netns::{self, CLIENT6, SERVER6},
    packet, require_kernel,
    tun::Tun,
};

fn assert_bites_behind(tun: &Tun, gate: &Gate, headers: &Headers) {
    gate.assert_bites(&format!("{headers:02x?}"), |ends, payload| {
        tun.send(&[], &packet::udp(ends, headers, payload));
    });
}

#[test]
fn over_ipv4_behind_options() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let (tun, gate) = (Tun::new(), Gate::ipv4());
        for headers in accepted_options() {
            assert_bites_behind(&tun, &gate, &headers);
        }
    });
}

#[test]
fn over_ipv6_behind_extension_headers() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let (tun, gate) = (Tun::new(), Gate::ipv6());
        for headers in accepted_extensions(SERVER6.parse().expect("an address")) {
            assert_bites_behind(&tun, &gate, &headers);
        }
    });
}

/// The header names another address of this host first, so that the kernel itself sends the packet on, to itself.
#[test]
fn over_ipv6_by_way_of_another_address() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let (tun, gate) = (Tun::new(), Gate::ipv6());
        let [waypoint, destination] = [CLIENT6, SERVER6].map(|address| address.parse().expect("an address"));
        accept_segments();
        let headers = Headers::Extensions(vec![Extension::segment_routing(&[destination, waypoint], 1)]);
        gate.assert_bites("one segment left", |ends, payload| {
            tun.send(&[], &packet::by_way_of(packet::udp(ends, &headers, payload), waypoint));
        });
    });
}
