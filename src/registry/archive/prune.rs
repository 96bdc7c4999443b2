//! `registry prune`: what is over for long enough is removed, as a running gateway does each hour.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::book::Book;
use crate::clock::Moment;
use crate::registry::decide::is_over;
use crate::registry::memory::Registry;
use crate::registry::sqlite::SqliteStore;
use crate::registry::store::Store;

/// How many batches are looked at at once.
const AT_ONCE: usize = 1_000;

/// What would be removed, or was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many batches were looked at.
    pub of: u64,
    /// How many of them are over.
    pub over: u64,
    /// How long gateways have been running on the registry.
    pub uptime: Duration,
}

/// Counts what is over for longer than `retain` by both clocks.
pub(super) async fn count(
    book: &mut dyn Book,
    retain: Duration,
    wall_ms: i64,
) -> Result<Pruned, String> {
    let now = Moment {
        wall_ms,
        up_ms: book.head().await?.uptime_ms,
    };
    let uptime_ms = u64::try_from(now.up_ms).unwrap_or(0);
    let mut pruned = Pruned {
        uptime: Duration::from_millis(uptime_ms),
        ..Pruned::default()
    };
    let mut last = 0;
    loop {
        let page = book.after(last, AT_ONCE).await?;
        pruned.of += page.len() as u64;
        let over = page.iter().filter(|one| is_over(&one.row, retain, now));
        pruned.over += over.count() as u64;
        match page.last() {
            Some(record) if page.len() == AT_ONCE => last = record.id(),
            _ => return Ok(pruned),
        }
    }
}

/// Opens a file as a gateway does.
pub(super) fn open(path: &Path) -> Result<Arc<dyn Store>, String> {
    let store = SqliteStore::open(path).map_err(|why| {
        format!("{why}. A gateway that runs removes by itself, each hour, what ended longer ago than `registry.retain`")
    })?;
    Ok(Arc::new(store))
}

/// Removes what is over for longer than `retain`; returns how many batches.
pub(super) async fn remove(store: Arc<dyn Store>, retain: Duration) -> Result<u64, String> {
    let registry = Registry::open(store)
        .await
        .map_err(|error| error.to_string())?;
    let removed = registry
        .sweep(retain)
        .await
        .map_err(|error| error.to_string());
    registry.close().await;
    Ok(removed? as u64)
}
