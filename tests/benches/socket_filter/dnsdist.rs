//! dnsdist as a child process, with the filter that it brings along on its socket.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io,
    net::{SocketAddr, UdpSocket},
    thread::sleep,
    time::{Duration, Instant},
};

use aya::programs::loaded_programs;
use ebpf_filter_tests::dnsdist;

use crate::{
    cases::{Case, Exact},
    common::Result,
    contestant::{MAX_RULES, program},
    sender::{Sender, listener},
};

/// dnsdist's key for every type, up to version 1.9.
const EVERY_TYPE: u16 = 255;

/// Packets that show which program is on the socket.
const PROBES: usize = 64;

const TIMEOUT: Duration = Duration::from_secs(15);

/// A dnsdist that has its socket and its filter, and is stopped: it takes no time from what is measured, and like
/// everybody's here, nobody reads its socket.
pub(crate) struct Dnsdist {
    address: SocketAddr,
    program: u32,
    _process: dnsdist::Dnsdist,
}

impl Dnsdist {
    pub(crate) fn start(case: &Case) -> Result<Self> {
        // Free now; if somebody takes it before dnsdist does, dnsdist says so.
        let address = UdpSocket::bind((listener(case.sources[0]), 0))?.local_addr()?;
        let before = runs();
        let mut process = dnsdist::Dnsdist::spawn(&config(address, &case.dnsdist))?;
        let sender = Sender::new(&case.sources, address, &case.payloads)?;
        let deadline = Instant::now() + TIMEOUT;
        let program = loop {
            if let Some(status) = process.ended()? {
                return Err(process.failure(&format!("ended with {status}")));
            }
            if Instant::now() > deadline {
                return Err(process.failure("does not get ready"));
            }
            sleep(Duration::from_millis(50));
            let candidates: HashMap<_, _> =
                runs().into_iter().filter(|(id, _)| !before.contains_key(id)).collect();
            if let Some(program) = filter_of(&sender, &candidates)? {
                break program;
            }
        };
        process.stop()?;
        Ok(Self { address, program, _process: process })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) const fn program(&self) -> u32 {
        self.program
    }
}

/// The one of these programs that runs for what is sent. The other one that dnsdist loads is called by it, and its time
/// is accounted there.
fn filter_of(sender: &Sender<'_>, candidates: &HashMap<u32, u64>) -> Result<Option<u32>> {
    if candidates.is_empty() {
        return Ok(None);
    }
    match sender.send(PROBES) {
        // Nobody listens there yet.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(None),
        result => result?,
    }
    let ran = |(id, runs): (&u32, &u64)| {
        let now = program(*id)?.run_count();
        (now - runs == PROBES as u64).then_some(*id)
    };
    Ok(candidates.iter().find_map(ran))
}

/// How often each program in the kernel ran.
fn runs() -> HashMap<u32, u64> {
    loaded_programs()
        .filter_map(std::result::Result::ok)
        .map(|program| (program.id(), program.run_count()))
        .collect()
}

fn config(address: SocketAddr, rules: &Exact) -> String {
    let mut config = format!(
        "setSecurityPollSuffix(\"\")\n\
         setLocal(\"{address}\")\n\
         filter = newBPFFilter({MAX_RULES}, {MAX_RULES}, {MAX_RULES})\n\
         setDefaultBPFFilter(filter)\n"
    );
    // Writing to a string does not fail.
    for address in &rules.addresses {
        let _ = writeln!(config, "filter:block(newCA(\"{address}\"))");
    }
    for (name, qtype) in &rules.names {
        let qtype = qtype.unwrap_or(EVERY_TYPE);
        let _ = writeln!(config, "filter:blockQName(newDNSName(\"{name}\"), {qtype})");
    }
    config
}
