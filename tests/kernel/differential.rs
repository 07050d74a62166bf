//! The same packets through the committed object in the kernel (`BPF_PROG_TEST_RUN`) and through the host build of the
//! same code: verdicts, hits and counters must agree.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    cell::RefCell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunOptions,
    maps::{Array, HashMap, MapData, PerCpuArray, PerCpuValues},
    programs::SocketFilter,
    util::nr_cpus,
};
use ebpf_filter::{Action, BpfFilter, Malformed, MalformedReason, Match, Mode, QName, Qtypes, Rule, Verdict};
use ebpf_filter_tests::require_kernel;
use ebpf_prog::{
    hash::NameHasher,
    layout::{
        ALL_QTYPES, AddressRule, Config, Ipv4Key, Ipv6Key, Kinds, Policy, QnameRule, maps,
        programs::{ADDRESS_ONLY, FULL, PAYLOAD_OFFSET},
    },
    object,
    shape::{Shape, Shapes},
};
use proptest::{
    collection::{hash_map, vec},
    prelude::*,
    sample::{Index, select},
    test_runner::{Config as RunnerConfig, TestRunner},
};
use zerocopy::{FromBytes as _, Immutable, IntoBytes};

const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];

/// IPv4 with 20 bytes of options and IPv6 have headers of the same length, so that one object serves both.
const IP_HEADER: usize = 40;
const UDP_HEADER: usize = 8;

const CONFIG_SIZE: usize = size_of::<Config>();

type Bytes<const K: usize, const V: usize> = HashMap<MapData, [u8; K], [u8; V]>;

/// The committed object, with its data starting at the IP header as `BPF_PROG_TEST_RUN` has it.
struct Kernel {
    ebpf: Ebpf,
    config: Array<MapData, [u8; CONFIG_SIZE]>,
    ipv4: Bytes<4, 16>,
    ipv6: Bytes<16, 16>,
    qnames: Bytes<16, 272>,
    malformed: PerCpuArray<MapData, u64>,
}

impl Kernel {
    fn load() -> Self {
        let offset = u32::try_from(IP_HEADER + UDP_HEADER).unwrap();
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .override_global(PAYLOAD_OFFSET, &offset, true)
            .map_max_entries(maps::IPV4, 64)
            .map_max_entries(maps::IPV6, 64)
            .map_max_entries(maps::QNAMES, 64)
            .load(object::SOCKET_FILTER)
            .unwrap();
        for name in [FULL, ADDRESS_ONLY] {
            let program: &mut SocketFilter = ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap();
        }
        Self {
            config: ebpf.take_map(maps::CONFIG).unwrap().try_into().unwrap(),
            ipv4: ebpf.take_map(maps::IPV4).unwrap().try_into().unwrap(),
            ipv6: ebpf.take_map(maps::IPV6).unwrap().try_into().unwrap(),
            qnames: ebpf.take_map(maps::QNAMES).unwrap().try_into().unwrap(),
            malformed: ebpf.take_map(maps::MALFORMED).unwrap().try_into().unwrap(),
            ebpf,
        }
    }

    fn set_rules(&mut self, rules: &[Rule], drop_malformed: bool) {
        clear(&mut self.ipv4);
        clear(&mut self.ipv6);
        clear(&mut self.qnames);
        for reason in 0..MalformedReason::ALL.len() {
            let zeroes = PerCpuValues::try_from(vec![0; nr_cpus().unwrap()]).unwrap();
            self.malformed.set(u32::try_from(reason).unwrap(), zeroes, 0).unwrap();
        }
        let (mut kinds, mut shapes) = (Kinds::NONE, Shapes::NONE);
        for rule in rules {
            kinds = kinds.and(match &rule.matches {
                Match::Ipv4(address) => {
                    let value = bytes(&AddressRule::new(rule.action));
                    self.ipv4.insert(bytes::<_, 4>(&Ipv4Key::from(*address)), value, 1).unwrap();
                    Kinds::IPV4
                }
                Match::Ipv6(address) => {
                    let value = bytes(&AddressRule::new(rule.action));
                    self.ipv6.insert(bytes::<_, 16>(&Ipv6Key::from(*address)), value, 1).unwrap();
                    Kinds::IPV6
                }
                Match::Qname(name, qtypes) => {
                    let value = QnameRule::new(name.as_wire(), selector(*qtypes), rule.action);
                    shapes.set(Shape::of(name.as_wire()), true);
                    self.qnames.insert(qname_key(name, *qtypes), bytes::<_, 272>(&value), 1).unwrap();
                    if *qtypes == Qtypes::All { Kinds::QNAME_ALL_TYPES } else { Kinds::QNAME_ONE_TYPE }
                }
                other => panic!("no such rule: {other:?}"),
            });
        }
        let policy = Policy { kinds, drop_malformed: drop_malformed.into() };
        let config = Config { policy, seed: SEED, shapes };
        self.config.set(0, bytes::<_, CONFIG_SIZE>(&config), 0).unwrap();
    }

    fn run(&self, program: &str, frame: &[u8]) -> Verdict {
        let program: &SocketFilter = self.ebpf.program(program).unwrap().try_into().unwrap();
        let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::default() };
        match program.test_run(options).unwrap().return_value {
            0 => Verdict::Drop,
            u32::MAX => Verdict::Pass,
            other => panic!("a socket filter that cuts packets to {other} bytes"),
        }
    }

    fn hits(&self, of: &Match) -> u64 {
        match of {
            Match::Ipv4(address) => address_hits(&self.ipv4, bytes(&Ipv4Key::from(*address))),
            Match::Ipv6(address) => address_hits(&self.ipv6, bytes(&Ipv6Key::from(*address))),
            Match::Qname(name, qtypes) => {
                QnameRule::read_from_bytes(&self.qnames.get(&qname_key(name, *qtypes), 0).unwrap())
                    .unwrap()
                    .hits
            }
            other => panic!("no such rule: {other:?}"),
        }
    }

    fn malformed(&self, reason: MalformedReason) -> u64 {
        self.malformed.get(&(reason as u32), 0).unwrap().iter().sum()
    }
}

fn bytes<T: IntoBytes + Immutable, const N: usize>(value: &T) -> [u8; N] {
    value.as_bytes().try_into().unwrap()
}

fn clear<const K: usize, const V: usize>(map: &mut Bytes<K, V>) {
    let keys: Vec<_> = map.keys().map(Result::unwrap).collect();
    for key in keys {
        map.remove(&key).unwrap();
    }
}

fn address_hits<const K: usize>(map: &Bytes<K, 16>, key: [u8; K]) -> u64 {
    AddressRule::read_from_bytes(&map.get(&key, 0).unwrap()).unwrap().hits
}

fn selector(qtypes: Qtypes) -> u32 {
    match qtypes {
        Qtypes::All => ALL_QTYPES,
        Qtypes::Only(qtype) => qtype.into(),
    }
}

fn qname_key(name: &QName, qtypes: Qtypes) -> [u8; 16] {
    bytes(&NameHasher::new(SEED).with_name(name.as_wire()).key(selector(qtypes)))
}

/// An Ethernet frame with a UDP datagram.
fn frame(source: IpAddr, payload: &[u8]) -> Vec<u8> {
    let udp_len = u16::try_from(UDP_HEADER + payload.len()).unwrap();
    let mut frame = vec![0; 12];
    match source {
        IpAddr::V4(source) => {
            let total = udp_len + u16::try_from(IP_HEADER).unwrap();
            frame.extend([0x08, 0x00, 0x4a, 0]);
            frame.extend(total.to_be_bytes());
            frame.extend([0, 0, 0, 0, 64, 17, 0, 0]);
            frame.extend(source.octets());
            frame.extend([192, 0, 2, 53]);
            frame.extend([1; 20]);
        }
        IpAddr::V6(source) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(udp_len.to_be_bytes());
            frame.extend([17, 64]);
            frame.extend(source.octets());
            frame.extend(Ipv6Addr::LOCALHOST.octets());
        }
    }
    frame.extend([0x30, 0x39, 0, 53]);
    frame.extend(udp_len.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

/// Few names and addresses, so that rules and packets meet often.
fn names() -> Vec<Vec<u8>> {
    let label = |byte: u8, len: u8| [vec![len], vec![byte; len.into()]].concat();
    let long = [label(b'x', 63), label(b'y', 63), label(b'z', 63), label(b'w', 61), vec![0]].concat();
    let labels = [b"\x01q".repeat(127), vec![0]].concat();
    vec![
        b"\x00".to_vec(),
        b"\x01a\x00".to_vec(),
        b"\x04evil\x07example\x00".to_vec(),
        b"\x03www\x04evil\x07example\x00".to_vec(),
        b"\x04evil\x07example\x03com\x00".to_vec(),
        b"\x07exampl\x00\x00".to_vec(),
        b"\x08a\x00b.c\x01de\x00".to_vec(),
        label(b'm', 63).into_iter().chain([0]).collect(),
        long,
        labels,
    ]
}

fn sources() -> Vec<IpAddr> {
    let v4 = (1..=3).map(|host| Ipv4Addr::new(192, 0, 2, host).into());
    let v6 = (1..=3).map(|host| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host).into());
    v4.chain(v6).chain([Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]).collect()
}

fn matches() -> impl Strategy<Value = Match> {
    let qtypes = select(vec![Qtypes::All, Qtypes::Only(1), Qtypes::Only(28), Qtypes::Only(255)]);
    prop_oneof![
        1 => select(sources()).prop_map(Match::address),
        2 => (select(names()), qtypes)
            .prop_map(|(name, qtypes)| Match::qname(QName::from_wire(&name).unwrap(), qtypes)),
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let query = (select(names()), any::<u64>(), select(vec![1_u16, 28, 255, 16]), vec(any::<u8>(), 0..40))
        .prop_map(|(name, case, qtype, rest)| {
            let mut query = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
            query.extend(name.iter().enumerate().map(|(at, byte)| {
                if case >> (at % 64) & 1 == 1 { byte.to_ascii_uppercase() } else { *byte }
            }));
            query.extend(qtype.to_be_bytes());
            query.extend([0, 1]);
            query.extend(rest);
            query
        });
    let broken = (query.clone(), vec((any::<Index>(), any::<u8>()), 0..3), any::<Index>()).prop_map(
        |(mut query, changes, end)| {
            for (at, byte) in changes {
                let at = at.index(query.len());
                query[at] = byte;
            }
            let end = end.index(query.len() + 1);
            query.truncate(end);
            query
        },
    );
    prop_oneof![4 => query, 3 => broken, 1 => vec(any::<u8>(), 0..400)]
}

fn host(rules: &[Rule], drop_malformed: bool) -> BpfFilter {
    let malformed = if drop_malformed { Malformed::Drop } else { Malformed::Pass };
    let host = BpfFilter::builder().mode(Mode::Off).malformed(malformed).build().unwrap();
    host.insert_many(rules.iter().cloned()).unwrap();
    host
}

fn check(kernel: &mut Kernel, rules: &[Rule], drop_malformed: bool, packets: &[(IpAddr, Vec<u8>)]) {
    kernel.set_rules(rules, drop_malformed);
    let host = host(rules, drop_malformed);
    for (source, payload) in packets {
        let in_kernel = kernel.run(FULL, &frame(*source, payload));
        assert_eq!(in_kernel, host.check_datagram(*source, payload), "from {source}: {payload:02x?}");
    }
    let stats = host.stats().unwrap();
    for rule in &stats.rules {
        assert_eq!(kernel.hits(&rule.rule.matches), rule.hits, "hits of {}", rule.rule.matches);
    }
    for reason in MalformedReason::ALL {
        assert_eq!(kernel.malformed(reason), stats.malformed(reason), "malformed: {reason:?}");
    }
}

#[test]
fn kernel_and_host_agree_on_any_packet() {
    require_kernel!();
    let kernel = RefCell::new(Kernel::load());
    let action = select(vec![Action::Drop, Action::Drop, Action::Pass, Action::Count]);
    let cases =
        (hash_map(matches(), action, 0..12), any::<bool>(), vec((select(sources()), payload()), 1..60));
    TestRunner::new(RunnerConfig { failure_persistence: None, ..RunnerConfig::with_cases(500) })
        .run(&cases, |(rules, drop_malformed, packets)| {
            let rules: Vec<_> =
                rules.into_iter().map(|(matches, action)| Rule::new(matches, action)).collect();
            check(&mut kernel.borrow_mut(), &rules, drop_malformed, &packets);
            Ok(())
        })
        .unwrap();
}

#[test]
fn kernel_and_host_agree_on_every_truncation() {
    require_kernel!();
    let mut kernel = Kernel::load();
    let rules: Vec<_> = names()
        .iter()
        .map(|name| Rule::drop(Match::qname(QName::from_wire(name).unwrap(), Qtypes::Only(1))))
        .collect();
    for name in names() {
        let mut query = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(name);
        query.extend([0, 1, 0, 1]);
        // A long packet in front of each leaves its bytes in the scratch buffer of the program.
        let packets: Vec<_> = (0..=query.len())
            .flat_map(|end| [vec![b'a'; 400], query[..end].to_vec()])
            .map(|payload| (Ipv4Addr::new(192, 0, 2, 1).into(), payload))
            .collect();
        for drop_malformed in [false, true] {
            check(&mut kernel, &rules, drop_malformed, &packets);
        }
    }
}

/// The program for TCP and opaque datagrams looks at addresses and at nothing else.
#[test]
fn the_address_only_program_ignores_names() {
    require_kernel!();
    let mut kernel = Kernel::load();
    let name = b"\x04evil\x07example\x00";
    let rules = [
        Rule::drop(Match::address([192, 0, 2, 1])),
        Rule::drop(Match::qname(QName::from_wire(name).unwrap(), Qtypes::All)),
    ];
    kernel.set_rules(&rules, true);
    let query = [&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], name, &[0, 1, 0, 1]].concat();

    assert_eq!(kernel.run(ADDRESS_ONLY, &frame(Ipv4Addr::new(192, 0, 2, 1).into(), &query)), Verdict::Drop);
    assert_eq!(kernel.run(ADDRESS_ONLY, &frame(Ipv4Addr::new(192, 0, 2, 2).into(), &query)), Verdict::Pass);
    assert_eq!(kernel.run(ADDRESS_ONLY, &frame(Ipv4Addr::new(192, 0, 2, 2).into(), b"short")), Verdict::Pass);
    assert_eq!(kernel.run(FULL, &frame(Ipv4Addr::new(192, 0, 2, 2).into(), &query)), Verdict::Drop);
    assert_eq!(kernel.hits(&rules[1].matches), 1);
}

/// A program that the verifier has to look at for long is a program that the next kernel may refuse.
#[test]
fn verification_stays_within_its_budget() {
    require_kernel!();
    let kernel = Kernel::load();
    for (name, budget) in [(FULL, 20_000), (ADDRESS_ONLY, 1_000)] {
        let program: &SocketFilter = kernel.ebpf.program(name).unwrap().try_into().unwrap();
        let verified = program.info().unwrap().verified_instruction_count().unwrap();
        assert!(verified <= budget, "{name}: {verified} instructions verified, the budget is {budget}");
    }
}
