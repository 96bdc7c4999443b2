//! Writes that arrive together share one transaction, and so one wait for the disk; each keeps an
//! outcome of its own.
//!
//! Nobody waits for company: a group is what arrived while the one before it was written. A write
//! that fails is undone by itself; if the transaction fails, all of its writes have failed. Nobody
//! hears of anything before it is on the disk, and every id that was given is noted beside the file.

use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::oneshot;

use super::guard::Guard;
use super::rows::highest_id;
use crate::registry::error::RegistryError;

/// How long a write waits for another process that writes the file, which takes moments. Once that
/// was not enough, no write waits at all until one has passed: they would queue behind each other.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Something to write, for somebody who waits for what becomes of it.
pub(super) trait Write: Send {
    /// Does it inside a transaction; returns whether it is to stand.
    fn work(&mut self, tx: &Connection) -> bool;
    /// Tells what became of it: of the transaction, if the work itself was done.
    fn tell(self: Box<Self>, fate: Result<(), RegistryError>);
}

/// Work, and who waits for it.
pub(super) struct Task<T, F> {
    work: Option<F>,
    done: Option<Result<T, RegistryError>>,
    waits: oneshot::Sender<Result<T, RegistryError>>,
}

impl<T, F> Task<T, F>
where
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    T: Send,
{
    /// Makes one, and what its outcome is waited for with.
    pub(super) fn new(work: F) -> (Self, oneshot::Receiver<Result<T, RegistryError>>) {
        let (waits, outcome) = oneshot::channel();
        let task = Task {
            work: Some(work),
            done: None,
            waits,
        };
        (task, outcome)
    }
}

impl<T, F> Write for Task<T, F>
where
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn work(&mut self, tx: &Connection) -> bool {
        let work = self.work.take();
        self.done = work.map(|work| work(tx).map_err(store_error));
        matches!(self.done, Some(Ok(_)))
    }

    fn tell(self: Box<Self>, fate: Result<(), RegistryError>) {
        let outcome = match (self.done, fate) {
            (Some(Err(own)), _) => Err(own),
            (Some(Ok(value)), Ok(())) => Ok(value),
            (_, Err(error)) => Err(error),
            // Whoever writes works before telling.
            (None, Ok(())) => Err(RegistryError::Store("it was not written".into())),
        };
        // Whoever asked may have gone away; the work is done all the same.
        let _ = self.waits.send(outcome);
    }
}

pub(super) fn store_error(error: rusqlite::Error) -> RegistryError {
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

/// The one connection that writes, and what it watches.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: Connection,
    /// What stands beside the file, if there is one.
    guard: Option<Guard>,
    /// Whether the last transaction found the file locked by another process.
    is_locked: bool,
}

impl Writer {
    pub(super) fn new(connection: Connection, guard: Option<Guard>) -> Self {
        Writer {
            connection,
            guard,
            is_locked: false,
        }
    }

    /// Writes a group: the first one, and those that `more` finds once the transaction has begun.
    pub(super) fn write(
        &mut self,
        first: Box<dyn Write>,
        more: impl FnOnce() -> Vec<Box<dyn Write>>,
    ) {
        let mut group = vec![first];
        let fate = self.transact(&mut group, more);
        for write in group {
            write.tell(fate.clone());
        }
    }

    fn transact(
        &mut self,
        group: &mut Vec<Box<dyn Write>>,
        more: impl FnOnce() -> Vec<Box<dyn Write>>,
    ) -> Result<(), RegistryError> {
        if let Some(guard) = &mut self.guard {
            guard.check().map_err(RegistryError::Store)?;
        }
        let began = begin(&mut self.connection, &mut self.is_locked);
        // What waited meanwhile for the same lock fails with the first one.
        group.extend(more());
        let tx = began.map_err(store_error)?;
        if let Some(guard) = &self.guard {
            let highest = highest_id(&tx).map_err(store_error)?;
            guard.goes_on(highest).map_err(RegistryError::Store)?;
        }
        for write in group {
            apart(&tx, write.as_mut()).map_err(store_error)?;
        }
        let highest = highest_id(&tx).map_err(store_error)?;
        tx.commit().map_err(store_error)?;
        if let Some(guard) = &mut self.guard {
            guard.mark(highest);
        }
        Ok(())
    }
}

/// Begins to write, once no other process does.
fn begin<'a>(
    connection: &'a mut Connection,
    is_locked: &mut bool,
) -> rusqlite::Result<Transaction<'a>> {
    connection.busy_timeout(match is_locked {
        true => Duration::ZERO,
        false => LOCK_PATIENCE,
    })?;
    let began = connection.transaction_with_behavior(TransactionBehavior::Immediate);
    *is_locked = began
        .as_ref()
        .is_err_and(|error| error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy));
    began
}

/// Does one write of a group, and undoes it alone if it fails.
fn apart(tx: &Transaction<'_>, write: &mut dyn Write) -> rusqlite::Result<()> {
    tx.execute_batch("SAVEPOINT one")?;
    if !write.work(tx) {
        // Fails where SQLite has already undone the whole transaction, as it does on a full disk.
        tx.execute_batch("ROLLBACK TO one")?;
    }
    tx.execute_batch("RELEASE one")
}
