//! The socket filter. Two entry points share the maps: one for sockets that receive plain DNS over UDP, and one that
//! looks at source addresses only, for TCP and for everything whose payload does not start with a DNS header.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(link_llvm_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "the only way to a load of the classic kind")
)]

#[cfg(target_arch = "bpf")]
#[path = "socket_filter/loops.rs"]
mod loops;

#[cfg(target_arch = "bpf")]
#[allow(
    clippy::inline_always,
    reason = "one function for the verifier: calls cost packets time and hide bounds"
)]
#[allow(clippy::cast_possible_truncation, reason = "sizes here are far below 4 GiB")]
mod program {
    use core::{
        ffi::c_void,
        hint::black_box,
        ptr::{self, NonNull},
    };

    use aya_ebpf::{
        EbpfContext as _, Global,
        bindings::{__sk_buff, BPF_F_MMAPABLE, bpf_hdr_start_off::BPF_HDR_START_NET},
        helpers::{bpf_ktime_get_ns, bpf_map_lookup_elem, bpf_skb_load_bytes, bpf_skb_load_bytes_relative},
        macros::map,
        maps::{Array, PerCpuArray},
        programs::SkBuffContext,
    };
    use ebpf_prog::{
        Malformed,
        decision::{Came, Decided, Family, Packet, Rules, Sourced, Subject, Verdict, decide, decide_source},
        layout::{Control, Kinds, Policy},
        lengths::Lengths,
        message::{HEADER_LEN, MAX_READ, Message},
        names::{Block, NameNode},
        rule::{Action, Ipv4Node, Ipv6Node, Seed},
        shape::{Shape, SieveWord},
        sightings::{Sighted, Sighting},
        table::Slots,
        turns::{Search, Turns},
    };

    /// Sizes of the maps are set when the object is loaded, and so are the constants that go with them.
    #[map]
    static IPV4: Array<Ipv4Node> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    static IPV6: Array<Ipv6Node> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    static RANGES4: Array<Ipv4Node> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    static RANGES6: Array<Ipv6Node> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    static NAMES: Array<NameNode> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    static BLOCKS: Array<Block> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    static SIEVE: Array<SieveWord> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);
    #[map]
    static SIGHTINGS: Array<Sighting> = Array::with_max_entries(Sighting::PLACES, BPF_F_MMAPABLE);
    #[map]
    static MALFORMED: PerCpuArray<u64> = PerCpuArray::with_max_entries(Malformed::ALL.len() as u32, 0);
    #[map]
    static SOURCE: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(1, 0);
    #[map]
    static SCRATCH: PerCpuArray<Message> = PerCpuArray::with_max_entries(1, 0);

    #[unsafe(no_mangle)]
    static IPV4_SHIFT: Global<u32> = Global::new(32);
    #[unsafe(no_mangle)]
    static IPV6_SHIFT: Global<u32> = Global::new(32);
    #[unsafe(no_mangle)]
    static RANGES4_SHIFT: Global<u32> = Global::new(32);
    #[unsafe(no_mangle)]
    static RANGES6_SHIFT: Global<u32> = Global::new(32);
    #[unsafe(no_mangle)]
    static NAMES_SHIFT: Global<u32> = Global::new(32);
    #[unsafe(no_mangle)]
    static SIEVE_SHIFT: Global<u32> = Global::new(32);
    #[unsafe(no_mangle)]
    static SEED_ONE: Global<u64> = Global::new(1);
    #[unsafe(no_mangle)]
    static SEED_OTHER: Global<u64> = Global::new(1);

    /// At a UDP socket the data starts at the UDP header. `BPF_PROG_TEST_RUN` shows a program the IP header as well.
    #[unsafe(no_mangle)]
    static PAYLOAD_OFFSET: Global<u32> = Global::new(8);

    /// A variable of the program is the memory of a map of its own: user space writes it, at any time.
    #[unsafe(no_mangle)]
    static mut POLICY: Policy = Policy::new(Kinds::NONE, false);

    const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
    const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;
    const LONGEST_QUESTION: u32 = (MAX_READ - HEADER_LEN) as u32;
    /// Offsets from here on count from the network header: `linux/filter.h`.
    const SKF_NET_OFF: u64 = (-0x10_0000_i64).cast_unsigned();
    const IPV4_SOURCE: u32 = 12;
    const IPV6_SOURCE: u32 = 8;

    unsafe extern "C" {
        /// The instruction `BPF_LD | BPF_ABS | BPF_W`: the number in network order at this offset into the packet.
        #[link_name = "llvm.bpf.load.word"]
        fn load_word(context: *mut c_void, offset: u64) -> u64;
    }

    // Each in a section of its own, or the verifier does not find their types.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "socket/dns_full")]
    extern "C" fn dns_full(ctx: *mut __sk_buff) -> i64 {
        accepted_length(decide(&mut Skb(&SkBuffContext::new(ctx)), &KernelRules::in_force()))
    }

    #[unsafe(no_mangle)]
    #[unsafe(link_section = "socket/dns_address")]
    extern "C" fn dns_address(ctx: *mut __sk_buff) -> i64 {
        let decided = decide_source(&Skb(&SkBuffContext::new(ctx)), &KernelRules::in_force());
        accepted_length(decided.unwrap_or(Decided::PASS).verdict(Came::Otherwise))
    }

    /// What a socket filter returns: how much of the packet the socket gets. It cannot answer, so what is to be answered
    /// gets to user space.
    #[inline(always)]
    fn accepted_length(verdict: Verdict) -> i64 {
        match verdict {
            Verdict::Drop => 0,
            Verdict::Pass | Verdict::Truncate | Verdict::Refused | Verdict::NxDomain => i64::from(u32::MAX),
        }
    }

    struct Skb<'a>(&'a SkBuffContext);

    impl Sourced for Skb<'_> {
        #[inline(always)]
        fn is(&self, family: Family) -> bool {
            self.0.skb.protocol()
                == match family {
                    Family::Ipv4 => ETH_P_IP,
                    Family::Ipv6 => ETH_P_IPV6,
                }
        }

        #[inline(always)]
        fn ipv4_source(&self) -> Option<u64> {
            // Cheaper than the helper. It ends the program if there is no such word, but the network header of an IPv4
            // packet is whole and in linear memory before the packet gets to a socket.
            // SAFETY: `self` holds the context of the program.
            Some(unsafe { load_word(self.0.as_ptr(), SKF_NET_OFF + u64::from(IPV4_SOURCE)) })
        }

        #[inline(always)]
        fn ipv6_source(&self) -> Option<[u64; 2]> {
            // Not on the stack, where pointers were before.
            let mut room = element::<_, [u64; 2]>(&SOURCE, 0)?;
            // The helper reads linear memory only, which the network header always is in.
            // SAFETY: `room` is valid for writes of the length that is passed with it.
            let result = unsafe {
                bpf_skb_load_bytes_relative(
                    self.0.as_ptr(),
                    IPV6_SOURCE,
                    room.as_ptr().cast(),
                    size_of::<[u64; 2]>() as u32,
                    BPF_HDR_START_NET,
                )
            };
            // SAFETY: the map has one entry for this CPU, and nothing else uses it while the program runs.
            (result == 0).then(|| unsafe { *room.as_mut() }.map(u64::from_be))
        }
    }

    impl Packet for Skb<'_> {
        #[inline(always)]
        fn message(&mut self) -> Result<(&mut Message, usize), Malformed> {
            let offset = PAYLOAD_OFFSET.load();
            let mut scratch = element::<_, Message>(&SCRATCH, 0).ok_or(Malformed::TooShort)?;
            // SAFETY: the map has one entry for this CPU, and nothing else uses it while the program runs.
            let message = unsafe { scratch.as_mut() };
            let len = self.0.len().checked_sub(offset + HEADER_LEN as u32).ok_or(Malformed::TooShort)?;
            // The verifier wants to see the upper bound on the very register that goes into the call, so the compiler
            // must not know that it holds already. The lower one is in the addition.
            let question = black_box(u64::from(len.min(LONGEST_QUESTION)));
            if question > u64::from(LONGEST_QUESTION) {
                return Err(Malformed::TooShort);
            }
            let available = question as u32 + HEADER_LEN as u32;
            // Counted from the start of the data, because only this helper reads what is not in linear memory.
            // SAFETY: `payload_mut` is valid for writes of MAX_READ bytes, and `available` is no more than that.
            let result = unsafe {
                bpf_skb_load_bytes(
                    self.0.as_ptr(),
                    offset,
                    message.payload_mut().as_mut_ptr().cast(),
                    available,
                )
            };
            if result == 0 { Ok((message, available as usize)) } else { Err(Malformed::TooShort) }
        }
    }

    struct KernelRules {
        policy: Policy,
    }

    impl KernelRules {
        #[inline(always)]
        fn in_force() -> Self {
            // SAFETY: a read of a live, aligned static.
            Self { policy: unsafe { (&raw const POLICY).read_volatile() } }
        }
    }

    impl Rules<'static> for KernelRules {
        #[inline(always)]
        fn policy(&self) -> Policy {
            self.policy
        }

        #[inline(always)]
        fn seed(&self) -> Seed {
            Seed::new(SEED_ONE.load(), SEED_OTHER.load())
        }

        #[inline(always)]
        fn now(&self) -> u64 {
            // SAFETY: the helper takes nothing and has no effects.
            unsafe { bpf_ktime_get_ns() }
        }

        #[inline(always)]
        fn ipv4(&self) -> impl Slots<'static, Ipv4Node> {
            InMap(&IPV4, &IPV4_SHIFT)
        }

        #[inline(always)]
        fn ipv6(&self) -> impl Slots<'static, Ipv6Node> {
            InMap(&IPV6, &IPV6_SHIFT)
        }

        #[inline(always)]
        fn ranges4(&self) -> impl Slots<'static, Ipv4Node> {
            InMap(&RANGES4, &RANGES4_SHIFT)
        }

        #[inline(always)]
        fn ranges6(&self) -> impl Slots<'static, Ipv6Node> {
            InMap(&RANGES6, &RANGES6_SHIFT)
        }

        #[inline(always)]
        fn lengths(&self) -> Option<[&'static Lengths; 2]> {
            control().map(|control| control.lengths.each_ref())
        }

        #[inline(always)]
        fn names(&self) -> impl Slots<'static, NameNode> {
            InMap(&NAMES, &NAMES_SHIFT)
        }

        #[inline(always)]
        fn blocks(&self) -> impl Slots<'static, Block> {
            InMap(&BLOCKS, &NAMES_SHIFT)
        }

        #[inline(always)]
        fn may_know(&self, shape: Shape) -> bool {
            let place = shape.place(SIEVE_SHIFT.load());
            // SAFETY: as elements of tables.
            element(&SIEVE, place.word)
                .is_some_and(|word: NonNull<SieveWord>| unsafe { word.as_ref() }.contains(place.bits))
        }

        #[inline(always)]
        fn counts(&self, _subject: Subject, _action: Action) -> bool {
            true
        }

        #[inline(always)]
        fn malformed(&self, reason: Malformed) {
            if let Some(mut count) = element::<_, u64>(&MALFORMED, reason as u32) {
                // SAFETY: the counter belongs to this CPU, and the program is not interrupted by another.
                unsafe { *count.as_mut() += 1 }
            }
        }

        #[inline(always)]
        fn sighted(&self) -> Option<&'static Sighted> {
            control().map(|control| &control.sighted)
        }

        #[inline(always)]
        fn sighting(&self, place: u32) -> Option<&'static Sighting> {
            // SAFETY: as elements of tables.
            element(&SIGHTINGS, place).map(|sighting: NonNull<Sighting>| unsafe { sighting.as_ref() })
        }
    }

    impl Turns for KernelRules {
        #[inline(always)]
        fn search(times: usize, body: impl FnMut(usize) -> Search) -> Option<Decided> {
            crate::loops::search(times, body)
        }
    }

    #[inline(always)]
    fn control() -> Option<&'static Control> {
        // SAFETY: as elements of tables.
        element(&CONTROL, 0).map(|control: NonNull<Control>| unsafe { control.as_ref() })
    }

    /// The element of an array with this index. Its number is passed in a whole word, which the verifier lets a program
    /// keep on its stack where a pointer was before.
    #[inline(always)]
    fn element<M, T>(array: &'static M, index: u32) -> Option<NonNull<T>> {
        let index = u64::from(index);
        // SAFETY: a map is at the address that the loader puts in, and its keys are the lower half of `index`.
        let element =
            unsafe { bpf_map_lookup_elem(ptr::from_ref(array).cast_mut().cast(), (&raw const index).cast()) };
        NonNull::new(element.cast())
    }

    /// A table in a map.
    struct InMap<T: 'static>(&'static Array<T>, &'static Global<u32>);

    impl<T> Clone for InMap<T> {
        #[inline(always)]
        fn clone(&self) -> Self {
            *self
        }
    }

    impl<T> Copy for InMap<T> {}

    impl<T> Slots<'static, T> for InMap<T> {
        #[inline(always)]
        fn slot(self, index: u32) -> Option<&'static T> {
            // SAFETY: elements live as long as the map, and are shared by their type.
            element(self.0, index).map(|node| unsafe { node.as_ref() })
        }

        #[inline(always)]
        fn shift(self) -> u32 {
            self.1.load()
        }
    }

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        // SAFETY: the verifier refuses a program that can get here.
        unsafe { core::hint::unreachable_unchecked() }
    }

    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("this is a kernel program: build it for bpfel-unknown-none (see ebpf-prog/objects/README.md)");
}
