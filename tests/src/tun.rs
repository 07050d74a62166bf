//! Packets made by hand, which arrive from an interface without Ethernet headers, as from a tunnel.

use std::{
    fs::File,
    io::Write as _,
    net::{Ipv4Addr, Ipv6Addr},
};

use crate::{netns, sys};

const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;

/// An interface from which packets come that the test has written. Needs a network namespace of the test's own.
#[derive(Debug)]
pub struct Tun(File);

impl Tun {
    /// Creates the interface, and brings it up. Answers to addresses in 198.51.100.0/24 and `2001:db8:1::/64` go there.
    #[track_caller]
    pub fn new() -> Self {
        let tun = sys::create_tun("tun0").expect("the kernel has tun interfaces");
        netns::ip("link set tun0 up\nroute add 198.51.100.0/24 dev tun0\nroute add 2001:db8:1::/64 dev tun0");
        Self(tun)
    }

    /// A UDP datagram over IPv4, with these options in its header: a multiple of four bytes.
    #[track_caller]
    pub fn send4(
        &self,
        (source, source_port): (Ipv4Addr, u16),
        (destination, port): (Ipv4Addr, u16),
        options: &[u8],
        payload: &[u8],
    ) {
        let header_words = u8::try_from(5 + options.len() / 4).expect("options fit");
        let udp = udp(source_port, port, payload);
        let total = u16::try_from(20 + options.len() + udp.len()).expect("the packet fits");
        let mut header = vec![0x40 | header_words, 0];
        header.extend(total.to_be_bytes());
        header.extend([0, 1, 0, 0, 64, UDP, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(options);
        let checksum = checksum(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        // Without a checksum of its own, as UDP over IPv4 may be.
        self.write(&[header, udp].concat());
    }

    /// A UDP datagram over IPv6, with or without an extension header in front of it.
    #[track_caller]
    pub fn send6(
        &self,
        (source, source_port): (Ipv6Addr, u16),
        (destination, port): (Ipv6Addr, u16),
        extended: bool,
        payload: &[u8],
    ) {
        let mut udp = udp(source_port, port, payload);
        let len = u16::try_from(udp.len()).expect("the packet fits").to_be_bytes();
        let pseudo = [&source.octets()[..], &destination.octets(), &len, &[0, UDP], &udp].concat();
        udp[6..8].copy_from_slice(&checksum(&pseudo).to_be_bytes());
        // Hop-by-hop options: PadN over the rest of eight bytes.
        let extension: &[u8] = if extended { &[UDP, 0, 1, 4, 0, 0, 0, 0] } else { &[] };
        let total = u16::try_from(extension.len() + udp.len()).expect("the packet fits");
        let mut header = vec![0x60, 0, 0, 0];
        header.extend(total.to_be_bytes());
        header.extend([if extended { HOP_BY_HOP } else { UDP }, 64]);
        header.extend(source.octets());
        header.extend(destination.octets());
        self.write(&[&header, extension, &udp].concat());
    }

    fn write(&self, packet: &[u8]) {
        (&self.0).write_all(packet).expect("the interface is up");
    }
}

impl Default for Tun {
    fn default() -> Self {
        Self::new()
    }
}

fn udp(source_port: u16, port: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).expect("the packet fits");
    let mut udp = [source_port, port, len, 0].map(u16::to_be_bytes).concat();
    udp.extend(payload);
    udp
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}
