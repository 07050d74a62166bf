//! Socket options that no crate has, see socket(7).

use std::{io, os::fd::AsFd};

use crate::sys;

/// Allows `MSG_ZEROCOPY`, with which the kernel sends pages of the sender as they are: the payload of such a packet is
/// not in the linear part of its buffer.
///
/// # Errors
///
/// If the kernel refuses.
pub fn allow_zerocopy(socket: &impl AsFd) -> io::Result<()> {
    sys::set_option(socket, libc::SO_ZEROCOPY, 1)
}

/// Locks the filter of the socket for good.
///
/// # Errors
///
/// If the kernel refuses.
pub fn lock_filter(socket: &impl AsFd) -> io::Result<()> {
    sys::set_option(socket, libc::SO_LOCK_FILTER, 1)
}

/// Removes the filter of the socket, whosever it is.
///
/// # Errors
///
/// `ENOENT` if there is none.
pub fn detach_filter(socket: &impl AsFd) -> io::Result<()> {
    sys::set_option(socket, libc::SO_DETACH_BPF, 0)
}
