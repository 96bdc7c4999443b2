//! Every error a client can see: a closed list of codes, one table, one body.
//!
//! To add a code: a variant of [`Code`], a row in [`Code::row`]; `docs/errors.md` is made from it
//! and a test compares the two. Rooms below return their own errors; only this file and the walk
//! turn them into HTTP.

use std::borrow::Cow;
use std::time::Duration;

use http::StatusCode;
use serde::Serialize;

/// A code of the error body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the table below says what each means")]
pub enum Code {
    BadRequest,
    InvalidJson,
    UnknownField,
    WrongType,
    InvalidField,
    UnsupportedField,
    DuplicateName,
    UpstreamRejected,
    Unauthenticated,
    Forbidden,
    NotFound,
    SessionsNotSupported,
    UnknownPath,
    MethodNotAllowed,
    RequestTimeout,
    BodyTooLarge,
    UnsupportedMediaType,
    IdempotencyConflict,
    ClusterFull,
    TooManyLogins,
    UpstreamCredentials,
    UpstreamForbidden,
    SubmissionUnknown,
    KillUnconfirmed,
    NoRoute,
    ClusterUnavailable,
    ClusterBusy,
    AuthBackendUnavailable,
    RegistryUnavailable,
    Draining,
    Internal,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The code as text.
    pub code: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// What it means.
    pub meaning: &'static str,
}

impl Code {
    /// Every code, in the order of the table.
    pub const ALL: [Code; 31] = [
        Code::BadRequest,
        Code::InvalidJson,
        Code::UnknownField,
        Code::WrongType,
        Code::InvalidField,
        Code::UnsupportedField,
        Code::DuplicateName,
        Code::UpstreamRejected,
        Code::Unauthenticated,
        Code::Forbidden,
        Code::NotFound,
        Code::SessionsNotSupported,
        Code::UnknownPath,
        Code::MethodNotAllowed,
        Code::RequestTimeout,
        Code::BodyTooLarge,
        Code::UnsupportedMediaType,
        Code::IdempotencyConflict,
        Code::ClusterFull,
        Code::TooManyLogins,
        Code::UpstreamCredentials,
        Code::UpstreamForbidden,
        Code::SubmissionUnknown,
        Code::KillUnconfirmed,
        Code::NoRoute,
        Code::ClusterUnavailable,
        Code::ClusterBusy,
        Code::AuthBackendUnavailable,
        Code::RegistryUnavailable,
        Code::Draining,
        Code::Internal,
    ];

    /// Returns the code's row.
    pub const fn row(self) -> Row {
        const fn row(
            code: &'static str,
            status: u16,
            retryable: bool,
            meaning: &'static str,
        ) -> Row {
            Row {
                code,
                status,
                retryable,
                meaning,
            }
        }
        match self {
            Code::BadRequest => row(
                "bad_request",
                400,
                false,
                "a path, query or header can't be read; the message names it",
            ),
            Code::InvalidJson => row(
                "invalid_json",
                400,
                false,
                "the body is no JSON object; the message has line and column",
            ),
            Code::UnknownField => row(
                "unknown_field",
                400,
                false,
                "the body holds a key that Livy does not know; the message names the nearest one",
            ),
            Code::WrongType => row(
                "wrong_type",
                400,
                false,
                "a field has the wrong type; the message names field and type",
            ),
            Code::InvalidField => row(
                "invalid_field",
                400,
                false,
                "a field's value is one that Livy refuses",
            ),
            Code::UnsupportedField => row(
                "unsupported_field",
                400,
                false,
                "no cluster of the route can honour a field; the message says why",
            ),
            Code::DuplicateName => row("duplicate_name", 400, false, "a live batch has this name"),
            Code::UpstreamRejected => row(
                "upstream_rejected",
                400,
                false,
                "the cluster read the submission and refused it; nothing runs",
            ),
            Code::Unauthenticated => row(
                "unauthenticated",
                401,
                false,
                "no credential, or one that does not hold",
            ),
            Code::Forbidden => row(
                "forbidden",
                403,
                false,
                "the caller may not do this, such as naming another proxyUser",
            ),
            Code::NotFound => row(
                "not_found",
                404,
                false,
                "no such batch, or not one that the caller may see",
            ),
            Code::SessionsNotSupported => row(
                "sessions_not_supported",
                404,
                false,
                "interactive sessions are out of scope; batches are served",
            ),
            Code::UnknownPath => row("unknown_path", 404, false, "nothing is served at this path"),
            Code::MethodNotAllowed => row(
                "method_not_allowed",
                405,
                false,
                "the path exists; `Allow` lists its methods",
            ),
            Code::RequestTimeout => row(
                "request_timeout",
                408,
                true,
                "the body did not arrive in time",
            ),
            Code::BodyTooLarge => row(
                "body_too_large",
                413,
                false,
                "the body is larger than `server.limits.request_body`",
            ),
            Code::UnsupportedMediaType => row(
                "unsupported_media_type",
                415,
                false,
                "form, multipart or compressed bodies are not read; send JSON",
            ),
            Code::IdempotencyConflict => row(
                "idempotency_conflict",
                422,
                false,
                "this Idempotency-Key was used with another body",
            ),
            Code::ClusterFull => row(
                "cluster_full",
                429,
                true,
                "the cluster takes no more batches now; nothing was submitted",
            ),
            Code::TooManyLogins => row(
                "too_many_logins",
                429,
                true,
                "more passwords wait to be checked than the gateway can check soon",
            ),
            Code::UpstreamCredentials => row(
                "upstream_credentials",
                503,
                true,
                "the gateway's own login can't be had, or the cluster refused it; nothing was submitted",
            ),
            Code::UpstreamForbidden => row(
                "upstream_forbidden",
                403,
                false,
                "the gateway's login may not do this on the cluster; nothing was submitted",
            ),
            Code::SubmissionUnknown => row(
                "submission_unknown",
                502,
                false,
                "it is not known whether the batch was created (with `ambiguous: error`, or while the registry fails)",
            ),
            Code::KillUnconfirmed => row(
                "kill_unconfirmed",
                502,
                true,
                "the cluster did not confirm the kill; ask again",
            ),
            Code::NoRoute => row("no_route", 403, false, "no route matches this submission"),
            Code::ClusterUnavailable => row(
                "cluster_unavailable",
                503,
                true,
                "the cluster can't be reached; on a submission, nothing was submitted",
            ),
            Code::ClusterBusy => row(
                "cluster_busy",
                503,
                true,
                "as many requests as `max_in_flight` allows are on their way to the cluster; on a submission, nothing was sent",
            ),
            Code::AuthBackendUnavailable => row(
                "auth_backend_unavailable",
                503,
                true,
                "the credential can't be checked now, such as while an issuer's keys were never read",
            ),
            Code::RegistryUnavailable => row(
                "registry_unavailable",
                503,
                true,
                "the gateway's own store failed; nothing was submitted",
            ),
            Code::Draining => row(
                "draining",
                503,
                true,
                "this gateway is shutting down; nothing was submitted",
            ),
            Code::Internal => row(
                "internal",
                500,
                true,
                "a bug in the gateway; the request id finds it in the log",
            ),
        }
    }
}

/// An error on its way to the client.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// The code; status and `retryable` follow from it.
    pub code: Code,
    /// One sentence for the client.
    pub message: Cow<'static, str>,
    /// `Retry-After`.
    pub retry_after: Option<Duration>,
    /// `Allow`, with 405.
    pub allow: Option<&'static str>,
}

impl ApiError {
    /// Makes an error.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let row = code.row();
        // A client that reads Retry-After deserves one wherever waiting helps.
        let retry_after = matches!(row.status, 429 | 503).then_some(Duration::from_secs(5));
        ApiError {
            code,
            message: message.into(),
            retry_after,
            allow: None,
        }
    }

    /// Makes the refusal of a caller without a bearer token, where the cluster is asked with that.
    pub fn no_token_to_pass_on(cluster: &str) -> Self {
        ApiError::new(
            Code::Forbidden,
            format!(
                "cluster '{cluster}' is asked with its caller's own bearer token; come with one instead of a password or nothing"
            ),
        )
    }

    /// Makes the refusal of a caller whose own token the cluster refused.
    pub fn token_refused(cluster: &str, words: &str) -> Self {
        ApiError::new(
            Code::UpstreamForbidden,
            format!("cluster '{cluster}' refused your own token: {words}"),
        )
    }

    /// Makes Livy's own 404.
    pub fn no_such_batch(id_or_name: &str) -> Self {
        ApiError::new(Code::NotFound, format!("Session '{id_or_name}' not found."))
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.code.row().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Returns the body.
    pub fn body(&self, request_id: &str) -> Vec<u8> {
        let row = self.code.row();
        let body = ErrorBody {
            msg: &self.message,
            code: row.code,
            retryable: row.retryable,
            request_id,
        };
        // A struct of texts and a boolean can be written.
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ErrorBody<'a> {
    msg: &'a str,
    code: &'a str,
    retryable: bool,
    request_id: &'a str,
}

/// Writes the table of `docs/errors.md`.
pub fn markdown() -> String {
    let mut page =
        String::from("| code | status | retryable | meaning |\n| --- | --- | --- | --- |\n");
    for code in Code::ALL {
        let Row {
            code,
            status,
            retryable,
            meaning,
        } = code.row();
        page.push_str(&format!(
            "| `{code}` | {status} | {} | {meaning} |\n",
            if retryable { "yes" } else { "no" }
        ));
    }
    page
}
