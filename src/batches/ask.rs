//! Bringing what is known of a batch up to date: from memory where that can be, else by the reader of
//! its cluster. What can't be had now is answered from what is known, marked stale, for a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::round::LOOKED_AT_EVERY;
use super::{Nothing, Reader};
use crate::api::error::{ApiError, Code};
use crate::fleet::Upstream;
use crate::gateway::reads::{Origin, Round, Want};
use crate::registry::{Entry, Phase};

impl Reader {
    /// Brings what is known up to date, if the cluster could know more. Takes no longer than the
    /// cluster's own deadline for an answer, whoever began to ask.
    pub(super) async fn refresh(&self, entry: &Arc<Entry>, want: Want) -> Result<Origin, ApiError> {
        entry.want();
        match self.answer_from_memory(entry, want) {
            Some(origin) => Ok(origin),
            None => match self.snapshot.upstream_of(entry) {
                None => self.stale(
                    entry,
                    Duration::MAX,
                    "its cluster is not configured or disabled",
                ),
                Some(upstream) => match timeout(
                    upstream.config.timeouts.response,
                    self.ask_reader(entry, upstream, want),
                )
                .await
                {
                    Ok(origin) => origin,
                    Err(_) => self.stale(
                        entry,
                        upstream.config.stale_reads,
                        "its cluster takes too long",
                    ),
                },
            },
        }
    }

    /// Counts where an answer to a client comes from.
    pub(super) fn count(&self, origin: Origin) {
        let reads = &self.gateway.metrics.state_reads_total;
        reads.with_label_values(&[origin.as_str()]).inc();
    }

    /// Chooses how to ask: by the list, together with everybody who polls, or alone.
    async fn ask_reader(
        &self,
        entry: &Arc<Entry>,
        upstream: &Arc<Upstream>,
        want: Want,
    ) -> Result<Origin, ApiError> {
        if self.wants_list(entry, upstream, want) {
            let began = Instant::now();
            let (round, joined) = self.round(upstream).await;
            if joined {
                self.exchange.rested(began.elapsed());
            }
            if let Round::Away(words) = round {
                let why = format!("its cluster gives no answer that can be used ({words})");
                return self.stale(entry, upstream.config.stale_reads, &why);
            }
            match self.answer_from_memory(entry, want) {
                Some(Origin::Cached(_)) if joined => return Ok(Origin::Coalesced),
                Some(Origin::Cached(_)) => return Ok(Origin::Upstream),
                Some(origin) => return Ok(origin),
                // The list does not show it, or not for sure.
                None => {}
            }
        }
        self.ask_alone(entry, upstream, want).await
    }

    /// Tells whether a poll that memory can't answer is to be answered by the list.
    fn wants_list(&self, entry: &Entry, upstream: &Upstream, want: Want) -> bool {
        let freshness = upstream.config.freshness;
        if freshness.is_zero() || upstream.needs_a_caller() {
            return false;
        }
        // Whoever joins a question costs nothing.
        if self.gateway.reads.is_under_way(&(entry.id, want)) {
            return false;
        }
        let cost = upstream.dialect().cost();
        // Where lists lag behind, it must be looked at by itself now and then.
        let trusted = !cost.lags || entry.was_looked_at(LOOKED_AT_EVERY);
        let wants = upstream.reading.wants_list(Instant::now(), freshness, cost);
        let is_read = self.gateway.lists.is_under_way(&upstream.config.name);
        let lists = upstream.reading.demand(|demand| demand.lists());
        trusted && (wants || (lists && is_read)) && upstream.health.may_ask()
    }

    /// Asks the cluster, or joins whoever is asking it: failures are shared as well.
    pub(super) async fn ask_alone(
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

    pub(super) fn answer_from_memory(&self, entry: &Entry, want: Want) -> Option<Origin> {
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
        let upstream = self.snapshot.upstream_of(entry)?;
        // What was told to another's token is not for this caller.
        if upstream.needs_a_caller() {
            return None;
        }
        let freshness = upstream.config.freshness;
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
            // Its caller is shown nothing that the cluster told somebody else.
            Err(Nothing::NoAnswer(error)) if upstream.needs_a_caller() && error.refuses_login() => {
                Err(ApiError::token_refused(&entry.cluster, &error.words()))
            }
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

    pub(super) fn stale(
        &self,
        entry: &Entry,
        limit: Duration,
        why: &str,
    ) -> Result<Origin, ApiError> {
        let (heard, has_ended) = entry.peek(|known| (known.heard, known.state.is_terminal()));
        // A gateway that has just started can't have heard anything: the clock runs from its start.
        let silent_for = heard.unwrap_or(self.gateway.started).elapsed();
        if has_ended || silent_for <= limit {
            return Ok(Origin::Stale(heard.map(|at: Instant| at.elapsed())));
        }
        let message = format!(
            "batch {} can't be looked at: {why}, for {} s",
            entry.shown_id(),
            silent_for.as_secs()
        );
        Err(ApiError::new(Code::ClusterUnavailable, message))
    }
}
