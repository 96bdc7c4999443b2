//! The disk that every life of the gateway finds again: one store, behind a gate of the life that
//! uses it. A write may be done and its answer lost.
//!
//! Where several gateways live at the same time it is their database, as the one of PostgreSQL is to
//! whoever uses it: `shared` is what it has beside the rows, and a life may be cut off from it.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use livy_dialect::Observed;
use livy_gateway::clock::Moment;
use livy_gateway::registry::{
    Adoption, Change, GatewayId, NewRow, Order, RangeOf, Recorded, RegistryError, Row, Saved,
    SqliteStore, Store, StoreFuture, Visible, Wish,
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::life::Life;
use crate::shared::Seat;
use crate::world::World;

/// For how long changes are gathered before the others are told.
const GATHER: Duration = Duration::from_millis(20);

/// How long a listener that failed rests before it connects again.
const REST: Duration = Duration::from_secs(1);

/// How long a listener takes to notice that nothing comes any more, where nobody tells it.
const NOTICED_AFTER: Duration = Duration::from_secs(7);

/// The store as one life sees it.
#[derive(Debug)]
pub(crate) struct Disk {
    pub(crate) inner: Arc<SqliteStore>,
    pub(crate) life: Life,
    pub(crate) world: World,
    /// Whether it takes its time.
    pub(crate) slow: bool,
    /// Its place among the processes that share it, if several do.
    pub(crate) seat: Option<Arc<Seat>>,
}

impl Disk {
    /// A slow disk lets others in between, before its work is done and before anybody hears of it.
    async fn take_time(&self) {
        if self.slow {
            let mut chance = self.world.next_chance("disk");
            let pause = match &self.seat {
                None if chance.percent(5) => chance.within(50..2000),
                // What one gateway was told, another one is to show soon.
                Some(_) if chance.percent(5) => chance.within(50..200),
                _ => chance.within(0..20),
            };
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Fails while the database can't be reached, after the time that it takes to see that.
    async fn reach(&self) -> Result<(), RegistryError> {
        let Some(cut) = self.life.is_cut_off() else {
            return Ok(());
        };
        sleep(cut.answered_after).await;
        self.life.gate().await;
        Err(RegistryError::Store("it can't be reached".into()))
    }

    fn through<'a, T: Send + 'a>(
        &'a self,
        work: impl FnOnce(&'a SqliteStore) -> StoreFuture<'a, T> + Send + 'a,
    ) -> StoreFuture<'a, T> {
        Box::pin(async move {
            self.take_time().await;
            self.life.gate().await;
            self.reach().await?;
            let result = work(&self.inner).await;
            self.take_time().await;
            self.life.gate().await;
            // What was done may be done, and nobody hears of it.
            self.reach().await?;
            result
        })
    }

    /// Tells the others what is still unsaid. What can't be said is said the next time.
    async fn last_words(&self, seat: &Seat) {
        let ids = seat.unsaid();
        let said = ids.clone();
        let told = self.through(move |_| {
            seat.notify(&said);
            Box::pin(std::future::ready(Ok(())))
        });
        if told.await.is_err() {
            seat.say_again(ids);
        }
    }
}

impl Disk {
    /// Waits for the next note. Begins to listen where that has not begun, or has ended; what was
    /// missed meanwhile is a change, too.
    async fn next_of(&self, seat: &Seat) -> Change {
        loop {
            if !seat.hears() {
                let listens = self.through(|_| {
                    seat.listen();
                    Box::pin(std::future::ready(Ok(())))
                });
                match listens.await {
                    Ok(()) => {
                        seat.begins_to_hear();
                        return Change::Missed;
                    }
                    Err(_) => sleep(REST).await,
                }
                continue;
            }
            tokio::select! {
                biased;
                cut = self.life.is_being_cut_off() => {
                    let noticed = Instant::now() + NOTICED_AFTER;
                    if cut.answered_after.is_zero() {
                        seat.hang_up();
                    } else if cut.until < noticed {
                        // What was said meanwhile is sent again, and comes late.
                        sleep_until(cut.until).await;
                        continue;
                    } else {
                        sleep_until(noticed).await;
                        seat.hang_up();
                    }
                    self.life.gate().await;
                    seat.hears_no_more();
                }
                change = seat.next_note() => {
                    self.life.gate().await;
                    return change;
                }
            }
        }
    }
}

impl Store for Disk {
    fn record(&self, row: NewRow, now: Moment) -> StoreFuture<'_, Recorded> {
        self.through(move |store| match &self.seat {
            None => store.record(row, now),
            Some(seat) => Box::pin(seat.record(store, row, now)),
        })
    }

    fn by_key(&self, owner: String, key: String) -> StoreFuture<'_, Option<Row>> {
        self.through(move |store| store.by_key(owner, key))
    }

    fn bind(&self, row: Row, now: Moment) -> StoreFuture<'_, (Saved, Vec<Row>)> {
        self.through(move |store| match &self.seat {
            None => store.bind(row, now),
            Some(seat) => Box::pin(seat.bind(store, row, now)),
        })
    }

    fn save(&self, rows: Vec<Row>) -> StoreFuture<'_, Vec<Saved>> {
        self.through(move |store| match &self.seat {
            None => store.save(rows),
            Some(seat) => Box::pin(seat.save(store, rows)),
        })
    }

    fn adopt(
        &self,
        cluster: String,
        seen: Vec<Observed>,
        asked: Moment,
        now: Moment,
    ) -> StoreFuture<'_, Adoption> {
        self.through(move |store| match &self.seat {
            None => store.adopt(cluster, seen, asked, now),
            Some(seat) => Box::pin(seat.adopt(store, cluster, seen, (asked, now))),
        })
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
        self.through(move |store| match &self.seat {
            None => store.list(visible, cluster, without, range),
            Some(seat) => Box::pin(seat.list(store, visible, cluster, without, range)),
        })
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
        self.through(move |store| match &self.seat {
            None => store.reopen(id, by),
            Some(seat) => Box::pin(seat.reopen(store, id, by)),
        })
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
        self.through(|store| match &self.seat {
            None => store.take_over(),
            Some(seat) => Box::pin(seat.take_over(store)),
        })
    }

    fn uptime_ms(&self) -> StoreFuture<'_, i64> {
        self.through(|store| match &self.seat {
            None => store.uptime_ms(),
            Some(seat) => Box::pin(std::future::ready(Ok(seat.beat()))),
        })
    }

    fn beat(&self, uptime_ms: i64) -> StoreFuture<'_, i64> {
        self.through(move |store| match &self.seat {
            None => store.beat(uptime_ms),
            Some(seat) => Box::pin(std::future::ready(Ok(seat.beat()))),
        })
    }

    fn is_shared(&self) -> bool {
        self.seat.is_some()
    }

    fn hears(&self) -> bool {
        self.seat.as_ref().is_none_or(|seat| seat.hears())
    }

    fn next_change(&self) -> Pin<Box<dyn Future<Output = Change> + Send + '_>> {
        Box::pin(async move {
            match &self.seat {
                None => std::future::pending().await,
                Some(seat) => self.next_of(seat).await,
            }
        })
    }

    fn tell_others(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let Some(seat) = &self.seat else {
                return std::future::pending().await;
            };
            loop {
                seat.more_to_say.notified().await;
                sleep(GATHER).await;
                self.last_words(seat).await;
            }
        })
    }

    fn is_worked_on_elsewhere(&self, id: GatewayId) -> StoreFuture<'_, bool> {
        self.through(move |store| match &self.seat {
            None => store.is_worked_on_elsewhere(id),
            Some(seat) => Box::pin(seat.is_worked_on_elsewhere(store, id)),
        })
    }

    fn hold(&self, duty: String) -> StoreFuture<'_, bool> {
        self.through(move |store| match &self.seat {
            None => store.hold(duty),
            Some(seat) => Box::pin(std::future::ready(Ok(seat.hold(&duty)))),
        })
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            // The next life opens it again.
            let Some(seat) = &self.seat else { return };
            self.last_words(seat).await;
            let left = self.through(|_| {
                seat.leave();
                Box::pin(std::future::ready(Ok(())))
            });
            // Where that fails, the others learn it when the lease runs out.
            let _ = left.await;
        })
    }
}
