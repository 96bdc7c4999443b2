//! Looking for a submission on its cluster.

use livy_dialect::ibm::Application;
use livy_dialect::{BatchRef, FaultKind, Lookup, LookupPlan, Observed, Operation, proof};

use crate::fleet::{AskError, Upstream};
use crate::observe::exchange::Exchange;

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

/// Finds the batch of an application in a list.
pub(super) fn listed(application: &Application, list: Vec<Observed>) -> Option<Observed> {
    let id = application.spark_id.as_ref()?;
    list.into_iter()
        .find(|seen| seen.app_id.as_ref() == Some(id))
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
