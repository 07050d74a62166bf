//! The handler that asks upstream resolvers, and caches what they say.

use std::time::Duration;

use hickory_resolver::config::{NameServerConfig, ResolverOpts};
use hickory_server::store::forwarder::{ForwardConfig, ForwardZoneHandler};
use thiserror::Error;

use crate::config::Forward;

/// How long an upstream gets to answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How often it is asked again.
const RETRIES: usize = 1;

/// The forwarder cannot be set up.
#[derive(Debug, Error)]
#[error("the forwarder cannot start ({reason}): check [forward] in the configuration")]
pub(crate) struct ForwardError {
    reason: String,
}

/// A handler for the root zone: it takes every query that no zone answers.
pub(crate) fn handler(forward: &Forward) -> Result<ForwardZoneHandler, ForwardError> {
    let name_servers = forward
        .upstreams
        .iter()
        .map(|upstream| {
            let mut server = NameServerConfig::udp_and_tcp(upstream.ip());
            for connection in &mut server.connections {
                connection.port = upstream.port();
            }
            server
        })
        .collect();

    let mut options = ResolverOpts::default();
    options.cache_size = forward.cache_size;
    // Give up before a client does, which by default waits for five seconds, at least once.
    options.timeout = TIMEOUT;
    options.attempts = RETRIES;
    // A client that follows a CNAME wants to see it.
    options.preserve_intermediates = true;

    let config = ForwardConfig { name_servers, options: Some(options) };
    ForwardZoneHandler::builder_tokio(config).build().map_err(|reason| ForwardError { reason })
}
