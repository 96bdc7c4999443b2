//! `GET /batches/{id}/log`: Livy's window, whatever the cluster has.
//!
//! Schedulers read the log after every success and fail the task if that fails; so this answers 200
//! for every batch that can be seen. Where there is no log, or none any more, one line says so.

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::{LogPart, LogPlan, LogWindow, Operation};

use super::{Call, Nothing, Reader};
use crate::api::error::ApiError;
use crate::api::path::BatchKey;
use crate::api::respond::{LogBody, Reply};
use crate::fleet::{AskError, SendError, Upstream};
use crate::registry::Entry;

impl Call {
    /// Serves `GET /batches/{id}/log`.
    ///
    /// # Errors
    /// 404 only.
    pub async fn log(&self, key: &BatchKey, window: LogWindow) -> Result<Reply, ApiError> {
        let entry = self.find(key).await?;
        let limit = self
            .snapshot
            .upstream_of(&entry)
            .map_or(Duration::MAX, |upstream| upstream.config.timeouts.response);
        let read = tokio::time::timeout(limit, self.read_log(&entry, window)).await;
        let reply = match read.unwrap_or_else(|_| Err("the cluster takes too long".into())) {
            Ok(LogAnswer::Cut(part)) => cut_by_cluster(&entry, &part),
            Ok(LogAnswer::Nowhere(line)) => cut(&entry, window, &[line.to_owned()]).warning(line),
            Err(why) => cut(&entry, window, &last_known(&entry, &why)).stale(),
        };
        Ok(self.signed(reply, &entry))
    }
}

impl Reader {
    async fn read_log(&self, entry: &Arc<Entry>, window: LogWindow) -> Result<LogAnswer, String> {
        let Some(upstream) = self.snapshot.upstream_of(entry) else {
            return Err("its cluster is not configured or disabled".into());
        };
        let dialect = upstream.dialect();
        let Some(plan) = entry.with_ref(|batch| dialect.log(batch, window)) else {
            return Err("the cluster no longer has this batch".into());
        };
        if !matches!(plan, LogPlan::Nowhere(_)) {
            if !upstream.health.may_ask() {
                return Err(format!(
                    "the cluster does not answer{}",
                    upstream.health.why()
                ));
            }
            self.make_sure(entry, upstream).await?;
        }
        let answers =
            |part: &LogPart| part.upstream_id.is_none() || part.upstream_id == entry.upstream_id();
        let read = match plan {
            LogPlan::Nowhere(line) => {
                // What it was presumed by, or ended with, says more.
                if entry.peek(|known| known.log.is_empty()) {
                    self.registry().observe_log(entry, &[line.to_owned()]);
                }
                return Ok(LogAnswer::Nowhere(line));
            }
            LogPlan::Window(request) => upstream
                .ask(Operation::GetLog, &request, &self.exchange, |response| {
                    dialect.decode_log(response)
                })
                .await
                .map(LogAnswer::Cut),
            LogPlan::Pages { size, headers } => self
                .read_window(entry, upstream, window, size, headers)
                .await
                .map(LogAnswer::Cut),
        };
        let read = read.map_err(|error| match error {
            AskError::Fault(fault) => {
                format!("the cluster has no log for it now: {}", fault.message)
            }
            AskError::Send(error) => does_not_answer(&error),
        })?;
        if let LogAnswer::Cut(part) = &read
            && !answers(part)
        {
            return Err("the cluster answered with the log of another batch".into());
        }
        // The id may have been given again between the two.
        self.make_sure(entry, upstream).await?;
        Ok(read)
    }

    /// A log that comes by number says nothing about whose it is: the batch itself is looked at in
    /// the same breath, before and after. What is asked by a name of its own, or by an id that is
    /// never given twice, needs no look.
    async fn make_sure(&self, entry: &Arc<Entry>, upstream: &Upstream) -> Result<(), String> {
        let counted = entry
            .upstream_id()
            .is_some_and(|id| id.parse::<u64>().is_ok());
        if !counted || entry.own_name().is_some() {
            return Ok(());
        }
        match self.fetch_item(entry, upstream, Operation::GetLog).await {
            Ok(seen) => {
                self.registry().observe(entry, &seen).await;
                Ok(())
            }
            Err(Nothing::Gone | Nothing::Another) => {
                Err("the cluster no longer has this batch".into())
            }
            Err(Nothing::CannotTell) => {
                Err("the cluster shows a batch under its id that may be another one".into())
            }
            Err(Nothing::NoAnswer(AskError::Send(error))) => Err(does_not_answer(&error)),
            Err(Nothing::NoAnswer(AskError::Fault(fault))) => Err(format!(
                "the cluster gives no answer that can be used ({})",
                fault.message
            )),
        }
    }
}

fn does_not_answer(error: &SendError) -> String {
    format!("the cluster does not answer ({})", error.words())
}

enum LogAnswer {
    /// The cluster cut the window.
    Cut(LogPart),
    /// No log over REST.
    Nowhere(&'static str),
}

fn cut_by_cluster(entry: &Entry, part: &LogPart) -> Reply {
    let count = i64::try_from(part.lines.len()).unwrap_or(i64::MAX);
    let from = part.from.unwrap_or(0);
    // A `total` below what was just read makes readers stop early; there is none above it that
    // could not be read.
    let total = part.total.unwrap_or(0).max(if count == 0 {
        0
    } else {
        from.saturating_add(count)
    });
    Reply::ok(&LogBody {
        id: entry.shown_id().0,
        from,
        total,
        log: &part.lines,
    })
}

fn cut(entry: &Entry, window: LogWindow, lines: &[String]) -> Reply {
    let (from, range) = window.resolve(lines.len());
    let total = i64::try_from(lines.len()).unwrap_or(i64::MAX);
    Reply::ok(&LogBody {
        id: entry.shown_id().0,
        from,
        total,
        log: &lines[range],
    })
}

/// Returns the last lines that were seen, or one that says why there are none.
fn last_known(entry: &Entry, why: &str) -> Vec<String> {
    let lines = entry.peek(|known| known.log.clone());
    if lines.is_empty() {
        vec![format!("livy-gateway: no log is at hand: {why}")]
    } else {
        lines
    }
}
