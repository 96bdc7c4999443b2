//! The registry over its store: one memory of each batch, and how it gets into the store and out of
//! it again.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::cache::{self, Entries};
use super::decide;
use super::entry::{Entry, FOLLOWED};
use super::error::RegistryError;
use super::row::{GatewayId, Known, Phase, Row};
use super::store::{LEASE, Saved, Store};
use crate::clock::{Clock, millis};

/// How many batches are stored in one step: all of them wait for the last.
const FLUSHED_TOGETHER: usize = 64;

/// How often a write is tried whose writer had not seen the newest version.
pub(super) const WRITE_TRIES: usize = 5;

/// The registry.
#[derive(Debug)]
pub struct Registry {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
    pub(super) cache: Entries,
    /// Every entry that anybody holds: one batch never has two memories.
    pub(super) pinned: Mutex<HashMap<GatewayId, Weak<Entry>>>,
    /// How many of those there may be before the dead are swept out.
    sweep_at: AtomicUsize,
    /// What was bound a short while ago under a client's own name, and of which the application is
    /// not known yet.
    pub(super) young: Mutex<Vec<Arc<Entry>>>,
    /// What is newer in memory than in the store.
    pub(super) dirty: Mutex<BTreeMap<GatewayId, Arc<Entry>>>,
    pub(super) written: Notify,
    pub(super) writable: AtomicBool,
    /// Counts the times when changes of other processes were missed.
    pub(super) missed: AtomicU64,
    /// Until when others know that this process is alive.
    pub(super) alive_until: Mutex<Instant>,
    /// Counts how often they took it for dead.
    pub(super) lives: AtomicU64,
    /// What this process leads, until when.
    pub(super) led: Mutex<HashMap<String, Instant>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while these are held; if something did, the data is still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Registry {
    /// Makes a registry over a store, which goes on from the store's uptime.
    ///
    /// # Errors
    /// The database failed.
    pub async fn open(store: Arc<dyn Store>) -> Result<Self, RegistryError> {
        let clock = Clock::new(store.uptime_ms().await?);
        Ok(Registry {
            store,
            clock,
            cache: Entries::new(),
            pinned: Mutex::default(),
            sweep_at: AtomicUsize::new(cache::EXPECTED),
            young: Mutex::default(),
            dirty: Mutex::default(),
            written: Notify::new(),
            writable: AtomicBool::new(true),
            missed: AtomicU64::new(0),
            alive_until: Mutex::new(Instant::now() + LEASE),
            lives: AtomicU64::new(0),
            led: Mutex::default(),
        })
    }

    /// Returns the clocks.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Tells whether the last write reached the store.
    pub fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    /// Notes how a write went, and hands its outcome on.
    pub(super) fn noted<T>(&self, result: Result<T, RegistryError>) -> Result<T, RegistryError> {
        let fine = !matches!(result, Err(RegistryError::Store(_)));
        if self.writable.swap(fine, Ordering::Relaxed) != fine {
            match &result {
                Err(error) => {
                    tracing::error!(%error, "the registry can't be written; submissions and kills are refused, reads go on")
                }
                Ok(_) => tracing::info!("the registry can be written again"),
            }
        }
        result
    }

    /// Makes sure that a submission can be recorded, before anybody is asked anything for it: if
    /// the last write failed, by another one.
    ///
    /// # Errors
    /// The database still can't be written.
    pub async fn must_be_writable(&self) -> Result<(), RegistryError> {
        match self.is_writable() {
            true => Ok(()),
            false => self.beat().await,
        }
    }

    /// Stores a change, then makes it known in memory.
    pub(super) async fn write(
        &self,
        entry: &Arc<Entry>,
        change: impl Fn(&mut Known),
    ) -> Result<(), RegistryError> {
        let mut version = entry.stored.lock().await;
        for _ in 0..WRITE_TRIES {
            let mut known = entry.known();
            change(&mut known);
            let saved = self.put(entry, entry.row(known, *version)).await?;
            match saved {
                Some(Saved::Stored(stored)) => {
                    *version = stored;
                    entry.bind_is_stored();
                    entry.change(|known| change(known));
                    return Ok(());
                }
                Some(Saved::Older(row)) => {
                    *version = row.version;
                    entry.change(|known| *known = decide::forward(&row.known, known));
                }
                None => break,
            }
        }
        Err(RegistryError::Store(
            "another writer was always first".into(),
        ))
    }

    /// Hands a row to the store: as a bind, if the one that was wanted has not reached it.
    async fn put(&self, entry: &Entry, row: Row) -> Result<Option<Saved>, RegistryError> {
        if !entry.owes_bind() || !matches!(row.known.phase, Phase::Bound { .. }) {
            let saved = self.noted(self.store.save(vec![row]).await)?;
            return Ok(saved.into_iter().next());
        }
        let (saved, lost) = self.noted(self.store.bind(row, self.clock.now()).await)?;
        lost.into_iter().for_each(|row| self.absorb(row));
        Ok(Some(saved))
    }

    pub(super) fn save_soon(&self, entry: &Arc<Entry>) {
        lock(&self.dirty).insert(entry.id, entry.clone());
        self.written.notify_one();
    }

    /// Waits until something is newer in memory than in the store.
    pub async fn until_dirty(&self) {
        self.written.notified().await;
    }

    /// Stores what is newer in memory. What can't be stored stays for the next time.
    pub async fn flush(&self) {
        let mut dirty: Vec<Arc<Entry>> = std::mem::take(&mut *lock(&self.dirty))
            .into_values()
            .collect();
        // In one order, so that nobody waits for somebody who waits for him.
        dirty.sort_unstable_by_key(|entry| entry.id);
        let mut one_by_one = Vec::new();
        for some in dirty.chunks(FLUSHED_TOGETHER) {
            one_by_one.extend(self.flush_together(some).await);
        }
        for entry in one_by_one {
            if self.write(&entry, |_| {}).await.is_err() {
                lock(&self.dirty).insert(entry.id, entry);
            }
        }
    }

    /// Stores some entries in one step; returns those that must be written by themselves: somebody
    /// is writing them, they are to be bound, the store knew more, or one of all failed.
    async fn flush_together(&self, some: &[Arc<Entry>]) -> Vec<Arc<Entry>> {
        let (mut held, mut left) = (Vec::new(), Vec::new());
        for entry in some {
            match entry.stored.try_lock() {
                Ok(version) if !entry.owes_bind() => held.push((entry, version)),
                _ => left.push(entry.clone()),
            }
        }
        if held.len() < 2 {
            return some.to_vec();
        }
        let row = |(entry, version): &(&Arc<Entry>, tokio::sync::MutexGuard<'_, i64>)| {
            entry.row(entry.known(), **version)
        };
        let rows = held.iter().map(row).collect();
        let saved = match self.store.save(rows).await {
            // Which of them it is, and whether it is one of them, is seen when each is written.
            Err(_) => return some.to_vec(),
            saved => self.noted(saved).unwrap_or_default(),
        };
        for ((entry, mut version), saved) in held.into_iter().zip(saved) {
            match saved {
                Saved::Stored(stored) => *version = stored,
                Saved::Older(row) => {
                    *version = row.version;
                    entry.change(|known| *known = decide::forward(&row.known, known));
                    left.push(entry.clone());
                }
            }
        }
        left
    }

    /// Removes what ended longer ago than `retain`, by both clocks, and of which nothing can come
    /// any more.
    ///
    /// # Errors
    /// The database failed.
    pub async fn sweep(&self, retain: Duration) -> Result<usize, RegistryError> {
        self.noted(self.store.sweep(retain, self.clock.now()).await)
    }

    /// Writes what is still to be written and closes the database.
    pub async fn close(&self) {
        self.flush().await;
        let _ = self.beat().await;
        self.store.close().await;
    }

    pub(super) fn in_memory(&self, id: GatewayId) -> Option<Arc<Entry>> {
        self.cache
            .get(id)
            .or_else(|| lock(&self.pinned).get(&id)?.upgrade())
    }

    /// Returns the one entry of a row's id: two requests must never hold two memories of one batch.
    pub(super) fn remember(&self, row: Row) -> Arc<Entry> {
        let id = row.identity.id;
        let mut pinned = lock(&self.pinned);
        if let Some(entry) = pinned.get(&id).and_then(Weak::upgrade) {
            drop(pinned);
            self.absorb(row);
            return entry;
        }
        let since_ms = self.clock.now().wall_ms.saturating_sub(row.known.seen_ms);
        let by_number = self.store.numbers_are_the_clusters();
        let entry = Arc::new(Entry::from_row(row).known_by_number(by_number));
        entry.read_after(self.missed.load(Ordering::Acquire));
        if (0..millis(FOLLOWED)).contains(&since_ms) {
            entry.change(|known| known.recalled = Some(Instant::now()));
        }
        // What nobody holds any more still takes its place: swept when half of it may be that.
        if pinned.len() >= self.sweep_at.load(Ordering::Relaxed) {
            pinned.retain(|_, entry| entry.strong_count() > 0);
            let next = (2 * pinned.len()).max(cache::EXPECTED);
            self.sweep_at.store(next, Ordering::Relaxed);
        }
        pinned.insert(id, Arc::downgrade(&entry));
        self.cache.keep(&entry);
        entry
    }

    /// Takes over what the store knows newer than memory does.
    pub(super) fn absorb(&self, row: Row) {
        let Some(entry) = self.in_memory(row.identity.id) else {
            return;
        };
        // Whoever is writing it will meet the newer version and take it over then.
        if let Ok(mut version) = entry.stored.try_lock()
            && row.version > *version
        {
            *version = row.version;
            entry.change(|known| *known = decide::forward(&row.known, known));
        }
    }
}

/// Notes that the cluster has just spoken of the batch.
pub(super) fn hear(known: &mut Known, item: bool) {
    let now = Instant::now();
    known.heard = Some(now);
    known.missing = None;
    if item {
        known.item = Some(now);
    }
}
