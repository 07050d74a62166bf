//! A UDP socket that a filter guards, and its clients.
//!
//! Nobody can wait for a packet that does not come. So what should be dropped is followed by a marker, which passes:
//! loopback hands over in order what one CPU sends, and a socket queues in order, so whatever arrives at all
//! arrives before the marker.

use std::{
    cell::Cell,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::dns;

/// How long a packet that has to come may take. Only a test that fails waits for it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The length of the longest datagram.
const LONGEST: usize = 0xffff;

/// A guarded UDP socket, and a client that no rule of the test matches.
#[derive(Debug)]
pub struct Wire {
    server: UdpSocket,
    marker: UdpSocket,
    markers: Cell<u32>,
}

impl Wire {
    /// `server` is bound, to an address that `bystander` reaches, from where the markers come.
    ///
    /// From now on this thread stays on its CPU, or packets might overtake each other.
    #[track_caller]
    pub fn new(server: UdpSocket, bystander: IpAddr) -> Self {
        let marker = client(bystander, server.local_addr().expect("it is bound"));
        Self::with_marker(server, marker)
    }

    /// The markers come from this socket, which is connected to `server`, and take the way that they share with whatever
    /// the test sends. Else as [`Wire::new`].
    #[track_caller]
    pub fn with_marker(server: UdpSocket, marker: UdpSocket) -> Self {
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        sched_setaffinity(None, &here).expect("a thread may stay where it is");
        Self { server, marker, markers: Cell::new(0) }
    }

    /// A server at 127.0.0.1, with a bystander at the same address.
    #[track_caller]
    pub fn ipv4() -> Self {
        let localhost = IpAddr::from(Ipv4Addr::LOCALHOST);
        Self::new(UdpSocket::bind((localhost, 0)).expect("a free port"), localhost)
    }

    /// The guarded socket.
    pub const fn server(&self) -> &UdpSocket {
        &self.server
    }

    /// Where the server is.
    pub fn address(&self) -> SocketAddr {
        self.server.local_addr().expect("it is bound")
    }

    /// A client at this address.
    #[track_caller]
    pub fn client(&self, source: impl Into<IpAddr>) -> UdpSocket {
        client(source.into(), self.address())
    }

    /// What arrives at the server of all that `send` sends from this thread.
    #[track_caller]
    pub fn arrivals(&self, send: impl FnOnce()) -> Vec<(SocketAddr, Vec<u8>)> {
        send();
        let number = self.markers.get();
        self.markers.set(number + 1);
        let marker = dns::query(&format!("marker-{number}.invalid."), dns::A);
        self.marker.send(&marker).expect("the marker is sent");
        let mut arrivals = Vec::new();
        loop {
            let (from, datagram) = receive(&self.server);
            if datagram == marker {
                return arrivals;
            }
            arrivals.push((from, datagram));
        }
    }

    /// Waits until the kernel has decided on everything that this thread has sent, to whatever socket.
    #[track_caller]
    pub fn settle(&self) {
        assert_eq!(self.arrivals(|| ()), []);
    }

    /// Whether the server gets this datagram.
    #[track_caller]
    pub fn passes(&self, client: &UdpSocket, datagram: &[u8]) -> bool {
        let arrivals = self.arrivals(|| send(client, datagram));
        match arrivals.as_slice() {
            [] => false,
            [(from, arrived)] if arrived == datagram && from.port() == port_of(client) => true,
            others => panic!("sent {datagram:02x?}, received {others:02x?}"),
        }
    }

    /// The server gets this datagram.
    #[track_caller]
    pub fn assert_passes(&self, client: &UdpSocket, datagram: &[u8]) {
        assert!(self.passes(client, datagram), "this was dropped: {datagram:02x?}");
    }

    /// The server does not get this datagram.
    #[track_caller]
    pub fn assert_drops(&self, client: &UdpSocket, datagram: &[u8]) {
        assert!(!self.passes(client, datagram), "this was let through: {datagram:02x?}");
    }

    /// The server gets this query, answers it, and the client gets the answer.
    #[track_caller]
    pub fn assert_answers(&self, client: &UdpSocket, query: &[u8]) {
        send(client, query);
        let (from, received) = receive(&self.server);
        assert_eq!(received, query);
        self.server.send_to(&dns::answer(&received), from).expect("the answer is sent");
        let (_, answer) = receive(client);
        dns::assert_is_answer(&answer, query);
    }
}

/// A socket at `source` and any port, connected to `server`.
#[track_caller]
pub fn client(source: IpAddr, server: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind((source, 0)).unwrap_or_else(|error| panic!("cannot bind {source}: {error}"));
    client.connect(server).unwrap_or_else(|error| panic!("no way from {source} to {server}: {error}"));
    client
}

/// Sends one datagram.
#[track_caller]
pub fn send(client: &UdpSocket, datagram: &[u8]) {
    assert_eq!(client.send(datagram).expect("the datagram is sent"), datagram.len());
}

/// The next datagram, and where it came from.
#[track_caller]
pub fn receive(socket: &UdpSocket) -> (SocketAddr, Vec<u8>) {
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut datagram = vec![0; LONGEST];
    match socket.recv_from(&mut datagram) {
        Ok((len, from)) => {
            datagram.truncate(len);
            (from, datagram)
        }
        Err(error) => panic!("nothing arrives: {error}"),
    }
}

/// Nothing waits in the receive queue of this socket.
#[track_caller]
pub fn assert_empty(socket: &UdpSocket) {
    socket.set_nonblocking(true).expect("a flag");
    let received = socket.recv_from(&mut vec![0; LONGEST]).map_err(|error| error.kind());
    assert_eq!(received, Err(io::ErrorKind::WouldBlock));
    socket.set_nonblocking(false).expect("a flag");
}

/// Moves this thread to another CPU than the `index`th of those that it may use, if there are several.
pub fn move_to_cpu(allowed: &CpuSet, index: usize) {
    let cpus: Vec<_> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    let mut one = CpuSet::new();
    one.set(cpus[index % cpus.len()]);
    sched_setaffinity(None, &one).expect("one of the CPUs that it may use");
}

/// The CPUs that this thread may use.
pub fn allowed_cpus() -> CpuSet {
    sched_getaffinity(None).expect("every thread may ask")
}

fn port_of(client: &UdpSocket) -> u16 {
    client.local_addr().expect("it is bound").port()
}
