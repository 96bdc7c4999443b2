//! How many requests to a cluster may be sent again: a share of what is sent anyway, and a small
//! floor for clusters that are asked little. So a cluster that is down, or drowning, never gets
//! more than that on top.
//!
//! Pure: time comes in as a span since some beginning. The same idea as Finagle's and linkerd's
//! retry budget, with a bucket instead of a window: what was saved up is bounded, so quiet hours
//! don't pay for a burst.

use std::time::Duration;

/// One repeat, in the bucket's unit: all sums are exact.
const ONE: u64 = 100_000;

/// The most that is saved up.
const MOST: u64 = 10 * ONE;

/// The rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Repeats for every hundred requests.
    pub percent: u32,
    /// Repeats for every ten seconds, however little is sent.
    pub floor: u32,
}

/// The bucket of one cluster.
#[derive(Clone, Debug)]
pub struct Budget {
    settings: Settings,
    saved: u64,
    /// Up to when the floor is paid in.
    paid: Duration,
}

impl Budget {
    /// Begins with what the floor pays in ten seconds.
    pub fn new(settings: Settings) -> Budget {
        Budget {
            settings,
            saved: (u64::from(settings.floor) * ONE).min(MOST),
            paid: Duration::ZERO,
        }
    }

    /// Pays in for a request that is sent for the first time.
    pub fn sent(&mut self) {
        self.save(u64::from(self.settings.percent) * (ONE / 100));
    }

    /// Takes out one repeat, if there is one.
    pub fn take(&mut self, now: Duration) -> bool {
        self.pay_floor(now);
        match self.saved.checked_sub(ONE) {
            Some(left) => {
                self.saved = left;
                true
            }
            None => false,
        }
    }

    fn pay_floor(&mut self, now: Duration) {
        let since = now.saturating_sub(self.paid);
        // `ONE` for each of `floor` in ten seconds is ten units a millisecond.
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.save(millis.saturating_mul(u64::from(self.settings.floor) * (ONE / 10_000)));
        self.paid += Duration::from_millis(millis);
    }

    fn save(&mut self, amount: u64) {
        self.saved = self.saved.saturating_add(amount).min(MOST);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: Settings = Settings {
        percent: 20,
        floor: 5,
    };

    #[test]
    fn one_in_five_may_be_sent_again() {
        let mut budget = Budget::new(Settings {
            floor: 0,
            ..SETTINGS
        });
        let repeats = (0..100).filter(|_| {
            budget.sent();
            budget.take(Duration::ZERO)
        });
        assert_eq!(repeats.count(), 20);
    }

    #[test]
    fn the_floor_pays_for_a_cluster_that_is_asked_little() {
        let mut budget = Budget::new(SETTINGS);
        let at = Duration::from_secs;
        assert_eq!((0..10).filter(|_| budget.take(at(0))).count(), 5);
        assert!(!budget.take(at(1)));
        assert!(budget.take(at(2)) && !budget.take(at(2)));
        assert_eq!(
            (0..100).filter(|_| budget.take(at(100_000))).count(),
            10,
            "little is saved up"
        );
    }

    #[test]
    fn nothing_at_all_can_be_asked_for() {
        let mut budget = Budget::new(Settings {
            percent: 0,
            floor: 0,
        });
        budget.sent();
        assert!(!budget.take(Duration::from_secs(1_000_000)));
    }

    proptest! {
        /// In any stretch of time: what was saved up, the share, and the floor.
        #[test]
        fn repeats_are_bounded(gaps in proptest::collection::vec(0_u64..300, 1..500), percent in 0_u32..=100, floor in 0_u32..20) {
            let mut budget = Budget::new(Settings { percent, floor });
            let (mut now, mut sent, mut again) = (Duration::ZERO, 0_u64, 0_u64);
            for gap in gaps {
                now += Duration::from_millis(gap);
                budget.sent();
                sent += 1;
                again += u64::from(budget.take(now));
                let millis = u64::try_from(now.as_millis()).expect("is small");
                let floor = u64::from(floor);
                let paid = floor * ONE + sent * u64::from(percent) * (ONE / 100) + floor * millis * (ONE / 10_000);
                prop_assert!(again * ONE <= paid);
            }
        }
    }
}
