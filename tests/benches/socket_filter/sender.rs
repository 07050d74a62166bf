//! Sends packets over loopback, many with one system call. On loopback the receiving socket's filter runs before that
//! call returns, on the same CPU.

#![allow(unsafe_code, reason = "neither std nor rustix has sendmmsg")]

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    ptr,
};

/// Sends payloads in turn, from one address to another.
#[derive(Debug)]
pub(crate) struct Sender<'a> {
    socket: UdpSocket,
    payloads: &'a [Vec<u8>],
}

impl<'a> Sender<'a> {
    pub(crate) fn new(source: IpAddr, target: SocketAddr, payloads: &'a [Vec<u8>]) -> io::Result<Self> {
        let socket = UdpSocket::bind((source, 0))?;
        socket.connect(target)?;
        Ok(Self { socket, payloads })
    }

    /// Sends this many packets.
    pub(crate) fn send(&self, packets: usize) -> io::Result<()> {
        let mut vectors: Vec<_> = self
            .payloads
            .iter()
            .map(|payload| libc::iovec {
                iov_base: payload.as_ptr().cast_mut().cast(),
                iov_len: payload.len(),
            })
            .collect();
        let mut headers: Vec<_> = vectors
            .iter_mut()
            .map(|vector| {
                // SAFETY: numbers and null pointers: no name, no control data, no flags.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_iov = ptr::from_mut(vector);
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        let mut left = packets;
        while left > 0 {
            let count = u32::try_from(left.min(headers.len())).map_err(io::Error::other)?;
            // SAFETY: there are at least `count` headers; each points at one vector and that at one payload, all of which
            // outlive the call. The kernel writes to the headers only.
            let sent = unsafe { libc::sendmmsg(self.socket.as_raw_fd(), headers.as_mut_ptr(), count, 0) };
            left -= usize::try_from(sent).map_err(|_| io::Error::last_os_error())?;
        }
        Ok(())
    }
}
