//! The durable map from gateway ids to clusters' batches: who owns them, what was last known, and
//! which submissions are on their way.
//!
//! The store is the truth. A submission is recorded ([`Registry::record`]) before a byte of it is
//! sent; what a client is told as final is stored first; what is merely new in memory is written
//! soon after. What to do is decided by the pure functions of [`decide`]; a store only stores, and
//! refuses a write whose writer had not seen the newest version. Leaves asking clusters to `submit`
//! and `batches`; never shows a batch to anybody: that is `access`.

pub mod decide;
mod entry;
mod guard;
#[cfg(test)]
mod laws;
mod sqlite;
mod store;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use livy_dialect::{BatchState, Lookup, Observed, StateReading};
use quick_cache::sync::Cache;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::{Clock, Moment, millis};
pub use decide::Same;
pub use entry::{Entry, Identity, Known, Phase};
pub use sqlite::SqliteStore;
pub use store::{
    Adoption, IdempotencyKey, NewRow, Order, RangeOf, Recorded, Replaced, Row, Saved, Store,
    StoreFuture, Visible, Wish,
};

/// How many batches are kept in memory though nobody works on them; the database holds the rest.
const CACHED: usize = 20_000;

/// How long an ended batch keeps its name where the cluster itself does not keep names: Livy's
/// default retention.
const NAME_HOLD: Duration = Duration::from_secs(600);

/// How often a write is tried whose writer had not seen the newest version.
const WRITE_TRIES: usize = 5;

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
    clock: Clock,
    cache: Cache<GatewayId, Arc<Entry>>,
    /// Every entry that anybody holds: one batch never has two memories.
    pinned: Mutex<HashMap<GatewayId, Weak<Entry>>>,
    /// What was bound a short while ago under a client's own name, and of which the application is
    /// not known yet.
    young: Mutex<Vec<Arc<Entry>>>,
    /// What is newer in memory than in the store.
    dirty: Mutex<HashMap<GatewayId, Arc<Entry>>>,
    written: Notify,
    writable: AtomicBool,
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
    /// A hash of the submission.
    pub body_hash: String,
    /// The client's `Idempotency-Key`, and for how long it is remembered.
    pub key: Option<(String, Duration)>,
    /// The highest id that the cluster is known to have given.
    pub above: Option<i64>,
    /// The user that the cluster will show, if it does as it is asked.
    pub proxy_user: Option<String>,
    /// Whether the cluster showed a batch of this name just now.
    pub name_in_use: bool,
    /// The earlier attempt of the same submission, at another cluster.
    pub replaces: Option<Replaced>,
}

/// What a list of a cluster brought.
#[derive(Debug, Default)]
pub struct Listed {
    /// States that batches are seen in for the first time.
    pub entered: Vec<BatchState>,
    /// Submissions that had been given up, and the jobs that they became after all.
    pub late: Vec<(Arc<Entry>, Observed)>,
    /// Live batches whose id the list shows for another one: to be asked for.
    pub doubted: Vec<Arc<Entry>>,
}

/// What recording an intent found.
#[derive(Debug)]
pub enum Intention {
    /// Recorded: send it.
    New(Arc<Entry>),
    /// A live batch has the name: this one, or one that its cluster alone knows.
    NameTaken(Option<GatewayId>),
    /// It is here already, sent before: this is its batch.
    Same(Arc<Entry>),
    /// The key was used before for another submission.
    Conflict,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
            cache: Cache::new(CACHED),
            pinned: Mutex::default(),
            young: Mutex::default(),
            dirty: Mutex::default(),
            written: Notify::new(),
            writable: AtomicBool::new(true),
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
    fn noted<T>(&self, result: Result<T, RegistryError>) -> Result<T, RegistryError> {
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

    /// Records a submission that is about to be sent. When this returns, a crash can't lose it any
    /// more.
    ///
    /// # Errors
    /// The database failed; nothing was recorded, nothing may be sent.
    pub async fn record(&self, intent: Intent) -> Result<Intention, RegistryError> {
        let now = self.clock.now();
        let row = NewRow {
            cluster: intent.cluster,
            route: intent.route,
            lookup: intent.lookup,
            owner: Some(intent.owner),
            name: intent.name,
            name_hold_ms: if intent.names_kept_by_cluster {
                0
            } else {
                millis(NAME_HOLD)
            },
            body_hash: intent.body_hash,
            key: intent.key.map(|(key, ttl)| IdempotencyKey {
                key,
                until: now.after(ttl),
            }),
            above: intent.above,
            proxy_user: intent.proxy_user,
            name_in_use: intent.name_in_use,
            replaces: intent.replaces,
        };
        let recorded = self.noted(self.store.record(row, now).await)?;
        if let Some(replaced) = intent.replaces
            && let Some(entry) = self.in_memory(replaced.id)
        {
            entry.change(|known| {
                known.phase = Phase::Refused;
                known.may_arrive |= replaced.may_arrive;
            });
        }
        Ok(match recorded {
            Recorded::New(row) => Intention::New(self.remember(row)),
            Recorded::Same(row) => Intention::Same(self.remember(row)),
            Recorded::NameTaken(id) => Intention::NameTaken(id),
            Recorded::Conflict => Intention::Conflict,
        })
    }

    /// Finds what a caller's `Idempotency-Key` stands for: the same submission, another one, or
    /// nothing.
    ///
    /// # Errors
    /// The database failed.
    pub async fn by_key(
        &self,
        owner: &str,
        key: &str,
        body_hash: &str,
    ) -> Result<Option<Intention>, RegistryError> {
        let Some(row) = self.store.by_key(owner.to_owned(), key.to_owned()).await? else {
            return Ok(None);
        };
        let asked = NewRow {
            cluster: String::new(),
            route: String::new(),
            lookup: Lookup {
                key: String::new(),
                sent_name: None,
            },
            owner: Some(owner.to_owned()),
            name: None,
            name_hold_ms: 0,
            body_hash: body_hash.to_owned(),
            key: None,
            above: None,
            proxy_user: None,
            name_in_use: false,
            replaces: None,
        };
        Ok(
            match decide::claim(&asked, Some(&row), None, self.clock.now()) {
                decide::Claim::Same(row) => Some(Intention::Same(self.remember(*row))),
                decide::Claim::Conflict => Some(Intention::Conflict),
                decide::Claim::Free | decide::Claim::NameTaken(_) => None,
            },
        )
    }

    /// Resolves a submission: it exists, this is what the cluster says of it.
    ///
    /// Another entry that held the same upstream id loses it and keeps its last known state: its
    /// cluster began to count again.
    ///
    /// # Errors
    /// The database failed; in memory it is bound, and the next process looks it up again.
    pub async fn bind(&self, entry: &Entry, seen: &Observed) -> Result<(), RegistryError> {
        let now = self.clock.now();
        self.bind_by(entry, |known| {
            decide::bind(known, seen, now);
        })
        .await
    }

    /// Resolves a submission by what is only presumed to be it, and says so in `sentence`. One
    /// step: nobody sees it bound without that. A wish to kill that was uttered before is void, for
    /// it was not meant for a batch that may be somebody else's.
    ///
    /// # Errors
    /// As [`Registry::bind`].
    pub async fn presume(
        &self,
        entry: &Entry,
        seen: &Observed,
        sentence: &str,
    ) -> Result<(), RegistryError> {
        let now = self.clock.now();
        self.bind_by(entry, |known| decide::presume(known, seen, sentence, now))
            .await
    }

    async fn bind_by(&self, entry: &Entry, bind: impl Fn(&mut Known)) -> Result<(), RegistryError> {
        if !entry.lookup.is_certain()
            && let Some(entry) = self.in_memory(entry.id)
        {
            lock(&self.young).push(entry);
        }
        let now = self.clock.now();
        let mut version = entry.stored.lock().await;
        let mut known = entry.known();
        bind(&mut known);
        for _ in 0..WRITE_TRIES {
            let result = self.noted(
                self.store
                    .bind(entry.row(known.clone(), *version), now)
                    .await,
            );
            match result {
                Ok((Saved::Stored(stored), lost)) => {
                    *version = stored;
                    entry.bind_is_stored();
                    lost.into_iter().for_each(|row| self.absorb(row));
                    entry.change(|memory| {
                        bind(memory);
                        hear(memory, true);
                    });
                    return Ok(());
                }
                Ok((Saved::Older(row), _)) => {
                    *version = row.version;
                    known = decide::forward(&row.known, &known);
                    entry.change(|memory| *memory = decide::forward(&row.known, memory));
                }
                Err(error) => {
                    entry.change(|memory| {
                        bind(memory);
                        hear(memory, true);
                    });
                    // It is bound as soon as that works again, before anything else of it is
                    // stored: the row that has its id must let go of it.
                    entry.bind_is_owed();
                    if let Some(entry) = self.in_memory(entry.id) {
                        self.save_soon(&entry);
                    }
                    return Err(error);
                }
            }
        }
        Err(RegistryError::Store(
            "another writer was always first".into(),
        ))
    }

    /// Resolves a submission: nothing was created. The entry stays as a record that nobody sees;
    /// name and key are free again. Where a client was given the id meanwhile, it ends as `error`
    /// with the reason instead: an id that was handed out stays answerable. Returns whether it
    /// vanished.
    ///
    /// # Errors
    /// The database failed.
    pub async fn refuse(
        &self,
        entry: &Arc<Entry>,
        reason: &str,
        may_arrive: bool,
    ) -> Result<bool, RegistryError> {
        // Decided in memory first: from here on nobody is given the id any more.
        let vanishes = entry.change(|known| {
            if known.phase == Phase::Sending && !known.told {
                known.phase = Phase::Refused;
                known.may_arrive |= may_arrive;
                return true;
            }
            known.phase == Phase::Refused
        });
        if vanishes {
            self.write(entry, |known| {
                known.phase = Phase::Refused;
                known.may_arrive |= may_arrive;
            })
            .await?;
        } else {
            self.end_absent(entry, reason, may_arrive).await?;
        }
        Ok(vanishes)
    }

    /// Makes sure that nobody is given the id of an open submission any more, so that another
    /// cluster may have it; false if somebody was.
    pub fn withdraw(&self, entry: &Entry) -> bool {
        entry.change(|known| {
            let free = known.phase == Phase::Sending && !known.told;
            if free {
                known.phase = Phase::Refused;
            }
            free
        })
    }

    /// Opens a submission again that had given way to another attempt, `by`, which came to nothing:
    /// key and name go back to it in one step.
    ///
    /// # Errors
    /// The database failed.
    pub async fn reopen(
        &self,
        entry: &Arc<Entry>,
        by: Option<&Arc<Entry>>,
    ) -> Result<(), RegistryError> {
        entry.change(|known| known.phase = Phase::Sending);
        self.noted(
            self.store
                .reopen(entry.id, by.map_or(entry.id, |by| by.id))
                .await,
        )
    }

    /// Ends a batch that nobody can tell anything about any more, as `error` with the reason.
    /// `may_arrive`: without the cluster's own word.
    ///
    /// # Errors
    /// The database failed.
    pub async fn give_up(
        &self,
        entry: &Arc<Entry>,
        reason: &str,
        may_arrive: bool,
    ) -> Result<(), RegistryError> {
        let now = self.clock.now();
        self.write(entry, |known| {
            decide::give_up(known, reason, may_arrive, now)
        })
        .await
    }

    /// Binds a batch again that had been given up: its job came late.
    ///
    /// # Errors
    /// The database failed.
    pub async fn adopt_late(
        &self,
        entry: &Arc<Entry>,
        seen: &Observed,
    ) -> Result<(), RegistryError> {
        self.write(entry, |known| known.phase = Phase::Sending)
            .await?;
        self.bind(entry, seen).await
    }

    /// Notes what a cluster says about a batch. Returns the state if it is a new one. An end is
    /// stored before this returns; anything else soon after.
    pub async fn observe(&self, entry: &Arc<Entry>, seen: &Observed) -> Option<BatchState> {
        let now = self.clock.now();
        self.note(entry, |known| decide::observe(known, seen, now), true)
            .await
    }

    /// Notes a state that came without the rest of the batch.
    pub async fn observe_state(
        &self,
        entry: &Arc<Entry>,
        reading: &StateReading,
    ) -> Option<BatchState> {
        let now = self.clock.now();
        self.note(
            entry,
            |known| decide::observe_state(known, reading, now),
            false,
        )
        .await
    }

    async fn note(
        &self,
        entry: &Arc<Entry>,
        change: impl Fn(&mut Known) -> decide::Change,
        item: bool,
    ) -> Option<BatchState> {
        let outcome = entry.peek(|known| change(&mut known.clone()));
        if outcome.new_state.is_some_and(BatchState::is_terminal) {
            let stored = self
                .write(entry, |known| {
                    change(known);
                })
                .await;
            if stored.is_ok() {
                entry.change(|known| hear(known, item));
                return outcome.new_state;
            }
            // The job has ended all the same; it is stored as soon as that works again.
        }
        entry.change(|known| {
            change(known);
            hear(known, item);
        });
        if outcome.worth_saving {
            self.save_soon(entry);
        }
        outcome.new_state
    }

    /// Notes that a client is being given this id. Stored soon.
    pub fn told(&self, entry: &Arc<Entry>) {
        if entry.change(|known| !std::mem::replace(&mut known.told, true)) {
            self.save_soon(entry);
        }
    }

    /// Notes that a client is about to be given this id though the submission is open, if it still
    /// is; returns whether. Stored first.
    ///
    /// # Errors
    /// The database failed.
    pub async fn tell_if_open(&self, entry: &Arc<Entry>) -> Result<bool, RegistryError> {
        if !entry.tell_if_open() {
            return Ok(false);
        }
        self.write(entry, |known| known.told = true).await?;
        Ok(true)
    }

    /// Ends a submission that is proven not to be there, or to have been refused, as `error` with
    /// the reason. Its key is free.
    ///
    /// # Errors
    /// The database failed.
    pub async fn is_absent(&self, entry: &Arc<Entry>, reason: &str) -> Result<(), RegistryError> {
        self.end_absent(entry, reason, true).await
    }

    async fn end_absent(
        &self,
        entry: &Arc<Entry>,
        reason: &str,
        may_arrive: bool,
    ) -> Result<(), RegistryError> {
        let now = self.clock.now();
        self.write(entry, |known| {
            decide::give_up(known, reason, may_arrive, now);
            known.absent = true;
        })
        .await
    }

    /// Notes a look-up, asked so long after the last byte: for how long look-ups that were answered
    /// have been showing nothing, if this one was answered.
    pub fn looked(&self, entry: &Arc<Entry>, waited: Duration, silence: Option<Duration>) {
        let now = self.clock.now();
        entry.change(|known| {
            known.waited_ms = known.waited_ms.max(millis(waited));
            known.quiet_ms = silence.map_or(0, millis);
            if silence.is_some() {
                known.looked_ms = now.wall_ms;
            }
        });
        self.save_soon(entry);
    }

    /// Notes that its cluster has it, or showed what may be it, though nobody knows under which id:
    /// from now on it is never absent.
    pub fn arrived(&self, entry: &Arc<Entry>) {
        entry.change(|known| known.arrived = true);
        self.save_soon(entry);
    }

    /// Notes what became of a send: nobody holds it any more, or something may. The silence begins
    /// anew.
    pub fn sent(&self, entry: &Arc<Entry>, let_go: bool) {
        let now = self.clock.now();
        entry.change(|known| {
            known.let_go = let_go;
            (known.quiet_ms, known.waited_ms) = (0, 0);
            known.looked_ms = now.wall_ms;
        });
        self.save_soon(entry);
    }

    /// Notes that an absent submission is about to be sent again: the silence that proved it absent
    /// proves nothing any more. Stored first.
    ///
    /// # Errors
    /// The database failed; nothing may be sent.
    pub async fn send_again(&self, entry: &Arc<Entry>) -> Result<(), RegistryError> {
        let now = self.clock.now();
        let begin_anew = |known: &mut Known| {
            known.let_go = false;
            (known.quiet_ms, known.waited_ms) = (0, 0);
            known.looked_ms = now.wall_ms;
        };
        entry.change(begin_anew);
        self.write(entry, begin_anew).await
    }

    /// Says why a submission is open for so long. Stored soon.
    pub fn explain(&self, entry: &Arc<Entry>, sentence: &str) {
        let told = |known: &Known| {
            known
                .app_info
                .get("gatewayReason")
                .is_some_and(|reason| reason.as_deref() == Some(sentence))
        };
        if entry.is_open() && !entry.peek(told) {
            entry.change(|known| {
                drop(
                    known
                        .app_info
                        .insert("gatewayReason".to_owned(), Some(sentence.to_owned())),
                )
            });
            self.save_soon(entry);
        }
    }

    /// Notes that somebody asked for the end; for a batch that is only presumed only if that
    /// somebody `may_kill_presumed` ones. Stored before anything is sent.
    ///
    /// # Errors
    /// The database failed; nothing may be sent.
    pub async fn ask_kill(
        &self,
        entry: &Arc<Entry>,
        may_kill_presumed: bool,
    ) -> Result<(), RegistryError> {
        if entry.peek(|known| known.kill_asked) && self.is_writable() {
            return Ok(());
        }
        self.write(entry, |known| {
            known.kill_asked |= may_kill_presumed || !known.presumed
        })
        .await
    }

    /// Forgets a batch for its clients: from now on it is 404, as after a DELETE at Livy.
    /// `may_arrive`: without the cluster's own word.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete(&self, entry: &Arc<Entry>, may_arrive: bool) -> Result<(), RegistryError> {
        let now = self.clock.now();
        self.write(entry, |known| {
            known.may_arrive |= may_arrive;
            let upstream_id = known.phase.upstream_id().map(str::to_owned);
            known.phase = Phase::Deleted { upstream_id };
            if known.ended.is_none() {
                (known.state, known.ended) = (BatchState::Killed, Some(now));
            }
        })
        .await
    }

    /// Stores a change, then makes it known in memory.
    async fn write(
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

    fn save_soon(&self, entry: &Arc<Entry>) {
        lock(&self.dirty).insert(entry.id, entry.clone());
        self.written.notify_one();
    }

    /// Waits until something is newer in memory than in the store.
    pub async fn until_dirty(&self) {
        self.written.notified().await;
    }

    /// Stores what is newer in memory. What can't be stored stays for the next time.
    pub async fn flush(&self) {
        let dirty: Vec<Arc<Entry>> = std::mem::take(&mut *lock(&self.dirty))
            .into_values()
            .collect();
        for entry in dirty {
            if self.write(&entry, |_| {}).await.is_err() {
                lock(&self.dirty).insert(entry.id, entry);
            }
        }
    }

    /// Returns a batch by id, whatever its phase.
    ///
    /// # Errors
    /// The database failed.
    pub async fn get(&self, id: GatewayId) -> Result<Option<Arc<Entry>>, RegistryError> {
        if let Some(entry) = self.in_memory(id) {
            return Ok(Some(entry));
        }
        Ok(self.store.get(id).await?.map(|row| self.remember(row)))
    }

    /// Tells whether what a look-up found is the submission of an entry, and nobody else's. `list`
    /// is the cluster's whole list, if it was read.
    ///
    /// # Errors
    /// The database failed.
    pub async fn is_ours(
        &self,
        entry: &Entry,
        before: &decide::Before,
        seen: &Observed,
        list: Option<&[Observed]>,
    ) -> Result<Same, RegistryError> {
        // Read for a client's own name only: nothing else is ever given twice.
        let had = match entry.lookup.is_certain() {
            true => Vec::new(),
            false => self.had_id(entry, &seen.upstream_id).await?,
        };
        Ok(entry.peek(|known| decide::ours(&entry.identity, known, before, seen, &had, list)))
    }

    /// Returns the live batch of another entry that has an upstream id. What a list brought after
    /// the entry had been recorded may be that submission itself, and is none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn live_holder(
        &self,
        entry: &Entry,
        upstream_id: &str,
    ) -> Result<Option<Arc<Entry>>, RegistryError> {
        let (cluster, upstream_id) = (entry.cluster.clone(), upstream_id.to_owned());
        let holder = self.store.holder(cluster, upstream_id).await?;
        let is_another = |row: &Row| {
            let came_later = row.identity.adopted && row.identity.id > entry.id;
            row.identity.id != entry.id && !came_later
        };
        let holder = holder.filter(is_another).map(|row| self.remember(row));
        Ok(holder.filter(|holder| {
            holder.peek(|known| {
                matches!(known.phase, Phase::Bound { .. }) && !known.state.is_terminal()
            })
        }))
    }

    /// Gives a batch another upstream id, under which its own name shows it: the answer to its
    /// submission named a wrong one. False while a live batch of another entry has that id.
    ///
    /// # Errors
    /// As [`Registry::bind`].
    pub async fn rebind(&self, entry: &Entry, seen: &Observed) -> Result<bool, RegistryError> {
        if self.live_holder(entry, &seen.upstream_id).await?.is_some() {
            return Ok(false);
        }
        let before = entry.upstream_id();
        tracing::warn!(batch = %entry.id, cluster = %entry.cluster, ?before, upstream_id = %seen.upstream_id, "a batch has another id than the answer to its submission said");
        let now = self.clock.now();
        self.bind_by(entry, |known| decide::rebind(known, seen, now))
            .await?;
        Ok(true)
    }

    /// Returns the newest batch of a name that clients may still ask for.
    ///
    /// # Errors
    /// The database failed.
    pub async fn by_name(
        &self,
        name: &str,
        visible: Visible,
    ) -> Result<Option<Arc<Entry>>, RegistryError> {
        Ok(self
            .store
            .by_name(name.to_owned(), visible)
            .await?
            .map(|row| self.remember(row)))
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
        Ok((
            total,
            rows.into_iter().map(|row| self.remember(row)).collect(),
        ))
    }

    /// Gives ids to batches of a list that were created outside the gateway, and notes what the
    /// list says about the others. `asked`: when the list was asked for; what ended after that may
    /// still stand in it, and of what was heard of after that it says nothing.
    ///
    /// # Errors
    /// The database failed.
    pub async fn adopt(
        &self,
        cluster: &str,
        seen: Vec<Observed>,
        asked: Moment,
    ) -> Result<Listed, RegistryError> {
        let seen = decide::readable(seen);
        let adoption = self.noted(
            self.store
                .adopt(cluster.to_owned(), seen, asked, self.clock.now())
                .await,
        )?;
        adoption.lost.into_iter().for_each(|row| self.absorb(row));
        let mut entered = Vec::new();
        for (row, seen) in adoption.again {
            let entry = self.remember(row);
            self.bind_again(&entry, &seen).await?;
            entered.push(entry.peek(|known| known.state));
        }
        for (row, seen) in adoption.known {
            let entry = self.remember(row);
            // The store judged by what it has; memory may know more by now.
            if entry.same(&seen) == Same::Yes {
                entered.extend(self.observe(&entry, &seen).await);
            }
        }
        let late = adoption
            .late
            .into_iter()
            .map(|(row, seen)| (self.remember(row), seen))
            .filter(|(entry, _)| !entry.is_open())
            .collect();
        let heard_since = |known: &Known| {
            let heard = known.heard.map(|at| self.clock.up_ms_at(at));
            heard.is_some_and(|up_ms| up_ms >= asked.up_ms)
        };
        let doubted = adoption
            .doubted
            .into_iter()
            .map(|(row, seen)| (self.remember(row), seen))
            .filter(|(entry, seen)| {
                let bound = matches!(entry.phase(), Phase::Bound { .. });
                bound && entry.same(seen) == Same::No && !entry.peek(heard_since)
            })
            .map(|(entry, _)| entry)
            .collect();
        Ok(Listed {
            entered,
            late,
            doubted,
        })
    }

    /// Binds a batch again that had lost its id on another's word: it had not ended.
    async fn bind_again(&self, entry: &Arc<Entry>, seen: &Observed) -> Result<(), RegistryError> {
        tracing::warn!(batch = %entry.id, cluster = %entry.cluster, upstream_id = %seen.upstream_id, "a batch that was taken for lost is there, and is bound again");
        self.write(entry, |known| {
            known.phase = Phase::Sending;
            (known.state, known.ended, known.complete) = (BatchState::Starting, None, false);
        })
        .await?;
        self.bind(entry, seen).await
    }

    /// Tells whether the answer to a submission may name its batch; `before` is what its cluster
    /// showed when it was not sent yet.
    ///
    /// # Errors
    /// The database failed.
    pub async fn is_believable(
        &self,
        entry: &Entry,
        before: &decide::Before,
        seen: &Observed,
    ) -> Result<Same, RegistryError> {
        // Read only where the answer does not name anybody.
        let shows_names = match (&entry.lookup.sent_name, &seen.name) {
            (Some(_), None) => self.store.shows_names(entry.cluster.clone()).await?,
            _ => false,
        };
        Ok(decide::believable(
            &entry.identity,
            before,
            seen,
            shows_names,
        ))
    }

    /// Returns the submissions whose outcome is open.
    ///
    /// # Errors
    /// The database failed.
    pub async fn pending(&self) -> Result<Vec<Arc<Entry>>, RegistryError> {
        let pending = self
            .store
            .pending()
            .await?
            .into_iter()
            .map(|row| self.remember(row));
        Ok(pending.filter(|entry| entry.is_open()).collect())
    }

    /// Counts the batches of a cluster that have not ended.
    ///
    /// # Errors
    /// The database failed.
    pub async fn live(&self, cluster: &str) -> Result<i64, RegistryError> {
        self.store.live(cluster.to_owned()).await
    }

    /// Finds the live batches of a cluster that came through this gateway and were not heard of for
    /// a while.
    ///
    /// # Errors
    /// The database failed.
    pub async fn silent(
        &self,
        cluster: &str,
        since: Duration,
    ) -> Result<Vec<Arc<Entry>>, RegistryError> {
        let mut silent = Vec::new();
        for id in self.store.live_ids(cluster.to_owned()).await? {
            let entry = self.get(id).await?;
            let is_silent = |known: &Known| {
                let live = matches!(known.phase, Phase::Bound { .. }) && !known.state.is_terminal();
                live && known.heard.is_none_or(|at| at.elapsed() >= since)
            };
            silent.extend(entry.filter(|entry| entry.peek(is_silent)));
        }
        Ok(silent)
    }

    /// Finds the batches of a cluster that were bound within a while under a client's own name, and
    /// whose application is still to be learnt: it is what tells them from others of that name. One
    /// that runs without any has none.
    pub fn young(&self, cluster: &str, within: Duration) -> Vec<Arc<Entry>> {
        let since = self.clock.now().before(within);
        let learns = |entry: &Arc<Entry>| {
            let open = entry.peek(|known| {
                let bound = matches!(known.phase, Phase::Bound { .. } | Phase::Sending);
                bound && known.app_id.is_none() && known.state == BatchState::Starting
            });
            open && entry.created.up_ms >= since.up_ms
        };
        let mut young = lock(&self.young);
        young.retain(learns);
        let here = young.iter().filter(|entry| {
            entry.cluster == cluster && matches!(entry.phase(), Phase::Bound { .. })
        });
        here.cloned().collect()
    }

    /// Finds the batches of a cluster whose end was asked for and is not confirmed.
    ///
    /// # Errors
    /// The database failed.
    pub async fn to_kill(&self, cluster: &str) -> Result<Vec<Arc<Entry>>, RegistryError> {
        let rows = self
            .store
            .to_kill(cluster.to_owned())
            .await?
            .into_iter()
            .map(|row| self.remember(row));
        Ok(rows
            .filter(|entry| matches!(entry.phase(), Phase::Bound { .. }))
            .collect())
    }

    /// Finds what a cluster was sent, and was given up or told to be gone within a while, and may
    /// still show up: the first ones after an id, at most so many.
    ///
    /// # Errors
    /// The database failed.
    pub async fn may_arrive(
        &self,
        cluster: &str,
        within: Duration,
        after: GatewayId,
        limit: usize,
    ) -> Result<Vec<Arc<Entry>>, RegistryError> {
        let since = self.clock.now().before(within);
        Ok(self
            .store
            .may_arrive(cluster.to_owned(), since, after, limit)
            .await?
            .into_iter()
            .map(|row| self.remember(row))
            .collect())
    }

    /// Tells whether what a cluster shows under the number of a batch is that batch, which its
    /// client was told to be gone, and nobody else's.
    ///
    /// # Errors
    /// The database failed.
    pub async fn is_late(&self, entry: &Entry, seen: &Observed) -> Result<bool, RegistryError> {
        let (cluster, now) = (entry.cluster.clone(), self.clock.now());
        let holder = self.store.holder(cluster, seen.upstream_id.clone()).await?;
        let sends_it = |row: &Row| {
            row.identity.cluster == entry.cluster && row.identity.lookup.sent_name == seen.name
        };
        if holder.is_some() || self.store.pending().await?.iter().any(sends_it) {
            return Ok(false);
        }
        Ok(decide::is_late(&entry.row(entry.known(), 0), seen, now))
    }

    /// Reads the entries of others at the same cluster that have, or ever had, an upstream id.
    ///
    /// # Errors
    /// The database failed.
    pub async fn had_id(
        &self,
        entry: &Entry,
        upstream_id: &str,
    ) -> Result<Vec<Row>, RegistryError> {
        let (cluster, upstream_id) = (entry.cluster.clone(), upstream_id.to_owned());
        self.store.had_id(cluster, upstream_id, entry.id).await
    }

    /// Tells whether nobody else's submission of the same kind was open at its cluster since this
    /// one was recorded, except those that are bound or proven absent.
    ///
    /// # Errors
    /// The database failed.
    pub async fn was_alone(&self, entry: &Entry) -> Result<bool, RegistryError> {
        self.store
            .was_alone(entry.cluster.clone(), entry.id, entry.created)
            .await
    }

    /// Removes what ended longer ago than `retain`, by both clocks.
    ///
    /// # Errors
    /// The database failed.
    pub async fn sweep(&self, retain: Duration) -> Result<usize, RegistryError> {
        self.noted(self.store.sweep(self.clock.now().before(retain)).await)
    }

    /// Returns what administrators said about clusters.
    ///
    /// # Errors
    /// The database failed.
    pub async fn orders(&self) -> Result<Vec<Order>, RegistryError> {
        self.store.orders().await
    }

    /// Stores what an administrator wants of a cluster; returns the order that holds, which is the
    /// first of its kind.
    ///
    /// # Errors
    /// It could not be stored.
    pub async fn give_order(
        &self,
        cluster: &str,
        wish: Wish,
        by: &str,
    ) -> Result<Order, RegistryError> {
        let order = Order {
            cluster: cluster.to_owned(),
            wish,
            since_ms: self.clock.now().wall_ms,
            by: by.to_owned(),
        };
        self.noted(self.store.give_order(order).await)
    }

    /// Takes an order back; false if there was none.
    ///
    /// # Errors
    /// It could not be stored.
    pub async fn lift_order(&self, cluster: &str, wish: Wish) -> Result<bool, RegistryError> {
        self.noted(self.store.lift_order(cluster.to_owned(), wish).await)
    }

    /// Stores how long this registry has been in use; shows whether it can be written.
    ///
    /// # Errors
    /// It can't.
    pub async fn beat(&self) -> Result<(), RegistryError> {
        self.noted(self.store.set_uptime_ms(self.clock.now().up_ms).await)
    }

    /// Writes what is still to be written and closes the database.
    pub async fn close(&self) {
        self.flush().await;
        let _ = self.beat().await;
        self.store.close().await;
    }

    fn in_memory(&self, id: GatewayId) -> Option<Arc<Entry>> {
        self.cache
            .get(&id)
            .or_else(|| lock(&self.pinned).get(&id)?.upgrade())
    }

    /// Returns the one entry of a row's id: two requests must never hold two memories of one batch.
    fn remember(&self, row: Row) -> Arc<Entry> {
        let id = row.identity.id;
        let mut pinned = lock(&self.pinned);
        if let Some(entry) = pinned.get(&id).and_then(Weak::upgrade) {
            drop(pinned);
            self.absorb(row);
            return entry;
        }
        let since_ms = self.clock.now().wall_ms.saturating_sub(row.known.seen_ms);
        let entry = Arc::new(Entry::from_row(row));
        if (0..millis(entry::FOLLOWED)).contains(&since_ms) {
            entry.change(|known| known.recalled = Some(Instant::now()));
        }
        if pinned.len() > 2 * CACHED {
            pinned.retain(|_, entry| entry.strong_count() > 0);
        }
        pinned.insert(id, Arc::downgrade(&entry));
        self.cache.insert(id, entry.clone());
        entry
    }

    /// Takes over what the store knows newer than memory does.
    fn absorb(&self, row: Row) {
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
fn hear(known: &mut Known, item: bool) {
    let now = Instant::now();
    known.heard = Some(now);
    known.missing = None;
    if item {
        known.item = Some(now);
    }
}
