//! A flood that somebody else's program makes.

use std::{fs, process::Command};

use tempfile::TempDir;

use super::{BURST, FRIEND, blocks_of, client::Client, query_rate, serve};
use crate::{
    enforcement::enforcer::{Enforcer, hits, stop},
    harness::{PATIENCE, text},
};

#[test]
fn dnsperf_is_cut_off() {
    if Command::new("dnsperf").arg("-h").output().is_err() {
        eprintln!("SKIPPED: dnsperf is not installed");
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let queries = folder.path().join("queries");
    fs::write(&queries, "www.example A\n").expect("it is written");
    for enforcer in Enforcer::available() {
        let server = serve(enforcer, &query_rate("block_for = \"60s\""));
        let port = server.address().port().to_string();
        let friend = Client::new(FRIEND, server.address());
        let output = Command::new("dnsperf")
            .args(["-s", "127.0.0.1", "-p", &port, "-a", "127.0.0.3", "-d", text(&queries)])
            .args(["-l", "2", "-Q", "1000", "-q", "5000", "-t", "1", "-c", "1", "-T", "1"])
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let completed = said.lines().find_map(|line| {
            line.trim().strip_prefix("Queries completed:")?.split_whitespace().next()?.parse().ok()
        });
        // The 200, and up to 20 with every second until the block.
        let completed: usize = completed.expect("statistics");
        assert!((BURST..BURST + 60).contains(&completed), "{completed} queries were answered");
        assert!(friend.ask(PATIENCE).is_some());
        let log = stop(server);
        assert_eq!(blocks_of(&log, "127.0.0.3/32"), 1, "{log:#?}");
        println!("{completed} queries were answered, {} were caught by the rule", hits(&log, "127.0.0.3"));
    }
}
