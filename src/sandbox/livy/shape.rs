//! What answers of a Livy look like.

use serde_json::{Value, json};

use crate::sandbox::double::Double;
use crate::sandbox::job::Job;
use crate::sandbox::told::Told;

pub(super) fn empty(status: u16) -> Told {
    Told::new(status, "application/json;charset=utf-8", "")
}

pub(super) fn message(status: u16, text: &str) -> Told {
    Told::json(status, &json!({"msg": text}))
}

/// Returns the state as Livy calls it. What it recovers is `recovering` until it was found, also
/// what has ended.
pub(super) fn word(job: &Job) -> &'static str {
    if job.is_recovering() {
        "recovering"
    } else {
        job.state().as_str()
    }
}

pub(super) fn batch(double: &Double, job: &Job) -> Value {
    let log = job.livy_log();
    let tail = &log[log.len().saturating_sub(10)..];
    let app_id = job.app_id().filter(|_| double.control.shows_app_ids());
    json!({"id": job.id, "name": job.name, "owner": null, "proxyUser": null, "state": word(job), "appId": app_id,
        "appInfo": {"driverLogUrl": null, "sparkUiUrl": null}, "log": tail})
}
