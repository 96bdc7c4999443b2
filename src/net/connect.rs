//! Opening one connection to a cluster: name, TCP, TLS, all within one deadline, each failure with
//! its own word.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tower::Service;

use super::cause::{self, ConnectError};
use super::held::Held;
use super::tls::ClientTls;

/// Opens connections.
#[derive(Clone, Debug)]
pub struct Connector {
    tls: Option<ClientTls>,
    limit: Duration,
    open: Arc<AtomicI64>,
}

impl Connector {
    /// Makes a connector that counts what is open; without `tls` only plain HTTP can be opened.
    pub fn new(tls: Option<ClientTls>, limit: Duration, open: Arc<AtomicI64>) -> Self {
        Connector { tls, limit, open }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Link {
    stream: Stream,
    _open: Held,
}

#[derive(Debug)]
enum Stream {
    Plain(TokioIo<TcpStream>),
    Tls(Box<TokioIo<TlsStream<TcpStream>>>),
}

impl Service<Uri> for Connector {
    type Response = Link;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Link, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Connector { tls, limit, open } = self.clone();
        Box::pin(async move {
            match tokio::time::timeout(limit, connect(uri, tls)).await {
                Ok(result) => result.map(|stream| Link {
                    stream,
                    _open: Held::new(&open),
                }),
                Err(_) => Err(ConnectError {
                    reason: "timeout_connect",
                    detail: format!("not connected within {limit:?} (timed out)"),
                }),
            }
        })
    }
}

async fn connect(uri: Uri, tls: Option<ClientTls>) -> Result<Stream, ConnectError> {
    let fail = |reason, detail: String| ConnectError { reason, detail };
    let https = uri.scheme_str() == Some("https");
    let host = uri
        .host()
        .unwrap_or_default()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let addresses: Vec<_> = tokio::net::lookup_host((host.as_str(), port))
        .await
        .map_err(|error| fail("dns", cause::of_lookup(&host, &error)))?
        .collect();
    let tcp = TcpStream::connect(addresses.as_slice())
        .await
        .map_err(|error| fail("connect", cause::in_words(&error)))?;
    // Requests are small and complete: waiting for more bytes only adds delay. Failing to set it
    // costs nothing but that.
    let _ = tcp.set_nodelay(true);
    if !https {
        return Ok(Stream::Plain(TokioIo::new(tcp)));
    }
    let tls = tls.ok_or_else(|| fail("tls", "TLS is not set up for this connection".into()))?;
    let name = tls.server_name.clone().unwrap_or(host);
    let name = ServerName::try_from(name).map_err(|error| fail("tls", error.to_string()))?;
    let stream = tls
        .connector()
        .connect(name, tcp)
        .await
        .map_err(|error| fail("tls", cause::in_words(&error)))?;
    Ok(Stream::Tls(Box::new(TokioIo::new(stream))))
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        match &self.stream {
            Stream::Plain(_) => Connected::new(),
            Stream::Tls(stream) if stream.inner().get_ref().1.alpn_protocol() == Some(b"h2") => {
                Connected::new().negotiated_h2()
            }
            Stream::Tls(_) => Connected::new(),
        }
    }
}

impl Read for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Stream::Tls(io) => Pin::new(io.as_mut()).poll_read(cx, buf),
        }
    }
}

impl Write for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Stream::Tls(io) => Pin::new(io.as_mut()).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(io) => Pin::new(io).poll_flush(cx),
            Stream::Tls(io) => Pin::new(io.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Stream::Tls(io) => Pin::new(io.as_mut()).poll_shutdown(cx),
        }
    }
}
