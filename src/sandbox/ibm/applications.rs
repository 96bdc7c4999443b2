//! The application API beside IBM's Livy: which applications an instance runs, and with what. A
//! batch that came through Livy is an application there under the id that Livy shows as `appId`.
//!
//! Follows `ApplicationCollection`, `Application` and `ApplicationGetResponse` of IBM's Python SDK
//! (`iaesdk`, v3), and the samples on the page "Spark application REST API". That Livy's batches
//! appear here at all is documented nowhere: so it is switched off until a test wants it. Guessed
//! are the length of a page that nobody asks for, and the order.

use livy_dialect::BatchState;
use serde_json::{Map, Value, json};

use super::error::error;
use crate::sandbox::asked::Asked;
use crate::sandbox::double::Double;
use crate::sandbox::job::Job;
use crate::sandbox::told::Told;

/// Applications in a page unless `limit` says otherwise.
const PAGE: usize = 100;

/// Serves `GET /spark_applications?state&submission_time_interval&limit&start`: newest first.
pub(super) fn list(double: &Double, asked: &Asked) -> Told {
    let number = |name: &str, default: usize| match asked.parameter(name) {
        None => Ok(default),
        Some(text) => text.parse().map_err(|_| {
            error(
                400,
                "invalid_parameter",
                &format!("The parameter {name} is not valid."),
            )
        }),
    };
    let (limit, start) = match (number("limit", PAGE), number("start", 0)) {
        (Ok(limit), Ok(start)) => (limit, start),
        (Err(refusal), _) | (_, Err(refusal)) => return refusal,
    };
    let states = asked
        .parameter("state")
        .map(|text| text.split(',').collect::<Vec<_>>());
    let interval = match asked.parameter("submission_time_interval").map(interval) {
        Some(None) => {
            return error(
                400,
                "invalid_parameter",
                "The parameter submission_time_interval is not valid.",
            );
        }
        Some(Some(interval)) => interval,
        None => i64::MIN..i64::MAX,
    };
    let fits = |job: &&Job| {
        states
            .as_ref()
            .is_none_or(|states| states.contains(&word(job)))
            && interval.contains(&job.created_ms)
    };
    let jobs = double.jobs();
    let mut found: Vec<&Job> = jobs.shown().filter(fits).collect();
    found.reverse();
    let applications: Vec<Value> = found
        .iter()
        .skip(start)
        .take(limit)
        .map(|job| application(job))
        .collect();
    let next = start + applications.len();
    let mut page = json!({"applications": applications, "first": link(0, limit), "limit": limit});
    if next < found.len() {
        page["next"] = link(next, limit);
    }
    if start > 0 {
        page["previous"] = link(start.saturating_sub(limit), limit);
    }
    Told::new(200, "application/json", page.to_string())
}

/// Serves `GET /spark_applications/{id}`.
pub(super) fn item(double: &Double, id: &str) -> Told {
    let mut jobs = double.jobs();
    let Some(job) = jobs.by_uuid(id) else {
        return error(
            404,
            "not_found",
            &format!("Application {id} was not found."),
        );
    };
    let mut shown = application(job);
    shown["application_details"] = details(job);
    // The list has these two, the item does not.
    if let Some(map) = shown.as_object_mut() {
        map.remove("href");
        map.remove("runtime");
    }
    Told::new(200, "application/json", shown.to_string())
}

fn link(start: usize, limit: usize) -> Value {
    let href = format!(
        "https://api.us-south.ae.cloud.ibm.com/v3/analytics_engines/{}/spark_applications",
        crate::sandbox::accounts::INSTANCE
    );
    json!({"href": format!("{href}?limit={limit}&start={start}"), "start": start.to_string()})
}

/// Reads `<from>,<to>`: the first counts, the second does not.
fn interval(text: &str) -> Option<std::ops::Range<i64>> {
    let moment = |text: &str| match text {
        "BEGINNING" => Some(i64::MIN),
        "CURRENT" => Some(i64::MAX),
        text => text
            .parse::<jiff::Timestamp>()
            .ok()
            .map(jiff::Timestamp::as_millisecond),
    };
    let (from, to) = text.split_once(',')?;
    Some(moment(from)?..moment(to)?)
}

fn word(job: &Job) -> &'static str {
    match job.state() {
        BatchState::Starting => "accepted",
        BatchState::Running => "running",
        BatchState::Success => "finished",
        BatchState::Dead | BatchState::Error => "failed",
        BatchState::Killed => "stopped",
    }
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .unwrap_or_default()
        .strftime("%Y-%m-%dT%H:%M:%S.%3f%z")
        .to_string()
}

/// What list and item have in common. A key whose value is unknown is left out, but for the
/// application id, which is the text "null".
fn application(job: &Job) -> Value {
    let mut shown = json!({
        "id": job.uuid, "href": format!("/v3/analytics_engines/{}/spark_applications/{}", crate::sandbox::accounts::INSTANCE, job.uuid),
        "runtime": {"spark_version": "3.5"}, "spark_application_id": job.app_id().unwrap_or("null"),
        "state": word(job), "submission_time": time(job.created_ms),
    });
    if let Some(name) = name(job) {
        shown["spark_application_name"] = name;
    }
    if let Some(started) = job.started_ms() {
        shown["start_time"] = time(started).into();
    }
    if job.state().is_terminal() {
        shown["end_time"] = time(job.ended_ms()).into();
        shown["finish_time"] = time(job.ended_ms()).into();
    }
    shown
}

fn name(job: &Job) -> Option<Value> {
    let given = job
        .submission
        .get("name")
        .or_else(|| job.submission.get("conf")?.get("spark.app.name"))?;
    Some(given.clone())
}

/// The submission in the application API's words. Livy's lists are texts here, joined by commas.
fn details(job: &Job) -> Value {
    let mut shown = Map::new();
    let mut put =
        |key: &str, value: Option<Value>| shown.extend(value.map(|value| (key.to_owned(), value)));
    let given = |key: &str| {
        job.submission
            .get(key)
            .filter(|value| !value.is_null())
            .cloned()
    };
    let joined = |key: &str| {
        let list: Vec<&str> = job
            .submission
            .get(key)?
            .as_array()?
            .iter()
            .filter_map(Value::as_str)
            .collect();
        (!list.is_empty()).then(|| Value::from(list.join(",")))
    };
    put("application", given("file"));
    put("class", given("className"));
    put("arguments", given("args"));
    put("name", given("name"));
    put("jars", joined("jars"));
    put("files", joined("files"));
    put("conf", given("conf"));
    Value::Object(shown)
}
