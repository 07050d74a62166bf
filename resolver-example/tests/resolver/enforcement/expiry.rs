//! Rules that end.

use std::time::{Duration, Instant};

use hickory_proto::{op::ResponseCode, rr::RecordType};

use super::enforcer::{Enforcer, hits, number_after, stop};
use crate::harness::{PATIENCE, SILENCE, ask, query, texts, try_udp};

#[test]
fn a_rule_stops_biting_when_its_time_has_passed() {
    for enforcer in Enforcer::available() {
        let before = Instant::now();
        let server = enforcer.serve(
            r#"
            [[filter.rules]]
            kind = "qname"
            value = "www.example"
            expires_in = "1s"
            [[filter.rules]]
            kind = "suffix"
            value = "wild.example"
            action = "refused"
            expires_in = "1h"
            "#,
        );

        // It waits for real: the clock that rules end by is the kernel's, which nobody can put forward.
        let mut unanswered = 0;
        while try_udp(server.address(), &query("www.example.", RecordType::A), SILENCE).is_none() {
            unanswered += 1;
            assert!(before.elapsed() < PATIENCE, "still unanswered");
        }
        assert!(before.elapsed() >= Duration::from_secs(1), "answered too early");
        assert_eq!(texts(&ask(server.address(), "www.example.", RecordType::A)), ["192.0.2.1"]);
        let refused = ask(server.address(), "www.wild.example.", RecordType::A);
        assert_eq!(refused.metadata.response_code, ResponseCode::Refused, "this one still bites");

        let log = stop(server);
        assert_eq!(hits(&log, "*.wild.example. 255"), 2, "{log:#?}");
        let expired = number_after(&log, "expired name rules: 1, with hits: ");
        // An answer can come too late on a busy machine.
        assert!(expired.is_some_and(|hits| hits <= unanswered), "{unanswered} unanswered: {log:#?}");
    }
}
