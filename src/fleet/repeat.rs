//! Sending a read or a kill a second time: once, after a moment, within the caller's time, and out
//! of the cluster's budget. Whether that can help at all is said by [`verdict`].

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use livy_dialect::{Operation, UpstreamRequest};
use tokio::time::{Instant, sleep};

use super::budget::{Budget, Settings};
use super::{Answer, SendError, Upstream, verdict};
use crate::config::checked::Cluster;
use crate::observe::exchange::Exchange;

/// The shortest and the longest pause before a repeat: long enough that a connection that was just
/// closed is not met again, short enough that a poll does not feel it.
const PAUSE_MS: std::ops::Range<u64> = 20..100;

/// The budget of one cluster.
#[derive(Debug)]
pub(super) struct Repeats {
    began: Instant,
    budget: Mutex<Budget>,
    count: AtomicU64,
}

impl Repeats {
    pub(super) fn new(config: &Cluster) -> Repeats {
        Repeats {
            began: Instant::now(),
            budget: Mutex::new(Budget::new(Settings {
                percent: config.retries.percent,
                floor: config.retries.floor,
            })),
            count: AtomicU64::new(0),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Budget, Duration) -> T) -> T {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut budget, self.began.elapsed())
    }

    /// Spreads repeats out, so that those who failed together don't come back together. Made from
    /// the request's id and not by chance: a simulation that is played again must go the same way.
    fn pause(&self, exchange: &Exchange) -> Duration {
        let mut hasher = DefaultHasher::new();
        exchange.request_id.hash(&mut hasher);
        self.count.fetch_add(1, Ordering::Relaxed).hash(&mut hasher);
        let spread = hasher.finish() % (PAUSE_MS.end - PAUSE_MS.start);
        Duration::from_millis(PAUSE_MS.start + spread)
    }
}

impl Upstream {
    pub(super) async fn send_or_repeat(
        &self,
        operation: Operation,
        request: &UpstreamRequest,
        exchange: &Exchange,
    ) -> Result<Answer, SendError> {
        let limit = self.limit(operation);
        let until = Instant::now() + limit;
        let first = self.send_within(operation, request, exchange, limit).await;
        if first.as_ref().is_err_and(SendError::is_shed) {
            return first;
        }
        self.repeats.with(|budget, _| budget.sent());
        if !verdict::repeat_may_help(operation, &first, self.dialect())
            || !self.may_repeat(operation, exchange, until).await
        {
            return first;
        }
        let left = until.saturating_duration_since(Instant::now());
        let second = self.send_within(operation, request, exchange, left).await;
        self.repeated(operation, &second);
        second
    }

    /// Takes one repeat out of the budget, and waits for the moment to send it. An ejected cluster
    /// gets none: one request at a time shows whether it works again.
    pub async fn may_repeat(
        &self,
        operation: Operation,
        exchange: &Exchange,
        until: Instant,
    ) -> bool {
        let pause = self.repeats.pause(exchange);
        if self.health.is_ejected() || Instant::now() + pause >= until {
            return false;
        }
        if !self.repeats.with(|budget, now| budget.take(now)) {
            self.count_retry(operation, "over_budget");
            return false;
        }
        sleep(pause).await;
        !self.health.is_ejected()
    }

    /// Counts what a repeat brought.
    pub fn repeated(&self, operation: Operation, second: &Result<Answer, SendError>) {
        let failed = verdict::of(second, self.dialect()) == verdict::Verdict::Bad;
        self.count_retry(operation, if failed { "exhausted" } else { "recovered" });
    }
}
