//! The registry's embedded store: SQLite in WAL mode.
//!
//! One thread writes, a few read, each with a connection of its own; none is an async thread. Reads
//! never wait behind writes, and see every write whose future has resolved. A write that a client
//! waits for is on disk when it returns (`synchronous = FULL`); those that arrive together are
//! written together (`together`). Every statement is in `statements`, and goes by an index; what is
//! asked for often and would have to be counted is counted by triggers. Migrations are the numbered
//! files in `schema/`, applied in order, counted in `user_version`; a database of a newer version is
//! refused rather than guessed at.

mod adopt;
pub(super) mod guard;
mod lines;
mod pages;
pub(super) mod rows;
pub(super) mod schema;
pub(in crate::registry) mod statements;
mod sweep;
#[cfg(test)]
mod tests;
mod together;
mod write;

use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;
use std::time::Duration;

use livy_dialect::Observed;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use self::guard::Guard;
use self::lines::{Job, Lines, Read, lock};
use self::rows::{all, change, highest_id, one, read_order, value};
use self::schema::{prepare, prepare_to_read, sentence};
use self::statements as sql;
use self::sweep::Next;
use self::together::{Task, Writer, store_error};
use super::error::RegistryError;
use super::row::{GatewayId, Row};
use super::store::{
    Adoption, NewRow, Order, RangeOf, Recorded, Saved, Store, StoreFuture, Visible, Wish,
};
use crate::clock::Moment;

/// How many connections read: a long page keeps no poll waiting.
const READERS: usize = 4;

/// A SQLite database.
#[derive(Debug)]
pub struct SqliteStore {
    lines: Lines,
}

impl SqliteStore {
    /// Opens, or creates, a database file. Only one process may have it open.
    ///
    /// # Errors
    /// Why it can't be opened, in a sentence.
    pub fn open(path: &Path) -> Result<Self, String> {
        let mut guard = Guard::take(path)?;
        let write = Connection::open(path).map_err(sentence)?;
        prepare(&write)?;
        guard.opened(highest_id(&write).map_err(sentence)?)?;
        let open_reader = || {
            let read = Connection::open(path).and_then(|read| {
                prepare_to_read(&read)?;
                // Opens all files that reading takes: it goes on when their names are gone.
                highest_id(&read)?;
                Ok(read)
            });
            read.map_err(sentence)
        };
        let readers = (0..READERS)
            .map(|_| open_reader())
            .collect::<Result<_, _>>()?;
        Ok(SqliteStore {
            lines: Lines::start(Writer::new(write, Some(guard)), readers)?,
        })
    }

    /// Makes a database that lives as long as the process.
    ///
    /// # Errors
    /// Why it can't be made, in a sentence.
    pub fn in_memory() -> Result<Self, String> {
        let connection = Connection::open_in_memory().map_err(sentence)?;
        prepare(&connection)?;
        let writer = Writer::new(connection, None);
        Ok(SqliteStore {
            lines: Lines::Inline(Box::new(Mutex::new(writer))),
        })
    }

    /// The same, whose ids begin above one.
    ///
    /// # Errors
    /// Why it can't be made, in a sentence.
    pub(super) fn in_memory_above(id: i64) -> Result<Self, String> {
        let store = Self::in_memory()?;
        if let Lines::Inline(writer) = &store.lines {
            change(&lock(writer).connection, sql::BEGIN_ABOVE, [id]).map_err(sentence)?;
        }
        Ok(store)
    }

    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let readers = match &self.lines {
            Lines::Inline(writer) => {
                let result = work(&mut lock(writer).connection).map_err(store_error);
                return Box::pin(std::future::ready(result));
            }
            Lines::Threads(threads) => &threads.readers,
        };
        Box::pin(async move {
            let (tell, told) = oneshot::channel();
            let read: Read = Box::new(move |connection| {
                // Whoever asked may have gone away.
                let _ = tell.send(work(connection).map_err(store_error));
            });
            readers.send(read).await.map_err(|_| closed())?;
            told.await.map_err(|_| ended())?
        })
    }

    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let (task, outcome) = Task::new(work);
        let task = Box::new(task);
        match &self.lines {
            Lines::Inline(writer) => lock(writer).write(task, Vec::new),
            Lines::Threads(threads) => {
                return Box::pin(async move {
                    let sent = threads.writer.send(Job::Write(task)).await;
                    sent.map_err(|_| closed())?;
                    outcome.await.map_err(|_| ended())?
                });
            }
        }
        Box::pin(async move { outcome.await.map_err(|_| ended())? })
    }
}

fn closed() -> RegistryError {
    RegistryError::Store("it is closed".into())
}

fn ended() -> RegistryError {
    RegistryError::Store("its thread ended".into())
}

impl Store for SqliteStore {
    fn record(&self, row: NewRow, now: Moment) -> StoreFuture<'_, Recorded> {
        self.write(move |tx| write::record(tx, &row, now))
    }

    fn reopen(&self, id: GatewayId, by: GatewayId) -> StoreFuture<'_, ()> {
        self.write(move |tx| write::reopen(tx, id, by))
    }

    fn by_key(&self, owner: String, key: String) -> StoreFuture<'_, Option<Row>> {
        self.read(move |connection| one(connection, sql::BY_KEY, [owner, key]))
    }

    fn bind(&self, row: Row, now: Moment) -> StoreFuture<'_, (Saved, Vec<Row>)> {
        self.write(move |tx| write::bind(tx, &row, now))
    }

    fn save(&self, rows: Vec<Row>) -> StoreFuture<'_, Vec<Saved>> {
        self.write(move |tx| rows.iter().map(|row| write::save(tx, row)).collect())
    }

    fn adopt(
        &self,
        cluster: String,
        seen: Vec<Observed>,
        asked: Moment,
        now: Moment,
    ) -> StoreFuture<'_, Adoption> {
        self.write(move |tx| adopt::adopt(tx, &cluster, seen, asked, now))
    }

    fn get(&self, id: GatewayId) -> StoreFuture<'_, Option<Row>> {
        self.read(move |connection| one(connection, sql::BY_ID, [id.0]))
    }

    fn holder(&self, cluster: String, upstream_id: String) -> StoreFuture<'_, Option<Row>> {
        self.read(move |connection| one(connection, sql::HOLDER, [cluster, upstream_id]))
    }

    fn shows_names(&self, cluster: String) -> StoreFuture<'_, bool> {
        self.read(move |connection| value(connection, sql::SHOWS_NAMES, [cluster]))
    }

    fn by_name(&self, name: String, visible: Visible) -> StoreFuture<'_, Option<Row>> {
        self.read(move |connection| pages::by_name(connection, &name, &visible))
    }

    fn list(
        &self,
        visible: Visible,
        cluster: Option<String>,
        without: Vec<GatewayId>,
        range: RangeOf,
    ) -> StoreFuture<'_, (usize, Vec<Row>)> {
        self.read(move |connection| {
            pages::list(connection, &visible, cluster.as_deref(), &without, range)
        })
    }

    fn pending(&self) -> StoreFuture<'_, Vec<Row>> {
        self.read(|connection| all(connection, sql::OPEN, []))
    }

    fn live(&self, cluster: String) -> StoreFuture<'_, i64> {
        self.read(move |connection| value(connection, sql::LIVE, [cluster]))
    }

    fn live_ids(&self, cluster: String) -> StoreFuture<'_, Vec<GatewayId>> {
        self.read(move |connection| {
            let mut statement = sql::LIVE_IDS.on(connection)?;
            statement
                .query_map([cluster], |row| row.get(0).map(GatewayId))?
                .collect()
        })
    }

    fn to_kill(&self, cluster: String) -> StoreFuture<'_, Vec<Row>> {
        self.read(move |connection| all(connection, sql::TO_KILL, [cluster]))
    }

    fn may_arrive(
        &self,
        cluster: String,
        since: Moment,
        after: GatewayId,
        limit: usize,
    ) -> StoreFuture<'_, Vec<Row>> {
        self.read(move |connection| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let values = params![cluster, since.wall_ms, since.up_ms, after.0, limit];
            all(connection, sql::MAY_ARRIVE, values)
        })
    }

    fn give_up_arrivals(&self, cluster: String) -> StoreFuture<'_, ()> {
        self.write(move |tx| change(tx, sql::GIVE_UP_ARRIVALS, [cluster]).map(drop))
    }

    fn had_id(
        &self,
        cluster: String,
        upstream_id: String,
        but: GatewayId,
    ) -> StoreFuture<'_, Vec<Row>> {
        self.read(move |connection| {
            all(
                connection,
                sql::HAD_ID,
                params![cluster, upstream_id, but.0],
            )
        })
    }

    fn was_submitted_again(
        &self,
        owner: Option<String>,
        body_hash: Option<String>,
        after: GatewayId,
    ) -> StoreFuture<'_, bool> {
        self.read(move |connection| {
            value(
                connection,
                sql::SUBMITTED_AGAIN,
                params![owner, body_hash, after.0],
            )
        })
    }

    fn was_alone(&self, cluster: String, but: GatewayId, since: Moment) -> StoreFuture<'_, bool> {
        self.read(move |connection| {
            value(
                connection,
                sql::WAS_ALONE,
                params![cluster, but.0, since.up_ms],
            )
        })
    }

    fn sweep(&self, retain: Duration, now: Moment) -> StoreFuture<'_, usize> {
        Box::pin(async move {
            let (mut swept, mut next) = (0, Next::FIRST);
            while next != Next::Done {
                let part = self.write(move |tx| sweep::sweep(tx, next, retain, now));
                let (gone, then) = part.await?;
                (swept, next) = (swept + gone, then);
            }
            Ok(swept)
        })
    }

    fn orders(&self) -> StoreFuture<'_, Vec<Order>> {
        self.read(|connection| {
            let mut statement = sql::ORDERS.on(connection)?;
            statement.query_map([], read_order)?.collect()
        })
    }

    fn give_order(&self, order: Order) -> StoreFuture<'_, Order> {
        self.write(move |tx| {
            let wish = order.wish.as_str();
            let values = params![order.cluster, wish, order.since_ms, order.by];
            change(tx, sql::GIVE_ORDER, values)?;
            let mut statement = sql::ORDER.on(tx)?;
            statement.query_row(params![order.cluster, wish], read_order)
        })
    }

    fn lift_order(&self, cluster: String, wish: Wish) -> StoreFuture<'_, bool> {
        self.write(move |tx| {
            let lifted = change(tx, sql::LIFT_ORDER, params![cluster, wish.as_str()])?;
            Ok(lifted > 0)
        })
    }

    fn uptime_ms(&self) -> StoreFuture<'_, i64> {
        self.read(|connection| value(connection, sql::UPTIME, []))
    }

    fn beat(&self, uptime_ms: i64) -> StoreFuture<'_, i64> {
        self.write(move |tx| value(tx, sql::BEAT, [uptime_ms]))
    }

    fn take_over(&self) -> StoreFuture<'_, Vec<Row>> {
        self.pending()
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            let Lines::Threads(threads) = &self.lines else {
                return;
            };
            // Work behind all other work: when it has run, so have they.
            let (tell, told) = oneshot::channel();
            let last: Read = Box::new(move |connection| {
                let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);");
                let _ = tell.send(());
            });
            if threads.writer.send(Job::Last(last)).await.is_ok() {
                let _ = told.await;
            }
        })
    }
}
