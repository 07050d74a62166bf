//! `[forward]`: who answers what no zone does.

use std::net::{IpAddr, SocketAddr};

use super::{
    error::{ConfigError, Problem},
    listen::Listen,
    schema,
    source::Source,
};

/// The port of a resolver that is named without one.
const DNS_PORT: u16 = 53;

/// Responses, not bytes: a few megabytes when full.
const DEFAULT_CACHE_SIZE: u64 = 8192;

/// The resolvers to ask.
#[derive(Debug)]
pub(crate) struct Forward {
    /// At least one.
    pub(crate) upstreams: Vec<SocketAddr>,
    /// How many responses are kept until their TTL ends; 0 keeps none.
    pub(crate) cache_size: u64,
}

impl Forward {
    pub(super) fn check(
        raw: schema::Forward,
        listen: &Listen,
        source: &Source<'_>,
    ) -> Result<Self, ConfigError> {
        let schema::Forward { upstreams: raw, cache_size } = raw;
        let span = raw.span();
        let mut upstreams = Vec::new();
        for item in raw.into_inner() {
            let span = item.span();
            let value = item.into_inner();
            let Some(upstream) = parse(&value) else {
                return Err(source.invalid(&span, Problem::Upstream { value }));
            };
            if listen.addresses.contains(&upstream) {
                return Err(source.invalid(&span, Problem::OwnUpstream { upstream }));
            }
            if upstreams.contains(&upstream) {
                return Err(source.invalid(&span, Problem::RepeatedUpstream { upstream }));
            }
            upstreams.push(upstream);
        }
        if upstreams.is_empty() {
            return Err(source.invalid(&span, Problem::NoUpstream));
        }
        Ok(Self { upstreams, cache_size: cache_size.unwrap_or(DEFAULT_CACHE_SIZE) })
    }
}

fn parse(text: &str) -> Option<SocketAddr> {
    let upstream = match text.parse::<IpAddr>() {
        Ok(ip) => SocketAddr::new(ip, DNS_PORT),
        Err(_) => text.parse().ok()?,
    };
    let usable = upstream.port() != 0 && !upstream.ip().is_unspecified();
    usable.then_some(upstream)
}
