//! What the reader of a cluster knows: what was wanted of late, where the list ends, and which
//! entry has which id. Data, and small decisions over it; who reads is `batches`.

mod demand;
mod place;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use livy_dialect::Cost;
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use demand::{Demand, is_cheaper};
pub use place::{Newest, Pass, Window};

use crate::registry::{Entry, GatewayId, Phase};

/// How many entries are found by the ids of a list without asking the registry. What is beyond is
/// asked for there.
const MOST_KNOWN: usize = 20_000;

/// How often a long list is read whole: batches that were made around the gateway long ago, or
/// while it did not run, are in no hurry.
const PASS_EVERY: Duration = Duration::from_secs(60);

/// Logs of batches that have just ended that are read at the same time: thousands may end at once.
const LOGS_AT_ONCE: usize = 8;

/// What the reader of a cluster knows.
#[derive(Debug)]
pub struct Reading {
    inner: Mutex<Inner>,
    /// Places for logs that nobody asked for.
    pub logs: Semaphore,
}

impl Default for Reading {
    fn default() -> Self {
        Reading {
            inner: Mutex::default(),
            logs: Semaphore::new(LOGS_AT_ONCE),
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    demand: Demand,
    /// When the newest rows were last asked for.
    listed: Option<Instant>,
    /// Where the list ended then, and the ids that stood there.
    ended_at: Option<usize>,
    tail: HashSet<String>,
    /// Whether one request showed all of it.
    is_whole: bool,
    known: HashMap<String, Weak<Entry>>,
    /// The pass under way.
    pass: Option<Pass>,
    /// Whether one is wanted.
    wanted: bool,
    passed: Option<Instant>,
    /// The batch that nobody asks for and that was looked at last.
    turn: Option<GatewayId>,
}

impl Reading {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what was wanted, or notes something of it.
    pub fn demand<T>(&self, look: impl FnOnce(&mut Demand) -> T) -> T {
        look(&mut self.lock().demand)
    }

    /// Counts a read that is wanted now, and tells whether the list is to be read for it. One that
    /// was read within `freshness` showed all that it can.
    pub fn wants_list(&self, now: Instant, freshness: Duration, cost: Cost) -> bool {
        let mut inner = self.lock();
        let wants = inner.demand.wants_list(now, freshness, cost);
        wants && inner.listed.is_none_or(|at| now - at >= freshness)
    }

    /// Returns how long ago the newest rows were asked for.
    pub fn listed_ago(&self) -> Option<Duration> {
        self.lock().listed.map(|at| at.elapsed())
    }

    /// Returns what reads the newest rows; all of them where the list has no pages.
    pub fn newest(&self, is_paged: bool) -> Newest {
        Newest::new(self.lock().ended_at.filter(|_| is_paged))
    }

    /// Notes that the end of the list was read, which was asked for at a moment, and which rows stand
    /// there. A pass is wanted when
    /// some may stand between them and those of the last time.
    pub fn listed(&self, asked: Instant, newest: &Newest, ids: &[String]) {
        let mut inner = self.lock();
        inner.listed = Some(asked);
        inner.demand.is_long(newest.end());
        let follows = ids.first().is_some_and(|first| inner.tail.contains(first));
        inner.wanted |= !newest.is_whole() && !follows;
        inner.ended_at = Some(newest.end());
        inner.tail = ids.iter().cloned().collect();
        inner.is_whole = newest.is_whole();
        if inner.is_whole {
            (inner.pass, inner.wanted) = (None, false);
            inner.passed = Some(Instant::now());
        }
    }

    /// Notes that the whole list is to be read, in its turn.
    pub fn want_pass(&self) {
        let mut inner = self.lock();
        inner.wanted |= !inner.is_whole;
    }

    /// Returns the pass that goes on, or is due; `None` if there is none.
    pub fn pass(&self) -> Option<Pass> {
        let mut inner = self.lock();
        let is_due = inner.wanted && inner.passed.is_none_or(|at| at.elapsed() >= PASS_EVERY);
        if inner.pass.is_none() && is_due {
            inner.wanted = false;
            inner.pass = inner.ended_at.map(Pass::new);
        }
        inner.pass.clone()
    }

    /// Notes how far a pass has come.
    pub fn passed(&self, pass: Pass) {
        let mut inner = self.lock();
        let is_over = pass.next().is_none();
        if is_over {
            inner.passed = Some(Instant::now());
        }
        inner.pass = (!is_over).then_some(pass);
    }

    /// Returns those of some batches, in the order of their ids, that fit: first those behind the
    /// one that had its turn last, so that all have one though time is short.
    pub fn in_turn(&self, ids: Vec<GatewayId>, fits: impl Fn(GatewayId) -> bool) -> Vec<GatewayId> {
        let turn = self.lock().turn;
        let begin = turn.map_or(0, |turn| ids.partition_point(|id| *id <= turn));
        let (had, next) = ids.split_at(begin);
        let in_turn = next.iter().chain(had).copied();
        in_turn.filter(|id| fits(*id)).collect()
    }

    /// Notes that a batch had its turn.
    pub fn had_its_turn(&self, id: GatewayId) {
        self.lock().turn = Some(id);
    }

    /// Notes which entries stand behind the ids of a list.
    pub fn knows<'a>(&self, entries: impl IntoIterator<Item = &'a Arc<Entry>>) {
        let mut inner = self.lock();
        for entry in entries {
            if inner.known.len() >= MOST_KNOWN {
                inner.known.retain(|_, entry| entry.strong_count() > 0);
                if inner.known.len() >= MOST_KNOWN {
                    inner.known.clear();
                }
            }
            if let Phase::Bound { upstream_id } = entry.phase() {
                inner.known.insert(upstream_id, Arc::downgrade(entry));
            }
        }
    }

    /// Returns the entry in memory that is bound to an id.
    pub fn entry_of(&self, upstream_id: &str) -> Option<Arc<Entry>> {
        let entry = self.lock().known.get(upstream_id)?.upgrade()?;
        let bound =
            |phase: &Phase| matches!(phase, Phase::Bound { upstream_id: id } if id == upstream_id);
        entry.peek(|known| bound(&known.phase)).then_some(entry)
    }
}
