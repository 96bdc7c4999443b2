//! Reading: by id, by name, by what is still to be done.

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::BatchState;

use super::entry::Entry;
use super::error::RegistryError;
use super::memory::{Registry, lock};
use super::passthrough::LAST_NUMBER;
use super::row::{GatewayId, Phase, Row};
use super::store::Visible;

impl Registry {
    /// Returns a batch by id, whatever its phase.
    ///
    /// # Errors
    /// The database failed.
    pub async fn get(&self, id: GatewayId) -> Result<Option<Arc<Entry>>, RegistryError> {
        if let Some(entry) = self.in_memory(id) {
            return Ok(Some(self.brought_up_to_date(entry).await));
        }
        Ok(self.store.get(id).await?.map(|row| self.remember(row)))
    }

    /// Tells whether clients know batches by the numbers of the one cluster.
    pub fn numbers_are_the_clusters(&self) -> bool {
        self.store.numbers_are_the_clusters()
    }

    /// Returns the batch that clients know by a number, where they know batches by those of the one
    /// cluster; one that was answered before it had a number is known by its own id, too.
    ///
    /// # Errors
    /// The database failed.
    pub async fn by_number(
        &self,
        cluster: &str,
        number: i32,
    ) -> Result<Option<Arc<Entry>>, RegistryError> {
        if number > LAST_NUMBER {
            return self.get(GatewayId(number)).await;
        }
        let row = self.store.by_number(cluster.to_owned(), number).await?;
        Ok(row.map(|row| self.remember(row)))
    }

    /// Tells whether a submission is neither bound nor given up.
    ///
    /// # Errors
    /// The database failed.
    pub async fn has_open(&self) -> Result<bool, RegistryError> {
        Ok(!self.store.pending().await?.is_empty())
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

    /// Returns a window of what a caller may see, by id, and how many there are; without some ids.
    ///
    /// # Errors
    /// The database failed.
    pub async fn list(
        &self,
        visible: Visible,
        cluster: Option<String>,
        without: Vec<GatewayId>,
        range: impl FnOnce(usize) -> std::ops::Range<usize> + Send + 'static,
    ) -> Result<(usize, Vec<Arc<Entry>>), RegistryError> {
        let (total, rows) = self
            .store
            .list(visible, cluster, without, Box::new(range))
            .await?;
        let mut entries: Vec<Arc<Entry>> = rows.into_iter().map(|row| self.remember(row)).collect();
        let read = entries.len();
        // What was deleted and could not be stored yet is gone all the same.
        entries.retain(|entry| entry.phase().is_visible());
        Ok((total - (read - entries.len()), entries))
    }

    /// Counts the batches of a cluster that have not ended.
    ///
    /// # Errors
    /// The database failed.
    pub async fn live(&self, cluster: &str) -> Result<i64, RegistryError> {
        self.store.live(cluster.to_owned()).await
    }

    /// Returns the ids of the live batches of a cluster that came through this gateway, in order.
    ///
    /// # Errors
    /// The database failed.
    pub async fn live_ids(&self, cluster: &str) -> Result<Vec<GatewayId>, RegistryError> {
        self.store.live_ids(cluster.to_owned()).await
    }

    /// Returns a batch if it is in memory.
    pub fn held(&self, id: GatewayId) -> Option<Arc<Entry>> {
        self.in_memory(id)
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

    /// Notes that nothing that was given up can show up at a cluster any more: its name stands for
    /// another server from now on, or for none.
    ///
    /// # Errors
    /// The database failed.
    pub async fn give_up_arrivals(&self, cluster: &str) -> Result<(), RegistryError> {
        self.noted(self.store.give_up_arrivals(cluster.to_owned()).await)?;
        let held: Vec<Arc<Entry>> = {
            let pinned = lock(&self.pinned);
            pinned
                .values()
                .filter_map(std::sync::Weak::upgrade)
                .collect()
        };
        for entry in held.iter().filter(|entry| entry.cluster == cluster) {
            entry.change(|known| known.may_arrive = false);
        }
        Ok(())
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

    /// Tells whether a later submission of the same owner, which says the same, came to anything or
    /// is open: the next attempt of this one, or its client's.
    ///
    /// # Errors
    /// The database failed.
    pub async fn was_submitted_again(&self, entry: &Entry) -> Result<bool, RegistryError> {
        let (owner, body_hash) = (entry.owner.clone(), entry.body_hash.clone());
        self.store
            .was_submitted_again(owner, body_hash, entry.id)
            .await
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
}
