//! Lists of clusters, read in. Each function is a part of one transaction.

use livy_dialect::Observed;
use rusqlite::{Connection, params};

use super::rows::{all, change, one, value};
use super::statements as sql;
use super::write::detach;
use crate::clock::Moment;
use crate::registry::decide::{self, Adopt, Circumstances};
use crate::registry::row::Row;
use crate::registry::store::Adoption;

/// How many rows `RELATED` reads at once.
const RELATED_PAGE: usize = 20;

pub(super) fn adopt(
    tx: &Connection,
    cluster: &str,
    seen: Vec<Observed>,
    asked: Moment,
    now: Moment,
) -> rusqlite::Result<Adoption> {
    let mut adoption = Adoption::default();
    let around = Circumstances {
        unnamed_on_its_way: value(tx, sql::UNNAMED_ON_ITS_WAY, [cluster])?,
        lives_elsewhere: false,
        asked,
    };
    for observed in seen {
        let holder = one(tx, sql::HOLDER, params![cluster, observed.upstream_id])?;
        let (decision, candidates) = search(tx, cluster, &observed, holder.as_ref(), around)?;
        let new = adoption.sort_in(decision, observed, holder, candidates);
        if let Some((observed, holder)) = new {
            if let Some(holder) = holder {
                adoption.lost.push(detach(tx, &holder, None, now)?);
            }
            let row = insert(tx, cluster, &observed, now)?;
            adoption.known.push((row, observed));
        }
    }
    Ok(adoption)
}

/// Goes through the related rows page by page, until one of them decides.
fn search(
    tx: &Connection,
    cluster: &str,
    observed: &Observed,
    holder: Option<&Row>,
    mut around: Circumstances,
) -> rusqlite::Result<(Adopt, Vec<Row>)> {
    // What is known needs none of them, and that is most of a list.
    if matches!(decide::adopt(observed, holder, &[], around), Adopt::Known) {
        return Ok((Adopt::Known, Vec::new()));
    }
    let mut before = i64::MAX;
    loop {
        let values = params![cluster, observed.upstream_id, observed.name, before];
        let page = all(tx, sql::RELATED, values)?;
        // Asked for only where it matters.
        around.lives_elsewhere = decide::matters_elsewhere(&page)
            && value(tx, sql::LIVES_ELSEWHERE, params![cluster, observed.name])?;
        let decision = decide::adopt(observed, holder, &page, around);
        let undecided = matches!(decision, Adopt::New | Adopt::Contradicts);
        match page.last() {
            Some(last) if undecided && page.len() == RELATED_PAGE => {
                before = i64::from(last.identity.id.0);
            }
            _ => return Ok((decision, page)),
        }
    }
}

fn insert(
    tx: &Connection,
    cluster: &str,
    observed: &Observed,
    now: Moment,
) -> rusqlite::Result<Row> {
    let state = observed.state.settle(None);
    let face = decide::face(observed);
    let values = params![
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
    ];
    change(tx, sql::INSERT_ADOPTED, values)?;
    let row = one(tx, sql::BY_ID, [tx.last_insert_rowid()])?;
    row.ok_or(rusqlite::Error::QueryReturnedNoRows)
}
