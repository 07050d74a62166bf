//! TCP: a listener drops what a blocked source sends to open a connection, and accepted connections inherit its filter,
//! which looks at sources and at nothing else.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
};

use ebpf_filter::{BpfFilter, Malformed, Match, Mode, Qtypes};
use ebpf_filter_tests::{
    dns::{A, query},
    hits, require_kernel, tcp,
    wire::Wire,
};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 5, 1));
const BYSTANDER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 5, 2));

struct Guarded {
    filter: BpfFilter,
    listener: TcpListener,
    /// Says when the kernel has decided on what was sent.
    fence: Wire,
}

impl Guarded {
    fn new() -> Self {
        let filter = BpfFilter::builder().malformed(Malformed::Drop).mode(Mode::Require).build().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        filter.attach(&listener).unwrap();
        Self { filter, listener, fence: Wire::ipv4() }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// The kernel has dropped something that the client sent.
    #[track_caller]
    fn assert_dropped_some(&self) {
        self.fence.settle();
        assert_ne!(hits(&self.filter, &Match::address(CLIENT)), 0);
    }
}

#[test]
fn a_blocked_source_cannot_connect() {
    require_kernel!();
    let guarded = Guarded::new();
    let Guarded { filter, listener, .. } = &guarded;
    filter.block(CLIENT).unwrap();
    let stuck = tcp::start_connecting(CLIENT, guarded.address());
    guarded.assert_dropped_some();
    // The one behind it gets through, and gets through first.
    let (_client, _server) = tcp::pair(BYSTANDER, listener);
    tcp::assert_no_connection(listener);
    assert!(stuck.peer_addr().is_err(), "connected");
    assert!(stuck.take_error().unwrap().is_none(), "the client was told something");
}

/// The client asks again after a second, by itself.
#[test]
fn an_unblocked_source_connects_at_its_next_attempt() {
    require_kernel!();
    let guarded = Guarded::new();
    let Guarded { filter, listener, .. } = &guarded;
    filter.block(CLIENT).unwrap();
    let client = tcp::start_connecting(CLIENT, guarded.address());
    guarded.assert_dropped_some();
    filter.unblock(CLIENT).unwrap();
    let (_server, from) = tcp::accept(listener);
    assert_eq!(Some(from), client.local_addr().unwrap().as_socket());
}

#[test]
fn an_accepted_connection_inherits_the_filter() {
    require_kernel!();
    let guarded = Guarded::new();
    let Guarded { filter, listener, .. } = &guarded;
    let (client, server) = tcp::pair(CLIENT, listener);
    let (bystander, bystanders) = tcp::pair(BYSTANDER, listener);
    let query = query("example.", A);
    tcp::assert_answers(&client, &server, &query);

    filter.block(CLIENT).unwrap();
    tcp::write_message(&client, &query);
    guarded.assert_dropped_some();
    tcp::assert_answers(&bystander, &bystanders, &query);
    tcp::assert_no_data(&server);

    // What was dropped was not acknowledged, so it comes again.
    filter.unblock(CLIENT).unwrap();
    assert_eq!(tcp::read_message(&server), query);
}

#[test]
fn a_connection_keeps_the_filter_that_the_listener_loses() {
    require_kernel!();
    let guarded = Guarded::new();
    let Guarded { filter, listener, .. } = &guarded;
    let (client, server) = tcp::pair(CLIENT, listener);
    filter.block(CLIENT).unwrap();
    filter.detach(listener).unwrap();
    let (new_client, new_server) = tcp::pair(CLIENT, listener);
    let query = query("example.", A);
    tcp::assert_answers(&new_client, &new_server, &query);
    tcp::write_message(&client, &query);
    guarded.assert_dropped_some();
    tcp::assert_no_data(&server);

    filter.detach(&server).unwrap();
    assert_eq!(tcp::read_message(&server), query);
}

#[test]
fn a_connection_can_be_filtered_alone() {
    require_kernel!();
    let guarded = Guarded::new();
    let Guarded { filter, listener, .. } = &guarded;
    filter.detach(listener).unwrap();
    filter.block(CLIENT).unwrap();
    let (client, server) = tcp::pair(CLIENT, listener);
    filter.attach(&server).unwrap();
    let query = query("example.", A);
    tcp::write_message(&client, &query);
    guarded.assert_dropped_some();
    tcp::assert_no_data(&server);
    filter.unblock(CLIENT).unwrap();
    assert_eq!(tcp::read_message(&server), query);
}

/// At a TCP socket the data starts with the TCP header, so a program that looked for a name would find anything. This one
/// must not look: messages that cannot be read are dropped here, and a rule matches what stands where a name would.
#[test]
fn names_are_not_looked_for() {
    require_kernel!();
    let guarded = Guarded::new();
    let Guarded { filter, listener, .. } = &guarded;
    filter.block_qname(&"example".parse().unwrap(), Qtypes::All).unwrap();
    let (client, server) = tcp::pair(CLIENT, listener);
    let query = query("example.", A);
    tcp::assert_answers(&client, &server, &query);
    for junk in [&[0; 1][..], &[0xff; 100], &query[..]] {
        (&client).write_all(junk).unwrap();
    }
    let mut received = vec![0; 101 + query.len()];
    std::io::Read::read_exact(&mut &server, &mut received).unwrap();
    assert_eq!(filter.stats().unwrap().to_string(), "example. 255: 0\n");
    assert_eq!(filter.stats().unwrap().malformed_total(), 0);
}
