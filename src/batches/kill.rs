//! `DELETE /batches/{id}`: kill, and forget.
//!
//! The batch is looked at first: a cluster that began to count again may have given its id to somebody else's job.

use livy_dialect::{Deleted, FaultKind, Operation, StateReading};
use serde_json::json;
use tokio::time::timeout;

use super::{Call, read_failed};
use crate::api::error::{ApiError, Code};
use crate::api::path::BatchKey;
use crate::api::respond::Reply;
use crate::registry::{Entry, Phase};
use crate::upstream::{AskError, SendError, Upstream};

/// How long a kill waits for a submission that is still on its way.
const WAIT_FOR_SUBMISSION: std::time::Duration = std::time::Duration::from_secs(20);

impl Call {
    /// Serves `DELETE /batches/{id}`.
    ///
    /// # Errors
    /// 404, 403 where everybody may see but not kill, 502 when the kill is not confirmed, 503 when the cluster can't be reached.
    pub async fn kill(&self, key: &BatchKey) -> Result<Reply, ApiError> {
        let entry = self.find(key).await?;
        if !self.snapshot.access.may_kill(&self.principal, &entry) {
            return Err(ApiError::new(Code::Forbidden, format!("batch {} belongs to somebody else", entry.id)));
        }
        // What is on its way can't be killed before it is known where it is; the result is looked at below.
        let _ = timeout(WAIT_FOR_SUBMISSION, entry.resolved()).await;
        match entry.phase() {
            Phase::Sending => {
                let message = format!("batch {} is still being submitted; ask again", entry.id);
                return Err(ApiError::new(Code::KillUnconfirmed, message));
            }
            Phase::Refused | Phase::Deleted => return Err(ApiError::no_such_batch(&key.to_string())),
            Phase::Detached => {}
            Phase::Bound => self.kill_upstream(&entry).await?,
        }
        let upstream_id = entry.peek(|known| known.upstream_id.clone());
        self.registry().delete(&entry).await.map_err(|error| read_failed(&error))?;
        Ok(Reply::ok(&json!({"msg": "deleted"})).from_cluster(&entry.cluster, &entry.route, upstream_id.as_deref()))
    }

    async fn kill_upstream(&self, entry: &Entry) -> Result<(), ApiError> {
        let Some(upstream) = self.snapshot.upstream_of(entry) else {
            let message = format!("cluster '{}' is not configured or disabled", entry.cluster);
            return Err(ApiError::new(Code::ClusterUnavailable, message));
        };
        match self.fetch_item(entry, upstream, Operation::DeleteBatch).await {
            Ok(_) => {}
            // Gone, or its id is another batch's now: nothing of ours is left to kill.
            Err(AskError::Fault(fault)) if fault.kind == FaultKind::NotFound => return Ok(()),
            Err(error) => return Err(unreachable(upstream, &error)),
        }
        let dialect = upstream.dialect();
        let Some(request) = entry.with_ref(|batch| dialect.delete(batch)) else { return Ok(()) };
        let answer = upstream.ask(Operation::DeleteBatch, &request, &self.errand, |response| dialect.decode_delete(response)).await;
        match answer {
            Ok(Deleted::Gone) => Ok(()),
            Err(AskError::Fault(fault)) if fault.kind == FaultKind::NotFound => Ok(()),
            Err(AskError::Fault(fault)) if fault.kind == FaultKind::Forbidden => {
                Err(ApiError::new(Code::UpstreamForbidden, format!("cluster '{}' refused the kill: {}", entry.cluster, fault.message)))
            }
            Err(AskError::Send(SendError::NotSent { .. })) => Err(unreachable(upstream, "it can't be reached")),
            Ok(Deleted::Verify) | Err(_) => self.confirm(entry, upstream).await,
        }
    }

    /// Reads the batch again: an answer to a kill may prove nothing, the state does.
    async fn confirm(&self, entry: &Entry, upstream: &Upstream) -> Result<(), ApiError> {
        match self.fetch_item(entry, upstream, Operation::DeleteBatch).await {
            Err(AskError::Fault(fault)) if fault.kind == FaultKind::NotFound => Ok(()),
            Ok(observed) if matches!(observed.state, StateReading::Known(state) if state.is_terminal()) => Ok(()),
            _ => {
                let message = format!("cluster '{}' did not confirm the kill of batch {}; ask again", entry.cluster, entry.id);
                Err(ApiError::new(Code::KillUnconfirmed, message))
            }
        }
    }
}

fn unreachable(upstream: &Upstream, why: impl std::fmt::Display) -> ApiError {
    tracing::warn!(cluster = %upstream.config.name, %why, "a kill could not be sent");
    ApiError::new(Code::ClusterUnavailable, format!("cluster '{}' can't be reached; nothing was killed", upstream.config.name))
}
