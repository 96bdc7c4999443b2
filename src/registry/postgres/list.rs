//! Lists: pages for clients, found by the counts of blocks; and lists of clusters, read in.

use std::collections::{HashMap, HashSet};

use livy_dialect::Observed;
use tokio_postgres::Error;

use super::rows::{COLUMNS, Session, Values, all, one, read_row};
use super::write::{alone, detach, insert_adopted};
use crate::clock::Moment;
use crate::registry::decide::{self, Adopt};
use crate::registry::store::{Adoption, Row, Visible};

/// How many ids a block of `counts` has.
const BLOCK: i32 = 2048;

const SHOWN: &str = "phase IN ('sending', 'bound', 'detached')";

/// Returns how many batches of each block a caller may see.
pub(super) async fn blocks(
    session: &impl Session,
    visible: &Visible,
    cluster: Option<&str>,
) -> Result<Vec<(i32, usize)>, Error> {
    let statement = "SELECT block, shown FROM counts WHERE owner = $1 AND cluster = $2 AND shown > 0 ORDER BY block";
    // Nobody's batches are those of a user without a name.
    let owner = match visible {
        Visible::OwnedBy(user) if user.is_empty() => return Ok(Vec::new()),
        Visible::OwnedBy(user) => user,
        Visible::All => "",
    };
    let rows = session
        .rows(statement, &[&owner, &cluster.unwrap_or_default()])
        .await?;
    let read = |row: &tokio_postgres::Row| {
        let shown: i64 = row.try_get(1)?;
        Ok((row.try_get(0)?, usize::try_from(shown).unwrap_or(0)))
    };
    rows.iter().map(read).collect()
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

/// Reads so many batches from an id on, but for the first ones.
pub(super) async fn page(
    session: &impl Session,
    visible: &Visible,
    cluster: Option<&str>,
    from: i32,
    skip: usize,
    limit: usize,
) -> Result<Vec<Row>, Error> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let skip = i64::try_from(skip).unwrap_or(i64::MAX);
    let tail = "ORDER BY id LIMIT $2 OFFSET $3";
    // A statement of its own for each case: one for all would use no index.
    match (visible, cluster) {
        (Visible::All, None) => {
            let filter = format!("id >= $1 AND {SHOWN} {tail}");
            all(session, &filter, &[&from, &limit, &skip]).await
        }
        (Visible::All, Some(cluster)) => {
            let filter = format!("id >= $1 AND cluster = $4 AND {SHOWN} {tail}");
            all(session, &filter, &[&from, &limit, &skip, &cluster]).await
        }
        (Visible::OwnedBy(owner), None) => {
            let filter = format!("id >= $1 AND owner = $4 AND {SHOWN} {tail}");
            all(session, &filter, &[&from, &limit, &skip, &owner]).await
        }
        (Visible::OwnedBy(owner), Some(cluster)) => {
            let filter = format!("id >= $1 AND owner = $4 AND cluster = $5 AND {SHOWN} {tail}");
            let values: Values<'_> = &[&from, &limit, &skip, &owner, &cluster];
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
/// indexes. Of what ended under a name that a client chose nothing more can come. `cluster`,
/// `upstream_id`, `name` and `before` are put in by who asks.
fn related(cluster: &str, upstream_id: &str, name: &str, before: &str) -> String {
    format!(
        "id IN (SELECT id FROM batches WHERE cluster = {cluster} AND lookup_key = {upstream_id} AND NOT adopted AND id < {before}
            UNION ALL SELECT id FROM batches WHERE cluster = {cluster} AND sent_name = {name} AND id < {before}
                AND (phase <> 'bound' OR ended_ms IS NULL OR sent_name = 'livy-gateway-' || lookup_key)
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

async fn read_all(
    tx: &impl Session,
    cluster: &str,
    seen: &[Observed],
) -> Result<Had, Error> {
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
        let is_new = observed.name.as_ref().is_some_and(|name| touched.contains(name));
        let first = (!is_new).then_some(first);
        let decide = |page: &[Row]| {
            decide::adopt(observed, holder.as_ref(), page, unnamed_on_its_way, asked)
        };
        let (decision, candidates) = search(tx, cluster, observed, first, decide).await?;
        let observed = observed.clone();
        match decision {
            Adopt::Known => adoption.known.extend(holder.map(|row| (row, observed))),
            Adopt::Leave => {}
            Adopt::Late(at) => adoption
                .late
                .extend(candidates.into_iter().nth(at).map(|row| (row, observed))),
            Adopt::Again(at) => adoption
                .again
                .extend(candidates.into_iter().nth(at).map(|row| (row, observed))),
            Adopt::Contradicts => adoption.doubted.extend(holder.map(|row| (row, observed))),
            Adopt::New => {
                if let Some(holder) = holder {
                    adoption
                        .lost
                        .push(detach(tx, &holder, None, sender, now).await?);
                }
                touched.extend(observed.name.clone());
                let row = insert_adopted(tx, cluster, &observed, now).await?;
                adoption.known.push((row, observed));
            }
        }
    }
    Ok(adoption)
}

/// Goes through the related rows page by page, until one of them decides.
async fn search(
    tx: &impl Session,
    cluster: &str,
    observed: &Observed,
    first: Option<Vec<Row>>,
    decide: impl Fn(&[Row]) -> Adopt,
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
        let decision = decide(&page);
        let undecided = matches!(decision, Adopt::New | Adopt::Contradicts);
        match page.last() {
            Some(last) if undecided && page.len() == RELATED_PAGE => {
                before = last.identity.id.0;
            }
            _ => return Ok((decision, page)),
        }
    }
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
