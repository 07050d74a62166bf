//! The two who can enforce rules, and servers that have one of them do it.

use rustix::process::Signal;

use crate::harness::{Folder, Server, kernel_enforces, program, program_without_privilege};

/// Who enforces the rules of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enforcer {
    Kernel,
    UserSpace,
}

impl Enforcer {
    /// All that there are on this machine.
    pub(crate) fn available() -> Vec<Self> {
        if kernel_enforces() { vec![Self::Kernel, Self::UserSpace] } else { vec![Self::UserSpace] }
    }

    /// A server on a free port of 127.0.0.1, with these rules and the embedded zone.
    pub(crate) fn serve(self, rules: &str) -> Server {
        self.serve_in(1, Folder::new(&format!("listen.dns = [\"127.0.0.1:0\"]\n{}\n{rules}", self.mode())))
    }

    /// A server on `count` addresses with the configuration in `folder`, which has [`Enforcer::mode`] in it.
    pub(crate) fn serve_in(self, count: usize, folder: Folder) -> Server {
        let (program, told) = match self {
            Self::Kernel => (program(), "enforced by kernel"),
            Self::UserSpace => (program_without_privilege(), "enforced by user space"),
        };
        let server = Server::spawn(program, count, folder);
        assert!(server.start.iter().any(|line| line.contains(told)), "{:#?}", server.start);
        println!("{told}:"); // Shown above what fails.
        server
    }

    /// The line of a configuration that makes it so.
    pub(crate) fn mode(self) -> &'static str {
        match self {
            Self::Kernel => "filter.mode = \"require\"",
            Self::UserSpace => "filter.mode = \"prefer\"",
        }
    }

    /// Checks the hits of a rule for sources. Clients made `queries`, each in one packet over UDP or in one connection.
    pub(crate) fn assert_source_hits(self, log: &[String], of: &str, queries: u64) {
        let hits = hits(log, of);
        let right = match self {
            // Every packet of a connection is one.
            Self::Kernel => hits >= queries,
            Self::UserSpace => hits == queries,
        };
        assert!(right, "{hits} hits of {of} for {queries} queries: {log:#?}");
    }
}

/// Stops a server; returns what it logged.
pub(crate) fn stop(server: Server) -> Vec<String> {
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert!(status.success(), "{log:#?}");
    log
}

/// The hits of a rule in a log.
pub(crate) fn hits(log: &[String], of: &str) -> u64 {
    number_after(log, &format!("hits of {of}: ")).unwrap_or(0)
}

/// The number at the end of the line in which it follows `words`.
pub(crate) fn number_after(log: &[String], words: &str) -> Option<u64> {
    let (_, number) = log.iter().find_map(|line| line.split_once(words))?;
    number.trim().parse().ok()
}
