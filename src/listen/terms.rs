//! What a connection begins with, and keeps.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::activity::Patience;
use crate::config::checked::Limits;
use crate::gateway::Gateway;

/// The terms of one connection: the configuration in force when it came.
pub(super) struct Terms {
    pub(super) gateway: Arc<Gateway>,
    /// Says that the server stops.
    pub(super) closing: CancellationToken,
    /// The listener, for metrics.
    pub(super) label: Arc<str>,
    pub(super) acceptor: Option<TlsAcceptor>,
    pub(super) limits: Limits,
    pub(super) patience: Patience,
}

impl Terms {
    /// Counts how the connection's beginning went.
    pub(super) fn count(&self, outcome: &str) {
        let connections = &self.gateway.metrics.connections_total;
        connections.with_label_values(&[&self.label, outcome]).inc();
    }
}
