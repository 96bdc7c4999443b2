//! Pages for clients. Where a page begins is found by the counts of blocks of ids, from the largest
//! blocks down: nothing is counted for a request, however far behind its page is.

use rusqlite::{Connection, params};

use super::rows::{all, one};
use super::statements as sql;
use crate::registry::row::{GatewayId, Row};
use crate::registry::store::{RangeOf, Visible};

/// How many bits of an id tell the places within a block, for each level of `counts`.
const BITS: [u32; 3] = [10, 17, 24];

/// The level of the largest blocks.
const TOP: usize = BITS.len() - 1;

/// Reads the newest batch of a name that a caller may see.
pub(super) fn by_name(
    connection: &Connection,
    name: &str,
    visible: &Visible,
) -> rusqlite::Result<Option<Row>> {
    match visible {
        Visible::All => one(connection, sql::NEWEST_OF_NAME, [name]),
        Visible::OwnedBy(owner) => one(connection, sql::NEWEST_OF_NAME_OF_OWNER, [name, owner]),
    }
}

/// Reads a window, ordered by id, and counts; without some ids.
pub(super) fn list(
    connection: &mut Connection,
    visible: &Visible,
    cluster: Option<&str>,
    without: &[GatewayId],
    range: RangeOf,
) -> rusqlite::Result<(usize, Vec<Row>)> {
    let owner = match visible {
        // Nobody's batches are those of a user without a name.
        Visible::OwnedBy(owner) if owner.is_empty() => {
            let _ = range(0);
            return Ok((0, Vec::new()));
        }
        Visible::OwnedBy(owner) => Some(owner.as_str()),
        Visible::All => None,
    };
    // One view of the database: what is counted is what is read.
    let tx = connection.transaction()?;
    let shelf = Shelf::new(&tx, owner, cluster, without)?;
    let top = shelf.blocks(TOP, 0, i64::MAX)?;
    let total = top.iter().map(|block| block.shown).sum();
    let range = range(total);
    let rows = match range.is_empty() {
        true => Vec::new(),
        false => shelf.read(shelf.place(top, range.start)?, range.len())?,
    };
    Ok((total, rows))
}

/// What one caller may see.
struct Shelf<'a> {
    connection: &'a Connection,
    owner: Option<&'a str>,
    cluster: Option<&'a str>,
    /// What is on it and is left out, by id.
    hidden: Vec<i64>,
}

/// A block of ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    number: i64,
    /// How many of it the caller may see.
    shown: usize,
}

impl<'a> Shelf<'a> {
    fn new(
        connection: &'a Connection,
        owner: Option<&'a str>,
        cluster: Option<&'a str>,
        without: &[GatewayId],
    ) -> rusqlite::Result<Self> {
        let mut shelf = Shelf {
            connection,
            owner,
            cluster,
            hidden: Vec::new(),
        };
        if !without.is_empty() {
            let ids: Vec<i64> = without.iter().map(|id| i64::from(id.0)).collect();
            let mut statement = sql::HIDDEN.on(connection)?;
            let mut found = statement.query([json(&ids)])?;
            while let Some(row) = found.next()? {
                let (of, at): (Option<String>, String) = (row.get(1)?, row.get(2)?);
                let is_on_it = owner.is_none_or(|owner| of.as_deref() == Some(owner))
                    && cluster.is_none_or(|cluster| at == cluster);
                if is_on_it {
                    shelf.hidden.push(row.get(0)?);
                }
            }
        }
        Ok(shelf)
    }

    /// Reads the blocks of a level, from one to before another, in order.
    fn blocks(&self, level: usize, from: i64, to: i64) -> rusqlite::Result<Vec<Block>> {
        let (owner, cluster) = (self.owner.unwrap_or(""), self.cluster.unwrap_or(""));
        let read = |row: &rusqlite::Row<'_>| {
            let (number, shown): (i64, i64) = (row.get(0)?, row.get(1)?);
            let before = |end: i64| self.hidden.partition_point(|id| id >> BITS[level] < end);
            let hidden = before(number + 1) - before(number);
            Ok(Block {
                number,
                shown: usize::try_from(shown).unwrap_or(0).saturating_sub(hidden),
            })
        };
        sql::BLOCKS
            .on(self.connection)?
            .query_map(params![owner, cluster, level as i64, from, to], read)?
            .collect()
    }

    /// Finds where the batch at a position stands: an id, and how many come from there on before it.
    fn place(&self, mut blocks: Vec<Block>, mut position: usize) -> rusqlite::Result<(i64, usize)> {
        for (level, bits) in BITS.iter().enumerate().rev() {
            let mut number = None;
            for block in &blocks {
                if position < block.shown {
                    number = Some(block.number);
                    break;
                }
                position -= block.shown;
            }
            let Some(number) = number else { break };
            if level == 0 {
                return Ok((number << bits, position));
            }
            let finer = bits - BITS[level - 1];
            blocks = self.blocks(level - 1, number << finer, (number + 1) << finer)?;
        }
        // Behind the end.
        Ok((i64::MAX, 0))
    }

    fn read(&self, (from, skip): (i64, usize), limit: usize) -> rusqlite::Result<Vec<Row>> {
        let hidden = json(&self.hidden);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let skip = i64::try_from(skip).unwrap_or(i64::MAX);
        let tx = self.connection;
        match (self.owner, self.cluster) {
            (None, None) => all(tx, sql::PAGE, params![from, hidden, limit, skip]),
            (None, Some(cluster)) => {
                let values = params![from, hidden, limit, skip, cluster];
                all(tx, sql::PAGE_OF_CLUSTER, values)
            }
            (Some(owner), None) => {
                let values = params![from, hidden, limit, skip, owner];
                all(tx, sql::PAGE_OF_OWNER, values)
            }
            (Some(owner), Some(cluster)) => {
                let values = params![from, hidden, limit, skip, owner, cluster];
                all(tx, sql::PAGE_OF_BOTH, values)
            }
        }
    }
}

/// Writes ids as a list that a statement can read.
fn json(ids: &[i64]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    format!("[{}]", ids.join(","))
}
