//! What can stand between the fixed IP header and UDP or TCP: options of IPv4, extension headers of IPv6.

use std::net::Ipv6Addr;

use crate::netns;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Types of routing headers. Those that Linux does not know it skips if no segments are left.
const SOURCE_ROUTE: u8 = 0;
const RPL: u8 = 3;
const SEGMENT_ROUTING: u8 = 4;
const EXPERIMENT: u8 = 253;

/// An option of IPv6 that whoever does not know it skips, for experiments (RFC 4727).
const SKIPPED_OPTION: u8 = 0x1e;

/// The headers of one packet, beside the fixed one.
#[derive(Clone, Debug)]
pub enum Headers {
    /// IPv4: a multiple of four bytes, at most forty.
    Options(Vec<u8>),
    /// IPv6.
    Extensions(Vec<Extension>),
}

/// An extension header of IPv6: its number, and all of it behind the first byte, which says what follows.
#[derive(Clone, Debug)]
pub struct Extension {
    number: u8,
    rest: Vec<u8>,
}

impl Extension {
    /// Options for every host on the way: padding.
    pub fn hop_by_hop() -> Self {
        Self { number: HOP_BY_HOP, rest: vec![0, 1, 4, 0, 0, 0, 0] }
    }

    /// Options for the destination: padding.
    pub fn destination_options() -> Self {
        Self { number: DESTINATION_OPTIONS, rest: vec![0, 1, 4, 0, 0, 0, 0] }
    }

    /// Options for the destination, in the longest header that there is: 2048 bytes.
    pub fn longest_destination_options() -> Self {
        let mut rest = vec![255];
        for len in [255, 255, 255, 255, 255, 255, 255, 245] {
            rest.extend([SKIPPED_OPTION, len]);
            rest.resize(rest.len() + usize::from(len), 0);
        }
        Self { number: DESTINATION_OPTIONS, rest }
    }

    /// A routing header of this type with nothing left to do.
    fn routing(kind: u8) -> Self {
        Self { number: ROUTING, rest: vec![0, kind, 0, 0, 0, 0, 0] }
    }

    /// A segment routing header (RFC 8754): addresses on the way, the last one first, and how many are left.
    #[track_caller]
    pub fn segment_routing(segments: &[Ipv6Addr], left: u8) -> Self {
        let count = u8::try_from(segments.len()).expect("a few");
        let mut rest = vec![2 * count, SEGMENT_ROUTING, left, count - 1, 0, 0, 0];
        rest.extend(segments.iter().flat_map(Ipv6Addr::octets));
        Self { number: ROUTING, rest }
    }

    /// A fragment header around a whole packet, as in an atomic fragment (RFC 6946).
    pub fn fragment() -> Self {
        Self::fragment_at(0, false, 1)
    }

    /// A fragment header, with an offset in bytes.
    pub(crate) fn fragment_at(offset: u16, more: bool, id: u32) -> Self {
        let mut rest = vec![0];
        rest.extend((offset | u16::from(more)).to_be_bytes());
        rest.extend(id.to_be_bytes());
        Self { number: FRAGMENT, rest }
    }

    pub(crate) fn is_fragment(&self) -> bool {
        self.number == FRAGMENT
    }
}

/// Puts extension headers in front of what has the number `last`. Returns the number of the first.
pub(crate) fn chain(extensions: &[Extension], last: u8, upper: &[u8]) -> (u8, Vec<u8>) {
    extensions.iter().rev().fold((last, upper.to_vec()), |(next, behind), extension| {
        (extension.number, [&[next][..], &extension.rest, &behind].concat())
    })
}

/// Tells the network namespace of this thread to take routing headers with segments from the interface tun0.
#[track_caller]
pub fn accept_segments() {
    for switch in ["seg6_enabled", "rpl_seg_enabled"] {
        netns::set_sysctl(&format!("ipv6/conf/all/{switch}"), 1);
        netns::set_sysctl(&format!("ipv6/conf/tun0/{switch}"), 1);
    }
}

/// Options that Linux takes from the interface tun0, and none. Tells the network namespace of this thread to take source
/// routes from there.
#[track_caller]
pub fn accepted_options() -> Vec<Headers> {
    netns::set_sysctl("ipv4/conf/all/accept_source_route", 1);
    netns::set_sysctl("ipv4/conf/tun0/accept_source_route", 1);
    let unused = |head: &[u8], len: usize| [head, &vec![0; len - head.len()]].concat();
    vec![
        Headers::Options(vec![]),
        // No operations, few and as many as fit.
        Headers::Options(vec![1; 4]),
        Headers::Options(vec![1; 40]),
        // Router alert.
        Headers::Options(vec![148, 4, 0, 0]),
        // Record route, into which Linux writes, and a no operation.
        Headers::Options([unused(&[7, 39, 4], 39), vec![1]].concat()),
        // Timestamps, the same.
        Headers::Options(unused(&[68, 40, 5, 0], 40)),
        // A strict and a loose source route, with an address as blocked ones are, which was passed.
        Headers::Options(vec![137, 7, 8, 198, 51, 100, 2, 1]),
        Headers::Options(vec![131, 7, 8, 198, 51, 100, 2, 1]),
    ]
}

/// Chains of extension headers that Linux takes from the interface tun0 for this destination, and none. Does the
/// same as [`accept_segments`].
#[track_caller]
pub fn accepted_extensions(destination: Ipv6Addr) -> Vec<Headers> {
    accept_segments();
    let chains = [
        vec![],
        vec![Extension::hop_by_hop()],
        vec![Extension::destination_options()],
        vec![Extension::longest_destination_options()],
        vec![Extension::routing(SOURCE_ROUTE)],
        vec![Extension::routing(RPL)],
        vec![Extension::routing(EXPERIMENT)],
        vec![Extension::segment_routing(&[destination], 0)],
        vec![Extension::fragment()],
        vec![
            Extension::hop_by_hop(),
            Extension::destination_options(),
            Extension::routing(EXPERIMENT),
            Extension::fragment(),
            Extension::destination_options(),
        ],
        vec![Extension::destination_options(); 20],
    ];
    chains.map(Headers::Extensions).into()
}
