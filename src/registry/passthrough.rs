//! The store of `registry: {passthrough: {}}`: memory, before one cluster that counts its batches, whose
//! numbers are what clients know batches by.
//!
//! A submission needs an entry before its cluster has given it a number, so entries have ids of
//! their own here as everywhere; they begin where no cluster counts to, and clients are shown the
//! cluster's number instead as soon as there is one (`Entry::shown_id`). What was answered before
//! that goes on being known by the entry's own id for as long as this process lives. Nothing is
//! stored: another process, after this one or beside it, finds a batch by asking the cluster.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use livy_dialect::Observed;

use super::error::RegistryError;
use super::row::{GatewayId, Phase, Row};
use super::sqlite::SqliteStore;
use super::store::{
    Adoption, NewRow, Order, RangeOf, Recorded, Saved, Store, StoreFuture, Visible, Wish,
};
use crate::clock::Moment;

/// The last id that is taken for a cluster's own number. Half of the ids that clients can read; a
/// cluster would take 34 years to count so far at one batch a second.
pub(super) const LAST_NUMBER: i32 = (1 << 30) - 1;

/// Memory before one cluster.
#[derive(Debug)]
pub struct PassthroughStore {
    inner: SqliteStore,
}

impl PassthroughStore {
    /// Makes one.
    ///
    /// # Errors
    /// Why it can't be made, in a sentence.
    pub fn new() -> Result<Self, String> {
        let inner = SqliteStore::in_memory_above(i64::from(LAST_NUMBER))?;
        Ok(PassthroughStore { inner })
    }

    /// Reads all that a caller may see, ordered by what it is shown as. One number is one batch: of
    /// those that had it one after the other, the one that has it, or had it last.
    async fn all(
        &self,
        visible: Visible,
        cluster: Option<String>,
        without: Vec<GatewayId>,
    ) -> Result<Vec<Row>, RegistryError> {
        let everybodys =
            self.inner
                .list(Visible::All, cluster, without, Box::new(|total| 0..total));
        let (_, rows) = everybodys.await?;
        let mut shown: HashMap<i32, Row> = HashMap::with_capacity(rows.len());
        for row in rows {
            let rank = |row: &Row| {
                (
                    !matches!(row.known.phase, Phase::Detached { .. }),
                    row.identity.id,
                )
            };
            let place = shown_id(&row);
            if shown
                .get(&place)
                .is_none_or(|before| rank(before) < rank(&row))
            {
                shown.insert(place, row);
            }
        }
        let mut rows: Vec<Row> = shown.into_values().collect();
        rows.retain(|row| match &visible {
            Visible::All => true,
            Visible::OwnedBy(user) => !user.is_empty() && row.identity.owner.as_ref() == Some(user),
        });
        rows.sort_unstable_by_key(shown_id);
        Ok(rows)
    }
}

/// Returns what a batch is shown as.
fn shown_id(row: &Row) -> i32 {
    number(row.known.phase.upstream_id()).unwrap_or(row.identity.id.0)
}

/// Reads a cluster's number; nothing if it is none that clients could be given.
pub(super) fn number(upstream_id: Option<&str>) -> Option<i32> {
    let number = upstream_id?.parse().ok()?;
    (0..=LAST_NUMBER).contains(&number).then_some(number)
}

impl Store for PassthroughStore {
    fn numbers_are_the_clusters(&self) -> bool {
        true
    }

    fn by_number(&self, cluster: String, number: i32) -> StoreFuture<'_, Option<Row>> {
        Box::pin(async move {
            let upstream_id = number.to_string();
            let holder = self
                .inner
                .holder(cluster.clone(), upstream_id.clone())
                .await?;
            if holder.is_some() {
                return Ok(holder);
            }
            let mut had = self
                .inner
                .had_id(cluster, upstream_id, GatewayId(0))
                .await?;
            had.retain(|row| row.known.phase.is_visible());
            had.sort_unstable_by_key(|row| Reverse(row.identity.id));
            Ok(had.into_iter().next())
        })
    }

    fn list(
        &self,
        visible: Visible,
        cluster: Option<String>,
        without: Vec<GatewayId>,
        range: RangeOf,
    ) -> StoreFuture<'_, (usize, Vec<Row>)> {
        Box::pin(async move {
            let rows = self.all(visible, cluster, without).await?;
            let range = range(rows.len());
            let page = rows.get(range.clone()).unwrap_or_default().to_vec();
            Ok((rows.len(), page))
        })
    }

    fn by_name(&self, name: String, visible: Visible) -> StoreFuture<'_, Option<Row>> {
        self.inner.by_name(name, visible)
    }

    fn record(&self, row: NewRow, now: Moment) -> StoreFuture<'_, Recorded> {
        self.inner.record(row, now)
    }

    fn reopen(&self, id: GatewayId, by: GatewayId) -> StoreFuture<'_, ()> {
        self.inner.reopen(id, by)
    }

    fn by_key(&self, owner: String, key: String) -> StoreFuture<'_, Option<Row>> {
        self.inner.by_key(owner, key)
    }

    fn bind(&self, row: Row, now: Moment) -> StoreFuture<'_, (Saved, Vec<Row>)> {
        self.inner.bind(row, now)
    }

    fn save(&self, rows: Vec<Row>) -> StoreFuture<'_, Vec<Saved>> {
        self.inner.save(rows)
    }

    fn adopt(
        &self,
        cluster: String,
        seen: Vec<Observed>,
        asked: Moment,
        now: Moment,
    ) -> StoreFuture<'_, Adoption> {
        self.inner.adopt(cluster, seen, asked, now)
    }

    fn get(&self, id: GatewayId) -> StoreFuture<'_, Option<Row>> {
        self.inner.get(id)
    }

    fn holder(&self, cluster: String, upstream_id: String) -> StoreFuture<'_, Option<Row>> {
        self.inner.holder(cluster, upstream_id)
    }

    fn shows_names(&self, cluster: String) -> StoreFuture<'_, bool> {
        self.inner.shows_names(cluster)
    }

    fn pending(&self) -> StoreFuture<'_, Vec<Row>> {
        self.inner.pending()
    }

    fn live(&self, cluster: String) -> StoreFuture<'_, i64> {
        self.inner.live(cluster)
    }

    fn live_ids(&self, cluster: String) -> StoreFuture<'_, Vec<GatewayId>> {
        self.inner.live_ids(cluster)
    }

    fn to_kill(&self, cluster: String) -> StoreFuture<'_, Vec<Row>> {
        self.inner.to_kill(cluster)
    }

    fn may_arrive(
        &self,
        cluster: String,
        since: Moment,
        after: GatewayId,
        limit: usize,
    ) -> StoreFuture<'_, Vec<Row>> {
        self.inner.may_arrive(cluster, since, after, limit)
    }

    fn give_up_arrivals(&self, cluster: String) -> StoreFuture<'_, ()> {
        self.inner.give_up_arrivals(cluster)
    }

    fn had_id(
        &self,
        cluster: String,
        upstream_id: String,
        but: GatewayId,
    ) -> StoreFuture<'_, Vec<Row>> {
        self.inner.had_id(cluster, upstream_id, but)
    }

    fn was_submitted_again(
        &self,
        owner: Option<String>,
        body_hash: Option<String>,
        after: GatewayId,
    ) -> StoreFuture<'_, bool> {
        self.inner.was_submitted_again(owner, body_hash, after)
    }

    fn was_alone(&self, cluster: String, but: GatewayId, since: Moment) -> StoreFuture<'_, bool> {
        self.inner.was_alone(cluster, but, since)
    }

    fn sweep(&self, retain: Duration, now: Moment) -> StoreFuture<'_, usize> {
        self.inner.sweep(retain, now)
    }

    fn orders(&self) -> StoreFuture<'_, Vec<Order>> {
        self.inner.orders()
    }

    fn give_order(&self, order: Order) -> StoreFuture<'_, Order> {
        self.inner.give_order(order)
    }

    fn lift_order(&self, cluster: String, wish: Wish) -> StoreFuture<'_, bool> {
        self.inner.lift_order(cluster, wish)
    }

    fn uptime_ms(&self) -> StoreFuture<'_, i64> {
        self.inner.uptime_ms()
    }

    fn beat(&self, uptime_ms: i64) -> StoreFuture<'_, i64> {
        self.inner.beat(uptime_ms)
    }

    fn take_over(&self) -> StoreFuture<'_, Vec<Row>> {
        self.inner.take_over()
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        self.inner.close()
    }
}

#[cfg(test)]
mod tests {
    use livy_dialect::BatchState;

    use super::*;
    use crate::registry::entry::tests::seen;

    const NOW: Moment = Moment {
        wall_ms: 5,
        up_ms: 5,
    };

    async fn list(store: &PassthroughStore, visible: Visible) -> Vec<i32> {
        let all = store.list(visible, None, Vec::new(), Box::new(|total| 0..total));
        let (total, rows) = all.await.expect("is read");
        assert_eq!(total, rows.len());
        rows.iter().map(shown_id).collect()
    }

    #[tokio::test]
    async fn a_list_is_in_the_order_of_the_clusters_numbers() {
        let store = PassthroughStore::new().expect("is made");
        for ids in [vec!["7", "9"], vec!["0", "8"]] {
            let seen = ids
                .into_iter()
                .map(|id| seen(id, None, BatchState::Running));
            let adopted = store.adopt("c".into(), seen.collect(), NOW, NOW).await;
            let known = adopted.expect("is stored").known;
            assert!(known.iter().all(|(row, _)| row.identity.id.0 > LAST_NUMBER));
        }
        assert_eq!(list(&store, Visible::All).await, [0, 7, 8, 9]);
        let page = store
            .list(Visible::All, None, Vec::new(), Box::new(|_| 1..3))
            .await;
        let page = page.expect("is read").1;
        assert_eq!(page.iter().map(shown_id).collect::<Vec<_>>(), [7, 8]);
        assert!(
            list(&store, Visible::OwnedBy("ann".into()))
                .await
                .is_empty()
        );
    }

    #[tokio::test]
    async fn one_number_is_one_batch() {
        let store = PassthroughStore::new().expect("is made");
        let adopt = |state| store.adopt("c".into(), vec![seen("7", Some("n"), state)], NOW, NOW);
        let first = adopt(BatchState::Running).await.expect("is stored").known;
        let mut row = first[0].0.clone();
        row.known.phase = Phase::Detached {
            upstream_id: Some("7".into()),
        };
        (row.known.state, row.known.ended) = (BatchState::Success, Some(NOW));
        store.save(vec![row.clone()]).await.expect("is stored");
        let found = store.by_number("c".into(), 7).await.expect("is read");
        assert_eq!(
            found.expect("is known").identity.id,
            row.identity.id,
            "its cluster forgot it"
        );
        let later = Moment {
            wall_ms: 9,
            up_ms: 9,
        };
        let next = seen("7", Some("another"), BatchState::Running);
        let adopted = store.adopt("c".into(), vec![next], later, later).await;
        let next = adopted.expect("is stored").known[0].0.identity.id;
        let found = store.by_number("c".into(), 7).await.expect("is read");
        assert_eq!(
            found.expect("is known").identity.id,
            next,
            "its cluster counts anew"
        );
        assert_eq!(list(&store, Visible::All).await, [7]);
        assert_eq!(store.by_number("c".into(), 8).await.expect("is read"), None);
    }
}
