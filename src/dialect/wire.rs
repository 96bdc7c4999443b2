//! Requests and answers as plain values: what an encoder returns and a decoder reads.

use serde_json::Value;

/// A request to an upstream. The path is relative to the cluster's base URL and begins with `/`.
#[derive(Clone, Debug, PartialEq)]
pub struct UpstreamRequest {
    /// `GET`, `POST` or `DELETE`.
    pub method: Method,
    /// Path and query below the base URL.
    pub path: String,
    /// The JSON body of a POST.
    pub body: Option<Value>,
}

/// The three methods that batch APIs use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Method {
    Get,
    Post,
    Delete,
}

impl UpstreamRequest {
    /// Makes a GET.
    pub fn get(path: impl Into<String>) -> Self {
        UpstreamRequest {
            method: Method::Get,
            path: path.into(),
            body: None,
        }
    }

    /// Makes a DELETE.
    pub fn delete(path: impl Into<String>) -> Self {
        UpstreamRequest {
            method: Method::Delete,
            path: path.into(),
            body: None,
        }
    }

    /// Makes a POST with a JSON body.
    pub fn post(path: impl Into<String>, body: Value) -> Self {
        UpstreamRequest {
            method: Method::Post,
            path: path.into(),
            body: Some(body),
        }
    }
}

/// An upstream's complete answer, as far as translation needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamResponse<'a> {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`, if there was one.
    pub content_type: Option<&'a str>,
    /// The body, already bounded and without content coding.
    pub body: &'a [u8],
}

impl UpstreamResponse<'_> {
    /// Tells whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Tells whether the answer calls itself HTML: never an answer of the batch API, whatever its
    /// status.
    pub fn is_html(&self) -> bool {
        self.content_type
            .is_some_and(|t| t.trim_start().to_ascii_lowercase().starts_with("text/html"))
    }
}

/// Percent-encodes one path segment (RFC 3986 unreserved characters stay).
pub fn segment(text: &str) -> String {
    const KEEP: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEEP).to_string()
}
