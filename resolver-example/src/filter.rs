//! The packet filter, as the configuration wants it.

use std::net::SocketAddr;

use ebpf_filter::{AttachError, BpfFilter, BuildError, Enforcement, Mode, RuleError};
use socket2::Socket;
use thiserror::Error;
use tracing::{info, warn};

use crate::config::{Filter, Rules};

/// Builds the filter with its rules in it, so that a socket is guarded from the moment it is attached.
pub(crate) fn build(config: &Filter) -> Result<BpfFilter, FilterError> {
    let Filter { mode, malformed, ipv4_max, ipv6_max, qnames_max, rules } = config;
    let filter = BpfFilter::builder()
        .mode(*mode)
        .malformed(*malformed)
        .ipv4_max(*ipv4_max)
        .ipv6_max(*ipv6_max)
        .qnames_max(*qnames_max)
        .build()
        .map_err(FilterError::Build)?;
    filter.insert_many(rules.iter().cloned()).map_err(FilterError::Rules)?;
    Ok(filter)
}

/// Makes `socket`, which will listen on `address`, drop what the rules say.
pub(crate) fn attach(filter: &BpfFilter, socket: &Socket, address: SocketAddr) -> Result<(), FilterError> {
    match filter.attach(socket) {
        Ok(_) => Ok(()),
        Err(source) => Err(FilterError::Attach { address, source }),
    }
}

/// Logs how the rules are enforced, and how many there are; once the sockets are attached.
pub(crate) fn log_enforcement(filter: &BpfFilter, rules: &Rules) {
    let status = filter.status();
    let wanted =
        status.mode == Mode::Off || (status.enforcement == Enforcement::Kernel && status.degraded == 0);
    if wanted {
        info!("{rules}; enforced by {status}");
    } else {
        warn!("{rules}; enforced by {status}");
    }
}

/// Logs what the rules have caught; for the end of the program.
pub(crate) fn log_hits(filter: &BpfFilter) {
    let stats = match filter.stats() {
        Ok(stats) => stats,
        Err(error) => return warn!("the hits of the rules cannot be read: {error}"),
    };
    let mut idle = 0;
    for rule in &stats.rules {
        if rule.hits == 0 {
            idle += 1;
        } else {
            info!("hits of {}: {}", rule.rule.matches, rule.hits);
        }
    }
    info!("rules without hits: {idle}; malformed queries: {}", stats.malformed_total());
}

/// Why the filter cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum FilterError {
    /// The filter cannot be made at all.
    #[error("the packet filter cannot be set up (`filter.mode = \"prefer\"` would go on in user space)")]
    Build(#[source] BuildError),
    /// The configured rules do not go in.
    #[error("the rules of [[filter.rules]] cannot be installed")]
    Rules(#[source] RuleError),
    /// A socket cannot be guarded.
    #[error("the socket for {address} cannot be guarded by the packet filter")]
    Attach { address: SocketAddr, source: AttachError },
}
