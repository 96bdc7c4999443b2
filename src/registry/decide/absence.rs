//! When look-ups that show nothing are proof.
//!
//! Two spans are told apart. *Waited* is the time since the last byte of the submission left: for
//! so long something in between may hold it, and that ends whether anybody answers or not. A
//! *silence* is made of look-ups that the cluster answered, one after the other: time in which
//! nobody answered is no silence, and a cluster that was away may not know yet what it has.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest time from the last answer of a cluster's server to the first one of its next
/// process: a Livy's JVM alone takes longer. What lies closer together, the same process said.
const SHORTEST_RESTART: Duration = Duration::from_secs(7);

/// Answered look-ups that show nothing, one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Silence {
    /// How long it lasted in earlier processes of the gateway.
    before: Duration,
    /// When the first and the newest look-up of it were asked.
    span: Option<(Instant, Instant)>,
    /// When the cluster last answered, as far as that is known.
    heard: Instant,
    /// The cluster may have restarted since the submission was sent.
    away: bool,
    longest_gap: Duration,
}

impl Silence {
    /// Begins with a submission that left at this moment; its cluster was there then.
    pub fn since_sending(sent: Instant) -> Silence {
        Silence {
            before: Duration::ZERO,
            span: None,
            heard: sent,
            away: false,
            longest_gap: Duration::ZERO,
        }
    }

    /// Begins with a look-up that was asked at this moment.
    pub fn since_asking(asked: Instant) -> Silence {
        Silence::since_sending(asked)
    }

    /// Goes on with the silence of an earlier process, whose last look-up was answered `gap` ago,
    /// if that is known. Whatever ended that process may have ended the cluster's too.
    pub fn taken_up(before: Duration, gap: Option<Duration>, now: Instant) -> Silence {
        let unbroken = gap.is_some_and(|gap| gap < SHORTEST_RESTART);
        Silence {
            before: if unbroken { before } else { Duration::ZERO },
            span: None,
            heard: now,
            away: true,
            // What has no bound may have been long enough to forget.
            longest_gap: gap.unwrap_or(Duration::MAX),
        }
    }

    /// Notes a look-up that the cluster itself answered, and that does not show the submission.
    pub fn goes_on(&mut self, asked: Instant, answered: Instant) {
        let gap = asked.saturating_duration_since(self.heard);
        self.longest_gap = self.longest_gap.max(gap);
        if gap >= SHORTEST_RESTART {
            self.begins_anew();
        }
        let (first, newest) = self.span.unwrap_or((asked, asked));
        // Two that were under way side by side may be answered in another order.
        self.span = Some((first.min(asked), newest.max(asked)));
        self.heard = self.heard.max(answered);
    }

    /// Notes that the cluster did not answer, or that what it said was not true: it may be another
    /// process from now on.
    pub fn begins_anew(&mut self) {
        (self.before, self.span, self.away) = (Duration::ZERO, None, true);
    }

    /// Notes a look-up that the cluster answered with what may be the submission: no silence, but
    /// no time either in which it could have come and gone unseen.
    pub fn is_broken(&mut self, answered: Instant) {
        (self.before, self.span) = (Duration::ZERO, None);
        self.heard = self.heard.max(answered);
    }

    /// Returns how long it has lasted.
    pub fn lasts(&self) -> Duration {
        self.before
            + self.span.map_or(Duration::ZERO, |(first, newest)| {
                newest.saturating_duration_since(first)
            })
    }
}

/// What makes a silence proof.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long something in between may hold the request: `create_batch`, or `settle` once it has
    /// been answered.
    pub held_for: Duration,
    /// How long a cluster that was away may not know what it has: `lost_after`.
    pub recovers_in: Duration,
    /// For how long the cluster shows what has ended.
    pub remembers: Duration,
    /// It is known that it did arrive.
    pub arrived: bool,
    /// For how long no look-up has shown it, whatever went unanswered meanwhile.
    pub unseen: Duration,
}

/// What the silence proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Nothing for at least so long.
    NotYet(Duration),
    /// It did not arrive.
    Proven,
    /// It may have arrived, ended, and been forgotten while nobody looked.
    Unprovable,
}

/// Judges a silence. `waited`: how long after the last byte of the submission the newest answered
/// look-up was asked, over all processes.
pub fn absence(silence: &Silence, waited: Duration, terms: Terms) -> Absence {
    let needed = if silence.away {
        terms.recovers_in
    } else {
        terms.held_for
    };
    let left = |needed: Duration| {
        let silent = needed.saturating_sub(silence.lasts());
        silent.max(terms.held_for.saturating_sub(waited))
    };
    if !left(needed).is_zero() || silence.span.is_none() {
        Absence::NotYet(left(needed))
    } else if silence.longest_gap >= terms.remembers {
        Absence::Unprovable
    } else if !terms.arrived {
        Absence::Proven
    } else if left(terms.remembers).is_zero()
        || (left(terms.recovers_in).is_zero() && terms.unseen >= terms.remembers)
    {
        // It was there, and has been forgotten. That some look-ups were not answered meanwhile brings
        // nothing back.
        Absence::Unprovable
    } else {
        Absence::NotYet(left(terms.remembers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTLE: Duration = Duration::from_secs(10);
    const RECOVERS: Duration = Duration::from_secs(30);

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn terms(held_for: Duration) -> Terms {
        Terms {
            held_for,
            recovers_in: RECOVERS,
            remembers: secs(540),
            arrived: false,
            unseen: Duration::ZERO,
        }
    }

    /// Look-ups at these seconds after the send, all answered at once with nothing.
    fn looked(silence: &mut Silence, began: Instant, at: impl IntoIterator<Item = u64>) {
        for at in at {
            silence.goes_on(began + secs(at), began + secs(at));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_must_be_long_and_without_gaps() {
        let began = Instant::now();
        let mut silence = Silence::since_sending(began);
        looked(&mut silence, began, 0..6);
        let verdict = |silence: &Silence, waited| absence(silence, secs(waited), terms(secs(120)));
        assert_eq!(
            verdict(&silence, 5),
            Absence::NotYet(secs(115)),
            "five seconds of 404 are no proof"
        );
        looked(&mut silence, began, (6..=120).step_by(3));
        looked(&mut silence, began, [120]);
        assert_eq!(verdict(&silence, 120), Absence::Proven);
        looked(&mut silence, began, (720..=750).step_by(5));
        assert_eq!(
            verdict(&silence, 750),
            Absence::Unprovable,
            "it may have come and gone"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_answers_is_no_silence() {
        let began = Instant::now();
        let mut silence = Silence::since_sending(began);
        looked(&mut silence, began, [1, 2]);
        silence.begins_anew();
        looked(&mut silence, began, [20]);
        assert_eq!(
            absence(&silence, secs(20), terms(SETTLE)),
            Absence::NotYet(RECOVERS),
            "one 404 of a cluster that was away"
        );
        looked(&mut silence, began, (21..=50).step_by(3));
        assert_eq!(
            absence(&silence, secs(48), terms(SETTLE)),
            Absence::NotYet(secs(2))
        );
        looked(&mut silence, began, [50]);
        assert_eq!(absence(&silence, secs(50), terms(SETTLE)), Absence::Proven);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_in_which_a_cluster_can_restart_breaks_it() {
        let began = Instant::now();
        let mut silence = Silence::since_sending(began);
        // The answer to the submission itself took its time.
        looked(&mut silence, began, [8, 12, 18]);
        assert_eq!(
            absence(&silence, secs(18), terms(SETTLE)),
            Absence::NotYet(secs(20))
        );
        looked(&mut silence, began, [26]);
        assert_eq!(silence.lasts(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_of_the_gateway_goes_on_with_it() {
        let now = Instant::now();
        let verdict = |before, gap: Option<u64>| {
            let mut silence = Silence::taken_up(secs(before), gap.map(secs), now);
            looked(&mut silence, now, [0, 5]);
            absence(&silence, secs(125), terms(secs(120)))
        };
        assert_eq!(verdict(25, Some(3)), Absence::Proven);
        assert_eq!(
            verdict(20, Some(3)),
            Absence::NotYet(secs(5)),
            "its cluster may have restarted too"
        );
        assert_eq!(verdict(100, Some(9)), Absence::NotYet(secs(25)));
        assert_eq!(
            verdict(100, None),
            Absence::NotYet(secs(25)),
            "the wall clock went back"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_did_arrive_is_never_absent() {
        let began = Instant::now();
        let arrived = Terms {
            arrived: true,
            ..terms(SETTLE)
        };
        let mut silence = Silence::since_sending(began);
        looked(&mut silence, began, (0..=100).step_by(5));
        assert_eq!(
            absence(&silence, secs(100), arrived),
            Absence::NotYet(secs(440))
        );
        looked(&mut silence, began, (100..=540).step_by(5));
        assert_eq!(absence(&silence, secs(540), arrived), Absence::Unprovable);
        let mut broken = Silence::since_sending(began);
        looked(&mut broken, began, (0..=100).step_by(5));
        let unseen = |secs| Terms {
            unseen: Duration::from_secs(secs),
            ..arrived
        };
        assert_eq!(
            absence(&broken, secs(1_000), unseen(539)),
            Absence::NotYet(secs(440))
        );
        assert_eq!(
            absence(&broken, secs(1_000), unseen(540)),
            Absence::Unprovable,
            "what was not answered in between brings nothing back"
        );
    }
}
