//! One life of the gateway, from its start to SIGKILL or to a planned end. Whatever it does to the
//! world outside goes through a gate; when the life is over nothing passes any more, in neither
//! direction, and whoever waits there waits for ever. While it stands still (SIGSTOP), the gate is
//! shut as well; when it goes on, everything goes on at once.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long a gateway takes to listen again when the database is back.
const RECONNECTS: Duration = Duration::from_secs(2);

/// A life. Copies are the same life.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    over: CancellationToken,
    /// How many gates are left until a SIGKILL between two of them.
    left: Arc<AtomicI64>,
    still_until: Arc<Mutex<Option<Instant>>>,
    cut: watch::Sender<Option<Cut>>,
    /// Until when this one and its like may not hear of each other.
    apart_until: Arc<Mutex<Instant>>,
}

/// That it can't reach the database.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) until: Instant,
    /// How long a request waits before it is clear that nobody answers.
    pub(crate) answered_after: Duration,
}

impl Life {
    pub(crate) fn new(gates: i64, apart_until: &Arc<Mutex<Instant>>) -> Life {
        Life {
            over: CancellationToken::new(),
            left: Arc::new(AtomicI64::new(gates)),
            still_until: Arc::default(),
            cut: watch::Sender::new(None),
            apart_until: apart_until.clone(),
        }
    }

    /// Lets through, or holds for ever.
    pub(crate) async fn gate(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.end();
        }
        self.go_on().await;
        if self.over.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    /// SIGKILL.
    pub(crate) fn end(&self) {
        self.over.cancel();
    }

    pub(crate) async fn ended(&self) {
        self.over.cancelled().await;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// SIGSTOP, and SIGCONT so much later.
    pub(crate) fn stand_still(&self, lasts: Duration) {
        let ends = Instant::now() + lasts;
        self.is_apart_until(ends);
        let mut until = self.still();
        *until = (*until).max(Some(ends));
    }

    /// Waits while it stands still.
    pub(crate) async fn go_on(&self) {
        loop {
            let until = *self.still();
            match until.filter(|until| *until > Instant::now()) {
                Some(until) => sleep_until(until).await,
                None => return,
            }
        }
    }

    fn still(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.still_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// It can't reach the database for a while.
    pub(crate) fn cut_off(&self, cut: Cut) {
        self.is_apart_until(cut.until + cut.answered_after + RECONNECTS);
        self.cut.send_replace(Some(cut));
    }

    fn is_apart_until(&self, ends: Instant) {
        let apart = self.apart_until.lock();
        let mut apart = apart.unwrap_or_else(PoisonError::into_inner);
        *apart = (*apart).max(ends);
    }

    /// Returns that it can't reach the database, if it can't.
    pub(crate) fn is_cut_off(&self) -> Option<Cut> {
        (*self.cut.borrow()).filter(|cut| cut.until > Instant::now())
    }

    /// Waits until it can't reach the database.
    pub(crate) async fn is_being_cut_off(&self) -> Cut {
        let mut news = self.cut.subscribe();
        loop {
            if let Some(cut) = self.is_cut_off() {
                return cut;
            }
            // The sender lives in `self`.
            let _ = news.changed().await;
        }
    }
}
