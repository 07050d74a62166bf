//! The only system calls of ours.

#![allow(unsafe_code, reason = "the module for system calls")]

use std::{
    io,
    ops::Deref,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    ptr::{self, NonNull},
    slice,
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
