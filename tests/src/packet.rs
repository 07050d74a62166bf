//! IP packets made by hand, whole and in fragments, and what of an answer the tests look at.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::atomic::{AtomicU16, Ordering},
};

use crate::headers::{Extension, Headers, chain};

const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;

/// Where the checksum is.
const IPV4_CHECKSUM: usize = 10;
const UDP_CHECKSUM: usize = 6;
const TCP_CHECKSUM: usize = 16;

/// A flag of TCP: the first segment of a connection.
pub const SYN: u8 = 0x02;
/// Another: hand over what is there.
pub const PSH: u8 = 0x08;
/// Another: there is an acknowledgment.
pub const ACK: u8 = 0x10;

const MORE_FRAGMENTS: u16 = 0x2000;

/// Fragments with different identifications are not put together.
static IDENTIFICATION: AtomicU16 = AtomicU16::new(1);

/// From whom, and to whom.
pub type Ends = (SocketAddr, SocketAddr);

/// The header of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Of [`SYN`], [`PSH`] and [`ACK`], and others.
    pub flags: u8,
    /// The number of the first byte.
    pub sequence: u32,
    /// The number of the byte that is expected next.
    pub acknowledgment: u32,
}

/// A UDP datagram.
#[track_caller]
pub fn udp(ends: Ends, headers: &Headers, payload: &[u8]) -> Vec<u8> {
    packet(ends, headers, UDP, &datagram(ends, payload))
}

/// A TCP segment.
#[track_caller]
pub fn tcp(ends: Ends, headers: &Headers, segment: Segment, payload: &[u8]) -> Vec<u8> {
    let (from, to) = ends;
    let mut bytes = [from.port(), to.port()].map(u16::to_be_bytes).concat();
    bytes.extend([segment.sequence, segment.acknowledgment].map(u32::to_be_bytes).concat());
    bytes.extend([5 << 4, segment.flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(payload);
    seal(ends, TCP, &mut bytes, TCP_CHECKSUM);
    packet(ends, headers, TCP, &bytes)
}

/// A UDP datagram in fragments: the first has this many bytes behind what is repeated in every fragment, and the others
/// have eight. Over IPv6 a fragment header says how much is repeated: what is in front of it.
#[track_caller]
pub fn udp_fragments(ends: Ends, headers: &Headers, first: u16, payload: &[u8]) -> Vec<Vec<u8>> {
    let id = IDENTIFICATION.fetch_add(1, Ordering::Relaxed);
    let datagram = datagram(ends, payload);
    match headers {
        Headers::Options(options) => {
            let (source, destination) = ipv4_ends(ends);
            let make = |offset: u16, more: bool, piece: &[u8]| {
                let more = if more { MORE_FRAGMENTS } else { 0 };
                ipv4(source, destination, options, (id, (offset / 8) | more), UDP, piece)
            };
            cut(&datagram, first, make)
        }
        Headers::Extensions(extensions) => {
            let mut parts = extensions.splitn(2, Extension::is_fragment);
            let (Some(repeated), Some(behind)) = (parts.next(), parts.next()) else {
                panic!("no fragment header in {extensions:?}");
            };
            let (number, rest) = chain(behind, UDP, &datagram);
            let make = |offset: u16, more: bool, piece: &[u8]| {
                let fragment = Extension::fragment_at(offset, more, id.into());
                let extensions = [repeated, &[fragment]].concat();
                packet(ends, &Headers::Extensions(extensions), number, piece)
            };
            cut(&rest, first, make)
        }
    }
}

/// A packet that is on its way to this address, and then to its destination.
#[track_caller]
pub fn by_way_of(mut packet: Vec<u8>, waypoint: Ipv6Addr) -> Vec<u8> {
    packet[24..IPV6_HEADER].copy_from_slice(&waypoint.octets());
    packet
}

/// A packet in a packet over IPv6, behind these extension headers.
#[track_caller]
pub fn tunneled(source: Ipv6Addr, destination: Ipv6Addr, extensions: &[Extension], inner: &[u8]) -> Vec<u8> {
    let number = if is_ipv4(inner) { libc::IPPROTO_IPIP } else { libc::IPPROTO_IPV6 };
    let number = u8::try_from(number).expect("one byte");
    let (number, payload) = chain(extensions, number, inner);
    ipv6(source, destination, number, &payload)
}

/// An Ethernet frame with VLAN tags, the outer first: what kind of tag it is (802.1Q, 802.1ad), and its number.
#[track_caller]
pub fn frame(from: [u8; 6], to: [u8; 6], tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
    let mut frame = [to, from].concat();
    for (kind, number) in tags {
        frame.extend([*kind, *number].map(u16::to_be_bytes).concat());
    }
    let kind = if is_ipv4(packet) { libc::ETH_P_IP } else { libc::ETH_P_IPV6 };
    frame.extend(u16::try_from(kind).expect("two bytes").to_be_bytes());
    frame.extend(packet);
    frame
}

/// Reads the ports and the header of a TCP segment, if this is one, in a packet without extension headers.
pub fn read_tcp(packet: &[u8]) -> Option<((u16, u16), Segment)> {
    let (protocol, header) = if is_ipv4(packet) {
        (packet[9], usize::from(packet[0] & 0xf) * 4)
    } else {
        (packet[6], IPV6_HEADER)
    };
    let bytes = (protocol == TCP).then_some(&packet[header..])?;
    let short = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let long = |at: usize| (u32::from(short(at)) << 16) | u32::from(short(at + 2));
    Some(((short(0), short(2)), Segment { flags: bytes[13], sequence: long(4), acknowledgment: long(8) }))
}

fn is_ipv4(packet: &[u8]) -> bool {
    packet[0] >> 4 == 4
}

#[track_caller]
fn cut(whole: &[u8], first: u16, make: impl Fn(u16, bool, &[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    let (head, tail) = whole.split_at(first.into());
    let mut fragments = vec![make(0, !tail.is_empty(), head)];
    let mut offset = first;
    let mut pieces = tail.chunks(8).peekable();
    while let Some(piece) = pieces.next() {
        fragments.push(make(offset, pieces.peek().is_some(), piece));
        offset += 8;
    }
    fragments
}

#[track_caller]
fn datagram(ends: Ends, payload: &[u8]) -> Vec<u8> {
    let (from, to) = ends;
    let len = u16::try_from(8 + payload.len()).expect("the packet fits");
    let mut bytes = [from.port(), to.port(), len, 0].map(u16::to_be_bytes).concat();
    bytes.extend(payload);
    seal(ends, UDP, &mut bytes, UDP_CHECKSUM);
    bytes
}

#[track_caller]
fn packet(ends: Ends, headers: &Headers, protocol: u8, upper: &[u8]) -> Vec<u8> {
    match headers {
        Headers::Options(options) => {
            let (source, destination) = ipv4_ends(ends);
            let id = IDENTIFICATION.fetch_add(1, Ordering::Relaxed);
            ipv4(source, destination, options, (id, 0), protocol, upper)
        }
        Headers::Extensions(extensions) => {
            let (IpAddr::V6(source), IpAddr::V6(destination)) = (ends.0.ip(), ends.1.ip()) else {
                panic!("extension headers from {} to {}", ends.0, ends.1);
            };
            let (number, payload) = chain(extensions, protocol, upper);
            ipv6(source, destination, number, &payload)
        }
    }
}

#[track_caller]
fn ipv4_ends((from, to): Ends) -> (Ipv4Addr, Ipv4Addr) {
    match (from.ip(), to.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => (source, destination),
        _ => panic!("IPv4 options from {from} to {to}"),
    }
}

#[track_caller]
fn ipv4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    options: &[u8],
    (id, fragment): (u16, u16),
    protocol: u8,
    payload: &[u8],
) -> Vec<u8> {
    let words = u8::try_from(5 + options.len() / 4).expect("options fit");
    let total = u16::try_from(IPV4_HEADER + options.len() + payload.len()).expect("the packet fits");
    let mut header = vec![0x40 | words, 0];
    header.extend([total, id, fragment].map(u16::to_be_bytes).concat());
    header.extend([64, protocol, 0, 0]);
    header.extend([source.octets(), destination.octets()].concat());
    header.extend(options);
    let checksum = checksum(&header);
    header[IPV4_CHECKSUM..][..2].copy_from_slice(&checksum.to_be_bytes());
    header.extend(payload);
    header
}

#[track_caller]
fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).expect("the packet fits");
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([next, 64]);
    packet.extend([source.octets(), destination.octets()].concat());
    packet.extend(payload);
    packet
}

/// Writes the checksum of UDP or TCP. It sums up the same over IPv4 and IPv6. Zero would mean that there is none.
#[track_caller]
fn seal((from, to): Ends, protocol: u8, bytes: &mut [u8], at: usize) {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let len = u16::try_from(bytes.len()).expect("the packet fits").to_be_bytes();
    let pseudo = [&octets(from.ip())[..], &octets(to.ip()), &len, &[0, protocol], bytes].concat();
    let checksum = match checksum(&pseudo) {
        0 => 0xffff,
        other => other,
    };
    bytes[at..][..2].copy_from_slice(&checksum.to_be_bytes());
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
