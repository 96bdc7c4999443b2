//! Whether a cluster is alive.

use std::sync::PoisonError;
use std::time::Duration;

use livy_dialect::{Operation, UpstreamRequest};

use super::answer::{Answer, SendError};
use super::upstream::Upstream;
use crate::observe::exchange::Exchange;

impl Upstream {
    /// Asks whether the cluster is alive. One that is asked with its callers' tokens is asked
    /// without any, and what it says to that, 401 or 403, is a sign of life.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub async fn probe(&self) -> Result<(), String> {
        let known = self
            .known_batch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(request) = known.and_then(|id| self.dialect().probe_by(&id)) {
            match self.send_probe(&request).await? {
                answer if self.works(&answer) => return Ok(()),
                // That batch is gone, or the whole instance: the list will tell.
                answer if answer.status == 404 => self.know_batch(None),
                answer => return Err(format!("it answered {}", answer.status)),
            }
        }
        let answer = self.send_probe(&self.dialect().probe()).await?;
        if !self.works(&answer) {
            return Err(format!("it answered {}", answer.status));
        }
        if let Ok(list) = self.dialect().decode_list(&answer.as_response())
            && let Some(last) = list.batches.last()
        {
            self.know_batch(Some(&last.upstream_id));
        }
        Ok(())
    }

    /// One that is asked with its callers' tokens is asked without any.
    async fn send_probe(&self, request: &UpstreamRequest) -> Result<Answer, String> {
        let (exchange, limit) = (Exchange::default(), self.config.health.timeout);
        let asked = match self.needs_a_caller() {
            true => self.probe_unsigned(request, &exchange, limit).await,
            false => {
                self.send_within(Operation::Other, request, &exchange, limit)
                    .await
            }
        };
        asked.map_err(|error| error.words())
    }

    async fn probe_unsigned(
        &self,
        request: &UpstreamRequest,
        exchange: &Exchange,
        limit: Duration,
    ) -> Result<Answer, SendError> {
        let uri = format!("{}{}", self.config.base, request.path);
        let request = self.http_request(&uri, request, exchange)?;
        self.carry(Operation::Other, request, exchange, limit).await
    }

    /// Tells whether an answer is a sign of life: also that it wants a login, where nobody's is at
    /// hand.
    fn works(&self, answer: &Answer) -> bool {
        let refuses = self.needs_a_caller() && matches!(answer.status, 401 | 403);
        refuses || (answer.as_response().is_success() && !answer.as_response().is_html())
    }
}
