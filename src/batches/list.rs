//! `GET /batches`: the newest rows of every cluster are read, what is new gets an id, and the
//! registry answers.
//!
//! Owns merging. The window and `total` are over what the caller may see, ordered by id; what it
//! takes is in proportion to the window.

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::{Batch, ListWindow};
use tokio::task::JoinSet;

use super::{Call, read_failed};
use crate::api::error::{ApiError, Code};
use crate::api::respond::{ListBody, Reply};
use crate::fleet::Upstream;
use crate::registry::{Entry, Phase};

impl Call {
    /// Serves `GET /batches`.
    ///
    /// # Errors
    /// 404 for a pinned cluster that does not exist, 403 for one that is asked with a token that
    /// the caller does not have, 503 when the registry fails.
    pub async fn list(&self, window: ListWindow) -> Result<Reply, ApiError> {
        let all_answered = self.refresh_lists().await?;
        let visible = self.snapshot.access.visible(&self.principal);
        let listed = self
            .registry()
            .list(
                visible,
                self.pinned.clone(),
                self.gateway.board.unsettled(),
                move |total| window.range(total),
            )
            .await;
        let (total, entries) = listed.map_err(|error| read_failed(&error))?;
        let read = entries.len();
        let shown: Vec<&Arc<Entry>> = entries.iter().filter(|entry| self.lists(entry)).collect();
        let age = shown.iter().filter_map(|entry| age(entry)).max();
        let sessions: Vec<Batch> = shown.iter().map(|entry| entry.batch()).collect();
        let reply = Reply::ok(&ListBody {
            from: window.from,
            // What vanished since it was read was never there.
            total: total - (read - sessions.len()),
            sessions,
        })
        .tagged(&self.principal.user);
        // What was read with this list is news of this moment.
        let reply = reply.age(age.filter(|age| *age >= Duration::from_secs(1)));
        Ok(if all_answered { reply } else { reply.stale() })
    }

    /// Asks the clusters side by side. Returns whether all of them answered.
    async fn refresh_lists(&self) -> Result<bool, ApiError> {
        let upstreams: Vec<Arc<Upstream>> = match &self.pinned {
            None => self.snapshot.upstreams.values().cloned().collect(),
            Some(name) => match self.snapshot.upstreams.get(name) {
                Some(upstream) => {
                    self.check_token(upstream)?;
                    vec![upstream.clone()]
                }
                None => {
                    return Err(ApiError::new(
                        Code::UnknownPath,
                        format!("there is no cluster '{name}'"),
                    ));
                }
            },
        };
        let mut asked = JoinSet::new();
        for upstream in upstreams
            .into_iter()
            .filter(|upstream| upstream.health.is_enabled())
        {
            let reader = self.reader.clone();
            asked.spawn(async move { reader.refresh_list(&upstream).await });
        }
        Ok(asked.join_all().await.into_iter().all(|answered| answered))
    }
}

/// Returns how long ago a cluster last spoke of a batch that lives there.
fn age(entry: &Entry) -> Option<Duration> {
    entry.peek(|known| {
        let lives = matches!(known.phase, Phase::Bound { .. }) && !known.state.is_terminal();
        known.heard.filter(|_| lives).map(|at| at.elapsed())
    })
}
