//! The seam behind which a store's database stands while no gateway's requests go through it: all of
//! it is read, in one view, or much is written, in one transaction.

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

use super::bring::There;
use super::record::Record;

/// What a book's method returns: a value, or a sentence.
pub(super) type Told<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// What an administrator said about a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderLine {
    pub(super) cluster: String,
    pub(super) wish: String,
    pub(super) since_ms: i64,
    pub(super) by: String,
}

/// What belongs to the registry as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// The format; tells this line from that of a batch.
    pub(super) livy_gateway_registry: u32,
    /// How many batches follow.
    #[serde(default)]
    pub(super) batches: u64,
    /// The highest id that was ever given.
    #[serde(default)]
    pub(super) highest_id: i64,
    /// How long gateways have been running on it.
    #[serde(default)]
    pub(super) uptime_ms: i64,
    #[serde(default)]
    pub(super) orders: Vec<OrderLine>,
}

/// A row of an answer to a question in SQL: names and values.
pub(super) type Answer = Vec<(String, Cell)>;

/// A value of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Text(String),
    Number(i64),
    Nothing,
}

impl Cell {
    pub(super) fn number(&self) -> i64 {
        match self {
            Cell::Number(number) => *number,
            Cell::Text(_) | Cell::Nothing => 0,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Number(number) => number.to_string(),
            Cell::Nothing => "none".to_owned(),
        }
    }
}

/// What a store is, for people.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) kind: &'static str,
    /// Where it is, without secrets.
    pub(super) at: String,
    pub(super) schema: i64,
    pub(super) bytes: u64,
}

/// A question about the whole, and the sentence that its rows stand for.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// What is looked for, as a sentence that says that all is well.
    pub(super) well: &'static str,
    /// Its rows are what is wrong; their cells are put into a line.
    pub(super) sql: String,
}

/// A database, in one view, or in one transaction.
pub(super) trait Book: Send {
    /// Reads what belongs to the whole.
    fn head(&mut self) -> Told<'_, Head>;
    /// Reads the next batches after an id, in the order of ids.
    fn after(&mut self, id: i32, limit: usize) -> Told<'_, Vec<Record>>;
    /// Asks in SQL that both stores speak, or this one.
    fn ask(&mut self, sql: String) -> Told<'_, Vec<Answer>>;
    /// Says what it is.
    fn place(&mut self) -> Told<'_, Place>;
    /// Looks for damage that no SQL tells of; returns what it found.
    fn damage(&mut self) -> Told<'_, Vec<String>>;
    /// Returns the questions that only this store can be asked.
    fn questions(&self) -> Vec<Question>;
    /// Reads what it has of the batches of some lines, and of what these lay claim to.
    fn there<'a>(&'a mut self, lines: &'a [Record]) -> Told<'a, There>;
    /// Tells why this store can't keep a batch.
    fn objection(&self, record: &Record) -> Option<&'static str>;
    /// Writes batches, in place of those of the same ids.
    fn put(&mut self, records: Vec<Record>) -> Told<'_, ()>;
    /// Writes what belongs to the whole, makes everything stand, and lets go of the database.
    fn finish(self: Box<Self>, head: Head) -> Told<'static, ()>;
}
