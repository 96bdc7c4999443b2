//! Forgetting what is over, a few rows at a time: whoever wants to write comes in between.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::rows::{all, change};
use super::statements::{DELETE, ENDED, GONE, Sql};
use crate::clock::Moment;
use crate::registry::decide;

/// How many rows are looked at in one transaction.
const AT_ONCE: usize = 100;

/// A place among the rows that are looked at: the moment by which they are ordered, and an id.
type Place = (i64, i32);

/// Where the next rows to be looked at begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Among those that ended.
    Ended(Place),
    /// Among those that came to nothing.
    Gone(Place),
    /// Nowhere.
    Done,
}

impl Next {
    /// The beginning.
    pub(super) const FIRST: Next = Next::Ended((i64::MIN, 0));
}

/// Deletes what is over of the next rows; returns how many, and where to go on.
pub(super) fn sweep(
    tx: &Connection,
    next: Next,
    retain: Duration,
    now: Moment,
) -> rusqlite::Result<(usize, Next)> {
    let (sql, (since, after)): (Sql, Place) = match next {
        Next::Ended(place) => (ENDED, place),
        Next::Gone(place) => (GONE, place),
        Next::Done => return Ok((0, Next::Done)),
    };
    let before = now.before(retain);
    let values = params![since, after, before.wall_ms, before.up_ms, AT_ONCE as i64];
    let old = all(tx, sql, values)?;
    let mut swept = 0;
    for row in old.iter().filter(|row| decide::is_over(row, retain, now)) {
        swept += change(tx, DELETE, [row.identity.id.0])?;
    }
    let last = old.last().filter(|_| old.len() == AT_ONCE);
    let next = match (next, last) {
        (Next::Ended(_), Some(row)) => {
            let ended = row.known.ended.map_or(i64::MAX, |ended| ended.wall_ms);
            Next::Ended((ended, row.identity.id.0))
        }
        (Next::Ended(_), None) => Next::Gone((i64::MIN, 0)),
        (Next::Gone(_), Some(row)) => Next::Gone((row.identity.created.wall_ms, row.identity.id.0)),
        (Next::Gone(_), None) | (Next::Done, _) => Next::Done,
    };
    Ok((swept, next))
}
