//! What became of a submission whose outcome is unclear.
//!
//! Asks the cluster under the look-up key until it is *found*, or look-ups that the cluster itself
//! answered have shown nothing for long enough to prove it *absent*, or it is clear that nothing
//! ever can. While no look-up gets through it stays open, for as long as that takes. The same walk
//! serves a lost answer and a crash: how long the silence has lasted is kept in the row, so a
//! restart does not begin it anew.

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::proof::{self, Holder, Proof};
use livy_dialect::{FaultKind, LookupPlan, Observed, Operation, StateReading, UpstreamRequest};
use tokio::time::Instant;

use super::behind::{Behind, behind_refusal};
use super::look::{self, Looked, listed};
use super::whose;
use crate::fleet::Upstream;
use crate::gateway::Gateway;
use crate::observe::exchange::Exchange;
use crate::registry::decide::{self, Absence, Before, Hint, Silence, Terms, absence};
use crate::registry::{Entry, Known, Phase, Same};

/// The first pause between two look-ups; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often an absent submission is sent again to its cluster.
const REPEATS: u32 = 2;
/// How often what is open and has nobody is taken up.
pub const TAKE_UP: Duration = Duration::from_secs(5);

/// What is shown of a batch that nothing but its time of arrival ties to its submission.
const PRESUMED: &str = "the answer to the submission was lost; this is the only batch that the service has listed since, so it is presumed to be it";
const NOBODY_KNOWS: &str = "the answer to the submission was lost, and it may have run and been forgotten while nobody could ask; look at the cluster";
const SEVERAL: &str = "the answer to the submission was lost, and the service lists several batches since, which have all ended; it does not say which is this one";
const OPEN: &str = "the answer to the submission was lost, and the service lists several batches since; it does not say which is this one";
const NOT_LISTED: &str = "the answer to the submission was lost; its application is there, but the service does not list the batch, so nobody can ask for it by its number";
const ENDED: &str = "the answer to the submission was lost; its application has ended so, and the service does not list the batch";
const NOT_ALL: &str = "the answer to the submission was lost, and the cluster's list, which alone could show it, can't be read whole";
const PERHAPS: &str = "the answer to the submission was lost, and its cluster shows a batch that may be this one or another: of another user, from before, or under the number of a third";
const WAS_PERHAPS: &str = "the answer to the submission was lost, and a batch has ended that may have been this one or another; look at the cluster";
const ABSENT: &str = "the submission never reached the cluster; submit it again";

/// An open submission.
#[derive(Debug)]
pub struct Open {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Where it was sent.
    pub upstream: Arc<Upstream>,
    /// Its entry, in phase `sending`.
    pub entry: Arc<Entry>,
    /// What its cluster showed when it was not sent yet.
    pub before: Before,
    /// For the cluster's log.
    pub exchange: Arc<Exchange>,
    /// The last moment at which a byte of it can have left.
    pub last_byte: Instant,
    /// How long ago the last byte had left when this process took it up.
    pub waited_before: Duration,
    /// For how long look-ups have been showing nothing.
    pub silence: Silence,
    /// The batch server itself ended the POST with a 500: what is found may be the refusal's
    /// leftover.
    pub leftovers: bool,
    /// Another cluster may have it when this one answers no look-up for `settle`.
    pub gives_way: bool,
    /// The life of this process in which it was begun (`Registry::life`).
    pub life: u64,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It is that batch; the entry is bound.
    Found,
    /// What is there is the leftover of a refusal.
    Leftover,
    /// Proven: it did not arrive. The entry is open still.
    Absent,
    /// No look-up got through, and another cluster may have it. The entry is open still.
    NoAnswer,
    /// The entry has ended, with the reason in it.
    Ended,
    /// The gateway goes down: the next one goes on.
    Stopped,
}

/// What a look-up of any kind brought.
enum News {
    Found(Box<Observed>),
    /// This may be it, or another of its name.
    Perhaps(Box<Observed>),
    Nothing,
    /// IBM: what is new in the list, and whether nobody else is submitting.
    Hints(Vec<Observed>, bool),
    /// IBM: its application has ended so, and no row of the list has it.
    Ended(StateReading),
    Unanswered,
}

impl Open {
    /// Asks until it is clear. `request`, or one that a client hands over meanwhile, is sent again
    /// after proof of absence.
    pub async fn settle(mut self, request: Option<UpstreamRequest>) -> End {
        let Some(_asking) = self.gateway.board.begin_asking(self.entry.id, request) else {
            self.entry.resolved().await;
            return End::Ended;
        };
        for _ in 0..REPEATS {
            let end = self.look_until_clear().await;
            let (held, is_wanted) = self.entry.peek(|known| (!known.let_go, !known.kill_asked));
            // Where no key would tell the first one, should it come late, it is not sent again.
            let has_key =
                self.upstream.dialect().lookup(&self.entry.lookup) != LookupPlan::NewInList;
            let request = self
                .gateway
                .board
                .request(self.entry.id)
                .filter(|_| held && is_wanted && has_key && !self.upstream.health.is_ejected());
            match (end, request) {
                (End::Absent, Some(request)) => {
                    self.count("absent");
                    if let Some(end) = self.send_again(&request).await {
                        return end;
                    }
                }
                (end, _) => return self.counted(end),
            }
        }
        let end = self.look_until_clear().await;
        self.counted(end)
    }

    fn counted(&self, end: End) -> End {
        match end {
            End::Found => self.count("found"),
            End::Absent | End::Leftover => self.count("absent"),
            End::Ended | End::NoAnswer => self.count("unknown"),
            End::Stopped => {}
        }
        end
    }

    fn terms(&self, unseen: Duration) -> Terms {
        let config = &self.upstream.config;
        let (let_go, arrived) = self.entry.peek(|known| (known.let_go, known.arrived));
        let held_for = if let_go {
            config.settle
        } else {
            config.timeouts.create_batch.max(config.settle)
        };
        Terms {
            held_for,
            recovers_in: config.lost_after,
            remembers: self.upstream.dialect().remembers(),
            arrived,
            unseen,
        }
    }

    async fn look_until_clear(&mut self) -> End {
        let mut pause = FIRST_PAUSE;
        let mut answered = Instant::now();
        let mut unseen_since: Option<Instant> = None;
        loop {
            if !self.entry.is_open() {
                return if matches!(self.entry.phase(), Phase::Bound { .. }) {
                    End::Found
                } else {
                    End::Ended
                };
            }
            let asked = Instant::now();
            let news = self.look().await;
            let waited = self.waited_before + asked.saturating_duration_since(self.last_byte);
            match news {
                News::Unanswered => self.silence.begins_anew(),
                News::Perhaps(_) => {
                    answered = Instant::now();
                    self.silence.is_broken(answered);
                    self.gateway.registry.arrived(&self.entry);
                    unseen_since = None;
                }
                News::Found(_) | News::Nothing | News::Hints(..) | News::Ended(_) => {
                    answered = Instant::now();
                    self.silence.goes_on(asked, answered);
                    unseen_since.get_or_insert(asked);
                }
            }
            let terms = self.terms(unseen_since.map_or(Duration::ZERO, |since| since.elapsed()));
            let verdict = absence(&self.silence, waited, terms);
            let silent = (waited, Some(self.silence.lasts()));
            match news {
                News::Found(seen)
                    if self.leftovers && self.upstream.dialect().is_leftover(&seen) =>
                {
                    if has_ended(&seen) {
                        return End::Leftover;
                    }
                    // A job looks like that in its first moments.
                    if waited >= terms.held_for {
                        look::remove_leftover(&self.upstream, &seen, &self.exchange).await;
                        return End::Leftover;
                    }
                }
                News::Found(seen) => {
                    self.bind(&seen).await;
                    return End::Found;
                }
                // Whichever it was, it is over, and ours can't come any more.
                News::Perhaps(seen) if has_ended(&seen) && waited >= terms.held_for => {
                    return self.give_up(WAS_PERHAPS).await;
                }
                News::Perhaps(_) => {
                    self.gateway.registry.explain(&self.entry, PERHAPS);
                    self.note((waited, None));
                }
                News::Nothing => match verdict {
                    Absence::Proven => return End::Absent,
                    Absence::Unprovable => return self.give_up(NOBODY_KNOWS).await,
                    Absence::NotYet(_) => self.note(silent),
                },
                // No list shows it any more under its application, however long one looks.
                News::Ended(end) if waited >= terms.held_for => {
                    return self.ended_unlisted(&end).await;
                }
                News::Ended(_) => self.note((waited, None)),
                News::Hints(hints, alone) => match (hints.as_slice(), verdict) {
                    (_, Absence::NotYet(_)) => self.note(silent),
                    ([only], _) if alone => return self.presume(only).await,
                    (hints, _) if hints.iter().all(has_ended) => {
                        return self.give_up(SEVERAL).await;
                    }
                    _ => self.gateway.registry.explain(&self.entry, OPEN),
                },
                News::Unanswered
                    if self.gives_way
                        && self.entry.peek(Known::may_vanish)
                        && asked.saturating_duration_since(answered)
                            >= self.upstream.config.settle =>
                {
                    return End::NoAnswer;
                }
                News::Unanswered => self.note((waited, None)),
            }
            let wait = match verdict {
                Absence::NotYet(left) if !left.is_zero() => {
                    pause.min(left.max(Duration::from_millis(20)))
                }
                _ => pause,
            };
            tokio::select! {
                biased;
                () = self.gateway.stop.cancelled() => return End::Stopped,
                () = tokio::time::sleep(wait) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    fn note(&self, (waited, silence): (Duration, Option<Duration>)) {
        self.gateway.registry.looked(&self.entry, waited, silence);
    }

    async fn look(&self) -> News {
        let lookup = &self.entry.lookup;
        if self.upstream.dialect().lookup(lookup) == LookupPlan::NewInList {
            return self.look_at_what_is_new().await;
        }
        match look::look(&self.upstream, lookup, &self.exchange).await {
            Looked::Shows(seen) => {
                let (upstream, gateway) = (&self.upstream, &self.gateway);
                let (entry, before) = (&self.entry, &self.before);
                match whose::whose(upstream, gateway, entry, before, &seen, &self.exchange).await {
                    Same::Yes => News::Found(seen),
                    Same::No => News::Nothing,
                    Same::CannotTell => News::Perhaps(seen),
                }
            }
            Looked::Nothing => News::Nothing,
            Looked::NotAll => {
                self.gateway.registry.explain(&self.entry, NOT_ALL);
                News::Unanswered
            }
            Looked::Unanswered(error) => {
                tracing::debug!(batch = %self.entry.id, %error, "the look-up brought nothing");
                News::Unanswered
            }
        }
    }

    async fn look_at_what_is_new(&self) -> News {
        let Ok((list, whole)) = look::read_whole_list(&self.upstream, &self.exchange).await else {
            return News::Unanswered;
        };
        let key = &self.entry.lookup.key;
        if let Some(marked) = self.upstream.marked(key, &self.exchange).await {
            self.gateway.registry.arrived(&self.entry);
            if let Some(seen) = listed(&marked, list) {
                return News::Found(Box::new(seen));
            }
            // The list will show its application in a moment, or never again.
            self.gateway.registry.explain(&self.entry, NOT_LISTED);
            return if whole && is_end(&marked.state) {
                News::Ended(marked.state)
            } else {
                News::Unanswered
            };
        }
        let registry = &self.gateway.registry;
        let Ok(mut alone) = registry.was_alone(&self.entry).await else {
            return News::Unanswered;
        };
        let above = self.entry.above.unwrap_or(-1);
        let anew = decide::counts_anew(above, &list);
        let mut hints = Vec::new();
        for seen in list {
            let Ok(had) = registry.had_id(&self.entry, &seen.upstream_id).await else {
                return News::Unanswered;
            };
            match decide::hint(&self.before, &seen, anew, &had) {
                Hint::No => {}
                Hint::Perhaps => {
                    alone = false;
                    hints.push(seen);
                }
                Hint::Likely => {
                    // That the service shows all of `conf` is promised nowhere: it may be this one
                    // all the same, but it can't be presumed to be.
                    let app_id = seen.app_id.as_deref();
                    alone &= !self.upstream.marks.speak_against(key, app_id).await;
                    hints.push(seen);
                }
            }
        }
        match (hints.is_empty(), whole) {
            (false, _) => News::Hints(hints, alone && whole),
            (true, true) => News::Nothing,
            (true, false) => News::Unanswered,
        }
    }

    async fn presume(&self, seen: &Observed) -> End {
        tracing::warn!(batch = %self.entry.id, cluster = %self.entry.cluster, upstream_id = %seen.upstream_id, "presumed to be a submission whose answer was lost");
        self.upstream.gave_id(&seen.upstream_id);
        if let Err(error) = self
            .gateway
            .registry
            .presume(&self.entry, seen, PRESUMED)
            .await
        {
            tracing::error!(batch = %self.entry.id, %error, "a presumed batch could not be stored as such");
        }
        self.upstream
            .handles
            .entered(self.entry.peek(|known| known.state));
        End::Found
    }

    async fn give_up(&self, why: &str) -> End {
        tracing::error!(batch = %self.entry.id, cluster = %self.entry.cluster, why, "a submission's outcome will never be known");
        if let Err(error) = self.gateway.registry.give_up(&self.entry, why, true).await {
            tracing::error!(batch = %self.entry.id, %error, "the outcome of a submission could not be stored");
        }
        End::Ended
    }

    async fn ended_unlisted(&self, end: &StateReading) -> End {
        let registry = &self.gateway.registry;
        if let Err(error) = registry.ended_unlisted(&self.entry, end, ENDED).await {
            tracing::error!(batch = %self.entry.id, %error, "the outcome of a submission could not be stored");
        }
        End::Ended
    }

    async fn is_absent(&self, why: &str) -> End {
        if let Err(error) = self.gateway.registry.is_absent(&self.entry, why).await {
            tracing::error!(batch = %self.entry.id, %error, "the outcome of a submission could not be stored");
        }
        End::Ended
    }

    /// Sends it again after proof that it is not there. `None`: its outcome is unclear again.
    async fn send_again(&mut self, request: &UpstreamRequest) -> Option<End> {
        let dialect = self.upstream.dialect();
        self.leftovers = false;
        if self.gateway.registry.life() != self.life {
            // Another gateway may be sending it.
            return Some(End::Stopped);
        }
        if let Err(error) = self.gateway.registry.send_again(&self.entry).await {
            tracing::error!(batch = %self.entry.id, %error, "an absent submission is not sent again: that could not be stored");
            return None;
        }
        // Storing that may have taken long enough to be taken for dead.
        if self.gateway.registry.life() != self.life {
            return Some(End::Stopped);
        }
        self.silence = Silence::since_sending(Instant::now());
        let sent = self
            .upstream
            .send(Operation::CreateBatch, request, &self.exchange)
            .await;
        (self.last_byte, self.waited_before) = (Instant::now(), Duration::ZERO);
        let Ok(answer) = sent else {
            self.gateway.registry.sent(&self.entry, false);
            return None;
        };
        match proof::of_create(dialect, &self.entry.lookup, &answer.as_response()) {
            Proof::Created(seen) => {
                let (upstream, gateway) = (&self.upstream, &self.gateway);
                let (entry, before, exchange) = (&self.entry, &self.before, &self.exchange);
                if !whose::is_believable(upstream, gateway, entry, before, &seen, exchange).await {
                    self.before.named = seen.name.as_ref().map(|_| seen.upstream_id.clone());
                    self.gateway.registry.sent(&self.entry, true);
                    return None;
                }
                self.bind(&seen).await;
                Some(self.counted(End::Found))
            }
            Proof::NotCreated(fault)
                if matches!(fault.kind, FaultKind::Refused | FaultKind::Forbidden) =>
            {
                match behind_refusal(
                    &self.upstream,
                    &self.gateway,
                    &self.entry,
                    &self.before,
                    &fault,
                    &self.exchange,
                )
                .await
                {
                    Behind::Nothing => {}
                    Behind::Shows(seen) => {
                        self.bind(&seen).await;
                        return Some(self.counted(End::Found));
                    }
                    Behind::Unknown => {
                        self.gateway.registry.sent(&self.entry, true);
                        self.silence.begins_anew();
                        return None;
                    }
                }
                let reason = format!(
                    "the cluster refused the submission when it was sent again: {}",
                    fault.message
                );
                Some(self.is_absent(&reason).await)
            }
            // The name is taken, or there is no room: whatever look-ups showed, it may be there.
            Proof::NotCreated(_) => {
                self.gateway.registry.sent(&self.entry, true);
                self.silence.begins_anew();
                None
            }
            // The first one arrived after all: the name is its own.
            Proof::Exists(_) => {
                self.gateway.registry.sent(&self.entry, true);
                self.gateway.registry.arrived(&self.entry);
                self.silence.begins_anew();
                None
            }
            Proof::Unclear(_, holder) => {
                self.gateway
                    .registry
                    .sent(&self.entry, holder == Holder::Nobody);
                None
            }
        }
    }

    async fn bind(&self, seen: &Observed) {
        self.upstream.gave_id(&seen.upstream_id);
        if let Err(error) = self.gateway.registry.bind(&self.entry, seen).await {
            tracing::error!(batch = %self.entry.id, %error, "a batch that exists could not be stored");
        }
        self.upstream
            .handles
            .entered(self.entry.peek(|known| known.state));
    }

    fn count(&self, resolution: &str) {
        let labels = [self.entry.cluster.as_str(), resolution];
        self.gateway
            .metrics
            .ambiguous_submissions_total
            .with_label_values(&labels)
            .inc();
    }
}

fn has_ended(seen: &Observed) -> bool {
    is_end(&seen.state)
}

fn is_end(state: &StateReading) -> bool {
    matches!(state, StateReading::Known(state) if state.is_terminal())
}

/// Takes up every submission that is open and has nobody: its process ended, or its task did.
pub async fn take_up(gateway: &Arc<Gateway>) {
    let pending = match gateway.registry.take_over().await {
        Ok(pending) => pending,
        Err(error) => return tracing::error!(%error, "open submissions can't be read"),
    };
    let snapshot = gateway.snapshot.load_full();
    // One that was recorded a moment ago is just being put on the board by whoever sends it.
    let is_young = |entry: &Arc<Entry>| gateway.registry.clock().is_recent(entry.created, TAKE_UP);
    for entry in pending
        .into_iter()
        .filter(|entry| !gateway.board.is_under_way(entry.id) && !is_young(entry))
    {
        let Some(upstream) = snapshot.upstream_of(&entry) else {
            tracing::warn!(batch = %entry.id, cluster = %entry.cluster, "a submission is open at a cluster that is not configured");
            continue;
        };
        tracing::warn!(batch = %entry.id, cluster = %entry.cluster, "a submission was left open; asking the cluster");
        gateway
            .tasks
            .spawn(resume(gateway.clone(), upstream.clone(), entry));
    }
}

/// By so much a clock may be set back when it is kept right.
const SET_RIGHT_MS: i64 = 5000;

/// Returns how long nobody can have looked, if that is known: a clock that went back says nothing.
fn gap(away_ms: i64) -> Option<Duration> {
    match u64::try_from(away_ms) {
        Ok(away) => Some(Duration::from_millis(away)),
        Err(_) if away_ms >= -SET_RIGHT_MS => Some(Duration::ZERO),
        Err(_) => None,
    }
}

async fn resume(gateway: Arc<Gateway>, upstream: Arc<Upstream>, entry: Arc<Entry>) {
    let (quiet_ms, waited_ms, looked_ms) =
        entry.peek(|known| (known.quiet_ms, known.waited_ms, known.looked_ms));
    let span = |ms: i64| u64::try_from(ms).map(Duration::from_millis);
    // By the wall clock, and only as a veto: a look-up that comes too late proves nothing.
    let away_ms = gateway
        .registry
        .clock()
        .now()
        .wall_ms
        .saturating_sub(looked_ms.max(entry.created.wall_ms));
    let now = Instant::now();
    let open = Open {
        gateway: gateway.clone(),
        upstream,
        entry: entry.clone(),
        before: decide::before(&entry),
        exchange: Arc::default(),
        // When its sender ended is not known; it was not after this moment.
        last_byte: now,
        waited_before: span(waited_ms).unwrap_or_default(),
        silence: Silence::taken_up(span(quiet_ms).unwrap_or_default(), gap(away_ms), now),
        leftovers: false,
        gives_way: false,
        life: gateway.registry.life(),
    };
    let reason = match open.settle(None).await {
        End::Absent => ABSENT,
        End::Leftover => "the cluster refused the submission",
        End::Found | End::NoAnswer | End::Ended | End::Stopped => return,
    };
    if let Err(error) = gateway.registry.is_absent(&entry, reason).await {
        tracing::error!(batch = %entry.id, %error, "the outcome of a submission could not be stored");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_went_back_bounds_no_gap() {
        assert_eq!(gap(1500), Some(Duration::from_millis(1500)));
        assert_eq!(gap(-1), Some(Duration::ZERO));
        assert_eq!(gap(-3_600_000), None);
    }
}
