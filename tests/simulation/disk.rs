//! The disk that every life of the gateway finds again: one store, behind a gate of the life that
//! uses it. A write may be done and its answer lost.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use livy_dialect::Observed;
use livy_gateway::clock::Moment;
use livy_gateway::registry::{
    Adoption, GatewayId, NewRow, Order, RangeOf, Recorded, Row, Saved, SqliteStore, Store,
    StoreFuture, Visible, Wish,
};

use crate::life::Life;
use crate::world::World;

/// The store as one life sees it.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) inner: Arc<SqliteStore>,
    pub(crate) life: Life,
    pub(crate) world: World,
    /// Whether it takes its time.
    pub(crate) slow: bool,
}

impl Disk {
    /// A slow disk lets others in between, before its work is done and before anybody hears of it.
    async fn take_time(&self) {
        if self.slow {
            let mut chance = self.world.next_chance("disk");
            let pause = if chance.percent(5) {
                chance.within(50..2000)
            } else {
                chance.within(0..20)
            };
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    fn through<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&'a SqliteStore) -> StoreFuture<'a, T> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            self.take_time().await;
            self.life.gate().await;
            let result = work(&self.inner).await;
            self.take_time().await;
            self.life.gate().await;
            result
        })
    }
}

impl Store for Disk {
    fn record(&self, row: NewRow, now: Moment) -> StoreFuture<'_, Recorded> {
        self.through(move |store| store.record(row, now))
    }

    fn by_key(&self, owner: String, key: String) -> StoreFuture<'_, Option<Row>> {
        self.through(move |store| store.by_key(owner, key))
    }

    fn bind(&self, row: Row, now: Moment) -> StoreFuture<'_, (Saved, Vec<Row>)> {
        self.through(move |store| store.bind(row, now))
    }

    fn save(&self, rows: Vec<Row>) -> StoreFuture<'_, Vec<Saved>> {
        self.through(move |store| store.save(rows))
    }

    fn adopt(
        &self,
        cluster: String,
        seen: Vec<Observed>,
        asked: Moment,
        now: Moment,
    ) -> StoreFuture<'_, Adoption> {
        self.through(move |store| store.adopt(cluster, seen, asked, now))
    }

    fn get(&self, id: GatewayId) -> StoreFuture<'_, Option<Row>> {
        self.through(move |store| store.get(id))
    }

    fn holder(&self, cluster: String, upstream_id: String) -> StoreFuture<'_, Option<Row>> {
        self.through(move |store| store.holder(cluster, upstream_id))
    }

    fn shows_names(&self, cluster: String) -> StoreFuture<'_, bool> {
        self.through(move |store| store.shows_names(cluster))
    }

    fn by_name(&self, name: String, visible: Visible) -> StoreFuture<'_, Option<Row>> {
        self.through(move |store| store.by_name(name, visible))
    }

    fn list(
        &self,
        visible: Visible,
        cluster: Option<String>,
        without: Vec<GatewayId>,
        range: RangeOf,
    ) -> StoreFuture<'_, (usize, Vec<Row>)> {
        self.through(move |store| store.list(visible, cluster, without, range))
    }

    fn pending(&self) -> StoreFuture<'_, Vec<Row>> {
        self.through(|store| store.pending())
    }

    fn live(&self, cluster: String) -> StoreFuture<'_, i64> {
        self.through(move |store| store.live(cluster))
    }

    fn live_ids(&self, cluster: String) -> StoreFuture<'_, Vec<GatewayId>> {
        self.through(move |store| store.live_ids(cluster))
    }

    fn to_kill(&self, cluster: String) -> StoreFuture<'_, Vec<Row>> {
        self.through(move |store| store.to_kill(cluster))
    }

    fn may_arrive(
        &self,
        cluster: String,
        since: Moment,
        after: GatewayId,
        limit: usize,
    ) -> StoreFuture<'_, Vec<Row>> {
        self.through(move |store| store.may_arrive(cluster, since, after, limit))
    }

    fn reopen(&self, id: GatewayId, by: GatewayId) -> StoreFuture<'_, ()> {
        self.through(move |store| store.reopen(id, by))
    }

    fn give_up_arrivals(&self, cluster: String) -> StoreFuture<'_, ()> {
        self.through(move |store| store.give_up_arrivals(cluster))
    }

    fn had_id(
        &self,
        cluster: String,
        upstream_id: String,
        but: GatewayId,
    ) -> StoreFuture<'_, Vec<Row>> {
        self.through(move |store| store.had_id(cluster, upstream_id, but))
    }

    fn was_submitted_again(
        &self,
        owner: Option<String>,
        body_hash: Option<String>,
        after: GatewayId,
    ) -> StoreFuture<'_, bool> {
        self.through(move |store| store.was_submitted_again(owner, body_hash, after))
    }

    fn was_alone(&self, cluster: String, but: GatewayId, since: Moment) -> StoreFuture<'_, bool> {
        self.through(move |store| store.was_alone(cluster, but, since))
    }

    fn sweep(&self, retain: Duration, now: Moment) -> StoreFuture<'_, usize> {
        self.through(move |store| store.sweep(retain, now))
    }

    fn orders(&self) -> StoreFuture<'_, Vec<Order>> {
        self.through(|store| store.orders())
    }

    fn give_order(&self, order: Order) -> StoreFuture<'_, Order> {
        self.through(move |store| store.give_order(order))
    }

    fn lift_order(&self, cluster: String, wish: Wish) -> StoreFuture<'_, bool> {
        self.through(move |store| store.lift_order(cluster, wish))
    }

    fn take_over(&self) -> StoreFuture<'_, Vec<Row>> {
        self.through(|store| store.take_over())
    }

    fn uptime_ms(&self) -> StoreFuture<'_, i64> {
        self.through(|store| store.uptime_ms())
    }

    fn beat(&self, uptime_ms: i64) -> StoreFuture<'_, i64> {
        self.through(move |store| store.beat(uptime_ms))
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        // The next life opens it again.
        Box::pin(std::future::ready(()))
    }
}
