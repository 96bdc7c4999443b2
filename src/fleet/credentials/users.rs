//! Which clusters use a login, and its series: one for each of them, for as long as it is theirs.

use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::observe::metrics::Metrics;

/// The `outcome` values of `credential_refresh_total`.
const OUTCOMES: [&str; 3] = ["ok", "refused", "error"];

#[derive(Debug)]
pub(super) struct Users {
    kind: &'static str,
    metrics: Arc<Metrics>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// How often each uses it: twice for a moment when a cluster is defined anew.
    names: BTreeMap<String, usize>,
    /// When the token in use ends, Unix time.
    ends: Option<f64>,
}

impl Users {
    /// `kind` is the metric's.
    pub(super) fn new(kind: &'static str, metrics: &Arc<Metrics>) -> Self {
        Users {
            kind,
            metrics: metrics.clone(),
            inner: Mutex::default(),
        }
    }

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    /// Takes a cluster in, and creates its series.
    pub(super) fn join(&self, cluster: &str) {
        let mut inner = self.lock();
        *inner.names.entry(cluster.to_owned()).or_default() += 1;
        for outcome in OUTCOMES {
            let labels = [cluster, self.kind, outcome];
            let refreshes = &self.metrics.credential_refresh_total;
            refreshes.with_label_values(&labels);
        }
        let expiry = self.metrics.credential_expiry.with_label_values(&[cluster]);
        inner.ends.iter().for_each(|ends| expiry.set(*ends));
    }

    /// Lets a cluster go. Nothing is written in its name from now on.
    pub(super) fn leave(&self, cluster: &str) {
        let mut inner = self.lock();
        if let Some(count) = inner.names.get_mut(cluster) {
            *count -= 1;
            if *count == 0 {
                inner.names.remove(cluster);
            }
        }
    }

    /// Removes the series of a cluster that has left, less those that its next login writes as well.
    pub(super) fn forget(&self, cluster: &str, next: Option<&Users>) {
        // Absent ones are as good as removed.
        if next.is_none_or(|next| next.kind != self.kind) {
            for outcome in OUTCOMES {
                let labels = [cluster, self.kind, outcome];
                let _ = self
                    .metrics
                    .credential_refresh_total
                    .remove_label_values(&labels);
            }
        }
        if next.is_none() {
            let _ = self
                .metrics
                .credential_expiry
                .remove_label_values(&[cluster]);
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// Counts an exchange, for each cluster.
    pub(super) fn count(&self, outcome: &str) {
        for cluster in self.lock().names.keys() {
            let labels = [cluster.as_str(), self.kind, outcome];
            let refreshes = &self.metrics.credential_refresh_total;
            refreshes.with_label_values(&labels).inc();
        }
    }

    /// Notes when the token in use ends.
    pub(super) fn ends(&self, at: f64) {
        let mut inner = self.lock();
        inner.ends = Some(at);
        for cluster in inner.names.keys() {
            let labels = [cluster.as_str()];
            self.metrics
                .credential_expiry
                .with_label_values(&labels)
                .set(at);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// For log lines.
impl Display for Users {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.names().join(", "))
    }
}
