//! One batch in memory: the identity that never changes, and what is known.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use livy_dialect::{AppInfo, Batch, BatchRef, BatchState, Lookup, Observed};
use tokio::sync::watch;
use tokio::time::Instant;

use super::GatewayId;
use super::decide::{Same, Silence, same_if};
use super::store::Row;
use crate::clock::Moment;

/// Where a batch is in its life. Goes forward only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Recorded; whether it was created is not known (yet).
    Sending,
    /// It exists.
    Bound {
        /// Its id at the cluster.
        upstream_id: String,
    },
    /// It never came to be. Nobody sees it.
    Refused,
    /// It has ended as far as anybody can tell: its cluster forgot it, or gave its id to another
    /// batch, or never knew.
    Detached {
        /// The id that it had.
        upstream_id: Option<String>,
    },
    /// Its owner deleted it. 404 from then on.
    Deleted {
        /// The id that it had.
        upstream_id: Option<String>,
    },
}

impl Phase {
    /// Returns the word in the database.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Phase::Sending => "sending",
            Phase::Bound { .. } => "bound",
            Phase::Refused => "refused",
            Phase::Detached { .. } => "detached",
            Phase::Deleted { .. } => "deleted",
        }
    }

    /// Reads the word of the database; what is half there is treated as gone.
    pub fn from_columns(word: &str, upstream_id: Option<String>) -> Phase {
        match (word, upstream_id) {
            ("sending", _) => Phase::Sending,
            ("bound", Some(upstream_id)) => Phase::Bound { upstream_id },
            ("refused", _) => Phase::Refused,
            ("deleted", upstream_id) => Phase::Deleted { upstream_id },
            (_, upstream_id) => Phase::Detached { upstream_id },
        }
    }

    /// Returns the id at the cluster.
    pub fn upstream_id(&self) -> Option<&str> {
        match self {
            Phase::Bound { upstream_id } => Some(upstream_id),
            Phase::Detached { upstream_id } | Phase::Deleted { upstream_id } => {
                upstream_id.as_deref()
            }
            Phase::Sending | Phase::Refused => None,
        }
    }

    /// Orders phases: what is higher came later.
    pub const fn rank(&self) -> u8 {
        match self {
            Phase::Sending => 0,
            Phase::Bound { .. } => 1,
            Phase::Refused => 2,
            Phase::Detached { .. } => 3,
            Phase::Deleted { .. } => 4,
        }
    }

    /// Tells whether clients may know of it.
    pub const fn is_visible(&self) -> bool {
        match self {
            Phase::Sending | Phase::Bound { .. } | Phase::Detached { .. } => true,
            Phase::Refused | Phase::Deleted { .. } => false,
        }
    }
}

/// What never changes about a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Its id for clients.
    pub id: GatewayId,
    /// Its cluster.
    pub cluster: String,
    /// The route by which it came.
    pub route: String,
    /// How it was sent, and can be found again.
    pub lookup: Lookup,
    /// Who submitted it; for a batch that was created outside the gateway, the user that its
    /// cluster names.
    pub owner: Option<String>,
    /// The name that the client gave.
    pub name: Option<String>,
    /// Whether it was created outside the gateway.
    pub adopted: bool,
    /// When it was recorded.
    pub created: Moment,
    /// For how long after its end it keeps its name.
    pub name_hold_ms: i64,
    /// A hash of the submission.
    pub body_hash: Option<String>,
    /// The highest id that its cluster was known to have given when it was sent.
    pub above: Option<i64>,
}

/// What is known of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Where it is in its life.
    pub phase: Phase,
    /// The state to show.
    pub state: BatchState,
    /// Application id.
    pub app_id: Option<String>,
    /// `appInfo`.
    pub app_info: AppInfo,
    /// Last log lines.
    pub log: Vec<String>,
    /// Whether the whole item was read after the batch ended: then nothing new can be learnt.
    pub complete: bool,
    /// When the cluster last said something about it, wall time; 0 if never. For people to read.
    pub seen_ms: i64,
    /// When its end was first seen.
    pub ended: Option<Moment>,
    /// The user that the cluster runs it as.
    pub proxy_user: Option<String>,
    /// Whether a client may have been given this id: from then on it stays answerable.
    pub told: bool,
    /// Whether the cluster showed the name under which it was submitted.
    pub echoed: bool,
    /// Whether it is not proven to be this submission, only presumed.
    pub presumed: bool,
    /// Whether its owner asked for its end.
    pub kill_asked: bool,
    /// Whether it was given up without the cluster's own word, so that the job may still show up.
    pub may_arrive: bool,
    /// Whether whoever stood in front has answered the submission, and so holds it no longer.
    pub let_go: bool,
    /// For how long look-ups that were answered have been showing nothing, one after the other,
    /// over all processes.
    pub quiet_ms: i64,
    /// How long ago its last byte left, over all processes.
    pub waited_ms: i64,
    /// Whether its cluster said that it has it, and not under which id, or showed what may be it.
    pub arrived: bool,
    /// Whether it is proven that nothing runs: it did not arrive, or was refused. Its key is free.
    pub absent: bool,
    /// When a look-up was last answered, wall time; 0 if never.
    pub looked_ms: i64,
    /// Whether its cluster, in the time of this process, once said that there is no such batch.
    pub doubted: bool,
    /// When, in the time of this process, the cluster last said something about it.
    pub heard: Option<Instant>,
    /// When it was read from the store, if its cluster had spoken of it shortly before.
    pub recalled: Option<Instant>,
    /// When, in the time of this process, the cluster last showed the whole item.
    pub item: Option<Instant>,
    /// For how long, in the time of this process, its cluster has been saying that there is no such
    /// batch, each time that it was asked.
    pub missing: Option<Silence>,
}

impl Known {
    /// What is known of a submission that was just recorded.
    pub fn new() -> Known {
        Known {
            phase: Phase::Sending,
            state: BatchState::Starting,
            app_id: None,
            app_info: AppInfo::from([
                ("driverLogUrl".to_owned(), None),
                ("sparkUiUrl".to_owned(), None),
            ]),
            log: Vec::new(),
            complete: false,
            seen_ms: 0,
            ended: None,
            proxy_user: None,
            told: false,
            echoed: false,
            presumed: false,
            kill_asked: false,
            may_arrive: false,
            let_go: false,
            quiet_ms: 0,
            waited_ms: 0,
            arrived: false,
            absent: false,
            looked_ms: 0,
            doubted: false,
            heard: None,
            recalled: None,
            item: None,
            missing: None,
        }
    }
}

impl Default for Known {
    fn default() -> Self {
        Known::new()
    }
}

/// How long a cluster may be silent about a batch that is followed: a few rounds of `watch`.
pub(super) const FOLLOWED: Duration = Duration::from_secs(180);

/// A batch. There is one of it in a process for as long as anybody works on it or waits for it.
#[derive(Debug)]
pub struct Entry {
    /// What never changes.
    pub identity: Identity,
    memory: watch::Sender<Known>,
    /// The version that the store has. Held while it is being written, so that writes of one batch
    /// follow each other.
    pub(super) stored: tokio::sync::Mutex<i64>,
    /// Whether the store has not heard yet that it is bound.
    owes_bind: AtomicBool,
}

impl std::ops::Deref for Entry {
    type Target = Identity;

    fn deref(&self) -> &Identity {
        &self.identity
    }
}

impl Entry {
    pub(super) fn from_row(row: Row) -> Self {
        Entry {
            identity: row.identity,
            memory: watch::Sender::new(row.known),
            stored: tokio::sync::Mutex::new(row.version),
            owes_bind: AtomicBool::new(false),
        }
    }

    /// Notes that the store could not be told that it is bound.
    pub(super) fn bind_is_owed(&self) {
        self.owes_bind.store(true, Ordering::Relaxed);
    }

    /// Notes that the store has heard of everything up to now.
    pub(super) fn bind_is_stored(&self) {
        self.owes_bind.store(false, Ordering::Relaxed);
    }

    /// Tells whether the store has not heard yet that it is bound. Changes only while `stored` is
    /// held.
    pub(super) fn owes_bind(&self) -> bool {
        self.owes_bind.load(Ordering::Relaxed)
    }

    /// Returns the row to store, if the store has `version`.
    pub(super) fn row(&self, known: Known, version: i64) -> Row {
        Row {
            identity: self.identity.clone(),
            known,
            version,
            key_until: None,
        }
    }

    /// Returns a copy of what is known.
    pub fn known(&self) -> Known {
        self.memory.borrow().clone()
    }

    /// Looks at what is known without copying it; `look` must be short, it holds a lock.
    pub fn peek<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.memory.borrow())
    }

    /// Changes what is known, in memory only.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut result = None;
        self.memory
            .send_modify(|known| result = Some(change(known)));
        match result {
            Some(result) => result,
            None => unreachable!("`send_modify` calls its argument"),
        }
    }

    /// Returns the phase.
    pub fn phase(&self) -> Phase {
        self.memory.borrow().phase.clone()
    }

    /// Returns the id at the cluster.
    pub fn upstream_id(&self) -> Option<String> {
        self.memory.borrow().phase.upstream_id().map(str::to_owned)
    }

    /// Tells whether the submission is still open.
    pub fn is_open(&self) -> bool {
        self.memory.borrow().phase == Phase::Sending
    }

    /// Waits until the submission is resolved one way or the other.
    pub async fn resolved(&self) {
        // The sender lives in `self`, so the channel can't close.
        let _ = self
            .memory
            .subscribe()
            .wait_for(|known| known.phase != Phase::Sending)
            .await;
    }

    /// Notes that a client is about to be given this id, if the submission is still open; returns
    /// whether it is. One step, so that a refusal at the same moment sees it or is seen.
    pub(super) fn tell_if_open(&self) -> bool {
        self.change(|known| {
            let open = known.phase == Phase::Sending;
            known.told |= open;
            open
        })
    }

    /// Notes that its cluster, asked at this moment, said that there is no such batch. What was
    /// asked before it last spoke of the batch is out of date.
    pub fn note_missing(&self, asked: Instant) {
        self.change(|known| {
            if known.heard.is_some_and(|heard| asked < heard) {
                return;
            }
            known.doubted = true;
            known
                .missing
                .get_or_insert_with(|| Silence::since_asking(asked))
                .goes_on(asked, Instant::now());
        });
    }

    /// Notes that its cluster gave another answer than that there is no such batch, or none: from
    /// now on it may be another process, which says so for reasons of its own.
    pub fn note_not_missing(&self) {
        self.change(|known| known.missing = None);
    }

    /// Returns for how long its cluster has been saying that there is no such batch.
    pub fn missing_for(&self) -> Duration {
        self.peek(|known| {
            known
                .missing
                .map_or(Duration::ZERO, |silence| silence.lasts())
        })
    }

    /// Calls `ask` with the batch as its cluster knows it, if it does.
    pub fn with_ref<T>(&self, ask: impl FnOnce(BatchRef<'_>) -> T) -> Option<T> {
        let Phase::Bound { upstream_id } = self.phase() else {
            return None;
        };
        Some(ask(BatchRef {
            upstream_id: &upstream_id,
            sent_name: self.own_name(),
        }))
    }

    /// Returns the name by which its cluster can be asked for this batch and no other: one that was
    /// made up here, where the cluster was seen to show it.
    pub fn own_name(&self) -> Option<&str> {
        let shown = self.lookup.is_made_up() && self.peek(|known| known.echoed);
        self.lookup.sent_name.as_deref().filter(|_| shown)
    }

    /// Tells whether an answer is about this batch.
    pub fn same(&self, seen: &Observed) -> Same {
        self.peek(|known| {
            let last = known.heard.or(known.recalled);
            let followed = last.is_some_and(|at| at.elapsed() < FOLLOWED);
            same_if(&self.identity, known, seen, followed)
        })
    }

    /// Returns the batch as a client sees it.
    pub fn batch(&self) -> Batch {
        let known = self.known();
        Batch {
            id: self.id.0,
            name: self.name.clone(),
            owner: self.owner.clone(),
            proxy_user: known.proxy_user,
            state: known.state,
            app_id: known.app_id,
            app_info: known.app_info,
            log: known.log,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use livy_dialect::StateReading;

    pub(crate) fn identity(name: Option<&str>) -> Identity {
        let key = "0e0b6f5e-0000-4000-8000-000000000001".to_owned();
        let sent_name = name.map_or_else(|| format!("livy-gateway-{key}"), str::to_owned);
        Identity {
            id: GatewayId(7),
            cluster: "c".into(),
            route: "r".into(),
            lookup: Lookup {
                key,
                sent_name: Some(sent_name),
            },
            owner: Some("ann".into()),
            name: name.map(str::to_owned),
            adopted: false,
            created: Moment {
                wall_ms: 1,
                up_ms: 1,
            },
            name_hold_ms: 0,
            body_hash: None,
            above: None,
        }
    }

    pub(crate) fn known(upstream_id: &str) -> Known {
        let phase = Phase::Bound {
            upstream_id: upstream_id.into(),
        };
        Known {
            phase,
            state: BatchState::Running,
            seen_ms: 1,
            echoed: true,
            ..Known::new()
        }
    }

    pub(crate) fn seen(id: &str, name: Option<&str>, state: BatchState) -> Observed {
        Observed {
            upstream_id: id.into(),
            name: name.map(str::to_owned),
            name_shown: true,
            owner: None,
            proxy_user: None,
            state: StateReading::Known(state),
            app_id: None,
            app_info: [("sparkUiUrl".to_owned(), None)].into(),
            log: vec!["line".into()],
            duplicate: false,
        }
    }

    /// Asks at these seconds; `true`: its cluster says that there is no such batch.
    async fn asked(entry: &Entry, from: u64, said: impl IntoIterator<Item = (u64, bool)>) {
        let mut now = from;
        for (at, missing) in said {
            tokio::time::advance(Duration::from_secs(at - now)).await;
            now = at;
            if missing {
                entry.note_missing(Instant::now());
            } else {
                entry.note_not_missing();
            }
        }
    }

    fn entry() -> Entry {
        Entry::from_row(Row {
            identity: identity(None),
            known: known("3"),
            version: 1,
            key_until: None,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_missing_while_its_cluster_goes_on_saying_so() {
        let missing = |said: Vec<(u64, bool)>| async {
            let entry = entry();
            asked(&entry, 0, said).await;
            entry.missing_for().as_secs()
        };
        let every =
            |seconds: std::ops::RangeInclusive<u64>| seconds.step_by(5).map(|at| (at, true));
        assert_eq!(missing(vec![(0, true)]).await, 0);
        assert_eq!(missing(every(0..=60).collect()).await, 60);
        assert_eq!(
            missing(vec![(0, true), (60, true)]).await,
            0,
            "nobody asked in between: its cluster may have recovered twice"
        );
        let unanswered = every(0..=30).chain([(33, false)]).chain(every(35..=45));
        assert_eq!(missing(unanswered.collect()).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_overtaken_begins_no_silence() {
        let entry = entry();
        let asked = Instant::now();
        tokio::time::advance(Duration::from_secs(5)).await;
        entry.change(|known| known.heard = Some(Instant::now()));
        tokio::time::advance(Duration::from_secs(1)).await;
        entry.note_missing(asked);
        assert!(entry.peek(|known| known.missing.is_none() && !known.doubted));
    }
}
