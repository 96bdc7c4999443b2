//! Submissions and what becomes of them. Each function is a part of one transaction.

use rusqlite::{Connection, named_params, params};

use super::rows::{change, one};
use super::statements as sql;
use crate::clock::Moment;
use crate::registry::decide::{self, Claim};
use crate::registry::row::{GatewayId, Row};
use crate::registry::store::{NewRow, Recorded, Saved};

pub(super) fn record(tx: &Connection, new: &NewRow, now: Moment) -> rusqlite::Result<Recorded> {
    let by_key = match &new.key {
        Some(key) => one(tx, sql::BY_KEY, params![new.owner, key.key])?,
        None => None,
    };
    let by_name = match &new.name {
        Some(name) => holder_of_name(tx, name, new.replaces.map_or(0, |replaced| replaced.id.0))?,
        None => None,
    };
    if let Some(replaced) = new.replaces
        && let Some(row) = one(tx, sql::BY_ID, [replaced.id.0])?
        && row.version != new.seen
    {
        return Ok(Recorded::Same(row));
    }
    match decide::claim(new, by_key.as_ref(), by_name.as_ref(), now) {
        Claim::Same(row) => return Ok(Recorded::Same(*row)),
        Claim::Conflict => return Ok(Recorded::Conflict),
        Claim::NameTaken(row) => return Ok(Recorded::NameTaken(row.map(|row| row.identity.id))),
        Claim::Free => {}
    }
    if let Some(row) = by_key {
        change(tx, sql::LET_GO_OF_KEY, [row.identity.id.0])?;
    }
    if let Some(replaced) = new.replaces {
        let values = params![replaced.id.0, replaced.may_arrive, now.wall_ms, now.up_ms];
        change(tx, sql::GIVE_WAY, values)?;
    }
    let values = named_params! {
        ":cluster": new.cluster, ":route": new.route, ":key": new.lookup.key, ":sent_name": new.lookup.sent_name,
        ":owner": new.owner, ":name": new.name, ":now": now.wall_ms, ":up": now.up_ms, ":hold": new.name_hold_ms,
        ":ikey": new.key.as_ref().map(|key| &key.key), ":ihash": new.body_hash,
        ":iuntil": new.key.as_ref().map(|key| key.until.wall_ms), ":iuntil_up": new.key.as_ref().map_or(0, |key| key.until.up_ms),
        ":above": new.above, ":proxy_user": new.proxy_user,
    };
    change(tx, sql::INSERT, values)?;
    let row = one(tx, sql::BY_ID, [tx.last_insert_rowid()])?;
    row.map(Recorded::New)
        .ok_or(rusqlite::Error::QueryReturnedNoRows)
}

/// Finds who holds a name, but for one row: whoever lives, or else whoever ended last.
fn holder_of_name(tx: &Connection, name: &str, but: i32) -> rusqlite::Result<Option<Row>> {
    match one(tx, sql::NAME_OF_THE_LIVING, params![name, but])? {
        Some(row) => Ok(Some(row)),
        None => one(tx, sql::NAME_OF_THE_LAST, params![name, but]),
    }
}

pub(super) fn reopen(tx: &Connection, id: GatewayId, by: GatewayId) -> rusqlite::Result<()> {
    let (key, until, until_up): (Option<String>, Option<i64>, i64) = sql::KEY_OF
        .on(tx)?
        .query_row([by.0], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    change(tx, sql::CLOSE_AGAIN, params![by.0, id.0])?;
    change(tx, sql::OPEN_AGAIN, params![id.0, key, until, until_up])?;
    Ok(())
}

/// Stores a row if its version is the one that the writer saw.
pub(super) fn save(tx: &Connection, row: &Row) -> rusqlite::Result<Saved> {
    let known = &row.known;
    // What never came to be lets go of its key: a client may use it again.
    let lets_go = known.frees_key();
    let values = named_params! {
        ":id": row.identity.id.0, ":version": row.version, ":phase": known.phase.as_str(), ":rank": known.phase.rank(),
        ":upstream_id": known.phase.upstream_id(), ":proxy_user": known.proxy_user, ":app_id": known.app_id,
        ":app_info": serde_json::to_string(&known.app_info).unwrap_or_else(|_| "{}".into()),
        ":log": serde_json::to_string(&known.log).unwrap_or_else(|_| "[]".into()), ":complete": known.complete,
        ":seen_ms": known.seen_ms, ":told": known.told, ":quiet_ms": known.quiet_ms, ":looked_ms": known.looked_ms,
        ":waited_ms": known.waited_ms, ":arrived": known.arrived, ":absent": known.absent,
        ":let_go": known.let_go, ":may_arrive": known.may_arrive, ":kill_asked": known.kill_asked, ":echoed": known.echoed,
        ":presumed": known.presumed, ":state": known.state.as_str(), ":ended_ms": known.ended.map(|ended| ended.wall_ms),
        ":ended_up_ms": known.ended.map(|ended| ended.up_ms), ":resolved_ms": known.resolved.map(|resolved| resolved.wall_ms),
        ":resolved_up_ms": known.resolved.map(|resolved| resolved.up_ms), ":lets_go": lets_go,
    };
    if change(tx, sql::SAVE, values)? == 1 {
        return Ok(Saved::Stored(row.version + 1));
    }
    // A row that was swept out is as if it had been deleted: nobody may bring it back.
    let newest = one(tx, sql::BY_ID, [row.identity.id.0])?;
    Ok(newest.map_or(Saved::Stored(row.version), |newest| {
        Saved::Older(Box::new(newest))
    }))
}

/// Takes an upstream id away from whoever holds it.
pub(super) fn detach(
    tx: &Connection,
    holder: &Row,
    by: Option<GatewayId>,
    now: Moment,
) -> rusqlite::Result<Row> {
    let mut row = holder.clone();
    decide::lose_id(&mut row, by, now);
    save(tx, &row)?;
    Ok(one(tx, sql::BY_ID, [row.identity.id.0])?.unwrap_or(row))
}

pub(super) fn bind(tx: &Connection, row: &Row, now: Moment) -> rusqlite::Result<(Saved, Vec<Row>)> {
    let identity = &row.identity;
    let upstream_id = row.known.phase.upstream_id();
    let values = params![identity.cluster, upstream_id, identity.id.0];
    let lost = one(tx, sql::OTHER_HOLDER, values)?
        .map(|holder| detach(tx, &holder, Some(identity.id), now))
        .transpose()?;
    Ok((save(tx, row)?, lost.into_iter().collect()))
}
