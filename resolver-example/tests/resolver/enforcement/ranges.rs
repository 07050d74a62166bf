//! Ranges of sources.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use hickory_proto::rr::RecordType;

use super::enforcer::{Enforcer, stop};
use crate::harness::{Folder, PATIENCE, SILENCE, query, try_tcp_from, try_udp_from};

/// Checks that clients at `source` are answered, or that they are not, over UDP and TCP.
fn assert_answered(source: impl Into<IpAddr>, server: SocketAddr, answered: bool) {
    let (source, query) = (source.into(), query("example.", RecordType::SOA));
    let patience = if answered { PATIENCE } else { SILENCE };
    assert_eq!(try_udp_from(source, server, &query, patience).is_some(), answered, "{source} over UDP");
    assert_eq!(try_tcp_from(source, server, &query, patience).is_some(), answered, "{source} over TCP");
}

#[test]
fn a_range_is_blocked_but_for_its_exceptions() {
    for enforcer in Enforcer::available() {
        let server = enforcer.serve(
            r#"
            [[filter.rules]]
            kind = "range"
            value = "127.1.2.77/24"
            [[filter.rules]]
            kind = "address"
            value = "127.1.2.3"
            action = "pass"
            [[filter.rules]]
            kind = "range"
            value = "127.1.2.64/26"
            action = "pass"
            [[filter.rules]]
            kind = "address"
            value = "127.1.2.65"
            "#,
        );

        for (host, answered) in [
            ([127, 1, 2, 1], false),
            ([127, 1, 2, 3], true),
            ([127, 1, 2, 64], true),
            ([127, 1, 2, 65], false),
            ([127, 1, 3, 1], true),
        ] {
            assert_answered(Ipv4Addr::from(host), server.address(), answered);
        }

        let log = stop(server);
        for rule in ["127.1.2.0/24", "127.1.2.3", "127.1.2.64/26", "127.1.2.65"] {
            enforcer.assert_source_hits(&log, rule, 2);
        }
    }
}

#[test]
fn a_range_of_every_ipv6_address_has_no_ipv4_address_in_it() {
    if UdpSocket::bind("[::1]:0").is_err() {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    }
    for enforcer in Enforcer::available() {
        let config = format!(
            "listen.dns = [\"127.0.0.1:0\", \"[::1]:0\"]\n{}\n[[filter.rules]]\nkind = \"range\"\nvalue = \"::/0\"",
            enforcer.mode()
        );
        let server = enforcer.serve_in(2, Folder::new(&config));

        assert_answered(Ipv4Addr::LOCALHOST, server.addresses[0], true);
        assert_answered(Ipv6Addr::LOCALHOST, server.addresses[1], false);

        let log = stop(server);
        enforcer.assert_source_hits(&log, "[::/0]", 2);
    }
}

#[test]
fn rules_that_count_let_other_rules_decide() {
    for enforcer in Enforcer::available() {
        let server = enforcer.serve(
            r#"
            [[filter.rules]]
            kind = "range"
            value = "127.1.2.0/24"
            action = "count"
            [[filter.rules]]
            kind = "range"
            value = "127.1.0.0/16"
            "#,
        );

        assert_answered(Ipv4Addr::new(127, 1, 2, 1), server.address(), false);
        assert_answered(Ipv4Addr::LOCALHOST, server.address(), true);

        let log = stop(server);
        enforcer.assert_source_hits(&log, "127.1.2.0/24", 2);
        enforcer.assert_source_hits(&log, "127.1.0.0/16", 2);
    }
}
