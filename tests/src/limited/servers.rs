//! Servers with the same limit: one that uses the library, and dnsdist.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle, sleep},
    time::{Duration, Instant},
};

use ebpf_filter::{
    BpfFilter, Mode, Verdict,
    dynblock::{DynBlockGroup, Penalty, QueryEvent, Rate},
};

use super::{LIMIT, Result, WINDOW};
use crate::{
    dns::{A, query},
    dnsdist,
};

/// A server that can be flooded.
pub trait Server {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// The number of the last query that the kernel let through, if the server knows.
    fn last_received(&self) -> Option<usize> {
        None
    }
}

/// A thread that answers each query with the query, unless the group says otherwise.
#[derive(Debug)]
pub struct Ours {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    received: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Ours {
    /// Blocks for so long.
    ///
    /// # Errors
    ///
    /// If the kernel cannot enforce the filter.
    pub fn start(block: Duration) -> Result<Self> {
        let filter = BpfFilter::builder().mode(Mode::Require).build()?;
        let group = DynBlockGroup::builder()
            .filter(filter.clone())
            .query_rate(Rate::per_second(LIMIT).over(WINDOW), Penalty::block_for(block))
            .quiet()
            .build()?;
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        filter.attach(&socket)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let address = socket.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let received = Arc::new(AtomicUsize::new(0));
        let shared = (Arc::clone(&stop), Arc::clone(&received));
        let thread = thread::spawn(move || answer(&socket, &group, &shared.0, &shared.1));
        Ok(Self { address, stop, received, thread: Some(thread) })
    }
}

fn answer(socket: &UdpSocket, group: &DynBlockGroup, stopped: &AtomicBool, received: &AtomicUsize) {
    let Ok(name) = "www.example".parse() else { return };
    let mut message = [0; 512];
    while !stopped.load(Ordering::Relaxed) {
        let Ok((len, client)) = socket.recv_from(&mut message) else { continue };
        received.store(usize::from(u16::from_be_bytes([message[0], message[1]])), Ordering::Relaxed);
        if group.observe_query(&QueryEvent::new(client, &name, A)) == Verdict::Pass {
            // The client may have gone.
            let _ = socket.send_to(&message[..len], client);
        }
    }
}

impl Server for Ours {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn last_received(&self) -> Option<usize> {
        Some(self.received.load(Ordering::Relaxed))
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has reported its panic.
            let _ = thread.join();
        }
    }
}

/// dnsdist, which answers by itself. It looks for floods once a second, and for blocks that have ended.
#[derive(Debug)]
pub struct Dnsdist {
    address: SocketAddr,
    _process: dnsdist::Dnsdist,
}

impl Dnsdist {
    /// Blocks for so long.
    ///
    /// # Errors
    ///
    /// If dnsdist does not start.
    pub fn start(block: Duration) -> Result<Self> {
        let address = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
        let config = format!(
            "setSecurityPollSuffix(\"\")\n\
             setLocal(\"{address}\")\n\
             addAction(AllRule(), SpoofAction(\"192.0.2.1\"))\n\
             filter = newBPFFilter(1024, 1024, 1024)\n\
             setDefaultBPFFilter(filter)\n\
             setDynBlocksPurgeInterval(1)\n\
             local dbr = dynBlockRulesGroup()\n\
             dbr:setQueryRate({LIMIT}, {}, \"Exceeded query rate\", {})\n\
             function maintenance() dbr:apply() end\n",
            WINDOW.as_secs(),
            block.as_secs(),
        );
        let mut process = dnsdist::Dnsdist::spawn(&config)?;
        let deadline = Instant::now() + Duration::from_secs(15);
        while !answers(address)? {
            if let Some(status) = process.ended()? {
                return Err(process.failure(&format!("ended with {status}")));
            }
            if Instant::now() > deadline {
                return Err(process.failure("does not get ready"));
            }
            sleep(Duration::from_millis(50));
        }
        Ok(Self { address, _process: process })
    }
}

fn answers(server: SocketAddr) -> Result<bool> {
    let socket = UdpSocket::bind("127.0.9.2:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    match socket.send(&query("www.example.", A)).and_then(|_| socket.recv(&mut [0; 512])) {
        Ok(_) => Ok(true),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::WouldBlock) =>
        {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

impl Server for Dnsdist {
    fn address(&self) -> SocketAddr {
        self.address
    }
}
