//! How a request gets to a cluster and an answer back: the seam at which a simulated network can
//! stand.

use std::fmt::Debug;
use std::pin::Pin;

use bytes::Bytes;
use http::Request;
use http::header::CONTENT_TYPE;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::Connection as _;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::Service as _;

use super::answer::{Answer, SendError};
use crate::net::cause::{self, ConnectError};
use crate::net::chain;
use crate::net::connect::{Connector, Link};

/// Largest answer that is read: a log of 200,000 lines fits, a runaway list does not fill the
/// memory.
const LARGEST_ANSWER: usize = 16 << 20;

/// How long an unused connection is kept. Below the four minutes after which Azure's load balancers
/// drop silent ones.
const POOL_IDLE: std::time::Duration = std::time::Duration::from_secs(60);

/// A request under way.
pub type Carried<'a> = Pin<Box<dyn Future<Output = Result<Answer, SendError>> + Send + 'a>>;

/// Carries requests to one cluster. Dropping it closes or gives up its connection: not a
/// byte leaves after that.
pub trait Transport: Send + Sync + Debug {
    /// Sends a request once and reads the whole answer. `fresh`: on a connection of its own, so
    /// that one which the cluster is just closing can't make the outcome unclear.
    fn carry(&self, request: Request<Full<Bytes>>, fresh: bool) -> Carried<'_>;
}

/// HTTP over the shared connector.
#[derive(Debug)]
pub struct Http {
    connector: Connector,
    pooled: Client<Connector, Full<Bytes>>,
}

impl Http {
    /// Makes the pool. No connection is opened yet.
    pub fn new(connector: Connector) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        // The proof of how far a request got is ours to judge; the library would quietly send it a
        // second time.
        builder
            .retry_canceled_requests(false)
            .pool_idle_timeout(POOL_IDLE)
            .pool_timer(TokioTimer::new());
        Http {
            pooled: builder.build(connector.clone()),
            connector,
        }
    }

    async fn on_a_fresh_connection(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, SendError> {
        let not_sent = |reason, detail| SendError::NotSent { reason, detail };
        let link = self
            .connector
            .clone()
            .call(request.uri().clone())
            .await
            .map_err(|error| not_sent(error.reason, error.detail))?;
        if link.connected().is_negotiated_h2() {
            let io: (
                http2::SendRequest<Full<Bytes>>,
                http2::Connection<Link, Full<Bytes>, TokioExecutor>,
            ) = http2::handshake(TokioExecutor::new(), link)
                .await
                .map_err(|error| not_sent("protocol", chain(&error)))?;
            let (mut sender, connection) = io;
            return drive(connection, async move {
                read(sender.send_request(request).await).await
            })
            .await;
        }
        let (mut sender, connection) = http1::handshake(link)
            .await
            .map_err(|error| not_sent("protocol", chain(&error)))?;
        let (mut parts, body) = request.into_parts();
        // What goes to a server itself names a path only.
        if let Some(path) = parts.uri.path_and_query().cloned() {
            parts.uri = path.into();
        }
        let request = Request::from_parts(parts, body);
        drive(connection, async move {
            read(sender.send_request(request).await).await
        })
        .await
    }
}

/// Drives a connection for one request, in its own task: when that is dropped, so is
/// the connection.
async fn drive(
    connection: impl Future<Output = hyper::Result<()>>,
    carry: impl Future<Output = Result<Answer, SendError>>,
) -> Result<Answer, SendError> {
    let mut carry = std::pin::pin!(carry);
    let mut connection = std::pin::pin!(connection);
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            answer = carry.as_mut() => return answer,
            _ = connection.as_mut(), if open => open = false,
        }
    }
}

async fn read(response: hyper::Result<http::Response<Incoming>>) -> Result<Answer, SendError> {
    let response = response.map_err(|error| {
        let reason = if error.is_parse() {
            "protocol"
        } else {
            "reset"
        };
        SendError::MaybeSent {
            reason,
            detail: cause::in_words(&error),
        }
    })?;
    read_body(response).await
}

async fn read_body(response: http::Response<Incoming>) -> Result<Answer, SendError> {
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, LARGEST_ANSWER)
        .collect()
        .await
        .map_err(|error| {
            let reason = if error.is::<LengthLimitError>() {
                "body_limit"
            } else {
                "reset"
            };
            SendError::MaybeSent {
                reason,
                detail: error.to_string(),
            }
        })?;
    let content_type = parts
        .headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    Ok(Answer {
        status: parts.status.as_u16(),
        content_type,
        body: body.to_bytes(),
    })
}

impl Transport for Http {
    fn carry(&self, request: Request<Full<Bytes>>, fresh: bool) -> Carried<'_> {
        if fresh {
            return Box::pin(self.on_a_fresh_connection(request));
        }
        Box::pin(async move {
            let response = self
                .pooled
                .request(request)
                .await
                .map_err(|error| classify(&error))?;
            read_body(response).await
        })
    }
}

/// Reads how far a request got out of the library's error.
fn classify(error: &hyper_util::client::legacy::Error) -> SendError {
    let detail = cause::in_words(error);
    if error.is_connect() {
        let reason = find::<ConnectError>(error).map_or("connect", |cause| cause.reason);
        return SendError::NotSent { reason, detail };
    }
    match find::<hyper::Error>(error) {
        // "A pending item was dropped before ever being processed": the pooled connection was
        // closed first.
        Some(cause) if cause.is_canceled() => SendError::NotSent {
            reason: "reset",
            detail,
        },
        Some(cause) if cause.is_parse() => SendError::MaybeSent {
            reason: "protocol",
            detail,
        },
        _ => SendError::MaybeSent {
            reason: "reset",
            detail,
        },
    }
}

fn find<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(cause) = next {
        if let Some(found) = cause.downcast_ref::<E>() {
            return Some(found);
        }
        next = cause.source();
    }
    None
}
