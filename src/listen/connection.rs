//! One client connection from handshake to close.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::{Read, Write};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::Server;
use super::activity::{Activity, Expired, Watched};
use crate::api::error::{ApiError, Code};
use crate::api::respond::{self, Body};
use crate::runtime::Gateway;
use crate::walk;

/// Between two pings of an HTTP/2 connection, and until one must be answered: finds peers that went away without a word.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) async fn run(server: &Server, tcp: TcpStream, peer: SocketAddr, label: &str) {
    // Answers are small and complete: waiting for more bytes only adds delay. Failing to set it costs nothing but that.
    let _ = tcp.set_nodelay(true);
    let Some(acceptor) = &server.tls else {
        server.count(label, "ok");
        return http_1(server, TokioIo::new(tcp), peer).await;
    };
    // Boxed: the handshake's state is large and lives for moments, the connection's is small and lives for hours.
    let handshake = Box::pin(tokio::time::timeout(server.timeouts.request_head, acceptor.accept(tcp))).await;
    match handshake {
        Ok(Ok(stream)) => {
            server.count(label, "ok");
            count_handshake(server, label, &stream);
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                http_2(server, TokioIo::new(stream), peer).await;
            } else {
                http_1(server, TokioIo::new(stream), peer).await;
            }
        }
        Ok(Err(error)) => {
            server.count(label, "tls_error");
            server.gateway.metrics.tls_handshakes_total.with_label_values(&[label, "none", "error"]).inc();
            tracing::debug!(%error, client = %peer.ip(), "a TLS handshake failed");
        }
        Err(_) => {
            server.count(label, "timeout");
            server.gateway.metrics.tls_handshakes_total.with_label_values(&[label, "none", "timeout"]).inc();
        }
    }
}

fn count_handshake(server: &Server, label: &str, stream: &TlsStream<TcpStream>) {
    let version = match stream.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "1.2",
        _ => "other",
    };
    server.gateway.metrics.tls_handshakes_total.with_label_values(&[label, version, "ok"]).inc();
}

async fn http_1<I: Read + Write + Unpin + Send + 'static>(server: &Server, io: I, peer: SocketAddr) {
    let activity = Arc::new(Activity::new());
    let io = Watched { io, activity: activity.clone(), heads: true };
    let service = {
        let (gateway, activity) = (server.gateway.clone(), activity.clone());
        service_fn(move |request| answer(gateway.clone(), activity.clone(), peer, request))
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The deadlines are kept by `activity`.
        .header_read_timeout(None)
        .max_buf_size(server.limits.request_head)
        .half_close(false)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let close = |connection: Pin<&mut http1::Connection<_, _>>| connection.graceful_shutdown();
    watch(server, &activity, &mut connection, close).await;
}

async fn http_2<I: Read + Write + Unpin + Send + 'static>(server: &Server, io: I, peer: SocketAddr) {
    let activity = Arc::new(Activity::new());
    let io = Watched { io, activity: activity.clone(), heads: false };
    let service = {
        let (gateway, activity) = (server.gateway.clone(), activity.clone());
        service_fn(move |request| answer(gateway.clone(), activity.clone(), peer, request))
    };
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(server.limits.streams_per_connection)
        .max_header_list_size(u32::try_from(server.limits.request_head).unwrap_or(u32::MAX))
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let close = |connection: Pin<&mut http2::Connection<_, _, _>>| connection.graceful_shutdown();
    watch(server, &activity, &mut connection, close).await;
}

/// Drives a connection until it ends, its patience does, or the drain closes it.
async fn watch<C>(server: &Server, activity: &Activity, connection: &mut Pin<&mut C>, close: impl Fn(Pin<&mut C>))
where
    C: Future<Output = hyper::Result<()>>,
{
    let shortest = server.timeouts.request_head.min(server.timeouts.idle);
    // Looked at twice in the shortest patience, so that none is overrun by more than half of itself.
    let mut look = tokio::time::interval((shortest / 2).max(Duration::from_millis(10)));
    let mut closing = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended early");
                }
                return;
            }
            () = server.closing.cancelled(), if !closing => {
                closing = true;
                close(connection.as_mut());
            }
            _ = look.tick() => match activity.expired(&server.timeouts) {
                Some(Expired::Head) => return,
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
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let _busy = Busy::new(activity);
    let mut walk = Box::pin(walk::serve(gateway, peer, request));
    // A panic must cost one request, not the connection with all its other streams.
    let guarded = poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| walk.as_mut().poll(cx))) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(response)) => Poll::Ready(Some(response)),
        Err(_) => Poll::Ready(None),
    });
    Ok(match guarded.await {
        Some(response) => response,
        None => respond::error(&ApiError::new(Code::Internal, "the gateway met a bug; its log has it"), &[], ""),
    })
}

/// Marks a request as being served, whatever way it ends.
struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: Arc<Activity>) -> Self {
        activity.request_begins();
        Busy(activity)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.request_ends();
    }
}

/// Serves plain HTTP/1 with a handler of one's own: the admin listener.
pub(crate) async fn serve_plain<H, F>(tcp: TcpStream, handler: H)
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<http_body_util::Full<Bytes>>>,
{
    let service = service_fn(|request| {
        let response = handler(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(75))
        .serve_connection(TokioIo::new(tcp), service);
    // How a connection of the admin listener ends is of no interest to anybody.
    let _ = connection.await;
}
