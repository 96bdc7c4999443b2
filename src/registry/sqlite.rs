//! The registry's embedded store: SQLite in WAL mode.
//!
//! One thread writes, one reads, each with a connection of its own; neither is an async thread. A write that a client waits for is on
//! disk when it returns (`synchronous = FULL`). Migrations are the numbered files in `schema/`, applied in order, counted in
//! `user_version`; a database of a newer version is refused rather than guessed at.

use std::path::Path;
use std::pin::Pin;
use std::sync::Mutex;
use std::thread::JoinHandle;

use livy_dialect::{BatchState, Lookup, Observed};
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, named_params, params};
use tokio::sync::{mpsc, oneshot};

use super::adopt::{adopt, detach};
use super::store::{Adoption, NewRow, RangeOf, Recorded, Row, Store, StoreFuture, Visible};
use super::{GatewayId, Known, Phase, RegistryError};

const MIGRATIONS: [&str; 1] = [include_str!("schema/001.sql")];

/// Requests that may wait for a connection before senders wait too.
const QUEUE: usize = 1024;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A SQLite database.
#[derive(Debug)]
pub struct SqliteStore {
    writer: mpsc::Sender<Job>,
    reader: mpsc::Sender<Job>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl SqliteStore {
    /// Opens, or creates, a database file.
    ///
    /// # Errors
    /// Why it can't be opened, in a sentence.
    pub fn open(path: &Path) -> Result<Self, String> {
        let write = Connection::open(path).map_err(sentence)?;
        prepare(&write)?;
        let read = Connection::open(path).map_err(sentence)?;
        read.execute_batch("PRAGMA busy_timeout = 5000; PRAGMA query_only = ON;").map_err(sentence)?;
        let (writer, write_thread) = run("registry-write", write)?;
        let (reader, read_thread) = run("registry-read", read)?;
        Ok(SqliteStore { writer, reader, threads: Mutex::new(vec![write_thread, read_thread]) })
    }

    /// Makes a database that lives as long as the process.
    ///
    /// # Errors
    /// Why it can't be made, in a sentence.
    pub fn in_memory() -> Result<Self, String> {
        let connection = Connection::open_in_memory().map_err(sentence)?;
        prepare(&connection)?;
        let (writer, thread) = run("registry", connection)?;
        Ok(SqliteStore { reader: writer.clone(), writer, threads: Mutex::new(vec![thread]) })
    }

    fn on<T: Send + 'static>(
        queue: &mpsc::Sender<Job>,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<'static, T> {
        let queue = queue.clone();
        Box::pin(async move {
            let (tell, told) = oneshot::channel();
            let job: Job = Box::new(move |connection| {
                // Whoever asked may have gone away; the work is done all the same.
                let _ = tell.send(work(connection));
            });
            queue.send(job).await.map_err(|_| RegistryError::Store("it is closed".into()))?;
            match told.await {
                Ok(result) => result.map_err(store_error),
                Err(_) => Err(RegistryError::Store("its thread ended".into())),
            }
        })
    }

    fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    ) -> StoreFuture<'static, T> {
        Self::on(&self.writer, |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        })
    }
}

fn sentence(error: rusqlite::Error) -> String {
    error.to_string()
}

fn store_error(error: rusqlite::Error) -> RegistryError {
    match &error {
        // The only CHECK that an insert can break is the one on ids.
        rusqlite::Error::SqliteFailure(code, _) if code.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_CHECK => RegistryError::OutOfIds,
        _ => RegistryError::Store(error.to_string()),
    }
}

fn prepare(connection: &Connection) -> Result<(), String> {
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON;")
        .map_err(sentence)?;
    let version: usize = connection
        .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
        .map_err(sentence)
        .and_then(|version| usize::try_from(version).map_err(|_| "a negative schema version".to_owned()))?;
    if version > MIGRATIONS.len() {
        return Err(format!("it was written by a newer version (schema {version}, this one knows {})", MIGRATIONS.len()));
    }
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        let step = format!("BEGIN IMMEDIATE; {migration} PRAGMA user_version = {}; COMMIT;", at + 1);
        connection.execute_batch(&step).map_err(sentence)?;
    }
    Ok(())
}

fn run(name: &str, mut connection: Connection) -> Result<(mpsc::Sender<Job>, JoinHandle<()>), String> {
    let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE);
    let work = move || {
        while let Some(job) = jobs.blocking_recv() {
            job(&mut connection);
        }
    };
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|error| error.to_string())?;
    Ok((queue, thread))
}

pub(super) const COLUMNS: &str = "id, cluster, route, lookup_key, sent_name, owner, name, proxy_user, adopted, phase, upstream_id, state, app_id, \
    app_info, log, complete, created_ms, seen_ms, ended_ms, name_hold_ms, idempotency_hash";

pub(super) fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let phase: String = row.get("phase")?;
    let state: String = row.get("state")?;
    let app_info: String = row.get("app_info")?;
    let log: String = row.get("log")?;
    let known = Known {
        // The CHECK on the column admits these words only.
        phase: Phase::ALL.into_iter().find(|known| known.as_str() == phase).unwrap_or(Phase::Detached),
        upstream_id: row.get("upstream_id")?,
        state: BatchState::from_word(&state).unwrap_or(BatchState::Starting),
        app_id: row.get("app_id")?,
        app_info: serde_json::from_str(&app_info).unwrap_or_default(),
        log: serde_json::from_str(&log).unwrap_or_default(),
        complete: row.get("complete")?,
        seen_ms: row.get("seen_ms")?,
        item_ms: 0,
        ended_ms: row.get("ended_ms")?,
        proxy_user: row.get("proxy_user")?,
        disclosed: false,
        missing_ms: 0,
    };
    Ok(Row {
        id: GatewayId(row.get("id")?),
        cluster: row.get("cluster")?,
        route: row.get("route")?,
        lookup: Lookup { key: row.get("lookup_key")?, sent_name: row.get("sent_name")? },
        owner: row.get("owner")?,
        name: row.get("name")?,
        adopted: row.get("adopted")?,
        created_ms: row.get("created_ms")?,
        name_hold_ms: row.get("name_hold_ms")?,
        idempotency_hash: row.get("idempotency_hash")?,
        known,
    })
}

pub(super) fn one(tx: &Connection, filter: &str, values: impl rusqlite::Params) -> rusqlite::Result<Option<Row>> {
    tx.prepare_cached(&format!("SELECT {COLUMNS} FROM batches WHERE {filter}"))?.query_row(values, read_row).optional()
}

fn record(tx: &Transaction<'_>, new: &NewRow) -> rusqlite::Result<Recorded> {
    if let Some(idempotency) = &new.idempotency {
        // A key whose time is over is a new one; so is the key of a submission that never came to be.
        tx.execute(
            "UPDATE batches SET idempotency_key = NULL
             WHERE owner = ?1 AND idempotency_key = ?2 AND (idempotency_until_ms < ?3 OR phase = 'refused')",
            params![new.owner, idempotency.key, new.now_ms],
        )?;
        if let Some(row) = one(tx, "owner = ?1 AND idempotency_key = ?2", params![new.owner, idempotency.key])? {
            return Ok(Recorded::Known(row));
        }
    }
    if let Some(name) = &new.name {
        let holder = one(
            tx,
            "name = ?1 AND phase IN ('sending', 'bound') AND (ended_ms IS NULL OR ended_ms + name_hold_ms > ?2)",
            params![name, new.now_ms],
        )?;
        if let Some(row) = holder {
            return Ok(Recorded::NameTaken(row.id));
        }
    }
    tx.prepare_cached(
        "INSERT INTO batches (cluster, route, lookup_key, sent_name, owner, name, phase, state, created_ms, name_hold_ms,
             app_info, idempotency_key, idempotency_hash, idempotency_until_ms)
         VALUES (:cluster, :route, :key, :sent_name, :owner, :name, 'sending', 'starting', :now, :hold,
             '{\"driverLogUrl\":null,\"sparkUiUrl\":null}', :ikey, :ihash, :iuntil)",
    )?
    .execute(named_params! {
        ":cluster": new.cluster, ":route": new.route, ":key": new.lookup.key, ":sent_name": new.lookup.sent_name,
        ":owner": new.owner, ":name": new.name, ":now": new.now_ms, ":hold": new.name_hold_ms,
        ":ikey": new.idempotency.as_ref().map(|i| &i.key), ":ihash": new.idempotency.as_ref().map(|i| &i.body_hash),
        ":iuntil": new.idempotency.as_ref().map(|i| i.until_ms),
    })?;
    let row = one(tx, "id = ?1", [tx.last_insert_rowid()])?;
    row.map(Recorded::New).ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn save(tx: &Connection, row: &Row) -> rusqlite::Result<()> {
    // A late write of an older observation must not bring back what has ended, nor revive what was deleted.
    tx.prepare_cached(
        "UPDATE batches SET phase = CASE WHEN phase IN ('refused', 'deleted') THEN phase ELSE :phase END,
             upstream_id = :upstream_id, proxy_user = :proxy_user, app_id = :app_id, app_info = :app_info, log = :log,
             complete = max(complete, :complete), seen_ms = max(seen_ms, :seen_ms),
             state = CASE WHEN ended_ms IS NULL THEN :state ELSE state END,
             ended_ms = coalesce(ended_ms, :ended_ms),
             idempotency_key = CASE WHEN :phase = 'refused' THEN NULL ELSE idempotency_key END
         WHERE id = :id",
    )?
    .execute(named_params! {
        ":id": row.id.0, ":phase": row.known.phase.as_str(), ":upstream_id": row.known.upstream_id, ":proxy_user": row.known.proxy_user,
        ":app_id": row.known.app_id, ":app_info": serde_json::to_string(&row.known.app_info).unwrap_or_else(|_| "{}".into()),
        ":log": serde_json::to_string(&row.known.log).unwrap_or_else(|_| "[]".into()), ":complete": row.known.complete,
        ":seen_ms": row.known.seen_ms, ":state": row.known.state.as_str(), ":ended_ms": row.known.ended_ms,
    })?;
    Ok(())
}

const SHOWN: &str = "phase IN ('sending', 'bound', 'detached') AND (?1 IS NULL OR owner = ?1) AND (?2 IS NULL OR cluster = ?2)";

fn list(connection: &Connection, visible: &Visible, cluster: Option<&str>, range: RangeOf) -> rusqlite::Result<(usize, Vec<Row>)> {
    let owner = match visible {
        Visible::All => None,
        Visible::OwnedBy(user) => Some(user.as_str()),
    };
    let count: i64 = connection
        .prepare_cached(&format!("SELECT count(*) FROM batches WHERE {SHOWN}"))?
        .query_row(params![owner, cluster], |row| row.get(0))?;
    let total = usize::try_from(count).unwrap_or(0);
    let range = range(total);
    let rows = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM batches WHERE {SHOWN} ORDER BY id LIMIT ?3 OFFSET ?4"))?
        .query_map(
            params![owner, cluster, i64::try_from(range.len()).unwrap_or(i64::MAX), i64::try_from(range.start).unwrap_or(i64::MAX)],
            read_row,
        )?
        .collect::<Result<Vec<_>, _>>()?;
    Ok((total, rows))
}

impl Store for SqliteStore {
    fn record(&self, row: NewRow) -> StoreFuture<'_, Recorded> {
        self.write(move |tx| record(tx, &row))
    }

    fn bind(&self, row: Row) -> StoreFuture<'_, Vec<GatewayId>> {
        self.write(move |tx| {
            let upstream_id = row.known.upstream_id.clone().unwrap_or_default();
            let lost = detach(tx, &row.cluster, &upstream_id, Some(row.id), row.created_ms)?;
            save(tx, &row)?;
            Ok(lost)
        })
    }

    fn save(&self, row: Row) -> StoreFuture<'_, ()> {
        self.write(move |tx| save(tx, &row))
    }

    fn save_later(&self, row: Row) {
        let job: Job = Box::new(move |connection| {
            if let Err(error) = save(connection, &row) {
                tracing::warn!(%error, batch = %row.id, "an observation could not be stored");
            }
        });
        if self.writer.try_send(job).is_err() {
            tracing::warn!("the registry's queue is full; an observation was not stored and will be made again");
        }
    }

    fn adopt(&self, cluster: String, seen: Vec<Observed>, now_ms: i64) -> StoreFuture<'_, Adoption> {
        self.write(move |tx| adopt(tx, &cluster, seen, now_ms))
    }

    fn get(&self, id: GatewayId) -> StoreFuture<'_, Option<Row>> {
        Self::on(&self.reader, move |connection| one(connection, "id = ?1", [id.0]))
    }

    fn by_name(&self, name: String, visible: Visible) -> StoreFuture<'_, Option<Row>> {
        Self::on(&self.reader, move |connection| {
            let owner = match visible {
                Visible::All => None,
                Visible::OwnedBy(user) => Some(user),
            };
            let filter = format!("{SHOWN} AND name = ?3 ORDER BY id DESC LIMIT 1");
            one(connection, &filter, params![owner, None::<String>, name])
        })
    }

    fn list(&self, visible: Visible, cluster: Option<String>, range: RangeOf) -> StoreFuture<'_, (usize, Vec<Row>)> {
        Self::on(&self.reader, move |connection| list(connection, &visible, cluster.as_deref(), range))
    }

    fn pending(&self) -> StoreFuture<'_, Vec<Row>> {
        Self::on(&self.reader, |connection| {
            connection
                .prepare_cached(&format!("SELECT {COLUMNS} FROM batches WHERE phase = 'sending' ORDER BY id"))?
                .query_map([], read_row)?
                .collect()
        })
    }

    fn live(&self, cluster: String) -> StoreFuture<'_, i64> {
        Self::on(&self.reader, move |connection| {
            let query = "SELECT count(*) FROM batches WHERE cluster = ?1 AND phase IN ('sending', 'bound') AND ended_ms IS NULL";
            connection.prepare_cached(query)?.query_row([cluster], |row| row.get(0))
        })
    }

    fn live_ids(&self, cluster: String) -> StoreFuture<'_, Vec<GatewayId>> {
        Self::on(&self.reader, move |connection| {
            let query = "SELECT id FROM batches WHERE cluster = ?1 AND phase = 'bound' AND adopted = 0 AND ended_ms IS NULL ORDER BY id";
            connection.prepare_cached(query)?.query_map([cluster], |row| row.get(0).map(GatewayId))?.collect()
        })
    }

    fn sweep(&self, before_ms: i64) -> StoreFuture<'_, usize> {
        self.write(move |tx| {
            tx.execute("DELETE FROM batches WHERE ended_ms < ?1 OR (phase IN ('refused', 'deleted') AND created_ms < ?1)", [before_ms])
        })
    }

    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            // A job behind all others: when it has run, so have they.
            let (tell, told) = oneshot::channel();
            let last: Job = Box::new(move |connection| {
                let _ = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE);");
                let _ = tell.send(());
            });
            if self.writer.send(last).await.is_ok() {
                let _ = told.await;
            }
            self.threads.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Idempotency, Intent, Intention, Registry};
    use super::*;
    use livy_dialect::StateReading;
    use std::sync::Arc;
    use std::time::Duration;

    fn registry() -> Registry {
        Registry::new(Arc::new(SqliteStore::in_memory().expect("memory")))
    }

    fn intent(name: Option<&str>) -> Intent {
        let key = uuid::Uuid::new_v4().to_string();
        Intent {
            cluster: "c".into(),
            route: "r".into(),
            lookup: Lookup { sent_name: Some(name.map_or_else(|| format!("made-{key}"), str::to_owned)), key },
            owner: "ann".into(),
            name: name.map(str::to_owned),
            names_kept_by_cluster: false,
            idempotency: None,
        }
    }

    fn seen(id: &str, name: Option<&str>, state: BatchState) -> Observed {
        Observed {
            upstream_id: id.into(),
            name: name.map(str::to_owned),
            owner: None,
            proxy_user: Some("ann".into()),
            state: StateReading::Known(state),
            app_id: None,
            app_info: [("sparkUiUrl".to_owned(), None)].into(),
            log: vec!["line".into()],
            duplicate: false,
        }
    }

    async fn new(registry: &Registry, intent: Intent) -> Arc<super::super::Entry> {
        match registry.record(intent).await.expect("is stored") {
            Intention::New(entry) => entry,
            other => panic!("not new: {other:?}"),
        }
    }

    #[tokio::test]
    async fn ids_are_never_used_again() {
        let registry = registry();
        let first = new(&registry, intent(None)).await;
        registry.refuse(&first, "no").await.expect("is stored");
        tokio::time::timeout(Duration::from_secs(5), async {
            // `retain` of zero sweeps everything that is over.
            while registry.sweep(Duration::ZERO).await.expect("sweeps") == 0 {}
        })
        .await
        .expect("is swept");
        assert!(new(&registry, intent(None)).await.id > first.id);
    }

    #[tokio::test]
    async fn names_are_held_by_the_living_and_a_while_longer() {
        let registry = registry();
        let entry = new(&registry, intent(Some("nightly"))).await;
        let again = registry.record(intent(Some("nightly"))).await.expect("is stored");
        assert!(matches!(again, Intention::NameTaken(id) if id == entry.id));
        registry.bind(&entry, &seen("0", Some("nightly"), BatchState::Success)).await.expect("is stored");
        assert!(matches!(registry.record(intent(Some("nightly"))).await, Ok(Intention::NameTaken(_))), "ended a moment ago");
        registry.delete(&entry).await.expect("is stored");
        new(&registry, intent(Some("nightly"))).await;
    }

    #[tokio::test]
    async fn an_upstream_id_belongs_to_the_last_who_got_it() {
        let registry = registry();
        let (old, young) = (new(&registry, intent(None)).await, new(&registry, intent(None)).await);
        let name = |entry: &super::super::Entry| entry.lookup.sent_name.clone();
        registry.bind(&old, &seen("0", name(&old).as_deref(), BatchState::Running)).await.expect("is stored");
        registry.bind(&young, &seen("0", name(&young).as_deref(), BatchState::Running)).await.expect("is stored");
        let old = registry.get(old.id).await.expect("is read").expect("is there");
        assert_eq!((old.phase(), old.known().state), (Phase::Detached, BatchState::Error));
        assert!(old.known().app_info.get("gatewayReason").is_some_and(Option::is_some));
        assert_eq!(registry.get(young.id).await.expect("is read").expect("is there").phase(), Phase::Bound);
    }

    #[tokio::test]
    async fn lists_adopt_what_is_new_and_nothing_that_is_on_its_way() {
        let registry = registry();
        let entry = new(&registry, intent(None)).await;
        let sent = entry.lookup.sent_name.clone();
        let list = vec![seen("5", sent.as_deref(), BatchState::Running), seen("6", Some("foreign"), BatchState::Running)];
        let total = || async { registry.list(Visible::All, None, |total| 0..total).await.expect("is read").0 };
        registry.adopt("c", list.clone()).await.expect("is stored");
        assert_eq!(total().await, 2, "the one on its way, and the foreign one");
        registry.bind(&entry, &list[0]).await.expect("is stored");
        registry.adopt("c", list.clone()).await.expect("is stored");
        assert_eq!(total().await, 2);
        registry.delete(&entry).await.expect("is stored");
        registry.adopt("c", vec![seen("5", sent.as_deref(), BatchState::Killed)]).await.expect("is stored");
        assert_eq!(total().await, 1, "what was deleted stays away, though its cluster goes on listing it");
    }

    #[tokio::test]
    async fn a_batch_that_gets_its_name_later_is_still_the_same() {
        let registry = registry();
        let id = "0e0b6f5e-0000-4000-8000-000000000000";
        registry.adopt("c", vec![seen(id, None, BatchState::Starting)]).await.expect("is stored");
        registry.adopt("c", vec![seen(id, Some("the app's own"), BatchState::Running)]).await.expect("is stored");
        let (total, entries) = registry.list(Visible::OwnedBy("ann".into()), None, |total| 0..total).await.expect("is read");
        assert_eq!((total, entries[0].known().state), (1, BatchState::Running));
    }

    #[tokio::test]
    async fn a_refused_submission_frees_its_key() {
        let registry = registry();
        let keyed =
            || Intent { idempotency: Some(Idempotency { key: "k".into(), body_hash: "h".into(), until_ms: i64::MAX }), ..intent(None) };
        let first = new(&registry, keyed()).await;
        assert!(matches!(registry.record(keyed()).await, Ok(Intention::Replay(entry)) if entry.id == first.id));
        registry.refuse(&first, "no").await.expect("is stored");
        assert!(new(&registry, keyed()).await.id > first.id);
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        drop(SqliteStore::open(&path).expect("opens"));
        let connection = Connection::open(&path).expect("opens");
        connection.execute_batch("PRAGMA user_version = 99").expect("writes");
        assert!(SqliteStore::open(&path).expect_err("is refused").contains("newer version"));
    }
}
