//! Jobs of ours that show up after their client was told that they are not there. The promise that
//! was made is kept: they are killed, unless the route wants them back and nobody was told
//! anything.

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::{BatchRef, Observed, Operation, StateReading, proof};

use super::look::{self, Looked};
use crate::fleet::Upstream;
use crate::gateway::Gateway;
use crate::observe::exchange::Exchange;
use crate::registry::{Entry, Phase};

/// For how long a submission that was given up is still looked for without anybody asking. A list
/// shows it at any time after that.
const WATCHED_FOR: Duration = Duration::from_secs(3600);

/// Looks for what was given up and may still arrive.
pub async fn watch(gateway: &Arc<Gateway>, upstream: &Arc<Upstream>) {
    // Nobody's token is at hand here.
    if upstream.needs_a_caller() {
        return;
    }
    let lost = match gateway
        .registry
        .may_arrive(&upstream.config.name, WATCHED_FOR)
        .await
    {
        Ok(lost) => lost,
        Err(error) => {
            return tracing::error!(%error, "submissions that may still arrive can't be read");
        }
    };
    let exchange = Exchange::default();
    for entry in lost {
        // A client's own name may be anybody's; what ties it to a submission is decided by the
        // list.
        if gateway.stop.is_cancelled() || upstream.health.is_ejected() {
            return;
        }
        if !entry.lookup.is_made_up() && entry.lookup.sent_name.is_some() {
            continue;
        }
        if upstream.dialect().lookup(&entry.lookup) == livy_dialect::LookupPlan::NewInList {
            continue;
        }
        if let Looked::Shows(seen) = look::look(upstream, &entry.lookup, &exchange).await {
            deal_with(gateway, upstream, &entry, &seen).await;
        }
    }
}

/// Kills a late job, or binds it.
pub async fn deal_with(
    gateway: &Arc<Gateway>,
    upstream: &Upstream,
    entry: &Arc<Entry>,
    seen: &Observed,
) {
    let ended = matches!(seen.state, StateReading::Known(state) if state.is_terminal());
    // One that is under way at the next cluster may come back to this one.
    if ended
        || gateway.board.is_under_way(entry.id)
        || entry.is_open()
        || matches!(entry.phase(), Phase::Bound { .. })
        || upstream.needs_a_caller()
        || !still_runs(upstream, entry, seen).await
    {
        return;
    }
    let adopts = gateway
        .snapshot
        .load()
        .routes
        .iter()
        .any(|route| route.name == entry.route && route.adopts_late_jobs);
    let action =
        if adopts && entry.phase() == Phase::Refused && entry.peek(|known| known.may_arrive) {
            match gateway.registry.adopt_late(entry, seen).await {
                Ok(()) => "adopted",
                Err(error) => {
                    tracing::error!(batch = %entry.id, %error, "a late job could not be bound");
                    "failed"
                }
            }
        } else {
            kill(upstream, entry, seen).await
        };
    tracing::warn!(
        batch = %entry.id, cluster = %entry.cluster, upstream_id = %seen.upstream_id, action,
        "a job showed up after its submission had been given up"
    );
    gateway
        .metrics
        .late_jobs_total
        .with_label_values(&[entry.cluster.as_str(), action])
        .inc();
}

/// Looks again: a list that was on its way for a while may show what was killed meanwhile.
async fn still_runs(upstream: &Upstream, entry: &Entry, seen: &Observed) -> bool {
    let dialect = upstream.dialect();
    let request = dialect.get(BatchRef {
        upstream_id: &seen.upstream_id,
        sent_name: seen.name.as_deref(),
    });
    let now = upstream
        .ask(
            Operation::GetBatch,
            &request,
            &Exchange::default(),
            |response| dialect.decode_get(response),
        )
        .await;
    now.is_ok_and(|now| {
        let alive = !matches!(now.state, StateReading::Known(state) if state.is_terminal());
        alive && now.upstream_id == seen.upstream_id && proof::shows(&entry.lookup, &now)
    })
}

async fn kill(upstream: &Upstream, entry: &Entry, seen: &Observed) -> &'static str {
    let dialect = upstream.dialect();
    let exchange = Exchange::default();
    let request = dialect.delete(BatchRef {
        upstream_id: &seen.upstream_id,
        sent_name: seen.name.as_deref(),
    });
    match upstream
        .ask(Operation::DeleteBatch, &request, &exchange, |response| {
            dialect.decode_delete(response)
        })
        .await
    {
        Ok(_) => "killed",
        Err(error) => {
            tracing::warn!(batch = %entry.id, cluster = %entry.cluster, %error, "a late job could not be killed yet");
            "failed"
        }
    }
}
