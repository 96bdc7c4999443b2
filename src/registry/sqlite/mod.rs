//! The registry's embedded store: SQLite in WAL mode.
//!
//! One thread writes, one reads, each with a connection of its own; neither is an async thread. A
//! write that a client waits for is on disk when it returns (`synchronous = FULL`). Migrations are
//! the numbered files in `schema/`, applied in order, counted in `user_version`; a database of a
//! newer version is refused rather than guessed at.

mod guard;
mod lines;
mod schema;
mod statements;

use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use livy_dialect::Observed;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::oneshot;

use super::error::RegistryError;
use super::row::{GatewayId, Row};
use super::store::{
    Adoption, NewRow, Order, RangeOf, Recorded, Saved, Store, StoreFuture, Visible, Wish,
};
use crate::clock::Moment;
use guard::Guard;
use lines::{Job, Lines, lock, run};
use schema::{highest_id, keep_statements, prepare, sentence};
use statements::{
    HOLDER, SHOWN, adopt, all, bind, list, one, owner_of, read_order, record, reopen, save, sweep,
};

/// How long a write waits for another process that writes the file, which takes moments. Once that
/// was not enough, no write waits at all until one has passed: they would queue behind each other.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// A SQLite database.
#[derive(Debug)]
pub struct SqliteStore {
    lines: Lines,
    guard: Option<Arc<Mutex<Guard>>>,
    /// Whether the last write found the file locked by another process.
    is_locked: Arc<AtomicBool>,
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
        let read = Connection::open(path).map_err(sentence)?;
        keep_statements(&read).map_err(sentence)?;
        read.execute_batch("PRAGMA busy_timeout = 5000; PRAGMA query_only = ON;")
            .map_err(sentence)?;
        // Opens all files that reading takes: it goes on when their names are gone.
        highest_id(&read).map_err(sentence)?;
        let (writer, write_thread) = run("registry-write", write)?;
        let (reader, read_thread) = run("registry-read", read)?;
        let lines = Lines::Threads {
            writer,
            reader,
            threads: Mutex::new(vec![write_thread, read_thread]),
        };
        Ok(SqliteStore {
            lines,
            guard: Some(Arc::new(Mutex::new(guard))),
            is_locked: Arc::default(),
        })
    }

    /// Makes a database that lives as long as the process.
    ///
    /// # Errors
    /// Why it can't be made, in a sentence.
    pub fn in_memory() -> Result<Self, String> {
        let connection = Connection::open_in_memory().map_err(sentence)?;
        prepare(&connection)?;
        Ok(SqliteStore {
            lines: Lines::Inline(Mutex::new(connection)),
            guard: None,
            is_locked: Arc::default(),
        })
    }

    fn on<T: Send + 'static>(
        &self,
        writes: bool,
        work: impl FnOnce(&mut Connection) -> Result<T, RegistryError> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let queue = match &self.lines {
            Lines::Inline(connection) => {
                let result = work(&mut lock(connection));
                return Box::pin(std::future::ready(result));
            }
            Lines::Threads { writer, reader, .. } => if writes { writer } else { reader }.clone(),
        };
        Box::pin(async move {
            let (tell, told) = oneshot::channel();
            let job: Job = Box::new(move |connection| {
                // Whoever asked may have gone away; the work is done all the same.
                let _ = tell.send(work(connection));
            });
            queue
                .send(job)
                .await
                .map_err(|_| RegistryError::Store("it is closed".into()))?;
            match told.await {
                Ok(result) => result,
                Err(_) => Err(RegistryError::Store("its thread ended".into())),
            }
        })
    }

    fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        self.on(false, move |connection| {
            work(connection).map_err(store_error)
        })
    }

    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let (guard, is_locked) = (self.guard.clone(), self.is_locked.clone());
        self.on(true, move |connection| {
            if let Some(guard) = &guard {
                lock(guard).check().map_err(RegistryError::Store)?;
            }
            let transaction = begin(connection, &is_locked).map_err(store_error)?;
            if let Some(guard) = &guard {
                let highest = highest_id(&transaction).map_err(store_error)?;
                lock(guard).goes_on(highest).map_err(RegistryError::Store)?;
            }
            let value = work(&transaction).map_err(store_error)?;
            transaction.commit().map_err(store_error)?;
            Ok(value)
        })
    }

    /// Writes something that may give ids, and notes the highest one beside the database before
    /// anybody hears of it.
    fn write_ids<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<'_, T> {
        let guard = self.guard.clone();
        let written = self.write(move |tx| Ok((work(tx)?, highest_id(tx)?)));
        Box::pin(async move {
            let (value, highest) = written.await?;
            if let Some(guard) = guard {
                lock(&guard).mark(highest);
            }
            Ok(value)
        })
    }
}

fn store_error(error: rusqlite::Error) -> RegistryError {
    match &error {
        // The only CHECK that an insert can break is the one on ids.
        rusqlite::Error::SqliteFailure(code, _)
            if code.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_CHECK =>
        {
            RegistryError::OutOfIds
        }
        _ => RegistryError::Store(error.to_string()),
    }
}

/// Begins to write, once no other process does.
fn begin<'a>(
    connection: &'a mut Connection,
    is_locked: &AtomicBool,
) -> rusqlite::Result<Transaction<'a>> {
    let patience = match is_locked.load(Ordering::Relaxed) {
        true => Duration::ZERO,
        false => LOCK_PATIENCE,
    };
    connection.busy_timeout(patience)?;
    let began = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    let busy = began
        .as_ref()
        .is_err_and(|error| error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy));
    is_locked.store(busy, Ordering::Relaxed);
    began
}

impl Store for SqliteStore {
    fn record(&self, row: NewRow, now: Moment) -> StoreFuture<'_, Recorded> {
        self.write_ids(move |tx| record(tx, &row, now))
    }

    fn reopen(&self, id: GatewayId, by: GatewayId) -> StoreFuture<'_, ()> {
        self.write(move |tx| reopen(tx, id, by))
    }

    fn by_key(&self, owner: String, key: String) -> StoreFuture<'_, Option<Row>> {
        self.read(move |connection| {
            one(
                connection,
                "owner = ?1 AND idempotency_key = ?2",
                params![owner, key],
            )
        })
    }

    fn bind(&self, row: Row, now: Moment) -> StoreFuture<'_, (Saved, Vec<Row>)> {
        self.write(move |tx| bind(tx, &row, now))
    }

    fn save(&self, rows: Vec<Row>) -> StoreFuture<'_, Vec<Saved>> {
        self.write(move |tx| rows.iter().map(|row| save(tx, row)).collect())
    }

    fn adopt(
        &self,
        cluster: String,
        seen: Vec<Observed>,
        asked: Moment,
        now: Moment,
    ) -> StoreFuture<'_, Adoption> {
        self.write_ids(move |tx| adopt(tx, &cluster, seen, asked, now))
    }

    fn get(&self, id: GatewayId) -> StoreFuture<'_, Option<Row>> {
        self.read(move |connection| one(connection, "id = ?1", [id.0]))
    }

    fn holder(&self, cluster: String, upstream_id: String) -> StoreFuture<'_, Option<Row>> {
        self.read(move |connection| one(connection, HOLDER, params![cluster, upstream_id]))
    }

    fn shows_names(&self, cluster: String) -> StoreFuture<'_, bool> {
        self.read(move |connection| {
            let newest = "SELECT echoed FROM batches WHERE cluster = ?1 AND phase <> 'sending' ORDER BY id DESC LIMIT 50";
            let query = format!("SELECT coalesce(max(echoed), 0) FROM ({newest})");
            connection.prepare_cached(&query)?.query_row([cluster], |row| row.get(0))
        })
    }

    fn by_name(&self, name: String, visible: Visible) -> StoreFuture<'_, Option<Row>> {
        self.read(move |connection| {
            let filter = format!("{SHOWN} AND name = ?3 ORDER BY id DESC LIMIT 1");
            one(
                connection,
                &filter,
                params![owner_of(&visible), None::<String>, name],
            )
        })
    }

    fn list(
        &self,
        visible: Visible,
        cluster: Option<String>,
        without: Vec<GatewayId>,
        range: RangeOf,
    ) -> StoreFuture<'_, (usize, Vec<Row>)> {
        self.read(move |connection| list(connection, &visible, cluster.as_deref(), &without, range))
    }

    fn pending(&self) -> StoreFuture<'_, Vec<Row>> {
        self.read(|connection| all(connection, "phase = 'sending' ORDER BY id", []))
    }

    fn live(&self, cluster: String) -> StoreFuture<'_, i64> {
        self.read(move |connection| {
            let query = "SELECT count(*) FROM batches WHERE cluster = ?1 AND phase IN ('sending', 'bound') AND ended_ms IS NULL";
            connection.prepare_cached(query)?.query_row([cluster], |row| row.get(0))
        })
    }

    fn live_ids(&self, cluster: String) -> StoreFuture<'_, Vec<GatewayId>> {
        self.read(move |connection| {
            let query = "SELECT id FROM batches WHERE cluster = ?1 AND phase = 'bound' AND adopted = 0 AND ended_ms IS NULL ORDER BY id";
            connection.prepare_cached(query)?.query_map([cluster], |row| row.get(0).map(GatewayId))?.collect()
        })
    }

    fn to_kill(&self, cluster: String) -> StoreFuture<'_, Vec<Row>> {
        self.read(move |connection| {
            all(
                connection,
                "cluster = ?1 AND kill_asked = 1 AND phase IN ('sending', 'bound') ORDER BY id",
                [cluster],
            )
        })
    }

    fn may_arrive(
        &self,
        cluster: String,
        since: Moment,
        after: GatewayId,
        limit: usize,
    ) -> StoreFuture<'_, Vec<Row>> {
        self.read(move |connection| {
            // What has ended well, or badly, in its cluster's words is nothing to look for.
            let filter = "cluster = ?1 AND may_arrive = 1 AND phase IN ('refused', 'detached', 'deleted')
                AND (upstream_id IS NULL OR phase = 'deleted' OR state = 'error')
                AND (created_ms >= ?2 OR created_up_ms >= ?3 OR ended_ms >= ?2 OR ended_up_ms >= ?3 OR resolved_ms >= ?2 OR resolved_up_ms >= ?3)
                AND id > ?4 ORDER BY id LIMIT ?5";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            all(
                connection,
                filter,
                params![cluster, since.wall_ms, since.up_ms, after.0, limit],
            )
        })
    }

    fn give_up_arrivals(&self, cluster: String) -> StoreFuture<'_, ()> {
        self.write(move |tx| {
            let statement = "UPDATE batches SET may_arrive = 0, version = version + 1 WHERE cluster = ?1 AND may_arrive = 1";
            tx.execute(statement, [cluster]).map(drop)
        })
    }

    fn had_id(
        &self,
        cluster: String,
        upstream_id: String,
        but: GatewayId,
    ) -> StoreFuture<'_, Vec<Row>> {
        self.read(move |connection| {
            let filter = "cluster = ?1 AND upstream_id = ?2 AND id <> ?3 AND phase IN ('bound', 'deleted', 'detached')";
            all(connection, filter, params![cluster, upstream_id, but.0])
        })
    }

    fn was_submitted_again(
        &self,
        owner: Option<String>,
        body_hash: Option<String>,
        after: GatewayId,
    ) -> StoreFuture<'_, bool> {
        self.read(move |connection| {
            let query = "SELECT EXISTS (SELECT 1 FROM batches
                WHERE owner = ?1 AND id > ?3 AND idempotency_hash = ?2 AND phase <> 'refused')";
            connection
                .prepare_cached(query)?
                .query_row(params![owner, body_hash, after.0], |row| row.get(0))
        })
    }

    fn was_alone(&self, cluster: String, but: GatewayId, since: Moment) -> StoreFuture<'_, bool> {
        self.read(move |connection| {
            let filter = "cluster = ?1 AND id <> ?2 AND sent_name IS NULL AND adopted = 0 AND (phase = 'sending'
                OR (upstream_id IS NULL AND absent = 0 AND phase IN ('detached', 'deleted') AND ended_up_ms >= ?3)) LIMIT 1";
            let others = all(connection, filter, params![cluster, but.0, since.up_ms])?;
            Ok(others.is_empty())
        })
    }

    fn sweep(&self, retain: Duration, now: Moment) -> StoreFuture<'_, usize> {
        self.write(move |tx| sweep(tx, retain, now))
    }

    fn orders(&self) -> StoreFuture<'_, Vec<Order>> {
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT cluster, wish, since_ms, given_by FROM orders ORDER BY cluster, wish",
                )?
                .query_map([], read_order)?
                .collect()
        })
    }

    fn give_order(&self, order: Order) -> StoreFuture<'_, Order> {
        self.write(move |tx| {
            tx.execute(
                "INSERT INTO orders (cluster, wish, since_ms, given_by) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
                params![order.cluster, order.wish.as_str(), order.since_ms, order.by],
            )?;
            tx.query_row(
                "SELECT cluster, wish, since_ms, given_by FROM orders WHERE cluster = ?1 AND wish = ?2",
                params![order.cluster, order.wish.as_str()],
                read_order,
            )
        })
    }

    fn lift_order(&self, cluster: String, wish: Wish) -> StoreFuture<'_, bool> {
        self.write(move |tx| {
            tx.execute(
                "DELETE FROM orders WHERE cluster = ?1 AND wish = ?2",
                params![cluster, wish.as_str()],
            )
            .map(|count| count > 0)
        })
    }

    fn uptime_ms(&self) -> StoreFuture<'_, i64> {
        self.read(|connection| {
            connection.query_row(
                "SELECT value FROM meta WHERE key = 'uptime_ms'",
                [],
                |row| row.get(0),
            )
        })
    }

    fn beat(&self, uptime_ms: i64) -> StoreFuture<'_, i64> {
        self.write(move |tx| {
            tx.query_row(
                "UPDATE meta SET value = max(value, ?1) WHERE key = 'uptime_ms' RETURNING value",
                [uptime_ms],
                |row| row.get(0),
            )
        })
    }

    fn take_over(&self) -> StoreFuture<'_, Vec<Row>> {
        self.pending()
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            // Work behind all other work: when it has run, so have they.
            let last = self.on(true, |connection| {
                let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);");
                Ok(())
            });
            let _ = last.await;
            if let Lines::Threads { threads, .. } = &self.lines {
                lock(threads).clear();
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::row::Phase;
    use livy_dialect::BatchState;
    use schema::MIGRATIONS;

    #[test]
    fn a_database_of_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        drop(SqliteStore::open(&path).expect("opens"));
        let connection = Connection::open(&path).expect("opens");
        connection
            .execute_batch("PRAGMA user_version = 99")
            .expect("writes");
        assert!(
            SqliteStore::open(&path)
                .expect_err("is refused")
                .contains("newer version")
        );
    }

    #[test]
    fn one_file_has_one_writer() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let first = SqliteStore::open(&path).expect("opens");
        let refusal = SqliteStore::open(&path).expect_err("is refused");
        assert!(
            refusal.contains("another gateway is using it")
                && refusal.contains(&std::process::id().to_string()),
            "{refusal}"
        );
        drop(first);
    }

    #[test]
    fn ids_never_begin_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        std::fs::write(folder.path().join("a.db.ids"), "                 12\n")
            .expect("is written");
        let refusal = SqliteStore::open(&path).expect_err("is refused");
        assert!(
            refusal.contains("ids up to 12 were given") && refusal.contains("a.db.ids"),
            "{refusal}"
        );
    }

    #[tokio::test]
    async fn a_database_that_is_gone_is_not_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let store = SqliteStore::open(&path).expect("opens");
        store.beat(1).await.expect("is written");
        std::fs::remove_file(&path).expect("is removed");
        assert!(
            store
                .beat(2)
                .await
                .expect_err("is refused")
                .to_string()
                .contains("is gone")
        );
        assert_eq!(store.uptime_ms().await.expect("reads go on"), 1);
        std::fs::write(&path, "").expect("is written");
        assert!(
            store
                .beat(3)
                .await
                .expect_err("is refused")
                .to_string()
                .contains("was replaced")
        );
    }

    #[tokio::test]
    async fn an_old_copy_that_is_written_over_a_database_gives_no_ids() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let store = SqliteStore::open(&path).expect("opens");
        let adopt = || {
            let seen = crate::registry::entry::tests::seen("3", None, BatchState::Running);
            let now = Moment::default();
            store.adopt("c".into(), vec![seen], now, now)
        };
        let copy = || {
            let other = Connection::open(&path).expect("opens");
            let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
            let busy: i64 = other
                .query_row(checkpoint, [], |row| row.get(0))
                .expect("is written");
            assert_eq!(busy, 0);
            std::fs::read(&path).expect("is read")
        };
        let old = copy();
        adopt().await.expect("is stored");
        copy();
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .expect("opens");
        std::io::Write::write_all(&mut file, &old).expect("is written");
        let refusal = adopt().await.expect_err("is refused").to_string();
        assert!(refusal.contains("ids up to 1 were given"), "{refusal}");
    }

    #[tokio::test]
    async fn a_log_that_is_gone_is_not_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let store = SqliteStore::open(&path).expect("opens");
        store.beat(1).await.expect("is written");
        std::fs::remove_file(folder.path().join("a.db-wal")).expect("is removed");
        let refusal = store.beat(2).await.expect_err("is refused");
        assert!(refusal.to_string().contains("-wal is gone"), "{refusal}");
    }

    #[test]
    fn a_database_of_the_first_version_keeps_its_batches() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let old = Connection::open(&path).expect("opens");
        old.execute_batch(MIGRATIONS[0]).expect("is written");
        old.execute_batch(
            "PRAGMA user_version = 1;
             INSERT INTO batches (cluster, route, lookup_key, sent_name, owner, name, phase, upstream_id, state, created_ms, ended_ms)
             VALUES ('c', 'r', 'k', 'n', 'ann', 'n', 'bound', '3', 'success', 5, 9)",
        )
        .expect("is written");
        drop(old);
        let store = SqliteStore::open(&path).expect("opens");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let row = runtime
            .block_on(store.get(GatewayId(1)))
            .expect("is read")
            .expect("is there");
        assert_eq!(
            (row.known.phase, row.known.state),
            (
                Phase::Bound {
                    upstream_id: "3".into()
                },
                BatchState::Success
            )
        );
        assert!(row.known.told, "somebody may have been given it");
    }
}
