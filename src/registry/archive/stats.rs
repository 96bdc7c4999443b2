//! `registry stats`: how many batches of which cluster are where in their life.

use std::collections::BTreeMap;

use serde::Serialize;

use super::book::{Book, Cell};

/// What a registry holds.
#[derive(Clone, Debug, Serialize)]
pub struct Stats {
    /// `sqlite` or `postgres`.
    pub store: &'static str,
    /// Which file or database.
    pub at: String,
    /// The schema's number.
    pub schema: i64,
    /// What it takes on the disk.
    pub bytes: u64,
    /// How many batches.
    pub batches: i64,
    /// The highest id that was ever given.
    pub highest_id: i64,
    /// How long gateways have been running on it.
    pub uptime_ms: i64,
    /// What administrators have ordered.
    pub orders: u64,
    /// By name.
    pub clusters: BTreeMap<String, OfCluster>,
}

/// What a registry holds of one cluster.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OfCluster {
    /// How many batches.
    pub batches: i64,
    /// How many of them have not ended.
    pub live: i64,
    /// By phase, and of those that clients see by state.
    pub states: BTreeMap<String, i64>,
    /// How many were refused or never sent, and are kept for whoever asks again.
    pub refused: i64,
    /// How many were deleted by their owners.
    pub deleted: i64,
    /// How many may still show up though they were given up.
    pub may_arrive: i64,
    /// When the oldest and the newest were recorded, in milliseconds since 1970.
    pub oldest_ms: Option<i64>,
    /// See `oldest_ms`.
    pub newest_ms: Option<i64>,
}

const COUNTED: &str = "SELECT cluster, phase, state, count(*) AS batches, min(created_ms) AS oldest, max(created_ms) AS newest,
        sum(CASE WHEN phase IN ('sending', 'bound') AND ended_ms IS NULL THEN 1 ELSE 0 END) AS live,
        sum(CASE WHEN may_arrive THEN 1 ELSE 0 END) AS may_arrive
    FROM batches GROUP BY cluster, phase, state";

/// Counts.
pub(super) async fn stats(book: &mut dyn Book) -> Result<Stats, String> {
    let (place, head) = (book.place().await?, book.head().await?);
    let mut clusters: BTreeMap<String, OfCluster> = BTreeMap::new();
    for row in book.ask(COUNTED.to_owned()).await? {
        let mut cells = row.into_iter().map(|(_, cell)| cell);
        let mut next = || cells.next().unwrap_or(Cell::Nothing);
        let (cluster, phase, state) = (next().text(), next().text(), next().text());
        let (batches, oldest, newest) = (next().number(), next().number(), next().number());
        let (live, may_arrive) = (next().number(), next().number());
        let of = clusters.entry(cluster).or_default();
        of.batches += batches;
        of.live += live;
        of.may_arrive += may_arrive;
        match phase.as_str() {
            "refused" => of.refused += batches,
            "deleted" => of.deleted += batches,
            _ => *of.states.entry(state).or_default() += batches,
        }
        of.oldest_ms = Some(of.oldest_ms.map_or(oldest, |before| before.min(oldest)));
        of.newest_ms = Some(of.newest_ms.map_or(newest, |before| before.max(newest)));
    }
    Ok(Stats {
        store: place.kind,
        at: place.at,
        schema: place.schema,
        bytes: place.bytes,
        batches: clusters.values().map(|of| of.batches).sum(),
        highest_id: head.highest_id,
        uptime_ms: head.uptime_ms,
        orders: head.orders.len() as u64,
        clusters,
    })
}
