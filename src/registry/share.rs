//! One registry for several processes: who looks after what, how they hear of each other, and when
//! memory may be behind.
//!
//! What a process has in memory is as new as the last note that it heard of. While it hears none, it
//! reads what it needs; when the database is away as well, memory is what there is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::entry::Entry;
use super::error::RegistryError;
use super::memory::{Registry, lock};
use super::row::{Known, Phase};
use super::store::{Change, LEASE};

impl Registry {
    /// Tells whether other processes may use it at the same time.
    pub fn is_shared(&self) -> bool {
        self.store.is_shared()
    }

    /// Waits for a change by another process, and takes it over into memory; returns it.
    pub async fn follow(&self) -> Change {
        let change = self.store.next_change().await;
        match &change {
            Change::Batches(ids) => {
                for id in ids {
                    if let Some(entry) = self.in_memory(*id) {
                        self.read_again(&entry).await;
                    }
                }
            }
            Change::Missed => {
                self.missed.fetch_add(1, Ordering::AcqRel);
                // Somebody may wait for these; all others are read when they are asked for.
                for entry in self.open_in_memory() {
                    self.read_again(&entry).await;
                }
            }
            Change::Orders => {}
        }
        change
    }

    /// Tells other processes what this one changes, for as long as it is waited for.
    pub async fn tell_others(&self) {
        self.store.tell_others().await;
    }

    fn open_in_memory(&self) -> Vec<Arc<Entry>> {
        let pinned = lock(&self.pinned);
        let held = pinned.values().filter_map(std::sync::Weak::upgrade);
        let mut open: Vec<Arc<Entry>> = held.filter(|entry| entry.is_open()).collect();
        drop(pinned);
        // In one order, so that what happens can be made to happen again.
        open.sort_unstable_by_key(|entry| entry.id);
        open
    }

    /// Takes over what the store knows newer; what can't be read stays as it is.
    async fn read_again(&self, entry: &Entry) {
        let missed = self.missed.load(Ordering::Acquire);
        if let Ok(row) = self.store.get(entry.id).await {
            row.into_iter().for_each(|row| self.absorb(row));
            entry.read_after(missed);
        }
    }

    /// Reads an entry of memory again where another process may have changed it unheard.
    pub(super) async fn brought_up_to_date(&self, entry: Arc<Entry>) -> Arc<Entry> {
        let is_behind = self.store.is_shared()
            && (!self.store.hears() || entry.was_read_before(self.missed.load(Ordering::Acquire)));
        if is_behind {
            self.read_again(&entry).await;
        }
        entry
    }

    /// Notes that this process is alive, and how long gateways have been running on this registry;
    /// shows whether it can be written.
    ///
    /// # Errors
    /// It can't.
    pub async fn beat(&self) -> Result<(), RegistryError> {
        let began = Instant::now();
        let uptime_ms = self.noted(self.store.beat(self.clock.now().up_ms).await)?;
        self.clock.catch_up(uptime_ms);
        if !self.store.hears() {
            for entry in self.open_in_memory() {
                self.read_again(&entry).await;
            }
        }
        let mut alive_until = lock(&self.alive_until);
        if *alive_until < began && self.store.is_shared() {
            // Others took this process for dead, and may be working on what it was working on.
            self.lives.fetch_add(1, Ordering::AcqRel);
            tracing::warn!(
                "this gateway was taken for dead for a while: what it had begun may be with another one"
            );
        }
        *alive_until = began + LEASE;
        Ok(())
    }

    /// Tells whether others know that this process is alive, so that what it begins is its own.
    pub fn is_known_alive(&self) -> bool {
        !self.store.is_shared() || Instant::now() < *lock(&self.alive_until)
    }

    /// Counts how often others took this process for dead: what was begun in an earlier life is not
    /// its own any more.
    pub fn life(&self) -> u64 {
        let lapsed = u64::from(!self.is_known_alive());
        self.lives.load(Ordering::Acquire) + lapsed
    }

    /// Takes the lead of what is done for a cluster in the background, or goes on with it; false if
    /// another process has it, or it can't be told.
    pub async fn take_lead(&self, cluster: &str) -> bool {
        if !self.store.is_shared() {
            return true;
        }
        let began = Instant::now();
        let leads = self.store.hold(format!("cluster/{cluster}")).await;
        let leads = leads.unwrap_or(false);
        let mut led = lock(&self.led);
        match leads {
            true => drop(led.insert(cluster.to_owned(), began + LEASE)),
            false => drop(led.remove(cluster)),
        }
        leads
    }

    /// Tells whether this process leads what is done for a cluster in the background.
    pub fn leads(&self, cluster: &str) -> bool {
        let until = lock(&self.led).get(cluster).copied();
        !self.store.is_shared() || until.is_some_and(|until| Instant::now() < until)
    }

    /// Notes that somebody is about to be shown a batch, its owner or another, as [`Registry::show`]
    /// does; of an open submission the store hears first. Whichever process sends it learns then
    /// that it was written by another one, and neither lets go of it nor gives it to another cluster.
    ///
    /// # Errors
    /// The database failed; it may not be shown.
    pub async fn show_to(&self, entry: &Arc<Entry>, to_owner: bool) -> Result<bool, RegistryError> {
        let is_news = |known: &Known| {
            let seen = known.shown && (known.told || !to_owner);
            known.phase == Phase::Sending && !seen
        };
        if self.store.is_shared() && entry.peek(is_news) {
            self.write(entry, |known| known.told |= to_owner).await?;
        }
        Ok(self.show(entry, to_owner))
    }

    /// Tells whether another process that is alive works on an open submission.
    ///
    /// # Errors
    /// The database failed.
    pub async fn is_worked_on_elsewhere(&self, entry: &Entry) -> Result<bool, RegistryError> {
        self.store.is_worked_on_elsewhere(entry.id).await
    }

    /// Returns the open submissions that this process is to look after.
    ///
    /// # Errors
    /// The database failed.
    pub async fn take_over(&self) -> Result<Vec<Arc<Entry>>, RegistryError> {
        let rows = self.noted(self.store.take_over().await)?;
        let entries = rows.into_iter().map(|row| self.remember(row));
        Ok(entries.filter(|entry| entry.is_open()).collect())
    }
}
