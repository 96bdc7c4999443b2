//! Whether a cluster is ejected: a pure decision over what probes and real requests met.
//!
//! Owns counting, the cool-down and the trial; has no clock, no lock and no metric: time comes in
//! as a span since some beginning. Leaves what counts as a failure to [`super::verdict`], and
//! what an ejection means for a request to [`super::health`] and `route`.
//!
//! There are two kinds of evidence, kept apart:
//!
//! - *Probes*: `unhealthy_after` bad ones in a row eject, `healthy_after` good ones end that. While
//!   probes find the cluster dead, nothing else is tried: they go on anyway.
//! - *Real requests*: `eject_after` failures in a row eject for `ejection_time`. When that is over
//!   one request is let through, or the next probe is taken for it: success closes, failure ejects
//!   for twice as long, up to `max_ejection_time`. A cluster that is ejected again soon after
//!   begins where it stopped.
//!
//! Probes that found the cluster dead and then alive have seen the outage end, and close both.

use std::time::Duration;

/// The thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Bad probes in a row that eject.
    pub unhealthy_after: u32,
    /// Good probes in a row that end it.
    pub healthy_after: u32,
    /// Failed requests in a row that eject; 0 never does.
    pub eject_after: u32,
    /// How long the first ejection by requests lasts.
    pub ejection_time: Duration,
    /// How long the longest does.
    pub max_ejection_time: Duration,
    /// After how long a trial that told nothing gives its place to another.
    pub patience: Duration,
}

/// What ejected a cluster, or brought it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Probes.
    Probe,
    /// Real requests.
    Outlier,
}

/// What a piece of evidence changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Ejected just now.
    Ejected(Cause),
    /// Ejected before, and for longer now: the trial failed.
    Prolonged,
    /// Back.
    Back(Cause),
}

/// The state of one cluster.
#[derive(Clone, Debug)]
pub struct Breaker {
    settings: Settings,
    /// Probes find it dead.
    dead: bool,
    /// Probes in a row that say otherwise than `dead`.
    streak: u32,
    /// Failed requests in a row.
    failures: u32,
    open: Option<Open>,
    /// When the last ejection by requests ended, and how far it had grown.
    closed: Option<(Duration, u32)>,
}

/// An ejection by real requests.
#[derive(Clone, Copy, Debug)]
struct Open {
    since: Duration,
    until: Duration,
    /// How often it was doubled.
    level: u32,
    /// When the trial that is under way was let through.
    trial: Option<Duration>,
}

impl Breaker {
    /// Begins closed: a gateway that has just started serves at once.
    pub const fn new(settings: Settings) -> Breaker {
        Breaker {
            settings,
            dead: false,
            streak: 0,
            failures: 0,
            open: None,
            closed: None,
        }
    }

    /// Tells whether the cluster is ejected, by whatever.
    pub const fn is_ejected(&self) -> bool {
        self.dead || self.open.is_some()
    }

    /// Tells whether probes find it dead.
    pub const fn is_dead(&self) -> bool {
        self.dead
    }

    /// Returns from when on a request may be let through as a trial; `None` if it is not ejected,
    /// or only probes can end it.
    pub fn trial_at(&self) -> Option<Duration> {
        self.open
            .filter(|_| !self.dead)
            .map(|open| match open.trial {
                Some(begun) => begun + self.settings.patience,
                None => open.until,
            })
    }

    /// Asks for leave to send one ordinary request. Of those who ask while the cluster is ejected
    /// one at a time gets it, and is the trial.
    pub fn knock(&mut self, now: Duration) -> bool {
        let Some(at) = self.trial_at() else {
            return !self.dead;
        };
        let due = at <= now;
        if due && let Some(open) = &mut self.open {
            open.trial = Some(now);
        }
        due
    }

    /// Takes in how a real request ended that began at `began`.
    pub fn heard(&mut self, good: bool, began: Duration, now: Duration) -> Option<Change> {
        let Some(open) = self.open else {
            return self.heard_closed(good, began, now);
        };
        // What was under way when the cluster was ejected says nothing of how it is now.
        if began < open.since {
            return None;
        }
        match good {
            true => self.close(now),
            // Those that go on during the cool-down (a kill, a look-up) don't make it longer.
            false if open.trial.is_some() || began >= open.until => self.prolong(open, now),
            false => None,
        }
    }

    fn heard_closed(&mut self, good: bool, began: Duration, now: Duration) -> Option<Change> {
        if good {
            self.failures = 0;
            return None;
        }
        // Many that hung in the same outage are told one after the other when it is over.
        if self.closed.is_some_and(|(at, _)| began < at) {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        if self.settings.eject_after == 0 || self.failures < self.settings.eject_after {
            return None;
        }
        let level = match self.closed {
            Some((at, level)) if now.saturating_sub(at) < self.settings.max_ejection_time => {
                level.saturating_add(1)
            }
            _ => 0,
        };
        let was_ejected = self.is_ejected();
        self.failures = 0;
        self.open = Some(Open {
            since: now,
            until: now + self.cool_down(level),
            level,
            trial: None,
        });
        (!was_ejected).then_some(Change::Ejected(Cause::Outlier))
    }

    /// Takes in a probe's verdict.
    pub fn probed(&mut self, good: bool, now: Duration) -> Option<Change> {
        if let Some(change) = self.count_probe(good, now) {
            return Some(change);
        }
        let due = self.open.filter(|open| !self.dead && open.until <= now)?;
        if good {
            self.close(now)
        } else {
            self.prolong(due, now)
        }
    }

    fn count_probe(&mut self, good: bool, now: Duration) -> Option<Change> {
        // As long as they agree with what is known, there is nothing to count.
        if good != self.dead {
            self.streak = 0;
            return None;
        }
        self.streak = self.streak.saturating_add(1);
        let enough = if good {
            self.settings.healthy_after
        } else {
            self.settings.unhealthy_after
        };
        if self.streak < enough {
            return None;
        }
        self.streak = 0;
        self.dead = !good;
        if self.dead {
            return self.open.is_none().then_some(Change::Ejected(Cause::Probe));
        }
        self.close(now);
        Some(Change::Back(Cause::Probe))
    }

    /// Ends the ejection by requests. `Back` only if that leaves the cluster in place.
    fn close(&mut self, now: Duration) -> Option<Change> {
        self.failures = 0;
        let open = self.open.take()?;
        self.closed = Some((now, open.level));
        (!self.dead).then_some(Change::Back(Cause::Outlier))
    }

    fn prolong(&mut self, open: Open, now: Duration) -> Option<Change> {
        let level = open.level.saturating_add(1);
        self.open = Some(Open {
            since: now,
            until: now + self.cool_down(level),
            level,
            trial: None,
        });
        Some(Change::Prolonged)
    }

    /// Doubles with each level, up to the ceiling.
    fn cool_down(&self, level: u32) -> Duration {
        let factor = 1_u32.checked_shl(level).unwrap_or(u32::MAX).max(1);
        let first = self.settings.ejection_time;
        first
            .saturating_mul(factor)
            .min(self.settings.max_ejection_time.max(first))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: Settings = Settings {
        unhealthy_after: 3,
        healthy_after: 2,
        eject_after: 5,
        ejection_time: Duration::from_secs(1),
        max_ejection_time: Duration::from_secs(60),
        patience: Duration::from_secs(30),
    };

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn fails(breaker: &mut Breaker, times: u32, at: Duration) -> Vec<Option<Change>> {
        (0..times).map(|_| breaker.heard(false, at, at)).collect()
    }

    fn ejected_at(at: Duration) -> Breaker {
        let mut breaker = Breaker::new(SETTINGS);
        fails(&mut breaker, 5, at);
        assert!(breaker.is_ejected());
        breaker
    }

    #[test]
    fn five_failures_in_a_row_eject() {
        let mut breaker = Breaker::new(SETTINGS);
        assert_eq!(fails(&mut breaker, 4, s(1)), [None; 4]);
        assert_eq!(breaker.heard(true, s(1), s(1)), None);
        assert_eq!(fails(&mut breaker, 4, s(2)), [None; 4]);
        assert!(breaker.knock(s(2)) && !breaker.is_ejected());
        assert_eq!(
            breaker.heard(false, s(2), s(2)),
            Some(Change::Ejected(Cause::Outlier))
        );
        assert!(!breaker.knock(s(2)) && breaker.is_ejected());
    }

    #[test]
    fn one_at_a_time_is_let_through_after_the_cool_down() {
        let mut breaker = ejected_at(s(10));
        assert!(!breaker.knock(ms(10_999)));
        assert!(breaker.knock(s(11)));
        assert!(!breaker.knock(s(11)), "one is under way");
        assert!(!breaker.knock(s(40)));
        assert!(breaker.knock(s(41)), "it never told anything");
    }

    #[test]
    fn a_trial_that_succeeds_closes() {
        let mut breaker = ejected_at(s(10));
        assert!(breaker.knock(s(11)));
        assert_eq!(
            breaker.heard(true, s(11), s(12)),
            Some(Change::Back(Cause::Outlier))
        );
        assert!(breaker.knock(s(12)) && !breaker.is_ejected());
    }

    #[test]
    fn a_trial_that_fails_ejects_for_longer_up_to_a_ceiling() {
        let mut breaker = ejected_at(s(0));
        let mut now = s(0);
        let mut spans = Vec::new();
        for _ in 0..40 {
            let at = breaker.trial_at().expect("is ejected");
            spans.push((at - now).as_secs());
            now = at;
            assert!(breaker.knock(now));
            assert_eq!(breaker.heard(false, now, now), Some(Change::Prolonged));
        }
        assert_eq!(spans[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(spans[39], 60);
    }

    #[test]
    fn a_probe_is_taken_for_the_trial() {
        let mut breaker = ejected_at(s(10));
        assert_eq!(breaker.probed(true, ms(10_500)), None, "too early");
        assert_eq!(
            breaker.probed(true, s(11)),
            Some(Change::Back(Cause::Outlier))
        );
        let mut breaker = ejected_at(s(10));
        assert_eq!(breaker.probed(false, s(11)), Some(Change::Prolonged));
        assert_eq!(breaker.trial_at(), Some(s(13)));
    }

    #[test]
    fn an_ejection_soon_after_goes_on_where_the_last_stopped() {
        let mut breaker = ejected_at(s(0));
        assert!(breaker.knock(s(1)));
        breaker.heard(true, s(1), s(1));
        fails(&mut breaker, 5, s(2));
        assert_eq!(breaker.trial_at(), Some(s(4)), "two seconds");
        assert!(breaker.knock(s(4)));
        breaker.heard(true, s(4), s(4));
        fails(&mut breaker, 5, s(100));
        assert_eq!(breaker.trial_at(), Some(s(101)), "long after: one second");
    }

    #[test]
    fn what_was_under_way_before_says_nothing() {
        let mut breaker = ejected_at(s(10));
        assert_eq!(breaker.heard(true, s(9), s(12)), None);
        assert!(breaker.is_ejected());
        assert!(breaker.knock(s(12)));
        assert_eq!(breaker.heard(false, s(9), s(12)), None);
        breaker.heard(true, s(12), s(13));
        assert_eq!(fails(&mut breaker, 20, s(12)), [None; 20], "began before");
    }

    #[test]
    fn probes_eject_and_bring_back() {
        let mut breaker = Breaker::new(SETTINGS);
        assert_eq!(breaker.probed(false, s(1)), None);
        assert_eq!(breaker.probed(false, s(2)), None);
        assert_eq!(breaker.probed(true, s(3)), None, "the row is broken");
        for at in 4..6 {
            assert_eq!(breaker.probed(false, s(at)), None);
        }
        assert_eq!(
            breaker.probed(false, s(6)),
            Some(Change::Ejected(Cause::Probe))
        );
        assert!(!breaker.knock(s(1000)), "only probes end it");
        assert_eq!(breaker.probed(true, s(7)), None);
        assert_eq!(breaker.probed(true, s(8)), Some(Change::Back(Cause::Probe)));
        assert!(breaker.knock(s(8)));
    }

    #[test]
    fn probes_that_saw_an_outage_end_close_at_once() {
        let mut breaker = ejected_at(s(0));
        for at in 0..5 {
            breaker.probed(false, s(at * 10));
        }
        assert!(breaker.is_dead() && breaker.trial_at().is_none());
        assert_eq!(breaker.probed(true, s(51)), None);
        assert_eq!(
            breaker.probed(true, s(52)),
            Some(Change::Back(Cause::Probe))
        );
        assert!(!breaker.is_ejected());
    }

    #[test]
    fn without_a_threshold_requests_eject_nobody() {
        let mut breaker = Breaker::new(Settings {
            eject_after: 0,
            ..SETTINGS
        });
        fails(&mut breaker, 1000, s(1));
        assert!(!breaker.is_ejected());
    }

    /// What may happen to a breaker.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Pass(u64),
        Knock,
        Heard { good: bool, ago: u64 },
        Probed(bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0_u64..20_000).prop_map(Step::Pass),
            Just(Step::Knock),
            (any::<bool>(), 0_u64..5_000).prop_map(|(good, ago)| Step::Heard { good, ago }),
            Just(Step::Heard {
                good: false,
                ago: 0
            }),
            any::<bool>().prop_map(Step::Probed),
        ]
    }

    proptest! {
        /// Whatever happens: changes and states tell the same story, one trial at a time, and an
        /// ejection by requests never lasts longer than the ceiling without a trial being due.
        #[test]
        fn no_story_breaks_the_laws(steps in proptest::collection::vec(step(), 1..300)) {
            let mut breaker = Breaker::new(SETTINGS);
            let mut now = s(100);
            let mut let_through: Option<Duration> = None;
            for step in steps {
                let before = breaker.is_ejected();
                let change = match step {
                    Step::Pass(span) => {
                        now += ms(span);
                        None
                    }
                    Step::Knock => {
                        let leave = breaker.knock(now);
                        prop_assert!(leave || before, "who is in place is never turned away");
                        if leave && before {
                            prop_assert!(let_through.is_none_or(|at| now - at >= SETTINGS.patience));
                            let_through = Some(now);
                        }
                        None
                    }
                    Step::Heard { good, ago } => breaker.heard(good, now.saturating_sub(ms(ago)), now),
                    Step::Probed(good) => breaker.probed(good, now),
                };
                let after = breaker.is_ejected();
                match change {
                    Some(Change::Ejected(_)) => prop_assert!(!before && after),
                    Some(Change::Back(_)) => prop_assert!(before && !after),
                    Some(Change::Prolonged) => prop_assert!(before && after),
                    None => prop_assert_eq!(before, after),
                }
                if change.is_some() {
                    let_through = None;
                }
                if let Some(at) = breaker.trial_at() {
                    let longest = SETTINGS.max_ejection_time.max(SETTINGS.patience);
                    prop_assert!(at <= now + longest, "a trial is never far away");
                }
            }
        }
    }
}
