//! The submissions that this process has under way, and what everybody waits on who waits for one:
//! its own client, and those who sent it again. All get the same answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use livy_dialect::UpstreamRequest;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::error::ApiError;
use crate::registry::{Entry, GatewayId, Known};

/// How a submission ended.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// There is a batch.
    Created {
        /// The batch.
        entry: Arc<Entry>,
        /// Sentences for `x-livy-gateway-warning`.
        warnings: Vec<String>,
    },
    /// It is here already: somebody sent it before.
    Joined(Arc<Entry>),
}

/// Where a submission is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Its batch, once it is recorded.
    pub(crate) entry: Option<Arc<Entry>>,
    /// Since when its outcome is unclear.
    pub(crate) unclear: Option<Instant>,
    /// Its end.
    pub(crate) answer: Option<Result<Outcome, ApiError>>,
    /// It is being recorded: nobody may be told any more that nothing was submitted.
    recording: bool,
    /// Nobody waits any more, who was told that nothing was submitted: nothing may be recorded.
    closed: bool,
}

/// One submission under way.
#[derive(Debug)]
pub(crate) struct Ticket {
    progress: watch::Sender<Progress>,
}

impl Ticket {
    pub(crate) fn new() -> Arc<Ticket> {
        Arc::new(Ticket {
            progress: watch::Sender::default(),
        })
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub(crate) fn recorded(&self, entry: &Arc<Entry>) {
        self.progress.send_modify(|progress| {
            progress.entry = Some(entry.clone());
            progress.unclear = None;
        });
    }

    pub(crate) fn is_unclear(&self) {
        self.progress.send_modify(|progress| {
            progress.unclear = progress.unclear.or_else(|| Some(Instant::now()))
        });
    }

    pub(crate) fn answer(&self, answer: Result<Outcome, ApiError>) {
        self.progress
            .send_modify(|progress| progress.answer = Some(answer));
    }

    pub(crate) fn answer_if_none(&self, error: ApiError) {
        self.progress.send_if_modified(|progress| {
            let none = progress.answer.is_none();
            if none {
                progress.answer = Some(Err(error));
            }
            none
        });
    }

    /// Ends a submission of which nothing is recorded; false if something is, or is about to be.
    /// From then on its client may be told that nothing was submitted.
    pub(crate) fn close(&self) -> bool {
        self.decide(|progress| {
            let closes = progress.entry.is_none() && !progress.recording;
            progress.closed |= closes;
            closes
        })
    }

    /// Begins to record the submission; false if it was closed. One of the two comes first.
    pub(crate) fn begin_recording(&self) -> bool {
        self.decide(|progress| {
            progress.recording |= !progress.closed;
            !progress.closed
        })
    }

    /// Returns the id that its client waits for, if that may still be exchanged for another one:
    /// nobody was shown it, and the next cluster may have the submission.
    fn unsettled(&self) -> Option<GatewayId> {
        let progress = self.progress.borrow();
        let entry = progress
            .entry
            .as_ref()
            .filter(|_| progress.answer.is_none())?;
        let awaited = self.progress.receiver_count() > 0;
        (awaited && entry.peek(Known::may_vanish)).then_some(entry.id)
    }

    fn decide(&self, decide: impl FnOnce(&mut Progress) -> bool) -> bool {
        let mut decision = false;
        self.progress.send_if_modified(|progress| {
            decision = decide(progress);
            false
        });
        decision
    }
}

/// The submissions that this process has under way.
#[derive(Debug, Default)]
pub struct Board {
    // In order: whoever goes over them does it alike in every run of a simulation.
    tickets: Mutex<BTreeMap<GatewayId, Arc<Ticket>>>,
    /// Those whose outcome is being asked for, with the request where it is at hand.
    open: Mutex<BTreeMap<GatewayId, Option<UpstreamRequest>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    pub(crate) fn ticket(&self, id: GatewayId) -> Option<Arc<Ticket>> {
        lock(&self.tickets).get(&id).cloned()
    }

    /// Puts a submission up; it is taken down when the guard ends, however that comes.
    pub(crate) fn put_up(self: &Arc<Self>, id: GatewayId, ticket: &Arc<Ticket>) -> Listed {
        lock(&self.tickets).insert(id, ticket.clone());
        Listed {
            board: self.clone(),
            id,
            what: What::Ticket,
        }
    }

    /// Begins to ask for the outcome; `None` if somebody does already.
    pub(crate) fn begin_asking(
        self: &Arc<Self>,
        id: GatewayId,
        request: Option<UpstreamRequest>,
    ) -> Option<Listed> {
        let mut open = lock(&self.open);
        if open.contains_key(&id) {
            return None;
        }
        open.insert(id, request);
        Some(Listed {
            board: self.clone(),
            id,
            what: What::Open,
        })
    }

    /// Hands over the request of a submission whose outcome is being asked for and whose own
    /// request is lost; false if that is not so.
    pub(crate) fn hand_over(&self, id: GatewayId, request: UpstreamRequest) -> bool {
        match lock(&self.open).get_mut(&id) {
            Some(slot) => {
                slot.get_or_insert(request);
                true
            }
            None => false,
        }
    }

    pub(crate) fn request(&self, id: GatewayId) -> Option<UpstreamRequest> {
        lock(&self.open).get(&id).cloned().flatten()
    }

    /// Returns the ids of submissions whose clients wait, and may get another id yet: no list
    /// shows them, as a Livy lists no batch before it has answered its POST.
    pub(crate) fn unsettled(&self) -> Vec<GatewayId> {
        let tickets = lock(&self.tickets);
        tickets.values().filter_map(|one| one.unsettled()).collect()
    }

    pub(crate) fn is_under_way(&self, id: GatewayId) -> bool {
        lock(&self.tickets).contains_key(&id) || lock(&self.open).contains_key(&id)
    }
}

#[derive(Debug)]
enum What {
    Ticket,
    Open,
}

/// A place on the board.
#[derive(Debug)]
pub(crate) struct Listed {
    board: Arc<Board>,
    id: GatewayId,
    what: What,
}

impl Drop for Listed {
    fn drop(&mut self) {
        match self.what {
            What::Ticket => drop(lock(&self.board.tickets).remove(&self.id)),
            What::Open => drop(lock(&self.board.open).remove(&self.id)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_closed_or_recorded() {
        let ticket = Ticket::new();
        assert!(ticket.close() && !ticket.begin_recording(), "it was told");
        let ticket = Ticket::new();
        assert!(ticket.begin_recording() && !ticket.close());
    }
}
