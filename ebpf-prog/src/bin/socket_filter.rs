//! The socket filter. Two entry points share the maps: one for sockets that receive plain DNS over UDP, and one that
//! looks at source addresses only, for TCP and for everything whose payload does not start with a DNS header.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics, link_llvm_intrinsics))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "the only way to an atomic add on this target")
)]

#[cfg(target_arch = "bpf")]
#[allow(
    clippy::inline_always,
    reason = "one function for the verifier: calls cost packets time and hide bounds"
)]
#[allow(clippy::cast_possible_truncation, reason = "sizes here are far below 4 GiB")]
#[allow(clippy::needless_pass_by_value, reason = "the signature of an entry point")]
mod program {
    use core::{hint::black_box, mem::MaybeUninit, net::Ipv4Addr};

    use aya_ebpf::{
        EbpfContext as _, Global,
        bindings::{BPF_F_NO_PREALLOC, bpf_hdr_start_off::BPF_HDR_START_NET},
        helpers::{bpf_skb_load_bytes, bpf_skb_load_bytes_relative},
        macros::{map, socket_filter},
        maps::{HashMap, PerCpuArray},
        programs::SkBuffContext,
    };
    use ebpf_prog::{
        Malformed,
        decision::{Family, Matched, Packet, Rules, Sourced, Verdict, decide, decide_source},
        hash::NameHasher,
        layout::{Action, AddressRule, Config, Ipv4Key, Ipv6Key, Kinds, Policy, QnameKey, QnameRule},
        message::{HEADER_LEN, MAX_READ, Message, Question},
        shape::{Shape, Shapes},
    };
    use zerocopy::FromBytes;

    /// Sizes of the rule maps are set when the object is loaded.
    #[map]
    static IPV4: HashMap<Ipv4Key, AddressRule> = HashMap::with_max_entries(1, 0);
    #[map]
    static IPV6: HashMap<Ipv6Key, AddressRule> = HashMap::with_max_entries(1, 0);
    // An entry takes half a kilobyte: memory is taken as rules come, not for all that might.
    #[map]
    static QNAMES: HashMap<QnameKey, QnameRule> = HashMap::with_max_entries(1, BPF_F_NO_PREALLOC);
    #[map]
    static MALFORMED: PerCpuArray<u64> = PerCpuArray::with_max_entries(Malformed::ALL.len() as u32, 0);
    #[map]
    static SCRATCH: PerCpuArray<Message> = PerCpuArray::with_max_entries(1, 0);

    /// At a UDP socket the data starts at the UDP header. `BPF_PROG_TEST_RUN` shows a program the IP header as well.
    #[unsafe(no_mangle)]
    static PAYLOAD_OFFSET: Global<u32> = Global::new(8);

    /// A variable of the program is the memory of a map of its own: user space writes it, at any time.
    #[unsafe(no_mangle)]
    static mut CONFIG: Config = Config {
        policy: Policy { kinds: Kinds::NONE, drop_malformed: 0 },
        seed: [0; 2],
        shapes: Shapes::NONE,
    };

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
        fn load_word(context: *mut core::ffi::c_void, offset: u64) -> u64;
    }

    #[socket_filter]
    fn dns_full(ctx: SkBuffContext) -> i64 {
        accepted_length(decide(&mut Skb(&ctx), &KernelRules::in_force()))
    }

    #[socket_filter]
    fn dns_address(ctx: SkBuffContext) -> i64 {
        accepted_length(decide_source(&Skb(&ctx), &KernelRules::in_force()).unwrap_or(Verdict::Pass))
    }

    /// What a socket filter returns: how much of the packet the socket gets.
    #[inline(always)]
    fn accepted_length(verdict: Verdict) -> i64 {
        match verdict {
            Verdict::Drop => 0,
            Verdict::Pass => i64::from(u32::MAX),
        }
    }

    struct Skb<'a>(&'a SkBuffContext);

    impl Skb<'_> {
        /// Bytes of the network header. The helper reads linear memory only, which the network header always is in.
        #[inline(always)]
        fn network<'a, T: FromBytes>(&self, offset: u32, room: &'a mut MaybeUninit<T>) -> Option<&'a T> {
            // SAFETY: `room` is valid for writes of the length that is passed with it.
            let result = unsafe {
                bpf_skb_load_bytes_relative(
                    self.0.as_ptr(),
                    offset,
                    room.as_mut_ptr().cast(),
                    size_of::<T>() as u32,
                    BPF_HDR_START_NET,
                )
            };
            // SAFETY: the helper has written every byte, and any bytes make a `T`.
            (result == 0).then(|| unsafe { room.assume_init_ref() })
        }
    }

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
        fn ipv4_source<'a>(&self, room: &'a mut MaybeUninit<Ipv4Key>) -> Option<&'a Ipv4Key> {
            // Cheaper than the helper. It ends the program if there is no such word, but the network header of an IPv4
            // packet is whole and in linear memory before the packet gets to a socket.
            // SAFETY: `self` holds the context of the program.
            let source = unsafe { load_word(self.0.as_ptr(), SKF_NET_OFF + u64::from(IPV4_SOURCE)) };
            Some(room.write(Ipv4Addr::from_bits(source as u32).into()))
        }

        #[inline(always)]
        fn ipv6_source<'a>(&self, room: &'a mut MaybeUninit<Ipv6Key>) -> Option<&'a Ipv6Key> {
            self.network(IPV6_SOURCE, room)
        }
    }

    impl Packet for Skb<'_> {
        #[inline(always)]
        fn message(&mut self) -> Result<(&mut Message, usize), Malformed> {
            let offset = PAYLOAD_OFFSET.load();
            let scratch = SCRATCH.get_ptr_mut(0).ok_or(Malformed::TooShort)?;
            // SAFETY: the map has one entry for this CPU, and nothing else uses it while the program runs.
            let message = unsafe { &mut *scratch };
            let len = self.0.len().checked_sub(offset + HEADER_LEN as u32).ok_or(Malformed::TooShort)?;
            // The verifier wants to see the upper bound on the very register that goes into the call, so the compiler
            // must not know that it holds already. The lower one is in the addition.
            let question = black_box(len.min(LONGEST_QUESTION));
            if question > LONGEST_QUESTION {
                return Err(Malformed::TooShort);
            }
            let available = question + HEADER_LEN as u32;
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
            Self { policy: unsafe { (&raw const CONFIG.policy).read_volatile() } }
        }
    }

    impl Rules for KernelRules {
        type Address = InMap;
        type Qname = InMap;
        type Name = NameHasher;

        #[inline(always)]
        fn policy(&self) -> Policy {
            self.policy
        }

        #[inline(always)]
        fn ipv4(&self, source: &Ipv4Key) -> Option<InMap> {
            IPV4.get_ptr_mut(source).map(InMap::address)
        }

        #[inline(always)]
        fn ipv6(&self, source: &Ipv6Key) -> Option<InMap> {
            IPV6.get_ptr_mut(source).map(InMap::address)
        }

        #[inline(always)]
        fn may_know(&self, shape: Shape) -> bool {
            // SAFETY: the static is live and aligned; its words are only ever written whole.
            unsafe { (*black_box(&raw const CONFIG.shapes)).contain(shape) }
        }

        #[inline(always)]
        fn digest(&self) -> NameHasher {
            // SAFETY: a read of a live, aligned static.
            NameHasher::new(unsafe { (&raw const CONFIG.seed).read_volatile() })
        }

        #[inline(always)]
        fn qname(
            &self,
            message: &Message,
            _question: &Question,
            name: &NameHasher,
            qtypes: u32,
        ) -> Option<InMap> {
            let rule = QNAMES.get_ptr_mut(name.key(qtypes))?;
            // SAFETY: map memory stays valid while the program runs; name and type of an entry never change.
            let same = unsafe { (*rule).qtypes == qtypes && message.name_is(&(*rule).name) };
            // SAFETY: as above; only the addresses of the fields are taken.
            same.then(|| unsafe { InMap { hits: &raw mut (*rule).hits, action: &raw const (*rule).action } })
        }

        #[inline(always)]
        fn malformed(&self, reason: Malformed) {
            if let Some(count) = MALFORMED.get_ptr_mut(reason as u32) {
                // SAFETY: the counter belongs to this CPU, and the program is not interrupted by another.
                unsafe { *count += 1 }
            }
        }
    }

    /// A rule in the memory of a map.
    struct InMap {
        hits: *mut u64,
        action: *const u8,
    }

    impl InMap {
        #[inline(always)]
        fn address(rule: *mut AddressRule) -> Self {
            // SAFETY: map memory stays valid while the program runs; only the addresses of the fields are taken.
            unsafe { Self { hits: &raw mut (*rule).hits, action: &raw const (*rule).action } }
        }
    }

    impl Matched for InMap {
        #[inline(always)]
        fn hit(&self) {
            // SAFETY: the counter is an aligned word in map memory, which other CPUs change by atomic adds only.
            unsafe {
                core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(
                    self.hits, 1,
                )
            };
        }

        #[inline(always)]
        fn action(&self) -> Action {
            // SAFETY: the byte is in map memory that stays valid while the program runs.
            Action::from_byte(unsafe { *self.action })
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
