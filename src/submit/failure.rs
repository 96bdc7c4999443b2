//! The answers where a submission did not end with a batch.

use crate::api::error::{ApiError, Code};
use crate::fleet::SendError;
use crate::fleet::credentials::Unsigned;
use crate::registry::{Entry, RegistryError};

pub(super) fn unknown(entry: &Entry) -> ApiError {
    let message = format!(
        "it is not known whether cluster '{}' created the batch; the gateway goes on asking (batch {})",
        entry.cluster,
        entry.shown_id()
    );
    ApiError::new(Code::SubmissionUnknown, message)
}

/// Makes the answer where a cluster could not be asked: which, why in words, and what that means
/// for the request.
pub(crate) fn unreachable(cluster: &str, error: &SendError, consequence: &str) -> ApiError {
    let why = error.words();
    match error {
        _ if error.is_shed() => ApiError::new(
            Code::ClusterBusy,
            format!(
                "as many requests as may be are on their way to cluster '{cluster}'; {consequence}"
            ),
        ),
        SendError::NotSent {
            reason: reason @ ("draining" | "disabled" | "removed" | "moved"),
            ..
        } => ApiError::new(
            Code::ClusterUnavailable,
            format!("cluster '{cluster}' was taken out of service ({reason}); {consequence}"),
        ),
        SendError::NotSent { .. } | SendError::MaybeSent { .. } => ApiError::new(
            Code::ClusterUnavailable,
            format!("cluster '{cluster}' can't be reached ({why}); {consequence}"),
        ),
        SendError::Unsigned(Unsigned::NoCaller) => ApiError::no_token_to_pass_on(cluster),
        SendError::Unsigned(Unsigned::NoToken { retry_after, .. }) => ApiError {
            retry_after: Some(*retry_after),
            ..ApiError::new(
                Code::UpstreamCredentials,
                format!("cluster '{cluster}' can't be asked: {why}; {consequence}"),
            )
        },
    }
}

/// Makes the answer to a failure of the registry before anything was sent.
pub fn registry_failed(error: &RegistryError) -> ApiError {
    tracing::error!(%error, "the registry failed");
    ApiError::new(
        Code::RegistryUnavailable,
        "the gateway's registry can't be written; nothing was submitted",
    )
}
