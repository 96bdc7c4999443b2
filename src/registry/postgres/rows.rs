//! Rows as PostgreSQL has them.

use livy_dialect::{BatchState, Lookup};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row as PgRow};

use crate::clock::Moment;
use crate::registry::row::{GatewayId, Identity, Known, Phase, Row};
use crate::registry::store::{Order, Saved, Wish};

/// All of a batch but its sender.
pub(in crate::registry) const COLUMNS: &str = "id, cluster, route, lookup_key, sent_name, owner, name, proxy_user, adopted, phase, upstream_id, state, app_id, \
    app_info, log, complete, created_ms, created_up_ms, seen_ms, ended_ms, ended_up_ms, name_hold_ms, idempotency_key, idempotency_hash, \
    idempotency_until_ms, idempotency_until_up_ms, version, told, quiet_ms, looked_ms, let_go, may_arrive, kill_asked, echoed, presumed, above, \
    waited_ms, arrived, absent, resolved_ms, resolved_up_ms";

/// What statements are told.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

pub(in crate::registry) fn read_row(row: &PgRow) -> Result<Row, Error> {
    let phase: String = row.try_get("phase")?;
    let state: String = row.try_get("state")?;
    let app_info: String = row.try_get("app_info")?;
    let log: String = row.try_get("log")?;
    let moment = |wall: Option<i64>, up: Option<i64>| {
        wall.map(|wall_ms| Moment {
            wall_ms,
            up_ms: up.unwrap_or(0),
        })
    };
    let known = Known {
        phase: Phase::from_columns(&phase, row.try_get("upstream_id")?),
        state: BatchState::from_word(&state).unwrap_or(BatchState::Starting),
        app_id: row.try_get("app_id")?,
        app_info: serde_json::from_str(&app_info).unwrap_or_default(),
        log: serde_json::from_str(&log).unwrap_or_default(),
        complete: row.try_get("complete")?,
        seen_ms: row.try_get("seen_ms")?,
        ended: moment(row.try_get("ended_ms")?, row.try_get("ended_up_ms")?),
        resolved: moment(row.try_get("resolved_ms")?, row.try_get("resolved_up_ms")?),
        proxy_user: row.try_get("proxy_user")?,
        told: row.try_get("told")?,
        echoed: row.try_get("echoed")?,
        presumed: row.try_get("presumed")?,
        kill_asked: row.try_get("kill_asked")?,
        may_arrive: row.try_get("may_arrive")?,
        let_go: row.try_get("let_go")?,
        quiet_ms: row.try_get("quiet_ms")?,
        looked_ms: row.try_get("looked_ms")?,
        waited_ms: row.try_get("waited_ms")?,
        arrived: row.try_get("arrived")?,
        absent: row.try_get("absent")?,
        ..Known::new()
    };
    let identity = Identity {
        id: GatewayId(row.try_get("id")?),
        cluster: row.try_get("cluster")?,
        route: row.try_get("route")?,
        lookup: Lookup {
            key: row.try_get("lookup_key")?,
            sent_name: row.try_get("sent_name")?,
        },
        owner: row.try_get("owner")?,
        name: row.try_get("name")?,
        adopted: row.try_get("adopted")?,
        created: Moment {
            wall_ms: row.try_get("created_ms")?,
            up_ms: row.try_get("created_up_ms")?,
        },
        name_hold_ms: row.try_get("name_hold_ms")?,
        body_hash: row.try_get("idempotency_hash")?,
        above: row.try_get("above")?,
    };
    let key: Option<String> = row.try_get("idempotency_key")?;
    let until = moment(
        row.try_get("idempotency_until_ms")?,
        row.try_get("idempotency_until_up_ms")?,
    );
    Ok(Row {
        identity,
        known,
        version: row.try_get("version")?,
        key_until: key.and(until),
    })
}

pub(in crate::registry) fn read_order(row: &PgRow) -> Result<Order, Error> {
    let wish: String = row.try_get("wish")?;
    Ok(Order {
        cluster: row.try_get("cluster")?,
        // The CHECK on the column admits these words only.
        wish: Wish::from_word(&wish).unwrap_or(Wish::Disable),
        since_ms: row.try_get("since_ms")?,
        by: row.try_get("given_by")?,
    })
}

/// What rows are read and written with: a connection or a transaction, each with statements that it
/// keeps.
pub(super) trait Session: Sync {
    /// Asks.
    fn rows(
        &self,
        statement: &str,
        values: Values<'_>,
    ) -> impl Future<Output = Result<Vec<PgRow>, Error>> + Send;
    /// Changes something; returns how many rows.
    fn change(
        &self,
        statement: &str,
        values: Values<'_>,
    ) -> impl Future<Output = Result<u64, Error>> + Send;
}

macro_rules! session {
    ($of:ty) => {
        impl Session for $of {
            async fn rows(&self, statement: &str, values: Values<'_>) -> Result<Vec<PgRow>, Error> {
                let statement = self.prepare_cached(statement).await?;
                self.query(&statement, values).await
            }

            async fn change(&self, statement: &str, values: Values<'_>) -> Result<u64, Error> {
                let statement = self.prepare_cached(statement).await?;
                self.execute(&statement, values).await
            }
        }
    };
}

session!(deadpool_postgres::ClientWrapper);
session!(deadpool_postgres::Transaction<'_>);

pub(super) async fn all(
    session: &impl Session,
    filter: &str,
    values: Values<'_>,
) -> Result<Vec<Row>, Error> {
    let statement = format!("SELECT {COLUMNS} FROM batches WHERE {filter}");
    let rows = session.rows(&statement, values).await?;
    rows.iter().map(read_row).collect()
}

pub(super) async fn one(
    session: &impl Session,
    filter: &str,
    values: Values<'_>,
) -> Result<Option<Row>, Error> {
    Ok(all(session, filter, values).await?.into_iter().next())
}

/// Inserts a row and reads it back.
pub(super) async fn insert(
    session: &impl Session,
    columns_and_values: &str,
    values: Values<'_>,
) -> Result<Option<Row>, Error> {
    let statement = format!("INSERT INTO batches {columns_and_values} RETURNING {COLUMNS}");
    let rows = session.rows(&statement, values).await?;
    rows.first().map(read_row).transpose()
}

/// Phases go forward only; what was given up without the cluster's word, and came late, or lost its
/// id on another's, may be bound after all.
const FORWARD: &str =
    "(CASE phase WHEN 'sending' THEN 0 WHEN 'bound' THEN 1 WHEN 'refused' THEN 2 WHEN 'detached' THEN 3 ELSE 4 END <= $4
    OR ($3 IN ('sending', 'bound') AND (may_arrive AND phase = 'refused' OR phase = 'detached')))";

/// An end stands, but for what is bound again: it had not ended.
const OPEN_END: &str = "ended_ms IS NULL OR (phase = 'detached' AND $3 IN ('sending', 'bound'))";

/// Stores a row if its version is the one that the writer saw. `sender`: the process that writes,
/// which works on it from now on if this opens it again.
pub(super) async fn save(session: &impl Session, row: &Row, sender: &str) -> Result<Saved, Error> {
    let known = &row.known;
    // What never came to be lets go of its key: a client may use it again.
    let lets_go = known.frees_key();
    let statement = format!(
        "UPDATE batches SET phase = $3, upstream_id = $5, proxy_user = $6, app_id = $7, app_info = $8, log = $9, complete = $10,
             seen_ms = $11, told = $12, quiet_ms = $13, looked_ms = $14, let_go = $15, waited_ms = $16, arrived = $17, absent = $18,
             may_arrive = $19, kill_asked = $20, echoed = $21, presumed = $22,
             state = CASE WHEN {OPEN_END} THEN $23 ELSE state END,
             ended_ms = CASE WHEN {OPEN_END} THEN $24 ELSE ended_ms END,
             ended_up_ms = CASE WHEN {OPEN_END} THEN $25 ELSE ended_up_ms END,
             idempotency_key = CASE WHEN $26 THEN NULL ELSE idempotency_key END,
             sender = CASE WHEN $3 = 'sending' AND phase <> 'sending' THEN $27 ELSE sender END, resolved_ms = $28, resolved_up_ms = $29,
             version = version + 1
         WHERE id = $1 AND version = $2 AND {FORWARD}"
    );
    let app_info = serde_json::to_string(&known.app_info).unwrap_or_else(|_| "{}".into());
    let log = serde_json::to_string(&known.log).unwrap_or_else(|_| "[]".into());
    let values: Values<'_> = &[
        &row.identity.id.0,
        &row.version,
        &known.phase.as_str(),
        &i32::from(known.phase.rank()),
        &known.phase.upstream_id(),
        &known.proxy_user,
        &known.app_id,
        &app_info,
        &log,
        &known.complete,
        &known.seen_ms,
        &known.told,
        &known.quiet_ms,
        &known.looked_ms,
        &known.let_go,
        &known.waited_ms,
        &known.arrived,
        &known.absent,
        &known.may_arrive,
        &known.kill_asked,
        &known.echoed,
        &known.presumed,
        &known.state.as_str(),
        &known.ended.map(|ended| ended.wall_ms),
        &known.ended.map(|ended| ended.up_ms),
        &lets_go,
        &sender,
        &known.resolved.map(|resolved| resolved.wall_ms),
        &known.resolved.map(|resolved| resolved.up_ms),
    ];
    if session.change(&statement, values).await? == 1 {
        return Ok(Saved::Stored(row.version + 1));
    }
    // A row that was swept out is as if it had been deleted: nobody may bring it back.
    let newest = one(session, "id = $1", &[&row.identity.id.0]).await?;
    Ok(newest.map_or(Saved::Stored(row.version), |newest| {
        Saved::Older(Box::new(newest))
    }))
}
