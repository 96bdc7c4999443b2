//! What processes tell each other over the database: `NOTIFY` after a change, `LISTEN` for those of
//! others. A note may be missed; it only says that there is something to read.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Client;

use super::pool::{DEADLINE, Dialler, Failure, Pool};
use super::rows::Session as _;
use crate::registry::row::GatewayId;
use crate::registry::store::Change;

const CHANNEL: &str = "livy_gateway";

/// For how long changes are gathered before the others are told.
const GATHER: Duration = Duration::from_millis(20);

/// How many ids one note names: PostgreSQL takes 8,000 bytes.
const IDS: usize = 500;

/// How long a listener that failed rests before it connects again.
const REST: Duration = Duration::from_secs(1);

/// How often a silent connection is asked whether it is still there.
const PULSE: Duration = Duration::from_secs(2);

/// What is said of others' changes, heard.
#[derive(Debug)]
pub(super) struct Ears {
    process: String,
    hear: AtomicBool,
    line: tokio::sync::Mutex<Option<Line>>,
}

#[derive(Debug)]
struct Line {
    client: Client,
    task: JoinHandle<()>,
    notes: mpsc::UnboundedReceiver<String>,
    asked: Instant,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ears {
    pub(super) fn new(process: &str) -> Ears {
        Ears {
            process: process.to_owned(),
            hear: AtomicBool::new(false),
            line: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn hear(&self) -> bool {
        self.hear.load(Ordering::Acquire)
    }

    /// Waits for the next change of another process. Begins to listen where that has not begun, or
    /// has ended; what was missed meanwhile is a change, too.
    pub(super) async fn next(&self, dialler: &Dialler) -> Change {
        let mut line = self.line.lock().await;
        loop {
            let Some(open) = line.as_mut() else {
                match timeout(DEADLINE, listen(dialler)).await {
                    Ok(Ok(open)) => {
                        *line = Some(open);
                        self.hear.store(true, Ordering::Release);
                        return Change::Missed;
                    }
                    Ok(Err(_)) | Err(_) => sleep(REST).await,
                }
                continue;
            };
            match open.next(&self.process).await {
                Some(change) => return change,
                None => {
                    self.hear.store(false, Ordering::Release);
                    tracing::warn!(
                        "changes of other gateways are not told any more; what is needed is read until they are"
                    );
                    *line = None;
                }
            }
        }
    }
}

async fn listen(dialler: &Dialler) -> Result<Line, Failure> {
    let (tell, notes) = mpsc::unbounded_channel();
    let heard =
        move |note: tokio_postgres::Notification| drop(tell.send(note.payload().to_owned()));
    let (client, task) = dialler.dial(heard).await?;
    let line = Line {
        client,
        task,
        notes,
        asked: Instant::now(),
    };
    let listens = line
        .client
        .batch_execute(&format!("LISTEN {CHANNEL}"))
        .await;
    listens.map(|()| line).map_err(|error| Failure::of(&error))
}

impl Line {
    /// Returns the next change of another process; nothing once the connection is gone. Whoever stops
    /// waiting misses nothing.
    async fn next(&mut self, process: &str) -> Option<Change> {
        loop {
            tokio::select! {
                note = self.notes.recv() => {
                    if let Some(change) = read(&note?, process) {
                        return Some(change);
                    }
                }
                () = tokio::time::sleep_until(self.asked + PULSE) => {
                    let pulse = timeout(DEADLINE, self.client.batch_execute("SELECT 1")).await;
                    pulse.ok()?.ok()?;
                    self.asked = Instant::now();
                }
            }
        }
    }
}

/// Reads a note: who says it, and what changed. Nothing if this process said it.
fn read(note: &str, process: &str) -> Option<Change> {
    let (sender, what) = note.split_once(' ')?;
    if sender == process {
        return None;
    }
    if what == "orders" {
        return Some(Change::Orders);
    }
    let ids: Result<Vec<i32>, _> = what.split(',').map(str::parse).collect();
    // A newer version may say something that this one doesn't know: something has changed.
    Some(ids.map_or(Change::Missed, |ids| {
        Change::Batches(ids.into_iter().map(GatewayId).collect())
    }))
}

/// What this process has to say to the others.
#[derive(Debug, Default)]
pub(super) struct Mouth {
    unsaid: Mutex<Unsaid>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Unsaid {
    ids: BTreeSet<i32>,
    orders: bool,
}

impl Mouth {
    fn unsaid(&self) -> MutexGuard<'_, Unsaid> {
        self.unsaid.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn say(&self, ids: Vec<GatewayId>) {
        if !ids.is_empty() {
            self.unsaid().ids.extend(ids.into_iter().map(|id| id.0));
            self.more.notify_one();
        }
    }

    pub(super) fn say_orders(&self) {
        self.unsaid().orders = true;
        self.more.notify_one();
    }

    /// Tells the others, for ever.
    pub(super) async fn speak(&self, pool: &Pool, process: &str) {
        loop {
            self.more.notified().await;
            sleep(GATHER).await;
            self.last_words(pool, process).await;
        }
    }

    /// Tells the others what is still unsaid. What can't be said is said the next time.
    pub(super) async fn last_words(&self, pool: &Pool, process: &str) {
        let unsaid = std::mem::take(&mut *self.unsaid());
        let ids: Vec<i32> = unsaid.ids.iter().copied().collect();
        let named = ids.chunks(IDS).map(|ids| {
            let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
            format!("{process} {}", ids.join(","))
        });
        let orders = unsaid.orders.then(|| format!("{process} orders"));
        let notes: Vec<String> = named.chain(orders).collect();
        if notes.is_empty() {
            return;
        }
        let told = pool.read(move |client| {
            let notes = notes.clone();
            Box::pin(async move {
                let statement = "SELECT pg_notify($1, note) FROM unnest($2::text[]) AS note";
                client.rows(statement, &[&CHANNEL, &notes]).await.map(drop)
            })
        });
        if let Err(error) = told.await {
            tracing::warn!(%error, "other gateways could not be told yet what changed");
            self.unsaid().ids.extend(unsaid.ids);
            self.unsaid().orders |= unsaid.orders;
            self.more.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_read_by_the_others() {
        assert_eq!(
            read("a 1,2", "b"),
            Some(Change::Batches(vec![GatewayId(1), GatewayId(2)]))
        );
        assert_eq!(read("a 1,2", "a"), None, "its own");
        assert_eq!(read("a orders", "b"), Some(Change::Orders));
        assert_eq!(
            read("a moods", "b"),
            Some(Change::Missed),
            "of a newer version"
        );
    }
}
