//! What is right and worth knowing all the same: what a configuration does not promise.

use super::checked::{ActAs, Config, Registry};

/// Returns what `check` says of a configuration that is right, and `serve` once at its start.
pub(super) fn notes(config: &Config) -> Vec<String> {
    let mut notes = Vec::new();
    if !matches!(config.registry, Registry::Passthrough) {
        return notes;
    }
    notes.push(
        "registry.passthrough: ids are the cluster's own, and nothing is stored: whoever starts anew knows no Idempotency-Key, no kill that is not \
         confirmed and no submission whose answer is still awaited, and a batch is then its owner's by what the cluster shows"
            .to_owned(),
    );
    let as_service = |cluster: &&super::checked::Cluster| cluster.act_as == ActAs::Service;
    if let Some(cluster) = config.clusters.iter().find(as_service)
        && !config.visible_to_all
    {
        notes.push(format!(
            "registry.passthrough: jobs on cluster {:?} run as the gateway's own account, so after a restart they are that user's, or nobody's: \
             let callers have its name, or set `visibility: all` (kills stay with owners and administrators) or `admin_users`",
            cluster.name
        ));
    }
    notes
}

/// What is said where a SQLite file may stand in more places than one.
pub(super) const ONE_GATEWAY: &str = "registry.sqlite: a file serves one gateway; more of them (replicas, a sidecar in each of several pods) would give one id to two \
     batches, and take `registry: {postgres: ...}`, or, before one cluster that counts its batches, `registry: {passthrough: {}}`";
