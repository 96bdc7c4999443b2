//! A double of Apache Kyuubi 1.12 on YARN: 200 for every success, 500 for every bad request, a log
//! cursor that all readers share.

use livy_dialect::BatchState;
use serde_json::{Map, Value, json};

use super::accounts::{PASSWORD, basic};
use super::asked::{Asked, says_json};
use super::double::Double;
use super::job::{Job, Taken};
use super::told::Told;

pub(super) fn answer(double: &Double, asked: &Asked) -> Told {
    let user = match basic(&asked.headers) {
        // No challenge, and a page that shows what was sent: so does the real one.
        None => {
            let sent = asked
                .headers
                .get("authorization")
                .and_then(|value| value.to_str().ok())
                .unwrap_or("null");
            return jetty(401, &format!("No auth scheme matched for {sent}"));
        }
        Some((_, password)) if password != PASSWORD => {
            return jetty(403, "Error validating LDAP user");
        }
        Some((user, _)) => user,
    };
    let method = if asked.method == "HEAD" {
        "GET"
    } else {
        asked.method.as_str()
    };
    match (method, asked.path().as_slice()) {
        ("GET", ["version"]) => told(200, &json!({"version": "1.12.0"})),
        ("GET", ["batches"]) => list(double, asked),
        ("POST", ["batches"]) => create(double, asked, &user),
        ("GET", ["batches", id]) => with_job(double, id, |job| told(200, &batch(job))),
        ("GET", ["batches", id, "localLog"]) => local_log(double, asked, id),
        ("DELETE", ["batches", id]) => delete(double, asked, id),
        ("OPTIONS", ["batches"]) => {
            Told::new(200, "application/json", "").with("allow", "HEAD,POST,GET,OPTIONS")
        }
        ("GET", ["ping"]) => message(406, "HTTP 406 Not Acceptable"),
        (_, ["batches"] | ["batches", _]) => message(405, "HTTP 405 Method Not Allowed"),
        _ => message(404, "HTTP 404 Not Found"),
    }
}

fn told(status: u16, body: &Value) -> Told {
    Told::new(status, "application/json", body.to_string())
}

fn message(status: u16, text: &str) -> Told {
    told(status, &json!({"message": text}))
}

fn jetty(status: u16, text: &str) -> Told {
    told(
        status,
        &json!({"servlet": "org.glassfish.jersey.servlet.ServletContainer", "message": text,
        "url": "/api/v1/batches", "status": status.to_string()}),
    )
}

fn with_job(double: &Double, id: &str, read: impl FnOnce(&mut Job) -> Told) -> Told {
    double
        .jobs()
        .by_uuid(id)
        .map_or_else(|| message(404, &format!("Invalid batchId: {id}")), read)
}

fn states(job: &Job) -> (&'static str, Option<&'static str>) {
    match job.state() {
        BatchState::Starting => ("PENDING", None),
        BatchState::Running => ("RUNNING", Some("RUNNING")),
        BatchState::Success => ("FINISHED", Some("FINISHED")),
        BatchState::Dead | BatchState::Error => ("ERROR", Some("FAILED")),
        BatchState::Killed => ("CANCELED", Some("KILLED")),
    }
}

fn kind_of(job: &Job) -> &'static str {
    if job.file.ends_with(".py") {
        "PYSPARK"
    } else {
        "SPARK"
    }
}

fn batch(job: &Job) -> Value {
    let (state, app_state) = states(job);
    json!({
        "id": job.uuid, "user": job.user, "batchType": kind_of(job), "name": job.name,
        "appStartTime": job.started_ms().unwrap_or(0), "appId": job.app_id(), "appUrl": null,
        "appState": app_state, "appDiagnostic": null, "kyuubiInstance": "127.0.0.1:10099", "state": state,
        "createTime": job.created_ms, "endTime": job.ended_ms(), "batchInfo": {},
    })
}

fn number(asked: &Asked, name: &str, default: i64) -> Result<i64, Told> {
    asked.parameter(name).map_or(Ok(default), |text| {
        text.parse().map_err(|_| message(404, "HTTP 404 Not Found"))
    })
}

const STATES: [&str; 5] = ["RUNNING", "ERROR", "PENDING", "CANCELED", "FINISHED"];

fn list(double: &Double, asked: &Asked) -> Told {
    let (from, size) = match (number(asked, "from", 0), number(asked, "size", 100)) {
        (Ok(from), Ok(size)) => (from, size),
        (Err(refusal), _) | (_, Err(refusal)) => return refusal,
    };
    let wanted = |name: &str| asked.parameter(name).map(str::to_ascii_uppercase);
    if wanted("batchState").is_some_and(|state| !STATES.contains(&state.as_str())) {
        return message(
            500,
            &format!(
                "requirement failed: The valid batch state can be one of the following: {}",
                STATES.join(",")
            ),
        );
    }
    let fits = |job: &&Job| {
        wanted("batchState").is_none_or(|state| states(job).0 == state)
            && wanted("batchType").is_none_or(|kind| kind_of(job) == kind)
            && asked
                .parameter("batchUser")
                .is_none_or(|user| job.user.as_deref() == Some(user))
    };
    let jobs = double.jobs();
    let mut found: Vec<&Job> = jobs.shown().filter(fits).collect();
    if asked.parameter("desc") == Some("true") {
        found.reverse();
    }
    let skip = usize::try_from(from).unwrap_or(0);
    // On SQLite a negative limit is none.
    let take = usize::try_from(size).unwrap_or(usize::MAX);
    let batches: Vec<Value> = found.into_iter().skip(skip).take(take).map(batch).collect();
    // `total` is the page's length.
    told(
        200,
        &json!({"from": from, "total": batches.len(), "batches": batches}),
    )
}

fn local_log(double: &Double, asked: &Asked, id: &str) -> Told {
    let (from, size) = match (number(asked, "from", -1), number(asked, "size", 100)) {
        (Ok(from), Ok(size)) => (from, size),
        (Err(refusal), _) | (_, Err(refusal)) => return refusal,
    };
    with_job(double, id, |job| {
        if job.state() == BatchState::Killed {
            return message(404, &format!("No local log found for batch: {}", job.uuid));
        }
        let lines = job.lines();
        // Without a position: where the previous reader stopped, whoever that was.
        let start = usize::try_from(from).unwrap_or(job.cursor).min(lines.len());
        let end = start
            .saturating_add(usize::try_from(size).unwrap_or(0))
            .min(lines.len());
        job.cursor = end;
        told(
            200,
            &json!({"logRowSet": lines[start..end], "rowCount": end - start}),
        )
    })
}

fn delete(double: &Double, asked: &Asked, id: &str) -> Told {
    with_job(double, id, |job| {
        let before = job.state();
        job.delete(asked);
        if before == BatchState::Killed {
            // The real one shows the whole record here, configuration values included.
            let dump = format!(
                "The batch[Metadata({},BATCH,{})] has been terminated.",
                job.uuid, job.submission
            );
            return told(200, &json!({"success": false, "msg": dump}));
        }
        if before.is_terminal() {
            let why = format!("batch {} is already terminal so can not kill it.", job.uuid);
            return told(200, &json!({"success": false, "msg": why}));
        }
        told(
            200,
            &json!({"success": true, "msg": format!("Succeeded to terminate: {}", job.submission)}),
        )
    })
}

fn create(double: &Double, asked: &Asked, caller: &str) -> Told {
    if !says_json(&asked.headers) {
        return message(415, "HTTP 415 Unsupported Media Type");
    }
    if asked.body.is_empty() {
        let why = "Cannot invoke \"org.apache.kyuubi.client.api.v1.dto.BatchRequest.getBatchType()\" because \"request\" is null";
        return message(500, why);
    }
    let submission = match serde_json::from_slice::<Map<String, Value>>(&asked.body) {
        Ok(submission) => submission,
        Err(error) => return Told::new(400, "text/plain", error.to_string()),
    };
    if submission
        .get("args")
        .is_some_and(|args| !args.is_array() && !args.is_null())
    {
        let why = "Cannot construct instance of `java.util.ArrayList` (although at least one Creator exists)";
        return Told::new(
            400,
            "text/plain",
            format!("{why}\n at [Source: REDACTED; line: 1, column: 1]"),
        );
    }
    let text = |key: &str| submission.get(key).and_then(Value::as_str);
    let batch_type = text("batchType").unwrap_or("null");
    if !["SPARK", "PYSPARK"].contains(&batch_type.to_ascii_uppercase().as_str()) {
        return message(
            500,
            &format!(
                "requirement failed: {batch_type} is not in the supported list: Set(SPARK, PYSPARK)}}"
            ),
        );
    }
    if text("resource").is_none() {
        return message(500, "requirement failed: resource is a required parameter");
    }
    if batch_type.eq_ignore_ascii_case("SPARK") && text("className").is_none() {
        return message(
            500,
            "requirement failed: classname is a required parameter for SPARK",
        );
    }
    let conf = |key: &str| {
        submission
            .get("conf")
            .and_then(|conf| conf.get(key))
            .and_then(Value::as_str)
    };
    let wanted = conf("kyuubi.batch.id");
    if let Some(id) = wanted.filter(|id| uuid::Uuid::parse_str(id).is_err()) {
        return message(500, &format!("kyuubi.batch.id={id} must be an UUID"));
    }
    let user = conf("kyuubi.session.proxy.user")
        .or_else(|| conf("hive.server2.proxy.user"))
        .unwrap_or(caller)
        .to_owned();
    let wanted = wanted.map(str::to_owned);
    let mut jobs = double.jobs();
    if let Some(known) = wanted
        .as_ref()
        .and_then(|id| jobs.holder(|job| job.uuid == *id))
    {
        let mut shown = batch(known);
        shown["batchInfo"] = json!({"kyuubi.batch.duplicated": "true"});
        return told(200, &shown);
    }
    let job = jobs.add(Taken {
        uuid: wanted,
        user: Some(user),
        ..Taken::of(&submission, asked)
    });
    told(200, &batch(&job))
}
