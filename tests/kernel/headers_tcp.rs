//! TCP behind options of IPv4 and extension headers of IPv6, from an interface without Ethernet headers.

use ebpf_filter_tests::{
    gate::TcpGate,
    headers::{Headers, accepted_extensions, accepted_options},
    netns::{self, SERVER6},
    packet, require_kernel,
    tun::Tun,
};

fn assert_bites_behind(gate: &TcpGate, headers: &Headers) {
    gate.assert_bites(&format!("{headers:02x?}"), |tun, ends, segment, payload| {
        tun.send(&[], &packet::tcp(ends, headers, segment, payload));
    });
}

#[test]
fn over_ipv4_behind_options() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let gate = TcpGate::ipv4(Tun::new());
        for headers in accepted_options() {
            assert_bites_behind(&gate, &headers);
        }
    });
}

#[test]
fn over_ipv6_behind_extension_headers() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let gate = TcpGate::ipv6(Tun::new());
        for headers in accepted_extensions(SERVER6.parse().expect("an address")) {
            assert_bites_behind(&gate, &headers);
        }
    });
}
