//! The registry as a whole, while no request goes through it: written as lines, read from lines,
//! counted, looked over. What the `registry` commands do.
//!
//! `line` is the format, `bring` decides what becomes of a line; a `Book` is a store's database in
//! one view or one transaction. Leaves to a store what a gateway does with it.

mod book;
mod bring;
mod export;
mod import;
mod line;
#[cfg(feature = "postgres")]
mod postgres;
mod prune;
mod record;
mod sqlite;
mod stats;
#[cfg(test)]
mod tests;
mod verify;

use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::time::Duration;

use self::book::Book;
#[cfg(feature = "postgres")]
use self::postgres::PostgresBook;
use self::sqlite::SqliteBook;
use super::store::Store;
use crate::config::checked;

pub use self::import::Imported;
pub use self::prune::Pruned;
pub use self::stats::{OfCluster, Stats};
pub use self::verify::Check;

/// What the configuration has instead of a registry that lasts.
const NOTHING: &str = "the configuration's registry keeps nothing: there is nothing to read, and nothing would stay of what is written";

async fn open(config: &checked::Registry) -> Result<Box<dyn Book>, String> {
    match config {
        checked::Registry::Sqlite(path) => Ok(Box::new(SqliteBook::open_to_read(path)?)),
        #[cfg(feature = "postgres")]
        checked::Registry::Postgres(config) => {
            Ok(Box::new(PostgresBook::open_to_read(config).await?))
        }
        _ => Err(NOTHING.to_owned()),
    }
}

async fn open_to_write(config: &checked::Registry) -> Result<Box<dyn Book>, String> {
    match config {
        checked::Registry::Sqlite(path) => Ok(Box::new(SqliteBook::open_to_write(path)?)),
        #[cfg(feature = "postgres")]
        checked::Registry::Postgres(config) => {
            Ok(Box::new(PostgresBook::open_to_write(config).await?))
        }
        _ => Err(NOTHING.to_owned()),
    }
}

/// Writes a registry as lines, as it is at this moment; returns how many batches. A gateway may be
/// running on it.
///
/// # Errors
/// Why not, in a sentence.
pub async fn export(config: &checked::Registry, out: &mut dyn Write) -> Result<u64, String> {
    export::export(open(config).await?.as_mut(), out).await
}

/// Reads lines into a registry that no gateway uses, all of them or none. `file` names them for
/// people, `clusters` are those of the configuration, `wall_ms` is now. With `dry`, nothing is
/// written.
///
/// # Errors
/// What is wrong with which line, and why nothing was written.
pub async fn import(
    config: &checked::Registry,
    lines: &mut (dyn BufRead + Send),
    file: &str,
    clusters: &BTreeSet<String>,
    wall_ms: i64,
    dry: bool,
) -> Result<Imported, String> {
    let book = open_to_write(config).await?;
    import::import(book, lines, file, clusters, wall_ms, dry).await
}

/// Removes what has been over for longer than `retain`, and returns how much; without `yes`, only
/// counts it.
///
/// # Errors
/// Why not, in a sentence.
pub async fn prune(
    config: &checked::Registry,
    retain: Duration,
    wall_ms: i64,
    yes: bool,
) -> Result<Pruned, String> {
    let counted = prune::count(open(config).await?.as_mut(), retain, wall_ms).await?;
    if !yes {
        return Ok(counted);
    }
    let store: Arc<dyn Store> = match config {
        checked::Registry::Sqlite(path) => prune::open(path)?,
        #[cfg(feature = "postgres")]
        checked::Registry::Postgres(config) => {
            Arc::new(super::postgres::PostgresStore::open(config).await?)
        }
        _ => return Err(NOTHING.to_owned()),
    };
    let over = prune::remove(store, retain).await?;
    Ok(Pruned { over, ..counted })
}

/// Counts what a registry holds. A gateway may be running on it.
///
/// # Errors
/// Why not, in a sentence.
pub async fn stats(config: &checked::Registry) -> Result<Stats, String> {
    stats::stats(open(config).await?.as_mut()).await
}

/// Looks whether what is stored is what a gateway would have stored. A gateway may be running on it.
///
/// # Errors
/// Why it can't be looked at, in a sentence.
pub async fn verify(config: &checked::Registry) -> Result<Vec<Check>, String> {
    verify::verify(open(config).await?.as_mut()).await
}
