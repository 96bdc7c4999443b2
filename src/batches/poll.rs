//! `GET /batches/{id}` and `/state`: answered at once, or when something has changed (`?wait=30s`).
//!
//! A wait looks as a poll does, again and again, and rests in between; it holds nothing of a
//! cluster's. Whoever learns something new of the batch wakes it.

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::BatchState;
use tokio::time::{Instant, sleep, sleep_until};

use super::{Call, mark};
use crate::api::error::ApiError;
use crate::api::path::BatchKey;
use crate::api::respond::{Reply, StateBody};
use crate::gateway::reads::{Origin, Want};
use crate::registry::Entry;

/// How long a wait rests at least between two looks, however fresh answers are to be: the cluster
/// is asked no more often than by a client that polls each second.
const REST: Duration = Duration::from_secs(1);

/// How long a look may take before what is known is shown as stale at the end of a wait.
const PROMPT: Duration = Duration::from_secs(1);

impl Call {
    /// Serves `GET /batches/{id}` and `GET /batches/{id}/state`. With `wait` it answers when what
    /// the client has (`If-None-Match`, else the state known when it asked) is out of date, when
    /// the batch has ended, or when the time is up.
    ///
    /// # Errors
    /// 404, or 503 when the cluster was away for longer than `stale_reads`.
    pub async fn look(
        &self,
        key: &BatchKey,
        want: Want,
        wait: Option<Duration>,
    ) -> Result<Reply, ApiError> {
        let entry = self.find(key).await?;
        self.check_caller(&entry)?;
        let origin = match wait {
            None => self.refresh(&entry, want).await,
            Some(wait) => self.wait_for_news(&entry, want, wait).await,
        }?;
        self.count(origin);
        if !entry.phase().is_visible() {
            // It was deleted meanwhile.
            return Err(ApiError::no_such_batch(&key.to_string()));
        }
        let reply = mark(origin, self.shown(&entry, want));
        Ok(self.signed(reply, &entry))
    }

    /// Makes the answer of what is known.
    fn shown(&self, entry: &Entry, want: Want) -> Reply {
        let reply = match want {
            Want::Item => Reply::ok(&entry.batch()),
            Want::State => Reply::ok(&StateBody {
                id: entry.shown_id().0,
                state: entry.peek(|known| known.state),
            }),
        };
        reply.tagged(&self.principal.user)
    }

    async fn wait_for_news(
        &self,
        entry: &Arc<Entry>,
        want: Want,
        wait: Duration,
    ) -> Result<Origin, ApiError> {
        let (began, until) = (Instant::now(), Instant::now() + wait);
        let asked_before = self.exchange.time_waited();
        let origin = self.look_until(entry, want, until).await;
        // Resting is no work of the gateway's: its share of the time is what neither rested nor
        // waited for a cluster.
        let asking = self.exchange.time_waited().saturating_sub(asked_before);
        self.exchange.rested(began.elapsed().saturating_sub(asking));
        origin
    }

    async fn look_until(
        &self,
        entry: &Arc<Entry>,
        want: Want,
        until: Instant,
    ) -> Result<Origin, ApiError> {
        let before = entry.peek(|known| known.state);
        let mut news = entry.news();
        let drain = self.gateway.drained();
        loop {
            news.mark_unchanged();
            let began = Instant::now();
            let last = tokio::select! {
                looked = self.refresh(entry, want) => looked?,
                () = sleep_until(until) => return self.at_hand(entry, began),
                () = drain.cancelled() => return self.at_hand(entry, began),
            };
            let looked = Instant::now();
            let rest = sleep(self.rest(entry));
            tokio::pin!(rest);
            loop {
                if self.is_news(entry, want, before) {
                    return Ok(aged(entry, last, looked));
                }
                tokio::select! {
                    () = rest.as_mut() => break,
                    // The sender lives in the entry, so the channel can't close.
                    _ = news.changed() => {}
                    () = sleep_until(until) => return Ok(aged(entry, last, looked)),
                    () = drain.cancelled() => return Ok(aged(entry, last, looked)),
                }
            }
        }
    }

    fn rest(&self, entry: &Entry) -> Duration {
        let upstream = self.snapshot.upstream_of(entry);
        upstream.map_or(REST, |upstream| upstream.config.freshness.max(REST))
    }

    /// Tells whether a client that waits is to be answered.
    fn is_news(&self, entry: &Entry, want: Want, before: BatchState) -> bool {
        let (state, is_visible) = entry.peek(|known| (known.state, known.phase.is_visible()));
        if state.is_terminal() || !is_visible {
            return true;
        }
        match self.has.is_nothing() {
            true => state != before,
            false => !self.shown(entry, want).is_had(&self.has),
        }
    }

    /// Returns where the answer comes from when the time is up in the middle of a look.
    fn at_hand(&self, entry: &Entry, began: Instant) -> Result<Origin, ApiError> {
        match self.snapshot.upstream_of(entry) {
            Some(upstream) if began.elapsed() >= PROMPT => {
                let limit = upstream.config.stale_reads;
                self.stale(entry, limit, "its cluster takes too long")
            }
            _ => Ok(aged(entry, Origin::Upstream, began)),
        }
    }
}

/// Returns where an answer comes from that was looked for at a moment, and is given now.
fn aged(entry: &Entry, last: Origin, looked: Instant) -> Origin {
    let Some(heard) = entry.peek(|known| known.heard) else {
        return last;
    };
    let age = heard.elapsed();
    match last {
        // Somebody else learnt something meanwhile.
        _ if heard > looked => Origin::Cached(age),
        Origin::Stale(_) => Origin::Stale(Some(age)),
        Origin::Upstream | Origin::Coalesced if age < PROMPT => last,
        Origin::Upstream | Origin::Coalesced | Origin::Cached(_) => Origin::Cached(age),
        Origin::Terminal => last,
    }
}
