//! Jobs of ours that show up after their client was told that they are not there. The promise that
//! was made is kept: they are killed, unless the route wants them back and nobody was told
//! anything.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use livy_dialect::{BatchRef, LookupPlan, Observed, Operation, StateReading, proof};

use super::look::{self, Looked};
use crate::fleet::Upstream;
use crate::gateway::Gateway;
use crate::observe::exchange::Exchange;
use crate::registry::decide::{self, WATCHED_FOR};
use crate::registry::{Entry, GatewayId, Phase};

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
    // A client's own name, or a number, may be anybody's by now.
    let seen = match entry.upstream_id() {
        Some(upstream_id) => by_number(upstream, &upstream_id, exchange).await?,
        None if keyed => by_name(gateway, upstream, entry, exchange).await?,
        None if entry.adopted => return None,
        None => return by_marker(upstream, entry, exchange).await,
    };
    match gateway.registry.is_late(entry, &seen).await {
        Ok(late) => late.then_some(seen),
        Err(error) => {
            tracing::error!(batch = %entry.id, %error, "it can't be told whose the batch is that was found");
            None
        }
    }
}

async fn by_number(
    upstream: &Upstream,
    upstream_id: &str,
    exchange: &Exchange,
) -> Option<Observed> {
    let dialect = upstream.dialect();
    let request = dialect.get(BatchRef {
        upstream_id,
        sent_name: None,
    });
    let answer = upstream.ask(Operation::GetBatch, &request, exchange, |response| {
        dialect.decode_get(response)
    });
    answer.await.ok()
}

/// Looks for what went along in `conf`, where the service shows it: nobody else's job has it.
async fn by_marker(upstream: &Upstream, entry: &Entry, exchange: &Exchange) -> Option<Observed> {
    let marked = upstream.marked(&entry.lookup.key, exchange).await?;
    let (list, _) = look::read_whole_list(upstream, exchange).await.ok()?;
    look::listed(&marked, list)
}

/// Asks for a client's own name, as long as a job under it may be taken for the submission. One
/// that no path can carry is shown by a list only, which is read for it (`batches::watch`).
async fn by_name(
    gateway: &Gateway,
    upstream: &Upstream,
    entry: &Entry,
    exchange: &Exchange,
) -> Option<Observed> {
    let now = gateway.registry.clock().now();
    if !decide::is_lately(entry.created, now) || is_shown_by_lists_only(upstream, entry) {
        return None;
    }
    match look::look(upstream, &entry.lookup, exchange).await {
        Looked::Shows(seen) => Some(*seen),
        Looked::Nothing | Looked::NotAll | Looked::Unanswered(_) => None,
    }
}

/// Tells whether nothing but its cluster's list can show what came of a submission.
pub fn is_shown_by_lists_only(upstream: &Upstream, entry: &Entry) -> bool {
    let plan = upstream.dialect().lookup(&entry.lookup);
    plan == LookupPlan::InList && !entry.adopted && entry.upstream_id().is_none()
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
    let action = if adopts && may_be_adopted(gateway, entry).await {
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

/// Tells whether a late job may be bound again: nobody was told anything of its submission, and
/// nothing else came of it. The next attempt at another cluster, or its client, may have sent it
/// again.
async fn may_be_adopted(gateway: &Gateway, entry: &Entry) -> bool {
    if entry.phase() != Phase::Refused || !entry.peek(|known| known.may_arrive) {
        return false;
    }
    match gateway.registry.was_submitted_again(entry).await {
        Ok(again) => !again,
        Err(error) => {
            tracing::error!(batch = %entry.id, %error, "it can't be told whether a late job was submitted again");
            false
        }
    }
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
    let Ok(now) = now else {
        return false;
    };
    let alive = !matches!(now.state, StateReading::Known(state) if state.is_terminal());
    let application = entry.peek(|known| known.app_id.is_some() && known.app_id == now.app_id);
    let itself = proof::shows(&entry.lookup, &now)
        || application
        || upstream
            .marks
            .has(&entry.lookup.key, now.app_id.as_deref())
            .await;
    alive && now.upstream_id == seen.upstream_id && itself
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
