//! What became of a submission whose answer was lost.
//!
//! Asks the cluster under the look-up key until it says so: *found* (it is that batch), *absent* (proven: it is sent again where that can't
//! double, else it ends), or *unknown* (nothing can ever prove it: it ends as `error` and says why). The same walk serves a lost answer
//! and a crash; after a crash the request itself is gone, for it may hold secrets and is never stored.

use std::sync::Arc;
use std::time::{Duration, Instant};

use livy_dialect::{FaultKind, Observed, Operation, UpstreamRequest};

use crate::registry::{Entry, Phase};
use crate::runtime::Gateway;
use crate::upstream::{AskError, Errand, Upstream};

/// How long "not there" must hold before it counts: a POST that was cut off may still be on its way through the cluster's queue.
const SETTLE: Duration = Duration::from_secs(5);
/// The same where a second POST could meet the first one and kill it (Kyuubi).
const SETTLE_UNSAFE: Duration = Duration::from_secs(15);
/// How long a cluster that does not answer is asked before the matter is closed.
const GIVE_UP: Duration = Duration::from_secs(600);
/// The first pause between two look-ups; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often an absent submission is sent again.
const REPEATS: u32 = 2;

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
    pub errand: Arc<Errand>,
    /// The request, where it is still at hand.
    pub repeat: Option<UpstreamRequest>,
    /// The batch server itself ended the POST with a 500: what is found may be the refusal's leftover.
    pub answered_by_server: bool,
}

enum Finding {
    Found,
    Leftover,
    Absent,
    Unknown(&'static str),
    /// The gateway goes down: the entry stays pending in the database, and the next start goes on.
    Stopped,
}

impl Open {
    /// Resolves it; ends when the entry has left phase `sending`.
    pub async fn run(mut self) {
        let mut repeats = 0;
        loop {
            let finding = self.look().await;
            match finding {
                Finding::Absent if repeats < REPEATS && self.repeat.is_some() => {
                    repeats += 1;
                    self.count("absent");
                    if self.send_again().await {
                        return;
                    }
                }
                finding => return self.close(finding).await,
            }
        }
    }

    async fn close(&self, finding: Finding) {
        let registry = &self.gateway.registry;
        let result = match finding {
            Finding::Found => {
                self.count("found");
                Ok(())
            }
            Finding::Leftover => {
                self.count("absent");
                registry.refuse(&self.entry, "the cluster refused the submission").await
            }
            Finding::Absent => {
                self.count("absent");
                registry.give_up(&self.entry, "the submission never reached the cluster; submit it again").await
            }
            Finding::Unknown(why) => {
                self.count("unknown");
                tracing::error!(batch = %self.entry.id, cluster = %self.entry.cluster, why, "a submission's outcome will never be known");
                registry.give_up(&self.entry, why).await
            }
            Finding::Stopped => Ok(()),
        };
        if let Err(error) = result {
            tracing::error!(batch = %self.entry.id, %error, "the outcome of a submission could not be stored");
        }
    }

    /// Looks the submission up until the cluster has said the same for long enough.
    async fn look(&self) -> Finding {
        let dialect = self.upstream.dialect();
        let Some(request) = dialect.lookup(&self.entry.lookup) else {
            return Finding::Unknown("the answer to the submission was lost, and this cluster has no way to look it up; it may be running");
        };
        let settle = if dialect.repeat_is_safe() { SETTLE } else { SETTLE_UNSAFE };
        let started = Instant::now();
        let mut absent_since: Option<Instant> = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let answer = self.upstream.ask(Operation::GetBatch, &request, &self.errand, |response| dialect.decode_get(response)).await;
            match answer {
                Ok(observed) if self.answered_by_server && dialect.is_leftover(&observed) => return Finding::Leftover,
                Ok(observed) => {
                    self.bind(&observed).await;
                    return Finding::Found;
                }
                Err(AskError::Fault(fault)) if fault.kind == FaultKind::NotFound => {
                    let since = *absent_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= settle {
                        return Finding::Absent;
                    }
                }
                Err(error) => {
                    absent_since = None;
                    tracing::debug!(batch = %self.entry.id, %error, "the look-up brought nothing");
                }
            }
            if started.elapsed() > GIVE_UP {
                return Finding::Unknown(
                    "the answer to the submission was lost, and the cluster did not answer any look-up; it may be running",
                );
            }
            tokio::select! {
                () = self.gateway.stop.cancelled() => return Finding::Stopped,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    /// Sends it again after proof that it is not there. True when that settled the matter.
    async fn send_again(&mut self) -> bool {
        let Some(request) = self.repeat.clone() else { return false };
        let dialect = self.upstream.dialect();
        self.answered_by_server = false;
        let Ok(answer) = self.upstream.send(Operation::CreateBatch, &request, &self.errand).await else { return false };
        match dialect.decode_create(&answer.as_response()) {
            Ok(observed) => {
                self.bind(&observed).await;
                true
            }
            // The first one arrived after all: the name is its own.
            Err(fault) if fault.kind == FaultKind::DuplicateName => false,
            Err(fault) if fault.kind == FaultKind::Refused || fault.kind == FaultKind::Forbidden => {
                let reason = format!("the cluster refused the submission when it was sent again: {}", fault.message);
                if let Err(error) = self.gateway.registry.give_up(&self.entry, &reason).await {
                    tracing::error!(batch = %self.entry.id, %error, "a refused submission could not be stored");
                }
                true
            }
            Err(_) => false,
        }
    }

    async fn bind(&self, observed: &Observed) {
        if let Err(error) = self.gateway.registry.bind(&self.entry, observed).await {
            tracing::error!(batch = %self.entry.id, %error, "a batch that exists could not be stored");
        }
    }

    fn count(&self, resolution: &str) {
        let labels = [self.entry.cluster.as_str(), resolution];
        self.gateway.metrics.ambiguous_submissions_total.with_label_values(&labels).inc();
    }
}

/// Takes up every submission that an earlier process recorded and did not resolve.
pub async fn resume(gateway: &Arc<Gateway>) {
    let pending = match gateway.registry.pending().await {
        Ok(pending) => pending,
        Err(error) => return tracing::error!(%error, "submissions that a crash left open can't be read"),
    };
    let snapshot = gateway.snapshot.load_full();
    // What was recorded since this process began is on its way, not left over.
    let left_over = pending.into_iter().filter(|entry| entry.created_ms < gateway.started_ms && entry.phase() == Phase::Sending);
    for entry in left_over {
        let Some(upstream) = snapshot.upstream_of(&entry) else {
            tracing::warn!(batch = %entry.id, cluster = %entry.cluster, "a submission was left open for a cluster that is not configured");
            continue;
        };
        tracing::warn!(batch = %entry.id, cluster = %entry.cluster, "a submission was left open by an earlier process; asking the cluster");
        let open = Open {
            gateway: gateway.clone(),
            upstream: upstream.clone(),
            entry,
            errand: Arc::default(),
            repeat: None,
            answered_by_server: false,
        };
        gateway.tasks.spawn(open.run());
    }
}
