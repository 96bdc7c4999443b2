//! Sockets, TLS and HTTP limits: everything before a request is a request.
//!
//! Owns accepting, the deadlines of a connection's life (handshake, head, sending, idle) and the
//! drain. Leaves requests to `walk`.

mod activity;
mod connection;
mod descriptors;
mod listener;
mod plain;

pub mod tls;

pub use descriptors::warn_of_few;
pub use listener::Listener;
pub(crate) use plain::serve_plain;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::checked::Limits;
use crate::runtime::Gateway;
use activity::Patience;
use listener::Arrival;

/// What every connection of a server shares.
pub struct Server {
    gateway: Arc<Gateway>,
    tls: Option<tokio_rustls::TlsAcceptor>,
    limits: Limits,
    patience: Patience,
    room: Arc<Semaphore>,
    connections: TaskTracker,
    closing: CancellationToken,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("connections", &self.connections.len())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Makes a server; it serves once [`Server::accept`] runs.
    pub fn new(gateway: Arc<Gateway>, tls: Option<tokio_rustls::TlsAcceptor>) -> Arc<Self> {
        let snapshot = gateway.snapshot.load();
        let (limits, timeouts) = (
            snapshot.config.server.limits,
            snapshot.config.server.timeouts,
        );
        drop(snapshot);
        Arc::new(Server {
            gateway,
            tls,
            limits,
            patience: timeouts.into(),
            room: Arc::new(Semaphore::new(
                limits.connections.min(Semaphore::MAX_PERMITS),
            )),
            connections: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    /// Accepts connections until the drain.
    pub async fn accept(self: Arc<Self>, mut listener: Listener) {
        let label: Arc<str> = listener.label.as_str().into();
        self.create_series(&label);
        loop {
            let arrival = tokio::select! {
                () = self.closing.cancelled() => return,
                arrival = listener.accept() => arrival,
            };
            match arrival {
                // A client never takes the last descriptor: that one is for the probe that comes
                // next.
                Arrival::Usual(tcp, peer) if descriptors::one_left() => {
                    self.admit(tcp, peer, &label)
                }
                // Closed at once, so that it does not wait in the kernel's queue for somebody who
                // can't come.
                Arrival::Usual(..) | Arrival::Last(_) => {
                    listener.tell("no descriptor was left for it");
                    self.count(&label, "limit");
                }
            }
        }
    }

    fn create_series(&self, label: &str) {
        let metrics = &self.gateway.metrics;
        metrics.connections_open.with_label_values(&[label]);
        for outcome in ["ok", "tls_error", "limit", "timeout"] {
            metrics
                .connections_total
                .with_label_values(&[label, outcome]);
        }
    }

    fn admit(self: &Arc<Self>, tcp: TcpStream, peer: SocketAddr, label: &Arc<str>) {
        let Ok(room) = self.room.clone().try_acquire_owned() else {
            // Closed at once: a client that is told nothing tries another replica sooner than one
            // that waits.
            self.count(label, "limit");
            return;
        };
        let (server, label) = (self.clone(), label.clone());
        self.connections.spawn(async move {
            let open = server
                .gateway
                .metrics
                .connections_open
                .with_label_values(&[&label]);
            open.inc();
            connection::run(&server, tcp, peer, &label).await;
            open.dec();
            drop(room);
        });
    }

    fn count(&self, label: &str, outcome: &str) {
        self.gateway
            .metrics
            .connections_total
            .with_label_values(&[label, outcome])
            .inc();
    }

    /// Stops accepting, lets what is in flight finish, at most for `limit`. Returns how many
    /// connections were cut.
    pub async fn drain(&self, limit: Duration) -> usize {
        self.closing.cancel();
        self.connections.close();
        let _ = tokio::time::timeout(limit, self.connections.wait()).await;
        self.connections.len()
    }
}
