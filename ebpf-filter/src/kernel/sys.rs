//! The only system calls of ours.

#![allow(unsafe_code, reason = "the module for system calls")]

use std::{
    io,
    ops::Deref,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    ptr::{self, NonNull},
    slice,
};

use aya::maps::{HashMap, IterableMap as _, MapData};
use aya_obj::generated::{
    bpf_attr, bpf_attr__bindgen_ty_2, bpf_attr__bindgen_ty_2__bindgen_ty_1, bpf_attr__bindgen_ty_3, bpf_cmd,
};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use zerocopy::{FromBytes, FromZeros};

/// Elements in pages of this process: those of an array map of the kernel, or of nobody else.
#[derive(Debug)]
pub(crate) struct Mapping<T> {
    elements: NonNull<T>,
    len: usize,
}

// SAFETY: this is a slice of elements that are shared by reference only.
unsafe impl<T: Sync> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Mapping<T> {}

impl<T: FromBytes> Mapping<T> {
    /// Maps all elements of an array map, which must have this many of this size. The mapping keeps the map alive.
    ///
    /// This is `BPF_F_MMAPABLE`, since Linux 5.5 (kernel commit [fc970227]).
    ///
    /// [fc970227]: https://git.kernel.org/torvalds/c/fc9702273e2edb90400a34b3be76f7b08fa3344b
    pub(super) fn new(map: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        // Whoever changes an element while others read it must do so by atomic operations.
        const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() <= 8) };
        let bytes = len.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the kernel chooses where the mapping goes, so nothing is mapped over.
        let address = unsafe {
            mmap(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, map.as_fd(), 0)
        }?;
        let elements = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { elements, len })
    }
}

impl<T: FromZeros> Mapping<T> {
    /// So many elements that are zero, in huge pages if there are any: see madvise(2). They take memory as they are used.
    pub(crate) fn zeroed(len: usize) -> io::Result<Self> {
        const { assert!(size_of::<T>() > 0 && align_of::<T>() <= 4096) };
        let bytes = len.checked_mul(size_of::<T>()).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: the kernel chooses where the mapping goes, so nothing is mapped over.
        let address = unsafe {
            mmap_anonymous(ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }?;
        // SAFETY: this changes nothing but the size of the pages. Kernels without huge pages refuse.
        let _ = unsafe { madvise(address, bytes, Advice::LinuxHugepage) };
        let elements = NonNull::new(address.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { elements, len })
    }
}

impl<T> Deref for Mapping<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: so many elements are mapped for as long as this lives, and what the mapping begins with makes a `T`. Pages are
        // aligned for it. What the kernel changes meanwhile is behind atomics.
        unsafe { slice::from_raw_parts(self.elements.as_ptr(), self.len) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping is whole, and nobody refers to it any more.
        let unmapped = unsafe { munmap(self.elements.as_ptr().cast(), self.len * size_of::<T>()) };
        debug_assert!(unmapped.is_ok(), "the mapping was made by mmap");
    }
}

/// Begins to bring a line into the cache, without waiting for it.
#[inline]
pub(crate) fn prefetch<T>(line: &T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every such processor has the instruction, which changes nothing but the cache.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(ptr::from_ref(line).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
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

/// The key that follows `key` in a map, or the first one; `None` behind the last. If there is no such key in the map, its first
/// one follows: `BPF_MAP_GET_NEXT_KEY` in bpf(2).
pub(super) fn next_key<const K: usize, const V: usize>(
    map: &HashMap<MapData, [u8; K], [u8; V]>,
    key: Option<&[u8; K]>,
) -> io::Result<Option<[u8; K]>> {
    let mut next = [0; K];
    let mut attr = no_attr();
    attr.__bindgen_anon_2 = bpf_attr__bindgen_ty_2 {
        map_fd: number_of(map),
        key: key.map_or(0, |key| key.as_ptr() as u64),
        __bindgen_anon_1: bpf_attr__bindgen_ty_2__bindgen_ty_1 { next_key: next.as_mut_ptr() as u64 },
        flags: 0,
    };
    // SAFETY: the keys of the map have this size, or aya would not have made that type of it. The kernel reads and writes one
    // key each.
    match unsafe { bpf(bpf_cmd::BPF_MAP_GET_NEXT_KEY, &mut attr) } {
        Ok(()) => Ok(Some(next)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A key and its value.
pub(super) type Entry<const K: usize, const V: usize> = ([u8; K], [u8; V]);

/// Entries of a map, and whether there may be more. `position` says where to go on, and nothing at the start.
///
/// This is `BPF_MAP_LOOKUP_BATCH`, since Linux 5.6 (kernel commit [cb4d03ab]), for tries since 5.13 (kernel commit [f56387c5]).
///
/// [cb4d03ab]: https://git.kernel.org/torvalds/c/cb4d03ab499d4c040f4ab6fd4389d2b49f42b5a5
/// [f56387c5]: https://git.kernel.org/torvalds/c/f56387c534cc54d2578b962692e574e3edd8c3f6
pub(super) fn lookup_batch<const K: usize, const V: usize>(
    map: &HashMap<MapData, [u8; K], [u8; V]>,
    position: &mut Option<[u8; K]>,
    entries: u32,
) -> io::Result<(Vec<Entry<K, V>>, bool)> {
    // Where a hash map goes on is a number, and a key in other maps.
    const { assert!(K >= size_of::<u32>()) };
    let mut keys = vec![[0; K]; entries as usize];
    let mut values = vec![[0; V]; entries as usize];
    let mut next = [0; K];
    let mut attr = no_attr();
    attr.batch = bpf_attr__bindgen_ty_3 {
        in_batch: position.as_ref().map_or(0, |position| position.as_ptr() as u64),
        out_batch: next.as_mut_ptr() as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count: entries,
        map_fd: number_of(map),
        elem_flags: 0,
        flags: 0,
    };
    // SAFETY: keys and values of the map have these sizes, or aya would not have made that type of it, and there is room for as
    // many of them as the kernel may write, and for one position each.
    let outcome = unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr) };
    let more = match outcome {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    // SAFETY: any bytes make a number.
    let found = unsafe { attr.batch.count } as usize;
    *position = Some(next);
    Ok((keys.into_iter().zip(values).take(found).collect(), more))
}

fn no_attr() -> bpf_attr {
    // SAFETY: all zeroes make a valid argument.
    unsafe { std::mem::zeroed() }
}

fn number_of<const K: usize, const V: usize>(map: &HashMap<MapData, [u8; K], [u8; V]>) -> u32 {
    map.map().fd().as_fd().as_raw_fd().cast_unsigned()
}

/// # Safety
///
/// What the command makes of `attr` must be sound.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<()> {
    // SAFETY: the kernel is told how large the argument is; the rest is up to the caller.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, ptr::from_mut(attr), size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
