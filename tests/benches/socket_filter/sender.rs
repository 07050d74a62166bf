//! Sends packets over loopback, many with one system call. On loopback the receiving socket's filter runs before that
//! call returns, on the same CPU.

#![allow(unsafe_code, reason = "neither std nor rustix has sendmmsg")]

use std::{
    cell::Cell,
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    ptr,
};

use socket2::{Domain, Socket, Type};

use crate::common::Result;

/// More do not go into one system call.
const BATCH: usize = 1024;

/// Sends payloads in turn, from sources in turn, to one address.
#[derive(Debug)]
pub(crate) struct Sender<'a> {
    socket: UdpSocket,
    sources: &'a [IpAddr],
    payloads: &'a [Vec<u8>],
    /// How many packets were sent.
    sent: Cell<usize>,
}

impl<'a> Sender<'a> {
    /// Any source will do, also one of somebody else.
    pub(crate) fn new(sources: &'a [IpAddr], target: SocketAddr, payloads: &'a [Vec<u8>]) -> Result<Self> {
        let socket = Socket::new(Domain::for_address(target), Type::DGRAM, None)?;
        if let [source] = sources
            && source.is_loopback()
        {
            socket.bind(&SocketAddr::new(*source, 0).into())?;
        } else if target.is_ipv4() {
            socket.set_ip_transparent_v4(true)?;
        } else {
            socket.set_freebind_v6(true)?;
        }
        socket.connect(&target.into())?;
        Ok(Self { socket: socket.into(), sources, payloads, sent: Cell::new(0) })
    }

    /// Sends this many packets, and goes on where the last call ended.
    pub(crate) fn send(&self, packets: usize) -> io::Result<()> {
        let end = self.sent.get() + packets;
        while self.sent.get() < end {
            let sent = self.send_batch(self.sent.get(), BATCH.min(end - self.sent.get()))?;
            self.sent.set(self.sent.get() + sent);
        }
        Ok(())
    }

    /// How many packets were sent.
    pub(crate) const fn sent(&self) -> usize {
        self.sent.get()
    }

    fn send_batch(&self, first: usize, packets: usize) -> io::Result<usize> {
        let Self { sources, payloads, .. } = self;
        let turns = first..first + packets;
        let mut vectors: Vec<_> = turns
            .clone()
            .map(|turn| {
                let payload = &payloads[turn % payloads.len()];
                libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() }
            })
            .collect();
        let is_bound = self.socket.local_addr()?.ip() == sources[0];
        let mut controls: Vec<_> = if is_bound {
            Vec::new()
        } else {
            turns.map(|turn| Control::new(sources[turn % sources.len()])).collect()
        };
        let mut headers: Vec<_> = vectors
            .iter_mut()
            .map(|vector| {
                // SAFETY: numbers and null pointers: no name, no control data, no flags.
                let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
                header.msg_hdr.msg_iov = ptr::from_mut(vector);
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        for (header, control) in headers.iter_mut().zip(&mut controls) {
            header.msg_hdr.msg_controllen = control.header.cmsg_len;
            header.msg_hdr.msg_control = ptr::from_mut(control).cast();
        }
        let count = u32::try_from(packets).map_err(io::Error::other)?;
        // SAFETY: there are `count` headers; each points at one vector and that at one payload, and at control data of the
        // length that is said or none, all of which outlive the call. The kernel writes to the headers only.
        let sent = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), headers.as_mut_ptr(), count, 0) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// Control data that says where a packet comes from: ip(7), ipv6(7).
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    /// An `in_pktinfo` or `in6_pktinfo`.
    info: [u8; 24],
}

impl Control {
    fn new(source: IpAddr) -> Self {
        let mut info = [0; 24];
        let (level, kind, len) = match source {
            IpAddr::V4(source) => {
                info[4..8].copy_from_slice(&source.octets());
                (libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>())
            }
            IpAddr::V6(source) => {
                info[..16].copy_from_slice(&source.octets());
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>())
            }
        };
        // SAFETY: all zeroes make a header, whatever else is in it on some platforms.
        let mut header: libc::cmsghdr = unsafe { mem::zeroed() };
        (header.cmsg_level, header.cmsg_type) = (level, kind);
        header.cmsg_len = mem::offset_of!(Self, info) + len;
        Self { header, info }
    }
}

/// The address that receives what is sent from `source`.
pub(crate) const fn listener(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}
