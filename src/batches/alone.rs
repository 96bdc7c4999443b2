//! Asking a cluster for one batch by itself: its state, or the whole item; and making sure that the
//! answer is about this batch and no other.

use std::sync::Arc;

use livy_dialect::{BatchState, FaultKind, Observed, Operation, UpstreamFault};
use tokio::time::Instant;

use super::{Nothing, Reader};
use crate::fleet::{AskError, Upstream};
use crate::gateway::reads::Want;
use crate::registry::{Entry, Same};

impl Reader {
    pub(super) async fn fetch(
        &self,
        entry: &Arc<Entry>,
        upstream: &Arc<Upstream>,
        want: Want,
    ) -> Result<(), Nothing> {
        let dialect = upstream.dialect();
        if want == Want::State
            && self.state_is_enough(entry)
            && let Some(request) = entry.with_ref(|batch| dialect.state(batch))
            && entry.with_ref(|batch| dialect.get(batch)).as_ref() != Some(&request)
        {
            let answer = upstream
                .ask(Operation::GetState, &request, &self.exchange, |response| {
                    dialect.decode_state(response)
                })
                .await;
            match answer {
                Ok((id, reading)) if entry.upstream_id().as_deref() == Some(id.as_str()) => {
                    entry.look_at();
                    self.learnt(upstream, &reading);
                    let new_state = self.registry().observe_state(entry, &reading).await;
                    new_state
                        .into_iter()
                        .for_each(|state| upstream.handles.entered(state));
                    if new_state.is_some_and(BatchState::is_terminal) {
                        Box::pin(self.complete(entry, upstream)).await;
                    }
                    return Ok(());
                }
                // Another batch's id under our name, or no such name: the item will tell.
                Ok(_) => {}
                Err(AskError::Fault(fault))
                    if matches!(fault.kind, FaultKind::NotFound | FaultKind::Refused) => {}
                Err(error) => {
                    entry.note_not_missing();
                    return Err(error.into());
                }
            }
        }
        let operation = if want == Want::State {
            Operation::GetState
        } else {
            Operation::GetBatch
        };
        let seen = self.fetch_item(entry, upstream, operation).await?;
        self.learnt(upstream, &seen.state);
        let new_state = self.registry().observe(entry, &seen).await;
        self.entered(entry, upstream, new_state);
        Ok(())
    }

    /// Counts a state that a batch is seen in for the first time. One that ends it is the moment to
    /// read its last lines, where items show none.
    pub(super) fn entered(
        &self,
        entry: &Arc<Entry>,
        upstream: &Arc<Upstream>,
        new_state: Option<BatchState>,
    ) {
        let Some(state) = new_state else { return };
        upstream.handles.entered(state);
        if state.is_terminal() {
            self.keep_last_lines(entry, upstream);
        }
    }

    /// Tells whether an answer that holds an id and a state can be trusted to be about this batch:
    /// it is asked for by a name that was made up for it. Anything else is compared as a whole
    /// item.
    fn state_is_enough(&self, entry: &Entry) -> bool {
        entry.own_name().is_some()
    }

    /// Reads the whole item of a batch that has just ended, for the day when its cluster has
    /// forgotten it. Failing to costs a later look.
    async fn complete(&self, entry: &Arc<Entry>, upstream: &Upstream) {
        match self.fetch_item(entry, upstream, Operation::GetBatch).await {
            Ok(seen) => drop(self.registry().observe(entry, &seen).await),
            Err(why) => {
                tracing::debug!(batch = %entry.id, ?why, "the last look at an ended batch brought nothing")
            }
        }
    }

    /// Asks for the item and makes sure that it is this batch and no other; notes whether its
    /// cluster says that there is no such batch. Where it is asked with its callers' own tokens,
    /// only what it says to the owner's counts: from others it may hide the batch.
    pub(super) async fn fetch_item(
        &self,
        entry: &Entry,
        upstream: &Upstream,
        operation: Operation,
    ) -> Result<Observed, Nothing> {
        let asked = Instant::now();
        let read = self.read_item(entry, upstream, operation).await;
        match &read {
            Err(Nothing::Gone | Nothing::Another) if !self.speaks_for_owner(entry, upstream) => {
                return Err(Nothing::CannotTell);
            }
            Err(Nothing::Gone | Nothing::Another) => entry.note_missing(asked),
            Ok(_) | Err(Nothing::NoAnswer(_) | Nothing::CannotTell) => entry.note_not_missing(),
        }
        read
    }

    fn speaks_for_owner(&self, entry: &Entry, upstream: &Upstream) -> bool {
        !upstream.needs_a_caller()
            || entry.owner.is_none()
            || self.exchange.notes().user == entry.owner
    }

    async fn read_item(
        &self,
        entry: &Entry,
        upstream: &Upstream,
        operation: Operation,
    ) -> Result<Observed, Nothing> {
        let dialect = upstream.dialect();
        let Some(request) = entry.with_ref(|batch| dialect.get(batch)) else {
            return Err(Nothing::Gone);
        };
        let seen = upstream
            .ask(operation, &request, &self.exchange, |response| {
                dialect.decode_get(response)
            })
            .await?;
        upstream.showed_id(&seen.upstream_id);
        match entry.same(&seen) {
            Same::Yes => {
                entry.look_at();
                Ok(seen)
            }
            // Its own name tells its number, whatever the answer to its submission said.
            Same::No if has_another_number(entry, &seen) => {
                match self.registry().rebind(entry, &seen).await {
                    Ok(true) => Ok(seen),
                    Ok(false) | Err(_) => Err(Nothing::CannotTell),
                }
            }
            // Whoever answers with another id than was asked for has answered somebody else: that
            // says nothing of this batch. Under its own name it can have another id: then this one
            // is gone.
            Same::No if !answers(entry, &seen) => {
                let fault = UpstreamFault {
                    kind: FaultKind::Unreadable,
                    status: 200,
                    message: "the answer speaks of another batch than was asked for".to_owned(),
                };
                upstream.count_fault(operation, &fault);
                Err(Nothing::NoAnswer(AskError::Fault(fault)))
            }
            Same::No => Err(Nothing::Another),
            Same::CannotTell => Err(Nothing::CannotTell),
        }
    }

    fn learnt(&self, upstream: &Upstream, reading: &livy_dialect::StateReading) {
        if let livy_dialect::StateReading::Unknown(word) = reading {
            let labels = [
                upstream.config.flavor.as_str(),
                Operation::GetState.as_str(),
                "unknown_state",
            ];
            self.gateway
                .metrics
                .translation_errors_total
                .with_label_values(&labels)
                .inc();
            tracing::warn!(cluster = %upstream.config.name, %word, "a state that is not in the contract; the last known one is shown");
        }
    }
}

/// Tells whether an item answers the question for a batch.
fn answers(entry: &Entry, seen: &Observed) -> bool {
    entry.upstream_id().as_deref() == Some(seen.upstream_id.as_str())
        || entry
            .own_name()
            .is_some_and(|name| seen.name.as_deref() == Some(name))
}

/// Tells whether an item shows a batch under the name that was made up for it, and another number
/// than it is known by.
fn has_another_number(entry: &Entry, seen: &Observed) -> bool {
    entry.lookup.is_made_up()
        && entry.lookup.sent_name == seen.name
        && entry
            .upstream_id()
            .is_some_and(|known| known != seen.upstream_id)
}
