//! What a connection is doing, and until when it may go on doing it.
//!
//! hyper has one deadline for reading a head and for waiting between requests; they are two different patiences. So the bytes and requests
//! of a connection leave a mark here, and whoever owns the connection looks at the marks now and then.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::config::checked::ServerTimeouts;

/// The marks of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    began: Instant,
    /// When the current phase began, in milliseconds after `began`; the lowest bit says whether it is a head.
    mark: AtomicU64,
    /// Requests that are being served.
    busy: AtomicUsize,
}

/// What a connection has run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// Its head took too long.
    Head,
    /// It was idle for too long.
    Idle,
}

impl Activity {
    /// Begins with a head: a fresh connection owes one.
    pub(super) fn new() -> Self {
        Activity { began: Instant::now(), mark: AtomicU64::new(1), busy: AtomicUsize::new(0) }
    }

    fn set(&self, head: bool) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX >> 1);
        self.mark.store(now << 1 | u64::from(head), Ordering::Relaxed);
    }

    fn head_begins(&self) {
        if self.busy.load(Ordering::Relaxed) == 0 && self.mark.load(Ordering::Relaxed) & 1 == 0 {
            self.set(true);
        }
    }

    pub(super) fn request_begins(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn request_ends(&self) {
        self.set(false);
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tells what has run out by now.
    pub(super) fn expired(&self, timeouts: &ServerTimeouts) -> Option<Expired> {
        if self.busy.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let mark = self.mark.load(Ordering::Relaxed);
        let since = self.began.elapsed().saturating_sub(Duration::from_millis(mark >> 1));
        match mark & 1 == 1 {
            true if since >= timeouts.request_head => Some(Expired::Head),
            false if since >= timeouts.idle => Some(Expired::Idle),
            _ => None,
        }
    }
}

/// Marks the first byte of a head on its way in.
#[derive(Debug)]
pub(super) struct Watched<I> {
    pub(super) io: I,
    pub(super) activity: std::sync::Arc<Activity>,
    /// Off for HTTP/2, where bytes arrive that belong to no request.
    pub(super) heads: bool,
}

impl<I: Read + Unpin> Read for Watched<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_read(cx, buf);
        if this.heads && matches!(result, Poll::Ready(Ok(()))) {
            this.activity.head_begins();
        }
        result
    }
}

impl<I: Write + Unpin> Write for Watched<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[std::io::IoSlice<'_>]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
