//! Dynamic blocks, as the configuration wants them: from the file of the last time to the file for the next.

use std::{io, path::PathBuf, time::Duration};

use ebpf_filter::{
    BpfFilter, Enforcement,
    dynblock::{DynBlockError, DynBlockEvent, DynBlockGroup, DynBlockStats, StateError},
    hickory::{Cookies, Guarded},
    set_default_filter,
};
use thiserror::Error;
use tokio::{
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    task::{JoinHandle, spawn_blocking},
    time,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{cached, config};

/// The file is written no more often than this.
const PAUSE: Duration = Duration::from_secs(5);

/// A group that watches, and its file if it has one.
#[derive(Debug)]
pub(crate) struct DynBlocks {
    group: DynBlockGroup,
    saver: Option<Saver>,
}

impl DynBlocks {
    /// Starts a group whose blocks go into `filter`, with the blocks of its file.
    pub(crate) fn start(config: &config::DynBlocks, filter: &BpfFilter) -> Result<Self, DynBlocksError> {
        set_default_filter(filter.clone());
        let group = config.builder().filter(filter.clone()).build().map_err(DynBlocksError::Build)?;
        let rules = config.rules.len();
        if config.counts_malformed() && filter.status().enforcement == Enforcement::UserSpace {
            warn!(
                "malformed-rate rules count nothing: only the kernel sees messages that hickory-server cannot read"
            );
        }
        let saver = match &config.state_file {
            None => {
                info!("dynamic blocks: {rules} rules");
                None
            }
            Some(file) => {
                let restored = group.restore(file).map_err(DynBlocksError::State)?;
                // Whoever cannot write it should know before there is something to lose.
                group.save(file).map_err(DynBlocksError::State)?;
                info!("dynamic blocks: {rules} rules; {restored} blocks from {}", file.display());
                Some(Saver::start(group.clone(), file.clone()))
            }
        };
        Ok(Self { group, saver })
    }

    /// Tells the group about queries and responses.
    pub(crate) fn guard<H>(&self, guarded: Guarded<H>) -> Result<Guarded<H>, DynBlocksError> {
        let cookies = Cookies::random().map_err(DynBlocksError::Cookies)?;
        Ok(guarded.with_dynblocks(self.group.clone()).with_cookies(cookies).cache_hits(cached::cache_hit))
    }

    /// Saves the blocks, and logs what the group has done; for the end of the program.
    pub(crate) async fn stop(self) {
        let Self { group, saver } = self;
        if let Some(saver) = saver {
            saver.stop().await;
        }
        let DynBlockStats {
            active,
            inserted,
            warned,
            refreshed,
            extended,
            expired,
            refused_by_cap,
            degraded,
            ..
        } = group.stats();
        info!(
            "dynamic blocks: {active} active, {inserted} inserted, {warned} warnings, {refreshed} refreshed, {extended} \
             extended, {expired} ended, {refused_by_cap} refused for lack of room, {degraded} in user space because the \
             filter would not take them"
        );
    }
}

/// Writes the file while blocks change.
#[derive(Debug)]
struct Saver {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Saver {
    fn start(group: DynBlockGroup, file: PathBuf) -> Self {
        let stop = CancellationToken::new();
        let (events, stopped) = (group.subscribe(), stop.clone());
        Self { stop, task: tokio::spawn(save_changes(group, file, events, stopped)) }
    }

    /// Writes the file for the last time.
    async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            warn!("the dynamic blocks are not saved: {error}");
        }
    }
}

async fn save_changes(
    group: DynBlockGroup,
    file: PathBuf,
    mut events: Receiver<DynBlockEvent>,
    stop: CancellationToken,
) {
    let mut failing = false;
    let mut stopped = false;
    while !stopped {
        tokio::select! {
            () = stop.cancelled() => stopped = true,
            event = events.recv() => if let Err(RecvError::Closed) = event { return },
        }
        // One file for all that has happened by now.
        while !matches!(events.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
        let (saved, to) = (group.clone(), file.clone());
        match spawn_blocking(move || saved.save(to)).await {
            Ok(Ok(())) => failing = false,
            Ok(Err(error)) if failing && !stopped => tracing::debug!("{error}"),
            Ok(Err(error)) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                warn!("{error} ({cause})");
                failing = true;
            }
            Err(error) => warn!("the dynamic blocks are not saved: {error}"),
        }
        if !stopped {
            // Whoever stops waits for no pause. There may be changes since, so the file is written once more.
            let _ = time::timeout(PAUSE, stop.cancelled()).await;
        }
    }
}

/// Why dynamic blocks cannot be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum DynBlocksError {
    /// The group cannot be built.
    #[error("the dynamic blocks of [dynblocks] cannot be set up")]
    Build(#[source] DynBlockError),
    /// The file cannot be used.
    #[error("`state_file` of [dynblocks] cannot be used")]
    State(#[source] StateError),
    /// There is no secret for cookies.
    #[error("no random numbers for DNS cookies: check that getrandom(2) is allowed")]
    Cookies(#[source] io::Error),
}
