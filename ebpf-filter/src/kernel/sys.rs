//! The only system calls of ours: commands of bpf(2) on the entries of maps. One of the batch commands, which aya does
//! not have, moves thousands of entries; on hash maps since Linux 5.6 (kernel commit [05799638]).
//!
//! [05799638]: https://git.kernel.org/torvalds/c/05799638f0f7cb99d3cfbf4ac5f9e1a1f32f5fc2

#![allow(unsafe_code, reason = "the module for system calls")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use zerocopy::{FromBytes, Immutable, IntoBytes};

const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;
const BPF_MAP_DELETE_BATCH: libc::c_int = 27;

const BPF_NOEXIST: u64 = 1;

/// The unnamed member of `union bpf_attr` for single entries.
#[repr(C)]
struct Element {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The member `batch` of `union bpf_attr`.
#[repr(C)]
struct Batch {
    from: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

impl Batch {
    fn new(map: BorrowedFd<'_>, count: usize) -> Self {
        Self {
            from: 0,
            next: 0,
            keys: 0,
            values: 0,
            count: u32::try_from(count).unwrap_or(u32::MAX),
            map_fd: map.as_raw_fd().cast_unsigned(),
            elem_flags: 0,
            flags: 0,
        }
    }
}

/// # Safety
///
/// `attributes` must be a prefix of `union bpf_attr`, and every address in it valid for what the command does there.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<()> {
    // SAFETY: the kernel is told the length of what it may read and write, and the caller vouches for the rest.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn address_of<T>(slice: &[T]) -> u64 {
    slice.as_ptr().expose_provenance() as u64
}

fn address_of_mut<T>(slice: &mut [T]) -> u64 {
    slice.as_mut_ptr().expose_provenance() as u64
}

/// Adds an entry that must not exist.
///
/// # Safety
///
/// The keys and values of `map` must have the size of `K` and `V`.
pub(super) unsafe fn add<K: IntoBytes + Immutable, V: IntoBytes + Immutable>(
    map: BorrowedFd<'_>,
    key: &K,
    value: &V,
) -> io::Result<()> {
    let mut element = Element {
        map_fd: map.as_raw_fd().cast_unsigned(),
        padding: 0,
        key: address_of(std::slice::from_ref(key)),
        value: address_of(std::slice::from_ref(value)),
        flags: BPF_NOEXIST,
    };
    // SAFETY: the kernel reads one key and one value, of the sizes that the caller vouches for.
    unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut element) }
}

/// Writes entries, whether they exist or not, until one fails: then says how many were written.
///
/// # Safety
///
/// The keys and values of `map` must have the size of `K` and `V`.
pub(super) unsafe fn write<K: IntoBytes + Immutable, V: IntoBytes + Immutable>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> Result<(), (usize, io::Error)> {
    let mut batch = Batch::new(map, keys.len().min(values.len()));
    batch.keys = address_of(keys);
    batch.values = address_of(values);
    // SAFETY: both slices hold `count` entries of the sizes that the caller vouches for; the kernel only reads them.
    unsafe { bpf(BPF_MAP_UPDATE_BATCH, &mut batch) }.map_err(|error| (batch.count as usize, error))
}

/// Deletes entries until one fails: then says how many were deleted.
///
/// # Safety
///
/// The keys of `map` must have the size of `K`.
pub(super) unsafe fn delete<K: IntoBytes + Immutable>(
    map: BorrowedFd<'_>,
    keys: &[K],
) -> Result<(), (usize, io::Error)> {
    let mut batch = Batch::new(map, keys.len());
    batch.keys = address_of(keys);
    // SAFETY: the slice holds `count` keys of the size that the caller vouches for; the kernel only reads it.
    unsafe { bpf(BPF_MAP_DELETE_BATCH, &mut batch) }.map_err(|error| (batch.count as usize, error))
}

/// Reads the next entries of a hash map into `keys` and `values`, and says how many. `cursor` is where the last call
/// ended; after the last entries it is `None`.
///
/// # Safety
///
/// The keys and values of `map` must have the size of `K` and `V`.
pub(super) unsafe fn lookup<K: FromBytes, V: FromBytes>(
    map: BorrowedFd<'_>,
    cursor: &mut Option<u32>,
    keys: &mut [K],
    values: &mut [V],
) -> io::Result<usize> {
    let from = cursor.as_ref().map(std::slice::from_ref).map(address_of);
    let mut next = [0_u32];
    let mut batch = Batch::new(map, keys.len().min(values.len()));
    batch.from = from.unwrap_or(0);
    batch.next = address_of_mut(&mut next);
    batch.keys = address_of_mut(keys);
    batch.values = address_of_mut(values);
    // SAFETY: both slices have room for `count` entries of the sizes that the caller vouches for, any bytes of which are
    // valid; the cursors of a hash map are a u32 each.
    match unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut batch) } {
        Ok(()) => *cursor = Some(next[0]),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => *cursor = None,
        Err(error) => return Err(error),
    }
    Ok(batch.count as usize)
}

/// How much of `net.core.optmem_max` a socket uses: `SO_MEMINFO`, since Linux 4.12.
pub(super) fn option_memory(socket: BorrowedFd<'_>) -> Option<u64> {
    /// `SK_MEMINFO_OPTMEM` and `SK_MEMINFO_VARS` in `linux/sock_diag.h`.
    const OPTMEM: usize = 6;
    const VARS: usize = 9;
    let mut info = [0_u32; VARS];
    let mut len = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    // SAFETY: the kernel writes no more than `len` bytes, any of which make numbers.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    (result == 0).then(|| info[OPTMEM].into())
}
