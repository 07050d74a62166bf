//! A server is killed and started again while it is flooded: not one blocked packet gets in, and no rule is lost.

use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    process::{Child, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use ebpf_filter::{BpfFilter, IpNet, Match, Qtypes, Rule};
use ebpf_filter_tests::{
    child,
    dns::{A, query},
    hits,
    pins::PinDir,
    require_kernel,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::filter;

const BLOCKED: Ipv4Addr = Ipv4Addr::new(127, 0, 33, 1);
const IN_RANGE: Ipv4Addr = Ipv4Addr::new(127, 0, 34, 7);
const FRIEND: Ipv4Addr = Ipv4Addr::new(127, 0, 35, 1);
/// How often the server is killed.
const RESTARTS: usize = 5;
const SERVES: Duration = Duration::from_millis(200);

fn rules() -> Vec<Rule> {
    let matches = [
        Match::address(IpAddr::from(BLOCKED)),
        Match::range("127.0.34.0/24".parse::<IpNet>().unwrap()),
        Match::qname("evil.example".parse().unwrap(), Qtypes::All),
        Match::suffix("bad.example".parse().unwrap(), Qtypes::Only(A)),
    ];
    matches.map(Rule::drop).to_vec()
}

/// What each of these rules blocks.
fn blocked() -> [(Ipv4Addr, Vec<u8>); 4] {
    [
        (BLOCKED, query("example.", A)),
        (IN_RANGE, query("example.", A)),
        (FRIEND, query("EVIL.example.", A)),
        (FRIEND, query("very.bad.example.", A)),
    ]
}

/// A socket beside others at the same port, which is filtered before it is bound.
fn bind(filter: &BpfFilter, address: SocketAddr) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_reuse_port(true).unwrap();
    filter.attach(&socket).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.into()
}

/// The server: says what it gets, until it is killed.
fn serve(directory: &Path, socket: impl FnOnce(&BpfFilter) -> UdpSocket) {
    let filter = filter(directory);
    let done = filter.reconcile(rules()).unwrap();
    let socket = socket(&filter);
    println!("ready, kept {}, added {}, removed {}", done.kept, done.added, done.removed);
    let mut datagram = [0; 512];
    let mut friends = 0;
    loop {
        let (len, from) = socket.recv_from(&mut datagram).unwrap();
        if datagram[..len] != query("example.", A) || from.ip() != FRIEND {
            println!("BLOCKED {from} {:?}", &datagram[..len]);
        } else if friends == 0 {
            println!("friend");
            friends += 1;
        }
    }
}

fn has_served() -> bool {
    let Some(role) = child::role() else { return false };
    let mut words = role.splitn(3, ' ');
    let (kind, address, directory) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
    let address: SocketAddr = address.parse().unwrap();
    serve(Path::new(directory), |filter| match kind {
        "bind" => bind(filter, address),
        // It was handed over in the place of standard input.
        "take" => {
            let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned().unwrap();
            let socket = UdpSocket::from(socket);
            filter.attach(&socket).unwrap();
            socket
        }
        other => panic!("{other}"),
    });
    true
}

/// A server in a process of its own.
struct Server {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
    text: String,
}

impl Server {
    fn start(test: &str, role: &str, stdin: impl Into<Stdio>) -> Self {
        let mut command = child::command(test, role);
        let mut process = command.stdin(stdin).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut server = Self { process, output, text: String::new() };
        server.wait_for("ready");
        server
    }

    #[track_caller]
    fn wait_for(&mut self, what: &str) {
        while !self.text.contains(what) {
            assert!(self.output.read_line(&mut self.text).unwrap() > 0, "it ended: {}", self.text);
        }
    }

    /// Kills it, and says what it has said.
    fn kill(mut self) -> String {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.output.read_to_string(&mut self.text).unwrap();
        std::mem::take(&mut self.text)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Floods `to` while `during` runs, and says how many packets of each kind that is blocked were sent. A friend asks now and then.
fn flooded<T: Send>(to: SocketAddr, during: impl FnOnce() -> T + Send) -> ([u64; 4], T) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let senders =
                blocked().map(|(source, datagram)| (UdpSocket::bind((source, 0)).unwrap(), datagram));
            let mut sent = [0; 4];
            while !done.load(Ordering::Relaxed) {
                for ((socket, datagram), sent) in senders.iter().zip(&mut sent) {
                    // Nobody may be there.
                    *sent += u64::from(socket.send_to(datagram, to).is_ok());
                }
            }
            sent
        });
        scope.spawn(|| {
            let (friend, datagram) = (UdpSocket::bind((FRIEND, 0)).unwrap(), query("example.", A));
            while !done.load(Ordering::Relaxed) {
                let _ = friend.send_to(&datagram, to);
                thread::sleep(Duration::from_micros(500));
            }
        });
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
        done.store(true, Ordering::Relaxed);
        let sent = flood.join().unwrap();
        (sent, outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

#[track_caller]
fn assert_sound(texts: &[String], first: usize) {
    for (nth, text) in texts.iter().enumerate() {
        assert!(!text.contains("BLOCKED"), "{nth}: {text}");
        assert!(text.contains("friend"), "{nth} got nothing at all: {text}");
        let expected = if nth < first { "kept 0, added 4, removed 0" } else { "kept 4, added 0, removed 0" };
        assert!(text.contains(expected), "{nth}: {text}");
    }
}

#[track_caller]
fn counted(directory: &Path) -> [u64; 4] {
    let filter = filter(directory);
    let done = filter.reconcile(rules()).unwrap();
    assert_eq!((done.kept, done.added, done.changed, done.removed), (4, 0, 0, 0));
    let rules: Vec<_> = rules().iter().map(|rule| hits(&filter, &rule.matches)).collect();
    rules.try_into().unwrap()
}

fn free_port() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// There is a socket all the time, so every packet meets a rule.
#[test]
fn a_new_server_beside_the_old_one() {
    const TEST: &str = "load::a_new_server_beside_the_old_one";
    require_kernel!();
    if has_served() {
        return;
    }
    let pins = PinDir::new();
    let address = free_port();
    let start = || Server::start(TEST, &format!("bind {address} {}", pins.path().display()), Stdio::null());
    let first = start();
    let (sent, texts) = flooded(address, || {
        let mut old = first;
        let mut texts = Vec::new();
        for _ in 0..RESTARTS {
            old.wait_for("friend");
            let new = start();
            thread::sleep(SERVES);
            texts.push(old.kill());
            old = new;
        }
        old.wait_for("friend");
        texts.push(old.kill());
        texts
    });
    assert_sound(&texts, 1);
    let counted = counted(pins.path());
    println!("sent {sent:?}, dropped by rules {counted:?}");
    assert!(sent.iter().all(|sent| *sent > 1000), "{sent:?}");
    // The last server is killed while the flood goes on for a moment.
    assert!(counted.iter().zip(&sent).all(|(hits, sent)| hits <= sent), "{counted:?} of {sent:?}");
    assert!(counted.iter().all(|hits| *hits > 1000), "{counted:?}");
}

/// Nobody is there for a while.
#[test]
fn a_new_server_after_the_old_one() {
    const TEST: &str = "load::a_new_server_after_the_old_one";
    require_kernel!();
    if has_served() {
        return;
    }
    let pins = PinDir::new();
    let address = free_port();
    let (sent, texts) = flooded(address, || {
        let mut texts = Vec::new();
        for _ in 0..=RESTARTS {
            let mut server =
                Server::start(TEST, &format!("bind {address} {}", pins.path().display()), Stdio::null());
            server.wait_for("friend");
            thread::sleep(SERVES);
            texts.push(server.kill());
        }
        texts
    });
    assert_sound(&texts, 1);
    let counted = counted(pins.path());
    println!("sent {sent:?}, dropped by rules {counted:?}");
    assert!(
        counted.iter().zip(&sent).all(|(hits, sent)| hits <= sent && *hits > 1000),
        "{counted:?} of {sent:?}"
    );
}

/// The socket outlives every server, as a service manager has it. It is filtered all the time, so what is sent is what is dropped.
#[test]
fn a_socket_that_is_handed_over() {
    const TEST: &str = "load::a_socket_that_is_handed_over";
    require_kernel!();
    if has_served() {
        return;
    }
    let pins = PinDir::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let start = || {
        let stdin: OwnedFd = socket.as_fd().try_clone_to_owned().unwrap();
        Server::start(TEST, &format!("take {address} {}", pins.path().display()), stdin)
    };
    let first = start();
    let (sent, mut texts) = flooded(address, || {
        let mut old = first;
        let mut texts = Vec::new();
        for _ in 0..RESTARTS {
            old.wait_for("friend");
            thread::sleep(SERVES);
            texts.push(old.kill());
            // The kernel goes on dropping while nobody reads.
            thread::sleep(Duration::from_millis(50));
            old = start();
        }
        old.wait_for("friend");
        texts.push(old.kill());
        texts
    });
    // What still waits is of the friend.
    socket.set_nonblocking(true).unwrap();
    let mut datagram = [0; 512];
    while let Ok((len, from)) = socket.recv_from(&mut datagram) {
        if datagram[..len] != query("example.", A) || from.ip() != FRIEND {
            texts.push(format!("BLOCKED {from}"));
        }
    }
    assert_sound(&texts, 1);
    let start = Instant::now();
    while counted(pins.path()) != sent && start.elapsed() < Duration::from_secs(2) {
        thread::sleep(Duration::from_millis(10));
    }
    println!("sent {sent:?}");
    assert_eq!(counted(pins.path()), sent);
}
