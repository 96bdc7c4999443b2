//! Sending a read or a kill a second time: once, after a moment, within the caller's time, and out
//! of the cluster's budget. Whether that can help at all is said by [`verdict`].

use livy_dialect::{Operation, UpstreamRequest};
use tokio::time::{Instant, sleep};

use super::answer::{Answer, SendError};
use super::upstream::Upstream;
use super::verdict;
use crate::observe::exchange::Exchange;

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
