//! A socket filter that lets everything through: what the kernel's own accounting costs, for benchmarks.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
#[allow(clippy::needless_pass_by_value, reason = "the signature of an entry point")]
mod program {
    use aya_ebpf::{macros::socket_filter, programs::SkBuffContext};

    #[socket_filter]
    fn baseline(_ctx: SkBuffContext) -> i64 {
        i64::from(u32::MAX)
    }

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this is a kernel program: build it for bpfel-unknown-none (see ebpf-prog/objects/README.md)");
}
