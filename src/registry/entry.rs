//! One batch in memory.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use livy_dialect::{Batch, BatchRef, Observed};
use tokio::sync::watch;
use tokio::time::Instant;

use super::decide::{Same, Silence, same_if};
use super::passthrough::number;
use super::row::{GatewayId, Identity, Known, Phase, Row};

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
    /// How many times changes of other processes had been missed when it was last read.
    read_after: AtomicU64,
    /// Whether a client asked for it since a list last showed it.
    wanted: AtomicBool,
    /// When its cluster, in the time of this process, was last asked for it by itself.
    looked_at: Mutex<Option<Instant>>,
    /// How many lines its log had when it was last read, where the cluster does not say that.
    lines: AtomicUsize,
    /// Whether clients know it by its cluster's number.
    by_number: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
            read_after: AtomicU64::new(0),
            wanted: AtomicBool::new(false),
            looked_at: Mutex::default(),
            lines: AtomicUsize::new(0),
            by_number: false,
        }
    }

    /// Lets clients know it by its cluster's number, as soon as it has one.
    pub(super) fn known_by_number(mut self, by_number: bool) -> Self {
        self.by_number = by_number;
        self
    }

    /// Returns the id that clients are shown.
    pub fn shown_id(&self) -> GatewayId {
        let number = self
            .by_number
            .then(|| self.peek(|known| number(known.phase.upstream_id())));
        number.flatten().map_or(self.identity.id, GatewayId)
    }

    /// Notes that a client asks for it.
    pub fn want(&self) {
        // Written only where that is news: thousands may poll one batch.
        if !self.wanted.load(Ordering::Relaxed) {
            self.wanted.store(true, Ordering::Relaxed);
        }
    }

    /// Tells whether a client asked for it since this was last called.
    pub fn was_wanted(&self) -> bool {
        self.wanted.swap(false, Ordering::Relaxed)
    }

    /// Notes how many lines its log has.
    pub fn note_lines(&self, lines: usize) {
        self.lines.store(lines, Ordering::Relaxed);
    }

    /// Returns how many lines its log had when it was last read; 0 if it was not.
    pub fn lines(&self) -> usize {
        self.lines.load(Ordering::Relaxed)
    }

    /// Notes that its cluster answered the question for it alone.
    pub fn look_at(&self) {
        *lock(&self.looked_at) = Some(Instant::now());
    }

    /// Tells whether its cluster answered the question for it alone within a while.
    pub fn was_looked_at(&self, within: Duration) -> bool {
        lock(&self.looked_at).is_some_and(|at| at.elapsed() < within)
    }

    /// Notes that it was read after changes had been missed so many times.
    pub(super) fn read_after(&self, missed: u64) {
        self.read_after.store(missed, Ordering::Release);
    }

    /// Tells whether it was read before changes were missed for the last time.
    pub(super) fn was_read_before(&self, missed: u64) -> bool {
        self.read_after.load(Ordering::Acquire) < missed
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

    /// Returns what tells of every change of what is known.
    pub fn news(&self) -> watch::Receiver<Known> {
        self.memory.subscribe()
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
            known.shown |= open;
            open
        })
    }

    /// Notes that somebody is about to be shown this batch, its owner or another; false if it
    /// vanished before. One step, as above. The second value tells whether the store should hear
    /// of it.
    pub(super) fn show(&self, to_owner: bool) -> (bool, bool) {
        let seen = |known: &Known| known.shown && (known.told || !to_owner);
        if let Some(visible) = self.peek(|known| seen(known).then(|| known.phase.is_visible())) {
            return (visible, false);
        }
        self.change(|known| {
            let visible = known.phase.is_visible();
            let news = visible && to_owner && !known.told;
            known.shown |= visible;
            known.told |= news;
            (visible, news)
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
            id: self.shown_id().0,
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
    use crate::clock::Moment;
    use livy_dialect::{BatchState, Lookup, StateReading};

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
