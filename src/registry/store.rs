//! The seam behind which a database stands, and the rows that cross it. A store only stores: what
//! to do is decided in `decide`.

use std::fmt::Debug;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;
use std::time::Duration;

use livy_dialect::{Lookup, Observed};

use super::decide::adopt::Adopt;
use super::error::RegistryError;
use super::row::{GatewayId, Row};
use crate::clock::Moment;

/// How long a process that says nothing is taken for alive, and keeps its duties.
pub const LEASE: Duration = Duration::from_secs(6);

/// What a store's method returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send + 'a>>;

/// Turns a number of visible batches into the positions to return.
pub type RangeOf = Box<dyn FnOnce(usize) -> Range<usize> + Send>;

/// A submission about to be stored.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented at `Intent`")]
pub struct NewRow {
    pub cluster: String,
    pub route: String,
    pub lookup: Lookup,
    pub owner: Option<String>,
    pub name: Option<String>,
    pub name_hold_ms: i64,
    pub body_hash: String,
    pub key: Option<IdempotencyKey>,
    pub above: Option<i64>,
    pub proxy_user: Option<String>,
    pub name_in_use: bool,
    pub replaces: Option<Replaced>,
    /// The version of that one that the writer saw: what anybody else wrote since stands, and is
    /// the same submission.
    pub seen: i64,
}

/// The earlier attempt of a submission, at another cluster: it lets go of key and name in the same
/// step in which the next one takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Its id.
    pub id: GatewayId,
    /// Whether it was given up without its cluster's own word.
    pub may_arrive: bool,
}

/// A client's `Idempotency-Key`; keys of different callers never meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The key, as sent.
    pub key: String,
    /// Until when it is remembered.
    pub until: Moment,
}

/// What storing a submission found.
#[derive(Clone, Debug)]
pub enum Recorded {
    /// It is stored.
    New(Row),
    /// It is stored already: this is the same submission, sent again.
    Same(Row),
    /// A live batch has the name: this one, or one that its cluster alone knows.
    NameTaken(Option<GatewayId>),
    /// This caller's key stands for another submission.
    Conflict,
}

/// What became of a write.
#[derive(Clone, Debug)]
pub enum Saved {
    /// It is stored, under this version.
    Stored(i64),
    /// The store knows something that the writer had not seen; nothing was written.
    Older(Box<Row>),
}

/// Whose batches a reader may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visible {
    /// Everybody's.
    All,
    /// Those of one user: submitted by, or running as, that user where they were created outside
    /// the gateway.
    OwnedBy(String),
}

/// What a list of a cluster meant for the registry.
#[derive(Clone, Debug, Default)]
pub struct Adoption {
    /// Batches that have an id, old or new, with what the list said.
    pub known: Vec<(Row, Observed)>,
    /// Submissions that had been given up, and the jobs that they became after all.
    pub late: Vec<(Row, Observed)>,
    /// Entries that lost their id on another's word, and what they stand for.
    pub again: Vec<(Row, Observed)>,
    /// Live entries whose id the list shows for another batch, with that.
    pub doubted: Vec<(Row, Observed)>,
    /// Entries that lost their upstream id to another batch.
    pub lost: Vec<Row>,
}

impl Adoption {
    /// Sorts in what was decided of a batch of a list; hands it back if it is new.
    pub(super) fn sort_in(
        &mut self,
        decision: Adopt,
        seen: Observed,
        holder: Option<Row>,
        candidates: Vec<Row>,
    ) -> Option<(Observed, Option<Row>)> {
        let nth = |at: usize| candidates.into_iter().nth(at);
        match decision {
            Adopt::Known => self.known.extend(holder.map(|row| (row, seen))),
            Adopt::Leave => {}
            Adopt::Late(at) => self.late.extend(nth(at).map(|row| (row, seen))),
            Adopt::Again(at) => self.again.extend(nth(at).map(|row| (row, seen))),
            Adopt::Contradicts => self.doubted.extend(holder.map(|row| (row, seen))),
            Adopt::New => return Some((seen, holder)),
        }
        None
    }
}

/// What an administrator can want of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// No new batches.
    Drain,
    /// Not asked anything.
    Disable,
}

impl Wish {
    /// Returns the word that is stored.
    pub const fn as_str(self) -> &'static str {
        match self {
            Wish::Drain => "drain",
            Wish::Disable => "disable",
        }
    }

    /// Reads the word that is stored.
    pub fn from_word(word: &str) -> Option<Wish> {
        [Wish::Drain, Wish::Disable]
            .into_iter()
            .find(|wish| wish.as_str() == word)
    }
}

/// What an administrator said about a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The cluster.
    pub cluster: String,
    /// What is wanted.
    pub wish: Wish,
    /// Since when, in milliseconds of Unix time.
    pub since_ms: i64,
    /// By whom.
    pub by: String,
}

/// Something that another process changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These batches.
    Batches(Vec<GatewayId>),
    /// What administrators said.
    Orders,
    /// Anything: some changes were not told.
    Missed,
}

/// A database. Every method is one transaction, but for `sweep`, which lets others come in between;
/// a future that is dropped may still take effect.
pub trait Store: Send + Sync + Debug {
    /// Stores a submission before it is sent, if name and key allow it; lets go of the earlier
    /// attempt that it replaces.
    fn record(&self, row: NewRow, now: Moment) -> StoreFuture<'_, Recorded>;
    /// Lets an attempt that had given way to another one, `by`, be open again; that one lets go of
    /// the key, and the first has it back.
    fn reopen(&self, id: GatewayId, by: GatewayId) -> StoreFuture<'_, ()>;
    /// Finds the row that holds a caller's key.
    fn by_key(&self, owner: String, key: String) -> StoreFuture<'_, Option<Row>>;
    /// Stores that a submission has this upstream id; returns the entries that had it before,
    /// ended.
    fn bind(&self, row: Row, now: Moment) -> StoreFuture<'_, (Saved, Vec<Row>)>;
    /// Stores the part of rows that changes, each if its version is the one that the writer saw.
    /// What never came to be lets go of its key.
    fn save(&self, rows: Vec<Row>) -> StoreFuture<'_, Vec<Saved>>;
    /// Gives ids to batches that have none.
    fn adopt(
        &self,
        cluster: String,
        seen: Vec<Observed>,
        asked: Moment,
        now: Moment,
    ) -> StoreFuture<'_, Adoption>;
    /// Reads one row.
    fn get(&self, id: GatewayId) -> StoreFuture<'_, Option<Row>>;
    /// Reads the row that is bound to an upstream id.
    fn holder(&self, cluster: String, upstream_id: String) -> StoreFuture<'_, Option<Row>>;
    /// Tells whether a cluster has shown the names of its newest rows.
    fn shows_names(&self, cluster: String) -> StoreFuture<'_, bool>;
    /// Reads the newest row of a name.
    fn by_name(&self, name: String, visible: Visible) -> StoreFuture<'_, Option<Row>>;
    /// Reads a window, ordered by id, and counts; without some ids.
    fn list(
        &self,
        visible: Visible,
        cluster: Option<String>,
        without: Vec<GatewayId>,
        range: RangeOf,
    ) -> StoreFuture<'_, (usize, Vec<Row>)>;
    /// Reads the submissions that are neither bound nor given up.
    fn pending(&self) -> StoreFuture<'_, Vec<Row>>;
    /// Counts the rows of a cluster that have not ended.
    fn live(&self, cluster: String) -> StoreFuture<'_, i64>;
    /// Reads the ids of the bound rows of a cluster that came through this gateway and have not
    /// ended.
    fn live_ids(&self, cluster: String) -> StoreFuture<'_, Vec<GatewayId>>;
    /// Reads the rows of a cluster whose end was asked for and is not confirmed.
    fn to_kill(&self, cluster: String) -> StoreFuture<'_, Vec<Row>>;
    /// Reads the first rows of a cluster after an id, at most so many, that were given up, or told
    /// to be gone, since a moment and may still show up.
    fn may_arrive(
        &self,
        cluster: String,
        since: Moment,
        after: GatewayId,
        limit: usize,
    ) -> StoreFuture<'_, Vec<Row>>;
    /// Notes that nothing that was given up can show up at a cluster any more.
    fn give_up_arrivals(&self, cluster: String) -> StoreFuture<'_, ()>;
    /// Reads the rows of a cluster, but for one, that have or ever had an upstream id.
    fn had_id(
        &self,
        cluster: String,
        upstream_id: String,
        but: GatewayId,
    ) -> StoreFuture<'_, Vec<Row>>;
    /// Tells whether a later submission of an owner, with the same hash, came to anything or is
    /// open.
    fn was_submitted_again(
        &self,
        owner: Option<String>,
        body_hash: Option<String>,
        after: GatewayId,
    ) -> StoreFuture<'_, bool>;
    /// Tells whether no other submission without a name is open at a cluster, or ended since a
    /// moment without anybody knowing how.
    fn was_alone(&self, cluster: String, but: GatewayId, since: Moment) -> StoreFuture<'_, bool>;
    /// Deletes what is over (`decide::is_over`).
    fn sweep(&self, retain: Duration, now: Moment) -> StoreFuture<'_, usize>;
    /// Reads every order.
    fn orders(&self) -> StoreFuture<'_, Vec<Order>>;
    /// Stores an order; returns the one that holds, which is the first of its kind.
    fn give_order(&self, order: Order) -> StoreFuture<'_, Order>;
    /// Takes an order back; false if there was none.
    fn lift_order(&self, cluster: String, wish: Wish) -> StoreFuture<'_, bool>;
    /// Reads the uptime.
    fn uptime_ms(&self) -> StoreFuture<'_, i64>;
    /// Notes how long this process has seen gateways run, and that it is alive; also shows whether
    /// the store can be written. Returns the uptime of all processes.
    fn beat(&self, uptime_ms: i64) -> StoreFuture<'_, i64>;
    /// Tells whether clients know batches by the numbers of the one cluster.
    fn numbers_are_the_clusters(&self) -> bool {
        false
    }
    /// Reads the batch that has a cluster's number, or else the one that clients know that had it last,
    /// where clients know batches by these.
    fn by_number(&self, _cluster: String, _number: i32) -> StoreFuture<'_, Option<Row>> {
        Box::pin(std::future::ready(Ok(None)))
    }
    /// Tells whether other processes may write to it at the same time.
    fn is_shared(&self) -> bool {
        false
    }
    /// Tells whether changes of other processes are told as they happen.
    fn hears(&self) -> bool {
        true
    }
    /// Waits for a change by another process.
    fn next_change(&self) -> Pin<Box<dyn Future<Output = Change> + Send + '_>> {
        Box::pin(std::future::pending())
    }
    /// Tells other processes what this one changes, for as long as it is waited for.
    fn tell_others(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::pending())
    }
    /// Reads the open submissions that this process is to look after: its own, and those of
    /// processes that are not alive any more, which become its own.
    fn take_over(&self) -> StoreFuture<'_, Vec<Row>>;
    /// Tells whether another process that is alive works on an open submission.
    fn is_worked_on_elsewhere(&self, _id: GatewayId) -> StoreFuture<'_, bool> {
        Box::pin(std::future::ready(Ok(false)))
    }
    /// Takes a duty that one process has at a time, or goes on with it, for the length of a lease;
    /// false if another one has it.
    fn hold(&self, _duty: String) -> StoreFuture<'_, bool> {
        Box::pin(std::future::ready(Ok(true)))
    }
    /// Finishes what was begun and closes.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
