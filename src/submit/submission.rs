//! What is submitted.

use std::sync::Arc;

use livy_dialect::BatchSpec;

use crate::auth::Principal;

/// A submission as it came out of the API.
#[derive(Debug)]
pub struct Submission {
    /// Who submits.
    pub principal: Arc<Principal>,
    /// What.
    pub spec: BatchSpec,
    /// The cluster of `/clusters/{name}/batches`.
    pub pinned: Option<String>,
    /// `?doAs=`.
    pub do_as: Option<String>,
    /// The client's path prefix, for `Location`.
    pub prefix: String,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Whether its exchange has a token of the caller's own to pass on.
    pub brings_token: bool,
}
