//! Listening sockets: a TCP listener and a group of UDP sockets for each address, guarded before they receive anything.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use thiserror::Error;

use crate::filter::FilterError;

/// Connections that the kernel completes before the server accepts them.
const TCP_BACKLOG: i32 = 1024;

/// How often another port is tried where any will do.
const PORT_ATTEMPTS: u32 = 32;

/// What listens on one address.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) address: SocketAddr,
    pub(crate) udp: Vec<UdpSocket>,
    pub(crate) tcp: TcpListener,
}

impl Sockets {
    /// Opens the sockets for `address`; a port 0 becomes a port that is free for both protocols.
    ///
    /// `guard` sees every socket before it is bound, so no packet gets past it. IPv6 sockets take IPv6 only: `0.0.0.0`
    /// and `[::]` can be listened on side by side, and a client's address is never an IPv4 address in disguise.
    pub(crate) fn open(
        address: SocketAddr,
        udp_sockets: u32,
        guard: impl Fn(&Socket) -> Result<(), FilterError>,
    ) -> Result<Self, SocketError> {
        let mut attempt = 1;
        loop {
            match Self::try_open(address, udp_sockets, &guard) {
                // Free for TCP, but not for UDP.
                Err(SocketError::InUse { .. }) if address.port() == 0 && attempt < PORT_ATTEMPTS => {
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn try_open(
        requested: SocketAddr,
        udp_sockets: u32,
        guard: &impl Fn(&Socket) -> Result<(), FilterError>,
    ) -> Result<Self, SocketError> {
        let (tcp, address) = bind_tcp(requested, guard)?;
        let mut udp = Vec::new();
        for _ in 0..udp_sockets {
            let socket = new_socket(address, Type::DGRAM, guard)?;
            // The first socket binds alone, and opens the group afterwards: a group that another process has on this
            // port is an error then, not a silent partner that gets half of the queries.
            let first = udp.is_empty();
            if !first {
                socket.set_reuse_port(true).map_err(|source| SocketError::new(address, source))?;
            }
            bind(&socket, address)?;
            if first && udp_sockets > 1 {
                socket.set_reuse_port(true).map_err(|source| SocketError::new(address, source))?;
            }
            udp.push(socket.into());
        }
        tcp.listen(TCP_BACKLOG).map_err(|source| SocketError::new(address, source))?;
        Ok(Self { address, udp, tcp: tcp.into() })
    }
}

/// Binds TCP first: its port is exclusive, while the kernel may choose a UDP port that has a group already.
fn bind_tcp(
    requested: SocketAddr,
    guard: &impl Fn(&Socket) -> Result<(), FilterError>,
) -> Result<(Socket, SocketAddr), SocketError> {
    let socket = new_socket(requested, Type::STREAM, guard)?;
    // A restart need not wait for old connections to leave TIME_WAIT.
    socket.set_reuse_address(true).map_err(|source| SocketError::new(requested, source))?;
    bind(&socket, requested)?;
    let bound = socket.local_addr().map_err(|source| SocketError::new(requested, source))?;
    let address = bound.as_socket().unwrap_or(requested);
    Ok((socket, address))
}

fn new_socket(
    address: SocketAddr,
    kind: Type,
    guard: &impl Fn(&Socket) -> Result<(), FilterError>,
) -> Result<Socket, SocketError> {
    let protocol = if kind == Type::STREAM { Protocol::TCP } else { Protocol::UDP };
    let prepared = Socket::new(Domain::for_address(address), kind, Some(protocol)).and_then(|socket| {
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let socket = prepared.map_err(|source| SocketError::new(address, source))?;
    guard(&socket)?;
    Ok(socket)
}

fn bind(socket: &Socket, address: SocketAddr) -> Result<(), SocketError> {
    socket.bind(&SockAddr::from(address)).map_err(|source| SocketError::new(address, source))
}

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum SocketError {
    /// Another program has the address.
    #[error(
        "cannot listen on {address}: another program does already; stop it (`ss -lnptu` shows which it is) or choose another port in `listen.dns`"
    )]
    InUse { address: SocketAddr, source: io::Error },
    /// The port needs a privilege.
    #[error(
        "cannot listen on {address}: a port below 1024 needs a privilege; grant CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE), start as root, or choose a higher port in `listen.dns`"
    )]
    Privilege { address: SocketAddr, source: io::Error },
    /// The machine does not have the address.
    #[error(
        "cannot listen on {address}: this machine does not have the address (`ip address` lists those it has); correct `listen.dns`"
    )]
    NotLocal { address: SocketAddr, source: io::Error },
    /// Anything else the kernel objects to.
    #[error("cannot listen on {address}: correct `listen.dns`, or check the limit on open files (ulimit -n)")]
    Io { address: SocketAddr, source: io::Error },
    /// The packet filter refuses the socket.
    #[error(transparent)]
    Guard(#[from] FilterError),
}

impl SocketError {
    fn new(address: SocketAddr, source: io::Error) -> Self {
        match Errno::from_io_error(&source) {
            Some(Errno::ADDRINUSE) => Self::InUse { address, source },
            Some(Errno::ACCESS | Errno::PERM) => Self::Privilege { address, source },
            Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT) => Self::NotLocal { address, source },
            _ => Self::Io { address, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, net::Ipv4Addr};

    use super::*;

    const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn all_sockets_share_one_port_and_pass_the_guard() {
        let guarded = Cell::new(0);
        let guard = |socket: &Socket| {
            assert_eq!(
                socket.local_addr().unwrap().as_socket().unwrap().port(),
                0,
                "guarded after it was bound"
            );
            guarded.set(guarded.get() + 1);
            Ok(())
        };

        let sockets = Sockets::open(ANY_PORT, 3, guard).unwrap();

        assert_ne!(sockets.address.port(), 0);
        assert_eq!(sockets.tcp.local_addr().unwrap(), sockets.address);
        assert_eq!(sockets.udp.len(), 3);
        for socket in &sockets.udp {
            assert_eq!(socket.local_addr().unwrap(), sockets.address);
        }
        assert!(guarded.get() >= 4);
    }

    #[test]
    fn the_group_shares_the_load() {
        let sockets = Sockets::open(ANY_PORT, 2, |_| Ok(())).unwrap();

        for _ in 0..64 {
            UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", sockets.address).unwrap();
        }

        let counts =
            sockets.udp.iter().map(|socket| (0..64).take_while(|_| socket.recv(&mut [0]).is_ok()).count());
        let counts: Vec<usize> = counts.collect();
        assert_eq!(counts.iter().sum::<usize>(), 64);
        assert!(counts.iter().all(|&count| count > 0), "{counts:?}");
    }

    #[test]
    fn a_port_that_has_a_group_already_is_in_use() {
        let group = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
        group.set_reuse_port(true).unwrap();
        group.bind(&SockAddr::from(ANY_PORT)).unwrap();
        let address = group.local_addr().unwrap().as_socket().unwrap();

        let error = Sockets::open(address, 2, |_| Ok(())).unwrap_err();

        assert!(matches!(&error, SocketError::InUse { address: named, .. } if *named == address), "{error}");
    }

    #[test]
    fn a_tcp_port_in_use_is_named() {
        let other = TcpListener::bind(ANY_PORT).unwrap();
        let address = other.local_addr().unwrap();

        let error = Sockets::open(address, 1, |_| Ok(())).unwrap_err();

        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert!(matches!(error, SocketError::InUse { .. }), "{error}");
    }

    #[test]
    fn an_address_of_another_machine_is_not_local() {
        let error = Sockets::open("192.0.2.1:0".parse().unwrap(), 1, |_| Ok(())).unwrap_err();
        assert!(matches!(error, SocketError::NotLocal { .. }), "{error}");
    }

    #[test]
    fn errors_say_what_to_do() {
        let privilege = SocketError::new("[::]:53".parse().unwrap(), Errno::ACCESS.into());
        assert!(privilege.to_string().contains("[::]:53"));
        assert!(privilege.to_string().contains("CAP_NET_BIND_SERVICE"));

        let no_ipv6 = SocketError::new("[::1]:5300".parse().unwrap(), Errno::AFNOSUPPORT.into());
        assert!(matches!(no_ipv6, SocketError::NotLocal { .. }));
    }
}
