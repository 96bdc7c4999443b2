//! Everything but submitting: polls, items, lists, logs, kills.
//!
//! A poll must never fail because a cluster is away while the job goes on: real clients give up at
//! the first bad answer. So what is known is always at hand, and a cluster is asked only where that
//! could bring something new. A file per operation; this one finds the batch and refreshes what is
//! known of it.

pub mod kill;
pub mod list;
pub mod log;
mod missing;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::{BatchState, FaultKind, Observed, Operation, UpstreamFault};
use tokio::time::{Instant, timeout};

use crate::api::error::{ApiError, Code};
use crate::api::path::BatchKey;
use crate::api::respond::{Reply, StateBody};
use crate::auth::Principal;
use crate::fleet::{AskError, Upstream};
use crate::gateway::reads::{Origin, Want};
use crate::gateway::{Gateway, Snapshot};
use crate::observe::exchange::Exchange;
use crate::observe::metrics::NO_ROUTE;
use crate::registry::{Entry, GatewayId, Phase, Registry, Same};

/// Who reads clusters: a request, or the gateway by itself.
#[derive(Debug, Clone)]
pub struct Reader {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The configuration that it began with.
    pub snapshot: Arc<Snapshot>,
    /// For the cluster's log.
    pub exchange: Arc<Exchange>,
}

/// One request: a reader, and who the caller is.
#[derive(Debug, Clone)]
pub struct Call {
    /// What it reads with.
    pub reader: Reader,
    /// Who asks.
    pub principal: Arc<Principal>,
    /// The cluster of `/clusters/{name}/...`.
    pub pinned: Option<String>,
}

impl std::ops::Deref for Call {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

/// Why a poll brought nothing new.
#[derive(Clone, Debug)]
enum Nothing {
    /// Its cluster, or somebody in front of it, gave no answer that can be used.
    NoAnswer(AskError),
    /// Its cluster says that there is no such batch.
    Gone,
    /// Its cluster shows another batch under its id: it counts anew.
    Another,
    /// What its cluster shows may be this batch or another one: nothing tells.
    CannotTell,
}

impl From<AskError> for Nothing {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Fault(fault) if fault.kind == FaultKind::NotFound => Nothing::Gone,
            error => Nothing::NoAnswer(error),
        }
    }
}

impl Call {
    /// Finds a batch that the caller may see.
    ///
    /// # Errors
    /// Livy's 404, the same for what does not exist and for what is another's.
    pub async fn find(&self, key: &BatchKey) -> Result<Arc<Entry>, ApiError> {
        let found = match key {
            BatchKey::Id(id) if *id > 0 => self.registry().get(GatewayId(*id)).await,
            BatchKey::Id(_) => Ok(None),
            BatchKey::Name(name) => {
                self.registry()
                    .by_name(name, self.snapshot.access.visible(&self.principal))
                    .await
            }
        };
        let entry = found.map_err(|error| read_failed(&error))?;
        entry
            .filter(|entry| self.snapshot.access.may_see(&self.principal, entry))
            .filter(|entry| {
                self.pinned
                    .as_ref()
                    .is_none_or(|cluster| *cluster == entry.cluster)
            })
            .filter(|entry| self.shows(entry))
            .inspect(|entry| self.exchange.is_about(entry.id.0))
            .inspect(|entry| {
                self.exchange
                    .goes_to(self.route_label(entry), &entry.cluster)
            })
            .ok_or_else(|| ApiError::no_such_batch(&key.to_string()))
    }

    /// Notes that the caller is shown a batch; false if it vanished meanwhile.
    fn shows(&self, entry: &Arc<Entry>) -> bool {
        let to_owner = entry.owner.as_deref() == Some(self.principal.user.as_str());
        self.registry().show(entry, to_owner)
    }

    /// Returns the route by which a batch came, if there still is one of that name: labels are
    /// configured names only.
    fn route_label<'a>(&self, entry: &'a Entry) -> &'a str {
        let known = self
            .snapshot
            .routes
            .iter()
            .any(|route| route.name == entry.route);
        if known { &entry.route } else { NO_ROUTE }
    }

    /// Serves `GET /batches/{id}`.
    ///
    /// # Errors
    /// 404, or 503 when the cluster was away for longer than `stale_reads`.
    pub async fn item(&self, key: &BatchKey) -> Result<Reply, ApiError> {
        let entry = self.find(key).await?;
        self.check_caller(&entry)?;
        let origin = self.refresh(&entry, Want::Item).await?;
        let reply = mark(origin, Reply::ok(&entry.batch()));
        Ok(self.signed(reply, &entry))
    }

    /// Serves `GET /batches/{id}/state`.
    ///
    /// # Errors
    /// As [`Call::item`].
    pub async fn state(&self, key: &BatchKey) -> Result<Reply, ApiError> {
        let entry = self.find(key).await?;
        self.check_caller(&entry)?;
        let origin = self.refresh(&entry, Want::State).await?;
        let state = entry.peek(|known| known.state);
        let reply = mark(
            origin,
            Reply::ok(&StateBody {
                id: entry.id.0,
                state,
            }),
        );
        Ok(self.signed(reply, &entry))
    }

    fn signed(&self, reply: Reply, entry: &Entry) -> Reply {
        entry.peek(|known| {
            reply.from_cluster(&entry.cluster, &entry.route, known.phase.upstream_id())
        })
    }
}

impl Reader {
    fn registry(&self) -> &Registry {
        &self.gateway.registry
    }

    /// Refuses to look at a live batch for a caller without a bearer token, where the cluster is
    /// asked with that. What has ended is answered from memory for everybody who may see it.
    fn check_caller(&self, entry: &Entry) -> Result<(), ApiError> {
        let has_ended = entry.peek(|known| known.state.is_terminal());
        match self.snapshot.upstream_of(entry) {
            Some(upstream) if !has_ended => self.check_token(upstream),
            _ => Ok(()),
        }
    }

    /// Refuses to ask a cluster in the name of a caller who brought no token.
    fn check_token(&self, upstream: &Upstream) -> Result<(), ApiError> {
        if upstream.needs_a_caller() && self.exchange.caller_token().is_none() {
            return Err(ApiError::no_token_to_pass_on(&upstream.config.name));
        }
        Ok(())
    }

    /// Brings what is known up to date, if the cluster could know more. Takes no longer than the
    /// cluster's own deadline for an answer, whoever began to ask.
    async fn refresh(&self, entry: &Arc<Entry>, want: Want) -> Result<Origin, ApiError> {
        let origin = match self.answer_from_memory(entry, want) {
            Some(origin) => origin,
            None => match self.snapshot.upstream_of(entry) {
                None => self.stale(
                    entry,
                    Duration::MAX,
                    "its cluster is not configured or disabled",
                )?,
                Some(upstream) => match timeout(
                    upstream.config.timeouts.response,
                    self.ask_once(entry, upstream, want),
                )
                .await
                {
                    Ok(origin) => origin?,
                    Err(_) => self.stale(
                        entry,
                        upstream.config.stale_reads,
                        "its cluster takes too long",
                    )?,
                },
            },
        };
        self.gateway
            .metrics
            .state_reads_total
            .with_label_values(&[origin.as_str()])
            .inc();
        Ok(origin)
    }

    /// Asks the cluster, or joins whoever is asking it: failures are shared as well.
    async fn ask_once(
        &self,
        entry: &Arc<Entry>,
        upstream: &Upstream,
        want: Want,
    ) -> Result<Origin, ApiError> {
        // Whoever wants no memory at all gets none: another's answer would be just that. So would
        // be one that the cluster gave to another's token.
        if upstream.config.freshness.is_zero() || upstream.needs_a_caller() {
            return self.ask(entry, want).await;
        }
        let work = || {
            let (reader, entry) = (self.clone(), entry.clone());
            async move { reader.ask(&entry, want).await }
        };
        match self.gateway.reads.join((entry.id, want), work).await {
            (Some(Ok(Origin::Upstream)), true) => Ok(Origin::Coalesced),
            (Some(result), _) => result,
            (None, _) => Err(ApiError::new(Code::Internal, "the read ended early")),
        }
    }

    fn answer_from_memory(&self, entry: &Entry, want: Want) -> Option<Origin> {
        let (settled, heard) = entry.peek(|known| {
            let bound = matches!(known.phase, Phase::Bound { .. });
            let heard = if want == Want::State {
                known.heard
            } else {
                known.item
            };
            (
                !bound || (known.state.is_terminal() && (want == Want::State || known.complete)),
                heard,
            )
        });
        if settled {
            return Some(Origin::Terminal);
        }
        let freshness = self.snapshot.upstream_of(entry)?.config.freshness;
        let heard = heard?.elapsed();
        (heard < freshness).then_some(Origin::Cached(heard))
    }

    async fn ask(&self, entry: &Arc<Entry>, want: Want) -> Result<Origin, ApiError> {
        let Some(upstream) = self.snapshot.upstream_of(entry) else {
            return self.stale(
                entry,
                Duration::MAX,
                "its cluster is not configured or disabled",
            );
        };
        if !upstream.health.may_ask() {
            return self.stale(
                entry,
                upstream.config.stale_reads,
                &format!("its cluster does not answer{}", upstream.health.why()),
            );
        }
        match self.fetch(entry, upstream, want).await {
            Ok(()) => Ok(Origin::Upstream),
            Err(Nothing::Gone | Nothing::Another) => Box::pin(self.gone(entry, upstream)).await,
            Err(Nothing::CannotTell) => self.stale(
                entry,
                Duration::MAX,
                "its cluster shows a batch under its id that may be another one",
            ),
            Err(Nothing::NoAnswer(error)) => {
                tracing::debug!(batch = %entry.id, cluster = %entry.cluster, %error, "a poll is answered from what is known");
                self.stale(
                    entry,
                    upstream.config.stale_reads,
                    &format!(
                        "its cluster gives no answer that can be used ({})",
                        error.words()
                    ),
                )
            }
        }
    }

    async fn fetch(
        &self,
        entry: &Arc<Entry>,
        upstream: &Upstream,
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
        new_state
            .into_iter()
            .for_each(|state| upstream.handles.entered(state));
        Ok(())
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
    /// cluster says that there is no such batch.
    async fn fetch_item(
        &self,
        entry: &Entry,
        upstream: &Upstream,
        operation: Operation,
    ) -> Result<Observed, Nothing> {
        let asked = Instant::now();
        let read = self.read_item(entry, upstream, operation).await;
        match &read {
            Err(Nothing::Gone | Nothing::Another) => entry.note_missing(asked),
            Ok(_) | Err(Nothing::NoAnswer(_) | Nothing::CannotTell) => entry.note_not_missing(),
        }
        read
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
            Same::Yes => Ok(seen),
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

    fn stale(&self, entry: &Entry, limit: Duration, why: &str) -> Result<Origin, ApiError> {
        let (heard, has_ended) = entry.peek(|known| (known.heard, known.state.is_terminal()));
        // A gateway that has just started can't have heard anything: the clock runs from its start.
        let silent_for = heard.unwrap_or(self.gateway.started).elapsed();
        if has_ended || silent_for <= limit {
            return Ok(Origin::Stale(heard.map(|at: Instant| at.elapsed())));
        }
        let message = format!(
            "batch {} can't be looked at: {why}, for {} s",
            entry.id,
            silent_for.as_secs()
        );
        Err(ApiError::new(Code::ClusterUnavailable, message))
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

/// Says in an answer how old it is.
fn mark(origin: Origin, reply: Reply) -> Reply {
    match origin {
        Origin::Upstream | Origin::Terminal => reply,
        Origin::Coalesced => reply.age(Some(Duration::ZERO)),
        Origin::Cached(age) => reply.age(Some(age)),
        Origin::Stale(age) => reply.stale().age(age),
    }
}

/// Makes the answer to a failure of the registry on a read.
pub fn read_failed(error: &crate::registry::RegistryError) -> ApiError {
    tracing::error!(%error, "the registry failed");
    ApiError::new(Code::RegistryUnavailable, "the gateway's registry failed")
}
