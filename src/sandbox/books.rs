//! The books of a simulated cluster: every job that it ever had, also those that it has forgotten
//! itself. Tests compare what clients were told with what is written here.

use serde_json::{Value, json};

use super::double::Double;
use super::job::Job;

/// Returns the books, oldest job first.
pub(super) fn of(double: &Double) -> Value {
    double
        .jobs()
        .all()
        .into_iter()
        .map(|(job, known)| entry(job, known))
        .collect()
}

fn entry(job: &Job, known: bool) -> Value {
    let killed = job
        .killed
        .as_ref()
        .map(|kill| json!({"by_request_id": kill.by, "at_ms": job.ended_ms()}));
    let proxy_user = job
        .submission
        .get("proxyUser")
        .cloned()
        .unwrap_or_else(|| job.user.clone().into());
    json!({
        "id": job.id, "uuid": job.uuid, "name": job.name, "file": job.file, "args": job.submission.get("args"),
        "conf": job.submission.get("conf"), "proxyUser": proxy_user, "created_ms": job.created_ms, "generation": job.generation,
        "x_request_id": job.request_id, "state": job.state(), "ended_ms": job.ended_ms(), "appId": job.app_id(),
        // A ghost was refused and never runs.
        "ghost": job.ghost,
        // Whether the cluster still knows it.
        "known": known,
        "killed": killed, "deletes": job.deletes.len(), "deleted_by": job.deletes,
    })
}
