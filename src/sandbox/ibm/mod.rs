//! A double of IBM Analytics Engine serverless: `not_started` first, `app_info` in the answer to a
//! POST, no log, no paging, no names.

mod applications;
mod error;

use http::header::AUTHORIZATION;
use livy_dialect::BatchState;
use serde_json::{Map, Value, json};

use super::accounts::TOKEN;
use super::asked::Asked;
use super::double::Double;
use super::job::{Job, Taken};
use super::told::Told;
use error::error;

pub(super) fn answer(double: &Double, asked: &Asked) -> Told {
    let bearer = asked
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if bearer != Some(TOKEN) {
        return error(
            401,
            "unauthorized",
            "The token is missing, expired or invalid.",
        );
    }
    match (asked.method.as_str(), asked.path().as_slice()) {
        ("GET", ["batches"]) => {
            let jobs = double.jobs();
            let sessions: Vec<Value> = jobs.shown().map(batch).collect();
            Told::json(
                200,
                &json!({"from": 0, "sessions": sessions, "total": sessions.len()}),
            )
        }
        ("POST", ["batches"]) => create(double, asked),
        ("GET", ["batches", key]) => with_job(double, key, |job| Told::json(200, &batch(job))),
        ("GET", ["batches", key, "state"]) => with_job(double, key, |job| {
            Told::json(200, &json!({"id": job.id, "state": word(job)}))
        }),
        ("DELETE", ["batches", key]) => with_job(double, key, |job| {
            job.delete(asked);
            Told::json(200, &json!({"msg": "deleted"}))
        }),
        ("GET", ["spark_applications"]) if double.control.has_applications() => {
            applications::list(double, asked)
        }
        ("GET", ["spark_applications", id]) if double.control.has_applications() => {
            applications::item(double, id)
        }
        _ => error(404, "not_found", "The resource was not found."),
    }
}

fn with_job(double: &Double, key: &str, read: impl FnOnce(&mut Job) -> Told) -> Told {
    let mut jobs = double.jobs();
    match jobs.by_digits(key) {
        Some(job) => read(job),
        None => error(404, "not_found", &format!("Batch {key} was not found.")),
    }
}

fn word(job: &Job) -> &'static str {
    match job.state() {
        BatchState::Starting => "not_started",
        other => other.as_str(),
    }
}

fn batch(job: &Job) -> Value {
    json!({"id": job.id, "appId": job.app_id(), "appInfo": {"sparkUiUrl": null}, "state": word(job)})
}

fn create(double: &Double, asked: &Asked) -> Told {
    let Ok(submission) = serde_json::from_slice::<Map<String, Value>>(&asked.body) else {
        return error(400, "invalid_json", "The request body is not valid JSON.");
    };
    if let Some(field) = ["proxyUser", "archives", "queue"]
        .into_iter()
        .find(|field| submission.contains_key(*field))
    {
        return error(
            400,
            "invalid_field",
            &format!("The field {field} is not supported."),
        );
    }
    if !submission.get("file").is_some_and(Value::is_string) {
        return error(400, "missing_field", "The field file is required.");
    }
    let job = double.jobs().add(Taken::of(&submission, asked));
    Told::json(
        201,
        &json!({"id": job.id, "app_info": {}, "state": "not_started"}),
    )
}
