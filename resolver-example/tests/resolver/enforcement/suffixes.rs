//! Names with all names below them.

use std::{net::SocketAddr, thread};

use hickory_proto::rr::RecordType;

use super::enforcer::{Enforcer, hits, stop};
use crate::harness::{Folder, PATIENCE, SILENCE, query, try_tcp, try_udp};

const ZONE: &str = r#"
@         60 IN SOA ns hostmaster 1 60 60 60 60
evil      60 IN A   192.0.2.66
*.evil    60 IN A   192.0.2.66
notevil   60 IN A   192.0.2.67
*.notevil 60 IN A   192.0.2.67
typed     60 IN A   192.0.2.68
*.typed   60 IN A   192.0.2.68
*.typed   60 IN TXT "text"
"#;

const RULES: &str = r#"
[[zones]]
origin = "test"
file = "test.zone"
[[filter.rules]]
kind = "suffix"
value = "evil.test"
[[filter.rules]]
kind = "suffix"
value = "good.evil.test"
action = "pass"
[[filter.rules]]
kind = "qname"
value = "www.good.evil.test"
[[filter.rules]]
kind = "suffix"
value = "typed.test"
qtype = "TXT"
[[filter.rules]]
kind = "suffix"
value = "test"
action = "count"
"#;

/// Checks that queries are answered with records, or that they are not, over UDP and TCP.
fn assert_answered(server: SocketAddr, name: &str, qtype: RecordType, answered: bool) {
    let query = query(name, qtype);
    let patience = if answered { PATIENCE } else { SILENCE };
    for (transport, answer) in
        [("UDP", try_udp(server, &query, patience)), ("TCP", try_tcp(server, &query, patience))]
    {
        assert_eq!(answer.is_some(), answered, "{name} {qtype} over {transport}");
        assert!(answer.is_none_or(|answer| !answer.answers.is_empty()), "{name} {qtype} over {transport}");
    }
}

#[test]
fn a_suffix_is_blocked_but_for_its_exceptions() {
    for enforcer in Enforcer::available() {
        let folder = Folder::new(&format!("listen.dns = [\"127.0.0.1:0\"]\n{}\n{RULES}", enforcer.mode()));
        folder.write("test.zone", ZONE);
        let server = enforcer.serve_in(1, folder);
        let address = server.address();

        // All at once: silence takes its time.
        thread::scope(|scope| {
            for (name, qtype, answered) in [
                ("evil.test.", RecordType::A, false),
                ("wWw.eViL.tEsT.", RecordType::A, false),
                ("a.b.c.EVIL.TEST.", RecordType::A, false),
                ("notgood.evil.test.", RecordType::A, false),
                ("notevil.test.", RecordType::A, true),
                ("www.notevil.test.", RecordType::A, true),
                ("Good.Evil.Test.", RecordType::A, true),
                ("a.good.evil.test.", RecordType::A, true),
                ("www.good.evil.test.", RecordType::A, false),
                ("typed.test.", RecordType::A, true),
                ("www.typed.test.", RecordType::A, true),
                ("www.TYPED.test.", RecordType::TXT, false),
            ] {
                scope.spawn(move || assert_answered(address, name, qtype, answered));
            }
        });

        let log = stop(server);
        for (rule, queries) in [
            ("*.evil.test. 255", 4),
            ("*.good.evil.test. 255", 2),
            ("www.good.evil.test. 255", 1),
            ("*.typed.test. 16", 1),
            // What no rule before it decides.
            ("*.test. 255", 4),
        ] {
            assert_eq!(hits(&log, rule), 2 * queries, "{rule} over UDP and TCP: {log:#?}");
        }
    }
}
