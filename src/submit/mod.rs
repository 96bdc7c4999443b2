//! One submission, from the decision where it goes to the answer: never lost, never doubled, never
//! guessed at.
//!
//! The order is the promise. *Claim*: a key or a name that is here already is answered before any
//! cluster is considered. *Record*: the registry has it before a byte is sent. *Send*: once, on a
//! connection of its own. *Resolve*: by the answer, or, when the answer proves nothing, by asking
//! the cluster (`resolve`). A second cluster is tried only after proof that the first one took
//! nothing. All of it runs in a task of its own (`attempt`), so that a client that hangs up can't
//! stop it between two of these steps; who waits for it waits on its ticket (`ticket`).

mod attempt;
mod behind;
mod failure;
pub mod late;
mod look;
mod plan;
pub mod resolve;
mod submission;
mod whose;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::{Instant, sleep_until, timeout};

use crate::api::error::{ApiError, Code};
use crate::api::respond::Reply;
use crate::config::checked::Ambiguous;
use crate::gateway::board::{Outcome, Ticket};
use crate::gateway::{Gateway, Snapshot};
use crate::observe::exchange::Exchange;
use crate::registry::{Entry, Intention, Phase};
pub use failure::registry_failed;
use failure::unknown;
pub(crate) use failure::unreachable;
pub use submission::Submission;

/// How long a client waits, after an answer was lost, for the matter to become clear, before it
/// gets its 201 with `starting`.
const PATIENCE: Duration = Duration::from_secs(20);

/// The strictest client that is known gives up reading after 120 s (Kylin); the answer must be
/// under way by then, whatever the cluster does.
const CLIENT_LIMIT: Duration = Duration::from_secs(110);

/// How often a submission begins anew because what it had joined came to nothing.
const JOINS: usize = 3;

/// Serves `POST /batches`.
///
/// # Errors
/// A refusal for good (4xx), or 503 when nothing was sent.
pub async fn submit(
    gateway: &Arc<Gateway>,
    snapshot: &Arc<Snapshot>,
    submission: Submission,
    headers: &HeaderMap,
    exchange: Arc<Exchange>,
) -> Result<Reply, ApiError> {
    if !gateway.takes_submissions() {
        return Err(ApiError::new(
            Code::Draining,
            "this gateway is shutting down; nothing was submitted",
        ));
    }
    let client = Client {
        gateway,
        snapshot,
        submission: Arc::new(submission),
        exchange,
        began: Instant::now(),
    };
    for _ in 0..JOINS {
        let joined = match client.here_already().await? {
            Some(entry) => entry,
            None => match client.begin(headers).await? {
                (Outcome::Created { entry, warnings }, _) => {
                    return Ok(client.created(&entry, &warnings));
                }
                (Outcome::Joined(entry), _) => entry,
            },
        };
        if let Some(answer) = client.join(&joined).await {
            return answer;
        }
    }
    Err(ApiError::new(
        Code::ClusterUnavailable,
        "what this submission was sent again for came to nothing; nothing was submitted",
    ))
}

/// Who waits for a submission.
struct Client<'a> {
    gateway: &'a Arc<Gateway>,
    snapshot: &'a Arc<Snapshot>,
    submission: Arc<Submission>,
    exchange: Arc<Exchange>,
    began: Instant,
}

impl Client<'_> {
    /// Finds what the client's key stands for, before any cluster is considered.
    async fn here_already(&self) -> Result<Option<Arc<Entry>>, ApiError> {
        let Some(key) = &self.submission.idempotency_key else {
            return Ok(None);
        };
        let hash = plan::hash(&self.submission);
        match self
            .gateway
            .registry
            .by_key(&self.submission.principal.user, key, &hash)
            .await
        {
            Ok(Some(Intention::Same(entry))) => Ok(Some(entry)),
            Ok(Some(_)) => Err(self.conflict()),
            Ok(None) => Ok(None),
            Err(error) => {
                tracing::error!(%error, "the registry failed");
                Err(ApiError::new(
                    Code::RegistryUnavailable,
                    "the gateway's registry can't be read: it is not known what this Idempotency-Key stands for",
                ))
            }
        }
    }

    fn conflict(&self) -> ApiError {
        self.gateway
            .metrics
            .idempotency_total
            .with_label_values(&["conflict"])
            .inc();
        ApiError::new(
            Code::IdempotencyConflict,
            "this Idempotency-Key was used with another submission",
        )
    }

    /// Begins the submission, and waits for its outcome.
    async fn begin(&self, headers: &HeaderMap) -> Result<(Outcome, Arc<Ticket>), ApiError> {
        let writable = self.gateway.registry.must_be_writable().await;
        writable.map_err(|error| registry_failed(&error))?;
        let (route, plans) = plan::make(self.gateway, self.snapshot, &self.submission, headers)?;
        let ticket = Ticket::new();
        let ambiguous = route.ambiguous;
        let run = attempt::Run::new(
            self.gateway,
            route,
            self.exchange.clone(),
            self.submission.clone(),
            ticket.clone(),
        );
        // From here on a client that hangs up changes nothing.
        self.gateway.tasks.spawn(run.run_to_the_end(plans));
        let outcome = self.wait(&ticket, ambiguous).await?;
        Ok((outcome, ticket))
    }

    /// Waits for the outcome of a submission that was sent before; `None` if it came to nothing,
    /// and the client's own may begin.
    async fn join(&self, entry: &Arc<Entry>) -> Option<Result<Reply, ApiError>> {
        let outcome = if entry.is_open() {
            "in_progress"
        } else {
            "replayed"
        };
        if self.submission.idempotency_key.is_some() {
            self.gateway
                .metrics
                .idempotency_total
                .with_label_values(&[outcome])
                .inc();
        }
        self.count(entry, "deduplicated");
        let ambiguous = self.route_of(entry);
        if let Some(ticket) = self.gateway.board.ticket(entry.id) {
            return match self.wait(&ticket, ambiguous).await {
                Ok(Outcome::Created { entry, warnings }) => {
                    Some(Ok(self.created(&entry, &warnings)))
                }
                Ok(Outcome::Joined(_)) => None,
                Err(error) => Some(Err(error)),
            };
        }
        if entry.is_open() {
            // An earlier process began it and lost the request: here it is again, should the first
            // prove absent.
            plan::hand_over(self.gateway, self.snapshot, &self.submission, entry);
            // Another gateway that is alive knows more than a look at the cluster could tell.
            let elsewhere = self.gateway.registry.is_worked_on_elsewhere(entry).await;
            let limit = match elsewhere.unwrap_or(false) {
                true => CLIENT_LIMIT.saturating_sub(self.began.elapsed()),
                false => PATIENCE,
            };
            let _ = timeout(limit, entry.resolved()).await;
        }
        match self.gateway.registry.tell_if_open(entry).await {
            Ok(true) if ambiguous == Ambiguous::Error => return Some(Err(unknown(entry))),
            Ok(_) => {}
            Err(error) => {
                tracing::error!(batch = %entry.id, %error, "the registry failed");
                return Some(Err(unknown(entry)));
            }
        }
        match entry.phase() {
            Phase::Refused => None,
            // Proven meanwhile that nothing runs: it let go of its key.
            Phase::Detached { .. } if entry.peek(|known| known.absent) => None,
            Phase::Deleted { .. } => Some(Err(ApiError::new(
                Code::NotFound,
                format!(
                    "batch {} of this submission was deleted; use a new key",
                    entry.shown_id()
                ),
            ))),
            Phase::Sending | Phase::Bound { .. } | Phase::Detached { .. } => {
                Some(Ok(self.created(entry, &[])))
            }
        }
    }

    fn route_of(&self, entry: &Entry) -> Ambiguous {
        self.snapshot
            .routes
            .iter()
            .find(|route| route.name == entry.route)
            .map_or(Ambiguous::Resolve, |route| route.ambiguous)
    }

    /// Waits as long as a client does; then answers with what is known, if anything is recorded.
    async fn wait(&self, ticket: &Ticket, ambiguous: Ambiguous) -> Result<Outcome, ApiError> {
        let mut progress = ticket.watch();
        let limit = self.began + CLIENT_LIMIT;
        loop {
            let now = progress.borrow_and_update().clone();
            if let Some(answer) = now.answer {
                return answer;
            }
            let until = now
                .unclear
                .map_or(limit, |since| (since + PATIENCE).min(limit));
            let hurry = tokio::select! {
                biased;
                changed = progress.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Err(ApiError::new(Code::Internal, "the submission's task ended early; what was sent will be looked up")),
                },
                () = self.gateway.hurry.cancelled() => true,
                () = sleep_until(until) => false,
            };
            match now.entry {
                Some(entry) => match self.gateway.registry.tell_if_open(&entry).await {
                    Ok(true) => {
                        tracing::warn!(batch = %entry.id, cluster = %entry.cluster, "the cluster takes longer than clients wait; answering before it");
                        return if ambiguous == Ambiguous::Error {
                            Err(unknown(&entry))
                        } else {
                            Ok(Outcome::Created {
                                entry,
                                warnings: Vec::new(),
                            })
                        };
                    }
                    // Just resolved: the answer is about to come.
                    Ok(false) => {}
                    Err(_) => return Err(unknown(&entry)),
                },
                None if ticket.close() => {
                    let code = if hurry {
                        Code::Draining
                    } else {
                        Code::ClusterUnavailable
                    };
                    return Err(ApiError::new(
                        code,
                        "nothing was submitted: no cluster answered in time",
                    ));
                }
                None => {}
            }
            if progress.changed().await.is_err() {
                return Err(ApiError::new(
                    Code::Internal,
                    "the submission's task ended early; what was sent will be looked up",
                ));
            }
        }
    }

    fn created(&self, entry: &Arc<Entry>, warnings: &[String]) -> Reply {
        self.gateway.registry.show(entry, true);
        let reply = Reply::ok(&entry.batch())
            .created(&self.submission.prefix, entry.shown_id().0)
            .from_cluster(&entry.cluster, &entry.route, entry.upstream_id().as_deref());
        warnings
            .iter()
            .fold(reply, |reply, text| reply.warning(text))
    }

    fn count(&self, entry: &Entry, outcome: &str) {
        if self
            .snapshot
            .routes
            .iter()
            .any(|route| route.name == entry.route)
        {
            let labels = [entry.route.as_str(), entry.cluster.as_str(), outcome];
            self.gateway
                .metrics
                .submissions_total
                .with_label_values(&labels)
                .inc();
        }
    }
}
