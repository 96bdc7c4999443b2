//! The database's schema, and what every connection to it is told.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

pub(super) const MIGRATIONS: [&str; 5] = [
    include_str!("../schema/001.sql"),
    include_str!("../schema/002.sql"),
    include_str!("../schema/003.sql"),
    include_str!("../schema/004.sql"),
    include_str!("../schema/005.sql"),
];

/// Statements that a connection keeps prepared: all there are here, so that none is ever parsed
/// twice. SQLite's own default is 16.
const STATEMENTS: usize = 64;

pub(super) fn highest_id(connection: &Connection) -> rusqlite::Result<i64> {
    let query = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'batches'), 0)";
    connection
        .prepare_cached(query)?
        .query_row([], |row| row.get(0))
}

pub(super) fn sentence(error: rusqlite::Error) -> String {
    error.to_string()
}

/// Statements are made once: without this, SQLite makes one anew whenever a value is bound that its
/// plan might have been chosen by, which cost more than carrying it out.
pub(super) fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

pub(super) fn prepare(connection: &Connection) -> Result<(), String> {
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
