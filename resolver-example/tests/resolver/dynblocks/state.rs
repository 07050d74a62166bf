//! Blocks outlive the program that made them.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use super::{FRIEND, HOSTILE, blocks_of, client::Client, folder, query_rate};
use crate::{
    enforcement::enforcer::{Enforcer, stop},
    harness::{PATIENCE, SILENCE, Server, failure, program, run, text},
};

fn start(enforcer: Enforcer, file: &Path, block_for: &str) -> Server {
    let state = format!("[dynblocks]\nstate_file = {:?}\n", text(file));
    let rule = query_rate(&format!("block_for = \"{block_for}\""));
    enforcer.serve_in(1, folder(enforcer, &format!("{state}{rule}")))
}

/// Somebody else's answer does not count.
fn assert_blocked(server: &Server) {
    assert!(Client::new(HOSTILE, server.address()).ask(SILENCE).is_none());
    assert!(Client::new(FRIEND, server.address()).ask(PATIENCE).is_some());
}

#[test]
fn a_block_outlives_a_server_that_is_killed() {
    const BLOCK: Duration = Duration::from_secs(4);
    for enforcer in Enforcer::available() {
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("blocks.json");
        let server = start(enforcer, &file, "4s");
        Client::new(HOSTILE, server.address()).ask_too_much();
        let crossing = Instant::now();
        assert_blocked(&server);
        while !fs::read_to_string(&file).expect("it is there from the start").contains("127.0.0.2/32") {
            assert!(crossing.elapsed() < BLOCK, "it is not saved");
            thread::sleep(Duration::from_millis(10));
        }
        server.signal(Signal::KILL);
        server.wait();

        let server = start(enforcer, &file, "4s");
        let told = server.start.iter().any(|line| line.contains("1 rules; 1 blocks from "));
        assert!(told, "{:#?}", server.start);
        assert_blocked(&server);
        let client = Client::new(HOSTILE, server.address());
        while client.ask(Duration::from_millis(100)).is_none() {
            assert!(crossing.elapsed() < 2 * BLOCK, "the block goes on");
        }
        // Nobody has answered for a while when the clock starts.
        let lasted = crossing.elapsed() + SILENCE;
        let tolerance = Duration::from_millis(100);
        println!("blocked for {lasted:?} in two servers");
        assert!(lasted + tolerance > BLOCK && lasted < BLOCK + 10 * tolerance, "{lasted:?}");
        stop(server);
    }
}

#[test]
fn a_server_that_is_stopped_loses_nothing() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("blocks.json");
    let server = start(Enforcer::UserSpace, &file, "60s");
    // The first is saved at once, the second waits for its turn.
    for source in [FRIEND, HOSTILE] {
        let client = Client::new(source, server.address());
        client.ask_too_much();
    }
    let log = stop(server);
    assert_eq!(blocks_of(&log, "127.0.0.2/32"), 1, "{log:#?}");
    let saved = fs::read_to_string(&file).expect("it is saved");
    assert!(saved.contains("127.0.0.2/32") && saved.contains("127.0.0.4/32"), "{saved}");
    let server = start(Enforcer::UserSpace, &file, "60s");
    assert!(Client::new(HOSTILE, server.address()).ask(SILENCE).is_none());
    stop(server);
}

#[test]
fn a_file_that_cannot_be_used_is_told() {
    let folder = TempDir::new().expect("a folder");
    let broken = folder.path().join("broken.json");
    fs::write(&broken, "{\"version\": 1, \"blocks\": [").expect("it is written");
    let nowhere = folder.path().join("no-such-folder").join("blocks.json");
    for (file, words) in [(broken, "remove it"), (nowhere, "check that the folder exists")] {
        let config = format!(
            "listen.dns = [\"127.0.0.1:0\"]\nfilter.mode = \"off\"\n[dynblocks]\nstate_file = {:?}",
            text(&file)
        );
        let config = crate::harness::Folder::new(&config);
        let output = program().args(["--config", text(&config.config())]).output().expect("it starts");
        let said = failure(&output, 1);
        assert!(said.contains(text(&file)) && said.contains(words), "{said}");
        // Nothing is read or written.
        assert!(run(&["check-config", text(&config.config())]).status.success());
    }
}
