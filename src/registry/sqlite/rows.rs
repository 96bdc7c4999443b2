//! Rows to and from columns, and how statements are carried out.

use livy_dialect::{BatchState, Lookup};
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension as _, Params};

use super::statements::{HIGHEST_ID, Sql};
use crate::clock::Moment;
use crate::registry::row::{GatewayId, Identity, Known, Phase, Row};
use crate::registry::store::{Order, Wish};

/// The columns of a row, one after the other: asked for by name, they would be searched for.
struct Columns<'a> {
    row: &'a rusqlite::Row<'a>,
    next: usize,
}

impl Columns<'_> {
    fn read<T: FromSql>(&mut self) -> rusqlite::Result<T> {
        self.next += 1;
        self.row.get(self.next - 1)
    }

    /// Reads a time by both clocks.
    fn moment(&mut self) -> rusqlite::Result<Option<Moment>> {
        let (wall_ms, up_ms): (Option<i64>, Option<i64>) = (self.read()?, self.read()?);
        Ok(wall_ms.map(|wall_ms| Moment {
            wall_ms,
            up_ms: up_ms.unwrap_or(0),
        }))
    }
}

/// Reads a row of `rows!`, in its order.
pub(in crate::registry) fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let mut columns = Columns { row, next: 0 };
    let identity = Identity {
        id: GatewayId(columns.read()?),
        cluster: columns.read()?,
        route: columns.read()?,
        lookup: Lookup {
            key: columns.read()?,
            sent_name: columns.read()?,
        },
        owner: columns.read()?,
        name: columns.read()?,
        adopted: columns.read()?,
        created: columns.moment()?.unwrap_or_default(),
        name_hold_ms: columns.read()?,
        body_hash: columns.read()?,
        above: columns.read()?,
    };
    let key: Option<String> = columns.read()?;
    let until = columns.moment()?;
    let phase: String = columns.read()?;
    let known = Known {
        phase: Phase::from_columns(&phase, columns.read()?),
        // The CHECK on the column admits these words only.
        state: BatchState::from_word(&columns.read::<String>()?).unwrap_or(BatchState::Starting),
        app_id: columns.read()?,
        app_info: serde_json::from_str(&columns.read::<String>()?).unwrap_or_default(),
        log: serde_json::from_str(&columns.read::<String>()?).unwrap_or_default(),
        complete: columns.read()?,
        seen_ms: columns.read()?,
        ended: columns.moment()?,
        resolved: columns.moment()?,
        proxy_user: columns.read()?,
        told: columns.read()?,
        echoed: columns.read()?,
        presumed: columns.read()?,
        kill_asked: columns.read()?,
        may_arrive: columns.read()?,
        let_go: columns.read()?,
        quiet_ms: columns.read()?,
        waited_ms: columns.read()?,
        looked_ms: columns.read()?,
        arrived: columns.read()?,
        absent: columns.read()?,
        ..Known::new()
    };
    Ok(Row {
        identity,
        known,
        version: columns.read()?,
        key_until: key.and(until),
    })
}

/// Reads the first row that a statement finds.
pub(super) fn one(
    connection: &Connection,
    sql: Sql,
    values: impl Params,
) -> rusqlite::Result<Option<Row>> {
    sql.on(connection)?.query_row(values, read_row).optional()
}

/// Reads every row that a statement finds.
pub(super) fn all(
    connection: &Connection,
    sql: Sql,
    values: impl Params,
) -> rusqlite::Result<Vec<Row>> {
    sql.on(connection)?.query_map(values, read_row)?.collect()
}

/// Reads the one value that a statement always has.
pub(super) fn value<T: FromSql>(
    connection: &Connection,
    sql: Sql,
    values: impl Params,
) -> rusqlite::Result<T> {
    sql.on(connection)?.query_row(values, |row| row.get(0))
}

/// Changes rows; returns how many.
pub(super) fn change(
    connection: &Connection,
    sql: Sql,
    values: impl Params,
) -> rusqlite::Result<usize> {
    sql.on(connection)?.execute(values)
}

/// Reads the highest id that was ever given.
pub(in crate::registry) fn highest_id(connection: &Connection) -> rusqlite::Result<i64> {
    value(connection, HIGHEST_ID, [])
}

pub(in crate::registry) fn read_order(row: &rusqlite::Row<'_>) -> rusqlite::Result<Order> {
    let wish: String = row.get("wish")?;
    Ok(Order {
        cluster: row.get("cluster")?,
        // The CHECK on the column admits these words only.
        wish: Wish::from_word(&wish).unwrap_or(Wish::Disable),
        since_ms: row.get("since_ms")?,
        by: row.get("given_by")?,
    })
}
