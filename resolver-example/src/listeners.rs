//! The running server: one hickory server for each socket, so that a socket that stops is noticed at once.

use std::{net::SocketAddr, time::Duration};

use hickory_server::{Server, net::NetError, server::RequestHandler};
use thiserror::Error;
use tokio::{
    net::{TcpListener, UdpSocket},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::sockets::{SocketError, Sockets};

/// A TCP connection without a query for this long is closed.
const TCP_IDLE: Duration = Duration::from_secs(5);

/// Answers that may wait for one TCP client to read them.
const TCP_ANSWERS: usize = 32;

/// Sockets that answer queries.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    stop: Vec<CancellationToken>,
    running: JoinSet<Result<(), ListenerError>>,
}

impl Listeners {
    /// Answers what arrives at `sockets` with `handler`.
    pub(crate) fn add<H: RequestHandler + Clone>(
        &mut self,
        sockets: Sockets,
        handler: &H,
    ) -> Result<(), SocketError> {
        let Sockets { address, udp, tcp } = sockets;
        for socket in udp {
            let socket = UdpSocket::from_std(socket).map_err(|source| SocketError::Io { address, source })?;
            let mut server = Server::new(handler.clone());
            server.register_socket(socket);
            self.run(server, address, "UDP");
        }
        let listener = TcpListener::from_std(tcp).map_err(|source| SocketError::Io { address, source })?;
        let mut server = Server::new(handler.clone());
        server.register_listener(listener, TCP_IDLE, TCP_ANSWERS);
        self.run(server, address, "TCP");
        Ok(())
    }

    fn run<H: RequestHandler>(&mut self, mut server: Server<H>, address: SocketAddr, protocol: &'static str) {
        self.stop.push(server.shutdown_token().clone());
        self.running.spawn(async move {
            let outcome = server.block_until_done().await;
            outcome.map_err(|error| ListenerError::Stopped { address, protocol, source: error.into() })
        });
    }

    /// Waits until a socket stops without having been asked to.
    pub(crate) async fn failure(&mut self) -> ListenerError {
        loop {
            match self.running.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return error,
                Some(Err(error)) => return ListenerError::Crashed(error),
                None => std::future::pending().await,
            }
        }
    }

    /// Closes every socket, whatever is still in flight.
    pub(crate) async fn stop(mut self) {
        for token in &self.stop {
            token.cancel();
        }
        while self.running.join_next().await.is_some() {}
    }
}

/// A socket stopped answering.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum ListenerError {
    /// The kernel closed it.
    #[error("the {protocol} socket on {address} stopped: restart the server")]
    Stopped { address: SocketAddr, protocol: &'static str, source: Box<NetError> },
    /// The code that serves it panicked.
    #[error("a listener crashed: restart the server and report the panic above")]
    Crashed(#[source] JoinError),
}
