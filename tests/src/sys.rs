//! System calls that no crate offers in a safe way.

#![allow(unsafe_code, reason = "the module for system calls")]

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsFd, AsRawFd as _},
};

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves this thread, and no other, into a new network namespace.
pub(crate) fn enter_new_network_namespace() -> io::Result<()> {
    // SAFETY: what would be unsound is to unshare the table of file descriptors, which this does not.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}

/// setsockopt(2) with a number.
pub(crate) fn set_option(socket: &impl AsFd, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    const SIZE: libc::socklen_t = 4;
    const _: () = assert!(size_of::<libc::c_int>() == 4);
    // SAFETY: the kernel reads one number, of the size that it is told.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
            SIZE,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Creates the interface `name`, of the kind `IFF_TUN` (without Ethernet headers) or `IFF_TAP` (with). What is written to
/// the file arrives from it, and what is sent there can be read.
pub(crate) fn create_tun(name: &str, kind: libc::c_int) -> io::Result<File> {
    let tun = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all zeroes make a valid request.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(kind | libc::IFF_NO_PI).map_err(io::Error::other)?;
    // SAFETY: the kernel reads and writes one request.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(tun) }
}
