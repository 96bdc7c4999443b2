//! One batch: its keys, how it is found, what is said when it is not there.

use super::batches::{Batches, need};
use crate::certify::catalogue::Profile;
use crate::certify::expect::{batch_fault, texts};
use crate::certify::miss::ensure;
use crate::certify::suite::{Suite, id_of};

/// An id that nobody gets to: the last of 32 bits.
pub(super) const NOBODYS_ID: i64 = 2_147_483_646;

/// Looks for what is not there.
pub(super) async fn missing(suite: &Suite) {
    let nobody = suite.name("nobody");
    let cases = [
        (
            "batch.missing",
            format!("/batches/{NOBODYS_ID}"),
            404,
            "not found",
        ),
        (
            "batch.missing_name",
            format!("/batches/{nobody}"),
            404,
            "not found",
        ),
        ("batch.negative", "/batches/-1".to_owned(), 404, "not found"),
        (
            "batch.overflow",
            "/batches/99999999999".to_owned(),
            400,
            "For input string",
        ),
        (
            "state.missing",
            format!("/batches/{NOBODYS_ID}/state"),
            404,
            "not found",
        ),
        (
            "log.missing",
            format!("/batches/{NOBODYS_ID}/log"),
            404,
            "not found",
        ),
    ];
    for (id, path, status, words) in cases {
        suite
            .check(id, async {
                suite.endpoint.get(&path).await?.says(status, words)
            })
            .await;
    }
}

/// Looks at a batch that has ended.
pub(super) async fn ended(suite: &Suite, batches: &Batches) {
    let ok = || need(&batches.ok);
    suite
        .check("batch.keys", async {
            let made = ok()?;
            let answer = suite.endpoint.get(&format!("/batches/{}", made.id)).await?;
            let body = answer.status(200)?.json()?;
            if let Some(fault) = batch_fault(&body) {
                return Err(answer.miss(fault));
            }
            ensure(body["id"] == made.id, || {
                format!("{}; wanted id {}", answer.line(), made.id)
            })
        })
        .await;
    suite
        .check("batch.owner", async {
            let made = ok()?;
            let answer = suite.endpoint.get(&format!("/batches/{}", made.id)).await?;
            let owner = answer.status(200)?.json()?["owner"]
                .as_str()
                .map(str::to_owned);
            match suite.endpoint.user() {
                Some(user) => ensure(owner.as_deref() == Some(user), || {
                    format!("{}; wanted the owner {user:?}", answer.line())
                }),
                None => ensure(owner.is_some(), || {
                    format!("{}; wanted an owner", answer.line())
                }),
            }
        })
        .await;
    suite
        .check("batch.by_name", async {
            let made = ok()?;
            let answer = suite
                .endpoint
                .get(&format!("/batches/{}", made.name))
                .await?;
            answer.status(200)?;
            ensure(id_of(&answer) == Some(made.id), || {
                format!("{}; wanted batch {}", answer.line(), made.id)
            })?;
            let state = suite
                .endpoint
                .get(&format!("/batches/{}/state", made.name))
                .await?;
            state.status(200)?;
            ensure(id_of(&state) == Some(made.id), || {
                format!("{}; wanted batch {}", state.line(), made.id)
            })
        })
        .await;
    suite
        .check("batch.log_tail", async {
            let made = ok()?;
            let item = suite.endpoint.get(&format!("/batches/{}", made.id)).await?;
            let shown = item
                .status(200)?
                .json()?
                .get("log")
                .and_then(texts)
                .ok_or_else(|| item.miss("a list of texts under \"log\""))?;
            let whole = suite
                .endpoint
                .get(&format!("/batches/{}/log?from=0&size=100000", made.id))
                .await?
                .json()?;
            let lines = whole.get("log").and_then(texts).unwrap_or_default();
            let tail = &lines[lines.len().saturating_sub(10)..];
            let none = suite.profile == Profile::Gateway && shown.is_empty();
            ensure(none || shown == tail, || {
                format!(
                    "batch {} shows {} lines, {:?}; its log ends with {:?}",
                    made.id,
                    shown.len(),
                    shown.last(),
                    tail.last()
                )
            })
        })
        .await;
}
