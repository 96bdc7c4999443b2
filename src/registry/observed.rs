//! What clusters say of their batches.

use std::sync::Arc;

use livy_dialect::{BatchState, Observed, StateReading};

use super::decide::{self, Same};
use super::entry::Entry;
use super::error::RegistryError;
use super::memory::{Registry, hear};
use super::row::{Known, Phase, Row};
use crate::clock::Moment;

/// What a list of a cluster brought.
#[derive(Debug, Default)]
pub struct Listed {
    /// The batches that it shows.
    pub shown: Vec<Arc<Entry>>,
    /// States that batches are seen in for the first time.
    pub entered: Vec<BatchState>,
    /// Submissions that had been given up, and the jobs that they became after all.
    pub late: Vec<(Arc<Entry>, Observed)>,
    /// Live batches whose id the list shows for another one: to be asked for.
    pub doubted: Vec<Arc<Entry>>,
}

impl Registry {
    /// Notes what a cluster says about a batch. Returns the state if it is a new one. An end is
    /// stored before this returns; anything else soon after.
    pub async fn observe(&self, entry: &Arc<Entry>, seen: &Observed) -> Option<BatchState> {
        let now = self.clock.now();
        self.note(entry, |known| decide::observe(known, seen, now), true)
            .await
    }

    /// Notes the last lines of a batch's log, where its cluster's items show none.
    pub fn observe_log(&self, entry: &Arc<Entry>, lines: &[String]) {
        let lines = decide::last_lines(lines);
        if lines.is_empty() || entry.peek(|known| known.log == lines) {
            return;
        }
        entry.change(|known| known.log = lines);
        self.cache.weigh_again(entry);
        self.save_soon(entry);
    }

    /// Notes what a row of a list says that may lag behind: an end is one, but that a batch lives is
    /// not news of this moment.
    pub async fn observe_late(&self, entry: &Arc<Entry>, seen: &Observed) -> Option<BatchState> {
        let ended = matches!(seen.state, StateReading::Known(state) if state.is_terminal());
        if ended {
            return self.observe(entry, seen).await;
        }
        let now = self.clock.now();
        let outcome = entry.change(|known| decide::observe(known, seen, now));
        if outcome.worth_saving {
            self.save_soon(entry);
        }
        outcome.new_state
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
        self.cache.weigh_again(entry);
        if outcome.worth_saving {
            self.save_soon(entry);
        }
        outcome.new_state
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
        let (mut entered, mut shown) = (Vec::new(), Vec::new());
        for (row, seen) in adoption.again {
            let entry = self.remember(row);
            self.bind_again(&entry, &seen).await?;
            entered.push(entry.peek(|known| known.state));
            shown.push(entry);
        }
        for (row, seen) in adoption.known {
            let entry = self.remember(row);
            // The store judged by what it has; memory may know more by now.
            if entry.same(&seen) == Same::Yes {
                entered.extend(self.observe(&entry, &seen).await);
                shown.push(entry);
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
            shown,
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
}
