//! Sockets, TLS and HTTP limits: everything before a request is a request.
//!
//! Owns accepting, the deadlines of a connection's life (handshake, head, sending, idle) and the
//! drain. Leaves requests to `walk`.

mod activity;
mod connection;
mod descriptors;
mod listener;
mod plain;
mod series;
mod terms;

pub use descriptors::warn_of_few;
pub use listener::Listener;
pub(crate) use plain::serve_plain;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gateway::Gateway;
use crate::net::certificate::ServerCertificate;
use listener::Arrival;
use series::Series;
use terms::Terms;

/// What every connection of a server shares. Limits, deadlines and the certificate are those of the
/// configuration in force when a connection comes.
pub struct Server {
    gateway: Arc<Gateway>,
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
    pub fn new(gateway: Arc<Gateway>) -> Arc<Self> {
        Arc::new(Server {
            gateway,
            connections: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    /// Accepts connections until the drain, or until `end`: what is open then goes on. The
    /// listener's series are there at once.
    pub fn accept(
        self: Arc<Self>,
        listener: Listener,
        end: CancellationToken,
    ) -> impl Future<Output = ()> + Send {
        let series = Arc::new(Series::new(&self.gateway.metrics, &listener.label));
        self.accept_from(listener, series, end)
    }

    async fn accept_from(
        self: Arc<Self>,
        mut listener: Listener,
        series: Arc<Series>,
        end: CancellationToken,
    ) {
        loop {
            let arrival = tokio::select! {
                () = self.closing.cancelled() => return,
                () = end.cancelled() => return,
                arrival = listener.accept() => arrival,
            };
            match arrival {
                // A client never takes the last descriptor: that one is for the probe that comes
                // next.
                Arrival::Usual(tcp, peer) if descriptors::one_left() => {
                    self.admit(tcp, peer, &series)
                }
                // Closed at once, so that it does not wait in the kernel's queue for somebody who
                // can't come.
                Arrival::Usual(..) | Arrival::Last(..) => {
                    listener.tell("no descriptor was left for it");
                    series.count("limit");
                }
            }
        }
    }

    fn admit(&self, tcp: TcpStream, peer: SocketAddr, series: &Arc<Series>) {
        let snapshot = self.gateway.snapshot.load_full();
        if self.connections.len() >= snapshot.config.server.limits.connections {
            // Closed at once: a client that is told nothing tries another replica sooner than one
            // that waits.
            series.count("limit");
            return;
        }
        let terms = Terms {
            gateway: self.gateway.clone(),
            closing: self.closing.clone(),
            series: series.clone(),
            acceptor: snapshot
                .certificate
                .as_ref()
                .map(ServerCertificate::acceptor),
            limits: snapshot.config.server.limits,
            patience: snapshot.config.server.timeouts.into(),
        };
        self.connections.spawn(async move {
            let open = terms.series.open.clone();
            open.inc();
            connection::run(terms, tcp, peer).await;
            open.dec();
        });
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
