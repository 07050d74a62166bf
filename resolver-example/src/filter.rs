//! The packet filter, as the configuration wants it.

use std::{net::SocketAddr, path::Path};

use ebpf_filter::{
    AttachError, BpfFilter, BuildError, Enforcement, Kind, Mode, PinError, Reconciled, RuleError, Stats,
};
use socket2::Socket;
use thiserror::Error;
use tracing::{info, warn};

use crate::config::{Filter, Rules};

/// Builds the filter with its rules in it, so that a socket is guarded from the moment it is attached.
pub(crate) fn build(config: &Filter) -> Result<BpfFilter, FilterError> {
    let Filter {
        mode,
        malformed,
        ipv4_max,
        ipv6_max,
        ranges4_max,
        ranges6_max,
        qnames_max,
        suffixes_max,
        pin_dir,
        rules,
    } = config;
    let mut builder = BpfFilter::builder()
        .mode(*mode)
        .malformed(*malformed)
        .ipv4_max(*ipv4_max)
        .ipv6_max(*ipv6_max)
        .ranges4_max(*ranges4_max)
        .ranges6_max(*ranges6_max)
        .qnames_max(*qnames_max)
        .suffixes_max(*suffixes_max);
    if let Some(directory) = pin_dir {
        builder = builder.pin_dir(directory);
    }
    let filter = builder.build().map_err(|error| {
        if let BuildError::Pins(source) = error {
            FilterError::Pins(source)
        } else {
            FilterError::Build(error)
        }
    })?;
    match filter.status().pin_dir {
        Some(directory) => reconcile(&filter, &directory, rules)?,
        None => filter.insert_many(rules.iter().cloned()).map_err(FilterError::Rules)?,
    }
    Ok(filter)
}

/// Of the rules that a server before has left, those stay that are configured, and those that end.
fn reconcile(filter: &BpfFilter, directory: &Path, rules: &Rules) -> Result<(), FilterError> {
    let found: u32 = Kind::ALL.into_iter().map(|kind| filter.count(kind)).sum();
    let done = filter.reconcile(rules.iter().cloned()).map_err(FilterError::Rules)?;
    let Reconciled { kept, added, changed, removed, .. } = done;
    let found_now: u32 = Kind::ALL.into_iter().map(|kind| filter.count(kind)).sum();
    let others = (found_now as usize).saturating_sub(kept + added + changed);
    info!(
        "rules in {}: {found} found, {kept} kept, {changed} changed, {added} added, {removed} removed, {others} others end by \
         themselves",
        directory.display()
    );
    Ok(())
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
    log_expired(&stats);
    info!("rules without hits: {idle}; malformed queries: {}", stats.malformed_total());
}

/// Rules go away in no other way here, and then only their kind is known.
fn log_expired(stats: &Stats) {
    for kind in Kind::ALL {
        let retired = stats.retired(kind);
        if retired.rules > 0 {
            info!("expired {kind} rules: {}, with hits: {}", retired.rules, retired.hits);
        }
    }
}

/// Why the filter cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum FilterError {
    /// The filter cannot be made at all.
    #[error("the packet filter cannot be set up (`filter.mode = \"prefer\"` would go on in user space)")]
    Build(#[source] BuildError),
    /// What is pinned there is not what it should be.
    #[error("`pin_dir` of [filter] cannot be used")]
    Pins(#[source] PinError),
    /// The configured rules do not go in.
    #[error("the rules of [[filter.rules]] cannot be installed")]
    Rules(#[source] RuleError),
    /// A socket cannot be guarded.
    #[error("the socket for {address} cannot be guarded by the packet filter")]
    Attach { address: SocketAddr, source: AttachError },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_gets_its_room() {
        let config = Filter {
            mode: Mode::Off,
            ipv4_max: 1,
            ipv6_max: 2,
            ranges4_max: 3,
            ranges6_max: 4,
            qnames_max: 5,
            suffixes_max: 6,
            ..Filter::default()
        };
        let filter = build(&config).unwrap();
        assert_eq!(Kind::ALL.map(|kind| filter.capacity(kind)), [1, 2, 3, 4, 5, 6]);
    }
}
