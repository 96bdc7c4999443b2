//! Lists: pages for clients, found by the counts of blocks; and lists of clusters, read in.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use livy_dialect::Observed;
use tokio_postgres::Error;

use super::rows::{COLUMNS, Session, Values, all, one, read_row};
use super::write::{alone, detach, insert_adopted};
use crate::clock::Moment;
use crate::registry::decide::{self, Adopt, Circumstances};
use crate::registry::row::Row;
use crate::registry::store::{Adoption, Visible};

/// How many ids a block of `counts` has.
const BLOCK: i32 = 2048;

const SHOWN: &str = "phase IN ('sending', 'bound', 'detached')";

/// Adds to the ids that a list is to leave out those of other processes' submissions whose clients
/// still wait for their answers: they may yet give way to another attempt.
pub(super) async fn hidden(
    session: &impl Session,
    mut without: Vec<i32>,
    process: &str,
) -> Result<Vec<i32>, Error> {
    // Also of one that seems to be dead: until another one has taken over what it sends, it may go on.
    let statement = "SELECT id FROM batches WHERE phase = 'sending' AND NOT told AND sender <> $1";
    for row in session.rows(statement, &[&process]).await? {
        without.push(row.try_get(0)?);
    }
    Ok(without)
}

/// Returns how many batches of each block a caller may see, but for those that are hidden.
pub(super) async fn blocks(
    session: &impl Session,
    visible: &Visible,
    cluster: Option<&str>,
    hidden: &[i32],
) -> Result<Vec<(i32, usize)>, Error> {
    let statement = "SELECT block, shown FROM counts WHERE owner = $1 AND cluster = $2 AND shown > 0 ORDER BY block";
    // Nobody's batches are those of a user without a name.
    let owner = match visible {
        Visible::OwnedBy(user) if user.is_empty() => return Ok(Vec::new()),
        Visible::OwnedBy(user) => user,
        Visible::All => "",
    };
    let cluster = cluster.unwrap_or_default();
    let count = |row: &tokio_postgres::Row| {
        let shown: i64 = row.try_get(1)?;
        Ok((row.try_get(0)?, usize::try_from(shown).unwrap_or(0)))
    };
    let rows = session.rows(statement, &[&owner, &cluster]).await?;
    let mut blocks: Vec<(i32, usize)> = rows.iter().map(count).collect::<Result<_, Error>>()?;
    let statement = format!(
        "SELECT id / {BLOCK}, count(*) FROM batches WHERE id = ANY($1) AND ($2 = '' OR owner = $2) AND ($3 = '' OR cluster = $3)
             AND {SHOWN} GROUP BY 1"
    );
    for row in session
        .rows(&statement, &[&hidden, &owner, &cluster])
        .await?
    {
        let (block, count) = count(&row)?;
        for (_, shown) in blocks.iter_mut().filter(|(of, _)| *of == block) {
            *shown = shown.saturating_sub(count);
        }
    }
    Ok(blocks)
}

/// Finds where the batch at a position stands: the first id of its block, and how many of the block
/// come before it.
pub(super) fn place(blocks: &[(i32, usize)], mut position: usize) -> (i32, usize) {
    for (block, shown) in blocks {
        if position < *shown {
            return (block.saturating_mul(BLOCK), position);
        }
        position -= shown;
    }
    (i32::MAX, 0)
}

/// Reads a window: from which id on, how many of the first ones are left out, and how many follow.
pub(super) async fn page(
    session: &impl Session,
    visible: &Visible,
    cluster: Option<&str>,
    hidden: &[i32],
    (from, skip, limit): (i32, usize, usize),
) -> Result<Vec<Row>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let skip = i64::try_from(skip).unwrap_or(i64::MAX);
    let tail = "AND id <> ALL($4) ORDER BY id LIMIT $2 OFFSET $3";
    // A statement of its own for each case: one for all would use no index.
    match (visible, cluster) {
        (Visible::All, None) => {
            let filter = format!("id >= $1 AND {SHOWN} {tail}");
            all(session, &filter, &[&from, &limit, &skip, &hidden]).await
        }
        (Visible::All, Some(cluster)) => {
            let filter = format!("id >= $1 AND cluster = $5 AND {SHOWN} {tail}");
            all(session, &filter, &[&from, &limit, &skip, &hidden, &cluster]).await
        }
        (Visible::OwnedBy(owner), None) => {
            let filter = format!("id >= $1 AND owner = $5 AND {SHOWN} {tail}");
            all(session, &filter, &[&from, &limit, &skip, &hidden, &owner]).await
        }
        (Visible::OwnedBy(owner), Some(cluster)) => {
            let filter = format!("id >= $1 AND owner = $5 AND cluster = $6 AND {SHOWN} {tail}");
            let values: Values<'_> = &[&from, &limit, &skip, &hidden, &owner, &cluster];
            all(session, &filter, values).await
        }
    }
}

/// Reads the newest batch of a name that a caller may see.
pub(super) async fn by_name(
    session: &impl Session,
    name: &str,
    visible: &Visible,
) -> Result<Option<Row>, Error> {
    let newest = "ORDER BY id DESC LIMIT 1";
    match visible {
        Visible::All => {
            let filter = format!("name = $1 AND {SHOWN} {newest}");
            one(session, &filter, &[&name]).await
        }
        Visible::OwnedBy(owner) => {
            let filter = format!("name = $1 AND owner = $2 AND {SHOWN} {newest}");
            one(session, &filter, &[&name, owner]).await
        }
    }
}

/// The rows that a batch of a list may have to do with, newest first: by the columns of three
/// indexes. What was bound under a name that a client chose, or given up on its cluster's own word,
/// is known by its upstream id only. `cluster`, `upstream_id`, `name` and `before` are put in by who
/// asks.
fn related(cluster: &str, upstream_id: &str, name: &str, before: &str) -> String {
    format!(
        "id IN (SELECT id FROM batches WHERE lookup_key = {upstream_id} AND NOT adopted AND id < {before}
            UNION ALL SELECT id FROM batches WHERE cluster = {cluster} AND sent_name = {name} AND id < {before}
                AND (phase IN ('sending', 'refused') OR may_arrive OR sent_name = 'livy-gateway-' || lookup_key)
            UNION ALL SELECT id FROM batches WHERE cluster = {cluster} AND upstream_id = {upstream_id} AND phase IN ('deleted', 'detached')
                AND id < {before})
         ORDER BY id DESC LIMIT {RELATED_PAGE}"
    )
}
const RELATED_PAGE: usize = 20;

/// What the registry has of the batches of one step of a list, read at once.
struct Had {
    holders: HashMap<String, Row>,
    /// The first page of the related rows of each, by its place in the list.
    related: HashMap<i64, Vec<Row>>,
}

async fn read_all(tx: &impl Session, cluster: &str, seen: &[Observed]) -> Result<Had, Error> {
    let ids: Vec<&str> = seen.iter().map(|one| one.upstream_id.as_str()).collect();
    let names: Vec<Option<&str>> = seen.iter().map(|one| one.name.as_deref()).collect();
    let filter = "cluster = $1 AND upstream_id = ANY($2) AND phase = 'bound'";
    let holders = all(tx, filter, &[&cluster, &ids]).await?;
    let by_id = |row: Row| Some((row.known.phase.upstream_id()?.to_owned(), row));
    let statement = format!(
        "SELECT wanted.place, found.* FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS wanted (upstream_id, name, place)
         CROSS JOIN LATERAL (SELECT {COLUMNS} FROM batches WHERE {}) AS found ORDER BY wanted.place, found.id DESC",
        related("$1", "wanted.upstream_id", "wanted.name", "2147483647")
    );
    let mut related: HashMap<i64, Vec<Row>> = HashMap::new();
    for row in tx.rows(&statement, &[&cluster, &ids, &names]).await? {
        let place: i64 = row.try_get(0)?;
        related.entry(place - 1).or_default().push(read_row(&row)?);
    }
    Ok(Had {
        holders: holders.into_iter().filter_map(by_id).collect(),
        related,
    })
}

/// Reads a part of a cluster's list in: decides for each of its batches what it means.
pub(super) async fn adopt(
    tx: &impl Session,
    cluster: &str,
    seen: &[Observed],
    sender: &str,
    asked: Moment,
    now: Moment,
) -> Result<Adoption, Error> {
    alone(tx, "list", cluster).await?;
    let mut adoption = Adoption::default();
    let unnamed = "SELECT 1 FROM batches WHERE phase = 'sending' AND cluster = $1 AND sent_name IS NULL LIMIT 1";
    let unnamed_on_its_way = !tx.rows(unnamed, &[&cluster]).await?.is_empty();
    let mut had = read_all(tx, cluster, seen).await?;
    // Names of which this very list has brought something new.
    let mut touched: HashSet<String> = HashSet::new();
    for (place, observed) in (0..).zip(seen) {
        let holder = had.holders.remove(&observed.upstream_id);
        let first = had.related.remove(&place).unwrap_or_default();
        let is_new = observed
            .name
            .as_ref()
            .is_some_and(|name| touched.contains(name));
        let first = (!is_new).then_some(first);
        let around = Circumstances {
            unnamed_on_its_way,
            lives_elsewhere: false,
            asked,
        };
        let wanted = (cluster, observed, holder.as_ref());
        let (decision, candidates) = search(tx, wanted, first, around).await?;
        let observed = observed.clone();
        let new = adoption.sort_in(decision, observed, holder, candidates);
        if let Some((observed, holder)) = new {
            if let Some(holder) = holder {
                let lost = detach(tx, &holder, None, sender, now).await?;
                adoption.lost.push(lost);
            }
            touched.extend(observed.name.clone());
            let row = insert_adopted(tx, cluster, &observed, now).await?;
            adoption.known.push((row, observed));
        }
    }
    Ok(adoption)
}

/// Goes through the related rows page by page, until one of them decides.
async fn search(
    tx: &impl Session,
    (cluster, observed, holder): (&str, &Observed, Option<&Row>),
    first: Option<Vec<Row>>,
    mut around: Circumstances,
) -> Result<(Adopt, Vec<Row>), Error> {
    let mut before = i32::MAX;
    let mut read = first;
    loop {
        let page = match read.take() {
            Some(page) => page,
            None => {
                let filter = related("$1", "$2", "$3", "$4");
                let values: Values<'_> =
                    &[&cluster, &observed.upstream_id, &observed.name, &before];
                all(tx, &filter, values).await?
            }
        };
        // Asked for only where it matters.
        around.lives_elsewhere = decide::matters_elsewhere(&page)
            && lives_elsewhere(tx, cluster, observed.name.as_deref()).await?;
        let decision = decide::adopt(observed, holder, &page, around);
        let undecided = matches!(decision, Adopt::New | Adopt::Contradicts);
        match page.last() {
            Some(last) if undecided && page.len() == RELATED_PAGE => {
                before = last.identity.id.0;
            }
            _ => return Ok((decision, page)),
        }
    }
}

/// Tells whether a live batch of another cluster goes under a name that its client chose.
async fn lives_elsewhere(
    tx: &impl Session,
    cluster: &str,
    name: Option<&str>,
) -> Result<bool, Error> {
    let statement = "SELECT 1 FROM batches WHERE name = $2 AND cluster <> $1 AND NOT adopted
        AND phase IN ('sending', 'bound') AND ended_ms IS NULL LIMIT 1";
    Ok(!tx.rows(statement, &[&cluster, &name]).await?.is_empty())
}

/// How many rows are looked at at once to be swept out.
const SWEPT_AT_ONCE: i64 = 500;

/// Deletes what is over of the next rows after an id; returns how many, and the last row that was
/// looked at.
pub(super) async fn sweep(
    tx: &impl Session,
    after: i32,
    retain: Duration,
    now: Moment,
) -> Result<(usize, Option<i32>), Error> {
    let before = now.before(retain);
    let filter = "id IN (SELECT id FROM batches WHERE ended_ms IS NOT NULL AND ended_ms < $1 AND coalesce(ended_up_ms, 0) < $2 AND id > $3
        UNION ALL SELECT id FROM batches WHERE phase IN ('refused', 'deleted') AND ended_ms IS NULL AND created_ms < $1 AND created_up_ms < $2
            AND id > $3) ORDER BY id LIMIT $4";
    let values: Values<'_> = &[&before.wall_ms, &before.up_ms, &after, &SWEPT_AT_ONCE];
    let old = all(tx, filter, values).await?;
    let over = old.iter().filter(|row| decide::is_over(row, retain, now));
    let over: Vec<i32> = over.map(|row| row.identity.id.0).collect();
    tx.change("DELETE FROM batches WHERE id = ANY($1)", &[&over])
        .await?;
    Ok((over.len(), old.last().map(|row| row.identity.id.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_found_by_the_counts_of_blocks() {
        let blocks = [(0, 3), (2, 5)];
        assert_eq!(place(&blocks, 0), (0, 0));
        assert_eq!(place(&blocks, 2), (0, 2));
        assert_eq!(place(&blocks, 3), (2 * BLOCK, 0));
        assert_eq!(place(&blocks, 7), (2 * BLOCK, 4));
        assert_eq!(place(&blocks, 8), (i32::MAX, 0), "behind the end");
        assert_eq!(place(&[], 0), (i32::MAX, 0));
    }
}
