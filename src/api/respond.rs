//! Writing an answer: Livy's shapes, the gateway's headers, never anything of an upstream's.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    AGE, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
    WWW_AUTHENTICATE,
};
use http::{Response, StatusCode};
use http_body_util::Full;
use livy_dialect::{Batch, BatchState};
use serde::Serialize;

use super::error::ApiError;
use super::etag::{Has, Tag};

const JSON: HeaderValue = HeaderValue::from_static("application/json;charset=utf-8");
/// Goes with every tag: nobody shows it to others, or shows it again without asking here.
const PRIVATE: HeaderValue = HeaderValue::from_static("private, no-cache");
const CLUSTER: HeaderName = HeaderName::from_static("x-livy-gateway-cluster");
const ROUTE: HeaderName = HeaderName::from_static("x-livy-gateway-route");
const UPSTREAM_ID: HeaderName = HeaderName::from_static("x-livy-gateway-upstream-id");
const WARNING: HeaderName = HeaderName::from_static("x-livy-gateway-warning");
const STALE: HeaderName = HeaderName::from_static("x-livy-gateway-stale");
/// The request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The body type of every answer.
pub type Body = Full<Bytes>;

/// Livy's answer for a list, keys in Livy's order.
#[derive(Debug, Serialize)]
pub struct ListBody {
    /// The position that was asked for.
    pub from: i32,
    /// How many batches the caller may see.
    pub total: usize,
    /// The window.
    pub sessions: Vec<Batch>,
}

/// Livy's answer for a state.
#[derive(Debug, Serialize)]
pub struct StateBody {
    /// The batch.
    pub id: i32,
    /// Its state.
    pub state: BatchState,
}

/// Livy's answer for a log, keys in Livy's order.
#[derive(Debug, Serialize)]
pub struct LogBody<'a> {
    /// The batch.
    pub id: i32,
    /// The first line's position.
    pub from: i64,
    /// How many lines there are.
    pub total: i64,
    /// The window.
    pub log: &'a [String],
}

/// A successful answer in the making.
#[derive(Debug)]
pub struct Reply {
    status: StatusCode,
    body: Bytes,
    headers: Vec<(HeaderName, HeaderValue)>,
    tag: Option<Tag>,
}

impl Reply {
    /// Makes a 200 with a JSON body.
    pub fn ok(body: &impl Serialize) -> Self {
        // Every type that is answered has text keys and no fallible parts, so it can be written.
        let body = serde_json::to_vec(body).unwrap_or_default().into();
        Reply {
            status: StatusCode::OK,
            body,
            headers: Vec::new(),
            tag: None,
        }
    }

    /// Gives it the tag that it has for a user.
    #[must_use]
    pub fn tagged(mut self, user: &str) -> Self {
        self.tag = Some(Tag::of(user, &self.body));
        self
    }

    /// Tells whether a client has it already.
    pub fn is_had(&self, has: &Has) -> bool {
        self.tag.as_ref().is_some_and(|tag| has.has(tag))
    }

    /// Makes it a 201 with a `Location`: a path with the client's own prefix, never a host.
    #[must_use]
    pub fn created(mut self, prefix: &str, id: i32) -> Self {
        self.status = StatusCode::CREATED;
        self.with(LOCATION, &format!("{prefix}/batches/{id}"))
    }

    /// Says where the batch is.
    #[must_use]
    pub fn from_cluster(self, cluster: &str, route: &str, upstream_id: Option<&str>) -> Self {
        let reply = self.with(CLUSTER, cluster).with(ROUTE, route);
        match upstream_id {
            Some(id) => reply.with(UPSTREAM_ID, id),
            None => reply,
        }
    }

    /// Adds a warning.
    #[must_use]
    pub fn warning(self, text: &str) -> Self {
        // A header holds visible ASCII; a name from a request may hold more.
        let safe: String = text
            .chars()
            .map(|c| {
                if c.is_ascii() && !c.is_ascii_control() {
                    c
                } else {
                    '?'
                }
            })
            .collect();
        self.with(WARNING, &safe)
    }

    /// Says that the cluster could not be asked.
    #[must_use]
    pub fn stale(self) -> Self {
        self.with(STALE, "true")
    }

    /// Says how old the answer is.
    #[must_use]
    pub fn age(self, age: Option<Duration>) -> Self {
        match age {
            Some(age) => self.with(AGE, &age.as_secs().to_string()),
            None => self,
        }
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    /// Writes the answer; 304 to a client that has it already.
    pub fn into_response(self, has: &Has) -> Response<Body> {
        let is_had = self.is_had(has);
        let body = if is_had { Bytes::new() } else { self.body };
        let mut response = Response::new(Full::new(body));
        let headers = response.headers_mut();
        if !is_had {
            headers.insert(CONTENT_TYPE, JSON);
        }
        if let Some(tag) = &self.tag
            && let Ok(tag) = HeaderValue::from_str(tag.as_str())
        {
            headers.insert(ETAG, tag);
            headers.insert(CACHE_CONTROL, PRIVATE);
        }
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        *response.status_mut() = if is_had {
            StatusCode::NOT_MODIFIED
        } else {
            self.status
        };
        response
    }
}

/// Writes an error.
pub fn error(error: &ApiError, challenges: &[HeaderValue], request_id: &str) -> Response<Body> {
    let mut response = Response::new(Full::new(error.body(request_id).into()));
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    for challenge in challenges {
        headers.append(WWW_AUTHENTICATE, challenge.clone());
    }
    if let Some(allow) = error.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if let Some(after) = error.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}
