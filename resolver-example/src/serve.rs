//! The life of the server: start, serve, stop.

use std::{sync::Arc, time::Duration};

use ebpf_filter::{BpfFilter, hickory::Guarded};
use hickory_proto::rr::{LowerName, Name};
use hickory_server::zone_handler::Catalog;
use tokio::{runtime, time};
use tracing::{info, warn};

use crate::{
    cached::Waited,
    config::{Config, Listen},
    dynblocks::DynBlocks,
    error::Error,
    filter, forward,
    in_flight::InFlight,
    listeners::Listeners,
    signals::Signals,
    sockets::{SocketError, Sockets},
    zones::Zone,
};

/// How long a stopping server waits for the queries in flight: longer than a forwarded one takes to fail.
const GRACE: Duration = Duration::from_secs(5);

/// A handled query has its answer queued, not sent: the time that the tasks of the sockets get to send it.
const SEND: Duration = Duration::from_millis(50);

/// Serves until a signal ends it.
pub(crate) fn serve(config: &Config) -> Result<(), Error> {
    let zones = Zone::load_all(&config.zones)?;
    let runtime = runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(run(config, zones))
}

async fn run(config: &Config, zones: Vec<Zone>) -> Result<(), Error> {
    let mut signals = Signals::install().map_err(Error::Runtime)?;

    let filter = filter::build(&config.filter)?;
    let dynblocks = config.dynblocks.as_ref().map(|config| DynBlocks::start(config, &filter)).transpose()?;
    let sockets = open(&config.listen, &filter)?;
    let guarded = Guarded::new(filter.clone(), Waited::new(catalog(config, zones)?));
    let handler = InFlight::new(match &dynblocks {
        Some(dynblocks) => dynblocks.guard(guarded)?,
        None => guarded,
    });
    filter::log_enforcement(&filter, &config.filter.rules);

    let mut listeners = Listeners::default();
    for sockets in sockets {
        info!("listening on {} (udp ×{}, tcp)", sockets.address, sockets.udp.len());
        listeners.add(sockets, &handler)?;
    }

    let stop = tokio::select! {
        stop = signals.next() => stop,
        failure = listeners.failure() => {
            if let Some(dynblocks) = dynblocks {
                dynblocks.stop().await;
            }
            return Err(failure.into());
        }
    };
    info!("{stop}: stopping; {} queries in flight get up to {GRACE:?}", handler.len());
    tokio::spawn(async move {
        let stop = signals.next().await;
        warn!("{stop} again: stopping at once");
        std::process::exit(stop.exit_code());
    });

    if time::timeout(GRACE, handler.drain()).await.is_err() {
        warn!("{} queries stay unanswered", handler.len());
    }
    time::sleep(SEND).await;
    listeners.stop().await;
    filter::log_hits(&filter);
    if let Some(dynblocks) = dynblocks {
        dynblocks.stop().await;
    }
    info!("stopped");
    Ok(())
}

fn open(listen: &Listen, filter: &BpfFilter) -> Result<Vec<Sockets>, SocketError> {
    let Listen { addresses, udp_sockets, optional_ipv6 } = listen;
    let mut open = Vec::with_capacity(addresses.len());
    for &address in addresses {
        let guard = |socket: &_| filter::attach(filter, socket, address);
        match Sockets::open(address, *udp_sockets, guard) {
            Ok(sockets) => open.push(sockets),
            Err(SocketError::NotLocal { source, .. }) if *optional_ipv6 && address.is_ipv6() => {
                warn!(
                    "not listening on {address}: this machine has no IPv6 ({source}); set `listen.dns` to silence this"
                );
            }
            Err(error) => return Err(error),
        }
    }
    Ok(open)
}

/// The zones, and behind them the forwarder if there is one; any other query is refused.
fn catalog(config: &Config, zones: Vec<Zone>) -> Result<Catalog, Error> {
    let mut catalog = Catalog::new();
    for zone in zones {
        info!("zone {} with {} records", zone.origin(), zone.record_count());
        let origin = LowerName::new(zone.origin());
        catalog.upsert(origin, vec![Arc::new(zone.into_handler())]);
    }
    if let Some(config) = &config.forward {
        let upstreams = &config.upstreams;
        info!("forwarding to {upstreams:?}, caching up to {} responses", config.cache_size);
        catalog.upsert(Name::root().into(), vec![Arc::new(forward::handler(config)?)]);
    }
    Ok(catalog)
}
