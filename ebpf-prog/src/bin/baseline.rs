//! For benchmarks: a socket filter that lets everything through, which shows what the kernel's own accounting costs; and
//! some that look sources up in the maps that the kernel brings along, in place of ours. Those drop what they find, and
//! count it.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics, link_llvm_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    allow(internal_features, reason = "the only way to an atomic add on this target")
)]

#[cfg(target_arch = "bpf")]
#[allow(clippy::inline_always, reason = "one function for the verifier, as the socket filter")]
#[allow(clippy::cast_possible_truncation, reason = "sizes here are far below 4 GiB")]
mod program {
    use core::{ffi::c_void, mem::MaybeUninit};

    use aya_ebpf::{
        bindings::{__sk_buff, bpf_hdr_start_off::BPF_HDR_START_NET},
        helpers::{bpf_map_lookup_elem, bpf_skb_load_bytes_relative},
        macros::map,
        maps::{HashMap, LpmTrie, lpm_trie::Key},
    };

    /// What the maps hold: an action and a counter, in effect.
    type Value = [u64; 2];

    /// Sizes of the maps are set when the object is loaded.
    #[map]
    static HASH4: HashMap<u32, Value> = HashMap::with_max_entries(1, 0);
    #[map]
    static TRIE4: LpmTrie<u32, Value> = LpmTrie::with_max_entries(1, 0);
    #[map]
    static TRIE6: LpmTrie<[u32; 4], Value> = LpmTrie::with_max_entries(1, 0);

    const PASS: i64 = u32::MAX as i64;
    const DROP: i64 = 0;

    /// As in the socket filter.
    const SKF_NET_OFF: u64 = (-0x10_0000_i64).cast_unsigned();
    const IPV4_SOURCE: u64 = 12;
    const IPV6_SOURCE: u32 = 8;

    unsafe extern "C" {
        #[link_name = "llvm.bpf.load.word"]
        fn load_word(context: *mut c_void, offset: u64) -> u64;
    }

    #[unsafe(no_mangle)]
    #[unsafe(link_section = "socket/baseline")]
    extern "C" fn baseline(_ctx: *mut __sk_buff) -> i64 {
        PASS
    }

    #[unsafe(no_mangle)]
    #[unsafe(link_section = "socket/hash_map4")]
    extern "C" fn hash_map4(ctx: *mut __sk_buff) -> i64 {
        look_up(&HASH4, &ipv4_source(ctx))
    }

    #[unsafe(no_mangle)]
    #[unsafe(link_section = "socket/lpm_trie4")]
    extern "C" fn lpm_trie4(ctx: *mut __sk_buff) -> i64 {
        look_up(&TRIE4, &Key::new(32, ipv4_source(ctx)))
    }

    #[unsafe(no_mangle)]
    #[unsafe(link_section = "socket/lpm_trie6")]
    extern "C" fn lpm_trie6(ctx: *mut __sk_buff) -> i64 {
        let mut key = MaybeUninit::<Key<[u32; 4]>>::uninit();
        // SAFETY: the helper writes the part of `key` that it is given; the other is written before.
        unsafe {
            (&raw mut (*key.as_mut_ptr()).prefix_len).write_unaligned(128);
            let room = &raw mut (*key.as_mut_ptr()).data;
            let len = size_of::<[u32; 4]>() as u32;
            if bpf_skb_load_bytes_relative(ctx.cast(), IPV6_SOURCE, room.cast(), len, BPF_HDR_START_NET) != 0
            {
                return PASS;
            }
            look_up(&TRIE6, key.assume_init_ref())
        }
    }

    /// In network order, as on the wire.
    #[inline(always)]
    fn ipv4_source(ctx: *mut __sk_buff) -> u32 {
        // SAFETY: this is the context of the program.
        (unsafe { load_word(ctx.cast(), SKF_NET_OFF + IPV4_SOURCE) } as u32).to_be()
    }

    #[inline(always)]
    fn look_up<M, K>(map: &'static M, key: &K) -> i64 {
        // SAFETY: a map is at the address that the loader puts in, and this is the type of its keys.
        let value: *mut u64 =
            unsafe { bpf_map_lookup_elem((&raw const *map).cast_mut().cast(), (&raw const *key).cast()) }
                .cast();
        if value.is_null() {
            return PASS;
        }
        // SAFETY: values live as long as the map, and everybody changes them by atomic operations.
        unsafe {
            core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(value, 1)
        };
        DROP
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
