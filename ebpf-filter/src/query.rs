//! A query as the server sees it, for the decision in user space.

use std::net::IpAddr;

use ebpf_prog::{
    Malformed as MalformedReason,
    decision::{Family, Packet, Sourced},
    message::{HEADER_LEN, Message},
};

use crate::QName;

/// A decoded query, and where it came from.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    source: Source,
    name: &'a QName,
    qtype: u16,
    plain_udp: bool,
}

impl<'a> Query<'a> {
    /// A query from `source` for `name` and the type with the number `qtype`, over TCP, TLS, HTTPS, QUIC or anything else
    /// that hides the name from the kernel.
    pub fn new(source: IpAddr, name: &'a QName, qtype: u16) -> Self {
        Self { source: Source::new(source), name, qtype, plain_udp: false }
    }

    /// The same query, but over a UDP socket that the filter is attached to for plain DNS: where the kernel enforces, it
    /// has seen and counted the name already.
    #[must_use]
    pub const fn over_plain_udp(self) -> Self {
        Self { plain_udp: true, ..self }
    }

    pub(crate) const fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) const fn name(&self) -> &QName {
        self.name
    }

    pub(crate) const fn is_plain_udp(&self) -> bool {
        self.plain_udp
    }

    pub(crate) const fn qtype(&self) -> u16 {
        self.qtype
    }
}

/// The source of a query; a v4-mapped address is the IPv4 address that was on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source(IpAddr);

impl Source {
    pub(crate) fn new(address: IpAddr) -> Self {
        Self(address.to_canonical())
    }
}

impl Sourced for Source {
    fn is(&self, family: Family) -> bool {
        match family {
            Family::Ipv4 => self.0.is_ipv4(),
            Family::Ipv6 => self.0.is_ipv6(),
        }
    }

    fn ipv4_source(&self) -> Option<u64> {
        match self.0 {
            IpAddr::V4(address) => Some(address.to_bits().into()),
            IpAddr::V6(_) => None,
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "the halves")]
    fn ipv6_source(&self) -> Option<[u64; 2]> {
        match self.0 {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some([(address.to_bits() >> 64) as u64, address.to_bits() as u64]),
        }
    }
}

/// A datagram as it was received, and where it came from.
pub(crate) struct Datagram {
    source: Source,
    message: Message,
    loaded: usize,
}

impl Datagram {
    pub(crate) fn new(source: IpAddr, payload: &[u8]) -> Self {
        let (message, loaded) = Message::from_payload(payload);
        Self { source: Source::new(source), message, loaded }
    }
}

impl Sourced for Datagram {
    fn is(&self, family: Family) -> bool {
        self.source.is(family)
    }

    fn ipv4_source(&self) -> Option<u64> {
        self.source.ipv4_source()
    }

    fn ipv6_source(&self) -> Option<[u64; 2]> {
        self.source.ipv6_source()
    }
}

impl Packet for Datagram {
    fn message(&mut self) -> Result<(&mut Message, usize), MalformedReason> {
        if self.loaded < HEADER_LEN {
            return Err(MalformedReason::TooShort);
        }
        Ok((&mut self.message, self.loaded))
    }
}
