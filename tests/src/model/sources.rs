//! Few sources, and ranges around them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ebpf_filter::Match;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::bytes::Bytes;

const V4: [Ipv4Addr; 6] = [
    Ipv4Addr::new(192, 0, 2, 1),
    Ipv4Addr::new(192, 0, 2, 2),
    Ipv4Addr::new(192, 0, 3, 1),
    Ipv4Addr::new(10, 0, 0, 1),
    Ipv4Addr::UNSPECIFIED,
    Ipv4Addr::BROADCAST,
];

const V6: [Ipv6Addr; 7] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0x8000, 0, 0, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 1),
    Ipv6Addr::UNSPECIFIED,
    Ipv6Addr::new(0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff),
    // v4-mapped.
    Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201),
];

/// Lengths that nest, and those next to the ends of words.
const LENGTHS4: [u8; 8] = [24, 32, 16, 0, 8, 31, 1, 23];
const LENGTHS6: [u8; 12] = [48, 64, 128, 0, 32, 65, 63, 127, 1, 33, 96, 100];

/// An address that rules are about, or one a bit away from it.
pub fn source(bytes: &mut Bytes<'_>) -> IpAddr {
    let which = bytes.byte();
    let near = which >= 0xc0;
    let address = address(which & 0x3f);
    if !near {
        return address;
    }
    let bit = bytes.byte();
    match address {
        IpAddr::V4(address) => Ipv4Addr::from_bits(address.to_bits() ^ 1 << (bit % 32)).into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() ^ 1 << (bit % 128)).into(),
    }
}

/// A rule for an address.
pub fn exact(bytes: &mut Bytes<'_>) -> Match {
    match address(bytes.byte()) {
        IpAddr::V4(address) => Match::Ipv4(address),
        IpAddr::V6(address) => Match::Ipv6(address),
    }
}

/// A rule for a range, with or without bits behind its prefix.
///
/// # Panics
///
/// Never: no length is too long.
pub fn range(bytes: &mut Bytes<'_>) -> Match {
    let address = address(bytes.byte());
    let len = bytes.byte();
    let any = len >= 0xc0;
    let net: IpNet = match address {
        IpAddr::V4(address) => {
            let len = if any { len % 33 } else { LENGTHS4[usize::from(len) % LENGTHS4.len()] };
            Ipv4Net::new(address, len).expect("up to 32").into()
        }
        IpAddr::V6(address) => {
            let len = if any { bytes.byte() % 129 } else { LENGTHS6[usize::from(len) % LENGTHS6.len()] };
            Ipv6Net::new(address, len).expect("up to 128").into()
        }
    };
    match net {
        IpNet::V4(net) => Match::Range4(net),
        IpNet::V6(net) => Match::Range6(net),
    }
}

fn address(which: u8) -> IpAddr {
    let which = usize::from(which) % (V4.len() + V6.len());
    match which.checked_sub(V4.len()) {
        None => V4[which].into(),
        Some(which) => V6[which].into(),
    }
}
