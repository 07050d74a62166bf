//! Numbers that one side writes while the other reads.
//!
//! On the host these are the atomics of `core`. On the kernel's target `core` has none below 64 bits, although any
//! aligned load of up to 64 bits is a single instruction there; the programs store and add 64 at a time.

#[cfg(not(target_arch = "bpf"))]
pub(crate) use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

#[cfg(target_arch = "bpf")]
pub(crate) use in_kernel::{AtomicU8, AtomicU32, AtomicU64};

#[cfg(target_arch = "bpf")]
mod in_kernel {
    use core::{cell::UnsafeCell, sync::atomic::Ordering};

    macro_rules! atomic {
        ($name:ident, $number:ty) => {
            #[derive(Debug, Default)]
            #[repr(transparent)]
            pub(crate) struct $name(UnsafeCell<$number>);

            // SAFETY: loads and stores of one instruction cannot tear.
            unsafe impl Sync for $name {}

            impl $name {
                #[inline(always)]
                pub(crate) fn load(&self, _order: Ordering) -> $number {
                    // SAFETY: a read of a live, aligned number.
                    unsafe { self.0.get().read_volatile() }
                }
            }
        };
    }

    atomic!(AtomicU8, u8);
    atomic!(AtomicU32, u32);
    atomic!(AtomicU64, u64);

    impl AtomicU64 {
        /// In assembly, because the compiler adds and fetches only for a processor that it takes for a later one; every kernel
        /// that has `bpf_loop` knows the instruction.
        #[inline(always)]
        pub(crate) fn fetch_add(&self, mut value: u64, _order: Ordering) -> u64 {
            // SAFETY: this is an aligned number, which everybody changes by atomic operations only.
            unsafe {
                core::arch::asm!(
                    "{value} = atomic_fetch_add((u64 *)({number} + 0), {value})",
                    value = inout(reg) value,
                    number = in(reg) self.0.get(),
                    options(nostack),
                );
            }
            value
        }

        #[inline(always)]
        pub(crate) fn store(&self, value: u64, _order: Ordering) {
            // SAFETY: a write to a live, aligned number.
            unsafe { self.0.get().write_volatile(value) }
        }
    }
}
