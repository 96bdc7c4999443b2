//! Lists: positions, totals, and that everything is there.
//!
//! Others may submit meanwhile: a window is judged against the whole list read before and after it,
//! and asked for again if they differ.

use serde_json::Value;

use super::batches::Batches;
use crate::certify::catalogue::Profile;
use crate::certify::expect::batch_fault;
use crate::certify::miss::{Miss, Outcome, ensure, shorten};
use crate::certify::suite::{Made, Suite};

/// How often a window is asked for again because the list changed meanwhile.
const TRIES: usize = 5;
/// A longer list is not read whole again and again; and a gateway gives no more at once.
const LONGEST: usize = 1000;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Window {
    from: i64,
    /// `None` if the list does not tell it.
    total: Option<i64>,
    ids: Vec<i64>,
}

async fn window(suite: &Suite, query: &str) -> Result<Window, Miss> {
    let answer = suite.endpoint.get(&format!("/batches{query}")).await?;
    let body = answer.status(200)?.json()?;
    let ids = body["sessions"]
        .as_array()
        .and_then(|list| list.iter().map(|batch| batch["id"].as_i64()).collect());
    match (body["from"].as_i64(), ids) {
        (Some(from), Some(ids)) => Ok(Window {
            from,
            total: body["total"].as_i64(),
            ids,
        }),
        _ => Err(answer.miss("from, and sessions with ids")),
    }
}

/// Reads the ids of the whole list.
async fn whole(suite: &Suite) -> Result<Vec<i64>, Miss> {
    let list = window(suite, &format!("?from=0&size={LONGEST}")).await?;
    if list.ids.len() >= LONGEST {
        return Err(Miss::skipped(format!(
            "the list is too long to be compared: {LONGEST} batches and more"
        )));
    }
    Ok(list.ids)
}

/// Asks for a window on a list that stands still; returns the whole list and the window.
async fn still(suite: &Suite, query: &str) -> Result<(Vec<i64>, Window), Miss> {
    for _ in 0..TRIES {
        let before = whole(suite).await?;
        let seen = window(suite, query).await?;
        if whole(suite).await? == before {
            return Ok((before, seen));
        }
    }
    Err(Miss::skipped(
        "the list changes all the time: others submit here",
    ))
}

pub(super) async fn all(suite: &Suite, batches: &Batches) {
    let mine: Vec<&Made> = [&batches.ok, &batches.failing, &batches.long]
        .into_iter()
        .flatten()
        .collect();
    suite.check("list.body", body(suite)).await;
    suite
        .check("list.batches", async {
            let fault = suite
                .newest()
                .await?
                .iter()
                .find_map(|batch| Some((batch_fault(batch)?, batch.to_string())));
            fault.map_or(Ok(()), |(fault, batch)| {
                Err(Miss::failed(format!(
                    "GET /batches lists {}; {fault}",
                    shorten(&batch)
                )))
            })
        })
        .await;
    suite
        .check("list.holds", async {
            let ids: Vec<i64> = suite
                .newest()
                .await?
                .iter()
                .filter_map(|batch| batch["id"].as_i64())
                .collect();
            let lost: Vec<i64> = mine
                .iter()
                .map(|made| made.id)
                .filter(|id| !ids.contains(id))
                .collect();
            ensure(lost.is_empty(), || {
                format!("the list {ids:?} lacks {lost:?}, which were submitted")
            })
        })
        .await;
    suite
        .check("list.order", async {
            let ids: Vec<i64> = suite
                .newest()
                .await?
                .iter()
                .filter_map(|batch| batch["id"].as_i64())
                .collect();
            // A Livy that recovered lists what it recovered first, in no order; what was submitted
            // since then is in order.
            let judged: Vec<i64> = match suite.profile {
                Profile::Gateway => ids,
                Profile::ApacheLivy => ids
                    .into_iter()
                    .filter(|id| mine.iter().any(|made| made.id == *id))
                    .collect(),
            };
            ensure(judged.is_sorted(), || {
                format!("the ids {judged:?} are not in order")
            })
        })
        .await;
    let overflow = if suite.profile == Profile::Gateway {
        usize::MAX
    } else {
        0
    };
    // Per check: the query, and the start, the first position and the number of batches that it
    // stands for.
    let cases = [
        ("list.window", "?from=1&size=1", 1, 1, 1),
        ("list.negative_from", "?from=-1&size=2", -1, 0, 1),
        ("list.beyond", "?from=100000", 100_000, 100_000, 100),
        ("list.overflow", "?from=1&size=2147483647", 1, 1, overflow),
    ];
    for (id, query, from, start, size) in cases {
        suite
            .check(id, positions(suite, query, from, start, size))
            .await;
    }
    suite
        .check("list.nothing", async {
            positions(suite, "?size=0", 0, 0, 0).await?;
            positions(suite, "?from=0&size=-1", 0, 0, 0).await
        })
        .await;
    suite
        .check("list.total", async {
            let (ids, seen) = still(suite, "?from=0&size=1").await?;
            let right = seen
                .total
                .is_some_and(|total| usize::try_from(total) == Ok(ids.len()));
            ensure(right, || {
                format!(
                    "GET /batches?from=0&size=1 has total {:?}; the whole list has {} batches",
                    seen.total,
                    ids.len()
                )
            })
        })
        .await;
    suite
        .check("list.bad_number", async {
            for query in ["from=a", "size=99999999999"] {
                suite
                    .endpoint
                    .get(&format!("/batches?{query}"))
                    .await?
                    .says(400, "For input string")?;
            }
            Ok(())
        })
        .await;
}

async fn positions(suite: &Suite, query: &str, from: i64, start: usize, size: usize) -> Outcome {
    let (ids, seen) = still(suite, query).await?;
    let start = start.min(ids.len());
    let wanted = &ids[start..start.saturating_add(size).min(ids.len())];
    ensure(seen.from == from && seen.ids == wanted, || {
        format!(
            "GET /batches{query} of {} batches gave from {} and ids {:?}; wanted from {from} and {wanted:?}",
            ids.len(),
            seen.from,
            seen.ids
        )
    })
}

async fn body(suite: &Suite) -> Outcome {
    let answer = suite.endpoint.get("/batches").await?;
    let body = answer.status(200)?.object()?;
    let integer = |key: &str| body.get(key).is_some_and(Value::is_i64);
    let exact = body.len() == 3
        && integer("from")
        && integer("total")
        && body.get("sessions").is_some_and(Value::is_array);
    ensure(exact, || {
        format!(
            "{}; wanted {{\"from\": …, \"total\": …, \"sessions\": […]}}",
            answer.line()
        )
    })
}
