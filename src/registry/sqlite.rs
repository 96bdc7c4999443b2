//! The registry's embedded store: SQLite in WAL mode.
//!
//! One thread writes, one reads, each with a connection of its own; neither is an async thread. A
//! write that a client waits for is on disk when it returns (`synchronous = FULL`). Migrations are
//! the numbered files in `schema/`, applied in order, counted in `user_version`; a database of a
//! newer version is refused rather than guessed at.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use livy_dialect::{BatchState, Lookup, Observed};
use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, OptionalExtension as _, Transaction, TransactionBehavior, named_params, params,
};
use tokio::sync::{mpsc, oneshot};

use super::decide::{self, Adopt, Circumstances, Claim};
use super::entry::{Identity, Known, Phase};
use super::guard::Guard;
use super::store::{
    Adoption, NewRow, Order, RangeOf, Recorded, Row, Saved, Store, StoreFuture, Visible, Wish,
};
use super::{GatewayId, RegistryError};
use crate::clock::Moment;

const MIGRATIONS: [&str; 4] = [
    include_str!("schema/001.sql"),
    include_str!("schema/002.sql"),
    include_str!("schema/003.sql"),
    include_str!("schema/004.sql"),
];

/// Statements that a connection keeps prepared: all there are here, so that none is ever parsed
/// twice. SQLite's own default is 16.
const STATEMENTS: usize = 64;

/// Requests that may wait for a connection before senders wait too.
const QUEUE: usize = 1024;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A SQLite database.
#[derive(Debug)]
pub struct SqliteStore {
    lines: Lines,
    guard: Option<Arc<Mutex<Guard>>>,
}

/// How work gets to a connection.
#[derive(Debug)]
enum Lines {
    /// A thread for writing and one for reading.
    Threads {
        writer: mpsc::Sender<Job>,
        reader: mpsc::Sender<Job>,
        threads: Mutex<Vec<JoinHandle<()>>>,
    },
    /// At once, where it is asked for: nothing of it ever waits for a disk.
    Inline(Mutex<Connection>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let guard = self.guard.clone();
        self.on(true, move |connection| {
            if let Some(guard) = &guard {
                lock(guard).check().map_err(RegistryError::Store)?;
            }
            let transaction = connection
                .transaction_with_behavior(TransactionBehavior::Immediate)
                .map_err(store_error)?;
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

fn highest_id(connection: &Connection) -> rusqlite::Result<i64> {
    let query = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'batches'), 0)";
    connection
        .prepare_cached(query)?
        .query_row([], |row| row.get(0))
}

fn sentence(error: rusqlite::Error) -> String {
    error.to_string()
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

/// Statements are made once: without this, SQLite makes one anew whenever a value is bound that its
/// plan might have been chosen by, which cost more than carrying it out.
fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn prepare(connection: &Connection) -> Result<(), String> {
    keep_statements(connection).map_err(sentence)?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON;")
        .map_err(sentence)?;
    let version: usize = connection
        .query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))
        .map_err(sentence)
        .and_then(|version| {
            usize::try_from(version).map_err(|_| "a negative schema version".to_owned())
        })?;
    if version > MIGRATIONS.len() {
        return Err(format!(
            "it was written by a newer version (schema {version}, this one knows {})",
            MIGRATIONS.len()
        ));
    }
    for (at, migration) in MIGRATIONS.iter().enumerate().skip(version) {
        let step = format!(
            "BEGIN IMMEDIATE; {migration} PRAGMA user_version = {}; COMMIT;",
            at + 1
        );
        connection.execute_batch(&step).map_err(sentence)?;
    }
    Ok(())
}

fn run(
    name: &str,
    mut connection: Connection,
) -> Result<(mpsc::Sender<Job>, JoinHandle<()>), String> {
    let (queue, mut jobs) = mpsc::channel::<Job>(QUEUE);
    let work = move || {
        while let Some(job) = jobs.blocking_recv() {
            job(&mut connection);
        }
    };
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| error.to_string())?;
    Ok((queue, thread))
}

const COLUMNS: &str = "id, cluster, route, lookup_key, sent_name, owner, name, proxy_user, adopted, phase, upstream_id, state, app_id, \
    app_info, log, complete, created_ms, created_up_ms, seen_ms, ended_ms, ended_up_ms, name_hold_ms, idempotency_key, idempotency_hash, \
    idempotency_until_ms, idempotency_until_up_ms, version, told, quiet_ms, looked_ms, let_go, may_arrive, kill_asked, echoed, presumed, above, \
    waited_ms, arrived, absent";

fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let phase: String = row.get("phase")?;
    let state: String = row.get("state")?;
    let app_info: String = row.get("app_info")?;
    let log: String = row.get("log")?;
    let moment = |wall: Option<i64>, up: Option<i64>| {
        wall.map(|wall_ms| Moment {
            wall_ms,
            up_ms: up.unwrap_or(0),
        })
    };
    let known = Known {
        phase: Phase::from_columns(&phase, row.get("upstream_id")?),
        // The CHECK on the column admits these words only.
        state: BatchState::from_word(&state).unwrap_or(BatchState::Starting),
        app_id: row.get("app_id")?,
        app_info: serde_json::from_str(&app_info).unwrap_or_default(),
        log: serde_json::from_str(&log).unwrap_or_default(),
        complete: row.get("complete")?,
        seen_ms: row.get("seen_ms")?,
        ended: moment(row.get("ended_ms")?, row.get("ended_up_ms")?),
        proxy_user: row.get("proxy_user")?,
        told: row.get("told")?,
        echoed: row.get("echoed")?,
        presumed: row.get("presumed")?,
        kill_asked: row.get("kill_asked")?,
        may_arrive: row.get("may_arrive")?,
        let_go: row.get("let_go")?,
        quiet_ms: row.get("quiet_ms")?,
        looked_ms: row.get("looked_ms")?,
        waited_ms: row.get("waited_ms")?,
        arrived: row.get("arrived")?,
        absent: row.get("absent")?,
        ..Known::new()
    };
    let identity = Identity {
        id: GatewayId(row.get("id")?),
        cluster: row.get("cluster")?,
        route: row.get("route")?,
        lookup: Lookup {
            key: row.get("lookup_key")?,
            sent_name: row.get("sent_name")?,
        },
        owner: row.get("owner")?,
        name: row.get("name")?,
        adopted: row.get("adopted")?,
        created: Moment {
            wall_ms: row.get("created_ms")?,
            up_ms: row.get("created_up_ms")?,
        },
        name_hold_ms: row.get("name_hold_ms")?,
        body_hash: row.get("idempotency_hash")?,
        above: row.get("above")?,
    };
    let key: Option<String> = row.get("idempotency_key")?;
    let until = moment(
        row.get("idempotency_until_ms")?,
        row.get("idempotency_until_up_ms")?,
    );
    Ok(Row {
        identity,
        known,
        version: row.get("version")?,
        key_until: key.and(until),
    })
}

fn one(
    tx: &Connection,
    filter: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<Option<Row>> {
    tx.prepare_cached(&format!("SELECT {COLUMNS} FROM batches WHERE {filter}"))?
        .query_row(values, read_row)
        .optional()
}

fn all(tx: &Connection, filter: &str, values: impl rusqlite::Params) -> rusqlite::Result<Vec<Row>> {
    tx.prepare_cached(&format!("SELECT {COLUMNS} FROM batches WHERE {filter}"))?
        .query_map(values, read_row)?
        .collect()
}

fn record(tx: &Transaction<'_>, new: &NewRow, now: Moment) -> rusqlite::Result<Recorded> {
    let by_key = match &new.key {
        Some(key) => one(
            tx,
            "owner = ?1 AND idempotency_key = ?2",
            params![new.owner, key.key],
        )?,
        None => None,
    };
    let by_name = match &new.name {
        Some(name) => {
            let filter = "name = ?1 AND id <> ?2 AND phase IN ('sending', 'bound') ORDER BY ended_ms IS NOT NULL, ended_ms DESC LIMIT 1";
            one(
                tx,
                filter,
                params![name, new.replaces.map_or(0, |replaced| replaced.id.0)],
            )?
        }
        None => None,
    };
    match decide::claim(new, by_key.as_ref(), by_name.as_ref(), now) {
        Claim::Same(row) => return Ok(Recorded::Same(*row)),
        Claim::Conflict => return Ok(Recorded::Conflict),
        Claim::NameTaken(row) => return Ok(Recorded::NameTaken(row.map(|row| row.identity.id))),
        Claim::Free => {}
    }
    if let Some(row) = by_key {
        tx.execute(
            "UPDATE batches SET idempotency_key = NULL WHERE id = ?1",
            [row.identity.id.0],
        )?;
    }
    if let Some(replaced) = new.replaces {
        tx.execute(
            "UPDATE batches SET phase = 'refused', idempotency_key = NULL, may_arrive = max(may_arrive, ?2), version = version + 1
             WHERE id = ?1 AND phase IN ('sending', 'refused')",
            params![replaced.id.0, replaced.may_arrive],
        )?;
    }
    tx.prepare_cached(
        "INSERT INTO batches (cluster, route, lookup_key, sent_name, owner, name, phase, state, created_ms, created_up_ms, name_hold_ms,
             app_info, idempotency_key, idempotency_hash, idempotency_until_ms, idempotency_until_up_ms, told, looked_ms, above, proxy_user,
             version)
         VALUES (:cluster, :route, :key, :sent_name, :owner, :name, 'sending', 'starting', :now, :up, :hold,
             '{\"driverLogUrl\":null,\"sparkUiUrl\":null}', :ikey, :ihash, :iuntil, :iuntil_up, 0, :now, :above, :proxy_user, 1)",
    )?
    .execute(named_params! {
        ":cluster": new.cluster, ":route": new.route, ":key": new.lookup.key, ":sent_name": new.lookup.sent_name,
        ":owner": new.owner, ":name": new.name, ":now": now.wall_ms, ":up": now.up_ms, ":hold": new.name_hold_ms,
        ":ikey": new.key.as_ref().map(|key| &key.key), ":ihash": new.body_hash,
        ":iuntil": new.key.as_ref().map(|key| key.until.wall_ms), ":iuntil_up": new.key.as_ref().map_or(0, |key| key.until.up_ms),
        ":above": new.above, ":proxy_user": new.proxy_user,
    })?;
    let row = one(tx, "id = ?1", [tx.last_insert_rowid()])?;
    row.map(Recorded::New)
        .ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn reopen(tx: &Transaction<'_>, id: GatewayId, by: GatewayId) -> rusqlite::Result<()> {
    let columns = "idempotency_key, idempotency_until_ms, idempotency_until_up_ms";
    let (key, until, until_up): (Option<String>, Option<i64>, i64) = tx.query_row(
        &format!("SELECT {columns} FROM batches WHERE id = ?1"),
        [by.0],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    tx.execute(
        "UPDATE batches SET phase = 'refused', idempotency_key = NULL, version = version + 1
         WHERE id = ?1 AND id <> ?2 AND phase IN ('sending', 'refused')",
        params![by.0, id.0],
    )?;
    tx.execute(
        "UPDATE batches SET phase = 'sending', idempotency_key = ?2, idempotency_until_ms = ?3, idempotency_until_up_ms = ?4,
             version = version + 1
         WHERE id = ?1 AND phase IN ('sending', 'refused')",
        params![id.0, key, until, until_up],
    )?;
    Ok(())
}

/// Phases go forward only; what was given up without the cluster's word, and came late, or lost its
/// id on another's, may be bound after all.
const FORWARD: &str =
    "(CASE phase WHEN 'sending' THEN 0 WHEN 'bound' THEN 1 WHEN 'refused' THEN 2 WHEN 'detached' THEN 3 ELSE 4 END <= :rank
    OR (:phase IN ('sending', 'bound') AND (may_arrive = 1 AND phase = 'refused' OR phase = 'detached')))";

/// An end stands, but for what is bound again: it had not ended.
const OPEN_END: &str =
    "ended_ms IS NULL OR (phase = 'detached' AND :phase IN ('sending', 'bound'))";

/// Stores a row if its version is the one that the writer saw.
fn save(tx: &Connection, row: &Row) -> rusqlite::Result<Saved> {
    let known = &row.known;
    // What never came to be lets go of its key: a client may use it again.
    let lets_go = known.phase == Phase::Refused || known.absent;
    let changed = tx
        .prepare_cached(&format!(
            "UPDATE batches SET phase = :phase, upstream_id = :upstream_id, proxy_user = :proxy_user, app_id = :app_id, app_info = :app_info,
             log = :log, complete = :complete, seen_ms = :seen_ms, told = :told, quiet_ms = :quiet_ms, looked_ms = :looked_ms, let_go = :let_go,
             waited_ms = :waited_ms, arrived = :arrived, absent = :absent, may_arrive = :may_arrive, kill_asked = :kill_asked, echoed = :echoed, presumed = :presumed,
             state = CASE WHEN {OPEN_END} THEN :state ELSE state END,
             ended_up_ms = CASE WHEN {OPEN_END} THEN :ended_up_ms ELSE ended_up_ms END,
             ended_ms = CASE WHEN {OPEN_END} THEN :ended_ms ELSE ended_ms END,
             idempotency_key = CASE WHEN :lets_go THEN NULL ELSE idempotency_key END, version = version + 1
         WHERE id = :id AND version = :version AND {FORWARD}"
        ))?
        .execute(named_params! {
            ":id": row.identity.id.0, ":version": row.version, ":phase": known.phase.as_str(), ":rank": known.phase.rank(),
            ":upstream_id": known.phase.upstream_id(), ":proxy_user": known.proxy_user, ":app_id": known.app_id,
            ":app_info": serde_json::to_string(&known.app_info).unwrap_or_else(|_| "{}".into()),
            ":log": serde_json::to_string(&known.log).unwrap_or_else(|_| "[]".into()), ":complete": known.complete,
            ":seen_ms": known.seen_ms, ":told": known.told, ":quiet_ms": known.quiet_ms, ":looked_ms": known.looked_ms,
            ":waited_ms": known.waited_ms, ":arrived": known.arrived, ":absent": known.absent,
            ":let_go": known.let_go, ":may_arrive": known.may_arrive, ":kill_asked": known.kill_asked, ":echoed": known.echoed,
            ":presumed": known.presumed, ":state": known.state.as_str(), ":ended_ms": known.ended.map(|ended| ended.wall_ms),
            ":ended_up_ms": known.ended.map(|ended| ended.up_ms), ":lets_go": lets_go,
        })?;
    if changed == 1 {
        return Ok(Saved::Stored(row.version + 1));
    }
    // A row that was swept out is as if it had been deleted: nobody may bring it back.
    let newest = one(tx, "id = ?1", [row.identity.id.0])?;
    Ok(newest.map_or(Saved::Stored(row.version), |newest| {
        Saved::Older(Box::new(newest))
    }))
}

/// Takes an upstream id away from whoever holds it. An entry that was adopted after the submission
/// had been recorded is the submission itself, and vanishes; any other one keeps its last known
/// state, and one that had not ended is an `error` that says why.
fn detach(
    tx: &Transaction<'_>,
    holder: &Row,
    by: Option<GatewayId>,
    now: Moment,
) -> rusqlite::Result<Row> {
    let mut row = holder.clone();
    decide::give_up(
        &mut row.known,
        "the cluster gave this batch's id to another one: it was restarted",
        false,
        now,
    );
    if row.identity.adopted && by.is_some_and(|submission| row.identity.id > submission) {
        row.known.phase = Phase::Deleted { upstream_id: None };
    }
    save(tx, &row)?;
    Ok(one(tx, "id = ?1", [row.identity.id.0])?.unwrap_or(row))
}

const HOLDER: &str = "cluster = ?1 AND upstream_id = ?2 AND phase = 'bound'";

fn bind(tx: &Transaction<'_>, row: &Row, now: Moment) -> rusqlite::Result<(Saved, Vec<Row>)> {
    let holder = one(
        tx,
        &format!("{HOLDER} AND id <> ?3"),
        params![
            row.identity.cluster,
            row.known.phase.upstream_id(),
            row.identity.id.0
        ],
    )?;
    let lost = holder
        .map(|holder| detach(tx, &holder, Some(row.identity.id), now))
        .transpose()?;
    Ok((save(tx, row)?, lost.into_iter().collect()))
}

/// The rows that a batch of a list may have to do with, newest first. Of what ended under a name
/// that a client chose nothing more can come.
const RELATED: &str = "cluster = ?1 AND id < ?4 AND (lookup_key = ?2 AND adopted = 0
    OR sent_name = ?3 AND (phase <> 'bound' OR ended_ms IS NULL OR sent_name = 'livy-gateway-' || lookup_key)
    OR upstream_id = ?2 AND phase IN ('deleted', 'detached'))
    ORDER BY id DESC LIMIT 20";
const RELATED_PAGE: usize = 20;

/// Tells whether a live batch of another cluster goes under a name that its client chose.
fn lives_elsewhere(
    tx: &Transaction<'_>,
    cluster: &str,
    name: Option<&str>,
) -> rusqlite::Result<bool> {
    let query =
        "SELECT EXISTS (SELECT 1 FROM batches WHERE name = ?2 AND cluster <> ?1 AND adopted = 0
        AND phase IN ('sending', 'bound') AND ended_ms IS NULL)";
    tx.prepare_cached(query)?
        .query_row(params![cluster, name], |row| row.get(0))
}

fn adopt(
    tx: &Transaction<'_>,
    cluster: &str,
    seen: Vec<Observed>,
    asked: Moment,
    now: Moment,
) -> rusqlite::Result<Adoption> {
    let mut adoption = Adoption::default();
    let unnamed = "SELECT count(*) FROM batches WHERE phase = 'sending' AND cluster = ?1 AND sent_name IS NULL";
    let unnamed_on_its_way = tx
        .prepare_cached(unnamed)?
        .query_row([cluster], |row| row.get::<_, i64>(0))?
        > 0;
    for observed in seen {
        let holder = one(tx, HOLDER, params![cluster, observed.upstream_id])?;
        let mut before = i64::MAX;
        // Page by page, until one of them decides.
        let (decision, candidates) = loop {
            let page = all(
                tx,
                RELATED,
                params![cluster, observed.upstream_id, observed.name, before],
            )?;
            // Asked for only where it matters.
            let by_name = |row: &Row| row.known.may_arrive && !row.identity.lookup.is_certain();
            let around = Circumstances {
                unnamed_on_its_way,
                lives_elsewhere: page.iter().any(by_name)
                    && lives_elsewhere(tx, cluster, observed.name.as_deref())?,
                asked,
            };
            let decision = decide::adopt(&observed, holder.as_ref(), &page, around);
            let undecided = matches!(decision, Adopt::New | Adopt::Contradicts);
            match page.last() {
                Some(last) if undecided && page.len() == RELATED_PAGE => {
                    before = i64::from(last.identity.id.0);
                }
                _ => break (decision, page),
            }
        };
        match decision {
            Adopt::Known => adoption.known.extend(holder.map(|row| (row, observed))),
            Adopt::Leave => {}
            Adopt::Late(at) => adoption
                .late
                .extend(candidates.into_iter().nth(at).map(|row| (row, observed))),
            Adopt::Again(at) => adoption
                .again
                .extend(candidates.into_iter().nth(at).map(|row| (row, observed))),
            Adopt::Contradicts => adoption.doubted.extend(holder.map(|row| (row, observed))),
            Adopt::New => {
                if let Some(holder) = holder {
                    adoption.lost.push(detach(tx, &holder, None, now)?);
                }
                let row = insert_adopted(tx, cluster, &observed, now)?;
                adoption.known.push((row, observed));
            }
        }
    }
    Ok(adoption)
}

fn insert_adopted(
    tx: &Transaction<'_>,
    cluster: &str,
    observed: &Observed,
    now: Moment,
) -> rusqlite::Result<Row> {
    let state = observed.state.settle(None);
    // A made-up name is the mark of a gateway, not something that a client chose: it is shown to
    // nobody.
    let shown = observed
        .name
        .as_ref()
        .filter(|name| !name.starts_with(livy_dialect::livy::NAME_PREFIX));
    let owner = observed.proxy_user.as_ref().or(observed.owner.as_ref());
    tx.execute(
        "INSERT INTO batches (cluster, route, lookup_key, sent_name, owner, name, proxy_user, app_id, adopted, phase, upstream_id, state,
             created_ms, created_up_ms, echoed, version)
         VALUES (?1, '_none', '', ?2, ?3, ?4, ?5, ?6, 1, 'bound', ?7, ?8, ?9, ?10, ?11, 1)",
        params![
            cluster,
            observed.name,
            owner,
            shown,
            observed.proxy_user,
            observed.app_id,
            observed.upstream_id,
            state.as_str(),
            now.wall_ms,
            now.up_ms,
            observed.name.is_some()
        ],
    )?;
    let row = one(tx, "id = ?1", [tx.last_insert_rowid()])?;
    row.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

fn read_order(row: &rusqlite::Row<'_>) -> rusqlite::Result<Order> {
    let wish: String = row.get("wish")?;
    Ok(Order {
        cluster: row.get("cluster")?,
        // The CHECK on the column admits these words only.
        wish: Wish::from_word(&wish).unwrap_or(Wish::Disable),
        since_ms: row.get("since_ms")?,
        by: row.get("given_by")?,
    })
}

const SHOWN: &str = "phase IN ('sending', 'bound', 'detached') AND (?1 IS NULL OR owner = ?1) AND (?2 IS NULL OR cluster = ?2)";

fn owner_of(visible: &Visible) -> Option<&str> {
    match visible {
        Visible::All => None,
        Visible::OwnedBy(user) => Some(user),
    }
}

fn list(
    connection: &Connection,
    visible: &Visible,
    cluster: Option<&str>,
    range: RangeOf,
) -> rusqlite::Result<(usize, Vec<Row>)> {
    let owner = owner_of(visible);
    let count: i64 = connection
        .prepare_cached(&format!("SELECT count(*) FROM batches WHERE {SHOWN}"))?
        .query_row(params![owner, cluster], |row| row.get(0))?;
    let total = usize::try_from(count).unwrap_or(0);
    let range = range(total);
    let limit = i64::try_from(range.len()).unwrap_or(i64::MAX);
    let offset = i64::try_from(range.start).unwrap_or(i64::MAX);
    let rows = all(
        connection,
        &format!("{SHOWN} ORDER BY id LIMIT ?3 OFFSET ?4"),
        params![owner, cluster, limit, offset],
    )?;
    Ok((total, rows))
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
        range: RangeOf,
    ) -> StoreFuture<'_, (usize, Vec<Row>)> {
        self.read(move |connection| list(connection, &visible, cluster.as_deref(), range))
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
                AND (created_ms >= ?2 OR created_up_ms >= ?3 OR ended_ms >= ?2 OR ended_up_ms >= ?3) AND id > ?4 ORDER BY id LIMIT ?5";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            all(
                connection,
                filter,
                params![cluster, since.wall_ms, since.up_ms, after.0, limit],
            )
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

    fn was_alone(&self, cluster: String, but: GatewayId, since: Moment) -> StoreFuture<'_, bool> {
        self.read(move |connection| {
            let filter = "cluster = ?1 AND id <> ?2 AND sent_name IS NULL AND adopted = 0 AND (phase = 'sending'
                OR (upstream_id IS NULL AND absent = 0 AND phase IN ('detached', 'deleted') AND ended_up_ms >= ?3)) LIMIT 1";
            let others = all(connection, filter, params![cluster, but.0, since.up_ms])?;
            Ok(others.is_empty())
        })
    }

    fn sweep(&self, before: Moment) -> StoreFuture<'_, usize> {
        self.write(move |tx| {
            tx.execute(
                "DELETE FROM batches WHERE (ended_ms < ?1 AND coalesce(ended_up_ms, 0) < ?2)
                 OR (phase IN ('refused', 'deleted') AND created_ms < ?1 AND created_up_ms < ?2)",
                params![before.wall_ms, before.up_ms],
            )
        })
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

    fn set_uptime_ms(&self, uptime_ms: i64) -> StoreFuture<'_, ()> {
        self.write(move |tx| {
            tx.execute(
                "UPDATE meta SET value = max(value, ?1) WHERE key = 'uptime_ms'",
                [uptime_ms],
            )
            .map(drop)
        })
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
        store.set_uptime_ms(1).await.expect("is written");
        std::fs::remove_file(&path).expect("is removed");
        assert!(
            store
                .set_uptime_ms(2)
                .await
                .expect_err("is refused")
                .to_string()
                .contains("is gone")
        );
        assert_eq!(store.uptime_ms().await.expect("reads go on"), 1);
        std::fs::write(&path, "").expect("is written");
        assert!(
            store
                .set_uptime_ms(3)
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
        store.set_uptime_ms(1).await.expect("is written");
        std::fs::remove_file(folder.path().join("a.db-wal")).expect("is removed");
        let refusal = store.set_uptime_ms(2).await.expect_err("is refused");
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
