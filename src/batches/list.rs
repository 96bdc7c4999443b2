//! `GET /batches`: every cluster is asked, what is new gets an id, and the registry answers.
//!
//! Owns merging. The window and `total` are over what the caller may see, ordered by id.

use std::sync::Arc;
use std::time::Instant;

use livy_dialect::{Batch, ListWindow, Observed, Operation};
use tokio::task::JoinSet;

use super::{Call, read_failed};
use crate::api::error::{ApiError, Code};
use crate::api::respond::{ListBody, Reply};
use crate::upstream::{AskError, Errand, Upstream};

/// Batches asked for at once.
const PAGE: usize = 200;
/// Pages read of one cluster; an HDInsight cluster may remember tens of thousands of ended batches.
const MOST_PAGES: usize = 50;

impl Call {
    /// Serves `GET /batches`.
    ///
    /// # Errors
    /// 404 for a pinned cluster that does not exist, 503 when the registry fails.
    pub async fn list(&self, window: ListWindow) -> Result<Reply, ApiError> {
        let all_answered = self.refresh_lists().await?;
        let visible = self.snapshot.access.visible(&self.principal);
        let listed = self.registry().list(visible, self.pinned.clone(), move |total| window.range(total)).await;
        let (total, entries) = listed.map_err(|error| read_failed(&error))?;
        let sessions: Vec<Batch> = entries.iter().map(|entry| entry.batch()).collect();
        let reply = Reply::ok(&ListBody { from: window.from, total, sessions });
        Ok(if all_answered { reply } else { reply.stale() })
    }

    /// Asks the clusters side by side. Returns whether all of them answered.
    async fn refresh_lists(&self) -> Result<bool, ApiError> {
        let upstreams: Vec<Arc<Upstream>> = match &self.pinned {
            None => self.snapshot.upstreams.values().cloned().collect(),
            Some(name) => match self.snapshot.upstreams.get(name) {
                Some(upstream) => vec![upstream.clone()],
                None => return Err(ApiError::new(Code::UnknownPath, format!("there is no cluster '{name}'"))),
            },
        };
        let mut asked = JoinSet::new();
        for upstream in upstreams.into_iter().filter(|upstream| upstream.health.is_enabled()) {
            let call = self.clone();
            asked.spawn(async move { call.refresh_list(&upstream).await });
        }
        Ok(asked.join_all().await.into_iter().all(|answered| answered))
    }

    async fn refresh_list(&self, upstream: &Upstream) -> bool {
        if !upstream.health.is_alive() {
            return false;
        }
        // Callers that come while the list is being read wait, and share it if it is fresh enough.
        let mut last = upstream.listed.lock().await;
        if last.is_some_and(|at: Instant| at.elapsed() < upstream.config.freshness) {
            return true;
        }
        let seen = match read_list(upstream, &self.errand).await {
            Ok(seen) => seen,
            Err(error) => {
                tracing::debug!(cluster = %upstream.config.name, %error, "the list is answered from what is known");
                return false;
            }
        };
        match self.registry().adopt(&upstream.config.name, seen).await {
            Ok(entered) => entered.into_iter().for_each(|state| upstream.handles.entered(state)),
            Err(error) => {
                tracing::error!(cluster = %upstream.config.name, %error, "a list could not be stored");
                return false;
            }
        }
        *last = Some(Instant::now());
        true
    }
}

/// Reads a cluster's whole list, page by page where it has pages.
async fn read_list(upstream: &Upstream, errand: &Errand) -> Result<Vec<Observed>, AskError> {
    let dialect = upstream.dialect();
    let mut all = Vec::new();
    for page in 0..MOST_PAGES {
        let request = dialect.list(page * PAGE, PAGE);
        let seen = upstream.ask(Operation::ListBatches, &request, errand, |response| dialect.decode_list(response)).await?;
        let full = seen.len() >= PAGE;
        all.extend(seen);
        if !full || !dialect.list_is_paged() {
            return Ok(all);
        }
    }
    tracing::warn!(cluster = %upstream.config.name, read = all.len(), "the cluster lists more batches than are read");
    Ok(all)
}
