//! Plain HTTP/1 for the few: the admin listener.
//!
//! Bounded like the clients' listeners, with patience of its own and not the configuration's. What
//! is asked here says whether the process lives, so it must be answered when all places are taken,
//! by whomever, and when descriptors have run out.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::activity::{Activity, Busy, Patience, Watched};
use super::connection::watch;
use super::listener::{Arrival, Listener};

/// How many connections may be open: a scraper or two, probes, and somebody with curl, many times
/// over.
const CONNECTIONS: usize = 64;

/// Idle is longer than scrapers wait between two scrapes, a minute at most as a rule, so that they
/// keep their connection.
const PATIENCE: Patience = Patience {
    head: Duration::from_secs(10),
    send: Duration::from_secs(10),
    idle: Duration::from_secs(75),
};

/// When every place is taken: the first that has overstayed this gives its place up, and the others
/// have time again. A probe that was sent away comes back after some seconds, and must find a place
/// then: three failures in a row restart a pod.
const CROWDED: Patience = Patience {
    head: Duration::from_secs(2),
    send: Duration::from_secs(2),
    idle: Duration::from_secs(2),
};

/// How long the connection that has the spare descriptor may take, while nobody else is accepted.
const LAST: Duration = Duration::from_secs(2);

/// Serves until the gateway stops.
pub(crate) async fn serve_plain<A, H, F>(
    mut listener: Listener,
    stop: CancellationToken,
    acceptor: A,
    handler: H,
) where
    A: Fn() -> Option<TlsAcceptor> + Send + Sync + 'static,
    H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let arrival = tokio::select! {
            () = stop.cancelled() => return,
            arrival = listener.accept() => arrival,
        };
        match arrival {
            Arrival::Usual(tcp, peer) => {
                // Closed at once if there is no room, as at the clients' listeners.
                let Ok(place) = room.clone().try_acquire_owned() else {
                    continue;
                };
                let (room, stop, handler) = (room.clone(), stop.clone(), handler.clone());
                let acceptor = acceptor();
                tokio::spawn(async move {
                    let patience = || {
                        if room.available_permits() == 0 {
                            CROWDED
                        } else {
                            PATIENCE
                        }
                    };
                    serve_one(tcp, acceptor, peer, patience, &stop, &handler, true).await;
                    drop(place);
                });
            }
            Arrival::Last(tcp, peer) => {
                let acceptor = acceptor();
                let served = serve_one(tcp, acceptor, peer, || CROWDED, &stop, &handler, false);
                let _ = tokio::time::timeout(LAST, served).await;
            }
        }
    }
}

/// Ends TLS first where there is any.
async fn serve_one<H, F>(
    tcp: TcpStream,
    acceptor: Option<TlsAcceptor>,
    peer: SocketAddr,
    patience: impl Fn() -> Patience,
    stop: &CancellationToken,
    handler: &H,
    keep_alive: bool,
) where
    H: Fn(Request<Incoming>, SocketAddr) -> F,
    F: Future<Output = Response<Full<Bytes>>>,
{
    let Some(acceptor) = acceptor else {
        return connection(tcp, peer, patience, stop, handler, keep_alive).await;
    };
    match tokio::time::timeout(patience().head, acceptor.accept(tcp)).await {
        Ok(Ok(stream)) => connection(stream, peer, patience, stop, handler, keep_alive).await,
        Ok(Err(error)) => tracing::debug!(%error, %peer, "a TLS handshake failed"),
        Err(_) => {}
    }
}

async fn connection<I, H, F>(
    io: I,
    peer: SocketAddr,
    patience: impl Fn() -> Patience,
    stop: &CancellationToken,
    handler: &H,
    keep_alive: bool,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, SocketAddr) -> F,
    F: Future<Output = Response<Full<Bytes>>>,
{
    let activity = Arc::new(Activity::new());
    let io = Watched {
        io: TokioIo::new(io),
        activity: activity.clone(),
        heads: true,
    };
    let service = service_fn(|request| {
        let busy = Busy::new(activity.clone());
        let response = handler(request, peer);
        async move {
            let response = response.await;
            drop(busy);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The deadlines are kept by `activity`.
        .header_read_timeout(None)
        .half_close(false)
        .keep_alive(keep_alive)
        .serve_connection(io, service);
    let look = patience().look().min(CROWDED.look());
    watch(
        patience,
        look,
        stop,
        &activity,
        &mut std::pin::pin!(connection),
        |connection| connection.graceful_shutdown(),
    )
    .await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const SHORT: Duration = Duration::from_millis(50);

    /// Serves one connection with a large answer; returns the client's end, and what ends when the
    /// server's does.
    fn served(patience: Patience) -> (DuplexStream, impl Future<Output = ()>) {
        let (client, server) = tokio::io::duplex(1024);
        let task = tokio::spawn(async move {
            let handler =
                |_: Request<Incoming>, _| async { Response::new(Full::from(vec![b'x'; 1 << 20])) };
            let peer = SocketAddr::from(([127, 0, 0, 1], 9));
            connection(
                server,
                peer,
                || patience,
                &CancellationToken::new(),
                &handler,
                true,
            )
            .await;
        });
        let ended = async move {
            tokio::time::timeout(Duration::from_secs(30), task)
                .await
                .expect("it ends")
                .expect("no panic")
        };
        (client, ended)
    }

    #[tokio::test]
    async fn a_reader_that_stalls_is_cut_off() {
        let (mut client, ended) = served(Patience {
            head: LONG,
            send: SHORT,
            idle: LONG,
        });
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .expect("is sent");
        ended.await;
        drop(client);
    }

    #[tokio::test]
    async fn half_a_head_is_cut_off() {
        let (mut client, ended) = served(Patience {
            head: SHORT,
            send: LONG,
            idle: LONG,
        });
        client
            .write_all(b"GET / HTTP/1.1\r\nHost")
            .await
            .expect("is sent");
        ended.await;
        drop(client);
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_after_its_answer() {
        let (mut client, ended) = served(Patience {
            head: LONG,
            send: LONG,
            idle: SHORT,
        });
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .await
            .expect("is sent");
        let mut told = Vec::new();
        client
            .read_to_end(&mut told)
            .await
            .expect("is closed in order");
        assert!(told.starts_with(b"HTTP/1.1 200 ") && told.len() > 1 << 20);
        ended.await;
    }
}
