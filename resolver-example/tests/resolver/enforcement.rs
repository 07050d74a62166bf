//! The same rules, enforced by the kernel and, without privilege, by user space.

mod answers;
pub(crate) mod enforcer;
mod expiry;
mod ranges;
mod suffixes;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_proto::{
    op::Message,
    rr::{Name, RecordType},
};
use rustix::process::Signal;

use self::enforcer::hits;
use crate::harness::{
    Folder, PATIENCE, SILENCE, Server, failure, kernel_enforces, program, program_without_privilege, query,
    text, texts, try_connect_from, try_tcp, try_udp, try_udp_from,
};

const BLOCKED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 99));
const ALLOWED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 98));

fn config(mode: &str) -> Folder {
    Folder::new(&format!(
        r#"
        listen.dns = ["127.0.0.1:0"]
        filter.mode = "{mode}"
        [[filter.rules]]
        kind = "address"
        value = "{BLOCKED}"
        [[filter.rules]]
        kind = "qname"
        value = "www.example"
        qtype = ["AAAA", "TXT"]
        [[filter.rules]]
        kind = "qname"
        value = "alias.example"
        [[filter.rules]]
        kind = "qname"
        value = "mail.example"
        action = "count"
        "#
    ))
}

fn answered(source: IpAddr, server: SocketAddr, name: &str, qtype: RecordType) -> bool {
    // A drop is proved by the silence; an answer takes as long as the machine is busy.
    try_udp_from(source, server, &query(name, qtype), SILENCE).is_some()
}

/// What the rules of `config` mean, to clients over UDP and TCP.
fn assert_enforced(server: SocketAddr) {
    let a = try_udp(server, &query("www.example.", RecordType::A), PATIENCE).expect("an answer");
    assert_eq!(texts(&a), ["192.0.2.1"]);

    assert!(!answered(BLOCKED, server, "example.", RecordType::SOA), "the source is blocked");
    assert!(try_udp_from(ALLOWED, server, &query("example.", RecordType::SOA), PATIENCE).is_some());

    assert!(
        !answered(ALLOWED, server, "wWw.ExAmPlE.", RecordType::AAAA),
        "the name is blocked for this type"
    );
    assert!(!answered(ALLOWED, server, "www.example.", RecordType::TXT), "and for this one");
    assert!(
        !answered(ALLOWED, server, "ALIAS.example.", RecordType::A),
        "the name is blocked for every type"
    );
    assert!(
        !answered(ALLOWED, server, "alias.example.", RecordType::ANY),
        "the name is blocked for every type"
    );

    assert!(try_tcp(server, &query("www.example.", RecordType::A), PATIENCE).is_some());
    assert!(try_tcp(server, &query("WWW.example.", RecordType::AAAA), SILENCE).is_none(), "also over TCP");
    assert!(try_udp(server, &query("mail.example.", RecordType::A), PATIENCE).is_some(), "only counted");
    assert!(try_tcp(server, &query("mail.example.", RecordType::A), PATIENCE).is_some(), "only counted");
}

#[test]
fn the_kernel_drops_what_the_rules_say() {
    if !kernel_enforces() {
        return;
    }
    let server = Server::spawn(program(), 1, config("require"));
    let told = server.start.iter().any(|line| line.contains("enforced by kernel (program dns_full with id "));
    assert!(told, "{:#?}", server.start);

    assert_enforced(server.address());
    let blocked = try_connect_from(BLOCKED, server.address(), SILENCE);
    assert!(blocked.is_none(), "the SYN of a blocked source is dropped");
    assert!(try_connect_from(ALLOWED, server.address(), PATIENCE).is_some());

    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert!(status.success());
    assert!(hits(&log, "127.0.0.99") >= 2, "the query and the SYN: {log:#?}");
    assert_eq!(hits(&log, "www.example. 28"), 2, "one over UDP, one over TCP: {log:#?}");
    assert_eq!(hits(&log, "www.example. 16"), 1, "{log:#?}");
    assert_eq!(hits(&log, "alias.example. 255"), 2, "{log:#?}");
    assert_eq!(hits(&log, "mail.example. 255"), 2, "not once more in user space: {log:#?}");
}

#[test]
fn without_privilege_user_space_drops_it_and_says_why() {
    let server = Server::spawn(program_without_privilege(), 1, config("prefer"));
    let told = server.start.iter().any(|line| {
        line.contains("WARN") && line.contains("enforced by user space: missing capability CAP_BPF")
    });
    assert!(told, "{:#?}", server.start);

    assert_enforced(server.address());

    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert!(status.success());
    assert_eq!(hits(&log, "www.example. 28"), 2, "{log:#?}");
    assert_eq!(hits(&log, "127.0.0.99"), 1, "{log:#?}");
    assert_eq!(hits(&log, "mail.example. 255"), 2, "{log:#?}");
}

#[test]
fn without_privilege_the_mode_require_does_not_start() {
    let folder = config("require");
    let output = program_without_privilege()
        .args(["--config", text(&folder.config())])
        .output()
        .expect("setpriv starts the program");
    let said = failure(&output, 1);
    for word in ["CAP_BPF", "kernel.unprivileged_bpf_disabled", "AmbientCapabilities"] {
        assert!(said.contains(word), "{word} is missing: {said}");
    }
}

/// A question may end in a compression pointer to a zero byte of the header. hickory-server reads it as any other name;
/// the kernel sees no name that it could compare.
#[test]
fn a_name_behind_a_compression_pointer_is_dropped_by_the_server() {
    let server = Server::spawn(program(), 1, config("prefer"));
    let ask = |name: &[u8]| {
        // The high byte of the number of questions is zero: the root label.
        let mut message = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(name);
        message.extend([0xc0, 4, 0, 1, 0, 1]);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(SILENCE)).expect("a timeout");
        socket.send_to(&message, server.address()).expect("it is sent");
        let mut buffer = [0; 512];
        socket.recv(&mut buffer).ok().map(|length| Message::from_vec(&buffer[..length]).expect("a message"))
    };
    let answer = ask(b"\x04mail\x07example").expect("hickory-server reads such a name");
    assert_eq!(answer.queries[0].name(), &Name::from_ascii("mail.example.").expect("a name"));
    assert!(ask(b"\x05alias\x07example").is_none(), "the name is blocked");
}
