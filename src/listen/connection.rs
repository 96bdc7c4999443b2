//! One client connection from handshake to close.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus::IntCounterVec;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Busy, Expired, Patience, Watched};
use super::terms::Terms;
use crate::api::error::{ApiError, Code};
use crate::api::respond::{self, Body, REQUEST_ID};
use crate::gateway::Gateway;
use crate::observe::panics::catch;
use crate::walk;

/// Between two pings of an HTTP/2 connection, and until one must be answered: finds peers that went
/// away without a word.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) async fn run(terms: Terms, tcp: TcpStream, peer: SocketAddr) {
    // Answers are small and complete: waiting for more bytes only adds delay. Failing to set it
    // costs nothing but that.
    let _ = tcp.set_nodelay(true);
    let Some(acceptor) = &terms.acceptor else {
        terms.series.count("ok");
        return http_1(&terms, TokioIo::new(tcp), peer).await;
    };
    // Boxed: the handshake's state is large and lives for moments, the connection's is small and
    // lives for hours.
    let handshake = Box::pin(tokio::time::timeout(
        terms.patience.head,
        acceptor.accept(tcp),
    ))
    .await;
    match handshake {
        Ok(Ok(stream)) => {
            terms.series.count("ok");
            count_handshake(&terms, &stream);
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                http_2(&terms, TokioIo::new(stream), peer).await;
            } else {
                http_1(&terms, TokioIo::new(stream), peer).await;
            }
        }
        Ok(Err(error)) => {
            terms.series.count("tls_error");
            terms.series.count_handshake("none", "error");
            tracing::debug!(%error, client = %peer.ip(), "a TLS handshake failed");
        }
        Err(_) => {
            terms.series.count("timeout");
            terms.series.count_handshake("none", "timeout");
        }
    }
}

fn count_handshake(terms: &Terms, stream: &TlsStream<TcpStream>) {
    let version = match stream.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
        _ => "other",
    };
    terms.series.count_handshake(version, "ok");
}

async fn http_1<I: Read + Write + Unpin + Send + 'static>(terms: &Terms, io: I, peer: SocketAddr) {
    let activity = Arc::new(Activity::new());
    let io = Watched {
        io,
        activity: activity.clone(),
        heads: true,
    };
    let service = {
        let (gateway, activity) = (terms.gateway.clone(), activity.clone());
        service_fn(move |request| {
            let gateway = gateway.clone();
            let answered = answer(gateway.clone(), activity.clone(), peer, request);
            async move { answered.await.map(|response| last_one(&gateway, response)) }
        })
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The deadlines are kept by `activity`.
        .header_read_timeout(None)
        .max_buf_size(terms.limits.request_head)
        .half_close(false)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let close = |connection: Pin<&mut http1::Connection<_, _>>| connection.graceful_shutdown();
    watch(
        || terms.patience,
        terms.patience.look(),
        &terms.closing,
        &activity,
        &mut connection,
        close,
    )
    .await;
}

async fn http_2<I: Read + Write + Unpin + Send + 'static>(terms: &Terms, io: I, peer: SocketAddr) {
    let activity = Arc::new(Activity::new());
    let io = Watched {
        io,
        activity: activity.clone(),
        heads: false,
    };
    let service = {
        let (gateway, activity) = (terms.gateway.clone(), activity.clone());
        service_fn(move |request| answer(gateway.clone(), activity.clone(), peer, request))
    };
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(terms.limits.streams_per_connection)
        .max_header_list_size(u32::try_from(terms.limits.request_head).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let close = |connection: Pin<&mut http2::Connection<_, _, _>>| connection.graceful_shutdown();
    // GOAWAY loses nothing, so it is said as soon as a shutdown begins.
    watch(
        || terms.patience,
        terms.patience.look(),
        terms.gateway.drained(),
        &activity,
        &mut connection,
        close,
    )
    .await;
}

/// Drives a connection until it ends, its patience does, or the drain closes it.
///
/// It is looked at every `look`, and `patience` is asked each time: it may shrink when places are
/// scarce.
pub(super) async fn watch<C>(
    patience: impl Fn() -> Patience,
    look: Duration,
    stop: &CancellationToken,
    activity: &Activity,
    connection: &mut Pin<&mut C>,
    close: impl Fn(Pin<&mut C>),
) where
    C: Future<Output = hyper::Result<()>>,
{
    let mut look = tokio::time::interval(look);
    let mut closing = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = stop.cancelled(), if !closing => {
                closing = true;
                close(connection.as_mut());
            }
            _ = look.tick() => match activity.expired(&patience()) {
                Some(Expired::Stalled) => return,
                Some(Expired::Idle) if closing => return,
                Some(Expired::Idle) => {
                    closing = true;
                    close(connection.as_mut());
                }
                None => {}
            },
        }
    }
}

async fn answer(
    gateway: Arc<Gateway>,
    activity: Arc<Activity>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let _busy = Busy::new(activity);
    let request_id = name(&mut request);
    let panics = gateway.metrics.panics_total.clone();
    // Boxed: its state is large and lives for moments, the connection's is small and lives for hours.
    let walk = Box::pin(walk::serve(gateway, peer, request));
    Ok(guarded(&request_id, &panics, walk).await)
}

/// During a shutdown each answer is the last one of its connection: whoever keeps connections goes
/// elsewhere while this is still listened to, and loses no request to a connection that closes.
fn last_one(gateway: &Gateway, mut response: Response<Body>) -> Response<Body> {
    if gateway.is_draining() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
}

/// Gives a request its id before the walk begins: whoever answers for a walk that broke needs it
/// too.
fn name<B>(request: &mut Request<B>) -> String {
    let request_id = walk::request_id(request.headers());
    // An id is visible ASCII.
    if let Ok(value) = HeaderValue::from_str(&request_id) {
        request.headers_mut().insert(REQUEST_ID, value);
    }
    request_id
}

/// Answers 500 for a walk that panics: a bug must cost one request, not the connection with all its
/// other streams.
async fn guarded(
    request_id: &str,
    panics: &IntCounterVec,
    walk: impl Future<Output = Response<Body>>,
) -> Response<Body> {
    if let Ok(response) = catch(walk).await {
        return response;
    }
    panics.with_label_values(&["request"]).inc();
    // What and where it was is in the line that the panic itself wrote; this one ties it to the
    // request.
    tracing::error!(request_id, "a request met a bug and was answered 500");
    let mut response = respond::error(
        &ApiError::new(Code::Internal, "the gateway met a bug; its log has it"),
        &[],
        request_id,
    );
    if let Ok(value) = HeaderValue::from_str(request_id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};
    use std::task::Poll;

    use bytes::Bytes;
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::engine::background::tests::gateway;
    use crate::observe::metrics::NO_ROUTE;

    /// A body that breaks whoever reads it.
    struct Broken;

    impl http_body::Body for Broken {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
            panic!("a bug on purpose")
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_panic_is_a_500_like_any_other_answer() {
        let lines = Lines::default();
        let writer = lines.clone();
        let _log = tracing::subscriber::set_default(
            tracing_subscriber::fmt()
                .json()
                .with_writer(move || writer.clone())
                .finish(),
        );
        let gateway = gateway().await;
        let mut request = Request::post("/batches")
            .header("content-type", "application/json")
            .body(Broken)
            .expect("a request");
        let id = name(&mut request);
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let response = guarded(
            &id,
            &gateway.metrics.panics_total.clone(),
            Box::pin(walk::serve(gateway.clone(), peer, request)),
        )
        .await;
        assert_eq!(response.status(), 500);
        assert!(!id.is_empty() && response.headers()[REQUEST_ID] == id.as_str());
        let body = response
            .into_body()
            .collect()
            .await
            .expect("is whole")
            .to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(
            (body["code"].as_str(), body["requestId"].as_str()),
            (Some("internal"), Some(id.as_str()))
        );
        assert_eq!(
            gateway
                .metrics
                .requests_total
                .with_label_values(&[NO_ROUTE, "create_batch", "500"])
                .get(),
            1
        );
        assert_eq!(
            gateway
                .metrics
                .requests_total
                .with_label_values(&[NO_ROUTE, "create_batch", "499"])
                .get(),
            0
        );
        assert_eq!(
            gateway
                .metrics
                .requests_in_flight
                .with_label_values(&["create_batch"])
                .get(),
            0
        );
        let log = String::from_utf8(
            lines
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
        .expect("is text");
        let of_request = |level: &str| {
            log.lines()
                .any(|line| line.contains(&id) && line.contains(level))
        };
        assert!(
            of_request("\"level\":\"ERROR\"") && of_request("\"status\":500"),
            "{log}"
        );
    }

    #[tokio::test]
    async fn a_request_keeps_the_id_that_it_brings() {
        let mut request = Request::get("/batches")
            .header("x-request-id", "mine")
            .body(())
            .expect("a request");
        assert_eq!(name(&mut request), "mine");
        let mut request = Request::get("/batches")
            .header("x-request-id", "not sane")
            .body(())
            .expect("a request");
        let made = name(&mut request);
        assert!(
            made.len() == 36 && request.headers()[REQUEST_ID] == made.as_str(),
            "{made}"
        );
    }
}
