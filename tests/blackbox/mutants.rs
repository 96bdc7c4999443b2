//! Endpoints that are broken on purpose: each changes one thing of a good one, as a buggy server or
//! front would.

use std::collections::HashSet;
use std::sync::Mutex;

use serde_json::{Value, json};

use crate::proxy::{Asked, Forward};
use testkit::Reply;

type Break = Box<dyn Fn(&Asked, &Forward) -> Reply + Send + Sync>;

/// A way to be broken, and exactly the checks that must notice.
pub(crate) struct Mutant {
    pub(crate) name: &'static str,
    pub(crate) caught_by: &'static [&'static str],
    pub(crate) act: Break,
}

fn mutant(
    name: &'static str,
    caught_by: &'static [&'static str],
    act: impl Fn(&Asked, &Forward) -> Reply + Send + Sync + 'static,
) -> Mutant {
    Mutant {
        name,
        caught_by,
        act: Box::new(act),
    }
}

/// Changes the JSON of answers that a condition picks.
fn edit(reply: Reply, change: impl FnOnce(&mut Value)) -> Reply {
    match serde_json::from_slice::<Value>(&reply.body) {
        Ok(mut body) => {
            change(&mut body);
            Reply {
                body: body.to_string().into_bytes(),
                ..reply
            }
        }
        Err(_) => reply,
    }
}

/// An answer of the mutant's own; what it breaks is not that answers have a request id.
fn answer(status: u16, content_type: &str, body: &str) -> Reply {
    let headers = [("Content-Type", content_type), ("X-Request-Id", "1")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    Reply {
        status,
        headers: headers.into(),
        body: body.as_bytes().to_vec(),
    }
}

fn without_header(mut reply: Reply, name: &str) -> Reply {
    reply
        .headers
        .retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    reply
}

fn with_header(reply: Reply, name: &str, value: &str) -> Reply {
    let mut reply = without_header(reply, name);
    reply.headers.push((name.to_owned(), value.to_owned()));
    reply
}

fn remove(body: &mut Value, key: &str) {
    body.as_object_mut().map(|map| map.remove(key));
}

/// Broken in a way that both profiles forbid.
pub(crate) fn of_any_endpoint() -> Vec<Mutant> {
    let first_seen = Mutex::new(HashSet::new());
    let ended = Mutex::new(HashSet::new());
    vec![
        mutant(
            "a submission is answered with 200",
            &["submit.created"],
            |asked, forward| {
                let reply = forward(asked);
                if reply.status == 201 {
                    Reply {
                        status: 200,
                        ..reply
                    }
                } else {
                    reply
                }
            },
        ),
        mutant("no Location", &["submit.location"], |asked, forward| {
            without_header(forward(asked), "location")
        }),
        mutant(
            "Location with a host",
            &["submit.location"],
            |asked, forward| {
                let reply = forward(asked);
                match reply
                    .header("location")
                    .map(|path| format!("http://localhost{path}"))
                {
                    Some(url) => with_header(reply, "Location", &url),
                    None => reply,
                }
            },
        ),
        mutant(
            "the 201 holds the id only",
            &["submit.batch", "submit.name"],
            |asked, forward| {
                let reply = forward(asked);
                if asked.method == "POST" && reply.status == 201 {
                    edit(reply, |body| *body = json!({"id": body["id"]}))
                } else {
                    reply
                }
            },
        ),
        mutant("a batch has no appId", &["batch.keys"], |asked, forward| {
            let reply = forward(asked);
            if asked.method == "GET" && asked.is_item() {
                edit(reply, |body| remove(body, "appId"))
            } else {
                reply
            }
        }),
        mutant(
            "appInfo is null",
            &["batch.keys", "list.batches"],
            |asked, forward| {
                let reply = forward(asked);
                match asked.method.as_str() {
                    "GET" if asked.is_item() => edit(reply, |body| body["appInfo"] = Value::Null),
                    "GET" if asked.is("GET", "/batches") => edit(reply, |body| {
                        body["sessions"]
                            .as_array_mut()
                            .into_iter()
                            .flatten()
                            .for_each(|batch| batch["appInfo"] = Value::Null);
                    }),
                    _ => reply,
                }
            },
        ),
        mutant(
            "a name is not looked up for a state",
            &["batch.by_name"],
            |asked, forward| {
                let path = asked.path.replace("-ok/state", "-nobody/state");
                forward(&Asked {
                    path,
                    ..asked.clone()
                })
            },
        ),
        mutant(
            "states are shouted",
            &[
                "state.words",
                "state.running",
                "state.success",
                "state.dead",
            ],
            |asked, forward| {
                let reply = forward(asked);
                if !asked.is("GET", "/state") {
                    return reply;
                }
                edit(reply, |body| {
                    body["state"] = body["state"].as_str().map(str::to_uppercase).into()
                })
            },
        ),
        mutant(
            "states go backwards",
            &["state.order"],
            move |asked, forward| {
                let reply = forward(asked);
                let mut seen = first_seen.lock().expect("no panic holds it");
                if asked.is("GET", "/state")
                    && reply.status == 200
                    && seen.insert(asked.path.clone())
                {
                    return edit(reply, |body| {
                        body["state"] = if body["state"] == "starting" {
                            "running".into()
                        } else {
                            body["state"].clone()
                        }
                    });
                }
                reply
            },
        ),
        mutant(
            "an end is forgotten",
            &["state.final", "state.agrees"],
            move |asked, forward| {
                let reply = forward(asked);
                let mut ended = ended.lock().expect("no panic holds it");
                let success = asked.is("GET", "/state")
                    && reply.status == 200
                    && reply.json()["state"] == "success";
                if success && !ended.insert(asked.path.clone()) {
                    edit(reply, |body| body["state"] = "running".into())
                } else {
                    reply
                }
            },
        ),
        mutant("a failure is a kill", &["state.dead"], |asked, forward| {
            edit_state(forward(asked), "dead", "killed")
        }),
        mutant(
            "an unknown batch has a state",
            &["state.missing", "kill.gone"],
            |asked, forward| {
                let reply = forward(asked);
                if asked.is("GET", "/state") && reply.status == 404 {
                    answer(200, "application/json", r#"{"id": 1, "state": "dead"}"#)
                } else {
                    reply
                }
            },
        ),
        mutant(
            "a log has no total",
            &["log.body", "log.total", "log.paged"],
            |asked, forward| {
                let reply = forward(asked);
                if asked.is("GET", "/log") {
                    edit(reply, |body| remove(body, "total"))
                } else {
                    reply
                }
            },
        ),
        mutant(
            "a log has `size` for `total`, as documented",
            &["log.body", "log.total", "log.paged"],
            |asked, forward| {
                let reply = forward(asked);
                if !asked.is("GET", "/log") {
                    return reply;
                }
                edit(reply, |body| {
                    let total = body["total"].take();
                    remove(body, "total");
                    if !total.is_null() {
                        body["size"] = total;
                    }
                })
            },
        ),
        mutant(
            "a log begins at 0 when nothing is said",
            &["log.tail", "log.nothing"],
            |asked, forward| {
                let mut asked = asked.clone();
                if asked.is("GET", "/log")
                    && !asked.path.contains("from=")
                    && asked.path.contains("size=")
                    && !asked.path.contains("size=-")
                {
                    asked.path.push_str("&from=0");
                }
                forward(&asked)
            },
        ),
        mutant(
            "a log page leaves its last line out",
            &[
                "log.head",
                "log.middle",
                "log.tail",
                "log.negative_from",
                "log.paged",
            ],
            |asked, forward| {
                let reply = forward(asked);
                let short = asked.is("GET", "/log")
                    && reply.status == 200
                    && reply.json()["log"]
                        .as_array()
                        .is_some_and(|log| log.len() < 10);
                if short {
                    edit(reply, |body| {
                        drop(body["log"].as_array_mut().and_then(Vec::pop))
                    })
                } else {
                    reply
                }
            },
        ),
        mutant(
            "a section line is called otherwise",
            &["log.sections"],
            |asked, forward| {
                let reply = forward(asked);
                let whole = asked.is("GET", "/log") && reply.status == 200;
                if !whole {
                    return reply;
                }
                edit(reply, |body| {
                    body["log"]
                        .as_array_mut()
                        .into_iter()
                        .flatten()
                        .filter(|line| **line == "stdout: ")
                        .for_each(|line| *line = "out:".into());
                })
            },
        ),
        mutant(
            "an object in `args` is taken",
            &["refuse.list_entry"],
            |asked, forward| {
                let mut body = asked.json();
                if asked.method == "POST" && body["args"][0].is_object() {
                    body["args"] = json!([]);
                    return forward(&Asked {
                        body: body.to_string().into_bytes(),
                        ..asked.clone()
                    });
                }
                forward(asked)
            },
        ),
        mutant(
            "a relative path is taken",
            &["refuse.relative_file"],
            |asked, forward| {
                let mut body = asked.json();
                if asked.method == "POST" && body["file"] == "certify.py" {
                    body["file"] = "/certify.py".into();
                    return forward(&Asked {
                        body: body.to_string().into_bytes(),
                        ..asked.clone()
                    });
                }
                forward(asked)
            },
        ),
        mutant(
            "a bad number is ignored",
            &["log.bad_number", "list.bad_number"],
            |asked, forward| {
                let mut asked = asked.clone();
                for bad in ["from=x", "from=a", "size=99999999999"] {
                    asked.path = asked.path.replace(bad, "from=0");
                }
                forward(&asked)
            },
        ),
        mutant(
            "a list has no total",
            &["list.body", "list.total"],
            |asked, forward| {
                let reply = forward(asked);
                if asked.is("GET", "/batches") {
                    edit(reply, |body| remove(body, "total"))
                } else {
                    reply
                }
            },
        ),
        mutant(
            "total is the page's length",
            &["list.total"],
            |asked, forward| {
                let reply = forward(asked);
                if !(asked.is("GET", "/batches") && reply.status == 200) {
                    return reply;
                }
                edit(reply, |body| {
                    body["total"] = body["sessions"].as_array().map_or(0, Vec::len).into()
                })
            },
        ),
        mutant(
            "positions of a list count from 1",
            &["list.window"],
            |asked, forward| {
                let mut changed = asked.clone();
                if asked.is("GET", "/batches") {
                    changed.path = changed.path.replace("?from=1&size=1", "?from=0&size=1");
                }
                let reply = forward(&changed);
                if changed.path == asked.path {
                    reply
                } else {
                    edit(reply, |body| body["from"] = 1.into())
                }
            },
        ),
        mutant(
            "the newest batch comes first",
            &["list.order"],
            |asked, forward| {
                let reply = forward(asked);
                if !(asked.is("GET", "/batches") && reply.status == 200) {
                    return reply;
                }
                let path = asked.path.split('?').next().unwrap_or_default();
                let whole = forward(&Asked {
                    path: format!("{path}?from=0&size=100000"),
                    ..asked.clone()
                })
                .json();
                let reversed: Vec<Value> = whole["sessions"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .rev()
                    .cloned()
                    .collect();
                edit(reply, |body| {
                    let from = body["from"]
                        .as_i64()
                        .and_then(|from| usize::try_from(from).ok())
                        .unwrap_or(0);
                    let count = body["sessions"].as_array().map_or(0, Vec::len);
                    body["sessions"] = reversed.into_iter().skip(from).take(count).collect();
                })
            },
        ),
        mutant(
            "DELETE answers 204",
            &["kill.running", "kill.finished"],
            |asked, forward| {
                let reply = forward(asked);
                if asked.method == "DELETE" && reply.status == 200 {
                    Reply {
                        status: 204,
                        headers: reply.headers,
                        body: Vec::new(),
                    }
                } else {
                    reply
                }
            },
        ),
        mutant(
            "DELETE says something else",
            &["kill.running", "kill.finished"],
            |asked, forward| {
                let reply = forward(asked);
                if asked.method == "DELETE" && reply.status == 200 {
                    edit(reply, |body| body["msg"] = "killed".into())
                } else {
                    reply
                }
            },
        ),
        mutant(
            "DELETE does nothing",
            &[
                "kill.gone",
                "kill.unlisted",
                "kill.again",
                "kill.frees_name",
            ],
            |asked, forward| {
                if asked.method != "DELETE" {
                    return forward(asked);
                }
                let batch = forward(&Asked {
                    method: "GET".into(),
                    ..asked.clone()
                });
                let long = batch.status == 200
                    && batch.json()["name"]
                        .as_str()
                        .is_some_and(|name| name.ends_with("-long"));
                if long {
                    answer(200, "application/json", r#"{"msg": "deleted"}"#)
                } else {
                    forward(asked)
                }
            },
        ),
        mutant(
            "an unknown field is swallowed",
            &["refuse.unknown_field"],
            |asked, forward| {
                let mut asked = asked.clone();
                if asked.method == "POST" && asked.json()["certifyUnknown"].is_number() {
                    let mut body = asked.json();
                    remove(&mut body, "certifyUnknown");
                    asked.body = body.to_string().into_bytes();
                }
                forward(&asked)
            },
        ),
        mutant(
            "a submission without a file is taken",
            &["refuse.no_file", "refuse.ghost"],
            |asked, forward| {
                let mut asked = asked.clone();
                if asked.method == "POST"
                    && asked
                        .json()
                        .as_object()
                        .is_some_and(|body| !body.contains_key("file"))
                {
                    let mut body = asked.json();
                    body["file"] = "hdfs:///some/file.py".into();
                    asked.body = body.to_string().into_bytes();
                }
                forward(&asked)
            },
        ),
        mutant(
            "a taken name is given again",
            &["refuse.taken_name"],
            |asked, forward| {
                let reply = forward(asked);
                if reply.status == 400 && reply.text().contains("Duplicate session name") {
                    let mut body = asked.json();
                    body["name"] =
                        format!("{}-again", body["name"].as_str().unwrap_or_default()).into();
                    return forward(&Asked {
                        body: body.to_string().into_bytes(),
                        ..asked.clone()
                    });
                }
                reply
            },
        ),
        mutant("a state is text/plain", &["http.json"], |asked, forward| {
            let reply = forward(asked);
            if asked.is("GET", "/state") && reply.status == 200 {
                with_header(reply, "Content-Type", "text/plain")
            } else {
                reply
            }
        }),
        mutant(
            "a slash is redirected",
            &["http.slash", "http.no_redirect"],
            |asked, forward| {
                if asked.is("GET", "/batches/") {
                    return with_header(answer(302, "text/html", ""), "Location", "/batches");
                }
                forward(asked)
            },
        ),
        mutant("PUT is taken", &["http.wrong_method"], |asked, forward| {
            if asked.method == "PUT" {
                answer(200, "application/json", "{}")
            } else {
                forward(asked)
            }
        }),
        mutant(
            "a version has no user",
            &["http.version"],
            |asked, forward| {
                let reply = forward(asked);
                if asked.path.ends_with("/version") {
                    edit(reply, |body| remove(body, "user"))
                } else {
                    reply
                }
            },
        ),
        mutant("HEAD is unknown", &["http.head"], |asked, forward| {
            if asked.method == "HEAD" {
                answer(404, "application/json", "")
            } else {
                forward(asked)
            }
        }),
    ]
}

fn edit_state(reply: Reply, from: &str, to: &str) -> Reply {
    edit(reply, |body| {
        if body["state"] == from {
            body["state"] = to.into();
        }
    })
}

/// Broken in a way that a gateway promises not to be, some of them faults of a real Livy.
pub(crate) fn of_a_gateway() -> Vec<Mutant> {
    vec![
        mutant(
            "ids are texts",
            &["submit.batch", "submit.id"],
            |asked, forward| {
                let reply = forward(asked);
                let created = asked.method == "POST" && reply.status == 201;
                if created {
                    edit(reply, |body| body["id"] = body["id"].to_string().into())
                } else {
                    reply
                }
            },
        ),
        mutant(
            "Location without the client's prefix",
            &["submit.location"],
            |asked, forward| {
                let reply = forward(asked);
                let path = reply
                    .header("location")
                    .and_then(|path| path.find("/batches").map(|at| path[at..].to_owned()));
                match path {
                    Some(path) => with_header(reply, "Location", &path),
                    None => reply,
                }
            },
        ),
        mutant("a cookie is set", &["http.no_cookie"], |asked, forward| {
            with_header(forward(asked), "Set-Cookie", "session=1")
        }),
        mutant(
            "errors have no request id",
            &["http.errors"],
            |asked, forward| {
                let reply = forward(asked);
                if reply.status >= 400 {
                    edit(reply, |body| remove(body, "requestId"))
                } else {
                    reply
                }
            },
        ),
        mutant(
            "`recovering` is passed on",
            &["state.words"],
            |asked, forward| {
                let reply = forward(asked);
                if asked.is("GET", "/state") {
                    edit_state(reply, "starting", "recovering")
                } else {
                    reply
                }
            },
        ),
        mutant(
            "everything belongs to the service account",
            &["batch.owner"],
            |asked, forward| {
                let reply = forward(asked);
                if asked.method == "GET" && asked.is_item() && reply.status == 200 {
                    edit(reply, |body| body["owner"] = "svc".into())
                } else {
                    reply
                }
            },
        ),
        mutant(
            "successes have no request id",
            &["http.request_id"],
            |asked, forward| {
                let reply = forward(asked);
                if reply.status < 300 {
                    without_header(reply, "x-request-id")
                } else {
                    reply
                }
            },
        ),
        mutant(
            "sessions are a 501",
            &["http.sessions"],
            |asked, forward| {
                let reply = forward(asked);
                if asked.path.ends_with("/sessions") {
                    Reply {
                        status: 501,
                        ..reply
                    }
                } else {
                    reply
                }
            },
        ),
        mutant(
            "Idempotency-Key is not read",
            &["submit.idempotent"],
            |asked, forward| {
                if !asked.has("idempotency-key") {
                    return forward(asked);
                }
                // A second job under the same key, as a gateway without keys would make it.
                let mut body = asked.json();
                remove(&mut body, "name");
                forward(&Asked {
                    body: body.to_string().into_bytes(),
                    ..asked.without("idempotency-key")
                })
            },
        ),
        mutant(
            "32 bits overflow",
            &["log.overflow", "list.overflow"],
            |asked, forward| {
                let mut asked = asked.clone();
                asked.path = asked
                    .path
                    .replace("from=1&size=2147483647", "from=1&size=0");
                forward(&asked)
            },
        ),
        mutant(
            "X-Requested-By is demanded",
            &["submit.csrf", "http.errors"],
            |asked, forward| {
                let bare = asked.method == "POST" && !asked.has("x-requested-by");
                if bare {
                    answer(
                        400,
                        "text/html",
                        "<html>Missing Required Header for CSRF protection.</html>",
                    )
                } else {
                    forward(asked)
                }
            },
        ),
        mutant(
            "a null list is refused",
            &["submit.null_lists", "http.errors"],
            |asked, forward| {
                let null = asked.method == "POST"
                    && asked.json()["jars"].is_null()
                    && asked.json().get("jars").is_some();
                if null {
                    answer(
                        500,
                        "application/json",
                        "\"java.lang.NullPointerException\"",
                    )
                } else {
                    forward(asked)
                }
            },
        ),
        mutant(
            "a method is overridden",
            &["http.method_override"],
            |asked, forward| {
                if asked.has("x-http-method-override") {
                    return forward(&Asked {
                        method: "GET".into(),
                        ..asked.without("x-http-method-override")
                    });
                }
                forward(asked)
            },
        ),
        mutant(
            "`//` is not found",
            &["http.double_slash"],
            |asked, forward| {
                let path = asked.path.replace("//batches", "/batches/2147483645");
                forward(&Asked {
                    path,
                    ..asked.clone()
                })
            },
        ),
        mutant(
            "a 401 has no challenge",
            &["auth.missing"],
            |asked, forward| without_header(forward(asked), "www-authenticate"),
        ),
        mutant(
            "anybody is let in",
            &["auth.missing", "auth.wrong"],
            |asked, forward| {
                let reply = forward(asked);
                if reply.status == 401 {
                    answer(
                        200,
                        "application/json",
                        r#"{"from":0,"total":0,"sessions":[]}"#,
                    )
                } else {
                    reply
                }
            },
        ),
    ]
}
