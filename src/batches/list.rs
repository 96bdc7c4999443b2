//! `GET /batches`: every cluster is asked, what is new gets an id, and the registry answers.
//!
//! Owns merging. The window and `total` are over what the caller may see, ordered by id.

use std::sync::{Arc, PoisonError};

use livy_dialect::{Batch, ListWindow};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::{Call, Reader, read_failed};
use crate::api::error::{ApiError, Code};
use crate::api::respond::{ListBody, Reply};
use crate::fleet::Upstream;
use crate::gateway::reads::Want;
use crate::registry::Entry;
use crate::submit;

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
        let shown = entries.iter().filter(|entry| self.shows(entry));
        let sessions: Vec<Batch> = shown.map(|entry| entry.batch()).collect();
        let reply = Reply::ok(&ListBody {
            from: window.from,
            // What vanished since it was read was never there.
            total: total - (read - sessions.len()),
            sessions,
        })
        .tagged(&self.principal.user);
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

impl Reader {
    /// Reads a cluster's list, or joins whoever is reading it. Returns whether it answered.
    pub(super) async fn refresh_list(&self, upstream: &Arc<Upstream>) -> bool {
        if self.check_token(upstream).is_err() {
            return false;
        }
        if upstream.needs_a_caller() {
            // What the cluster shows to one caller is not what it shows to another.
            let limit = upstream.config.timeouts.response;
            return upstream.health.may_ask()
                && timeout(limit, self.read_list(upstream))
                    .await
                    .unwrap_or(false);
        }
        let last = *upstream
            .listed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|at| at.elapsed() < upstream.config.freshness) {
            return true;
        }
        if !upstream.health.may_ask() {
            return false;
        }
        let work = || {
            let (reader, upstream) = (self.clone(), upstream.clone());
            async move { reader.read_list(&upstream).await }
        };
        let answered = timeout(
            upstream.config.timeouts.response,
            self.gateway.lists.join(upstream.config.name.clone(), work),
        )
        .await;
        matches!(answered, Ok((Some(true), _)))
    }

    /// Asks for batches whose ids a list shows for others, as polls do: one that is there is heard
    /// of, one that is not is lost when that has held for a while.
    async fn ask_for_all(&self, doubted: Vec<Arc<Entry>>, upstream: &Upstream) {
        for entry in doubted {
            if self.gateway.stop.is_cancelled() || upstream.health.is_ejected() {
                return;
            }
            if self.answer_from_memory(&entry, Want::State).is_none() {
                // What can't be told now is told by a later poll.
                let _ = Box::pin(self.ask_once(&entry, upstream, Want::State)).await;
            }
        }
    }

    async fn read_list(&self, upstream: &Arc<Upstream>) -> bool {
        let asked = self.registry().clock().now();
        let seen = match submit::read_list(upstream, &self.exchange).await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::debug!(cluster = %upstream.config.name, %error, "the list is answered from what is known");
                return false;
            }
        };
        if let Some(highest) = seen
            .iter()
            .filter_map(|seen| seen.upstream_id.parse().ok())
            .max()
        {
            upstream.listed_up_to(highest);
        }
        match self
            .registry()
            .adopt(&upstream.config.name, seen, asked)
            .await
        {
            Ok(listed) => {
                listed
                    .entered
                    .into_iter()
                    .for_each(|state| upstream.handles.entered(state));
                for (entry, seen) in listed.late {
                    submit::late::deal_with(&self.gateway, upstream, &entry, &seen).await;
                }
                if !listed.doubted.is_empty() {
                    let reader = self.clone();
                    let upstream = upstream.clone();
                    let asking = async move { reader.ask_for_all(listed.doubted, &upstream).await };
                    self.gateway.tasks.spawn(asking);
                }
            }
            Err(error) => {
                tracing::error!(cluster = %upstream.config.name, %error, "a list could not be stored");
                return false;
            }
        }
        *upstream
            .listed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        true
    }
}
