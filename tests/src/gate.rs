//! Guarded sockets behind an interface whose packets the test has made, so that each is sent once.

use std::{
    cell::Cell,
    iter,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
};

use ebpf_filter::{BpfFilter, Malformed, Match, Mode, Qtypes};

use crate::{
    dns::{A, query},
    hits,
    netns::{self, SERVER4, SERVER6},
    packet::{ACK, Ends, PSH, SYN, Segment},
    tcp,
    tun::{BLOCKED4, BLOCKED6, CLIENT4, CLIENT6, Tun},
    wire,
};

/// The port of clients over UDP.
const PORT: u16 = 5353;

/// The first segment of every connection.
const FIRST: Segment = Segment { flags: SYN, sequence: 1000, acknowledgment: 0 };

/// Datagrams, each with from whom it is and to whom.
pub type Datagrams = [(Ends, Vec<u8>); 3];

/// A filter that drops what comes from [`BLOCKED4`] and [`BLOCKED6`], all queries for evil.example, and what it cannot read.
#[track_caller]
fn filter() -> BpfFilter {
    let filter =
        BpfFilter::builder().malformed(Malformed::Drop).mode(Mode::Require).build().expect("the kernel can");
    filter.block(BLOCKED4).expect("there is room");
    filter.block(BLOCKED6).expect("there is room");
    filter.block_qname(&"evil.example".parse().expect("a name"), Qtypes::All).expect("there is room");
    filter
}

/// What such a filter has counted at a server: from the blocked client of that protocol, and for the name.
#[track_caller]
fn assert_hits(filter: &BpfFilter, server: SocketAddr, source: u64, name: u64, what: &str) {
    let (ipv4, ipv6) = if server.is_ipv4() { (source, 0) } else { (0, source) };
    let stats = filter.stats().expect("the kernel counts");
    let expected = format!("{BLOCKED4}: {ipv4}\n[{BLOCKED6}]: {ipv6}\nevil.example. 255: {name}\n");
    assert_eq!(stats.to_string(), expected, "{what}");
    assert_eq!(stats.malformed_total(), 0, "{what}");
}

/// The client that is blocked, and the other, of the protocol of this server.
fn clients(server: SocketAddr) -> [IpAddr; 2] {
    if server.is_ipv4() { [BLOCKED4.into(), CLIENT4.into()] } else { [BLOCKED6.into(), CLIENT6.into()] }
}

/// A UDP socket and its filter.
#[derive(Debug)]
pub struct Gate {
    filter: BpfFilter,
    server: UdpSocket,
    rounds: Cell<u64>,
}

impl Gate {
    /// The socket takes IPv4.
    #[track_caller]
    pub fn ipv4() -> Self {
        Self::at(SERVER4)
    }

    /// The socket takes IPv6.
    #[track_caller]
    pub fn ipv6() -> Self {
        Self::at(SERVER6)
    }

    #[track_caller]
    fn at(address: &str) -> Self {
        let server = UdpSocket::bind((address, 0)).expect("a free port");
        let filter = filter();
        filter.attach(&server).expect("a UDP socket");
        Self { filter, server, rounds: Cell::new(0) }
    }

    /// Sends a query of a blocked client, one of another client for a blocked name, and one of that client for another
    /// name. The last arrives, the others are dropped by their rules, and no rule counts anything else.
    #[track_caller]
    pub fn assert_bites(&self, what: &str, send: impl Fn(Ends, &[u8])) {
        self.assert_bites_all(what, |datagrams| {
            for (ends, payload) in datagrams {
                send(*ends, payload);
            }
        });
    }

    /// The same, for a test that sends all three at once.
    #[track_caller]
    pub fn assert_bites_all(&self, what: &str, send: impl FnOnce(&Datagrams)) {
        let to = self.server.local_addr().expect("it is bound");
        let [blocked, client] = clients(to).map(|address| SocketAddr::new(address, PORT));
        let [good, evil] = ["good.example.", "evil.example."].map(|name| query(name, A));
        send(&[((blocked, to), good.clone()), ((client, to), evil), ((client, to), good.clone())]);

        assert_eq!(wire::receive(&self.server), (client, good), "{what}");
        wire::assert_empty(&self.server);
        let rounds = self.rounds.get() + 1;
        self.rounds.set(rounds);
        assert_hits(&self.filter, to, rounds, rounds, what);
    }
}

/// A TCP listener and its filter.
#[derive(Debug)]
pub struct TcpGate {
    tun: Tun,
    filter: BpfFilter,
    listener: TcpListener,
    rounds: Cell<u16>,
}

impl TcpGate {
    /// The listener takes IPv4, and answers to this interface.
    #[track_caller]
    pub fn ipv4(tun: Tun) -> Self {
        Self::at(tun, SERVER4)
    }

    /// The listener takes IPv6, and answers to this interface.
    #[track_caller]
    pub fn ipv6(tun: Tun) -> Self {
        Self::at(tun, SERVER6)
    }

    #[track_caller]
    fn at(tun: Tun, address: &str) -> Self {
        // An answer that comes again would be taken for another one.
        netns::set_sysctl("ipv4/tcp_synack_retries", 0);
        let listener = TcpListener::bind((address, 0)).expect("a free port");
        let filter = filter();
        filter.attach(&listener).expect("a TCP socket");
        Self { tun, filter, listener, rounds: Cell::new(0) }
    }

    /// A blocked client and another one want to connect, and only the other is answered. Its connection is then filtered
    /// as well, once it is blocked.
    #[track_caller]
    pub fn assert_bites(&self, what: &str, send: impl Fn(&Tun, Ends, Segment, &[u8])) {
        let send = |ends, segment, payload: &[u8]| send(&self.tun, ends, segment, payload);
        let to = self.listener.local_addr().expect("it is bound");
        let rounds = self.rounds.get() + 1;
        self.rounds.set(rounds);
        let [blocked, client] = clients(to);
        let [blocked, client] = [(blocked, 40_000 + rounds), (client, 50_000 + rounds)].map(SocketAddr::from);
        send((blocked, to), FIRST, &[]);
        send((client, to), FIRST, &[]);
        let next = self.assert_answers(client, what);
        assert_hits(&self.filter, to, rounds.into(), 0, what);
        self.assert_filters_connection((client, to), next, what, send);
        tcp::assert_no_connection(&self.listener);
    }

    /// The server answers to the first segment of this client, and has answered no other first segment before. Returns the
    /// segment with which the client goes on.
    #[track_caller]
    fn assert_answers(&self, client: SocketAddr, what: &str) -> Segment {
        let server = self.listener.local_addr().expect("it is bound");
        let (ports, answer) = iter::repeat_with(|| self.tun.receive_tcp())
            .find(|(_, segment)| segment.flags & SYN != 0)
            .expect("there is no end of them");
        let expected =
            Segment { flags: SYN | ACK, sequence: answer.sequence, acknowledgment: FIRST.sequence + 1 };
        // After a source route the answer goes to an address on the way back, so only the ports say to whom.
        assert_eq!((ports, answer), ((server.port(), client.port()), expected), "{what}");
        Segment { flags: ACK | PSH, sequence: answer.acknowledgment, acknowledgment: answer.sequence + 1 }
    }

    /// Names are not looked for here: the query is for a name that is blocked.
    #[track_caller]
    fn assert_filters_connection(
        &self,
        ends: Ends,
        next: Segment,
        what: &str,
        send: impl Fn(Ends, Segment, &[u8]),
    ) {
        let query = query("evil.example.", A);
        let len = u16::try_from(query.len()).expect("a message fits");
        let message = [&len.to_be_bytes(), &query[..]].concat();
        send(ends, next, &message);
        let (server, from) = tcp::accept(&self.listener);
        assert_eq!(from, ends.0, "{what}");
        assert_eq!(tcp::read_message(&server), query, "{what}");

        let client = ends.0.ip();
        self.filter.block(client).expect("there is room");
        let next = Segment { sequence: next.sequence + 2 + u32::from(len), ..next };
        send(ends, next, &message);
        tcp::assert_no_data(&server);
        assert_eq!(hits(&self.filter, &Match::address(client)), 1, "{what}");
        self.filter.unblock(client).expect("it was blocked");
        send(ends, next, &message);
        assert_eq!(tcp::read_message(&server), query, "{what}");
    }
}
