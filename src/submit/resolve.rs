//! What became of a submission whose outcome is unclear.
//!
//! Asks the cluster under the look-up key until it is *found*, or look-ups that the cluster itself
//! answered have shown nothing for long enough to prove it *absent*, or it is clear that nothing
//! ever can. While no look-up gets through it stays open, for as long as that takes. The same walk
//! serves a lost answer and a crash: how long the silence has lasted is kept in the row, so a
//! restart does not begin it anew.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use livy_dialect::proof::{self, Holder, Proof};
use livy_dialect::{
    FaultKind, LookupPlan, Observed, Operation, StateReading, UpstreamRequest, ibm,
};
use tokio::time::Instant;

use super::look::{self, Looked};
use crate::fleet::Upstream;
use crate::gateway::Gateway;
use crate::observe::exchange::Exchange;
use crate::registry::decide::{Absence, Silence, absence};
use crate::registry::{Entry, Phase};

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
    /// For the cluster's log.
    pub exchange: Arc<Exchange>,
    /// The last moment at which a byte of it can have left.
    pub last_byte: Instant,
    /// For how long look-ups had shown nothing when this process took it up.
    pub quiet_before: Duration,
    /// The longest time without an answered look-up so far.
    pub longest_gap: Duration,
    /// The batch server itself ended the POST with a 500: what is found may be the refusal's
    /// leftover.
    pub leftovers: bool,
    /// Another cluster may have it when this one answers no look-up for `settle`.
    pub gives_way: bool,
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
    Nothing,
    /// IBM: what is new in the list, and whether nobody else is submitting.
    Hints(Vec<Observed>, bool),
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
            let held = !self.entry.peek(|known| known.let_go);
            // Where no key would tell the first one, should it come late, it is not sent again.
            let has_key =
                self.upstream.dialect().lookup(&self.entry.lookup) != LookupPlan::NewInList;
            let request = self
                .gateway
                .board
                .request(self.entry.id)
                .filter(|_| held && has_key && !self.upstream.health.is_ejected());
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

    fn required(&self) -> Duration {
        let config = &self.upstream.config;
        if self.entry.peek(|known| known.let_go) {
            config.settle
        } else {
            config.timeouts.create_batch.max(config.settle)
        }
    }

    async fn look_until_clear(&mut self) -> End {
        let mut pause = FIRST_PAUSE;
        let mut answered = Instant::now();
        let mut inspected = HashSet::new();
        loop {
            if !self.entry.is_open() {
                return if matches!(self.entry.phase(), Phase::Bound { .. }) {
                    End::Found
                } else {
                    End::Ended
                };
            }
            let asked = Instant::now();
            let news = self.look(&mut inspected).await;
            if !matches!(news, News::Unanswered) {
                self.longest_gap = self
                    .longest_gap
                    .max(asked.saturating_duration_since(answered));
                answered = asked;
            }
            let quiet = self.quiet_before + asked.saturating_duration_since(self.last_byte);
            let silence = Silence {
                quiet,
                required: self.required(),
                longest_gap: self.longest_gap,
                remembers: self.upstream.dialect().remembers(),
            };
            let verdict = absence(silence);
            match news {
                News::Found(seen)
                    if self.leftovers && self.upstream.dialect().is_leftover(&seen) =>
                {
                    return End::Leftover;
                }
                News::Found(seen) => {
                    self.bind(&seen).await;
                    return End::Found;
                }
                News::Nothing => match verdict {
                    Absence::Proven => return End::Absent,
                    Absence::Unprovable => return self.give_up(NOBODY_KNOWS).await,
                    Absence::NotYet => self.gateway.registry.silent_for(&self.entry, quiet),
                },
                News::Hints(hints, alone) => match (hints.as_slice(), verdict) {
                    (_, Absence::NotYet) => self.gateway.registry.silent_for(&self.entry, quiet),
                    ([only], _) if alone => return self.presume(only).await,
                    (hints, _) if hints.iter().all(has_ended) => {
                        return self.give_up(SEVERAL).await;
                    }
                    _ => self.gateway.registry.explain(&self.entry, OPEN),
                },
                News::Unanswered
                    if self.gives_way
                        && asked.saturating_duration_since(answered)
                            >= self.upstream.config.settle =>
                {
                    return End::NoAnswer;
                }
                News::Unanswered => {}
            }
            let left = silence.required.saturating_sub(quiet);
            let wait = if left.is_zero() {
                pause
            } else {
                pause.min(left.max(Duration::from_millis(20)))
            };
            tokio::select! {
                () = self.gateway.stop.cancelled() => return End::Stopped,
                () = tokio::time::sleep(wait) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    async fn look(&self, inspected: &mut HashSet<String>) -> News {
        let lookup = &self.entry.lookup;
        if self.upstream.dialect().lookup(lookup) == LookupPlan::NewInList {
            return self.look_at_what_is_new(inspected).await;
        }
        match look::look(&self.upstream, lookup, &self.exchange).await {
            Looked::Shows(seen) => match self.gateway.registry.is_ours(&self.entry, &seen).await {
                Ok(true) => News::Found(seen),
                Ok(false) => News::Nothing,
                Err(error) => {
                    tracing::error!(batch = %self.entry.id, %error, "it can't be told whose the batch is that was found");
                    News::Unanswered
                }
            },
            Looked::Nothing => News::Nothing,
            Looked::Unanswered(error) => {
                tracing::debug!(batch = %self.entry.id, %error, "the look-up brought nothing");
                News::Unanswered
            }
        }
    }

    async fn look_at_what_is_new(&self, inspected: &mut HashSet<String>) -> News {
        let Ok(list) = look::read_list(&self.upstream, &self.exchange).await else {
            return News::Unanswered;
        };
        if let Some(spark_id) = self.marked_application(inspected).await {
            return match list
                .into_iter()
                .find(|seen| seen.app_id.as_ref() == Some(&spark_id))
            {
                Some(seen) => News::Found(Box::new(seen)),
                // It is there; the list will show its application in a moment.
                None => News::Unanswered,
            };
        }
        let (Ok((bound, _)), Ok(pending)) = (
            self.gateway.registry.bound_ids(&self.entry.cluster).await,
            self.gateway.registry.pending().await,
        ) else {
            return News::Unanswered;
        };
        let above = self.entry.above.unwrap_or(-1);
        let is_new = |seen: &Observed| {
            seen.upstream_id.parse::<i64>().is_ok_and(|id| id > above)
                && !bound.contains(&seen.upstream_id)
        };
        let hints: Vec<Observed> = list.into_iter().filter(is_new).collect();
        let alone = !pending
            .iter()
            .any(|other| other.id != self.entry.id && other.cluster == self.entry.cluster);
        if hints.is_empty() {
            News::Nothing
        } else {
            News::Hints(hints, alone)
        }
    }

    /// Looks for the marker that went along in `conf` among the applications of the service;
    /// returns Spark's id of the one that has it.
    async fn marked_application(&self, inspected: &mut HashSet<String>) -> Option<String> {
        let path = self
            .upstream
            .dialect()
            .applications(&self.upstream.config.base.path)?;
        let answer = self
            .upstream
            .read_beside(&path, &self.exchange)
            .await
            .ok()?;
        for application in ibm::read_applications(&answer.as_response())? {
            if inspected.contains(&application.id) {
                continue;
            }
            let detail = format!("{path}/{}", livy_dialect::wire::segment(&application.id));
            let answer = self
                .upstream
                .read_beside(&detail, &self.exchange)
                .await
                .ok()?;
            let Some(detail) = ibm::read_application(&answer.as_response()) else {
                continue;
            };
            if detail.key.as_deref() == Some(self.entry.lookup.key.as_str()) {
                return detail.spark_id;
            }
            inspected.insert(application.id);
        }
        None
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

    /// Sends it again after proof that it is not there. `None`: its outcome is unclear again.
    async fn send_again(&mut self, request: &UpstreamRequest) -> Option<End> {
        let dialect = self.upstream.dialect();
        self.leftovers = false;
        if let Err(error) = self.gateway.registry.send_again(&self.entry).await {
            tracing::error!(batch = %self.entry.id, %error, "an absent submission is not sent again: that could not be stored");
            return None;
        }
        let sent = self
            .upstream
            .send(Operation::CreateBatch, request, &self.exchange)
            .await;
        (self.last_byte, self.quiet_before) = (Instant::now(), Duration::ZERO);
        let Ok(answer) = sent else {
            self.gateway.registry.sent(&self.entry, false);
            return None;
        };
        match proof::of_create(dialect, &self.entry.lookup, &answer.as_response()) {
            Proof::Created(seen) => {
                self.bind(&seen).await;
                Some(self.counted(End::Found))
            }
            Proof::NotCreated(fault)
                if fault.kind == FaultKind::Refused || fault.kind == FaultKind::Forbidden =>
            {
                let reason = format!(
                    "the cluster refused the submission when it was sent again: {}",
                    fault.message
                );
                Some(self.give_up(&reason).await)
            }
            // The first one arrived after all: the name is its own.
            Proof::NotCreated(_) => {
                self.gateway.registry.sent(&self.entry, true);
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
    matches!(seen.state, StateReading::Known(state) if state.is_terminal())
}

/// Takes up every submission that is open and has nobody: its process ended, or its task did.
pub async fn take_up(gateway: &Arc<Gateway>) {
    let pending = match gateway.registry.pending().await {
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

/// Returns how long nobody can have looked. A clock that went back says nothing about that.
fn gap(away_ms: i64) -> Duration {
    u64::try_from(away_ms).map_or(Duration::MAX, Duration::from_millis)
}

async fn resume(gateway: Arc<Gateway>, upstream: Arc<Upstream>, entry: Arc<Entry>) {
    let (quiet_ms, looked_ms) = entry.peek(|known| (known.quiet_ms, known.looked_ms));
    // By the wall clock, and only as a veto: a look-up that comes too late proves nothing.
    let away_ms = gateway
        .registry
        .clock()
        .now()
        .wall_ms
        .saturating_sub(looked_ms.max(entry.created.wall_ms));
    let open = Open {
        gateway: gateway.clone(),
        upstream,
        entry: entry.clone(),
        exchange: Arc::default(),
        // When its sender ended is not known; it was not after this moment.
        last_byte: Instant::now(),
        quiet_before: Duration::from_millis(u64::try_from(quiet_ms).unwrap_or(0)),
        longest_gap: gap(away_ms),
        leftovers: false,
        gives_way: false,
    };
    let reason = match open.settle(None).await {
        End::Absent => ABSENT,
        End::Leftover => "the cluster refused the submission",
        End::Found | End::NoAnswer | End::Ended | End::Stopped => return,
    };
    if let Err(error) = gateway.registry.give_up(&entry, reason, true).await {
        tracing::error!(batch = %entry.id, %error, "the outcome of a submission could not be stored");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_went_back_bounds_no_gap() {
        assert_eq!(gap(1500), Duration::from_millis(1500));
        assert_eq!(gap(-3_600_000), Duration::MAX);
    }
}
