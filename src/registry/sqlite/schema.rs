//! The database's schema, and what every connection to it is told.

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::statements;

pub(in crate::registry) const MIGRATIONS: [&str; 6] = [
    include_str!("../schema/001.sql"),
    include_str!("../schema/002.sql"),
    include_str!("../schema/003.sql"),
    include_str!("../schema/004.sql"),
    include_str!("../schema/005.sql"),
    include_str!("../schema/006.sql"),
];

pub(in crate::registry) fn sentence(error: rusqlite::Error) -> String {
    error.to_string()
}

/// All statements are kept, so that none is ever parsed twice (SQLite's own default is 16); and made
/// once: without the option, SQLite makes one anew whenever a value is bound that its plan might have
/// been chosen by, which cost more than carrying it out.
fn keep_statements(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(statements::COUNT);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Prepares a connection that only reads.
pub(in crate::registry) fn prepare_to_read(connection: &Connection) -> rusqlite::Result<()> {
    keep_statements(connection)?;
    connection.execute_batch("PRAGMA busy_timeout = 5000; PRAGMA query_only = ON;")
}

/// Prepares the connection that writes, and brings the database up to date.
pub(in crate::registry) fn prepare(connection: &Connection) -> Result<(), String> {
    keep_statements(connection).map_err(sentence)?;
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON;")
        .map_err(sentence)?;
    let version: usize = connection
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
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
