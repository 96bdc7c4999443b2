//! Wishes that a batch should end, and their fulfilment.

use std::sync::Arc;

use super::decide;
use super::entry::Entry;
use super::error::RegistryError;
use super::memory::Registry;
use super::row::{Known, Phase};

impl Registry {
    /// Notes that somebody asked for the end; for a batch that is only presumed only if that
    /// somebody `may_kill_presumed` ones. Stored before anything is sent. Whoever asks was shown
    /// the batch, so that it can't give way to another attempt meanwhile.
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

    /// Forgets a batch for its clients: from now on it is 404, as after a DELETE at Livy.
    /// `may_arrive`: without the cluster's own word.
    ///
    /// For its clients that holds also while it can't be stored: whoever heard of the end is not
    /// shown a batch that runs. It is stored as soon as that is possible; a process that dies before
    /// leaves the wish, which the next one finds fulfilled.
    ///
    /// # Errors
    /// The database failed.
    pub async fn delete(&self, entry: &Arc<Entry>, may_arrive: bool) -> Result<(), RegistryError> {
        let now = self.clock.now();
        let change = |known: &mut Known| decide::delete(known, may_arrive, now);
        let stored = self.write(entry, change).await;
        if stored.is_err() {
            entry.change(change);
            self.save_soon(entry);
        }
        stored
    }
}
