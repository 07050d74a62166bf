//! System calls that no crate offers in a safe way.

#![allow(unsafe_code, reason = "the module for system calls")]

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::{AsFd, AsRawFd as _},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    process::Pid,
    thread::{UnshareFlags, unshare_unsafe},
};

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

/// Memory that others change.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    address: *mut AtomicU64,
    words: usize,
}

// SAFETY: it is read and written by atomic operations only.
unsafe impl Send for SharedMemory {}
// SAFETY: as above.
unsafe impl Sync for SharedMemory {}

impl SharedMemory {
    /// So many bytes of a file.
    pub(crate) fn map(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: the kernel chooses where the mapping goes, so nothing is mapped over.
        let address = unsafe {
            mmap(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)
        }?;
        Ok(Self { address: address.cast(), words: len / size_of::<u64>() })
    }

    fn words(&self) -> &[AtomicU64] {
        // SAFETY: so many words are mapped for as long as this lives, aligned to a page.
        unsafe { std::slice::from_raw_parts(self.address, self.words) }
    }

    pub(crate) fn read(&self) -> Vec<u8> {
        self.words().iter().flat_map(|word| word.load(Ordering::Acquire).to_ne_bytes()).collect()
    }

    /// Whoever else has this memory must be stopped.
    pub(crate) fn update(&self, before: &mut Vec<u8>) -> bool {
        let len = self.words * size_of::<u64>();
        // SAFETY: so many bytes are mapped, and nobody writes to them meanwhile.
        let now = unsafe { std::slice::from_raw_parts(self.address.cast::<u8>(), len) };
        let changed = now != before.as_slice();
        if changed {
            before.clear();
            before.extend_from_slice(now);
        }
        changed
    }

    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            let at = offset + index;
            let word = &self.words()[at / size_of::<u64>()];
            let mut value = word.load(Ordering::Acquire).to_ne_bytes();
            value[at % size_of::<u64>()] = *byte;
            word.store(u64::from_ne_bytes(value), Ordering::Release);
        }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: the mapping is whole, and nobody refers to it any more.
        let _ = unsafe { munmap(self.address.cast(), self.words * size_of::<u64>()) };
    }
}

/// Goes on in two processes, and returns the child to the parent; the child has this thread alone, and ends with `body`, as a test
/// that passes if that returns.
pub(crate) fn fork(body: impl FnOnce()) -> io::Result<Pid> {
    // SAFETY: the C library and the allocator are prepared for it, and `body` takes no lock that another thread may have held.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: this ends the process.
            unsafe { libc::_exit(i32::from(outcome.is_err())) }
        }
        child => Pid::from_raw(child).ok_or_else(|| io::Error::other("no child")),
    }
}

/// Has the parent trace this process: ptrace(2).
pub(crate) fn trace_me() -> io::Result<()> {
    ptrace(libc::PTRACE_TRACEME, 0)
}

/// Lets a stopped child execute one instruction.
pub(crate) fn step(child: Pid) -> io::Result<()> {
    ptrace(libc::PTRACE_SINGLESTEP, child.as_raw_nonzero().get())
}

fn ptrace(request: libc::c_uint, child: libc::pid_t) -> io::Result<()> {
    let nothing = ptr::null_mut::<libc::c_void>();
    // SAFETY: neither request looks at an address.
    let result = unsafe { libc::ptrace(request, child, nothing, nothing) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
