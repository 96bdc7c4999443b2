//! Reads: asked once more where that can help.

use livy_dialect::{Operation, UpstreamFault, UpstreamRequest, UpstreamResponse};

use super::answer::AskError;
use super::upstream::Upstream;
use crate::observe::exchange::Exchange;

impl Upstream {
    /// Asks something that may be asked twice, and reads the answer. Where that can help, and the
    /// cluster's budget allows it, it is asked twice.
    ///
    /// # Errors
    /// No answer, or one that is a refusal.
    pub async fn ask<T>(
        &self,
        operation: Operation,
        request: &UpstreamRequest,
        exchange: &Exchange,
        read: impl Fn(&UpstreamResponse<'_>) -> Result<T, UpstreamFault>,
    ) -> Result<T, AskError> {
        let answer = self.send_or_repeat(operation, request, exchange).await?;
        read(&answer.as_response()).map_err(|fault| {
            self.count_fault(operation, &fault);
            AskError::Fault(fault)
        })
    }
}
