//! Attaching the programs to sockets.

use std::{
    fs, io,
    os::fd::{AsFd, BorrowedFd},
};

use aya::programs::{ProgramError, SocketFilter, socket_filter::SocketFilterError};
use ebpf_prog::layout::programs;
use socket2::{Domain, Protocol, SockRef, Type};

use super::{load::Kernel, sys};
use crate::AttachError;

/// `struct bpf_prog` in the kernel, which is charged together with the instructions; its exact size depends on the
/// kernel's configuration.
const PROGRAM_HEADER: u64 = 128;

/// What the socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Datagrams that start with a DNS header.
    Dns,
    /// Anything else.
    Opaque,
}

impl Payload {
    /// What a socket of this kind receives if it serves DNS.
    ///
    /// # Errors
    ///
    /// If it is neither a UDP nor a TCP socket over IP.
    pub(crate) fn of(socket: BorrowedFd<'_>) -> Result<Self, AttachError> {
        let socket = SockRef::from(&socket);
        let domain = socket.domain().map_err(AttachError::NotASocket)?;
        let kind = socket.r#type().map_err(AttachError::NotASocket)?;
        if domain != Domain::IPV4 && domain != Domain::IPV6 {
            return Err(AttachError::Unsupported(format!("domain {domain:?}")));
        }
        let protocol = socket.protocol().map_err(AttachError::NotASocket)?;
        match (kind, protocol) {
            (Type::DGRAM, Some(Protocol::UDP)) => Ok(Self::Dns),
            (Type::STREAM, Some(Protocol::TCP | Protocol::MPTCP)) => Ok(Self::Opaque),
            _ => Err(AttachError::Unsupported(format!("type {kind:?}, protocol {protocol:?}"))),
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Dns => programs::FULL,
            Self::Opaque => programs::ADDRESS_ONLY,
        }
    }
}

impl Kernel {
    /// Replaces whatever filter the socket has, with no moment in between (`SO_ATTACH_BPF`, see socket(7)).
    pub(crate) fn attach(&self, socket: BorrowedFd<'_>, payload: Payload) -> Result<(), AttachError> {
        let program = self
            .program(payload.program())
            .ok_or_else(|| AttachError::Other(io::Error::other("the program is not loaded")))?;
        program.attach(socket).map_err(|error| {
            let error = os_error(error);
            match error.raw_os_error() {
                Some(libc::ENOMEM) => AttachError::OptmemMax {
                    limit: optmem_max(),
                    // The filter that the socket has is charged until the new one is in its place.
                    needed: sys::option_memory(socket).unwrap_or(0) + size_of_program(program),
                    source: error,
                },
                Some(libc::EPERM) => AttachError::Locked(error),
                _ => AttachError::Other(error),
            }
        })
    }

    /// Removes whatever filter the socket has.
    pub(crate) fn detach(socket: impl AsFd) -> Result<(), AttachError> {
        SocketFilter::detach(socket).map_err(|error| {
            let error = os_error(error);
            match error.raw_os_error() {
                Some(libc::ENOENT) => AttachError::NotAttached,
                Some(libc::EPERM) => AttachError::Locked(error),
                _ => AttachError::Other(error),
            }
        })
    }
}

fn os_error(error: ProgramError) -> io::Error {
    if let ProgramError::SocketFilterError(SocketFilterError::SetsockoptError { io_error, .. }) = error {
        io_error
    } else {
        io::Error::other(error)
    }
}

fn size_of_program(program: &SocketFilter) -> u64 {
    let instructions = program.info().ok().and_then(|info| info.size_translated());
    PROGRAM_HEADER + instructions.map_or(0, u64::from)
}

fn optmem_max() -> Option<u64> {
    fs::read_to_string("/proc/sys/net/core/optmem_max").ok()?.trim().parse().ok()
}
