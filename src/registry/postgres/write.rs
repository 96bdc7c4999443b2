//! The transactions that decide something: each reads what the decision needs, lets it be decided,
//! and stores what was decided.

use livy_dialect::Observed;
use tokio_postgres::Error;

use super::rows::{Session, all, insert, one, save};
use crate::clock::Moment;
use crate::registry::decide::{self, Claim};
use crate::registry::row::{GatewayId, Row};
use crate::registry::store::{NewRow, Recorded, Saved};

/// Waits until no other transaction decides about the same thing. The lock ends with the
/// transaction.
pub(super) async fn alone(session: &impl Session, what: &str, which: &str) -> Result<(), Error> {
    let lock = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";
    let name = format!("livy-gateway {what} {which}");
    session.rows(lock, &[&name]).await.map(drop)
}

/// Waits until no list of a cluster is being read into the registry; many submissions go on side by
/// side.
async fn no_list(session: &impl Session, cluster: &str) -> Result<(), Error> {
    let lock = "SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))";
    let name = format!("livy-gateway list {cluster}");
    session.rows(lock, &[&name]).await.map(drop)
}

pub(super) async fn record(
    tx: &impl Session,
    new: &NewRow,
    sender: &str,
    now: Moment,
) -> Result<Recorded, Error> {
    // In one order for everybody: the list, the key, the name.
    no_list(tx, &new.cluster).await?;
    let by_key = match &new.key {
        Some(key) => {
            let owner = new.owner.as_deref().unwrap_or_default();
            alone(tx, "key", &format!("{owner} {}", key.key)).await?;
            let filter = "owner = $1 AND idempotency_key = $2";
            one(tx, filter, &[&new.owner, &key.key]).await?
        }
        None => None,
    };
    let by_name = match &new.name {
        Some(name) => {
            alone(tx, "name", name).await?;
            let filter = "name = $1 AND id <> $2 AND phase IN ('sending', 'bound')
                ORDER BY ended_ms IS NOT NULL, ended_ms DESC LIMIT 1";
            let but = new.replaces.map_or(0, |replaced| replaced.id.0);
            one(tx, filter, &[name, &but]).await?
        }
        None => None,
    };
    if let Some(replaced) = new.replaces {
        let filter = "id = $1 AND (version <> $2 OR phase NOT IN ('sending', 'refused') OR sender IS DISTINCT FROM $3) FOR UPDATE";
        // Another process took it over, or showed it: whatever it made of it stands.
        let values: super::rows::Values<'_> = &[&replaced.id.0, &new.seen, &sender];
        if let Some(row) = one(tx, filter, values).await? {
            return Ok(Recorded::Same(row));
        }
    }
    match decide::claim(new, by_key.as_ref(), by_name.as_ref(), now) {
        Claim::Same(row) => return Ok(Recorded::Same(*row)),
        Claim::Conflict => return Ok(Recorded::Conflict),
        Claim::NameTaken(row) => return Ok(Recorded::NameTaken(row.map(|row| row.identity.id))),
        Claim::Free => {}
    }
    if let Some(row) = by_key {
        let statement = "UPDATE batches SET idempotency_key = NULL WHERE id = $1";
        tx.change(statement, &[&row.identity.id.0]).await?;
    }
    if let Some(replaced) = new.replaces {
        let statement = "UPDATE batches SET phase = 'refused', idempotency_key = NULL, may_arrive = may_arrive OR $2, resolved_ms = $3,
                 resolved_up_ms = $4, version = version + 1
             WHERE id = $1 AND phase IN ('sending', 'refused')";
        let values: super::rows::Values<'_> = &[
            &replaced.id.0,
            &replaced.may_arrive,
            &now.wall_ms,
            &now.up_ms,
        ];
        tx.change(statement, values).await?;
    }
    let row = insert(
        tx,
        "(cluster, route, lookup_key, sent_name, owner, name, phase, state, created_ms, created_up_ms, name_hold_ms,
             app_info, idempotency_key, idempotency_hash, idempotency_until_ms, idempotency_until_up_ms, told, looked_ms, above, proxy_user,
             sender)
         VALUES ($1, $2, $3, $4, $5, $6, 'sending', 'starting', $7, $8, $9,
             '{\"driverLogUrl\":null,\"sparkUiUrl\":null}', $10, $11, $12, $13, false, $7, $14, $15, $16)",
        &[
            &new.cluster,
            &new.route,
            &new.lookup.key,
            &new.lookup.sent_name,
            &new.owner,
            &new.name,
            &now.wall_ms,
            &now.up_ms,
            &new.name_hold_ms,
            &new.key.as_ref().map(|key| &key.key),
            &new.body_hash,
            &new.key.as_ref().map(|key| key.until.wall_ms),
            &new.key.as_ref().map_or(0, |key| key.until.up_ms),
            &new.above,
            &new.proxy_user,
            &sender,
        ],
    )
    .await?;
    Ok(Recorded::New(
        row.expect("an insert without a condition returns its row"),
    ))
}

pub(super) async fn reopen(
    tx: &impl Session,
    id: GatewayId,
    by: GatewayId,
    sender: &str,
) -> Result<(), Error> {
    let columns = "SELECT idempotency_key, idempotency_until_ms, idempotency_until_up_ms FROM batches WHERE id = $1 FOR UPDATE";
    let held = tx.rows(columns, &[&by.0]).await?;
    let Some(held) = held.first() else {
        return Ok(());
    };
    let (key, until): (Option<String>, Option<i64>) = (held.try_get(0)?, held.try_get(1)?);
    let until_up: i64 = held.try_get(2)?;
    tx.change(
        "UPDATE batches SET phase = 'refused', idempotency_key = NULL, version = version + 1
         WHERE id = $1 AND id <> $2 AND phase IN ('sending', 'refused')",
        &[&by.0, &id.0],
    )
    .await?;
    tx.change(
        "UPDATE batches SET phase = 'sending', idempotency_key = $2, idempotency_until_ms = $3, idempotency_until_up_ms = $4,
             resolved_ms = NULL, resolved_up_ms = NULL, sender = $5, version = version + 1
         WHERE id = $1 AND phase IN ('sending', 'refused')",
        &[&id.0, &key, &until, &until_up, &sender],
    )
    .await?;
    Ok(())
}

/// Takes an upstream id away from whoever holds it.
pub(super) async fn detach(
    tx: &impl Session,
    holder: &Row,
    by: Option<GatewayId>,
    sender: &str,
    now: Moment,
) -> Result<Row, Error> {
    let mut row = holder.clone();
    decide::lose_id(&mut row, by, now);
    save(tx, &row, sender).await?;
    let now = one(tx, "id = $1", &[&row.identity.id.0]).await?;
    Ok(now.unwrap_or(row))
}

pub(super) const HOLDER: &str = "cluster = $1 AND upstream_id = $2 AND phase = 'bound'";

pub(super) async fn bind(
    tx: &impl Session,
    row: &Row,
    sender: &str,
    now: Moment,
) -> Result<(Saved, Vec<Row>), Error> {
    no_list(tx, &row.identity.cluster).await?;
    let filter = format!("{HOLDER} AND id <> $3 FOR UPDATE");
    let upstream_id = row.known.phase.upstream_id();
    let holder = one(
        tx,
        &filter,
        &[&row.identity.cluster, &upstream_id, &row.identity.id.0],
    )
    .await?;
    let mut lost = Vec::new();
    if let Some(holder) = holder {
        lost.push(detach(tx, &holder, Some(row.identity.id), sender, now).await?);
    }
    Ok((save(tx, row, sender).await?, lost))
}

pub(super) async fn insert_adopted(
    tx: &impl Session,
    cluster: &str,
    observed: &Observed,
    now: Moment,
) -> Result<Row, Error> {
    let state = observed.state.settle(None);
    let face = decide::face(observed);
    let row = insert(
        tx,
        "(cluster, route, lookup_key, sent_name, owner, name, proxy_user, app_id, adopted, phase, upstream_id, state,
             created_ms, created_up_ms, echoed)
         VALUES ($1, '_none', '', $2, $3, $4, $5, $6, true, 'bound', $7, $8, $9, $10, $11)",
        &[
            &cluster,
            &observed.name,
            &face.owner,
            &face.name,
            &observed.proxy_user,
            &observed.app_id,
            &observed.upstream_id,
            &state.as_str(),
            &now.wall_ms,
            &now.up_ms,
            &observed.name.is_some(),
        ],
    )
    .await?;
    Ok(row.expect("an insert without a condition returns its row"))
}

/// Lets this process work on open submissions whose sender is not alive any more, and on its own
/// that nobody works on.
pub(super) async fn take_over(tx: &impl Session, sender: &str) -> Result<Vec<Row>, Error> {
    // The version tells the former sender, should it go on, that it was given up.
    tx.change(
        "UPDATE batches SET sender = $1, version = version + 1 WHERE phase = 'sending' AND sender IS DISTINCT FROM $1
             AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.name = 'process/' || batches.sender AND until > clock_timestamp())",
        &[&sender],
    )
    .await?;
    all(
        tx,
        "phase = 'sending' AND sender = $1 ORDER BY id",
        &[&sender],
    )
    .await
}
