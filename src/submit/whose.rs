//! Whose a batch is that an answer or a look-up shows: this submission's, another's, or nobody can
//! tell.
//!
//! Owns what must be asked for that: the cluster's list, where only a number could tell a batch
//! from an older one; the number itself, where another batch that lives has it. What follows from
//! it is decided in `registry::decide`.

use livy_dialect::{BatchRef, LookupPlan, Observed, Operation, proof};

use super::look::{Looked, look, read_list, read_whole_list};
use crate::fleet::Upstream;
use crate::gateway::Gateway;
use crate::observe::exchange::Exchange;
use crate::registry::decide::{self, Before, Hint};
use crate::registry::{Entry, Same};

/// Tells whether what a look-up found is the submission that was looked for. What only its number
/// could tell from an older batch is compared with the cluster's list; and what has the number of
/// another live batch is not it before that one was asked for.
pub(super) async fn whose(
    upstream: &Upstream,
    gateway: &Gateway,
    entry: &Entry,
    before: &Before,
    seen: &Observed,
    exchange: &Exchange,
) -> Same {
    let list = match decide::may_be_older(entry, before, seen) {
        true => read_whole_list(upstream, exchange).await.ok(),
        false => None,
    };
    let whole = list.filter(|(_, whole)| *whole).map(|(list, _)| list);
    match gateway
        .registry
        .is_ours(entry, before, seen, whole.as_deref())
        .await
    {
        Ok(Same::Yes) if !may_have_number(upstream, gateway, entry, seen, exchange).await => {
            Same::CannotTell
        }
        Ok(same) => same,
        Err(error) => {
            tracing::error!(batch = %entry.id, %error, "it can't be told whose the batch is that was found");
            Same::CannotTell
        }
    }
}

/// Tells whether the answer to a submission names its batch, as far as a second look can tell.
pub(super) async fn is_believable(
    upstream: &Upstream,
    gateway: &Gateway,
    entry: &Entry,
    before: &Before,
    seen: &Observed,
    exchange: &Exchange,
) -> bool {
    let believable = match gateway.registry.is_believable(entry, before, seen).await {
        Ok(Same::Yes) => true,
        Ok(Same::No) => false,
        Ok(Same::CannotTell) => {
            is_there_anew(upstream, gateway, entry, before, seen, exchange).await
        }
        Err(error) => {
            tracing::error!(batch = %entry.id, %error, "it can't be told whose batch an answer names");
            false
        }
    };
    believable && may_have_number(upstream, gateway, entry, seen, exchange).await
}

/// Tells whether a cluster has begun to count again since a submission was about to be sent, and
/// lists it under the number that the answer names.
async fn is_there_anew(
    upstream: &Upstream,
    gateway: &Gateway,
    entry: &Entry,
    before: &Before,
    seen: &Observed,
    exchange: &Exchange,
) -> bool {
    let Ok(list) = read_list(upstream, exchange).await else {
        return false;
    };
    if !decide::counts_anew(before.above.unwrap_or(-1), &list) {
        return false;
    }
    let is_it = |item: &&Observed| {
        let named = entry.lookup.sent_name.is_none() || proof::shows(&entry.lookup, item);
        item.upstream_id == seen.upstream_id && named
    };
    let Some(item) = list.iter().find(is_it) else {
        return false;
    };
    match gateway.registry.had_id(entry, &item.upstream_id).await {
        Ok(had) => decide::hint(before, item, true, &had) == Hint::Likely,
        Err(_) => false,
    }
}

/// Tells whether a submission may have the number under which one answer shows it. If a live batch
/// has it, that number is asked for: one answer alone takes no number away. A batch whose own name
/// then shows that it has another number gets that one.
async fn may_have_number(
    upstream: &Upstream,
    gateway: &Gateway,
    entry: &Entry,
    seen: &Observed,
    exchange: &Exchange,
) -> bool {
    let dialect = upstream.dialect();
    let plan = dialect.lookup(&entry.lookup);
    // Livy 0.5 names nothing, and nothing could be looked for: what it says must do.
    if !seen.name_shown && plan != LookupPlan::NewInList {
        return true;
    }
    let holder = match gateway.registry.live_holder(entry, &seen.upstream_id).await {
        Ok(Some(holder)) => holder,
        Ok(None) => return true,
        Err(_) => return false,
    };
    let request = dialect.get(BatchRef {
        upstream_id: &seen.upstream_id,
        sent_name: None,
    });
    let shown = upstream
        .ask(Operation::GetBatch, &request, exchange, |response| {
            dialect.decode_get(response)
        })
        .await;
    let is_ours = |shown: &Observed| {
        let named = plan == LookupPlan::NewInList || proof::shows(&entry.lookup, shown);
        shown.upstream_id == seen.upstream_id && named && holder.same(shown) == Same::No
    };
    if !shown.is_ok_and(|shown| is_ours(&shown)) {
        tracing::warn!(batch = %entry.id, cluster = %entry.cluster, upstream_id = %seen.upstream_id, holder = %holder.id, "an answer names the number of another batch that lives; it is not believed");
        return false;
    }
    if !holder.lookup.is_made_up() {
        return true;
    }
    match look(upstream, &holder.lookup, exchange).await {
        Looked::Shows(elsewhere) if elsewhere.upstream_id != seen.upstream_id => {
            matches!(gateway.registry.rebind(&holder, &elsewhere).await, Ok(true))
        }
        Looked::Nothing => true,
        Looked::Shows(_) | Looked::NotAll | Looked::Unanswered(_) => false,
    }
}
