//! Batches that their cluster does not know: lost, or not found yet by a Livy that recovers.
//!
//! Owns for how long a cluster must go on saying so, and that somebody asks meanwhile: two answers
//! with nothing between them may be those of two recoveries. What a look says of a batch, and that
//! it is noted, is in `batches`.

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::BatchState;

use super::Reader;
use crate::api::error::ApiError;
use crate::fleet::Upstream;
use crate::gateway::reads::{Origin, Want};
use crate::observe::exchange::Exchange;
use crate::registry::{Entry, Phase};

/// How soon a batch that its cluster does not know is asked for again: often enough for no restart
/// of a cluster to fit in between. A shorter `lost_after` asks some times more often.
const ASKS_EVERY: Duration = Duration::from_secs(2);
const ASKS_AT_MOST_EVERY: Duration = Duration::from_millis(100);

impl Reader {
    /// The cluster has no such batch. If it had ended, that is all right; if not, it is lost, once
    /// that has held for a while.
    pub(super) async fn gone(
        &self,
        entry: &Arc<Entry>,
        upstream: &Arc<Upstream>,
    ) -> Result<Origin, ApiError> {
        let has_ended = entry.peek(|known| known.state.is_terminal());
        match self.is_lost(entry, upstream).await {
            true => {}
            false if has_ended => {}
            false => {
                self.go_on_asking(entry, upstream);
                return self.stale(
                    entry,
                    upstream.config.stale_reads,
                    "its cluster does not know it at the moment",
                );
            }
        }
        if entry.peek(|known| known.kill_asked) {
            // That is what its owner wanted; should it show up again, it is killed as a late one.
            if let Err(error) = self.registry().delete(entry, true).await {
                tracing::error!(batch = %entry.id, %error, "a confirmed kill could not be stored yet");
            }
            return Ok(Origin::Terminal);
        }
        let reason = "its cluster no longer knows this batch; it was restarted, or the batch was deleted there";
        if !has_ended {
            self.gateway
                .metrics
                .lost_batches_total
                .with_label_values(&[upstream.config.name.as_str()])
                .inc();
            upstream.handles.entered(BatchState::Error);
            tracing::warn!(batch = %entry.id, cluster = %entry.cluster, "a live batch is lost: its cluster no longer knows it");
        }
        // What had ended before in its cluster's own words is not looked for any more.
        if let Err(error) = self.registry().give_up(entry, reason, !has_ended).await {
            tracing::error!(batch = %entry.id, %error, "the end of a batch could not be stored");
        }
        Ok(Origin::Terminal)
    }

    /// Tells whether a cluster that says that it has no such batch is to be believed: it has been
    /// saying so for long enough, and works otherwise. An instance that was moved or deleted
    /// answers 404 to everything, and a Livy that recovers does for a while.
    pub(super) async fn is_lost(&self, entry: &Entry, upstream: &Upstream) -> bool {
        entry.missing_for() >= upstream.config.lost_after && upstream.probe().await.is_ok()
    }

    /// Goes on asking for a batch, in the background, until its cluster speaks of it, gives no
    /// answer, or it is lost. With the caller's own token where the cluster wants one.
    pub(super) fn go_on_asking(&self, entry: &Arc<Entry>, upstream: &Arc<Upstream>) {
        if self.gateway.missing.is_under_way(&entry.id) {
            return;
        }
        let exchange = match upstream.needs_a_caller() {
            true => self.exchange.clone(),
            false => Arc::new(Exchange::default()),
        };
        let reader = Reader {
            exchange,
            ..self.clone()
        };
        let (entry, upstream) = (entry.clone(), upstream.clone());
        self.gateway.tasks.spawn(async move {
            let gateway = reader.gateway.clone();
            let work = || {
                let entry = entry.clone();
                async move { reader.ask_until_clear(&entry, &upstream).await }
            };
            gateway.missing.join(entry.id, work).await
        });
    }

    async fn ask_until_clear(&self, entry: &Arc<Entry>, upstream: &Upstream) {
        let stop = &self.gateway.stop;
        let _place = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            place = upstream.missing.acquire() => place,
        };
        let is_missing = || {
            entry.peek(|known| {
                let live = matches!(known.phase, Phase::Bound { .. }) && !known.state.is_terminal();
                live && known.missing.is_some()
            })
        };
        let pause = (upstream.config.lost_after / 4).clamp(ASKS_AT_MOST_EVERY, ASKS_EVERY);
        while is_missing() && !upstream.health.is_ejected() {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if let Err(error) = self.ask_alone(entry, upstream, Want::State).await {
                tracing::debug!(batch = %entry.id, cluster = %upstream.config.name, error = %error.message, "a look at a missing batch brought nothing");
            }
        }
    }
}
