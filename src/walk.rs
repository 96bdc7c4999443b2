//! One request's walk, top to bottom, every step once:
//!
//! ```text
//! listener -> tls -> http limits -> authenticate -> canonical API -> authorize -> route -> encode -> upstream client
//!          <- respond <- canonical model <- decode <-
//! ```
//!
//! The first three steps are `listen`. This file is the rest, as far as it is common to all
//! operations; `submit` and `batches` go on from `Walk::operate`. Whatever way a request ends, it
//! ends in [`serve`]: one answer, one log line, one count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Body as HttpBody;
use livy_dialect::Operation;
use serde_json::json;

use crate::api::error::{ApiError, Code};
use crate::api::etag::Has;
use crate::api::path::{Place, Resource};
use crate::api::request::{self, Query};
use crate::api::respond::{self, Body, REQUEST_ID, Reply};
use crate::auth::{self, Refusal};
use crate::batches::{Call, Reader};
use crate::gateway::reads::Want;
use crate::gateway::{Gateway, Snapshot};
use crate::observe::access_log::{self, Line};
use crate::observe::exchange::Exchange;
use crate::observe::metrics::NO_ROUTE;
use crate::submit::{self, Submission};

/// Longest request id that is taken from a client; ours are 36 characters.
const LONGEST_REQUEST_ID: usize = 128;

/// Answers one request.
pub async fn serve<B>(
    gateway: Arc<Gateway>,
    peer: SocketAddr,
    request: Request<B>,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let started = Instant::now();
    let snapshot = gateway.snapshot.load_full();
    let (parts, body) = request.into_parts();
    let request_id = request_id(&parts.headers);
    let place = snapshot.base_paths.resolve(parts.uri.path());
    let operation = match &place {
        Ok(place) => place
            .resource
            .operation(&parts.method)
            .unwrap_or(Operation::Other),
        Err(_) => Operation::Other,
    };
    let traceparent = parts
        .headers
        .get("traceparent")
        .filter(|value| value.len() <= 128)
        .cloned();
    let exchange = Arc::new(Exchange::new(request_id.clone(), traceparent, peer.ip()));
    // What a client has is compared with what it would be shown; only that can be left out.
    let has = match parts.method {
        Method::GET | Method::HEAD => Has::read(&parts.headers),
        _ => Has::default(),
    };
    let walk = Walk {
        gateway: &gateway,
        snapshot: &snapshot,
        parts: &parts,
        has: &has,
        exchange,
        peer,
        operation,
        started,
    };
    let mut ending = Ending::new(&walk);
    let mut response = match walk.run(place, body).await {
        Ok(reply) => reply.into_response(&has),
        Err(Failure::Api(error)) => {
            walk.exchange.failed(error.code.row().code);
            respond::error(&error, &[], &request_id)
        }
        Err(Failure::Refused(refusal)) => {
            let error = ApiError::new(refusal.code, refusal.message);
            walk.exchange.failed(error.code.row().code);
            respond::error(&error, &refusal.challenges, &request_id)
        }
    };
    let size = HttpBody::size_hint(response.body()).lower();
    if parts.method == Method::HEAD && response.status() != StatusCode::NOT_MODIFIED {
        // GET's headers without its body, on HTTP/2 as well.
        *response.body_mut() = Body::default();
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(size));
    }
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    ending.status = response.status().as_u16();
    ending.size = size;
    response
}

/// The end of a request, however it comes: counted and logged once, also when the client hangs up
/// and the walk is dropped half-way.
struct Ending<'a> {
    walk: &'a Walk<'a>,
    status: u16,
    size: u64,
}

/// nginx's number for "the client closed the request".
const CLIENT_CLOSED: u16 = 499;

impl<'a> Ending<'a> {
    fn new(walk: &'a Walk<'a>) -> Self {
        walk.gateway
            .metrics
            .requests_in_flight
            .with_label_values(&[walk.operation.as_str()])
            .inc();
        Ending {
            walk,
            status: CLIENT_CLOSED,
            size: 0,
        }
    }
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let walk = self.walk;
        if std::thread::panicking() {
            // A bug is ending this walk; the listener answers for it.
            self.status = Code::Internal.row().status;
        }
        let metrics = &walk.gateway.metrics;
        let seen = walk.exchange.notes();
        let route = seen.route.as_deref().unwrap_or(NO_ROUTE);
        let operation = walk.operation.as_str();
        let total = walk.started.elapsed();
        let waited = walk.exchange.time_waited();
        metrics
            .requests_in_flight
            .with_label_values(&[operation])
            .dec();
        metrics
            .requests_total
            .with_label_values(&[route, operation, &self.status.to_string()])
            .inc();
        metrics
            .request_duration_seconds
            .with_label_values(&[route, operation])
            .observe(total.as_secs_f64());
        metrics
            .overhead_seconds
            .with_label_values(&[operation])
            .observe(total.saturating_sub(waited).as_secs_f64());
        #[expect(
            clippy::cast_precision_loss,
            reason = "a histogram's buckets are coarser than that"
        )]
        metrics
            .response_body_bytes
            .with_label_values(&[operation])
            .observe(self.size as f64);
        let (method, path) = (&walk.parts.method, walk.parts.uri.path());
        let line = Line {
            method,
            path,
            peer: walk.peer,
            operation: walk.operation,
            exchange: &walk.exchange,
        };
        access_log::write(&line, self.status, total, self.size);
    }
}

/// Takes the client's request id if it is sane, else makes one.
pub(crate) fn request_id(headers: &HeaderMap) -> String {
    let given = headers
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok());
    let sane = |id: &&str| {
        !id.is_empty()
            && id.len() <= LONGEST_REQUEST_ID
            && id
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-_.:/+=".contains(&b))
    };
    given
        .filter(sane)
        .map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_owned)
}

enum Failure {
    Api(ApiError),
    Refused(Refusal),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Failure::Api(error)
    }
}

struct Walk<'a> {
    gateway: &'a Arc<Gateway>,
    snapshot: &'a Arc<Snapshot>,
    parts: &'a http::request::Parts,
    has: &'a Has,
    exchange: Arc<Exchange>,
    peer: SocketAddr,
    operation: Operation,
    started: Instant,
}

impl Walk<'_> {
    async fn run<B>(&self, place: Result<Place, ApiError>, body: B) -> Result<Reply, Failure>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        // Who it is comes first: a caller that proves nothing learns nothing, not even which paths
        // there are.
        let authenticated = self
            .snapshot
            .authenticators
            .authenticate(&self.parts.headers, &self.gateway.metrics)
            .await;
        let principal = authenticated.map_err(Failure::Refused)?;
        self.exchange.asked_by(&principal.user);
        if self.snapshot.passes_tokens_on()
            && let Some(token) = auth::bearer_token(&self.parts.headers)
        {
            self.exchange.bring_token(token);
        }
        let place = place?;
        let operation = self.operation(&place)?;
        let reader = Reader {
            gateway: self.gateway.clone(),
            snapshot: self.snapshot.clone(),
            exchange: self.exchange.clone(),
        };
        let call = Call {
            reader,
            principal,
            pinned: place.cluster.clone(),
            has: self.has.clone(),
        };
        Ok(self.operate(operation, place, call, body).await?)
    }

    fn operation(&self, place: &Place) -> Result<Operation, ApiError> {
        let method = &self.parts.method;
        place.resource.operation(method).map_err(|allow| {
            let hint = match place.resource {
                Resource::Root => "; this is the base of a Livy batch API, submit to its /batches",
                _ => "",
            };
            let message = format!("{method} is not served here; allowed: {allow}{hint}");
            ApiError {
                allow: Some(allow),
                ..ApiError::new(Code::MethodNotAllowed, message)
            }
        })
    }

    async fn operate<B>(
        &self,
        operation: Operation,
        place: Place,
        call: Call,
        body: B,
    ) -> Result<Reply, ApiError>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let query = Query::read(self.parts.uri.query());
        if operation != Operation::CreateBatch {
            call.snapshot
                .access
                .check_do_as(&call.principal, query.do_as.as_deref())?;
        }
        match (operation, &place.resource) {
            // Boxed: what is asked rarely and holds much must not make the futures of polls large,
            // which are asked all the time.
            (Operation::CreateBatch, _) => Box::pin(self.create(place, query, call, body)).await,
            (Operation::ListBatches, _) => Box::pin(call.list(query.list_window()?)).await,
            (Operation::GetBatch, Resource::Batch(key)) => {
                call.look(key, Want::Item, query.wait()?).await
            }
            (Operation::GetState, Resource::State(key)) => {
                call.look(key, Want::State, query.wait()?).await
            }
            (Operation::GetLog, Resource::Log(key)) => {
                Box::pin(call.log(key, query.log_window()?)).await
            }
            (Operation::DeleteBatch, Resource::Batch(key)) => Box::pin(call.kill(key)).await,
            (_, Resource::Version) => Ok(version()),
            (_, Resource::Sessions) => Err(ApiError::new(
                Code::SessionsNotSupported,
                "interactive sessions are not served here; /batches is",
            )),
            (_, Resource::Root) => Err(ApiError::new(
                Code::UnknownPath,
                "this is the base of a Livy batch API; its batches are at /batches",
            )),
            _ => Err(ApiError::new(
                Code::UnknownPath,
                format!("nothing is served at '{}'", self.parts.uri.path()),
            )),
        }
    }

    async fn create<B>(
        &self,
        place: Place,
        query: Query,
        call: Call,
        body: B,
    ) -> Result<Reply, ApiError>
    where
        B: HttpBody<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let server = &self.snapshot.config.server;
        let headers = &self.parts.headers;
        let body = request::read_body(
            headers,
            body,
            server.limits.request_body,
            server.timeouts.request_body,
        )
        .await?;
        #[expect(
            clippy::cast_precision_loss,
            reason = "a histogram's buckets are coarser than that"
        )]
        self.gateway
            .metrics
            .request_body_bytes
            .with_label_values(&[Operation::CreateBatch.as_str()])
            .observe(body.len() as f64);
        let submission = Submission {
            principal: call.principal.clone(),
            spec: request::read_spec(&body)?,
            pinned: place.cluster,
            do_as: query.do_as,
            prefix: place.prefix,
            idempotency_key: idempotency_key(headers)?,
            brings_token: self.exchange.caller_token().is_some(),
        };
        submit::submit(
            self.gateway,
            self.snapshot,
            submission,
            headers,
            self.exchange.clone(),
        )
        .await
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(ApiError::new(
            Code::BadRequest,
            "there is more than one Idempotency-Key; send one",
        ));
    }
    let sane = value
        .to_str()
        .ok()
        .filter(|key| !key.trim().is_empty() && key.len() <= 255);
    match sane {
        Some(key) => Ok(Some(key.to_owned())),
        None => Err(ApiError::new(
            Code::BadRequest,
            "Idempotency-Key must be 1 to 255 visible characters",
        )),
    }
}

/// Livy's shape; clients use it as a ping, and some read the version's three numbers.
fn version() -> Reply {
    Reply::ok(&json!({
        "url": env!("CARGO_PKG_NAME"), "branch": "", "revision": crate::REVISION,
        "version": env!("CARGO_PKG_VERSION"), "date": "", "user": "",
    }))
}
