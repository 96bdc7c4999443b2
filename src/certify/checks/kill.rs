//! DELETE: what it answers, and that nothing is left.

use serde_json::json;

use super::batch::NOBODYS_ID;
use super::batches::{Batches, need};
use super::state::Ends;
use crate::certify::endpoint::{Answer, Ask};
use crate::certify::job::Job;
use crate::certify::miss::{Miss, Outcome, ensure};
use crate::certify::suite::Suite;

pub(super) async fn all(suite: &Suite, batches: &Batches, ends: &Ends) {
    suite
        .check("kill.missing", async {
            suite
                .endpoint
                .send(Ask::delete(format!("/batches/{NOBODYS_ID}")))
                .await?
                .says(404, "not found")
        })
        .await;
    let deleted = async {
        let made = need(&batches.long)?;
        suite
            .endpoint
            .send(Ask::delete(format!("/batches/{}", made.id)))
            .await
    }
    .await;
    suite
        .check("kill.running", async {
            let words = ends.long.clone()?;
            if words.last().is_none_or(|word| word != "running") {
                return Err(Miss::skipped(format!(
                    "the job that should run went {words:?}"
                )));
            }
            is_deleted(deleted.as_ref().map_err(Clone::clone)?)
        })
        .await;
    let gone = || match &deleted {
        Ok(answer) if answer.status < 300 => need(&batches.long),
        Ok(answer) => Err(Miss::skipped(format!(
            "nothing was deleted: {}",
            answer.line()
        ))),
        Err(miss) => Err(miss.clone()),
    };
    suite
        .check("kill.gone", async {
            let id = gone()?.id;
            for path in [
                format!("/batches/{id}"),
                format!("/batches/{id}/state"),
                format!("/batches/{id}/log"),
            ] {
                suite.endpoint.get(&path).await?.says(404, "not found")?;
            }
            Ok(())
        })
        .await;
    suite
        .check("kill.unlisted", async {
            let id = gone()?.id;
            let listed = suite.newest().await?.iter().any(|batch| batch["id"] == id);
            ensure(!listed, || {
                format!("batch {id} was deleted and is still listed")
            })
        })
        .await;
    suite
        .check("kill.again", async {
            let id = gone()?.id;
            suite
                .endpoint
                .send(Ask::delete(format!("/batches/{id}")))
                .await?
                .says(404, "not found")
        })
        .await;
    suite
        .check("kill.frees_name", async {
            let name = gone()?.name.clone();
            let body = suite.body(Job::Succeeds, "again", json!({"name": name}));
            suite.accepted(Ask::submit(&body), &body).await
        })
        .await;
    suite
        .check("kill.finished", async {
            let made = need(&batches.failing)?;
            let words = ends.failing.clone()?;
            if words
                .last()
                .is_none_or(|word| ["starting", "running"].contains(&word.as_str()))
            {
                return Err(Miss::skipped(format!(
                    "the job that should end went {words:?}"
                )));
            }
            is_deleted(
                &*suite
                    .endpoint
                    .send(Ask::delete(format!("/batches/{}", made.id)))
                    .await?,
            )
        })
        .await;
}

fn is_deleted(answer: &Answer) -> Outcome {
    answer.status(200)?;
    let exact = answer.json()? == json!({"msg": "deleted"});
    ensure(exact, || {
        format!("{}; wanted {{\"msg\": \"deleted\"}}", answer.line())
    })
}
