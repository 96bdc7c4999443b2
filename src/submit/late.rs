//! Jobs of ours that show up after their client was told that they are not there. The promise that
//! was made is kept: they are killed, unless the route wants them back and nobody was told
//! anything.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use livy_dialect::{BatchRef, LookupPlan, Observed, Operation, StateReading, proof};

use super::look::{self, Looked};
use crate::fleet::Upstream;
use crate::gateway::Gateway;
use crate::observe::exchange::Exchange;
use crate::registry::{Entry, GatewayId, Phase};

/// For how long a submission that was given up is still looked for without anybody asking. A list
/// shows it at any time after that.
const WATCHED_FOR: Duration = Duration::from_secs(3600);

/// How many are asked for at a time. The next ones follow; after a cluster that lost hundreds has
/// come back, looking for them must not be all that it does.
const LOOKS: usize = 20;

/// Looks for what was given up, or told to be gone, and may still show up.
pub async fn watch(gateway: &Arc<Gateway>, upstream: &Arc<Upstream>) {
    // Nobody's token is at hand here.
    if upstream.needs_a_caller() {
        return;
    }
    let after = GatewayId(upstream.watched_up_to.load(Ordering::Relaxed));
    let registry = &gateway.registry;
    let lost = match registry
        .may_arrive(&upstream.config.name, WATCHED_FOR, after, LOOKS)
        .await
    {
        Ok(lost) => lost,
        Err(error) => {
            return tracing::error!(%error, "submissions that may still arrive can't be read");
        }
    };
    let next = lost.last().filter(|_| lost.len() == LOOKS);
    upstream
        .watched_up_to
        .store(next.map_or(0, |last| last.id.0), Ordering::Relaxed);
    let exchange = Exchange::default();
    for entry in lost {
        if gateway.stop.is_cancelled() || upstream.health.is_ejected() {
            return;
        }
        if let Some(seen) = look_for(gateway, upstream, &entry, &exchange).await {
            deal_with(gateway, upstream, &entry, &seen).await;
        }
    }
}

/// Asks for one of them: by its key, or by the number that it had.
async fn look_for(
    gateway: &Arc<Gateway>,
    upstream: &Upstream,
    entry: &Entry,
    exchange: &Exchange,
) -> Option<Observed> {
    let dialect = upstream.dialect();
    let keyed = dialect.lookup(&entry.lookup) != LookupPlan::NewInList && !entry.adopted;
    if keyed && entry.lookup.is_certain() {
        return match look::look(upstream, &entry.lookup, exchange).await {
            Looked::Shows(seen) => Some(*seen),
            Looked::Nothing | Looked::NotAll | Looked::Unanswered(_) => None,
        };
    }
    // A client's own name may be anybody's; what ties it to a submission that never had a number is
    // decided by the list.
    let upstream_id = entry.upstream_id()?;
    let request = dialect.get(BatchRef {
        upstream_id: &upstream_id,
        sent_name: None,
    });
    let seen = upstream
        .ask(Operation::GetBatch, &request, exchange, |response| {
            dialect.decode_get(response)
        })
        .await
        .ok()?;
    match gateway.registry.is_late(entry, &seen).await {
        Ok(late) => late.then_some(seen),
        Err(error) => {
            tracing::error!(batch = %entry.id, %error, "it can't be told whose the batch is that was found");
            None
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

/// Returns the name that it alone has, if it is shown under one.
fn own_name<'a>(entry: &Entry, seen: &'a Observed) -> Option<&'a str> {
    let own = entry.lookup.is_made_up() && entry.lookup.sent_name == seen.name;
    seen.name.as_deref().filter(|_| own)
}

/// Looks again: a list that was on its way for a while may show what was killed meanwhile.
async fn still_runs(upstream: &Upstream, entry: &Entry, seen: &Observed) -> bool {
    let dialect = upstream.dialect();
    let request = dialect.get(BatchRef {
        upstream_id: &seen.upstream_id,
        sent_name: own_name(entry, seen),
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
        let application = entry.peek(|known| known.app_id.is_some() && known.app_id == now.app_id);
        let itself = proof::shows(&entry.lookup, &now) || application;
        alive && now.upstream_id == seen.upstream_id && itself
    })
}

async fn kill(upstream: &Upstream, entry: &Entry, seen: &Observed) -> &'static str {
    let dialect = upstream.dialect();
    let exchange = Exchange::default();
    let request = dialect.delete(BatchRef {
        upstream_id: &seen.upstream_id,
        sent_name: own_name(entry, seen),
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
