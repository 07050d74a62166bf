//! Rules and blocks that stay in the kernel while the server is killed and started again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use super::{FRIEND, HOSTILE, client::Client, query_rate};
use crate::{
    enforcement::enforcer::{Enforcer, hits, stop},
    harness::{Folder, PATIENCE, SILENCE, Server, failure, kernel_enforces, program, run, text},
};

const BLOCK: Duration = Duration::from_secs(4);

/// A directory in the BPF file system, which goes with the test.
struct Pins(PathBuf);

impl Pins {
    /// None if nobody may use it.
    fn new(name: &str) -> Option<Self> {
        if !kernel_enforces() {
            return None;
        }
        let root = Path::new("/sys/fs/bpf");
        let mounts = fs::read_to_string("/proc/mounts").expect("it is always there");
        if !mounts.lines().any(|line| line.contains(" /sys/fs/bpf bpf ")) {
            // Another test may be faster.
            let _ = Command::new("mount").args(["-t", "bpf", "bpf", text(root)]).status();
        }
        Some(Self(root.join(format!("ebpf-filter-resolver-{name}-{}", std::process::id()))))
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // It may not have been created.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn folder(pins: &Pins, ipv4_max: u32, names: &[&str], more: &str) -> Folder {
    let rules: Vec<_> =
        names.iter().map(|name| format!("{{ kind = \"qname\", value = \"{name}\" }}")).collect();
    Folder::new(&format!(
        "listen.dns = [\"127.0.0.1:0\"]\n[filter]\nmode = \"require\"\npin_dir = {:?}\nipv4_max = {ipv4_max}\nrules = [{}]\n{more}",
        text(&pins.0),
        rules.join(", ")
    ))
}

fn start(pins: &Pins, names: &[&str], told: &str) -> Server {
    let block = query_rate(&format!("block_for = \"{}s\"", BLOCK.as_secs()));
    let server = Enforcer::Kernel.serve_in(1, folder(pins, 64, names, &block));
    let line = format!("rules in {}: {told}", pins.0.display());
    assert!(server.start.iter().any(|found| found.contains(&line)), "{line}: {:#?}", server.start);
    server
}

#[test]
fn rules_and_blocks_outlive_a_server_that_is_killed() {
    let Some(pins) = Pins::new("killed") else { return };
    let asks = |server: &Server, name| Client::asking(FRIEND, server.address(), name).ask(SILENCE);
    let server = start(
        &pins,
        &["evil.example", "old.example"],
        "0 found, 0 kept, 0 changed, 2 added, 0 removed, 0 others",
    );
    for _ in 0..3 {
        assert!(asks(&server, "evil.example.").is_none());
    }
    assert!(asks(&server, "old.example.").is_none());
    Client::new(HOSTILE, server.address()).ask_too_much();
    let crossing = Instant::now();
    assert!(Client::new(HOSTILE, server.address()).ask(SILENCE).is_none());
    server.signal(Signal::KILL);
    server.wait();

    let told = "3 found, 1 kept, 0 changed, 1 added, 1 removed, 1 others end by themselves";
    let server = start(&pins, &["evil.example", "new.example"], told);
    let client = Client::new(HOSTILE, server.address());
    assert!(client.ask(SILENCE).is_none(), "the block is gone");
    assert!(asks(&server, "evil.example.").is_none() && asks(&server, "new.example.").is_none());
    assert!(Client::asking(FRIEND, server.address(), "old.example.").ask(PATIENCE).is_some());
    while client.ask(Duration::from_millis(50)).is_none() {
        assert!(crossing.elapsed() < 2 * BLOCK, "the block goes on");
    }
    // Nobody has answered for a while when the clock starts.
    let lasted = crossing.elapsed() + SILENCE;
    println!("blocked for {lasted:?} in two servers");
    assert!(
        lasted + Duration::from_millis(200) > BLOCK && lasted < BLOCK + Duration::from_secs(1),
        "{lasted:?}"
    );
    let log = stop(server);
    assert_eq!(hits(&log, "evil.example. 255"), 4, "{log:#?}");
}

/// The kernel ends a block also if no server does.
#[test]
fn a_block_ends_on_time_while_no_server_runs() {
    let Some(pins) = Pins::new("ends") else { return };
    let server = start(&pins, &[], "0 found");
    Client::new(HOSTILE, server.address()).ask_too_much();
    let crossing = Instant::now();
    server.signal(Signal::KILL);
    server.wait();
    // As above.
    let left = (BLOCK + Duration::from_millis(100)).saturating_sub(crossing.elapsed() + SILENCE);
    thread::sleep(left);
    let server = start(&pins, &[], "");
    assert!(Client::new(HOSTILE, server.address()).ask(PATIENCE).is_some());
    stop(server);
}

#[test]
fn pins_of_another_size_are_an_error_that_says_so() {
    let Some(pins) = Pins::new("size") else { return };
    stop(start(&pins, &["evil.example"], "0 found"));
    for mode in ["prefer", "require"] {
        let other = folder(&pins, 128, &["evil.example"], "");
        let config = fs::read_to_string(other.config()).unwrap().replace("require", mode);
        other.write("other.toml", &config);
        let file = other.config().with_file_name("other.toml");
        let message = failure(&run(&["serve", "--config", text(&file)]), 1);
        let expected = format!(
            "the map pinned at {}/format has another ipv4_max: 64, where 128 is expected",
            pins.0.display()
        );
        assert!(
            message.contains("`pin_dir` of [filter] cannot be used") && message.contains(&expected),
            "{message}"
        );
    }
    // Nothing is looked at before it has to be.
    let other = folder(&pins, 128, &[], "");
    let output = program().args(["check-config", text(&other.config())]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    start(&pins, &["evil.example"], "1 found, 1 kept, 0 changed, 0 added, 0 removed");
}
