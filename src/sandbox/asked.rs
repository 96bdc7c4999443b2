//! A request, as the doubles see it.

use bytes::Bytes;
use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap};
use livy_dialect::Operation;

/// A request as the doubles see it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(super) method: Method,
    /// Below the base path, split and decoded.
    pub(super) segments: Vec<String>,
    /// Whether the path ended with a slash.
    pub(super) slash: bool,
    /// Whether two slashes stood side by side.
    pub(super) doubled_slash: bool,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Asked {
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the `X-Request-Id`, by which a test finds out which request did something.
    pub(super) fn request_id(&self) -> Option<String> {
        self.headers
            .get("x-request-id")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    }

    /// Returns the segments as texts, for matching.
    pub(super) fn path(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    pub(super) fn operation(&self) -> Operation {
        match (self.method.as_str(), self.path().as_slice()) {
            ("POST", ["batches"]) => Operation::CreateBatch,
            ("GET", ["batches"]) => Operation::ListBatches,
            ("GET", ["batches", _]) => Operation::GetBatch,
            ("GET", ["batches", _, "state"]) => Operation::GetState,
            ("GET", ["batches", _, "log" | "localLog"]) => Operation::GetLog,
            ("DELETE", ["batches", _]) => Operation::DeleteBatch,
            _ => Operation::Other,
        }
    }
}

/// Tells whether the request says that its body is of this type.
fn says(headers: &HeaderMap, kind: &str) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| text.starts_with(kind))
}

/// Tells whether the request says that its body is JSON.
pub(super) fn says_json(headers: &HeaderMap) -> bool {
    says(headers, "application/json")
}

/// Tells whether the request says that its body is a form.
pub(super) fn says_form(headers: &HeaderMap) -> bool {
    says(headers, "application/x-www-form-urlencoded")
}
