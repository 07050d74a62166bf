//! The server answers, forwards, drops and stops. Rules are enforced in user space here, so no privilege is needed;
//! `enforcement.rs` has the kernel's part.

use std::{
    net::{TcpListener, UdpSocket},
    thread,
};

use crate::harness::{Folder, PATIENCE, SILENCE, Server, ask, query, texts, try_tcp, try_udp};
use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use rustix::process::Signal;

const OFF: &str = "[filter]\nmode = \"off\"\n";

#[test]
fn the_embedded_zone_is_served() {
    let server = Server::start(OFF);

    let a = ask(server.address(), "www.example.", RecordType::A);
    assert_eq!(texts(&a), ["192.0.2.1"]);
    assert!(a.metadata.authoritative);
    assert_eq!(texts(&ask(server.address(), "WWW.Example.", RecordType::AAAA)), ["2001:db8::1"]);
    assert_eq!(texts(&ask(server.address(), "any.wild.example.", RecordType::A)), ["192.0.2.80"]);
    assert_eq!(texts(&ask(server.address(), "alias.example.", RecordType::A)), ["www.example.", "192.0.2.1"]);
    for qtype in [RecordType::SOA, RecordType::NS, RecordType::MX, RecordType::TXT] {
        assert!(!ask(server.address(), "example.", qtype).answers.is_empty(), "{qtype}");
    }

    let missing = ask(server.address(), "missing.example.", RecordType::A);
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    assert!(missing.authorities.iter().any(|record| record.record_type() == RecordType::SOA));

    let no_data = ask(server.address(), "www.example.", RecordType::TXT);
    assert_eq!(no_data.metadata.response_code, ResponseCode::NoError);
    assert!(no_data.answers.is_empty());

    let elsewhere = ask(server.address(), "www.elsewhere.", RecordType::A);
    assert_eq!(elsewhere.metadata.response_code, ResponseCode::Refused);

    let transfer = try_tcp(server.address(), &query("example.", RecordType::AXFR), PATIENCE).unwrap();
    assert_eq!(transfer.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn every_udp_socket_of_the_group_answers() {
    let server = Server::start(&format!("udp_sockets = 4\n{OFF}"));
    assert!(server.start.iter().any(|line| line.contains("(udp ×4, tcp)")), "{:#?}", server.start);
    for _ in 0..64 {
        let answer = try_udp(server.address(), &query("www.example.", RecordType::A), PATIENCE).unwrap();
        assert_eq!(texts(&answer), ["192.0.2.1"]);
    }
}

#[test]
fn ipv4_and_ipv6_are_served_side_by_side() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    }
    // No port that clients get: they come and go while this test runs.
    let start = usize::try_from(std::process::id() % 10_000).expect("a small number");
    let port = (20_000..30_000_u16)
        .cycle()
        .skip(start)
        .take(10_000)
        .find(|port| UdpSocket::bind(("::", *port)).is_ok() && TcpListener::bind(("::", *port)).is_ok())
        .expect("a free port");
    let server = Server::start_on(2, &format!("listen.dns = [\"0.0.0.0:{port}\", \"[::]:{port}\"]\n{OFF}"));
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        let answer = ask(address.parse().unwrap(), "www.example.", RecordType::A);
        assert_eq!(texts(&answer), ["192.0.2.1"]);
    }
    assert_eq!(server.addresses.len(), 2);
}

#[test]
fn zone_files_are_served_relative_to_the_configuration() {
    let zones = "[[zones]]\norigin = \"one.test\"\nfile = \"one.zone\"\n[[zones]]\norigin = \"two.test\"\nfile = \"./two.zone\"";
    let folder = Folder::new(&format!("listen.dns = [\"127.0.0.1:0\"]\nfilter.mode = \"off\"\n{zones}"));
    for (file, address) in [("one.zone", "192.0.2.11"), ("two.zone", "192.0.2.22")] {
        folder.write(file, &format!("@ 60 IN SOA ns hostmaster 1 60 60 60 60\nwww 60 IN A {address}\n"));
    }
    let server = Server::start_in(1, folder);

    assert_eq!(texts(&ask(server.address(), "www.one.test.", RecordType::A)), ["192.0.2.11"]);
    assert_eq!(texts(&ask(server.address(), "www.two.test.", RecordType::A)), ["192.0.2.22"]);
    let embedded = ask(server.address(), "www.example.", RecordType::A);
    assert_eq!(embedded.metadata.response_code, ResponseCode::Refused);
}

#[test]
fn what_no_zone_answers_is_forwarded_and_cached() {
    let folder = Folder::new(
        "listen.dns = [\"127.0.0.1:0\"]\nfilter.mode = \"off\"\n[[zones]]\norigin = \"up.test\"\nfile = \"up.zone\"",
    );
    folder.write(
        "up.zone",
        "@ 60 IN SOA ns hostmaster 1 60 60 60 60\nwww 60 IN A 192.0.2.99\nalias 60 IN CNAME www\nbig 60 IN TXT \"0123456789012345678901234567890123456789\"\n",
    );
    let upstream = Server::start_in(1, folder);
    let server = Server::start(&format!("{OFF}[forward]\nupstreams = [\"{}\"]", upstream.address()));

    let forwarded = ask(server.address(), "www.up.test.", RecordType::A);
    assert_eq!(texts(&forwarded), ["192.0.2.99"]);
    assert!(forwarded.metadata.recursion_available);
    assert!(!forwarded.metadata.authoritative);
    assert_eq!(
        texts(&ask(server.address(), "alias.up.test.", RecordType::A)),
        ["www.up.test.", "192.0.2.99"]
    );
    let missing = ask(server.address(), "missing.up.test.", RecordType::A);
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    // The zone of this server still comes first.
    assert_eq!(texts(&ask(server.address(), "www.example.", RecordType::A)), ["192.0.2.1"]);

    upstream.signal(Signal::TERM);
    assert!(upstream.wait().0.success());
    assert_eq!(
        texts(&ask(server.address(), "www.up.test.", RecordType::A)),
        ["192.0.2.99"],
        "from the cache"
    );
}

#[test]
fn blocked_names_are_dropped_over_udp_and_tcp() {
    let server = Server::start(
        r#"
        [filter]
        mode = "off"
        [[filter.rules]]
        kind = "qname"
        value = "www.example"
        qtype = "AAAA"
        [[filter.rules]]
        kind = "qname"
        value = "evildomain.com"
        [[filter.rules]]
        kind = "qname"
        value = "mail.example"
        action = "count"
        "#,
    );
    assert!(
        server.start.iter().any(|line| line.contains(" 3 name, 0 suffix rules; enforced by user space")),
        "{:#?}",
        server.start
    );

    for (name, qtype) in [("WWW.example.", RecordType::AAAA), ("EvilDomain.com.", RecordType::TXT)] {
        let query = query(name, qtype);
        assert_eq!(try_udp(server.address(), &query, SILENCE), None, "{name}");
        assert_eq!(try_tcp(server.address(), &query, SILENCE), None, "{name}");
    }
    assert_eq!(texts(&ask(server.address(), "www.example.", RecordType::A)), ["192.0.2.1"]);
    assert_eq!(texts(&ask(server.address(), "mail.example.", RecordType::A)), ["192.0.2.25"]);

    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert!(status.success());
    assert!(log.iter().any(|line| line.contains("evildomain.com. 255: 2")), "{log:#?}");
}

#[test]
fn a_blocked_source_is_dropped() {
    let rule = "[[filter.rules]]\nkind = \"address\"\nvalue = \"127.0.0.1\"";
    let server = Server::start(&format!("{OFF}{rule}"));
    assert_eq!(try_udp(server.address(), &query("www.example.", RecordType::A), SILENCE), None);
}

#[test]
fn both_signals_end_an_idle_server() {
    for signal in [Signal::TERM, Signal::INT] {
        let server = Server::start(OFF);
        server.signal(signal);
        let (status, log) = server.wait();
        assert_eq!(status.code(), Some(0), "{log:#?}");
        assert!(log.last().is_some_and(|line| line.ends_with("stopped")), "{log:#?}");
    }
}

/// A server whose one query is stuck at an upstream that the test plays.
fn server_with_a_query_in_flight() -> (Server, UdpSocket, UdpSocket) {
    let (upstream, client) = (socket(), socket());
    let address = upstream.local_addr().expect("it is bound");
    let server = Server::start(&format!("{OFF}[forward]\nupstreams = [\"{address}\"]"));
    let query = query("slow.test.", RecordType::A).to_vec().expect("a message");
    client.send_to(&query, server.address()).expect("it is sent");
    (server, upstream, client)
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    socket
}

#[test]
fn a_query_in_flight_is_answered_before_the_end() {
    let (mut server, upstream, client) = server_with_a_query_in_flight();
    let mut buffer = [0; 4096];
    let (length, forwarder) = upstream.recv_from(&mut buffer).unwrap();

    server.signal(Signal::TERM);
    server.wait_for("1 queries in flight");
    // Longer than a server that did not wait for the query would live.
    thread::sleep(SILENCE);
    let mut answer = Message::from_vec(&buffer[..length]).unwrap().into_response();
    answer.metadata.response_code = ResponseCode::NXDomain;
    upstream.send_to(&answer.to_vec().unwrap(), forwarder).unwrap();

    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(Message::from_vec(&buffer[..length]).unwrap().metadata.response_code, ResponseCode::NXDomain);
    assert_eq!(server.wait().0.code(), Some(0));
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let (mut server, upstream, _client) = server_with_a_query_in_flight();
    upstream.recv_from(&mut [0; 4096]).unwrap();

    server.signal(Signal::INT);
    server.wait_for("1 queries in flight");
    server.signal(Signal::TERM);

    assert_eq!(server.wait().0.code(), Some(128 + 15));
}
