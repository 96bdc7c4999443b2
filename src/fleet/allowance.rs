//! How many requests of a cluster may be repeated, and after which pause.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::budget::{Budget, Settings};
use crate::config::checked::Cluster;
use crate::observe::exchange::Exchange;

/// The shortest and the longest pause before a repeat: long enough that a connection that was just
/// closed is not met again, short enough that a poll does not feel it.
const PAUSE_MS: std::ops::Range<u64> = 20..100;

/// The budget of one cluster.
#[derive(Debug)]
pub(super) struct Repeats {
    began: Instant,
    budget: Mutex<Budget>,
    count: AtomicU64,
}

impl Repeats {
    pub(super) fn new(config: &Cluster) -> Repeats {
        Repeats {
            began: Instant::now(),
            budget: Mutex::new(Budget::new(Settings {
                percent: config.retries.percent,
                floor: config.retries.floor,
            })),
            count: AtomicU64::new(0),
        }
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Budget, Duration) -> T) -> T {
        let mut budget = self.budget.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut budget, self.began.elapsed())
    }

    /// Spreads repeats out, so that those who failed together don't come back together. Made from
    /// the request's id and not by chance: a simulation that is played again must go the same way.
    pub(super) fn pause(&self, exchange: &Exchange) -> Duration {
        let mut hasher = DefaultHasher::new();
        exchange.request_id.hash(&mut hasher);
        self.count.fetch_add(1, Ordering::Relaxed).hash(&mut hasher);
        let spread = hasher.finish() % (PAUSE_MS.end - PAUSE_MS.start);
        Duration::from_millis(PAUSE_MS.start + spread)
    }
}
