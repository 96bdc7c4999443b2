//! Rows to and from columns, and how statements are carried out.

use livy_dialect::{BatchState, Lookup};
use rusqlite::{Connection, OptionalExtension as _, Params};

use super::statements::{HIGHEST_ID, Sql};
use crate::clock::Moment;
use crate::registry::row::{GatewayId, Identity, Known, Phase, Row};
use crate::registry::store::{Order, Wish};

pub(in crate::registry) fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let phase: String = row.get("phase")?;
    let state: String = row.get("state")?;
    let app_info: String = row.get("app_info")?;
    let log: String = row.get("log")?;
    let moment = |wall: Option<i64>, up: Option<i64>| {
        wall.map(|wall_ms| Moment {
            wall_ms,
            up_ms: up.unwrap_or(0),
        })
    };
    let known = Known {
        phase: Phase::from_columns(&phase, row.get("upstream_id")?),
        // The CHECK on the column admits these words only.
        state: BatchState::from_word(&state).unwrap_or(BatchState::Starting),
        app_id: row.get("app_id")?,
        app_info: serde_json::from_str(&app_info).unwrap_or_default(),
        log: serde_json::from_str(&log).unwrap_or_default(),
        complete: row.get("complete")?,
        seen_ms: row.get("seen_ms")?,
        ended: moment(row.get("ended_ms")?, row.get("ended_up_ms")?),
        resolved: moment(row.get("resolved_ms")?, row.get("resolved_up_ms")?),
        proxy_user: row.get("proxy_user")?,
        told: row.get("told")?,
        echoed: row.get("echoed")?,
        presumed: row.get("presumed")?,
        kill_asked: row.get("kill_asked")?,
        may_arrive: row.get("may_arrive")?,
        let_go: row.get("let_go")?,
        quiet_ms: row.get("quiet_ms")?,
        looked_ms: row.get("looked_ms")?,
        waited_ms: row.get("waited_ms")?,
        arrived: row.get("arrived")?,
        absent: row.get("absent")?,
        ..Known::new()
    };
    let identity = Identity {
        id: GatewayId(row.get("id")?),
        cluster: row.get("cluster")?,
        route: row.get("route")?,
        lookup: Lookup {
            key: row.get("lookup_key")?,
            sent_name: row.get("sent_name")?,
        },
        owner: row.get("owner")?,
        name: row.get("name")?,
        adopted: row.get("adopted")?,
        created: Moment {
            wall_ms: row.get("created_ms")?,
            up_ms: row.get("created_up_ms")?,
        },
        name_hold_ms: row.get("name_hold_ms")?,
        body_hash: row.get("idempotency_hash")?,
        above: row.get("above")?,
    };
    let key: Option<String> = row.get("idempotency_key")?;
    let until = moment(
        row.get("idempotency_until_ms")?,
        row.get("idempotency_until_up_ms")?,
    );
    Ok(Row {
        identity,
        known,
        version: row.get("version")?,
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
pub(super) fn value<T: rusqlite::types::FromSql>(
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
