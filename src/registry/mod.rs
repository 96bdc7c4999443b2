//! The durable map from gateway ids to clusters' batches: who owns them, what was last known, and which submissions are on their way.
//!
//! Owns ids, phases and the memory of every batch. A submission is recorded ([`Registry::record`]) before a byte of it is sent and
//! resolved after ([`Registry::bind`], [`Registry::refuse`], [`Registry::give_up`]); what a crash leaves between the two is found by
//! [`Registry::pending`]. Reads on the hot path are answered by a bounded cache and never wait for a write. Leaves asking clusters
//! to `submit` and `batches`; never shows a batch to anybody: that is `access`.
//!
//! One trait ([`Store`]) stands for the database, so that other stores fit behind the same seam.

mod adopt;
mod entry;
mod sqlite;
mod store;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use livy_dialect::{BatchState, Lookup, Observed};
use quick_cache::sync::Cache;
use thiserror::Error;

pub use entry::{Change, Entry, Known, Phase, age};
pub use sqlite::SqliteStore;
pub use store::{Adoption, Idempotency, NewRow, RangeOf, Recorded, Row, Store, StoreFuture, Visible};

/// How many batches are kept in memory; the database holds the rest. About 1 KiB each.
const CACHED: usize = 20_000;

/// How long an ended batch keeps its name where the cluster itself does not keep names: Livy's default retention.
const NAME_HOLD: Duration = Duration::from_secs(600);

/// The gateway's id of a batch: positive, 32 bit, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayId(pub i32);

impl std::fmt::Display for GatewayId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// What can go wrong here.
#[derive(Clone, Debug, Error)]
pub enum RegistryError {
    /// The database failed.
    #[error("the registry's database failed: {0}")]
    Store(String),
    /// All 2,147,483,647 ids are used.
    #[error("the registry has no ids left")]
    OutOfIds,
}

/// The registry.
#[derive(Debug)]
pub struct Registry {
    store: Arc<dyn Store>,
    cache: Cache<GatewayId, Arc<Entry>>,
}

/// A submission about to be sent.
#[derive(Clone, Debug)]
pub struct Intent {
    /// Where it will go.
    pub cluster: String,
    /// By which route.
    pub route: String,
    /// How to find it again.
    pub lookup: Lookup,
    /// Who submits it.
    pub owner: String,
    /// The name that the client gave.
    pub name: Option<String>,
    /// Whether the cluster itself keeps names unique (Livy kinds).
    pub names_kept_by_cluster: bool,
    /// The client's `Idempotency-Key`, with what it stands for.
    pub idempotency: Option<Idempotency>,
}

/// What recording an intent found.
#[derive(Debug)]
pub enum Intention {
    /// Recorded: send it.
    New(Arc<Entry>),
    /// A live batch has the name.
    NameTaken(GatewayId),
    /// The key was used before for the same submission: this is its batch.
    Replay(Arc<Entry>),
    /// The key was used before for another submission.
    Conflict,
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Registry {
    /// Makes a registry over a store.
    pub fn new(store: Arc<dyn Store>) -> Self {
        Registry { store, cache: Cache::new(CACHED) }
    }

    /// Records a submission that is about to be sent. When this returns, a crash can't lose it any more.
    ///
    /// # Errors
    /// The database failed; nothing was recorded, nothing may be sent.
    pub async fn record(&self, intent: Intent) -> Result<Intention, RegistryError> {
        let idempotency = intent.idempotency.clone();
        let row = NewRow {
            cluster: intent.cluster,
            route: intent.route,
            lookup: intent.lookup,
            owner: Some(intent.owner),
            name: intent.name,
            name_hold_ms: if intent.names_kept_by_cluster { 0 } else { millis(NAME_HOLD) },
            idempotency: intent.idempotency,
            now_ms: now_ms(),
        };
        Ok(match self.store.record(row).await? {
            Recorded::New(row) => Intention::New(self.remember(row)),
            Recorded::NameTaken(id) => Intention::NameTaken(id),
            Recorded::Known(row) => {
                let same = idempotency.is_some_and(|ours| row.idempotency_hash.as_deref() == Some(ours.body_hash.as_str()));
                if same { Intention::Replay(self.remember(row)) } else { Intention::Conflict }
            }
        })
    }

    /// Resolves a submission: it exists, this is what the cluster says of it.
    ///
    /// Another entry that held the same upstream id loses it and keeps its last known state: its cluster began to count again.
    ///
    /// # Errors
    /// The database failed; the entry stays pending and is resolved later.
    pub async fn bind(&self, entry: &Entry, observed: &Observed) -> Result<(), RegistryError> {
        entry.observe(observed, now_ms());
        entry.set_bound(&observed.upstream_id);
        for id in self.store.bind(entry.row()).await? {
            // What is in memory about the loser is out of date; the next reader gets it from the database.
            self.cache.remove(&id);
        }
        Ok(())
    }

    /// Resolves a submission: nothing was created. The entry stays as a record that nobody sees; name and key are free again. Where a client
    /// was given the id meanwhile, it ends as `error` with the reason instead: an id that was handed out stays answerable.
    ///
    /// # Errors
    /// The database failed.
    pub async fn refuse(&self, entry: &Entry, reason: &str) -> Result<(), RegistryError> {
        if !entry.refuse_undisclosed() {
            return self.give_up(entry, reason).await;
        }
        self.store.save(entry.row()).await
    }

    /// Ends a batch that nobody can tell anything about any more, as `error` with the reason.
    ///
    /// # Errors
    /// The database failed.
    pub async fn give_up(&self, entry: &Entry, reason: &str) -> Result<(), RegistryError> {
        entry.end_as_error(reason, now_ms());
        self.store.save(entry.row()).await
    }

    /// Notes what a cluster says about a batch. Returns the state if it is a new one. Never waits for the database.
    pub fn observe(&self, entry: &Entry, observed: &Observed) -> Option<BatchState> {
        let change = entry.observe(observed, now_ms());
        if change.worth_saving {
            self.store.save_later(entry.row());
        }
        change.new_state
    }

    /// Notes a state that came without the rest of the batch.
    pub fn observe_state(&self, entry: &Entry, reading: &livy_dialect::StateReading) -> Option<BatchState> {
        let change = entry.observe_state(reading, now_ms());
        if change.worth_saving {
            self.store.save_later(entry.row());
        }
        change.new_state
    }

    /// Forgets a batch for its clients: from now on it is 404, as after a DELETE at Livy.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete(&self, entry: &Entry) -> Result<(), RegistryError> {
        entry.set_phase(Phase::Deleted);
        self.store.save(entry.row()).await
    }

    /// Returns a batch by id, whatever its phase.
    ///
    /// # Errors
    /// The database failed.
    pub async fn get(&self, id: GatewayId) -> Result<Option<Arc<Entry>>, RegistryError> {
        if let Some(entry) = self.cache.get(&id) {
            return Ok(Some(entry));
        }
        Ok(self.store.get(id).await?.map(|row| self.remember(row)))
    }

    /// Returns the newest batch of a name that clients may still ask for.
    ///
    /// # Errors
    /// The database failed.
    pub async fn by_name(&self, name: &str, visible: Visible) -> Result<Option<Arc<Entry>>, RegistryError> {
        Ok(self.store.by_name(name.to_owned(), visible).await?.map(|row| self.remember(row)))
    }

    /// Returns a window of what a caller may see, by id, and how many there are.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list(
        &self,
        visible: Visible,
        cluster: Option<String>,
        range: impl FnOnce(usize) -> std::ops::Range<usize> + Send + 'static,
    ) -> Result<(usize, Vec<Arc<Entry>>), RegistryError> {
        let (total, rows) = self.store.list(visible, cluster, Box::new(range)).await?;
        Ok((total, rows.into_iter().map(|row| self.remember(row)).collect()))
    }

    /// Gives ids to batches of a list that were made around the gateway, and notes what the list says about the others. Returns the
    /// states that batches are seen in for the first time.
    ///
    /// # Errors
    /// The database failed.
    pub async fn adopt(&self, cluster: &str, seen: Vec<Observed>) -> Result<Vec<BatchState>, RegistryError> {
        let adoption = self.store.adopt(cluster.to_owned(), seen, now_ms()).await?;
        let mut entered = Vec::new();
        for (id, observed) in &adoption.known {
            if let Some(entry) = self.get(*id).await? {
                entered.extend(self.observe(&entry, observed));
            }
        }
        for id in adoption.detached {
            self.cache.remove(&id);
        }
        Ok(entered)
    }

    /// Returns the submissions whose outcome a crash left open.
    ///
    /// # Errors
    /// The database failed.
    pub async fn pending(&self) -> Result<Vec<Arc<Entry>>, RegistryError> {
        Ok(self.store.pending().await?.into_iter().map(|row| self.remember(row)).collect())
    }

    /// Counts the batches of a cluster that have not ended.
    ///
    /// # Errors
    /// The database failed.
    pub async fn live(&self, cluster: &str) -> Result<i64, RegistryError> {
        self.store.live(cluster.to_owned()).await
    }

    /// Finds the live batches of a cluster that came through this gateway and were not heard of for a while.
    ///
    /// # Errors
    /// The database failed.
    pub async fn silent(&self, cluster: &str, since: Duration) -> Result<Vec<Arc<Entry>>, RegistryError> {
        let mut silent = Vec::new();
        for id in self.store.live_ids(cluster.to_owned()).await? {
            let entry = self.get(id).await?;
            let heard = |entry: &Entry| entry.peek(|known| (known.phase, known.state.is_terminal(), age(known.seen_ms)));
            silent.extend(entry.filter(|entry| matches!(heard(entry), (Phase::Bound, false, at) if at.is_none_or(|at| at >= since))));
        }
        Ok(silent)
    }

    /// Removes what ended longer ago than `retain`.
    ///
    /// # Errors
    /// The database failed.
    pub async fn sweep(&self, retain: Duration) -> Result<usize, RegistryError> {
        self.store.sweep(now_ms() - millis(retain)).await
    }

    /// Writes what is still in the queue and closes the database.
    pub async fn close(&self) {
        self.store.close().await;
    }

    /// Returns the one entry of a row's id: two requests must never hold two memories of one batch.
    fn remember(&self, row: Row) -> Arc<Entry> {
        let id = row.id;
        let fresh = Arc::new(Entry::from_row(row));
        let made = self.cache.get_or_insert_with(&id, || Ok::<_, std::convert::Infallible>(fresh.clone()));
        made.unwrap_or(fresh)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
