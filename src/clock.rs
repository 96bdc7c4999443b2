//! Two clocks. How long something lasts is measured by the monotonic one; what is stored is wall
//! time, which may jump, and beside it the registry's *uptime*: how long gateways have been running
//! on this registry, which only grows while one runs. Nothing is ended, swept or forgotten by wall
//! time alone.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A moment as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// Milliseconds since 1970, as the wall clock said.
    pub wall_ms: i64,
    /// Milliseconds of uptime.
    pub up_ms: i64,
}

impl Moment {
    /// Returns the moment that lies so far ahead.
    #[must_use]
    pub fn after(self, span: Duration) -> Moment {
        Moment {
            wall_ms: self.wall_ms.saturating_add(millis(span)),
            up_ms: self.up_ms.saturating_add(millis(span)),
        }
    }

    /// Returns the moment that lies so far back.
    #[must_use]
    pub fn before(self, span: Duration) -> Moment {
        Moment {
            wall_ms: self.wall_ms.saturating_sub(millis(span)),
            up_ms: self.up_ms.saturating_sub(millis(span)),
        }
    }

    /// Tells whether it has come by both clocks.
    pub fn is_past(self, now: Moment) -> bool {
        self.wall_ms < now.wall_ms && self.up_ms < now.up_ms
    }
}

/// The clocks of a running gateway.
#[derive(Clone, Debug)]
pub struct Clock {
    began: Instant,
    up_before_ms: i64,
    /// How far other processes are ahead of this one's count.
    ahead_ms: Arc<AtomicI64>,
    /// What the wall clock said when this process began, where it goes with the monotonic one.
    simulated_ms: Arc<OnceLock<i64>>,
    /// Added to the wall clock; tests make it jump.
    skew_ms: Arc<AtomicI64>,
}

impl Clock {
    /// Goes on from the uptime that is stored.
    pub fn new(up_before_ms: i64) -> Clock {
        Clock {
            began: Instant::now(),
            up_before_ms,
            ahead_ms: Arc::default(),
            simulated_ms: Arc::default(),
            skew_ms: Arc::default(),
        }
    }

    /// Returns the current moment.
    pub fn now(&self) -> Moment {
        let wall_ms = match self.simulated_ms.get() {
            Some(began_ms) => began_ms.saturating_add(millis(self.began.elapsed())),
            None => millis(
                SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .unwrap_or_default(),
            ),
        };
        Moment {
            wall_ms: wall_ms.saturating_add(self.skew_ms.load(Ordering::Relaxed)),
            up_ms: self.up_ms_at(Instant::now()),
        }
    }

    /// Goes forward to the uptime that all processes together have.
    pub fn catch_up(&self, uptime_ms: i64) {
        let behind_ms = uptime_ms.saturating_sub(self.up_ms_at(Instant::now()));
        if behind_ms > 0 {
            self.ahead_ms.fetch_add(behind_ms, Ordering::Relaxed);
        }
    }

    /// Returns the uptime of an instant of this process.
    pub fn up_ms_at(&self, at: Instant) -> i64 {
        let since = at.saturating_duration_since(self.began);
        let ahead_ms = self.ahead_ms.load(Ordering::Relaxed);
        self.up_before_ms
            .saturating_add(millis(since))
            .saturating_add(ahead_ms)
    }

    /// Tells whether a moment lies in the last `span` of this process.
    pub fn is_recent(&self, moment: Moment, span: Duration) -> bool {
        moment.up_ms >= self.up_before_ms
            && self.now().up_ms.saturating_sub(moment.up_ms) < millis(span)
    }

    /// Makes the wall clock say so now, and go on with the monotonic one, which tests can make go as
    /// they like. It can be said once. For tests.
    pub fn simulate(&self, now_ms: i64) {
        let began_ms = now_ms.saturating_sub(millis(self.began.elapsed()));
        let _ = self.simulated_ms.set(began_ms);
    }

    /// Makes the wall clock jump, in milliseconds from what it really says. For tests.
    pub fn set_skew_ms(&self, skew: i64) {
        self.skew_ms.store(skew, Ordering::Relaxed);
    }
}

/// Returns a duration in whole milliseconds.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_the_wall_clock_ends_nothing() {
        let clock = Clock::new(5_000);
        let until = clock.now().after(Duration::from_secs(3600));
        assert!(!until.is_past(clock.now()));
        clock.set_skew_ms(31 * 24 * 3_600_000);
        assert!(!until.is_past(clock.now()), "31 days forward");
        assert!(
            clock
                .now()
                .before(Duration::from_secs(1))
                .is_past(clock.now())
        );
    }
}
