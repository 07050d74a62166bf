//! An XDP program of somebody else, `c/xdp-shared.c`: what is set here is what it does, and what it counts is seen here.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::Command,
    sync::OnceLock,
    time::Duration,
};

use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions, programs::Xdp};
use ebpf_filter::{Action, ExternalFilter, Match, Qtypes, Rule};
use ebpf_filter_tests::{
    dns::{A, AAAA, ANY, query},
    headers::Headers,
    packet,
    pins::PinDir,
    privilege, require_kernel,
};
use hickory_proto::op::{Message, MessageType};
use tempfile::TempDir;

use crate::{address, qname, range};

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/c/xdp-shared.c");
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const DROP: u32 = 1;
const PASS: u32 = 2;
const TX: u32 = 3;

/// The object, if there is a compiler for it.
fn object() -> Option<PathBuf> {
    static OBJECT: OnceLock<Option<(TempDir, PathBuf)>> = OnceLock::new();
    let object = OBJECT.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let object = directory.path().join("xdp-shared.o");
        let include = format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH);
        let output = Command::new("clang")
            .args(["-O2", "-g", "-target", "bpf", "-Wall", "-Werror", &include, "-c", SOURCE, "-o"])
            .arg(&object)
            .output()
            .ok()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Some((directory, object))
    });
    let object = object.as_ref().map(|(_, object)| object.clone());
    if object.is_none() {
        privilege::skip("clang is not installed (Debian: clang libbpf-dev)");
    }
    object
}

/// The program, with the maps of a filter.
struct Program {
    ebpf: Ebpf,
    filter: ExternalFilter,
    _pins: PinDir,
}

impl Program {
    fn load() -> Option<Self> {
        let object = object()?;
        let pins = PinDir::new();
        let filter = pins.external();
        let mut loader = EbpfLoader::new();
        for (map, pin) in [
            ("addr_v4", "addr-v4"),
            ("addr_v6", "addr-v6"),
            ("cidr4", "cidr4"),
            ("cidr6", "cidr6"),
            ("qnames", "qnames"),
        ] {
            loader.map_pin_path(map, pins.pin(pin));
        }
        let mut ebpf = loader.load_file(object).unwrap();
        let program: &mut Xdp = ebpf.program_mut("filter").unwrap().try_into().unwrap();
        program.load().unwrap();
        Some(Self { ebpf, filter, _pins: pins })
    }

    /// What it returns for a frame, and the frame then.
    fn run(&self, frame: &[u8]) -> (u32, Vec<u8>) {
        let program: &Xdp = self.ebpf.program("filter").unwrap().try_into().unwrap();
        let mut out = vec![0; frame.len() + 64];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let result = program.test_run(options).unwrap();
        out.truncate(result.data_size_out as usize);
        (result.return_value, out)
    }

    #[track_caller]
    fn assert(&self, from: &str, message: &[u8], expected: u32) {
        for tags in [&[][..], &[(0x8100, 7)], &[(0x88a8, 7), (0x8100, 8)]] {
            let (verdict, _) = self.run(&frame(from, message, tags));
            assert_eq!(verdict, expected, "{from} with the tags {tags:?}");
        }
    }

    #[track_caller]
    fn assert_hits(&self, of: &Match, hits: u64) {
        assert_eq!(self.filter.rule(of).unwrap().unwrap().hits, hits, "{of}");
    }
}

fn ends(from: &str) -> packet::Ends {
    let from: IpAddr = from.parse().unwrap();
    let to: IpAddr = if from.is_ipv4() { [203, 0, 113, 53].into() } else { "2001:db8::53".parse().unwrap() };
    (SocketAddr::new(from, 5353), SocketAddr::new(to, 53))
}

fn frame(from: &str, message: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let ends = ends(from);
    let headers =
        if ends.0.is_ipv4() { Headers::Options(Vec::new()) } else { Headers::Extensions(Vec::new()) };
    packet::frame(CLIENT_MAC, SERVER_MAC, tags, &packet::udp(ends, &headers, message))
}

/// Rules for sources and names, in the order in which the program asks them. Every packet is sent three times.
#[test]
fn it_does_what_the_rules_say_and_counts() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    let Some(program) = Program::load() else { return };
    let good = query("good.example.", A);
    for [one, net, inside, outside] in [
        ["192.0.2.1", "192.0.2.0/24", "192.0.2.77", "192.0.3.1"],
        ["2001:db8:1::1", "2001:db8:1::/48", "2001:db8:1:2::3", "2001:db8:2::1"],
    ] {
        program.assert(one, &good, PASS);
        program.filter.insert(Rule::drop(range(net))).unwrap();
        program.assert(one, &good, DROP);
        program.assert(inside, &good, DROP);
        program.assert(outside, &good, PASS);
        program.assert_hits(&range(net), 6);
        program.filter.insert(Rule::new(address(one), Action::Pass)).unwrap();
        program.assert(one, &good, PASS);
        program.assert_hits(&address(one), 3);
        program.assert_hits(&range(net), 6);
        program.filter.replace(Rule::new(range(net), Action::Truncate)).unwrap();
        program.assert(inside, &good, TX);
        program.assert_hits(&range(net), 9);
    }
    let expected = "192.0.2.1: 3\n[2001:db8:1::1]: 3\n192.0.2.0/24: 9\n[2001:db8:1::/48]: 9\n";
    assert_eq!(program.filter.stats().unwrap().to_string(), expected);
    program.filter.reset_hits().unwrap();
    program.filter.clear().unwrap();
    program.assert("192.0.2.77", &good, PASS);
}

#[test]
fn names_and_types() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    let Some(program) = Program::load() else { return };
    let evil = |qtypes| qname("evil.example", qtypes);
    program.filter.insert(Rule::new(evil(Qtypes::Only(A)), Action::Truncate)).unwrap();
    program.filter.insert(Rule::drop(evil(Qtypes::All))).unwrap();
    program.filter.insert(Rule::drop(qname(".", Qtypes::Only(2)))).unwrap();
    for client in ["192.0.2.1", "2001:db8::1"] {
        program.assert(client, &query("EVIL.Example.", A), TX);
        program.assert(client, &query("evil.example.", AAAA), DROP);
        program.assert(client, &query("evil.example.", ANY), DROP);
        program.assert(client, &query("not.evil.example.", A), PASS);
        program.assert(client, &query("evil.example.com.", A), PASS);
        program.assert(client, &query(".", 2), DROP);
        program.assert(client, &query(".", A), PASS);
    }
    program.assert_hits(&evil(Qtypes::Only(A)), 6);
    program.assert_hits(&evil(Qtypes::All), 12);
    let longest = format!("{0}.{0}.{0}.{1}.", "a".repeat(63), "b".repeat(61));
    program.filter.insert(Rule::drop(qname(&longest, Qtypes::All))).unwrap();
    program.assert("192.0.2.1", &query(&longest, A), DROP);
    program.assert("192.0.2.1", &query(&longest[1..], A), PASS);
    // A friend may ask for anything.
    program.filter.insert(Rule::new(address("192.0.2.1"), Action::Pass)).unwrap();
    program.assert("192.0.2.1", &query("evil.example.", AAAA), PASS);
}

/// The answer goes back the way that the query came, and says TC.
#[test]
fn truncated_answers_are_well_formed() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    let Some(program) = Program::load() else { return };
    program.filter.insert(Rule::new(qname("evil.example", Qtypes::All), Action::Truncate)).unwrap();
    let asked = query("Evil.example.", A);
    for client in ["192.0.2.1", "2001:db8::1"] {
        let (verdict, answer) = program.run(&frame(client, &asked, &[]));
        assert_eq!(verdict, TX);
        let at = answer.len() - asked.len();
        let message = Message::from_vec(&answer[at..]).unwrap();
        let sent = Message::from_vec(&asked).unwrap();
        assert_eq!(message.metadata.message_type, MessageType::Response);
        assert!(message.metadata.truncation);
        assert_eq!((message.metadata.id, &message.queries), (sent.metadata.id, &sent.queries));
        // Made by hand, the same answer has the same headers and checksums: identification and hop limit aside.
        let (from, to) = ends(client);
        let headers =
            if from.is_ipv4() { Headers::Options(Vec::new()) } else { Headers::Extensions(Vec::new()) };
        let expected =
            packet::frame(SERVER_MAC, CLIENT_MAC, &[], &packet::udp((to, from), &headers, &answer[at..]));
        assert_eq!(answer[..14], expected[..14], "{client}");
        assert_eq!(answer[at - 8..], expected[at - 8..], "the UDP header to {client}");
        let addresses = if from.is_ipv4() { 26..34 } else { 22..54 };
        assert_eq!(answer[addresses.clone()], expected[addresses], "{client}");
    }
    // Nobody answers answers.
    let mut response = asked;
    response[2] |= 0x80;
    program.assert("192.0.2.1", &response, DROP);
}

#[test]
fn an_entry_that_has_ended_is_not_found() {
    require_kernel!(BPF | SYS_ADMIN | NET_ADMIN);
    let Some(program) = Program::load() else { return };
    let good = query("good.example.", A);
    let client = address("192.0.2.1");
    program.filter.insert(Rule::drop(client.clone()).expires_in(Duration::from_secs(1))).unwrap();
    program.assert("192.0.2.1", &good, DROP);
    program.assert_hits(&client, 3);
    std::thread::sleep(Duration::from_millis(1100));
    program.assert("192.0.2.1", &good, PASS);
}
