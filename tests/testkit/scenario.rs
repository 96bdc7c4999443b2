//! One scripted scenario, many servers: what was once sent to a real server is sent to another one,
//! and the answers are compared by shape.
//!
//! The script is the recordings themselves, in `tests/fixtures/recorded/`: their requests in their
//! order, each sent when the batch that it is about is in the state that the recording shows. Ids
//! are translated as they come. A shape is a status, a content type, the headers that clients read,
//! the keys and types of the body, and the wording of a message without its numbers.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::root::root;
use crate::wire::{Reply, Request, exchange, over_tls, tls_config};

/// How long a job may take to get into the state that the recording shows.
const PATIENCE: Duration = Duration::from_secs(180);

/// A recorded exchange.
#[derive(Clone, Debug)]
pub struct Step {
    /// Number and kind: the name of the recording.
    pub name: String,
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
    recorded: Told,
}

/// An answer, as far as it is compared.
#[derive(Clone, Debug)]
pub struct Told {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Json(Value),
    Text(String),
}

impl Told {
    /// `words`: what the recording calls something, and what it is called here.
    fn of(reply: &Reply, words: &[(String, String)]) -> Told {
        let text = words.iter().fold(reply.text(), |text, (recorded, here)| {
            text.replace(here, recorded)
        });
        let body = serde_json::from_str(&text).map_or_else(|_| Body::Text(text), Body::Json);
        Told {
            status: reply.status,
            headers: headers_of(
                reply
                    .headers
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str())),
            ),
            body,
        }
    }

    fn json(&self, key: &str) -> &Value {
        match &self.body {
            Body::Json(body) => &body[key],
            Body::Text(_) => &Value::Null,
        }
    }

    /// Returns the shape, a line for each thing that can differ.
    fn shape(&self) -> BTreeMap<String, String> {
        let mut shape = BTreeMap::from([("status".to_owned(), self.status.to_string())]);
        shape.extend(
            self.headers
                .iter()
                .map(|(name, value)| (format!("header {name}"), value.clone())),
        );
        match &self.body {
            Body::Text(text) if text.is_empty() => {
                shape.insert("body".into(), "none".into());
            }
            Body::Text(text) => {
                shape.insert(
                    "body".into(),
                    if text.trim_start().starts_with('<') {
                        "HTML"
                    } else {
                        "text"
                    }
                    .into(),
                );
            }
            Body::Json(body) => add_shape("body", body, &mut shape),
        }
        shape
    }
}

/// The headers that clients read, without what changes from one answer to the next.
fn headers_of<'a>(all: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    let mut kept: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in all {
        let name = name.to_ascii_lowercase();
        let value = match name.as_str() {
            "content-type" | "www-authenticate" => value.to_owned(),
            "location" => without_numbers(value),
            "allow" => {
                let mut methods: Vec<&str> = value.split(',').map(str::trim).collect();
                methods.sort_unstable();
                methods.join(", ")
            }
            "set-cookie" => value.split('=').next().unwrap_or_default().to_owned(),
            _ => continue,
        };
        kept.entry(name)
            .and_modify(|known| *known = format!("{known}; {value}"))
            .or_insert(value);
    }
    kept
}

fn add_shape(at: &str, value: &Value, shape: &mut BTreeMap<String, String>) {
    let mut put = |text: &str| {
        // Entries of a list may differ among themselves: every kind seen counts.
        let kinds = shape.entry(at.to_owned()).or_default();
        if !kinds.split(" | ").any(|kind| kind == text) {
            let mut all: Vec<&str> = kinds
                .split(" | ")
                .filter(|kind| !kind.is_empty())
                .chain([text])
                .collect();
            all.sort_unstable();
            *kinds = all.join(" | ");
        }
    };
    let key = at.rsplit('.').next().unwrap_or_default();
    match value {
        Value::Null => put("null"),
        Value::Bool(_) => put("boolean"),
        Value::Number(number) => put(if number.is_f64() {
            "fraction"
        } else {
            "integer"
        }),
        Value::String(text) if ["msg", "message"].contains(&key) => put(&without_numbers(text)),
        Value::String(_) => put("text"),
        Value::Array(list) => {
            put("list");
            list.iter()
                .for_each(|one| add_shape(&format!("{at}[]"), one, shape));
        }
        Value::Object(map) => {
            put("object");
            map.iter()
                .for_each(|(key, one)| add_shape(&format!("{at}.{key}"), one, shape));
        }
    }
}

/// Takes ids out of a text: words with a digit in them; and what follows the first line, which is
/// the server's own.
fn without_numbers(text: &str) -> String {
    let word = |part: &str| {
        if part.bytes().any(|b| b.is_ascii_digit()) {
            "N".to_owned()
        } else {
            part.to_owned()
        }
    };
    text.lines()
        .next()
        .unwrap_or_default()
        .split_inclusive(|c: char| !(c.is_alphanumeric() || c == '-'))
        .map(|part| {
            let (text, end) = part
                .char_indices()
                .last()
                .filter(|(_, c)| !(c.is_alphanumeric() || *c == '-'))
                .map_or((part, ""), |(at, _)| part.split_at(at));
            word(text) + end
        })
        .collect()
}

/// Reads the recordings of a server.
pub fn script(folder: &str) -> Vec<Step> {
    let at = root().join("tests/fixtures/recorded").join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(at)
        .expect("the recordings")
        .filter_map(Result::ok)
        .map(|file| file.path())
        .collect();
    files.sort();
    files.iter().map(|file| step(file)).collect()
}

/// Makes a script of documented samples, for a service that can't be run: each has a name, the path
/// to ask (the samples are about several batches), and maybe a body to send.
pub fn documented(
    flavor: &str,
    samples: &[(&str, &str, Option<&str>)],
    headers: &[(String, String)],
) -> Vec<Step> {
    let at = root().join("tests/fixtures/documented.json");
    let all: Vec<Value> =
        serde_json::from_slice(&std::fs::read(at).expect("is readable")).expect("JSON");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let step = |(what, path, body): &(&str, &str, Option<&str>)| {
        let sample = all
            .iter()
            .find(|one| one["flavor"] == flavor && one["what"] == *what)
            .unwrap_or_else(|| panic!("no sample {what}"));
        let kind = sample["type"].as_str().unwrap_or_default();
        Step {
            name: what.replace(' ', "-"),
            method: text(&sample["method"]).expect("a method"),
            path: (*path).to_owned(),
            headers: headers.to_vec(),
            body: body.map(str::to_owned),
            recorded: Told {
                status: sample["status"]
                    .as_u64()
                    .and_then(|status| u16::try_from(status).ok())
                    .expect("a status"),
                headers: headers_of(std::iter::once(("content-type", kind))),
                body: Body::Json(sample["body"].clone()),
            },
        }
    };
    samples.iter().map(step).collect()
}

fn step(file: &Path) -> Step {
    let exchange: Value =
        serde_json::from_slice(&std::fs::read(file).expect("is readable")).expect("JSON");
    let (request, response) = (&exchange["request"], &exchange["response"]);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let pairs = response["headers"].as_array().expect("a list");
    let body = match &response["json"] {
        Value::Null => Body::Text(text(&response["text"]).unwrap_or_default()),
        json => Body::Json(json.clone()),
    };
    Step {
        name: file
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned(),
        method: text(&request["method"]).expect("a method"),
        path: text(&request["path"]).expect("a path"),
        headers: request["headers"]
            .as_object()
            .expect("an object")
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), text(value)?)))
            .collect(),
        body: text(&request["body"]),
        recorded: Told {
            status: response["status"]
                .as_u64()
                .and_then(|status| u16::try_from(status).ok())
                .expect("a status"),
            headers: headers_of(
                pairs
                    .iter()
                    .filter_map(|pair| Some((pair[0].as_str()?, pair[1].as_str()?))),
            ),
            body,
        },
    }
}

/// A server to send the scenario to.
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// Trusts this certificate; `None` speaks plain HTTP.
    pub ca_file: Option<PathBuf>,
    /// Stands before `/batches`.
    pub base: String,
    /// What stood there when it was recorded.
    pub recorded_base: &'static str,
    /// User and password.
    pub login: Option<(String, String)>,
    /// What the recording calls something, and what it is called here: folders, arguments.
    pub words: Vec<(String, String)>,
}

impl Target {
    fn send(&self, request: &Request<'_>) -> Reply {
        let tcp = TcpStream::connect(self.address).expect("the server listens");
        tcp.set_read_timeout(Some(PATIENCE)).expect("is a socket");
        match &self.ca_file {
            None => exchange(tcp, &request.to_bytes()),
            Some(ca_file) => exchange(over_tls(tcp, tls_config(ca_file, &[])), &request.to_bytes()),
        }
    }

    /// Sends the whole script; returns an answer per step.
    pub fn play(&self, script: &[Step]) -> Vec<Told> {
        let mut ids: Vec<(String, String)> = Vec::new();
        script
            .iter()
            .map(|step| {
                let told = self.take(step, &ids);
                if step.method == "POST" {
                    let id = |told: &Told| match told.json("id") {
                        Value::Number(number) => Some(number.to_string()),
                        Value::String(text) => Some(text.clone()),
                        _ => None,
                    };
                    ids.extend(id(&step.recorded).zip(id(&told)));
                }
                told
            })
            .collect()
    }

    fn take(&self, step: &Step, ids: &[(String, String)]) -> Told {
        let path = step
            .path
            .strip_prefix(self.recorded_base)
            .unwrap_or_else(|| panic!("{}: {}", step.name, step.path));
        let parts: Vec<String> = path
            .split('/')
            .map(|part| {
                let (key, query) = part.split_at(part.find('?').unwrap_or(part.len()));
                ids.iter()
                    .find(|(recorded, _)| recorded == key)
                    .map_or_else(|| part.to_owned(), |(_, ours)| format!("{ours}{query}"))
            })
            .collect();
        let path = format!("{}{}", self.base, parts.join("/"));
        let translate = |text: &String| {
            self.words
                .iter()
                .chain(ids.iter().filter(|(id, _)| id.len() > 8))
                .fold(text.clone(), |text, (from, to)| text.replace(from, to))
        };
        let mut request = Request {
            method: &step.method,
            path: &path,
            headers: step.headers.clone(),
            body: step.body.as_ref().map(translate).map(String::into_bytes),
        };
        let kind = step.name.split_once('-').map_or("", |(_, kind)| kind);
        request = match (&self.login, kind) {
            (_, "no-auth") => request,
            (_, "bearer") => request.bearer("x.y.z"),
            (_, "negotiate") => request.header("Authorization", "Negotiate abc"),
            (Some((user, _)), "wrong-password") => request.basic((user, "not-the-password")),
            (Some((_, password)), "other-user-get" | "other-user-delete") => {
                request.basic(("zed", password))
            }
            (Some((user, password)), _) => request.basic((user, password)),
            (None, _) => request,
        };
        let wanted = step
            .recorded
            .json("state")
            .as_str()
            .filter(|_| step.method == "GET")
            .map(str::to_owned);
        let until = Instant::now() + PATIENCE;
        loop {
            let told = Told::of(&self.send(&request), &self.words);
            let there = wanted
                .as_ref()
                .is_none_or(|wanted| told.json("state") == wanted.as_str() || told.status != 200);
            if there || Instant::now() > until {
                return told;
            }
            std::thread::yield_now();
        }
    }
}

/// Returns what was recorded.
pub fn recorded(script: &[Step]) -> Vec<Told> {
    script.iter().map(|step| step.recorded.clone()).collect()
}

/// A difference that has a reason: the step (or `*`), the place (a part of it suffices), why.
pub type Known = (&'static str, &'static str, &'static str);

/// The double plays a Kyuubi on YARN with a login; the one that was recorded ran Spark in its own
/// process and asked nobody.
pub const KYUUBI_DOUBLE: [Known; 6] = [
    (
        "get-finished",
        "body.appId",
        "a local application is forgotten when it ends",
    ),
    ("no-auth", "", "the double wants a login"),
    (
        "delete-running",
        "body.msg",
        "behind its first words stands the server's own command line",
    ),
    ("delete-again", "body.msg", "the server's own record"),
    (
        "other-user-delete",
        "body.msg",
        "behind its first words stands the server's own command line",
    ),
    ("proxy-user-delete", "body.msg", "the server's own record"),
];

/// Knox's page for a body that it can't read is compared, the Java reader's own words in it are
/// not.
pub const KNOX_DOUBLE: [Known; 7] = [
    ("malformed", "body.message", "its words"),
    ("array-body", "body.message", "its words"),
    ("empty-body", "body.message", "its words"),
    ("form", "body.message", "its words"),
    ("null-body", "body.message", "its words"),
    ("text-body", "body.message", "its words"),
    ("trailing-junk", "body.message", "its words"),
];

/// Compares answers by shape; returns each difference that is not known.
pub fn differences(
    script: &[Step],
    real: &[Told],
    double: &[Told],
    known: &[Known],
) -> Vec<String> {
    let mut found = Vec::new();
    for ((step, real), double) in script.iter().zip(real).zip(double) {
        let (real_shape, double_shape) = (real.shape(), double.shape());
        let places: std::collections::BTreeSet<&String> =
            real_shape.keys().chain(double_shape.keys()).collect();
        for place in places {
            let (one, other) = (real_shape.get(place), double_shape.get(place));
            let excused = known.iter().any(|(name, end, _)| {
                (*name == "*" || step.name.ends_with(name)) && place.contains(end)
            });
            if one != other && !excused {
                let show =
                    |side: Option<&String>| side.map_or_else(|| "nothing".to_owned(), Clone::clone);
                found.push(format!(
                    "{}: {} {}: {place}: real {}, double {}",
                    step.name,
                    step.method,
                    step.path,
                    show(one),
                    show(other)
                ));
            }
        }
    }
    found
}

/// Fails with a list of what differs.
#[track_caller]
pub fn assert_alike(script: &[Step], real: &[Told], double: &[Told], known: &[Known]) {
    let found = differences(script, real, double, known);
    assert!(
        found.is_empty(),
        "{} differences:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn a_difference_is_found_and_named() {
    use serde_json::json;

    let step = |status, body: Value| {
        let told = Told {
            status,
            headers: BTreeMap::from([("content-type".into(), "application/json".into())]),
            body: Body::Json(body),
        };
        Step {
            name: "01-x".into(),
            method: "GET".into(),
            path: "/x".into(),
            headers: Vec::new(),
            body: None,
            recorded: told,
        }
    };
    let script = [step(
        200,
        json!({"id": 1, "log": ["a"], "msg": "Session '7' not found."}),
    )];
    let alike = [step(
        200,
        json!({"id": 2, "log": ["b", "c"], "msg": "Session '12' not found."}),
    )];
    assert_alike(&script, &recorded(&script), &recorded(&alike), &[]);
    let other = [step(
        404,
        json!({"id": "1", "log": [], "msg": "Batch '7' not found."}),
    )];
    let found = differences(
        &script,
        &recorded(&script),
        &recorded(&other),
        &[("*", "body.log[]", "a list may be empty")],
    );
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(
        found
            .iter()
            .any(|line| line.contains("body.id: real integer, double text")),
        "{found:#?}"
    );
}
