//! A client that asks the same question again and again.

use std::{
    fs,
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

use hickory_proto::{op::Message, rr::RecordType};

use super::BURST;
use crate::harness::{PATIENCE, SILENCE, query};

/// A client with one UDP socket.
pub(super) struct Client {
    socket: UdpSocket,
    query: Vec<u8>,
}

impl Client {
    pub(super) fn new(source: Ipv4Addr, server: SocketAddr) -> Self {
        Self::asking(source, server, "www.example.")
    }

    pub(super) fn asking(source: Ipv4Addr, server: SocketAddr, name: &str) -> Self {
        let socket = UdpSocket::bind((IpAddr::from(source), 0)).expect("a socket");
        socket.connect(server).expect("a route");
        Self { socket, query: query(name, RecordType::A).to_vec().expect("a message") }
    }

    /// Sends the query.
    pub(super) fn send(&self) {
        self.socket.send(&self.query).expect("it is sent");
    }

    /// The next answer, if it comes in time.
    pub(super) fn answer(&self, patience: Duration) -> Option<Message> {
        let mut buffer = [0; 4096];
        self.socket.set_read_timeout(Some(patience)).expect("a timeout");
        match self.socket.recv(&mut buffer) {
            Ok(length) => Some(Message::from_vec(&buffer[..length]).expect("a message")),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(&self, patience: Duration) -> Option<Message> {
        self.send();
        self.answer(patience)
    }

    /// Asks so often, one after the other; all has to be answered.
    pub(super) fn ask_times(&self, times: usize) {
        for time in 0..times {
            assert!(self.ask(PATIENCE).is_some(), "query {time}");
        }
    }

    /// Asks one after the other until there is no answer: by a rate of 20 a second over ten seconds, that is the 201st query, or
    /// later by 20 for each second that this takes.
    pub(super) fn ask_too_much(&self) {
        let start = Instant::now();
        let mut answered = 0;
        let mut asked = start.elapsed();
        while self.ask(SILENCE).is_some() {
            answered += 1;
            asked = start.elapsed();
        }
        let more = asked.as_millis() / 50 + 1;
        let most = BURST + usize::try_from(more).expect("it does not take for ever");
        assert!((BURST..=most).contains(&answered), "{answered} answers in {asked:?}");
    }

    /// The answers that have come by now.
    pub(super) fn waiting(&self) -> Vec<Message> {
        std::iter::from_fn(|| self.answer(Duration::from_millis(1))).collect()
    }
}

/// How many packets the kernel has dropped at the UDP sockets of this address, for lack of room or because of a filter:
/// `drops` in proc(5).
pub(super) fn kernel_drops(server: SocketAddr) -> u64 {
    let port = format!(":{:04X}", server.port());
    let sockets = fs::read_to_string("/proc/net/udp").expect("procfs");
    sockets
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|columns| columns.get(1).is_some_and(|local| local.ends_with(&port)))
        .filter_map(|columns| columns.last()?.parse::<u64>().ok())
        .sum()
}
