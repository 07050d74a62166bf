//! Answers that rules have the server give, and queries that they only count.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    process::Command,
};

use hickory_proto::{
    op::{Edns, Message, ResponseCode},
    rr::RecordType,
};

use super::enforcer::{Enforcer, hits, stop};
use crate::harness::{PATIENCE, SILENCE, ask, query, texts, try_tcp, try_tcp_from, try_udp, try_udp_from};

const TRUNCATE: &str = r#"
[[filter.rules]]
kind = "qname"
value = "www.example"
action = "truncate"
[[filter.rules]]
kind = "range"
value = "127.1.4.0/24"
action = "truncate"
"#;

/// The query without and with an OPT record.
fn both_forms(name: &str) -> [Message; 2] {
    let plain = query(name, RecordType::A);
    let mut extended = plain.clone();
    extended.edns = Some(Edns::new());
    [plain, extended]
}

/// Checks that `answer` has nothing in it but the question, and an OPT record if `query` had one.
fn assert_empty(answer: &Message, query: &Message) {
    let Message { answers, authorities, additionals, edns, .. } = answer;
    assert!(answers.is_empty() && authorities.is_empty() && additionals.is_empty(), "{answer}");
    assert_eq!(edns.is_some(), query.edns.is_some(), "{answer}");
}

#[test]
fn truncate_sends_clients_to_tcp() {
    for enforcer in Enforcer::available() {
        let server = enforcer.serve(TRUNCATE);
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let truncated = IpAddr::V4(Ipv4Addr::new(127, 1, 4, 1));

        for (source, name, address) in
            [(any, "wWw.example.", "192.0.2.1"), (truncated, "mail.example.", "192.0.2.25")]
        {
            for query in both_forms(name) {
                let udp = try_udp_from(source, server.address(), &query, PATIENCE).expect("an answer");
                assert!(udp.metadata.truncation, "{udp}");
                assert_eq!(udp.metadata.response_code, ResponseCode::NoError);
                assert_empty(&udp, &query);

                let tcp = try_tcp_from(source, server.address(), &query, PATIENCE).expect("an answer");
                assert!(!tcp.metadata.truncation, "{tcp}");
                assert_eq!(texts(&tcp), [address]);
            }
        }
        let untouched = try_udp(server.address(), &query("mail.example.", RecordType::A), PATIENCE);
        assert_eq!(texts(&untouched.expect("an answer")), ["192.0.2.25"]);

        let log = stop(server);
        assert_eq!(hits(&log, "www.example. 255"), 4, "{log:#?}");
        enforcer.assert_source_hits(&log, "127.1.4.0/24", 4);
    }
}

/// Every second query over UDP gets TC=1 and the others nothing, whoever enforces; over TCP there are answers.
#[test]
fn slip_answers_every_second_query() {
    for enforcer in Enforcer::available() {
        let server = enforcer.serve(
            r#"
            [[filter.rules]]
            kind = "qname"
            value = "www.example"
            action = "slip"
            [[filter.rules]]
            kind = "address"
            value = "127.1.7.1"
            action = "slip"
            slip = 2
            "#,
        );
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let slipping = IpAddr::V4(Ipv4Addr::new(127, 1, 7, 1));
        for (source, name) in [(any, "wWw.example."), (slipping, "mail.example.")] {
            let query = query(name, RecordType::A);
            for _ in 0..2 {
                let dropped = try_udp_from(source, server.address(), &query, SILENCE);
                assert!(dropped.is_none(), "{dropped:?}");
                let udp = try_udp_from(source, server.address(), &query, PATIENCE).expect("an answer");
                assert!(udp.metadata.truncation, "{udp}");
                assert_empty(&udp, &query);
            }
            let tcp = try_tcp_from(source, server.address(), &query, PATIENCE).expect("an answer");
            assert!(!tcp.metadata.truncation && tcp.answers.len() == 1, "{tcp}");
        }
        let log = stop(server);
        assert_eq!(hits(&log, "www.example. 255"), 5, "{log:#?}");
        enforcer.assert_source_hits(&log, "127.1.7.1", 5);
    }
}

/// A client that is real gets through: dig tries again, and then asks over TCP.
#[test]
fn dig_gets_through_a_slip() {
    for enforcer in Enforcer::available() {
        let rule = r#"
            [[filter.rules]]
            kind = "qname"
            value = "www.example"
            action = "slip"
        "#;
        let server = enforcer.serve(rule);
        let Some(said) = dig(server.address(), &["+tries=2", "+time=1"]) else {
            eprintln!("SKIPPED: this machine has no dig");
            return;
        };
        for words in ["Truncated, retrying in TCP mode", "status: NOERROR", "192.0.2.1", "(TCP)"] {
            assert!(said.contains(words), "{words} is missing: {said}");
        }
        let log = stop(server);
        assert_eq!(hits(&log, "www.example. 255"), 3, "twice over UDP, once over TCP: {log:#?}");
    }
}

/// What dig says to `www.example A`; `None` if there is no dig.
fn dig(server: SocketAddr, options: &[&str]) -> Option<String> {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let query = [&at, "-p", &port, "www.example", "A"];
    let output = Command::new("dig").args(query).args(options).output();
    match output {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn dig_asks_again_over_tcp() {
    let time = format!("+time={}", PATIENCE.as_secs());
    for enforcer in Enforcer::available() {
        let server = enforcer.serve(TRUNCATE);

        let Some(said) = dig(server.address(), &["+tries=1", &time]) else {
            eprintln!("SKIPPED: this machine has no dig");
            return;
        };
        for words in ["Truncated, retrying in TCP mode", "status: NOERROR", "192.0.2.1", "(TCP)"] {
            assert!(said.contains(words), "{words} is missing: {said}");
        }

        let log = stop(server);
        assert_eq!(hits(&log, "www.example. 255"), 2, "once over UDP, once over TCP: {log:#?}");
    }
}

#[test]
fn refused_and_nxdomain_are_answers() {
    for enforcer in Enforcer::available() {
        let server = enforcer.serve(
            r#"
            [[filter.rules]]
            kind = "qname"
            value = "mail.example"
            action = "refused"
            [[filter.rules]]
            kind = "suffix"
            value = "wild.example"
            action = "nxdomain"
            [[filter.rules]]
            kind = "address"
            value = "127.1.5.1"
            action = "refused"
            [[filter.rules]]
            kind = "range"
            value = "127.1.6.0/24"
            action = "nxdomain"
            "#,
        );

        let any = Ipv4Addr::UNSPECIFIED;
        for (source, name, code) in [
            (any, "MAIL.example.", ResponseCode::Refused),
            (any, "any.wild.example.", ResponseCode::NXDomain),
            (Ipv4Addr::new(127, 1, 5, 1), "www.example.", ResponseCode::Refused),
            (Ipv4Addr::new(127, 1, 6, 1), "www.example.", ResponseCode::NXDomain),
        ] {
            for query in both_forms(name) {
                let udp = try_udp_from(source.into(), server.address(), &query, PATIENCE);
                let tcp = try_tcp_from(source.into(), server.address(), &query, PATIENCE);
                for answer in [udp.expect("an answer over UDP"), tcp.expect("an answer over TCP")] {
                    assert_eq!(answer.metadata.response_code, code, "{name} from {source}");
                    assert!(!answer.metadata.truncation, "{answer}");
                    assert_empty(&answer, &query);
                }
            }
        }
        assert_eq!(texts(&ask(server.address(), "www.example.", RecordType::A)), ["192.0.2.1"]);

        let log = stop(server);
        assert_eq!(hits(&log, "mail.example. 255"), 4, "{log:#?}");
        assert_eq!(hits(&log, "*.wild.example. 255"), 4, "{log:#?}");
        enforcer.assert_source_hits(&log, "127.1.5.1", 4);
        enforcer.assert_source_hits(&log, "127.1.6.0/24", 4);
    }
}

#[test]
fn counted_queries_are_answered() {
    for enforcer in Enforcer::available() {
        let server = enforcer.serve(
            r#"
            [[filter.rules]]
            kind = "address"
            value = "127.0.0.1"
            action = "count"
            [[filter.rules]]
            kind = "qname"
            value = "mail.example"
            qtype = ["A", "ALL"]
            action = "count"
            [[filter.rules]]
            kind = "suffix"
            value = "example"
            action = "count"
            [[filter.rules]]
            kind = "suffix"
            value = "."
            qtype = "MX"
            action = "refused"
            "#,
        );

        assert_eq!(texts(&ask(server.address(), "Mail.example.", RecordType::A)), ["192.0.2.25"]);
        let refused = query("example.", RecordType::MX);
        for answer in
            [try_udp(server.address(), &refused, PATIENCE), try_tcp(server.address(), &refused, PATIENCE)]
        {
            let answer = answer.expect("an answer");
            assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "a later rule decides");
        }

        let log = stop(server);
        enforcer.assert_source_hits(&log, "127.0.0.1", 4);
        for (rule, queries) in
            [("mail.example. 1", 2), ("mail.example. 255", 2), ("*.example. 255", 4), ("*. 15", 2)]
        {
            assert_eq!(hits(&log, rule), queries, "{rule}: {log:#?}");
        }
    }
}
