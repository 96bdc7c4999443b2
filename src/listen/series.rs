//! What is counted of a listener.
//!
//! Every series is made when it begins to listen. Once its address is given up they are removed,
//! and what connections that go on still count is seen by nobody: it brings none of them back.

use prometheus::{IntCounter, IntGauge};

use crate::observe::metrics::Metrics;

/// How a connection may begin.
const OUTCOMES: [&str; 4] = ["ok", "tls_error", "limit", "timeout"];

/// How a handshake may end: the version, and the outcome.
const HANDSHAKES: [(&str, &str); 5] = [
    ("1.3", "ok"),
    ("1.2", "ok"),
    ("other", "ok"),
    ("none", "error"),
    ("none", "timeout"),
];

/// The series of one listener.
#[derive(Debug)]
pub(super) struct Series {
    /// Open connections.
    pub(super) open: IntGauge,
    connections: [IntCounter; OUTCOMES.len()],
    handshakes: [IntCounter; HANDSHAKES.len()],
}

impl Series {
    /// Makes them; `label` is the listener's configured address.
    pub(super) fn new(metrics: &Metrics, label: &str) -> Series {
        Series {
            open: metrics.connections_open.with_label_values(&[label]),
            connections: OUTCOMES.map(|outcome| {
                let labels = [label, outcome];
                metrics.connections_total.with_label_values(&labels)
            }),
            handshakes: HANDSHAKES.map(|(version, outcome)| {
                let labels = [label, version, outcome];
                metrics.tls_handshakes_total.with_label_values(&labels)
            }),
        }
    }

    /// Counts how a connection began.
    pub(super) fn count(&self, outcome: &str) {
        if let Some(at) = OUTCOMES.iter().position(|one| *one == outcome) {
            self.connections[at].inc();
        }
    }

    /// Counts how a handshake ended.
    pub(super) fn count_handshake(&self, version: &str, outcome: &str) {
        let handshake = (version, outcome);
        if let Some(at) = HANDSHAKES.iter().position(|one| *one == handshake) {
            self.handshakes[at].inc();
        }
    }
}
