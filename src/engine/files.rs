//! The files that a configuration names: what is read again when it changes, and what metrics show
//! of it.

use std::sync::Arc;

use crate::gateway::Snapshot;
use crate::live::{Living, Seen};
use crate::observe::metrics::Metrics;
use crate::observe::named::Named;

/// Reads certificates, password files, key sets and secrets again that have changed. Blocks on the
/// disk.
pub(super) fn look(snapshot: &Snapshot, metrics: &Metrics) {
    for living in living(snapshot) {
        let (kind, names) = (living.kind(), living.names());
        let name = names.join(", ");
        let outcome = match living.look() {
            Seen::Same => continue,
            Seen::Changed => {
                tracing::info!(kind, name, "a file has changed and is in use");
                "ok"
            }
            Seen::Broken(why) => {
                tracing::error!(
                    kind,
                    name,
                    why,
                    "a file has changed and can't be used; what was read before stays in use"
                );
                "error"
            }
        };
        for name in &names {
            let reads = metrics
                .file_reads_total
                .with_label_values(&[kind, name, outcome]);
            reads.inc();
        }
        show(snapshot, metrics);
    }
}

/// Shows which files are in use as they are now, and when certificates end.
pub(super) fn show(snapshot: &Snapshot, metrics: &Metrics) {
    for living in living(snapshot) {
        for name in living.names() {
            let labels = [living.kind(), name.as_str()];
            let current = metrics.file_current.with_label_values(&labels);
            current.set(living.is_current().into());
        }
    }
    for (kind, name, ends) in certificates(snapshot) {
        let ends_at = metrics
            .tls_certificate_expiry
            .with_label_values(&[kind, &name]);
        ends_at.set(ends);
    }
}

/// Names the series that [`look`] and [`show`] write.
pub(super) fn name(snapshot: &Snapshot, named: &mut Named) {
    for living in living(snapshot) {
        for name in living.names() {
            named.add_pair(living.kind(), name);
        }
    }
    for (kind, name, _) in certificates(snapshot) {
        named.add_pair(kind, name);
    }
}

/// Returns everything of a snapshot that is read again when it changes.
fn living(snapshot: &Snapshot) -> Vec<Arc<dyn Living>> {
    let certificates = snapshot
        .certificate
        .iter()
        .chain(&snapshot.admin_certificate);
    let chain = snapshot.authenticators.chain().iter();
    let clusters = snapshot.upstreams.values();
    certificates
        .map(|one| one.living())
        .chain(chain.filter_map(|one| one.living()))
        .chain(clusters.flat_map(|one| one.living()))
        .collect()
}

/// Returns what certificates are in use: the metric's `kind` and `name`, and when each ends.
fn certificates(snapshot: &Snapshot) -> Vec<(&'static str, String, f64)> {
    let shown = [
        // The word that dashboards know from the time when there was one certificate.
        ("default", &snapshot.certificate),
        ("admin", &snapshot.admin_certificate),
    ];
    let shown = shown
        .into_iter()
        .filter_map(|(name, one)| Some(("server", name.to_owned(), one.as_ref()?.ends())));
    let upstreams = snapshot.upstreams.iter();
    let upstreams = upstreams
        .filter_map(|(name, one)| Some(("upstream", name.clone(), one.certificate_ends()?)));
    shown.chain(upstreams).collect()
}
