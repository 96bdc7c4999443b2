//! What a request to a cluster brings: an answer, or the proof of how far it got.

use bytes::Bytes;
use livy_dialect::{FaultKind, UpstreamFault, UpstreamResponse};
use thiserror::Error;

use super::credentials::Unsigned;

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Returns it as the dialect wants it.
    pub fn as_response(&self) -> UpstreamResponse<'_> {
        UpstreamResponse {
            status: self.status,
            content_type: self.content_type.as_deref(),
            body: &self.body,
        }
    }
}

/// No answer, and the proof of how far the request got.
#[derive(Clone, Debug, Error)]
pub enum SendError {
    /// Not a byte of the request left: nothing was accepted.
    #[error("{reason}: {detail}")]
    NotSent {
        /// A word of the metric.
        reason: &'static str,
        /// For the log.
        detail: String,
    },
    /// Some or all of it left.
    #[error("{reason}: {detail}")]
    MaybeSent {
        /// A word of the metric.
        reason: &'static str,
        /// For the log.
        detail: String,
    },
    /// Nothing was sent: there is nothing to log in with.
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
}

/// The `reason` of a request that was not sent because as many as may are on their way.
const SHED: &str = "max_in_flight";

impl SendError {
    /// Says in words why there was no answer, for a client's message.
    pub fn words(&self) -> String {
        match self {
            SendError::NotSent { detail, .. } | SendError::MaybeSent { detail, .. } => {
                detail.clone()
            }
            SendError::Unsigned(unsigned) => unsigned.to_string(),
        }
    }

    pub(super) fn not_sent(reason: &'static str, detail: impl Into<String>) -> SendError {
        SendError::NotSent {
            reason,
            detail: detail.into(),
        }
    }

    /// Says that it was turned away here.
    pub fn shed() -> SendError {
        SendError::not_sent(SHED, "as many requests as may be are on their way")
    }

    /// Tells whether it was turned away here, because as many as may are on their way.
    pub fn is_shed(&self) -> bool {
        matches!(self, SendError::NotSent { reason: SHED, .. })
    }

    /// Tells whether the answer was too large to be read.
    pub fn is_too_large(&self) -> bool {
        matches!(
            self,
            SendError::MaybeSent {
                reason: "body_limit",
                ..
            }
        )
    }
}

/// Why a read brought nothing.
#[derive(Clone, Debug, Error)]
pub enum AskError {
    /// No answer.
    #[error(transparent)]
    Send(#[from] SendError),
    /// An answer that is a refusal or can't be read.
    #[error("{0}")]
    Fault(UpstreamFault),
}

impl AskError {
    /// Tells whether whoever was asked refused the login that went along.
    pub fn refuses_login(&self) -> bool {
        matches!(self, AskError::Fault(fault) if matches!(fault.kind, FaultKind::Unauthorized | FaultKind::Forbidden))
    }

    /// Says in words why there is nothing, for a client's message.
    pub fn words(&self) -> String {
        match self {
            AskError::Send(error) => error.words(),
            AskError::Fault(fault) => fault.message.clone(),
        }
    }
}
