//! Floods from forged sources: the victim keeps its answers over TCP.

use std::thread;

use hickory_proto::rr::RecordType;

use super::{BURST, HOSTILE, client::Client, query_rate, serve};
use crate::{
    enforcement::enforcer::{Enforcer, stop},
    harness::{PATIENCE, SILENCE, query, try_tcp_from, try_udp_from},
};

#[test]
fn the_victim_of_a_forged_flood_is_answered_over_tcp() {
    for enforcer in Enforcer::available() {
        let server = serve(enforcer, &query_rate("block_for = \"60s\"\nladder = true"));
        let (address, soa) = (server.address(), query("example.", RecordType::SOA));
        let victim_is_answered = || try_tcp_from(HOSTILE.into(), address, &soa, PATIENCE).is_some();

        // Whoever forges the source of this client gets no answers, so nobody waits for them here either.
        let forger = Client::new(HOSTILE, address);
        while forger.ask(SILENCE).is_some_and(|answer| !answer.metadata.truncation) {}
        for _ in 0..100 {
            forger.send();
        }
        thread::sleep(SILENCE);
        let answers = forger.waiting();
        assert!((40..=60).contains(&answers.len()), "about every second: {}", answers.len());
        assert!(answers.iter().all(|answer| answer.metadata.truncation && answer.answers.is_empty()));
        assert!(victim_is_answered());

        // No more at a time than the server has room for in its queue.
        let udp_is_answered =
            || (0..4).any(|_| try_udp_from(HOSTILE.into(), address, &soa, SILENCE).is_some());
        let mut floods = 0;
        while floods < 100 || udp_is_answered() {
            for _ in 0..BURST / 2 {
                forger.send();
            }
            forger.waiting();
            floods += 1;
            assert!(floods < 200, "UDP is still answered");
        }
        assert!(victim_is_answered(), "also above the second limit");

        // Not even the victim may exceed the limit where nobody can forge it: two queries over TCP were asked above.
        let answered = (2..2 * BURST)
            .take_while(|_| try_tcp_from(HOSTILE.into(), address, &soa, SILENCE).is_some())
            .count();
        assert!((BURST - 2..2 * BURST - 2).contains(&answered), "{answered}");
        stop(server);
    }
}

#[test]
fn truncation_sends_clients_to_tcp() {
    for enforcer in Enforcer::available() {
        let server = serve(enforcer, &query_rate("block_for = \"60s\"\naction = \"truncate\""));
        let (address, soa) = (server.address(), query("example.", RecordType::SOA));
        let client = Client::new(HOSTILE, address);
        client.ask_times(BURST);
        while client.ask(PATIENCE).is_some_and(|answer| !answer.metadata.truncation) {}
        for _ in 0..10 {
            let answer = client.ask(PATIENCE).expect("an answer");
            assert!(answer.metadata.truncation && answer.answers.is_empty());
        }
        assert!(try_tcp_from(HOSTILE.into(), address, &soa, PATIENCE).is_some());
        stop(server);
    }
}
