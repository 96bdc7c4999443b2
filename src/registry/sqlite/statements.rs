//! The statements, and rows to and from columns. Each function is a part of one transaction.

use std::time::Duration;

use livy_dialect::{BatchState, Lookup, Observed};
use rusqlite::{Connection, OptionalExtension as _, Transaction, named_params, params};

use crate::clock::Moment;
use crate::registry::decide::{self, Adopt, Circumstances, Claim};
use crate::registry::row::{GatewayId, Identity, Known, Phase, Row};
use crate::registry::store::{Adoption, NewRow, Order, RangeOf, Recorded, Saved, Visible, Wish};

const COLUMNS: &str = "id, cluster, route, lookup_key, sent_name, owner, name, proxy_user, adopted, phase, upstream_id, state, app_id, \
    app_info, log, complete, created_ms, created_up_ms, seen_ms, ended_ms, ended_up_ms, name_hold_ms, idempotency_key, idempotency_hash, \
    idempotency_until_ms, idempotency_until_up_ms, version, told, quiet_ms, looked_ms, let_go, may_arrive, kill_asked, echoed, presumed, above, \
    waited_ms, arrived, absent, resolved_ms, resolved_up_ms";

fn read_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
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

pub(super) fn one(
    tx: &Connection,
    filter: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<Option<Row>> {
    tx.prepare_cached(&format!("SELECT {COLUMNS} FROM batches WHERE {filter}"))?
        .query_row(values, read_row)
        .optional()
}

pub(super) fn all(
    tx: &Connection,
    filter: &str,
    values: impl rusqlite::Params,
) -> rusqlite::Result<Vec<Row>> {
    tx.prepare_cached(&format!("SELECT {COLUMNS} FROM batches WHERE {filter}"))?
        .query_map(values, read_row)?
        .collect()
}

pub(super) fn record(
    tx: &Transaction<'_>,
    new: &NewRow,
    now: Moment,
) -> rusqlite::Result<Recorded> {
    let by_key = match &new.key {
        Some(key) => one(
            tx,
            "owner = ?1 AND idempotency_key = ?2",
            params![new.owner, key.key],
        )?,
        None => None,
    };
    let by_name = match &new.name {
        Some(name) => {
            let filter = "name = ?1 AND id <> ?2 AND phase IN ('sending', 'bound') ORDER BY ended_ms IS NOT NULL, ended_ms DESC LIMIT 1";
            one(
                tx,
                filter,
                params![name, new.replaces.map_or(0, |replaced| replaced.id.0)],
            )?
        }
        None => None,
    };
    match decide::claim(new, by_key.as_ref(), by_name.as_ref(), now) {
        Claim::Same(row) => return Ok(Recorded::Same(*row)),
        Claim::Conflict => return Ok(Recorded::Conflict),
        Claim::NameTaken(row) => return Ok(Recorded::NameTaken(row.map(|row| row.identity.id))),
        Claim::Free => {}
    }
    if let Some(row) = by_key {
        tx.execute(
            "UPDATE batches SET idempotency_key = NULL WHERE id = ?1",
            [row.identity.id.0],
        )?;
    }
    if let Some(replaced) = new.replaces {
        tx.execute(
            "UPDATE batches SET phase = 'refused', idempotency_key = NULL, may_arrive = max(may_arrive, ?2), resolved_ms = ?3,
                 resolved_up_ms = ?4, version = version + 1
             WHERE id = ?1 AND phase IN ('sending', 'refused')",
            params![replaced.id.0, replaced.may_arrive, now.wall_ms, now.up_ms],
        )?;
    }
    tx.prepare_cached(
        "INSERT INTO batches (cluster, route, lookup_key, sent_name, owner, name, phase, state, created_ms, created_up_ms, name_hold_ms,
             app_info, idempotency_key, idempotency_hash, idempotency_until_ms, idempotency_until_up_ms, told, looked_ms, above, proxy_user,
             version)
         VALUES (:cluster, :route, :key, :sent_name, :owner, :name, 'sending', 'starting', :now, :up, :hold,
             '{\"driverLogUrl\":null,\"sparkUiUrl\":null}', :ikey, :ihash, :iuntil, :iuntil_up, 0, :now, :above, :proxy_user, 1)",
    )?
    .execute(named_params! {
        ":cluster": new.cluster, ":route": new.route, ":key": new.lookup.key, ":sent_name": new.lookup.sent_name,
        ":owner": new.owner, ":name": new.name, ":now": now.wall_ms, ":up": now.up_ms, ":hold": new.name_hold_ms,
        ":ikey": new.key.as_ref().map(|key| &key.key), ":ihash": new.body_hash,
        ":iuntil": new.key.as_ref().map(|key| key.until.wall_ms), ":iuntil_up": new.key.as_ref().map_or(0, |key| key.until.up_ms),
        ":above": new.above, ":proxy_user": new.proxy_user,
    })?;
    let row = one(tx, "id = ?1", [tx.last_insert_rowid()])?;
    row.map(Recorded::New)
        .ok_or(rusqlite::Error::QueryReturnedNoRows)
}

pub(super) fn reopen(tx: &Transaction<'_>, id: GatewayId, by: GatewayId) -> rusqlite::Result<()> {
    let columns = "idempotency_key, idempotency_until_ms, idempotency_until_up_ms";
    let (key, until, until_up): (Option<String>, Option<i64>, i64) = tx.query_row(
        &format!("SELECT {columns} FROM batches WHERE id = ?1"),
        [by.0],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    tx.execute(
        "UPDATE batches SET phase = 'refused', idempotency_key = NULL, version = version + 1
         WHERE id = ?1 AND id <> ?2 AND phase IN ('sending', 'refused')",
        params![by.0, id.0],
    )?;
    tx.execute(
        "UPDATE batches SET phase = 'sending', idempotency_key = ?2, idempotency_until_ms = ?3, idempotency_until_up_ms = ?4,
             resolved_ms = NULL, resolved_up_ms = NULL, version = version + 1
         WHERE id = ?1 AND phase IN ('sending', 'refused')",
        params![id.0, key, until, until_up],
    )?;
    Ok(())
}

/// Phases go forward only; what was given up without the cluster's word, and came late, or lost its
/// id on another's, may be bound after all.
const FORWARD: &str =
    "(CASE phase WHEN 'sending' THEN 0 WHEN 'bound' THEN 1 WHEN 'refused' THEN 2 WHEN 'detached' THEN 3 ELSE 4 END <= :rank
    OR (:phase IN ('sending', 'bound') AND (may_arrive = 1 AND phase = 'refused' OR phase = 'detached')))";

/// An end stands, but for what is bound again: it had not ended.
const OPEN_END: &str =
    "ended_ms IS NULL OR (phase = 'detached' AND :phase IN ('sending', 'bound'))";

/// Stores a row if its version is the one that the writer saw.
pub(super) fn save(tx: &Connection, row: &Row) -> rusqlite::Result<Saved> {
    let known = &row.known;
    // What never came to be lets go of its key: a client may use it again.
    let lets_go = known.frees_key();
    let changed = tx
        .prepare_cached(&format!(
            "UPDATE batches SET phase = :phase, upstream_id = :upstream_id, proxy_user = :proxy_user, app_id = :app_id, app_info = :app_info,
             log = :log, complete = :complete, seen_ms = :seen_ms, told = :told, quiet_ms = :quiet_ms, looked_ms = :looked_ms, let_go = :let_go,
             resolved_ms = :resolved_ms, resolved_up_ms = :resolved_up_ms, waited_ms = :waited_ms, arrived = :arrived, absent = :absent, may_arrive = :may_arrive, kill_asked = :kill_asked, echoed = :echoed, presumed = :presumed,
             state = CASE WHEN {OPEN_END} THEN :state ELSE state END,
             ended_up_ms = CASE WHEN {OPEN_END} THEN :ended_up_ms ELSE ended_up_ms END,
             ended_ms = CASE WHEN {OPEN_END} THEN :ended_ms ELSE ended_ms END,
             idempotency_key = CASE WHEN :lets_go THEN NULL ELSE idempotency_key END, version = version + 1
         WHERE id = :id AND version = :version AND {FORWARD}"
        ))?
        .execute(named_params! {
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
        })?;
    if changed == 1 {
        return Ok(Saved::Stored(row.version + 1));
    }
    // A row that was swept out is as if it had been deleted: nobody may bring it back.
    let newest = one(tx, "id = ?1", [row.identity.id.0])?;
    Ok(newest.map_or(Saved::Stored(row.version), |newest| {
        Saved::Older(Box::new(newest))
    }))
}

/// Takes an upstream id away from whoever holds it.
fn detach(
    tx: &Transaction<'_>,
    holder: &Row,
    by: Option<GatewayId>,
    now: Moment,
) -> rusqlite::Result<Row> {
    let mut row = holder.clone();
    decide::lose_id(&mut row, by, now);
    save(tx, &row)?;
    Ok(one(tx, "id = ?1", [row.identity.id.0])?.unwrap_or(row))
}

pub(super) const HOLDER: &str = "cluster = ?1 AND upstream_id = ?2 AND phase = 'bound'";

pub(super) fn bind(
    tx: &Transaction<'_>,
    row: &Row,
    now: Moment,
) -> rusqlite::Result<(Saved, Vec<Row>)> {
    let holder = one(
        tx,
        &format!("{HOLDER} AND id <> ?3"),
        params![
            row.identity.cluster,
            row.known.phase.upstream_id(),
            row.identity.id.0
        ],
    )?;
    let lost = holder
        .map(|holder| detach(tx, &holder, Some(row.identity.id), now))
        .transpose()?;
    Ok((save(tx, row)?, lost.into_iter().collect()))
}

/// The rows that a batch of a list may have to do with, newest first. Of what ended under a name
/// that a client chose nothing more can come.
const RELATED: &str = "cluster = ?1 AND id < ?4 AND (lookup_key = ?2 AND adopted = 0
    OR sent_name = ?3 AND (phase <> 'bound' OR ended_ms IS NULL OR sent_name = 'livy-gateway-' || lookup_key)
    OR upstream_id = ?2 AND phase IN ('deleted', 'detached'))
    ORDER BY id DESC LIMIT 20";

const RELATED_PAGE: usize = 20;

/// Tells whether a live batch of another cluster goes under a name that its client chose.
fn lives_elsewhere(
    tx: &Transaction<'_>,
    cluster: &str,
    name: Option<&str>,
) -> rusqlite::Result<bool> {
    let query =
        "SELECT EXISTS (SELECT 1 FROM batches WHERE name = ?2 AND cluster <> ?1 AND adopted = 0
        AND phase IN ('sending', 'bound') AND ended_ms IS NULL)";
    tx.prepare_cached(query)?
        .query_row(params![cluster, name], |row| row.get(0))
}

pub(super) fn adopt(
    tx: &Transaction<'_>,
    cluster: &str,
    seen: Vec<Observed>,
    asked: Moment,
    now: Moment,
) -> rusqlite::Result<Adoption> {
    let mut adoption = Adoption::default();
    let unnamed = "SELECT count(*) FROM batches WHERE phase = 'sending' AND cluster = ?1 AND sent_name IS NULL";
    let unnamed_on_its_way = tx
        .prepare_cached(unnamed)?
        .query_row([cluster], |row| row.get::<_, i64>(0))?
        > 0;
    for observed in seen {
        let holder = one(tx, HOLDER, params![cluster, observed.upstream_id])?;
        let mut before = i64::MAX;
        // Page by page, until one of them decides.
        let (decision, candidates) = loop {
            let page = all(
                tx,
                RELATED,
                params![cluster, observed.upstream_id, observed.name, before],
            )?;
            // Asked for only where it matters.
            let around = Circumstances {
                unnamed_on_its_way,
                lives_elsewhere: decide::matters_elsewhere(&page)
                    && lives_elsewhere(tx, cluster, observed.name.as_deref())?,
                asked,
            };
            let decision = decide::adopt(&observed, holder.as_ref(), &page, around);
            let undecided = matches!(decision, Adopt::New | Adopt::Contradicts);
            match page.last() {
                Some(last) if undecided && page.len() == RELATED_PAGE => {
                    before = i64::from(last.identity.id.0);
                }
                _ => break (decision, page),
            }
        };
        let new = adoption.sort_in(decision, observed, holder, candidates);
        if let Some((observed, holder)) = new {
            if let Some(holder) = holder {
                adoption.lost.push(detach(tx, &holder, None, now)?);
            }
            let row = insert_adopted(tx, cluster, &observed, now)?;
            adoption.known.push((row, observed));
        }
    }
    Ok(adoption)
}

fn insert_adopted(
    tx: &Transaction<'_>,
    cluster: &str,
    observed: &Observed,
    now: Moment,
) -> rusqlite::Result<Row> {
    let state = observed.state.settle(None);
    let face = decide::face(observed);
    tx.execute(
        "INSERT INTO batches (cluster, route, lookup_key, sent_name, owner, name, proxy_user, app_id, adopted, phase, upstream_id, state,
             created_ms, created_up_ms, echoed, version)
         VALUES (?1, '_none', '', ?2, ?3, ?4, ?5, ?6, 1, 'bound', ?7, ?8, ?9, ?10, ?11, 1)",
        params![
            cluster,
            observed.name,
            face.owner,
            face.name,
            observed.proxy_user,
            observed.app_id,
            observed.upstream_id,
            state.as_str(),
            now.wall_ms,
            now.up_ms,
            observed.name.is_some()
        ],
    )?;
    let row = one(tx, "id = ?1", [tx.last_insert_rowid()])?;
    row.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

pub(super) fn read_order(row: &rusqlite::Row<'_>) -> rusqlite::Result<Order> {
    let wish: String = row.get("wish")?;
    Ok(Order {
        cluster: row.get("cluster")?,
        // The CHECK on the column admits these words only.
        wish: Wish::from_word(&wish).unwrap_or(Wish::Disable),
        since_ms: row.get("since_ms")?,
        by: row.get("given_by")?,
    })
}

pub(super) const SHOWN: &str = "phase IN ('sending', 'bound', 'detached') AND (?1 IS NULL OR owner = ?1) AND (?2 IS NULL OR cluster = ?2)";

pub(super) fn owner_of(visible: &Visible) -> Option<&str> {
    match visible {
        Visible::All => None,
        Visible::OwnedBy(user) => Some(user),
    }
}

pub(super) fn list(
    connection: &Connection,
    visible: &Visible,
    cluster: Option<&str>,
    without: &[GatewayId],
    range: RangeOf,
) -> rusqlite::Result<(usize, Vec<Row>)> {
    let owner = owner_of(visible);
    let without: Vec<String> = without.iter().map(ToString::to_string).collect();
    let without = format!("[{}]", without.join(","));
    let listed = format!("{SHOWN} AND id NOT IN (SELECT value FROM json_each(?3))");
    let count: i64 = connection
        .prepare_cached(&format!("SELECT count(*) FROM batches WHERE {listed}"))?
        .query_row(params![owner, cluster, without], |row| row.get(0))?;
    let total = usize::try_from(count).unwrap_or(0);
    let range = range(total);
    let limit = i64::try_from(range.len()).unwrap_or(i64::MAX);
    let offset = i64::try_from(range.start).unwrap_or(i64::MAX);
    let rows = all(
        connection,
        &format!("{listed} ORDER BY id LIMIT ?4 OFFSET ?5"),
        params![owner, cluster, without, limit, offset],
    )?;
    Ok((total, rows))
}

/// How many rows are looked at at once to be swept out.
const SWEPT_AT_ONCE: usize = 500;

pub(super) fn sweep(
    tx: &Transaction<'_>,
    retain: Duration,
    now: Moment,
) -> rusqlite::Result<usize> {
    let before = now.before(retain);
    let (mut swept, mut after) = (0, 0);
    loop {
        let old = all(
            tx,
            "id > ?3 AND ((ended_ms < ?1 AND coalesce(ended_up_ms, 0) < ?2)
                OR (phase IN ('refused', 'deleted') AND ended_ms IS NULL AND created_ms < ?1 AND created_up_ms < ?2))
                ORDER BY id LIMIT ?4",
            params![before.wall_ms, before.up_ms, after, SWEPT_AT_ONCE as i64],
        )?;
        let Some(last) = old.last() else {
            return Ok(swept);
        };
        after = last.identity.id.0;
        for row in old.iter().filter(|row| decide::is_over(row, retain, now)) {
            swept += tx
                .prepare_cached("DELETE FROM batches WHERE id = ?1")?
                .execute([row.identity.id.0])?;
        }
    }
}
