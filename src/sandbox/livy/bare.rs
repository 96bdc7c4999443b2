//! A Livy with nothing in front.

use http::header::ACCEPT;
use livy_dialect::window::DEFAULT_SIZE;
use livy_dialect::{ListWindow, LogWindow};
use serde_json::{Value, json};

use super::create;
use super::key::Key;
use super::shape::{batch, empty, message, word};
use crate::sandbox::asked::Asked;
use crate::sandbox::double::Double;
use crate::sandbox::job::{Job, Jobs};
use crate::sandbox::told::Told;

pub(super) fn livy(double: &Double, asked: &Asked) -> Told {
    let changes = !["GET", "HEAD", "OPTIONS"].contains(&asked.method.as_str());
    if changes && !asked.headers.contains_key("x-requested-by") {
        // For anything but GET, HEAD and POST this Jetty writes no body.
        let page = "<html>\n<head>\n<title>Error 400 </title>\n</head>\n<body>\n<h2>HTTP ERROR: 400</h2>\n<p>Problem accessing /batches. Reason:\n<pre>    Missing Required Header for CSRF protection.</pre></p>\n</body>\n</html>\n";
        return Told::new(400, "text/html;charset=iso-8859-1", page);
    }
    if asked.doubled_slash {
        return Told::new(404, "text/html;charset=utf-8", "");
    }
    if let Some(version) = unknown_version(asked) {
        return message(406, &format!("No value found for '{version}'"));
    }
    let method = method(asked);
    match (method.as_str(), asked.path().as_slice()) {
        ("GET", ["version"]) => version(),
        ("GET", ["batches"]) => list(double, asked),
        ("POST", ["batches"]) => create::create(double, asked),
        (_, ["batches"]) => empty(405).with("allow", "POST, GET, HEAD"),
        (_, ["batches", ..]) if asked.slash => empty(404),
        ("GET", ["batches", key]) => {
            with_job(double, key, |job| Told::json(200, &batch(double, job)))
        }
        ("GET", ["batches", key, "state"]) => with_job(double, key, |job| {
            Told::json(200, &json!({"id": job.id, "state": word(job)}))
        }),
        ("GET", ["batches", key, "log"]) => log(double, asked, key),
        ("DELETE", ["batches", key]) => delete(double, asked, key),
        (_, ["batches", _]) => empty(405).with("allow", "DELETE, GET, HEAD"),
        (_, ["batches", ..]) => empty(404),
        _ => Told::new(404, "text/html;charset=utf-8", ""),
    }
}

/// Returns the API version that `Accept` asks for, if there is none such.
fn unknown_version(asked: &Asked) -> Option<String> {
    let accept = asked.headers.get(ACCEPT)?.to_str().ok()?;
    let version = accept
        .strip_prefix("application/vnd.livy.v")?
        .strip_suffix("+json")?;
    (version != "0.1").then(|| version.to_owned())
}

/// The method, as Scalatra understands it: a POST may call itself something else.
fn method(asked: &Asked) -> String {
    let header = [
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
    ]
    .into_iter()
    .find_map(|name| asked.headers.get(name));
    let other = header
        .and_then(|value| value.to_str().ok())
        .or_else(|| asked.parameter("_method"));
    match (asked.method.as_str(), other) {
        ("POST", Some(other)) => other.to_ascii_uppercase(),
        ("HEAD", _) => "GET".to_owned(),
        (method, _) => method.to_owned(),
    }
}

fn version() -> Told {
    Told::json(
        200,
        &json!({"url": "https://github.com/apache/incubator-livy.git", "branch": "branch-0.7", "revision": "sandbox",
            "version": "0.7.1-incubating", "date": "2021-02-04T05:14:46Z", "user": "root"}),
    )
}

fn not_found(key: &str) -> Told {
    message(404, &format!("Session '{key}' not found."))
}

fn with_job(double: &Double, key: &str, read: impl FnOnce(&Job) -> Told) -> Told {
    match Key::read(key) {
        Ok(found) => {
            find(&mut double.jobs(), &found).map_or_else(|| not_found(key), |job| read(job))
        }
        Err(refusal) => refusal,
    }
}

fn find<'a>(jobs: &'a mut Jobs, key: &Key<'_>) -> Option<&'a mut Job> {
    match key {
        Key::Id(id) => u32::try_from(*id).ok().and_then(|id| jobs.by_id(id)),
        Key::Name(name) => jobs.by_name(name),
    }
}

fn integer(asked: &Asked, name: &str) -> Result<Option<i32>, Told> {
    match asked.parameter(name) {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| message(400, &format!("For input string: \"{text}\""))),
    }
}

fn list(double: &Double, asked: &Asked) -> Told {
    let (from, size) = match (integer(asked, "from"), integer(asked, "size")) {
        (Ok(from), Ok(size)) => (from.unwrap_or(0), size.unwrap_or(DEFAULT_SIZE)),
        (Err(refusal), _) | (_, Err(refusal)) => return refusal,
    };
    let jobs = double.jobs();
    let shown: Vec<&Job> = jobs.shown().collect();
    // As in Livy: the sum overflows 32 bits, and then the window is empty.
    let overflows = from > 0 && from.checked_add(size).is_none();
    let window = ListWindow {
        from,
        size: if overflows { 0 } else { size },
    };
    let sessions: Vec<Value> = shown[window.range(shown.len())]
        .iter()
        .map(|job| batch(double, job))
        .collect();
    Told::json(
        200,
        &json!({"from": from, "total": shown.len(), "sessions": sessions}),
    )
}

fn log(double: &Double, asked: &Asked, key: &str) -> Told {
    let (from, size) = match (integer(asked, "from"), integer(asked, "size")) {
        (Ok(from), Ok(size)) => (from, size),
        (Err(refusal), _) | (_, Err(refusal)) => return refusal,
    };
    with_job(double, key, |job| {
        let lines = job.livy_log();
        let overflows = from.is_some_and(|from| {
            from > 0 && from.checked_add(size.unwrap_or(DEFAULT_SIZE)).is_none()
        });
        let window = LogWindow {
            from,
            size: if overflows { Some(0) } else { size },
        };
        let (start, range) = window.resolve(lines.len());
        Told::json(
            200,
            &json!({"id": job.id, "from": start, "total": lines.len(), "log": lines[range]}),
        )
    })
}

fn delete(double: &Double, asked: &Asked, key: &str) -> Told {
    let found = match Key::read(key) {
        Ok(found) => found,
        Err(refusal) => return refusal,
    };
    let mut jobs = double.jobs();
    let Some(job) = find(&mut jobs, &found) else {
        return not_found(key);
    };
    job.delete(asked);
    let id = job.id;
    jobs.forget(|job| job.id == id);
    message(200, "deleted")
}
