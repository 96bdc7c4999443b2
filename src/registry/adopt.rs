//! What a cluster's list means for the registry: which rows are known, which are new, and which ids went to another batch.
//!
//! Owns telling two batches apart. Ids that a cluster counts may begin again after a restart; names, states and UUIDs tell.

use livy_dialect::{Observed, StateReading};
use rusqlite::{Transaction, params};

use super::sqlite::{COLUMNS, one, read_row};
use super::store::{Adoption, Row};
use super::{GatewayId, Phase};

/// Takes an upstream id away from whoever holds it. An adopted entry that turns out to be the submission itself vanishes; any other one
/// keeps its last known state.
pub(super) fn detach(
    tx: &Transaction<'_>,
    cluster: &str,
    upstream_id: &str,
    keep: Option<GatewayId>,
    since_ms: i64,
) -> rusqlite::Result<Vec<GatewayId>> {
    let keep = keep.map_or(0, |id| id.0);
    let held = one(tx, "cluster = ?1 AND upstream_id = ?2 AND phase = 'bound' AND id <> ?3", params![cluster, upstream_id, keep])?;
    let Some(row) = held else { return Ok(Vec::new()) };
    let phase = if row.adopted && row.created_ms >= since_ms { Phase::Refused } else { Phase::Detached };
    end_detached(tx, row.id, phase)?;
    Ok(vec![row.id])
}

/// Ends an entry whose cluster no longer has it; one that had not ended is an `error` that says why.
fn end_detached(tx: &Transaction<'_>, id: GatewayId, phase: Phase) -> rusqlite::Result<()> {
    tx.execute(
        "UPDATE batches SET phase = ?2, complete = 1,
             app_info = CASE WHEN ended_ms IS NULL THEN json_set(app_info, '$.gatewayReason', ?4) ELSE app_info END,
             state = CASE WHEN ended_ms IS NULL THEN 'error' ELSE state END, ended_ms = coalesce(ended_ms, ?3) WHERE id = ?1",
        params![id.0, phase.as_str(), super::now_ms(), "the cluster gave this batch's id to another one: it was restarted"],
    )?;
    Ok(())
}

pub(super) fn adopt(tx: &Transaction<'_>, cluster: &str, seen: Vec<Observed>, now_ms: i64) -> rusqlite::Result<Adoption> {
    let mut adoption = Adoption::default();
    let sending: Vec<Row> = tx
        .prepare_cached(&format!("SELECT {COLUMNS} FROM batches WHERE phase = 'sending' AND cluster = ?1"))?
        .query_map([cluster], read_row)?
        .collect::<Result<_, _>>()?;
    for observed in seen {
        // A submission on its way may show up in the list before its own answer does: it will be bound by whoever sent it.
        let on_its_way = sending
            .iter()
            .any(|row| row.lookup.key == observed.upstream_id || (row.lookup.sent_name.is_some() && row.lookup.sent_name == observed.name));
        // Where names are not echoed, any unknown batch may be the one on its way.
        let may_be_on_its_way = observed.name.is_none() && sending.iter().any(|row| row.lookup.sent_name.is_none());
        let held = one(tx, "cluster = ?1 AND upstream_id = ?2 AND phase = 'bound'", params![cluster, observed.upstream_id])?;
        match held {
            Some(row) if is_same(&row, &observed) => adoption.known.push((row.id, observed)),
            _ if on_its_way || (held.is_none() && may_be_on_its_way) => {}
            held => {
                if held.is_some() {
                    adoption.detached.extend(detach(tx, cluster, &observed.upstream_id, None, i64::MAX)?);
                }
                if was_deleted(tx, cluster, &observed)? || is_leftover(tx, cluster, &observed)? {
                    continue;
                }
                let id = insert_adopted(tx, cluster, &observed, now_ms)?;
                adoption.known.push((id, observed));
            }
        }
    }
    Ok(adoption)
}

/// Tells whether an upstream's row is still the batch that an entry stands for.
fn is_same(row: &Row, observed: &Observed) -> bool {
    // A cluster that counts its batches may begin again; a UUID is never given twice, whatever becomes of the name beside it.
    if observed.upstream_id.parse::<u64>().is_err() {
        return true;
    }
    if let (Some(sent), Some(name)) = (&row.lookup.sent_name, &observed.name)
        && sent != name
    {
        return false;
    }
    if row.adopted && row.name != observed.name {
        return false;
    }
    // An application, and a name that was made up here, are never given twice: a Livy that recovers shows what has ended as not ended.
    if let (Some(known), Some(seen)) = (&row.known.app_id, &observed.app_id) {
        return known == seen;
    }
    if row.name.is_none() && row.lookup.sent_name.is_some() && row.lookup.sent_name == observed.name {
        return true;
    }
    // What has ended does not start again; a cluster that began to count from 0 does.
    let restarted = matches!(observed.state, StateReading::Known(state) if !state.is_terminal());
    !(row.known.state.is_terminal() && restarted)
}

/// Kyuubi goes on listing what was deleted; such a row must not come back under a new id.
fn was_deleted(tx: &Transaction<'_>, cluster: &str, observed: &Observed) -> rusqlite::Result<bool> {
    let ended = matches!(observed.state, StateReading::Known(state) if state.is_terminal());
    let row = one(
        tx,
        "cluster = ?1 AND upstream_id = ?2 AND phase IN ('deleted', 'detached') ORDER BY id DESC LIMIT 1",
        params![cluster, observed.upstream_id],
    )?;
    Ok(row.is_some_and(|row| ended && (row.adopted || is_same(&row, observed))))
}

/// What a refused submission left behind is nobody's batch: a ghost of Livy's under the name it was sent with, a row of Kyuubi's under its id.
fn is_leftover(tx: &Transaction<'_>, cluster: &str, observed: &Observed) -> rusqlite::Result<bool> {
    let row = one(
        tx,
        "cluster = ?1 AND phase = 'refused' AND (lookup_key = ?2 OR sent_name = ?3) LIMIT 1",
        params![cluster, observed.upstream_id, observed.name],
    )?;
    Ok(row.is_some_and(|row| row.lookup.key == observed.upstream_id || observed.log.is_empty()))
}

fn insert_adopted(tx: &Transaction<'_>, cluster: &str, observed: &Observed, now_ms: i64) -> rusqlite::Result<GatewayId> {
    let state = observed.state.settle(None);
    // A generated name is the mark of another gateway's submission, not something a client chose.
    let owner = observed.proxy_user.as_ref().or(observed.owner.as_ref());
    tx.execute(
        "INSERT INTO batches (cluster, route, lookup_key, sent_name, owner, name, proxy_user, adopted, phase, upstream_id, state, created_ms)
         VALUES (?1, '_none', '', ?2, ?3, ?2, ?4, 1, 'bound', ?5, ?6, ?7)",
        params![cluster, observed.name, owner, observed.proxy_user, observed.upstream_id, state.as_str(), now_ms],
    )?;
    i32::try_from(tx.last_insert_rowid()).map(GatewayId).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(0, tx.last_insert_rowid()))
}
