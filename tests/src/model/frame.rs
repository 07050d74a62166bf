//! Packets as `BPF_PROG_TEST_RUN` takes them: it shows a program the data from the IP header on.

use std::net::{IpAddr, Ipv6Addr};

/// IPv4 with 20 bytes of options and IPv6 have headers of the same length, so that one object serves both.
const IP_HEADER: u16 = 40;
const UDP_HEADER: u16 = 8;

/// Where the DNS header is in the data that a program sees.
pub const PAYLOAD_OFFSET: u32 = 48;

/// The longest payload that `BPF_PROG_TEST_RUN` takes for sure: all has to fit on a page.
pub const LONGEST: usize = 2048;

/// An Ethernet frame with a UDP datagram, or the first [`LONGEST`] bytes of one. No v4-mapped address is on the wire:
/// those are IPv4.
///
/// # Panics
///
/// Never: so many bytes have a length.
pub fn frame(source: IpAddr, payload: &[u8]) -> Vec<u8> {
    let payload = &payload[..payload.len().min(LONGEST)];
    let udp_len = UDP_HEADER + u16::try_from(payload.len()).expect("it is cut off");
    let mut frame = vec![0; 12];
    match source.to_canonical() {
        IpAddr::V4(source) => {
            frame.extend([0x08, 0x00, 0x4a, 0]);
            frame.extend((udp_len + IP_HEADER).to_be_bytes());
            frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
            frame.extend(source.octets());
            frame.extend([192, 0, 2, 53]);
            frame.extend([1; 20]);
        }
        IpAddr::V6(source) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(udp_len.to_be_bytes());
            frame.extend([17, 64]);
            frame.extend(source.octets());
            frame.extend(Ipv6Addr::LOCALHOST.octets());
        }
    }
    frame.extend([0x30, 0x39, 0, 53]);
    frame.extend(udp_len.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}
