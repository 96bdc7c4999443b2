//! Submissions that must be taken.

use http::Method;
use http::header::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::batches::Batches;
use crate::certify::catalogue::Profile;
use crate::certify::endpoint::Ask;
use crate::certify::expect::batch_fault;
use crate::certify::job::Job;
use crate::certify::miss::{Miss, Outcome, ensure};
use crate::certify::suite::{Suite, id_of};

/// Submits the three jobs, and judges the answer to the first.
pub(super) async fn jobs(suite: &Suite) -> Batches {
    let first = suite.start(Job::Succeeds, "ok").await;
    let failing = suite.start(Job::Fails, "failing").await;
    let long = suite.start(Job::Runs, "long").await;
    let ids: Vec<i64> = [&first, &failing, &long]
        .iter()
        .filter_map(|one| one.as_ref().ok().map(|(made, _)| made.id))
        .collect();
    let answer = || {
        first
            .as_ref()
            .map(|(made, answer)| (made, answer))
            .map_err(Clone::clone)
    };
    suite
        .check("submit.created", async {
            answer()?.1.status(201).map(|_| ())
        })
        .await;
    suite
        .check("submit.batch", async {
            let (_, answer) = answer()?;
            batch_fault(&answer.json()?).map_or(Ok(()), |fault| Err(answer.miss(fault)))
        })
        .await;
    suite
        .check("submit.location", async {
            let (made, answer) = answer()?;
            let location = answer
                .header("location")
                .ok_or_else(|| answer.miss("a Location header"))?;
            let base = if suite.profile == Profile::Gateway {
                suite.endpoint.base()
            } else {
                ""
            };
            let wanted = format!("{base}/batches/{}", made.id);
            ensure(location == wanted, || {
                format!(
                    "{} with Location {location:?}; wanted {wanted:?}",
                    answer.line()
                )
            })?;
            if suite.profile == Profile::Gateway {
                leads_to(suite, location, made.id).await
            } else {
                Ok(())
            }
        })
        .await;
    suite
        .check("submit.id", async {
            let (_, answer) = answer()?;
            let smallest = if suite.profile == Profile::Gateway {
                1
            } else {
                0
            };
            let id = answer.json()?["id"]
                .as_i64()
                .filter(|id| (smallest..=i64::from(i32::MAX)).contains(id));
            id.ok_or_else(|| {
                answer.miss(format!(
                    "an id that is an integer from {smallest} to {}",
                    i32::MAX
                ))
            })?;
            ensure(ids.is_sorted_by(|a, b| a < b), || {
                format!("the ids of three submissions, {ids:?}, do not go up")
            })
        })
        .await;
    suite
        .check("submit.name", async {
            let (made, answer) = answer()?;
            ensure(answer.json()?["name"] == made.name.as_str(), || {
                format!("{}; wanted the name {:?}", answer.line(), made.name)
            })
        })
        .await;
    let made = |one: Result<(crate::certify::suite::Made, _), Miss>| one.ok().map(|(made, _)| made);
    Batches {
        ok: made(first),
        failing: made(failing),
        long: made(long),
    }
}

async fn leads_to(suite: &Suite, location: &str, id: i64) -> Outcome {
    let answer = suite.endpoint.send_to(Ask::get(location), location).await?;
    answer.status(200)?;
    ensure(id_of(&answer) == Some(id), || {
        format!(
            "Location {location:?}: {}; wanted batch {id}",
            answer.line()
        )
    })
}

/// Submissions that say the same in other ways, and those where the two profiles part.
pub(super) async fn variants(suite: &Suite) {
    let gateway = suite.profile == Profile::Gateway;
    let submit = |what: &'static str, more: Value| async move {
        let body = suite.body(Job::Succeeds, what, more);
        suite.accepted(Ask::submit(&body), &body).await
    };
    let scalars = json!({"args": ["2", 3, 4.5, true], "conf": {"spark.ui.enabled": false, "spark.ui.retainedJobs": 10}});
    suite
        .check("submit.scalars", submit("scalars", scalars))
        .await;
    let nulls = json!({"className": null, "driverMemory": null, "driverCores": null, "queue": null, "proxyUser": null});
    suite
        .check("submit.null_scalars", submit("nulls", nulls))
        .await;
    let refused_by_livy = |what: &'static str, more: Value| async move {
        let body = suite.body(Job::Succeeds, what, more);
        if gateway {
            return suite.accepted(Ask::submit(&body), &body).await;
        }
        suite.submit(&body).await?.bare(500, "")?;
        suite.sweep(&suite.name(what)).await
    };
    suite
        .check(
            "submit.null_lists",
            refused_by_livy("null-lists", json!({"jars": null, "pyFiles": null})),
        )
        .await;
    suite
        .check(
            "submit.null_conf",
            refused_by_livy("null-conf", json!({"conf": null})),
        )
        .await;
    suite
        .check(
            "submit.text_integer",
            refused_by_livy("text-integer", json!({"numExecutors": "1"})),
        )
        .await;
    suite
        .check("submit.text_plain", async {
            let body = suite.body(Job::Succeeds, "text-plain", Value::Null);
            suite
                .accepted(
                    Ask::new(Method::POST, "/batches").text("text/plain", body.to_string()),
                    &body,
                )
                .await
        })
        .await;
    suite
        .check("submit.form", async {
            let body = suite.body(Job::Succeeds, "form", Value::Null);
            let ask = Ask::new(Method::POST, "/batches")
                .text("application/x-www-form-urlencoded", body.to_string());
            let answer = suite.submit_as(ask, &body).await?;
            if gateway {
                answer.says(415, "application/json")
            } else {
                answer.bare(400, "No content")
            }
        })
        .await;
    suite.check("submit.csrf", csrf(suite)).await;
    suite.check("submit.idempotent", idempotent(suite)).await;
}

async fn csrf(suite: &Suite) -> Outcome {
    let body = suite.body(Job::Succeeds, "csrf", Value::Null);
    let ask = Ask::submit(&body).without_csrf();
    if suite.profile == Profile::Gateway {
        return suite.accepted(ask, &body).await;
    }
    let answer = suite.submit_as(ask, &body).await?;
    if answer.status == 201 {
        return suite.sweep(&suite.name("csrf")).await;
    }
    answer.status(400)?;
    let told = String::from_utf8_lossy(&answer.body).contains("CSRF");
    ensure(told, || {
        format!("{}; wanted 201, or 400 with the reason", answer.line())
    })?;
    let found = suite
        .endpoint
        .get(&format!("/batches/{}", suite.name("csrf")))
        .await?;
    ensure(found.status == 404, || {
        format!(
            "{}; a POST refused for a missing X-Requested-By made a batch",
            found.line()
        )
    })
}

async fn idempotent(suite: &Suite) -> Outcome {
    let key = HeaderName::from_static("idempotency-key");
    let value = HeaderValue::try_from(suite.name("key"))
        .map_err(|error| Miss::failed(error.to_string()))?;
    let body = suite.body(Job::Succeeds, "idempotent", Value::Null);
    let ask = |body: &Value| Ask::submit(body).header(key.clone(), value.clone());
    let first = suite.submit_as(ask(&body), &body).await?;
    let second = suite.submit_as(ask(&body), &body).await?;
    let other = suite.body(Job::Succeeds, "other-body", Value::Null);
    let third = suite.submit_as(ask(&other), &other).await?;
    for id in [&first, &third]
        .into_iter()
        .filter_map(|answer| id_of(answer))
    {
        suite
            .endpoint
            .send(Ask::delete(format!("/batches/{id}")))
            .await?;
    }
    ensure(id_of(&first).is_some(), || {
        format!("{}; wanted a batch", first.line())
    })?;
    ensure(id_of(&first) == id_of(&second), || {
        format!(
            "{}; wanted the batch of the first request: {}",
            second.line(),
            first.line()
        )
    })?;
    third.status(422).map(|_| ())
}
