//! Doubles of Apache Livy 0.7.1, bare, behind Knox 2.0.0 and behind HDInsight: CSRF protection on, impersonation off.

use http::header::CONTENT_TYPE;
use livy_dialect::window::DEFAULT_SIZE;
use livy_dialect::{Field, Flavor, ListWindow, LogWindow};
use serde_json::{Map, Value, json};

use super::job::Job;
use super::{Asked, Double, Told, has_account};

pub(super) fn answer(double: &Double, asked: &Asked) -> Told {
    match double.flavor {
        Flavor::Knox => knox(double, asked),
        Flavor::Hdinsight => hdinsight(double, asked),
        _ => livy(double, asked),
    }
}

const REMEMBER_ME: &str = "rememberMe=deleteMe; Path=/gateway/default; Max-Age=0; SameSite=lax";
const KNOX_SESSION: &str = "KNOXSESSIONID=node0sandbox0session.node0; Path=/gateway/default; Secure; HttpOnly";

/// Shiro first: a wrong login gets an empty 401. Then `LivyDispatch`, which reads the body and sets `proxyUser`.
fn knox(double: &Double, asked: &Asked) -> Told {
    if !has_account(&asked.headers) {
        let refused = Told::new(401, "", "").with("www-authenticate", "BASIC realm=\"application\"");
        return if super::basic(&asked.headers).is_some() { refused.with("set-cookie", REMEMBER_ME) } else { refused };
    }
    let told = match serde_json::from_slice::<Map<String, Value>>(&asked.body) {
        Err(error) if asked.method == "POST" => Told::new(500, "application/json", unreadable(&error).to_string()),
        _ => livy(double, asked),
    };
    told.with("set-cookie", KNOX_SESSION).with("set-cookie", REMEMBER_ME)
}

/// Knox's page for a body that its dispatch can't read: the same text under every cause.
fn unreadable(error: &serde_json::Error) -> Value {
    let deepest = format!("com.fasterxml.jackson.core.JsonParseException: {error}");
    let mut page = json!({"servlet": "default-knox-gateway-servlet", "url": "/gateway/default/livy/batches", "status": "500"});
    let wrappers = [
        "java.security.PrivilegedActionException",
        "org.apache.shiro.subject.ExecutionException",
        "javax.servlet.ServletException",
        "javax.servlet.ServletException",
    ];
    let mut text = deepest;
    page["cause4"] = text.clone().into();
    for (cause, wrapper) in ["cause3", "cause2", "cause1", "cause0"].into_iter().zip(wrappers) {
        text = format!("{wrapper}: {text}");
        page[cause] = text.clone().into();
    }
    page["message"] = text.into();
    page
}

fn hdinsight(double: &Double, asked: &Asked) -> Told {
    if !has_account(&asked.headers) {
        return Told::new(401, "text/html", "<html><head><title>401 - Unauthorized</title></head></html>")
            .with("www-authenticate", "Basic realm=\"cluster\"");
    }
    livy(double, asked).with("server", "Microsoft-IIS/8.5").with("x-powered-by", "ARR/2.5")
}

fn livy(double: &Double, asked: &Asked) -> Told {
    let changes = !["GET", "HEAD", "OPTIONS"].contains(&asked.method.as_str());
    if changes && !asked.headers.contains_key("x-requested-by") {
        // For anything but GET, HEAD and POST this Jetty writes no body.
        let page = "<html>\n<head>\n<title>Error 400 </title>\n</head>\n<body>\n<h2>HTTP ERROR: 400</h2>\n<p>Problem accessing /batches. Reason:\n<pre>    Missing Required Header for CSRF protection.</pre></p>\n</body>\n</html>\n";
        return Told::new(400, "text/html;charset=iso-8859-1", page);
    }
    if asked.doubled_slash {
        return Told::new(404, "text/html;charset=utf-8", "");
    }
    let method = method(asked);
    match (method.as_str(), asked.path().as_slice()) {
        ("GET", ["version"]) => version(),
        ("GET", ["batches"]) => list(double, asked),
        ("POST", ["batches"]) => create(double, asked),
        (_, ["batches"]) => empty(405).with("allow", "POST, GET, HEAD"),
        (_, ["batches", ..]) if asked.slash => empty(404),
        ("GET", ["batches", key]) => with_job(double, key, |job| Told::json(200, &batch(job))),
        ("GET", ["batches", key, "state"]) => with_job(double, key, |job| Told::json(200, &json!({"id": job.id, "state": job.state()}))),
        ("GET", ["batches", key, "log"]) => log(double, asked, key),
        ("DELETE", ["batches", key]) => delete(double, key),
        (_, ["batches", _]) => empty(405).with("allow", "DELETE, GET, HEAD"),
        (_, ["batches", ..]) => empty(404),
        _ => Told::new(404, "text/html;charset=utf-8", ""),
    }
}

/// The method, as Scalatra understands it: a POST may call itself something else.
fn method(asked: &Asked) -> String {
    let header = ["x-http-method-override", "x-http-method", "x-method-override"].into_iter().find_map(|name| asked.headers.get(name));
    let other = header.and_then(|value| value.to_str().ok()).or_else(|| asked.parameter("_method"));
    match (asked.method.as_str(), other) {
        ("POST", Some(other)) => other.to_ascii_uppercase(),
        ("HEAD", _) => "GET".to_owned(),
        (method, _) => method.to_owned(),
    }
}

fn empty(status: u16) -> Told {
    Told::new(status, "application/json;charset=utf-8", "")
}

fn message(status: u16, text: &str) -> Told {
    Told::json(status, &json!({"msg": text}))
}

fn version() -> Told {
    Told::json(
        200,
        &json!({"url": "https://github.com/apache/incubator-livy.git", "branch": "branch-0.7", "revision": "sandbox",
            "version": "0.7.1-incubating", "date": "2021-02-04T05:14:46Z", "user": "root"}),
    )
}

fn batch(job: &Job) -> Value {
    let log = job.livy_log();
    let tail = &log[log.len().saturating_sub(10)..];
    json!({"id": job.id, "name": job.name, "owner": null, "proxyUser": null, "state": job.state(), "appId": null,
        "appInfo": {"driverLogUrl": null, "sparkUiUrl": null}, "log": tail})
}

fn not_found(key: &str) -> Told {
    message(404, &format!("Session '{key}' not found."))
}

fn with_job(double: &Double, key: &str, read: impl FnOnce(&Job) -> Told) -> Told {
    if let Some(refusal) = bad_integer(key) {
        return refusal;
    }
    double.jobs().find(key).map_or_else(|| not_found(key), |job| read(job))
}

fn bad_integer(text: &str) -> Option<Told> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    (digits && text.parse::<i32>().is_err()).then(|| message(400, &format!("For input string: \"{text}\"")))
}

fn integer(asked: &Asked, name: &str) -> Result<Option<i32>, Told> {
    match asked.parameter(name) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| message(400, &format!("For input string: \"{text}\""))),
    }
}

fn list(double: &Double, asked: &Asked) -> Told {
    let (from, size) = match (integer(asked, "from"), integer(asked, "size")) {
        (Ok(from), Ok(size)) => (from.unwrap_or(0), size.unwrap_or(DEFAULT_SIZE)),
        (Err(refusal), _) | (_, Err(refusal)) => return refusal,
    };
    let jobs = double.jobs();
    // As in Livy: the sum overflows 32 bits, and then the window is empty.
    let overflows = from > 0 && from.checked_add(size).is_none();
    let window = ListWindow { from, size: if overflows { 0 } else { size } };
    let sessions: Vec<Value> = jobs.list[window.range(jobs.list.len())].iter().map(batch).collect();
    Told::json(200, &json!({"from": from, "total": jobs.list.len(), "sessions": sessions}))
}

fn log(double: &Double, asked: &Asked, key: &str) -> Told {
    let (from, size) = match (integer(asked, "from"), integer(asked, "size")) {
        (Ok(from), Ok(size)) => (from, size),
        (Err(refusal), _) | (_, Err(refusal)) => return refusal,
    };
    with_job(double, key, |job| {
        let lines = job.livy_log();
        let overflows = from.is_some_and(|from| from > 0 && from.checked_add(size.unwrap_or(DEFAULT_SIZE)).is_none());
        let window = LogWindow { from, size: if overflows { Some(0) } else { size } };
        let (start, range) = window.resolve(lines.len());
        Told::json(200, &json!({"id": job.id, "from": start, "total": lines.len(), "log": lines[range]}))
    })
}

fn delete(double: &Double, key: &str) -> Told {
    let mut jobs = double.jobs();
    let Some(id) = jobs.find(key).map(|job| job.id) else { return not_found(key) };
    jobs.remove(id);
    message(200, "deleted")
}

fn create(double: &Double, asked: &Asked) -> Told {
    let bare = |status, text: String| Told::json(status, &Value::String(text));
    let kind = asked.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // A form is read as one, by somebody else: nothing is left for the JSON reader.
    let body = if kind.starts_with("application/x-www-form-urlencoded") { &[][..] } else { &asked.body[..] };
    let submission = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(map)) => map,
        Ok(Value::Null) => return bare(500, "java.lang.NullPointerException".into()),
        Ok(_) => return bare(400, "Cannot deserialize instance of `org.apache.livy.server.batch.CreateBatchRequest`".into()),
        Err(error) => return bare(400, unparsable(&error, body.is_empty())),
    };
    if let Some(unknown) = submission.keys().find(|key| Field::from_name(key).is_none()) {
        return bare(
            400,
            format!("Unrecognized field \"{unknown}\" (class org.apache.livy.server.batch.CreateBatchRequest), not marked as ignorable"),
        );
    }
    let lists = || ["args", "jars", "pyFiles", "files", "archives"].into_iter().filter_map(|key| submission.get(key));
    if lists().any(|value| !value.is_array() && !value.is_null()) {
        return bare(400, "Cannot deserialize instance of `scala.collection.immutable.List` out of VALUE_STRING token".into());
    }
    let mut jobs = double.jobs();
    // From here on the id is taken, whatever comes of it.
    if lists().any(Value::is_null) {
        jobs.skip_id();
        return bare(500, "java.lang.NullPointerException".into());
    }
    let name = submission.get("name").and_then(Value::as_str);
    if let Some(name) = name {
        if name.is_empty() || name.bytes().all(|b| b.is_ascii_digit()) {
            jobs.skip_id();
            return message(400, &format!("requirement failed: Invalid session name: {name}"));
        }
        if jobs.find(name).is_some() {
            let id = jobs.skip_id();
            return message(400, &format!("Duplicate session name: Some({name}) for session {id}"));
        }
    }
    // From here on a refusal leaves a ghost: the session is registered before it is prepared.
    if let Some(refusal) = refuse(&submission) {
        jobs.add(&submission, true);
        return refusal;
    }
    let job = jobs.add(&submission, false);
    let shown = batch(&job);
    drop(jobs);
    let location = format!("/batches/{}", job.id);
    Told::json(201, &shown).with("location", location)
}

/// Says what Jackson says of a text that is no JSON.
fn unparsable(error: &serde_json::Error, empty: bool) -> String {
    let what = match error.classify() {
        _ if empty => "No content to map due to end-of-input".to_owned(),
        serde_json::error::Category::Eof => "Unexpected end-of-input within/between Object entries".to_owned(),
        _ => error.to_string(),
    };
    format!("{what}\n at [Source: (org.eclipse.jetty.server.HttpInputOverHTTP); line: {}, column: {}]", error.line(), error.column())
}

fn refuse(submission: &Map<String, Value>) -> Option<Told> {
    let file = submission.get("file").and_then(Value::as_str);
    match file {
        None => return Some(message(400, "requirement failed: File is required.")),
        Some("") => return Some(Told::json(500, &Value::from("java.lang.IndexOutOfBoundsException: 0"))),
        Some(path) if !path.starts_with('/') && !path.contains(':') => {
            return Some(message(400, &format!("requirement failed: Path '{path}' is not absolute.")));
        }
        Some(path) if path.starts_with("/etc/") => {
            return Some(message(400, &format!("requirement failed: Local path {path} cannot be added to user sessions.")));
        }
        Some(_) => {}
    }
    let wrong = ["driverCores", "executorCores", "numExecutors"]
        .into_iter()
        .find(|key| submission.get(*key).is_some_and(|value| !value.is_null() && value.as_i64().is_none()))?;
    let what = format!("java.lang.ClassCastException: class java.lang.String cannot be cast to class java.lang.Integer ({wrong})");
    Some(Told::json(500, &Value::String(what)))
}
