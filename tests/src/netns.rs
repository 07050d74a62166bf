//! A network namespace for one test: its own loopback interface, addresses and sysctls. And others beside it.

use std::{
    fmt::Display,
    fs::{self, File},
    io::Write as _,
    net::UdpSocket,
    os::fd::{AsFd as _, AsRawFd as _},
    panic,
    process::{self, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::sys;

/// How long the kernel may take to set up an address.
const PATIENCE: Duration = Duration::from_secs(20);

/// The IPv6 address of the loopback interface in a new namespace, besides `::1`.
pub const SERVER6: &str = "2001:db8::1";
/// Another one.
pub const CLIENT6: &str = "2001:db8::2";
/// An IPv4 address of the loopback interface in a new namespace, besides 127.0.0.0/8.
pub const SERVER4: &str = "192.0.2.1";
/// Another one.
pub const CLIENT4: &str = "192.0.2.2";

/// Runs `test` on a thread of its own in a new network namespace, whose loopback interface is up and has the addresses
/// above. The namespace is gone with the last socket in it.
///
/// Needs `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`.
pub fn run<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    on_a_thread(|| {
        sys::enter_new_network_namespace().expect("a new network namespace");
        ip("link set lo up");
        add_addresses(&[SERVER4, CLIENT4, SERVER6, CLIENT6]);
        test()
    })
}

/// A namespace beside that of the test. It is gone with this and the last socket in it.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// A new one, with nothing but a loopback interface.
    ///
    /// Needs `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`.
    pub fn new() -> Self {
        on_a_thread(|| {
            sys::enter_new_network_namespace().expect("a new network namespace");
            ip("link set lo up");
            Self(File::open("/proc/thread-self/ns/net").expect("the namespace of this thread"))
        })
    }

    /// Runs `task` in this namespace. A socket that it makes stays there, and can be used from anywhere.
    pub fn enter<T: Send>(&self, task: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("a thread may change its namespace");
            task()
        })
    }

    /// What ip(8) takes for its name.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd())
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs `task` on a thread of its own, which has the name of this one.
fn on_a_thread<T: Send>(task: impl FnOnce() -> T + Send) -> T {
    let name = thread::current().name().unwrap_or("netns").to_owned();
    let outcome = thread::scope(|scope| {
        thread::Builder::new().name(name).spawn_scoped(scope, task).expect("a thread").join()
    });
    outcome.unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// Adds addresses to the loopback interface in the namespace of this thread.
#[track_caller]
pub fn add_addresses(addresses: &[&str]) {
    let commands: Vec<_> = addresses
        .iter()
        .map(|address| {
            let (len, flags) = if address.contains(':') { (128, "nodad") } else { (32, "") };
            format!("addr add {address}/{len} dev lo {flags}")
        })
        .collect();
    ip(&commands.join("\n"));
    for address in addresses {
        wait_until_routed(address);
    }
}

/// The kernel adds the route to a new IPv6 address some time after the address, and refuses what is sent there until then.
#[track_caller]
fn wait_until_routed(address: &str) {
    let any = if address.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let start = Instant::now();
    while let Err(error) = UdpSocket::bind(any).and_then(|socket| socket.connect((address, 53))) {
        assert!(start.elapsed() < PATIENCE, "no route to {address}: {error}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs commands of ip(8), one a line, in the namespace of this thread.
#[track_caller]
pub fn ip(commands: &str) {
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("ip is installed (iproute2)");
    let mut input = ip.stdin.take().expect("it was piped");
    input.write_all(commands.as_bytes()).expect("ip reads its commands");
    drop(input);
    assert!(ip.wait().expect("ip ends").success(), "ip refuses one of:\n{commands}");
}

/// Writes to a sysctl below `net` in the namespace of this thread: `core/optmem_max`.
#[track_caller]
pub fn set_sysctl(name: &str, value: impl Display) {
    let path = format!("/proc/sys/net/{name}");
    fs::write(&path, value.to_string())
        .unwrap_or_else(|error| panic!("cannot write {value} to {path}: {error}"));
}
