//! What a connection is doing, and until when it may go on doing it.
//!
//! hyper has one deadline for reading a head and for waiting between requests; they are two
//! different patiences. So the bytes and requests of a connection leave a mark here, and whoever
//! owns the connection looks at the marks now and then.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Write};

use crate::config::checked::ServerTimeouts;

/// What a connection is doing, for the mark; `busy` is beside it.
const IDLE: u64 = 0;
const HEAD: u64 = 1;
const SENDING: u64 = 2;

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// From the first byte of a head to its end, and from the beginning to the first head.
    pub(super) head: Duration,
    /// From an answer that is ready to its last byte in the socket.
    pub(super) send: Duration,
    /// From an answer that was sent to the next head.
    pub(super) idle: Duration,
}

impl Patience {
    /// Returns how often to look: twice in the shortest patience, so that none is overrun by more
    /// than half of itself.
    pub(super) fn look(&self) -> Duration {
        (self.head.min(self.send).min(self.idle) / 2).max(Duration::from_millis(10))
    }
}

impl From<ServerTimeouts> for Patience {
    fn from(timeouts: ServerTimeouts) -> Self {
        // One who does not read is no better than one who does not ask.
        Patience {
            head: timeouts.request_head,
            send: timeouts.idle,
            idle: timeouts.idle,
        }
    }
}

/// The marks of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    began: Instant,
    /// When the current phase began, in milliseconds after `began`; the two lowest bits say which
    /// it is.
    mark: AtomicU64,
    /// Requests that are being served.
    busy: AtomicUsize,
}

/// What a connection has run out of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expired {
    /// Its head took too long, or its client to read an answer.
    Stalled,
    /// It was idle for too long.
    Idle,
}

impl Activity {
    /// Begins with a head: a fresh connection owes one.
    pub(super) fn new() -> Self {
        Activity {
            began: Instant::now(),
            mark: AtomicU64::new(HEAD),
            busy: AtomicUsize::new(0),
        }
    }

    fn set(&self, phase: u64) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX >> 2);
        self.mark.store(now << 2 | phase, Ordering::Relaxed);
    }

    fn phase(&self) -> u64 {
        self.mark.load(Ordering::Relaxed) & 3
    }

    fn head_begins(&self) {
        if self.busy.load(Ordering::Relaxed) == 0 && self.phase() != HEAD {
            self.set(HEAD);
        }
    }

    fn all_is_sent(&self) {
        if self.phase() == SENDING {
            self.set(IDLE);
        }
    }

    fn request_begins(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    fn request_ends(&self) {
        self.set(SENDING);
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tells what has run out by now.
    pub(super) fn expired(&self, patience: &Patience) -> Option<Expired> {
        if self.busy.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let mark = self.mark.load(Ordering::Relaxed);
        let since = self
            .began
            .elapsed()
            .saturating_sub(Duration::from_millis(mark >> 2));
        match mark & 3 {
            HEAD if since >= patience.head => Some(Expired::Stalled),
            SENDING if since >= patience.send => Some(Expired::Stalled),
            IDLE if since >= patience.idle => Some(Expired::Idle),
            _ => None,
        }
    }
}

/// Marks a request as being served, whatever way it ends.
pub(super) struct Busy(Arc<Activity>);

impl Busy {
    pub(super) fn new(activity: Arc<Activity>) -> Self {
        activity.request_begins();
        Busy(activity)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.request_ends();
    }
}

/// Marks the first byte of a head on its way in, and the last byte of an answer on its way out.
#[derive(Debug)]
pub(super) struct Watched<I> {
    pub(super) io: I,
    pub(super) activity: Arc<Activity>,
    /// Off for HTTP/2, where bytes arrive that belong to no request.
    pub(super) heads: bool,
}

impl<I: Read + Unpin> Read for Watched<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_read(cx, buf);
        if this.heads && matches!(result, Poll::Ready(Ok(()))) {
            this.activity.head_begins();
        }
        result
    }
}

impl<I: Write + Unpin> Write for Watched<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // hyper flushes when it has handed over everything that it had.
        let result = Pin::new(&mut self.io).poll_flush(cx);
        if matches!(result, Poll::Ready(Ok(()))) {
            self.activity.all_is_sent();
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
