//! How work gets to a connection: one thread writes, a few read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::mpsc;

use super::together::{Write, Writer};

/// Requests that may wait for a connection before senders wait too.
const QUEUE: usize = 1024;

/// How many writes share a transaction at most: the first of them waits until the last is done.
const TOGETHER: usize = 128;

/// Work for a connection that reads.
pub(super) type Read = Box<dyn FnOnce(&mut Connection) + Send>;

/// Work for the connection that writes.
pub(super) enum Job {
    /// In a transaction, with others.
    Write(Box<dyn Write>),
    /// Behind everything that came before it, by itself.
    Last(Read),
}

/// How work gets to a connection.
#[derive(Debug)]
pub(super) enum Lines {
    /// On a thread for writing and some for reading.
    Threads(Threads),
    /// At once, where it is asked for: nothing of it ever waits for a disk.
    Inline(Box<Mutex<Writer>>),
}

/// The threads, and what leads to them.
#[derive(Debug)]
pub(super) struct Threads {
    pub(super) writer: mpsc::Sender<Job>,
    pub(super) readers: mpsc::Sender<Read>,
    all: Vec<JoinHandle<()>>,
}

impl Drop for Threads {
    /// Waits until all that was begun is done: the file is locked for as long as anything writes it,
    /// and free for whoever opens it next.
    fn drop(&mut self) {
        // Nothing leads to them any more, so they end.
        (self.writer, self.readers) = (mpsc::channel(1).0, mpsc::channel(1).0);
        for thread in self.all.drain(..) {
            let _ = thread.join();
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Lines {
    /// Starts the threads.
    pub(super) fn start(mut writer: Writer, readers: Vec<Connection>) -> Result<Lines, String> {
        let (to_writer, mut jobs) = mpsc::channel::<Job>(QUEUE);
        let (to_readers, reads) = mpsc::channel::<Read>(QUEUE);
        let reads = Arc::new(Mutex::new(reads));
        let mut all = vec![spawn("registry-write", move || {
            while let Some(job) = jobs.blocking_recv() {
                serve(&mut writer, job, &mut jobs);
            }
        })?];
        for mut connection in readers {
            let reads = reads.clone();
            all.push(spawn("registry-read", move || {
                // Whoever waits for work holds the lock, and lets go of it before doing any.
                let next = || lock(&reads).blocking_recv();
                while let Some(read) = next() {
                    read(&mut connection);
                }
            })?);
        }
        Ok(Lines::Threads(Threads {
            writer: to_writer,
            readers: to_readers,
            all,
        }))
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, String> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| error.to_string())
}

/// Does a job, and with a write all those that wait behind it.
fn serve(writer: &mut Writer, job: Job, jobs: &mut mpsc::Receiver<Job>) {
    let mut last = None;
    match job {
        Job::Last(work) => last = Some(work),
        Job::Write(first) => writer.write(first, || {
            let mut more = Vec::new();
            while more.len() + 1 < TOGETHER && last.is_none() {
                match jobs.try_recv() {
                    Ok(Job::Write(write)) => more.push(write),
                    Ok(Job::Last(work)) => last = Some(work),
                    Err(_) => break,
                }
            }
            more
        }),
    }
    if let Some(work) = last {
        work(&mut writer.connection);
    }
}
