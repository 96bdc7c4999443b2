//! How work gets to a connection.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::mpsc;

/// Requests that may wait for a connection before senders wait too.
const QUEUE: usize = 1024;

pub(super) type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// How work gets to a connection.
#[derive(Debug)]
pub(super) enum Lines {
    /// A thread for writing and one for reading.
    Threads {
        writer: mpsc::Sender<Job>,
        reader: mpsc::Sender<Job>,
        threads: Mutex<Vec<JoinHandle<()>>>,
    },
    /// At once, where it is asked for: nothing of it ever waits for a disk.
    Inline(Mutex<Connection>),
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn run(
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
