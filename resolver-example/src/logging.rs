//! Where logs go and how much of them.

use std::io::{self, IsTerminal as _};

use thiserror::Error;
use tracing_subscriber::{EnvFilter, filter::ParseError};

/// The variable that overrides [`DEFAULT_FILTER`].
const VARIABLE: &str = "RUST_LOG";

/// Nothing may be logged per packet, or a flood would fill the disk. hickory logs each response at `info`, and at
/// `warn` each query with an unknown EDNS version or opcode, so only its errors pass.
const DEFAULT_FILTER: &str =
    "info,hickory_server=error,hickory_resolver=error,hickory_net=error,hickory_proto=error";

/// `RUST_LOG` cannot be used.
#[derive(Debug, Error)]
#[error(
    "{VARIABLE}={value:?} is not a log filter: use a level or target=level pairs, such as `info,ebpf_filter=debug`"
)]
pub(crate) struct LoggingError {
    value: String,
    source: ParseError,
}

/// Sends logs to standard error, in colour on a terminal.
pub(crate) fn init() -> Result<(), LoggingError> {
    let value = match std::env::var(VARIABLE) {
        Ok(value) if !value.trim().is_empty() => value,
        Ok(_) | Err(_) => DEFAULT_FILTER.to_owned(),
    };
    let filter = match EnvFilter::try_new(&value) {
        Ok(filter) => filter,
        Err(source) => return Err(LoggingError { value, source }),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_filter_parses() {
        EnvFilter::try_new(DEFAULT_FILTER).unwrap();
    }
}
