//! What can be wrong with a configuration, and what to write instead.

use std::{io, net::SocketAddr, path::PathBuf};

use hickory_proto::ProtoError;
use thiserror::Error;

use super::{dynblocks::DynBlocksProblem, listen::MAX_UDP_SOCKETS, rule_problem::RuleProblem, source::Place};

/// A configuration that cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: check the path and its permissions", .file.display())]
    Read { file: PathBuf, source: io::Error },
    /// The file is not TOML, or has a key, a type or a word that does not exist.
    #[error("{at}: {message}")]
    Syntax { at: Place, message: String },
    /// The file says something that cannot be done.
    #[error("{at}: {problem}")]
    Invalid { at: Place, problem: Problem },
}

/// Something that cannot be done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum Problem {
    #[error(
        "listen.dns is empty: list at least one address, or remove the key to listen on 127.0.0.1:5300 and [::1]:5300"
    )]
    NoListenAddress,
    #[error(
        "{value:?} is not an address to listen on: write address and port, like \"127.0.0.1:5300\" or \"[::1]:5300\""
    )]
    ListenAddress { value: String },
    #[error("{address} is listed twice in listen.dns: remove one")]
    RepeatedListenAddress { address: SocketAddr },
    #[error(
        "listen.udp_sockets = {value}: choose 1 to {MAX_UDP_SOCKETS}; more than one per CPU core gains nothing"
    )]
    UdpSockets { value: u32 },
    #[error("{value:?} is not a domain name ({reason}): write the zone's name, like \"example.\"")]
    Origin { value: String, reason: ProtoError },
    #[error("the zone {value:?} is also in line {first}: put all its records into one file")]
    RepeatedOrigin { value: String, first: usize },
    #[error("the root zone answers every query, so nothing would reach [forward]: remove one of the two")]
    RootZoneBesideForward,
    #[error(
        "forward.upstreams is empty: list at least one resolver, or remove [forward] to refuse what no zone answers"
    )]
    NoUpstream,
    #[error(
        "{value:?} is not the address of a resolver: write an IP address, with a port unless it is 53, like \"192.0.2.53\" or \"[2001:db8::53]:5353\""
    )]
    Upstream { value: String },
    #[error("{upstream} is listed twice in forward.upstreams: remove one")]
    RepeatedUpstream { upstream: SocketAddr },
    #[error(
        "{upstream} is this server itself (it is in listen.dns): queries would go round in circles; name another resolver"
    )]
    OwnUpstream { upstream: SocketAddr },
    #[error(
        "pin_dir {value:?} must be an absolute path in a BPF file system, such as \"/sys/fs/bpf/resolver\""
    )]
    PinDir { value: PathBuf },
    #[error("rule {number}: {problem}")]
    Rule { number: usize, problem: RuleProblem },
    #[error("dynblocks: {0}")]
    DynBlocks(DynBlocksProblem),
    #[error("dynblocks rule {number}: {problem}")]
    DynBlockRule { number: usize, problem: DynBlocksProblem },
}
