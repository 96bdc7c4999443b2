//! Logs: Livy's window, read in every way that clients read it.

use serde_json::Value;

use super::batches::{Batches, need};
use crate::certify::catalogue::Profile;
use crate::certify::expect::texts;
use crate::certify::miss::{Miss, Outcome, ensure};
use crate::certify::suite::Suite;

/// A page of a log.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    from: i64,
    /// `None` if the page does not tell it.
    total: Option<i64>,
    lines: Vec<String>,
}

async fn page(suite: &Suite, id: i64, query: &str) -> Result<Page, Miss> {
    let answer = suite
        .endpoint
        .get(&format!("/batches/{id}/log{query}"))
        .await?;
    let body = answer.status(200)?.json()?;
    match (body["from"].as_i64(), texts(&body["log"])) {
        (Some(from), Some(lines)) => Ok(Page {
            from,
            total: body["total"].as_i64(),
            lines,
        }),
        _ => Err(answer.miss("from and log")),
    }
}

/// Reads the log of a job that runs.
pub(super) async fn before_end(suite: &Suite, batches: &Batches) {
    suite
        .check("log.before_end", async {
            let made = need(&batches.long)?;
            let answer = suite
                .endpoint
                .get(&format!("/batches/{}/log?from=0&size=100000", made.id))
                .await?;
            let lines = texts(&answer.status(200)?.json()?["log"]);
            ensure(lines.is_some_and(|lines| !lines.is_empty()), || {
                format!("{}; wanted lines", answer.line())
            })
        })
        .await;
}

/// Every window on the log of a job that has ended.
pub(super) async fn windows(suite: &Suite, batches: &Batches) {
    suite.check("log.body", body(suite, batches)).await;
    suite
        .check("log.bad_number", async {
            let made = need(&batches.ok)?;
            for query in ["from=x", "size=99999999999"] {
                suite
                    .endpoint
                    .get(&format!("/batches/{}/log?{query}", made.id))
                    .await?
                    .says(400, "For input string")?;
            }
            Ok(())
        })
        .await;
    let overflow = if suite.profile == Profile::Gateway {
        i64::MAX
    } else {
        0
    };
    // Per check: the query, the start and the number of lines that Livy's rule gives for a log of
    // so many lines.
    type Rule<'a> = &'a dyn Fn(i64) -> (i64, i64);
    let cases: [(&'static str, &str, Rule<'_>); 9] = [
        ("log.default", "", &|total| ((total - 100).max(0), 100)),
        ("log.head", "?from=0&size=2", &|_| (0, 2)),
        ("log.middle", "?from=1&size=1", &|_| (1, 1)),
        ("log.tail", "?size=2", &|total| ((total - 2).max(0), 2)),
        ("log.negative_from", "?from=-5&size=2", &|total| {
            ((total - 2).max(0), 2)
        }),
        ("log.all", "?size=-1", &|total| (0, total)),
        ("log.nothing", "?size=0", &|total| (total, 0)),
        ("log.beyond", "?from=100000&size=5", &|_| (100_000, 5)),
        ("log.overflow", "?from=1&size=2147483647", &|_| {
            (1, overflow)
        }),
    ];
    let read = async {
        let made = need(&batches.ok)?;
        Ok::<_, Miss>((made.id, whole(suite, made.id).await?))
    }
    .await;
    let whole = || {
        read.as_ref()
            .map(|(id, lines)| (*id, lines))
            .map_err(Clone::clone)
    };
    suite
        .check("log.paged", async {
            let (batch, lines) = whole()?;
            paged(suite, batch, lines).await
        })
        .await;
    suite
        .check("log.total", async {
            let (batch, lines) = whole()?;
            for query in ["", "?from=0&size=1", "?from=100000"] {
                let total = page(suite, batch, query).await?.total;
                let right = total.is_some_and(|total| usize::try_from(total) == Ok(lines.len()));
                ensure(right, || {
                    format!(
                        "GET /batches/{batch}/log{query} has total {total:?}; the log has {} lines",
                        lines.len()
                    )
                })?;
            }
            Ok(())
        })
        .await;
    suite
        .check("log.sections", async {
            let (batch, lines) = whole()?;
            let nowhere = suite.profile == Profile::Gateway && lines.len() == 1;
            let all = ["stdout: ", "\nstderr: "]
                .into_iter()
                .all(|section| lines.iter().any(|line| line == section));
            ensure(nowhere || all, || {
                format!(
                    "the log of batch {batch} has {} lines, {:?} first, without both sections",
                    lines.len(),
                    lines.first()
                )
            })
        })
        .await;
    for (id, query, rule) in cases {
        let window = async {
            let (batch, lines) = whole()?;
            let (from, size) = rule(i64::try_from(lines.len()).unwrap_or(i64::MAX));
            let wanted = slice(lines, from, size);
            let seen = page(suite, batch, query).await?;
            ensure(seen.from == from && seen.lines == wanted, || {
                format!(
                    "GET /batches/{batch}/log{query} of {} lines gave from {} and {} lines, {:?} first; wanted from {from} and {} lines, {:?} first",
                    lines.len(),
                    seen.from,
                    seen.lines.len(),
                    seen.lines.first(),
                    wanted.len(),
                    wanted.first()
                )
            })
        };
        suite.check(id, window).await;
    }
}

fn slice(lines: &[String], from: i64, size: i64) -> Vec<String> {
    let at = |line: i64| usize::try_from(line).unwrap_or(0).min(lines.len());
    lines[at(from)..at(from.saturating_add(size)).max(at(from))].to_vec()
}

/// Reads a log whole, in one plain request, once its lines have stopped coming.
async fn whole(suite: &Suite, id: i64) -> Result<Vec<String>, Miss> {
    let mut last = page(suite, id, "?from=0&size=100000").await?;
    for _ in 0..50 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        let next = page(suite, id, "?from=0&size=100000").await?;
        if next == last {
            break;
        }
        last = next;
    }
    Ok(last.lines)
}

/// Reads pages the way Airflow does: from 0 on until `total` is reached.
async fn paged(suite: &Suite, id: i64, whole: &[String]) -> Outcome {
    let step = (whole.len() / 3).max(1);
    let mut lines = Vec::new();
    let mut from = 0;
    loop {
        let part = page(suite, id, &format!("?from={from}&size={step}")).await?;
        lines.extend(part.lines);
        from += step;
        let total = part
            .total
            .and_then(|total| usize::try_from(total).ok())
            .ok_or_else(|| Miss::failed("a page without `total`"))?;
        if from >= total || lines.len() > whole.len() {
            break;
        }
    }
    ensure(lines == whole, || {
        format!(
            "pages of {step} lines gave {} lines; the log has {}",
            lines.len(),
            whole.len()
        )
    })
}

async fn body(suite: &Suite, batches: &Batches) -> Outcome {
    let made = need(&batches.ok)?;
    let answer = suite
        .endpoint
        .get(&format!("/batches/{}/log", made.id))
        .await?;
    let body = answer.status(200)?.object()?;
    let integer = |key: &str| body.get(key).is_some_and(|value| value.is_u64());
    let exact = body.len() == 4
        && body.get("id").and_then(Value::as_i64) == Some(made.id)
        && integer("from")
        && integer("total")
        && body.get("log").and_then(texts).is_some();
    ensure(exact, || {
        format!(
            "{}; wanted {{\"id\": {}, \"from\": …, \"total\": …, \"log\": […]}}",
            answer.line(),
            made.id
        )
    })
}
