//! Sockets, TLS and HTTP limits: everything before a request is a request.
//!
//! Owns accepting, the deadlines of a connection's life (handshake, head, idle) and the drain. Leaves requests to `walk`.

mod activity;
mod connection;

pub mod tls;

pub(crate) use connection::serve_plain;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::checked::{Limits, ServerTimeouts};
use crate::runtime::Gateway;

/// How long to wait after `accept` failed, for instance because no file descriptor is left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound listener that is not accepting yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    /// Its configured address: the `listener` label.
    label: String,
}

impl Listener {
    /// Binds an address.
    ///
    /// # Errors
    /// Why not.
    pub async fn bind(address: SocketAddr) -> std::io::Result<Listener> {
        Ok(Listener { socket: TcpListener::bind(address).await?, label: address.to_string() })
    }

    /// Returns the address that was really bound.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// What every connection of a server shares.
pub struct Server {
    gateway: Arc<Gateway>,
    tls: Option<tokio_rustls::TlsAcceptor>,
    limits: Limits,
    timeouts: ServerTimeouts,
    room: Arc<Semaphore>,
    connections: TaskTracker,
    closing: CancellationToken,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("connections", &self.connections.len()).finish_non_exhaustive()
    }
}

impl Server {
    /// Makes a server; it serves once [`Server::accept`] runs.
    pub fn new(gateway: Arc<Gateway>, tls: Option<tokio_rustls::TlsAcceptor>) -> Arc<Self> {
        let snapshot = gateway.snapshot.load();
        let (limits, timeouts) = (snapshot.config.server.limits, snapshot.config.server.timeouts);
        drop(snapshot);
        Arc::new(Server {
            gateway,
            tls,
            limits,
            timeouts,
            room: Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS))),
            connections: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    /// Accepts connections until the drain.
    pub async fn accept(self: Arc<Self>, listener: Listener) {
        let label: Arc<str> = listener.label.into();
        self.create_series(&label);
        loop {
            let accepted = tokio::select! {
                () = self.closing.cancelled() => return,
                accepted = listener.socket.accept() => accepted,
            };
            match accepted {
                Ok((tcp, peer)) => self.admit(tcp, peer, &label),
                Err(error) => {
                    tracing::warn!(%error, listener = %label, "a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn create_series(&self, label: &str) {
        let metrics = &self.gateway.metrics;
        metrics.connections_open.with_label_values(&[label]);
        for outcome in ["ok", "tls_error", "limit", "timeout"] {
            metrics.connections_total.with_label_values(&[label, outcome]);
        }
    }

    fn admit(self: &Arc<Self>, tcp: TcpStream, peer: SocketAddr, label: &Arc<str>) {
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            // Closed at once: a client that is told nothing tries another replica sooner than one that waits.
            self.count(label, "limit");
            return;
        };
        let (server, label) = (self.clone(), label.clone());
        self.connections.spawn(async move {
            let open = server.gateway.metrics.connections_open.with_label_values(&[&label]);
            open.inc();
            connection::run(&server, tcp, peer, &label).await;
            open.dec();
            drop(room);
        });
    }

    fn count(&self, label: &str, outcome: &str) {
        self.gateway.metrics.connections_total.with_label_values(&[label, outcome]).inc();
    }

    /// Stops accepting, lets what is in flight finish, at most for `limit`. Returns how many connections were cut.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.closing.cancel();
        self.connections.close();
        let _ = tokio::time::timeout(limit, self.connections.wait()).await;
        self.connections.len()
    }
}
