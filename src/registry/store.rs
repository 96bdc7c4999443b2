//! The seam behind which a database stands, and the rows that cross it.

use std::fmt::Debug;
use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use livy_dialect::{Lookup, Observed};

use super::{GatewayId, Known, RegistryError};

/// What a store's method returns.
pub type StoreFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send + 'a>>;

/// Turns a number of visible batches into the positions to return.
pub type RangeOf = Box<dyn FnOnce(usize) -> Range<usize> + Send>;

/// One batch as it is stored: what never changes, and what is known.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "documented at `Entry`")]
pub struct Row {
    pub id: GatewayId,
    pub cluster: String,
    pub route: String,
    pub lookup: Lookup,
    pub owner: Option<String>,
    pub name: Option<String>,
    pub adopted: bool,
    pub created_ms: i64,
    pub name_hold_ms: i64,
    pub idempotency_hash: Option<String>,
    pub known: Known,
}

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
    pub idempotency: Option<Idempotency>,
    pub now_ms: i64,
}

/// A client's `Idempotency-Key` and what it stands for.
#[derive(Clone, Debug)]
pub struct Idempotency {
    /// The key, as sent; keys of different callers never meet.
    pub key: String,
    /// A hash of the submission.
    pub body_hash: String,
    /// Until when it is remembered.
    pub until_ms: i64,
}

/// What storing a submission found.
#[derive(Clone, Debug)]
pub enum Recorded {
    /// It is stored.
    New(Row),
    /// A live batch has the name.
    NameTaken(GatewayId),
    /// This caller used the key before.
    Known(Row),
}

/// Whose batches a reader may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Visible {
    /// Everybody's.
    All,
    /// Those of one user: submitted by, or running as, that user where they were made around the gateway.
    OwnedBy(String),
}

/// What a list of a cluster meant for the registry.
#[derive(Clone, Debug, Default)]
pub struct Adoption {
    /// Batches that have an id, old or new, with what the list said.
    pub known: Vec<(GatewayId, Observed)>,
    /// Entries that lost their upstream id to a newer batch.
    pub detached: Vec<GatewayId>,
}

/// A database. Every method is one transaction; a future that is dropped may still take effect.
pub trait Store: Send + Sync + Debug {
    /// Stores a submission before it is sent, if name and key allow it.
    fn record(&self, row: NewRow) -> StoreFuture<'_, Recorded>;
    /// Stores that a submission has this upstream id; returns the entries that had it before.
    fn bind(&self, row: Row) -> StoreFuture<'_, Vec<GatewayId>>;
    /// Stores the part of a row that changes.
    fn save(&self, row: Row) -> StoreFuture<'_, ()>;
    /// Stores it some time soon, in order with the other writes; what a crash loses here is asked again.
    fn save_later(&self, row: Row);
    /// Gives ids to batches that have none.
    fn adopt(&self, cluster: String, seen: Vec<Observed>, now_ms: i64) -> StoreFuture<'_, Adoption>;
    /// Reads one row.
    fn get(&self, id: GatewayId) -> StoreFuture<'_, Option<Row>>;
    /// Reads the newest row of a name.
    fn by_name(&self, name: String, visible: Visible) -> StoreFuture<'_, Option<Row>>;
    /// Reads a window, ordered by id, and counts.
    fn list(&self, visible: Visible, cluster: Option<String>, range: RangeOf) -> StoreFuture<'_, (usize, Vec<Row>)>;
    /// Reads the submissions that are neither bound nor refused.
    fn pending(&self) -> StoreFuture<'_, Vec<Row>>;
    /// Counts the bound rows of a cluster that have not ended.
    fn live(&self, cluster: String) -> StoreFuture<'_, i64>;
    /// Reads the ids of the bound rows of a cluster that came through this gateway and have not ended.
    fn live_ids(&self, cluster: String) -> StoreFuture<'_, Vec<GatewayId>>;
    /// Deletes what ended, or was refused or deleted, before a time.
    fn sweep(&self, before_ms: i64) -> StoreFuture<'_, usize>;
    /// Writes the queue and closes.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}
