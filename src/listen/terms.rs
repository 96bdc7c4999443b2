//! What a connection begins with, and keeps.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::activity::Patience;
use super::series::Series;
use crate::config::checked::Limits;
use crate::gateway::Gateway;

/// The terms of one connection: the configuration in force when it came.
pub(super) struct Terms {
    pub(super) gateway: Arc<Gateway>,
    /// Says that the server stops.
    pub(super) closing: CancellationToken,
    /// What is counted of its listener.
    pub(super) series: Arc<Series>,
    pub(super) acceptor: Option<TlsAcceptor>,
    pub(super) limits: Limits,
    pub(super) patience: Patience,
}
