//! Everything that can end the program, and how it is told.

use std::{error::Error as _, io, process::ExitCode};

use thiserror::Error;

use crate::{
    config::ConfigError, dynblocks::DynBlocksError, filter::FilterError, forward::ForwardError,
    listeners::ListenerError, logging::LoggingError, sockets::SocketError, zones::ZoneError,
};

/// Why the program ends before it was asked to.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum Error {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A zone cannot be used.
    #[error(transparent)]
    Zone(#[from] ZoneError),
    /// The log filter cannot be used.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// The packet filter cannot be set up.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Dynamic blocks cannot be set up.
    #[error(transparent)]
    DynBlocks(#[from] DynBlocksError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The forwarder cannot be set up.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// A listening socket stopped working.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// The async runtime or its signal handlers cannot be started.
    #[error(
        "the async runtime cannot start: check the limits on threads and open files (ulimit -u, ulimit -n)"
    )]
    Runtime(#[source] io::Error),
}

impl Error {
    /// `error: …`, then each cause on a line of its own, unless the line before ends with it.
    pub(crate) fn report(&self) -> String {
        let mut report = format!("error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !report.ends_with(&text) {
                report.push_str("\n  caused by: ");
                report.push_str(&text);
            }
            cause = error.source();
        }
        report
    }

    /// 2 where the operator's files are wrong, else 1.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_) | Self::Zone(_) => ExitCode::from(2),
            Self::Logging(_)
            | Self::Filter(_)
            | Self::DynBlocks(_)
            | Self::Socket(_)
            | Self::Forward(_)
            | Self::Listener(_)
            | Self::Runtime(_) => ExitCode::FAILURE,
        }
    }
}
