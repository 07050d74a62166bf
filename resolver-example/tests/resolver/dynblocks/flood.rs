//! One client floods, over UDP and TCP.

use std::{
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use hickory_proto::rr::RecordType;

use super::{
    BURST, FRIEND, HOSTILE, blocks_of,
    client::{Client, kernel_drops},
    query_rate, serve,
};
use crate::{
    enforcement::enforcer::{Enforcer, hits, stop},
    harness::{PATIENCE, SILENCE, kernel_enforces, query, try_connect_from, try_tcp_from},
};

#[test]
fn the_query_above_the_limit_is_the_first_without_an_answer() {
    for enforcer in Enforcer::available() {
        let server = serve(enforcer, &query_rate("block_for = \"60s\""));
        let address = server.address();
        let (hostile, friend) = (Client::new(HOSTILE, address), Client::new(FRIEND, address));
        hostile.ask_too_much();
        assert!(hostile.ask(SILENCE).is_none());
        assert!(friend.ask(PATIENCE).is_some());
        let soa = query("example.", RecordType::SOA);
        assert!(try_tcp_from(HOSTILE.into(), address, &soa, SILENCE).is_none(), "over TCP as well");
        let log = stop(server);
        assert_eq!(blocks_of(&log, "127.0.0.2/32"), 1, "{log:#?}");
        assert!(log.iter().any(|line| line.contains("dynamic blocks: 1 active, 1 inserted")), "{log:#?}");
    }
}

/// The clock starts before the query above the limit is sent, and stops when the kernel has dropped one that came after it. Both
/// the way to the server and a look into procfs are in that time.
#[test]
fn the_kernel_drops_from_the_query_above_the_limit_on() {
    if !kernel_enforces() {
        return;
    }
    // As many at once, but a machine that is busy gets no more of them answered.
    let rule = "[[dynblocks.rules]]\nkind = \"query-rate\"\nrate = 1\nwindow = \"200s\"\nblock_for = \"60s\"";
    let server = serve(Enforcer::Kernel, rule);
    let address = server.address();
    let mut times: Vec<_> = (0..10)
        .map(|host| {
            let client = Client::new(Ipv4Addr::new(127, 0, 9, 10 + host), address);
            client.ask_times(BURST);
            let before = kernel_drops(address);
            let crossing = Instant::now();
            client.send();
            while kernel_drops(address) == before {
                assert!(crossing.elapsed() < PATIENCE, "the kernel drops nothing");
                client.send();
            }
            crossing.elapsed()
        })
        .collect();
    times.sort_unstable();
    println!("from the query above the limit to the first drop in the kernel: {times:?}");
    // Without optimisation, and on a busy machine.
    assert!(times[0] < Duration::from_millis(20), "{times:?}");
    let log = stop(server);
    for host in 10..20 {
        assert!(hits(&log, &format!("127.0.9.{host}")) >= 1, "{log:#?}");
    }
}

#[test]
fn a_block_lasts_as_long_as_the_flood_and_no_longer() {
    const BLOCK: Duration = Duration::from_secs(2);
    const FLOOD: Duration = Duration::from_secs(7);
    for enforcer in Enforcer::available() {
        let server = serve(enforcer, &query_rate("block_for = \"2s\""));
        let address = server.address();
        let (hostile, friend) = (Client::new(HOSTILE, address), Client::new(FRIEND, address));
        let start = Instant::now();
        let (answers, last) = thread::scope(|scope| {
            let flood = scope.spawn(|| {
                let mut answers = Vec::new();
                while start.elapsed() < FLOOD {
                    hostile.send();
                    if hostile.answer(Duration::from_millis(2)).is_some() {
                        answers.push(start.elapsed());
                    }
                }
                (answers, Instant::now())
            });
            while start.elapsed() < FLOOD {
                assert!(friend.ask(PATIENCE).is_some());
                // So that the friend stays below the limit.
                thread::sleep(Duration::from_millis(100));
            }
            flood.join().expect("no panic")
        });
        assert!(answers.len() >= BURST, "{}", answers.len());
        let last_answer = answers.last().expect("there are some");
        println!("{} answers, the last after {last_answer:?}", answers.len());
        assert!(*last_answer < BLOCK, "no answer comes when a block is due to end");

        thread::sleep((BLOCK + Duration::from_millis(100)).saturating_sub(last.elapsed()));
        assert!(hostile.ask(PATIENCE).is_some(), "after silence for as long as the block");

        let log = stop(server);
        assert_eq!(blocks_of(&log, "127.0.0.2/32"), 1, "{log:#?}");
        assert_eq!(blocks_of(&log, "127.0.0.4/32"), 0, "{log:#?}");
    }
}

#[test]
fn a_flood_over_tcp_is_dropped_too() {
    for enforcer in Enforcer::available() {
        let server = serve(enforcer, &query_rate("block_for = \"60s\""));
        let (address, soa) = (server.address(), query("example.", RecordType::SOA));
        let answered = (0..2 * BURST)
            .take_while(|_| try_tcp_from(HOSTILE.into(), address, &soa, SILENCE).is_some())
            .count();
        assert!((BURST..2 * BURST).contains(&answered), "{answered}");
        if enforcer == Enforcer::Kernel {
            assert!(try_connect_from(HOSTILE.into(), address, SILENCE).is_none(), "the SYN is dropped");
        }
        assert!(Client::new(HOSTILE, address).ask(SILENCE).is_none(), "over UDP as well");
        assert!(try_tcp_from(FRIEND.into(), address, &soa, PATIENCE).is_some());
        stop(server);
    }
}
