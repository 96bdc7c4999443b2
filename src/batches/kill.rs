//! `DELETE /batches/{id}`: kill, and forget.
//!
//! The wish is stored before anything is sent, and carried out by a task that outlives its request;
//! one that can't be carried out yet is remembered and goes on. The batch is looked at first: a
//! cluster that began to count again may have given its id to somebody else's job, and what can't
//! be told apart is not killed.

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::{Deleted, Operation, StateReading, UpstreamRequest};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::{Call, Nothing, Reader};
use crate::api::error::{ApiError, Code};
use crate::api::path::BatchKey;
use crate::api::respond::Reply;
use crate::fleet::{AskError, SendError, Upstream};
use crate::registry::{Entry, Phase, RegistryError};

const OPERATION: Operation = Operation::DeleteBatch;

/// How long a kill waits for a submission that is still on its way.
const WAIT_FOR_SUBMISSION: Duration = Duration::from_secs(20);

impl Call {
    /// Serves `DELETE /batches/{id}`.
    ///
    /// # Errors
    /// 404, 403 where everybody may see but not kill, 502 when the kill is not confirmed, 503 when
    /// it can't be stored.
    pub async fn kill(&self, key: &BatchKey) -> Result<Reply, ApiError> {
        let entry = self.find(key).await?;
        if !self.snapshot.access.may_kill(&self.principal, &entry) {
            return Err(ApiError::new(
                Code::Forbidden,
                format!("batch {} belongs to somebody else", entry.shown_id()),
            ));
        }
        if entry.peek(|known| known.presumed) && !self.snapshot.access.is_admin(&self.principal) {
            return Err(only_presumed(&entry));
        }
        if let (Some(upstream), Phase::Bound { .. } | Phase::Sending) =
            (self.snapshot.upstream_of(&entry), entry.phase())
        {
            self.check_token(upstream)?;
        }
        // What was proven to have ended is not killed any more, only forgotten.
        if !entry.phase().is_visible() {
            return Err(ApiError::no_such_batch(&key.to_string()));
        }
        let upstream_id = entry.upstream_id();
        let is_admin = self.snapshot.access.is_admin(&self.principal);
        let work = || {
            let (reader, entry) = (self.reader.clone(), entry.clone());
            async move { reader.kill_to_the_end(&entry, is_admin).await }
        };
        let limit = self.deadline(&entry);
        let killed = tokio::select! {
            biased;
            killed = timeout(limit, self.gateway.kills.join(entry.id, work)) => killed,
            () = self.gateway.hurry.cancelled() => return Err(unconfirmed(&entry, "the gateway is shutting down and the kill is remembered")),
        };
        match killed {
            Ok((Some(result), _)) => result?,
            Ok((None, _)) => {
                return Err(ApiError::new(
                    Code::Internal,
                    "the kill ended early; it is remembered",
                ));
            }
            Err(_) => return Err(unconfirmed(&entry, "the kill is under way")),
        }
        Ok(Reply::ok(&json!({"msg": "deleted"})).from_cluster(
            &entry.cluster,
            &entry.route,
            upstream_id.as_deref(),
        ))
    }
}

impl Reader {
    fn deadline(&self, entry: &Entry) -> Duration {
        let timeouts = self
            .snapshot
            .upstream_of(entry)
            .map(|upstream| upstream.config.timeouts);
        timeouts
            .map_or(WAIT_FOR_SUBMISSION, |timeouts| {
                timeouts.create_batch.max(timeouts.response) + WAIT_FOR_SUBMISSION
            })
            .min(Duration::from_secs(110))
    }

    /// Carries a kill out. Also for one that an earlier request, or an earlier process, was asked
    /// for.
    pub(super) async fn kill_to_the_end(
        &self,
        entry: &Arc<Entry>,
        may_kill_presumed: bool,
    ) -> Result<(), ApiError> {
        self.registry()
            .ask_kill(entry, may_kill_presumed)
            .await
            .map_err(|error| not_stored(&error))?;
        // What is on its way can't be killed before it is known where it is; the result is looked
        // at below.
        let _ = timeout(WAIT_FOR_SUBMISSION, entry.resolved()).await;
        let mut may_arrive = false;
        match entry.phase() {
            Phase::Sending => {
                return Err(unconfirmed(
                    entry,
                    "it is still being submitted; the kill is remembered",
                ));
            }
            Phase::Deleted { .. } => return Ok(()),
            // Nobody who was shown it meets this: what was shown does not vanish.
            Phase::Refused => return Err(ApiError::no_such_batch(&entry.shown_id().to_string())),
            Phase::Detached { .. } => {}
            // It was presumed while this waited: the wish is void.
            Phase::Bound { .. } if entry.peek(|known| known.presumed && !known.kill_asked) => {
                return Err(only_presumed(entry));
            }
            Phase::Bound { .. } => may_arrive = !self.kill_upstream(entry).await?.is_certain(),
        }
        if let Err(error) = self.registry().delete(entry, may_arrive).await {
            // The wish is stored and the job is dead: it is gone for its clients all the same.
            tracing::error!(batch = %entry.id, %error, "a confirmed kill could not be stored yet");
        }
        Ok(())
    }

    async fn kill_upstream(&self, entry: &Arc<Entry>) -> Result<Dead, ApiError> {
        let Some(upstream) = self.snapshot.upstream_of(entry) else {
            let message = format!("cluster '{}' is not configured or disabled", entry.cluster);
            return Err(ApiError::new(Code::ClusterUnavailable, message));
        };
        if let Some(dead) = self.look_before(entry, upstream).await? {
            return Ok(dead);
        }
        let dialect = upstream.dialect();
        let Some(request) = entry.with_ref(|batch| dialect.delete(batch)) else {
            return Ok(Dead::Silent);
        };
        let until = Instant::now() + upstream.config.timeouts.response;
        let is_lost = match self.send_kill(upstream, &request).await {
            Ok(Deleted::Gone) => return Ok(Dead::Said),
            Err(AskError::Send(error @ (SendError::NotSent { .. } | SendError::Unsigned(_)))) => {
                return Err(unreachable(upstream, &AskError::Send(error)));
            }
            // Whoever asked a moment ago may have killed it; whether it is gone is settled by
            // looking again.
            Ok(Deleted::Verify) => false,
            Err(_) => true,
        };
        if let Some(dead) = self.how_dead(entry, upstream).await? {
            return Ok(dead);
        }
        if is_lost && upstream.may_repeat(OPERATION, &self.exchange, until).await {
            // The pause may have been long enough for a restart.
            if let Some(dead) = self.how_dead(entry, upstream).await? {
                return Ok(dead);
            }
            let again = self.send_kill(upstream, &request).await;
            let is_gone = matches!(again, Ok(Deleted::Gone));
            upstream.count_retry(OPERATION, if is_gone { "recovered" } else { "exhausted" });
            if is_gone {
                return Ok(Dead::Said);
            }
            if let Some(dead) = self.how_dead(entry, upstream).await? {
                return Ok(dead);
            }
        }
        Err(not_confirmed(entry))
    }

    async fn send_kill(
        &self,
        upstream: &Upstream,
        request: &UpstreamRequest,
    ) -> Result<Deleted, AskError> {
        let dialect = upstream.dialect();
        upstream
            .ask(OPERATION, request, &self.exchange, |response| {
                dialect.decode_delete(response)
            })
            .await
    }

    /// Makes sure that what is killed is this batch. `None`: it is there.
    async fn look_before(
        &self,
        entry: &Arc<Entry>,
        upstream: &Arc<Upstream>,
    ) -> Result<Option<Dead>, ApiError> {
        match self.fetch_item(entry, upstream, OPERATION).await {
            Ok(_) => Ok(None),
            Err(Nothing::Gone | Nothing::Another) => {
                self.nothing_there(entry, upstream).await.map(Some)
            }
            Err(Nothing::CannotTell) => {
                let message = format!(
                    "cluster '{}' shows a batch under the id of batch {} that may be another one: it was not killed",
                    entry.cluster,
                    entry.shown_id()
                );
                Err(ApiError::new(Code::KillUnconfirmed, message))
            }
            Err(Nothing::NoAnswer(error)) => Err(unreachable(upstream, &error)),
        }
    }

    /// Reads the batch again: an answer to a kill may prove nothing, the state does. `None`: it
    /// runs, and it is this batch.
    async fn how_dead(
        &self,
        entry: &Arc<Entry>,
        upstream: &Arc<Upstream>,
    ) -> Result<Option<Dead>, ApiError> {
        match self.fetch_item(entry, upstream, OPERATION).await {
            Err(Nothing::Gone | Nothing::Another) => {
                self.nothing_there(entry, upstream).await.map(Some)
            }
            Ok(seen) => {
                let ended = matches!(seen.state, StateReading::Known(state) if state.is_terminal());
                Ok(ended.then_some(Dead::Said))
            }
            Err(Nothing::NoAnswer(_) | Nothing::CannotTell) => Err(not_confirmed(entry)),
        }
    }

    /// The cluster has no such batch, or shows another one under its id. One that had ended may be
    /// gone; one that ran is believed to be gone only when that has held for a while: a Livy that
    /// recovers says so of jobs that run on.
    async fn nothing_there(
        &self,
        entry: &Arc<Entry>,
        upstream: &Arc<Upstream>,
    ) -> Result<Dead, ApiError> {
        if entry.peek(|known| known.state.is_terminal()) {
            return Ok(Dead::Said);
        }
        if self.is_lost(entry, upstream).await {
            return Ok(Dead::Silent);
        }
        self.go_on_asking(entry, upstream);
        Err(unconfirmed(
            entry,
            "its cluster does not know it at the moment; the kill is remembered",
        ))
    }
}

/// How it is known that a batch runs no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dead {
    /// Its cluster said so.
    Said,
    /// Its cluster has not known it for a while: it may show up again, and is then killed.
    Silent,
}

impl Dead {
    fn is_certain(self) -> bool {
        self == Dead::Said
    }
}

fn only_presumed(entry: &Entry) -> ApiError {
    let message = format!(
        "batch {} is only presumed to be yours: the answer to its submission was lost; an administrator can kill it",
        entry.shown_id()
    );
    ApiError::new(Code::Forbidden, message)
}

fn unconfirmed(entry: &Entry, why: &str) -> ApiError {
    ApiError::new(
        Code::KillUnconfirmed,
        format!("batch {}: {why}; ask again", entry.shown_id()),
    )
}

fn not_confirmed(entry: &Entry) -> ApiError {
    unconfirmed(
        entry,
        "its cluster did not confirm the kill, which is remembered",
    )
}

fn not_stored(error: &RegistryError) -> ApiError {
    tracing::error!(%error, "a kill could not be stored; nothing was sent");
    ApiError::new(
        Code::RegistryUnavailable,
        "the gateway's registry can't be written; nothing was killed",
    )
}

fn unreachable(upstream: &Upstream, why: &AskError) -> ApiError {
    tracing::warn!(cluster = %upstream.config.name, %why, "a kill could not be sent");
    let name = &upstream.config.name;
    match why {
        AskError::Send(error) => crate::submit::unreachable(name, error, "the kill is remembered"),
        AskError::Fault(fault) => ApiError::new(
            Code::ClusterUnavailable,
            format!(
                "cluster '{name}' gives no answer that can be used ({}); the kill is remembered",
                fault.message
            ),
        ),
    }
}
