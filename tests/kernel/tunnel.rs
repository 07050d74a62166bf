//! Packets from an interface without Ethernet headers, and with more than the shortest IP header. A program that counts
//! from the start of an Ethernet frame reads the wrong source.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use ebpf_filter::{BpfFilter, Malformed, Mode, Qtypes};
use ebpf_filter_tests::{
    dns::{A, query},
    netns::{self, SERVER4, SERVER6},
    require_kernel,
    tun::Tun,
    wire,
};

const CLIENT4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const BLOCKED4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
const CLIENT6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
const BLOCKED6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2);
/// No operations: what every host skips.
const NOPS: [u8; 40] = [1; 40];

fn server(address: &str) -> (UdpSocket, u16) {
    let server = UdpSocket::bind((address, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    (server, port)
}

fn filter() -> BpfFilter {
    let filter = BpfFilter::builder().malformed(Malformed::Drop).mode(Mode::Require).build().unwrap();
    filter.block(BLOCKED4).unwrap();
    filter.block(BLOCKED6).unwrap();
    filter.block_qname(&"evil.example".parse().unwrap(), Qtypes::All).unwrap();
    filter
}

#[test]
fn over_ipv4_with_and_without_options() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let tun = Tun::new();
        let (socket, port) = server(SERVER4);
        let to = (SERVER4.parse().unwrap(), port);
        let filter = filter();
        filter.attach(&socket).unwrap();
        for options in [&NOPS[..0], &NOPS[..4], &NOPS] {
            tun.send4((BLOCKED4, 5353), to, options, &query("good.example.", A));
            tun.send4((CLIENT4, 5353), to, options, &query("evil.example.", A));
            tun.send4((CLIENT4, 5353), to, options, &query("good.example.", A));
            let expected = (SocketAddr::from((CLIENT4, 5353)), query("good.example.", A));
            assert_eq!(wire::receive(&socket), expected, "{} bytes of options", options.len());
        }
        wire::assert_empty(&socket);
        let expected = "198.51.100.2: 3\n[2001:db8:1::2]: 0\nevil.example. 255: 3\n";
        assert_eq!(filter.stats().unwrap().to_string(), expected);
    });
}

#[test]
fn over_ipv6_with_and_without_extension_headers() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    netns::run(|| {
        let tun = Tun::new();
        let (socket, port) = server(SERVER6);
        let to = (SERVER6.parse().unwrap(), port);
        let filter = filter();
        filter.attach(&socket).unwrap();
        for extended in [false, true] {
            tun.send6((BLOCKED6, 5353), to, extended, &query("good.example.", A));
            tun.send6((CLIENT6, 5353), to, extended, &query("evil.example.", A));
            tun.send6((CLIENT6, 5353), to, extended, &query("good.example.", A));
            let expected = (SocketAddr::from((CLIENT6, 5353)), query("good.example.", A));
            assert_eq!(wire::receive(&socket), expected, "extension header: {extended}");
        }
        wire::assert_empty(&socket);
        let expected = "198.51.100.2: 0\n[2001:db8:1::2]: 2\nevil.example. 255: 2\n";
        assert_eq!(filter.stats().unwrap().to_string(), expected);
    });
}
