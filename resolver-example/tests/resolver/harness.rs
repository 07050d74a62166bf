//! Starts the real program, asks it, stops it.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use ebpf_filter::{BpfFilter, Enforcement};
use hickory_proto::{
    op::{Message, Query},
    rr::{Name, RecordType},
};
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How long silence must last to count as no answer.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);

/// The program, ready to be given arguments.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_resolver-example"));
    command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The program without any capability, whoever runs the tests.
pub(crate) fn program_without_privilege() -> Command {
    if !rustix::process::geteuid().is_root() {
        return program();
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--"]);
    command.arg(env!("CARGO_BIN_EXE_resolver-example"));
    command.env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Whether the kernel enforces rules for this process. If it does not, the test is skipped, which is a failure if
/// `EBPF_FILTER_REQUIRE_KERNEL=1`.
pub(crate) fn kernel_enforces() -> bool {
    let status = BpfFilter::builder().build().expect("`prefer` always builds").status();
    if status.enforcement == Enforcement::Kernel {
        return true;
    }
    assert!(env::var_os("EBPF_FILTER_REQUIRE_KERNEL").is_none_or(|value| value != "1"), "{status}");
    eprintln!("SKIPPED: {status}");
    false
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str]) -> Output {
    program().args(args).output().expect("the program starts")
}

/// A folder with a configuration in it.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new(config: &str) -> Self {
        let folder = Self(TempDir::new().expect("a temporary folder"));
        folder.write("config.toml", config);
        folder
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).expect("a file is written");
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.0.path().join("config.toml")
    }
}

/// A program that serves.
pub(crate) struct Server {
    child: Child,
    log: Receiver<String>,
    /// What it listens on, in the order of its configuration.
    pub(crate) addresses: Vec<SocketAddr>,
    /// What it logged while it started.
    pub(crate) start: Vec<String>,
    _folder: Folder,
}

impl Server {
    /// Starts the program with `config`, which listens on `count` addresses, and waits until it does.
    pub(crate) fn start_on(count: usize, config: &str) -> Self {
        Self::start_in(count, Folder::new(config))
    }

    /// Starts the program with a `config` that has no `[listen]`, on a free port of 127.0.0.1.
    pub(crate) fn start(config: &str) -> Self {
        Self::start_on(1, &format!("[listen]\ndns = [\"127.0.0.1:0\"]\n{config}"))
    }

    pub(crate) fn start_in(count: usize, folder: Folder) -> Self {
        Self::spawn(program(), count, folder)
    }

    /// Starts `program` with the configuration in `folder`.
    pub(crate) fn spawn(mut program: Command, count: usize, folder: Folder) -> Self {
        let mut child = program.arg("--config").arg(folder.config()).spawn().expect("the program starts");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let (send, log) = channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));

        let mut server = Self { child, log, addresses: Vec::new(), start: Vec::new(), _folder: folder };
        while server.addresses.len() < count {
            let line = server.next_line();
            if let Some((_, rest)) = line.split_once("listening on ") {
                let (address, _) = rest.split_once(' ').expect("address and protocols");
                server.addresses.push(address.parse().expect("an address"));
            }
            server.start.push(line);
        }
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    fn next_line(&mut self) -> String {
        match self.log.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("no log line in {PATIENCE:?} after {:#?}", self.start),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("ended early: {:?}, {:#?}", self.child.wait(), self.start)
            }
        }
    }

    /// Reads the log up to a line that contains `words`.
    pub(crate) fn wait_for(&mut self, words: &str) {
        while !self.next_line().contains(words) {}
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("the program runs");
    }

    /// Waits for the end; returns what was logged until then.
    pub(crate) fn wait(mut self) -> (ExitStatus, Vec<String>) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            assert!(Instant::now() < deadline, "still running after {PATIENCE:?}");
            thread::sleep(Duration::from_millis(10)); // The standard library has no wait with a timeout.
        };
        (status, self.log.iter().collect())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A query for `name`, with the bit that asks for recursion.
pub(crate) fn query(name: &str, qtype: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), qtype));
    message
}

/// Asks over UDP; `None` if nobody answers within `patience`.
pub(crate) fn try_udp(server: SocketAddr, query: &Message, patience: Duration) -> Option<Message> {
    let any = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    try_udp_from(any, server, query, patience)
}

/// Asks over UDP from `source`; `None` if nobody answers within `patience`.
pub(crate) fn try_udp_from(
    source: IpAddr,
    server: SocketAddr,
    query: &Message,
    patience: Duration,
) -> Option<Message> {
    let socket = UdpSocket::bind((source, 0)).expect("a socket");
    socket.connect(server).expect("a route");
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    socket.send(&query.to_vec().expect("a message")).expect("it is sent");
    let mut buffer = [0; 4096];
    match socket.recv(&mut buffer) {
        Ok(length) => Some(decode(query, &buffer[..length])),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Asks over TCP; `None` if nobody answers within `patience`.
pub(crate) fn try_tcp(server: SocketAddr, query: &Message, patience: Duration) -> Option<Message> {
    let stream = TcpStream::connect(server).expect("a connection");
    ask_over(stream, query, patience)
}

/// Asks over TCP from `source`; `None` if there is no connection or no answer within `patience`.
pub(crate) fn try_tcp_from(
    source: IpAddr,
    server: SocketAddr,
    query: &Message,
    patience: Duration,
) -> Option<Message> {
    ask_over(try_connect_from(source, server, patience)?, query, patience)
}

/// Connects from `source`; `None` if that takes longer than `patience`.
pub(crate) fn try_connect_from(source: IpAddr, server: SocketAddr, patience: Duration) -> Option<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::new(source, 0).into()).expect("an address of this machine");
    match socket.connect_timeout(&server.into(), patience) {
        Ok(()) => Some(socket.into()),
        Err(error) if error.kind() == ErrorKind::TimedOut => None,
        Err(error) => panic!("{error}"),
    }
}

fn ask_over(mut stream: TcpStream, query: &Message, patience: Duration) -> Option<Message> {
    stream.set_read_timeout(Some(patience)).expect("a timeout");
    let bytes = query.to_vec().expect("a message");
    let length = u16::try_from(bytes.len()).expect("a short message").to_be_bytes();
    stream.write_all(&[&length, bytes.as_slice()].concat()).expect("it is sent");
    let mut length = [0; 2];
    match stream.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
        Err(error) => panic!("{error}"),
    }
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes).expect("the whole message");
    Some(decode(query, &bytes))
}

/// Asks over both, which must agree.
pub(crate) fn ask(server: SocketAddr, name: &str, qtype: RecordType) -> Message {
    let query = query(name, qtype);
    let udp = try_udp(server, &query, PATIENCE).expect("an answer over UDP");
    let tcp = try_tcp(server, &query, PATIENCE).expect("an answer over TCP");
    assert_eq!(udp.metadata.response_code, tcp.metadata.response_code);
    assert_eq!(texts(&udp), texts(&tcp));
    udp
}

/// The data of the answers, as text.
pub(crate) fn texts(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

fn decode(query: &Message, bytes: &[u8]) -> Message {
    let answer = Message::from_vec(bytes).expect("a DNS message");
    assert_eq!(answer.metadata.id, query.metadata.id);
    assert_eq!(answer.queries, query.queries);
    answer
}

/// What a program that failed said, after checking how it ended.
pub(crate) fn failure(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
