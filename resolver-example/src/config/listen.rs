//! `[listen]`: where the server listens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{
    error::{ConfigError, Problem},
    schema,
    source::Source,
};

/// No machine gains from more; each takes a descriptor and a task.
pub(super) const MAX_UDP_SOCKETS: u32 = 256;

const DEFAULT_UDP_SOCKETS: u32 = 2;
const DEFAULT_ADDRESSES: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5300),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 5300),
];

/// Where the server listens; UDP and TCP everywhere.
#[derive(Debug)]
pub(crate) struct Listen {
    /// At least one; a port 0 stands for any that is free.
    pub(crate) addresses: Vec<SocketAddr>,
    /// How many UDP sockets share each address.
    pub(crate) udp_sockets: u32,
    /// Whether an IPv6 address may be missing: nobody asked for the defaults.
    pub(crate) optional_ipv6: bool,
}

impl Listen {
    pub(super) fn check(raw: schema::Listen, source: &Source<'_>) -> Result<Self, ConfigError> {
        let schema::Listen { dns, udp_sockets } = raw;
        let mut listen = Self::default();

        if let Some(dns) = dns {
            let span = dns.span();
            listen.optional_ipv6 = false;
            listen.addresses.clear();
            for item in dns.into_inner() {
                let span = item.span();
                let value = item.into_inner();
                let Ok(address) = value.parse::<SocketAddr>() else {
                    return Err(source.invalid(&span, Problem::ListenAddress { value }));
                };
                if address.port() != 0 && listen.addresses.contains(&address) {
                    return Err(source.invalid(&span, Problem::RepeatedListenAddress { address }));
                }
                listen.addresses.push(address);
            }
            if listen.addresses.is_empty() {
                return Err(source.invalid(&span, Problem::NoListenAddress));
            }
        }

        if let Some(udp_sockets) = udp_sockets {
            let value = *udp_sockets.get_ref();
            if !(1..=MAX_UDP_SOCKETS).contains(&value) {
                return Err(source.invalid(&udp_sockets.span(), Problem::UdpSockets { value }));
            }
            listen.udp_sockets = value;
        }

        Ok(listen)
    }
}

impl Default for Listen {
    fn default() -> Self {
        Self { addresses: DEFAULT_ADDRESSES.to_vec(), udp_sockets: DEFAULT_UDP_SOCKETS, optional_ipv6: true }
    }
}
