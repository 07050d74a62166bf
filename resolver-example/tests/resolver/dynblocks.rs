//! Dynamic blocks: who floods the server is blocked, for as long as the flood goes on, and nobody else is.

mod client;
mod dnsperf;
mod flood;
mod ladder;
mod pins;
mod ranges;
mod rules;
mod state;

use std::net::Ipv4Addr;

use crate::{
    enforcement::enforcer::Enforcer,
    harness::{Folder, Server},
};

/// Who floods.
const HOSTILE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Who asks now and then.
const FRIEND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 4);

/// So many queries at once are fine with a rate of 20 over ten seconds.
const BURST: usize = 200;

/// A rule for 20 queries a second over ten seconds, with this end.
fn query_rate(end: &str) -> String {
    format!("[[dynblocks.rules]]\nkind = \"query-rate\"\nrate = 20\nwindow = \"10s\"\n{end}\n")
}

/// A server on a free port of 127.0.0.1, with room for ranges and the embedded zone.
fn serve(enforcer: Enforcer, dynblocks: &str) -> Server {
    enforcer.serve_in(1, folder(enforcer, dynblocks))
}

fn folder(enforcer: Enforcer, dynblocks: &str) -> Folder {
    Folder::new(&format!("listen.dns = [\"127.0.0.1:0\"]\n{}\n{dynblocks}", enforcer.mode()))
}

/// How many blocks of this subject were logged.
fn blocks_of(log: &[String], subject: &str) -> usize {
    let words = format!("dynamic block for {subject}, ");
    log.iter().filter(|line| line.contains(&words)).count()
}
