//! Whether a cluster is alive: probes with thresholds, and the state that follows from them and
//! from the configuration.
//!
//! A cluster counts as alive until probes say otherwise, so that a gateway that has just started
//! serves at once.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::checked::{self, Cluster, ClusterState};
use crate::observe::metrics::Metrics;

/// The words of `cluster_state`.
const STATES: [&str; 4] = ["serving", "draining", "ejected", "disabled"];

/// A cluster's health.
#[derive(Debug)]
pub struct Health {
    name: String,
    configured: ClusterState,
    thresholds: checked::Health,
    alive: AtomicBool,
    /// Verdicts in a row that differ from `alive`.
    streak: AtomicU32,
    /// What the last probe that failed said; empty while the cluster is alive.
    why: Mutex<String>,
    metrics: Arc<Metrics>,
}

impl Health {
    pub(super) fn new(config: &Cluster, metrics: Arc<Metrics>) -> Self {
        let health = Health {
            name: config.name.clone(),
            configured: config.state,
            thresholds: config.health,
            alive: AtomicBool::new(true),
            streak: AtomicU32::new(0),
            why: Mutex::default(),
            metrics,
        };
        let labels = [health.name.as_str()];
        health.metrics.cluster_up.with_label_values(&labels).set(1);
        health
            .metrics
            .cluster_live_batches
            .with_label_values(&labels);
        health
            .metrics
            .cluster_insecure_tls
            .with_label_values(&labels)
            .set(config.tls.insecure_skip_verify.into());
        health.show();
        health
    }

    /// Returns the state: what is configured, or `ejected`.
    pub fn state(&self) -> &'static str {
        match self.configured {
            ClusterState::Disabled => "disabled",
            ClusterState::Draining => "draining",
            ClusterState::Serving if self.is_alive() => "serving",
            ClusterState::Serving => "ejected",
        }
    }

    /// Tells whether the last probes found it alive.
    pub fn is_alive(&self) -> bool {
        self.alive.load(Ordering::Relaxed)
    }

    /// Returns why the last probe failed, as the end of a sentence; nothing if it did not.
    pub fn why(&self) -> String {
        let why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        match why.as_str() {
            "" => String::new(),
            why => format!(" ({why})"),
        }
    }

    /// Tells whether new batches may go there.
    pub fn takes_batches(&self) -> bool {
        self.state() == "serving"
    }

    /// Tells whether it may be asked anything.
    pub fn is_enabled(&self) -> bool {
        self.configured != ClusterState::Disabled
    }

    /// Takes a probe's verdict.
    pub fn judge(&self, verdict: &Result<(), String>) {
        let up = verdict.is_ok();
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) =
            verdict.as_ref().err().cloned().unwrap_or_default();
        self.metrics
            .cluster_up
            .with_label_values(&[self.name.as_str()])
            .set(up.into());
        if up == self.is_alive() {
            self.streak.store(0, Ordering::Relaxed);
            return;
        }
        let streak = self.streak.fetch_add(1, Ordering::Relaxed) + 1;
        let enough = if up {
            self.thresholds.healthy_after
        } else {
            self.thresholds.unhealthy_after
        };
        if streak < enough {
            return;
        }
        self.alive.store(up, Ordering::Relaxed);
        self.streak.store(0, Ordering::Relaxed);
        self.metrics
            .cluster_transitions_total
            .with_label_values(&[self.name.as_str(), self.state(), "probe"])
            .inc();
        match verdict {
            Ok(()) => tracing::info!(cluster = %self.name, "the cluster is alive again"),
            Err(why) => {
                tracing::warn!(cluster = %self.name, %why, "the cluster does not answer its probes")
            }
        }
        self.show();
    }

    fn show(&self) {
        for state in STATES {
            let here = i64::from(self.state() == state);
            self.metrics
                .cluster_state
                .with_label_values(&[self.name.as_str(), state])
                .set(here);
        }
    }
}
