//! Looking for a submission on its cluster.

use livy_dialect::{
    BatchRef, FaultKind, Lookup, LookupPlan, Observed, Operation, UpstreamFault, proof,
};

use crate::fleet::{AskError, Upstream};
use crate::gateway::Gateway;
use crate::observe::exchange::Exchange;
use crate::registry::decide::{self, Before, Hint};
use crate::registry::{Entry, Same};

/// Batches asked for at once.
const PAGE: usize = 200;
/// Pages read of one cluster; an HDInsight cluster may remember tens of thousands of ended batches.
const MOST_PAGES: usize = 50;
/// Batches of one list that are passed over because they can't be read.
const MOST_SKIPPED: usize = 3;

/// What a look-up brought.
#[derive(Debug)]
pub(super) enum Looked {
    /// This is the batch.
    Shows(Box<Observed>),
    /// The cluster itself says that there is none.
    Nothing,
    /// What could be read of its list shows none.
    NotAll,
    /// No answer of the cluster's own.
    Unanswered(AskError),
}

/// What stands behind a refusal.
#[derive(Debug)]
pub(super) enum Behind {
    /// Nothing: nothing was created.
    Nothing,
    /// The submission: somebody in between sent it twice, and the refusal is the second one's.
    Shows(Box<Observed>),
    /// Nobody knows: no answer of the cluster's own, a list that could not be read whole, or a batch
    /// that may be the submission.
    Unknown,
}

/// Looks behind a refusal of a submission. Whoever repeats a POST on the way hands on what the
/// second one was told, so "not created" is believed only once the cluster shows nothing under our
/// key, where it can be asked. What Livy keeps of a submission that it refused is removed.
pub(super) async fn behind_refusal(
    upstream: &Upstream,
    gateway: &Gateway,
    entry: &Entry,
    before: &Before,
    fault: &UpstreamFault,
    exchange: &Exchange,
) -> Behind {
    let dialect = upstream.dialect();
    if dialect.lookup(&entry.lookup) == LookupPlan::NewInList {
        return Behind::Nothing;
    }
    let seen = match look(upstream, &entry.lookup, exchange).await {
        Looked::Shows(seen) => seen,
        Looked::Nothing => return Behind::Nothing,
        // A Livy without names (0.5) can't be asked for one.
        Looked::Unanswered(AskError::Fault(fault)) if fault.kind == FaultKind::Refused => {
            return Behind::Nothing;
        }
        Looked::NotAll | Looked::Unanswered(_) => return Behind::Unknown,
    };
    match whose(upstream, gateway, entry, before, &seen, exchange).await {
        Same::No => Behind::Nothing,
        Same::Yes if fault.kind == FaultKind::Refused && dialect.is_leftover(&seen) => {
            remove_leftover(upstream, &seen, exchange).await;
            Behind::Nothing
        }
        Same::Yes => Behind::Shows(seen),
        Same::CannotTell => Behind::Unknown,
    }
}

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

/// Looks a submission up under its key.
pub(super) async fn look(upstream: &Upstream, lookup: &Lookup, exchange: &Exchange) -> Looked {
    let dialect = upstream.dialect();
    match dialect.lookup(lookup) {
        LookupPlan::Item(request) => {
            match upstream
                .ask(Operation::GetBatch, &request, exchange, |response| {
                    dialect.decode_get(response)
                })
                .await
            {
                Ok(seen) if proof::shows(lookup, &seen) => Looked::Shows(Box::new(seen)),
                // Another batch than was asked for: nothing was learnt about ours.
                Ok(_) => in_list(upstream, lookup, exchange).await,
                Err(AskError::Fault(fault)) if fault.kind == FaultKind::NotFound => Looked::Nothing,
                Err(error) => Looked::Unanswered(error),
            }
        }
        LookupPlan::InList | LookupPlan::NewInList => in_list(upstream, lookup, exchange).await,
    }
}

async fn in_list(upstream: &Upstream, lookup: &Lookup, exchange: &Exchange) -> Looked {
    match read_whole_list(upstream, exchange).await {
        Ok((list, whole)) => match list.into_iter().find(|seen| proof::shows(lookup, seen)) {
            Some(seen) => Looked::Shows(Box::new(seen)),
            None if whole => Looked::Nothing,
            None => Looked::NotAll,
        },
        Err(error) => Looked::Unanswered(error),
    }
}

/// Reads a cluster's list as far as it can be read.
pub(crate) async fn read_list(
    upstream: &Upstream,
    exchange: &Exchange,
) -> Result<Vec<Observed>, AskError> {
    read_whole_list(upstream, exchange)
        .await
        .map(|(all, _)| all)
}

/// Reads a cluster's list, page by page where it has pages; tells whether that was all of it. A
/// page that is too large to be read is asked for in smaller ones.
pub(super) async fn read_whole_list(
    upstream: &Upstream,
    exchange: &Exchange,
) -> Result<(Vec<Observed>, bool), AskError> {
    let dialect = upstream.dialect();
    let (mut all, mut rows) = (Vec::new(), 0);
    let (mut from, mut size, mut skipped) = (0, PAGE, 0);
    for _ in 0..MOST_PAGES {
        let request = dialect.list(from, size);
        let read = upstream
            .ask(Operation::ListBatches, &request, exchange, |response| {
                dialect.decode_list(response)
            })
            .await;
        let seen = match read {
            Err(AskError::Send(error))
                if error.is_too_large() && size > 1 && dialect.list_is_paged() =>
            {
                size = (size / 8).max(1);
                continue;
            }
            // One batch that is too large by itself must not hide the others.
            Err(AskError::Send(error))
                if error.is_too_large() && skipped < MOST_SKIPPED && dialect.list_is_paged() =>
            {
                (from, size, skipped) = (from + 1, PAGE, skipped + 1);
                continue;
            }
            read => read?,
        };
        let full = seen.rows >= size;
        from += size;
        rows += seen.rows;
        all.extend(seen.batches);
        if !full || !dialect.list_is_paged() {
            let whole = rows == all.len() && skipped == 0;
            return Ok((all, whole));
        }
    }
    tracing::warn!(cluster = %upstream.config.name, read = all.len(), "the cluster lists more batches than are read");
    Ok((all, false))
}

/// Removes the ghost that Livy keeps of a submission that it refused; its name would be taken for
/// ever.
pub(super) async fn remove_leftover(upstream: &Upstream, ghost: &Observed, exchange: &Exchange) {
    let dialect = upstream.dialect();
    let request = dialect.delete(BatchRef {
        upstream_id: &ghost.upstream_id,
        sent_name: ghost.name.as_deref(),
    });
    if let Err(error) = upstream
        .ask(Operation::DeleteBatch, &request, exchange, |response| {
            dialect.decode_delete(response)
        })
        .await
    {
        tracing::warn!(cluster = %upstream.config.name, %error, "the ghost of a refused submission could not be removed");
    }
}
