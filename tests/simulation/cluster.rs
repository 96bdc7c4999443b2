//! How each kind of cluster answers: in the words that its dialect proves things by. Livy with
//! unique names and ids that it counts, Kyuubi with ids that the client chooses, IBM with a list
//! that names nothing.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use livy_dialect::{BatchState, Flavor, ibm};
use livy_gateway::fleet::Answer;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::world::{Books, Job, Tag, World};

/// A request as a cluster reads it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Option<Map<String, Value>>,
}

/// A submission as it arrived.
#[derive(Clone, Debug, Default)]
pub(crate) struct Submitted {
    pub(crate) tag: Option<Tag>,
    pub(crate) name: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) user: Option<String>,
}

impl Submitted {
    pub(crate) fn read(flavor: Flavor, body: &Map<String, Value>) -> Submitted {
        let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
        let conf = |key: &str| {
            body.get("conf")
                .and_then(|conf| conf.get(key))
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let tag = body
            .get("args")
            .and_then(|args| args.get(0))
            .and_then(Value::as_str);
        let tag = tag.and_then(|text| text.strip_prefix("tag-")?.parse().ok());
        let (key, user) = match flavor {
            Flavor::Kyuubi => (conf("kyuubi.batch.id"), conf("kyuubi.session.proxy.user")),
            Flavor::Ibm => (conf(ibm::MARKER), None),
            _ => (None, text("proxyUser")),
        };
        Submitted {
            tag,
            name: text("name"),
            key,
            user,
        }
    }
}

fn answer(status: u16, body: &Value) -> Answer {
    Answer {
        status,
        content_type: Some("application/json".into()),
        body: Bytes::from(body.to_string()),
    }
}

/// Answers as the cluster's own software does.
pub(crate) fn answer_request(world: &World, cluster: &str, asked: &Asked) -> Answer {
    let now = Instant::now();
    let mut books = world.books();
    books.collect(cluster, now);
    let Some(flavor) = books.clusters.get(cluster).map(|cluster| cluster.flavor) else {
        return answer(404, &json!({}));
    };
    let at = Place {
        world,
        cluster,
        now,
        flavor,
        blind: books.clusters[cluster].blind_until > now,
    };
    match flavor {
        Flavor::Kyuubi => at.kyuubi(&mut books, asked),
        Flavor::Ibm => at.ibm(&mut books, asked),
        _ => at.livy(&mut books, asked),
    }
}

struct Place<'a> {
    world: &'a World,
    cluster: &'a str,
    now: Instant,
    flavor: Flavor,
    blind: bool,
}

impl Place<'_> {
    fn known(&self, books: &Books) -> Vec<usize> {
        if self.blind {
            Vec::new()
        } else {
            let mut known = books.known(self.cluster);
            known.retain(|at| !books.jobs[*at].is_hidden(self.now));
            known
        }
    }

    fn window(&self, books: &Books, query: &str) -> Vec<usize> {
        let number = |name: &str, default: usize| {
            let of = query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            of.and_then(|text| text.parse().ok()).unwrap_or(default)
        };
        self.known(books)
            .into_iter()
            .skip(number("from", 0))
            .take(number("size", 100))
            .collect()
    }

    fn add(&self, books: &mut Books, submitted: &Submitted, ghost: bool) -> usize {
        let at = books.jobs.len();
        let place = books.clusters.get_mut(self.cluster).map(|cluster| {
            cluster.next += 1;
            cluster.next - 1
        });
        let id = match self.flavor {
            Flavor::Kyuubi => submitted
                .key
                .clone()
                .unwrap_or_else(|| format!("ffffffff-0000-4000-8000-{at:012}")),
            _ => place.unwrap_or(0).to_string(),
        };
        let whose = submitted
            .tag
            .map_or_else(|| format!("foreign-{at}"), |tag| format!("tag-{tag}"));
        let mut chance = self.world.chance(&format!("job/{}/{whose}", self.cluster));
        let runs = match chance.within(0..10) {
            0..=2 => chance.within(1..20),
            3..=7 => chance.within(20..120),
            _ => chance.within(120..250),
        };
        books.jobs.push(Job {
            cluster: self.cluster.to_owned(),
            id: id.clone(),
            tag: submitted.tag,
            name: submitted.name.clone(),
            user: submitted.user.clone(),
            key: submitted.key.clone(),
            born: self.now,
            starts: Duration::from_millis(chance.within(200..8000)),
            runs: Duration::from_secs(runs),
            fails: chance.percent(20),
            stopped: None,
            deleted: Vec::new(),
            ghost,
            stillborn: false,
            forgotten: None,
            lost_in_restart: false,
            hidden: self.hidden(&whose),
            app_id: format!("application_1_{at:04}"),
        });
        self.world.tell(|| {
            format!(
                "{} creates {id} {:?} ghost: {ghost}",
                self.cluster, submitted
            )
        });
        at
    }

    /// Now and then a cluster says of a job for a moment that it does not know it, and again a
    /// while later: once is no proof, and twice is no silence.
    fn hidden(&self, whose: &str) -> Vec<(Instant, Instant)> {
        let mut chance = self
            .world
            .chance(&format!("hidden/{}/{whose}", self.cluster));
        // What IBM's list does not show for a moment is new the next time.
        if self.flavor == Flavor::Ibm || !chance.percent(25) {
            return Vec::new();
        }
        let moment = |nth: u64| {
            let from = self.now + Duration::from_millis(nth * 45_000 + chance.within(2000..12_000));
            (from, from + Duration::from_millis(chance.within(500..3000)))
        };
        (0..4).map(moment).collect()
    }

    fn delete(&self, books: &mut Books, at: usize) {
        books.delete(at, self.now);
        self.world.tell(|| {
            format!(
                "{} deletes {} {:?}",
                self.cluster, books.jobs[at].id, books.jobs[at].tag
            )
        });
    }

    fn livy(&self, books: &mut Books, asked: &Asked) -> Answer {
        let parts: Vec<&str> = asked
            .path
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        let message = |status, text: String| answer(status, &json!({"msg": text}));
        match (asked.method.as_str(), parts.as_slice()) {
            ("GET", ["batches"]) => {
                let sessions: Vec<Value> = self
                    .window(books, &asked.query)
                    .into_iter()
                    .map(|at| self.livy_item(books, &books.jobs[at]))
                    .collect();
                answer(
                    200,
                    &json!({"from": 0, "total": self.known(books).len(), "sessions": sessions}),
                )
            }
            ("POST", ["batches"]) => self.livy_create(books, asked),
            (method, ["batches", key, rest @ ..]) => {
                let fits = |at: &usize| {
                    books.jobs[*at].id == *key || books.jobs[*at].name.as_deref() == Some(*key)
                };
                let Some(at) = self.known(books).into_iter().find(fits) else {
                    return message(404, format!("Session '{key}' not found."));
                };
                let item = self.livy_item(books, &books.jobs[at]);
                match (method, rest) {
                    ("GET", []) => answer(200, &item),
                    ("GET", ["state"]) => {
                        answer(200, &json!({"id": item["id"], "state": item["state"]}))
                    }
                    ("GET", ["log"]) => answer(
                        200,
                        &json!({"id": item["id"], "from": 0, "total": 1, "log": item["log"]}),
                    ),
                    ("DELETE", []) => {
                        self.delete(books, at);
                        books.jobs[at].forgotten = Some(self.now);
                        message(200, "deleted".into())
                    }
                    _ => answer(405, &json!({})),
                }
            }
            _ => answer(404, &json!({})),
        }
    }

    fn livy_item(&self, books: &Books, job: &Job) -> Value {
        let own_account = books.clusters[self.cluster].own_account;
        let user = if own_account {
            Some("svc")
        } else {
            job.user.as_deref()
        };
        let state = match job.state(self.now) {
            BatchState::Killed => "killed",
            other => other.as_str(),
        };
        let log = if job.ghost {
            json!([])
        } else {
            json!(["stdout: ", "line"])
        };
        json!({"id": job.id.parse::<i64>().unwrap_or(0), "name": job.name, "owner": null, "proxyUser": user, "state": state,
            "appId": job.shown_app_id(self.now), "appInfo": {"driverLogUrl": null, "sparkUiUrl": null}, "log": log})
    }

    fn livy_create(&self, books: &mut Books, asked: &Asked) -> Answer {
        let Some(body) = &asked.body else {
            return answer(400, &json!("No content"));
        };
        let submitted = Submitted::read(self.flavor, body);
        if let Some(name) = &submitted.name
            // Also while it does not show them yet: names stay taken.
            && books
                .known(self.cluster)
                .iter()
                .any(|at| books.jobs[*at].name.as_ref() == Some(name))
        {
            return answer(
                400,
                &json!({"msg": format!("Duplicate session name: Some({name}) for session 0")}),
            );
        }
        match self.refuses(&submitted) {
            Some(0) => {
                return answer(
                    400,
                    &json!({"msg": "Rejected, too many sessions are being created!"}),
                );
            }
            Some(_) => {
                self.add(books, &submitted, true);
                return answer(
                    400,
                    &json!({"msg": "requirement failed: Local path /x cannot be added to user sessions."}),
                );
            }
            None => {}
        }
        let at = self.add(books, &submitted, false);
        answer(201, &self.livy_item(books, &books.jobs[at]))
    }

    /// Now and then a cluster refuses by itself; which way is drawn.
    fn refuses(&self, submitted: &Submitted) -> Option<u64> {
        let tag = submitted.tag?;
        let mut chance = self
            .world
            .chance(&format!("refusal/{}/{tag}", self.cluster));
        chance.percent(6).then(|| chance.within(0..2))
    }

    fn kyuubi(&self, books: &mut Books, asked: &Asked) -> Answer {
        let parts: Vec<&str> = asked
            .path
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        let message = |status, text: String| answer(status, &json!({"message": text}));
        match (asked.method.as_str(), parts.as_slice()) {
            ("GET", ["version"]) => answer(200, &json!({"version": "1.12.0"})),
            ("GET", ["batches"]) => {
                let batches: Vec<Value> = self
                    .window(books, &asked.query)
                    .into_iter()
                    .map(|at| self.kyuubi_item(&books.jobs[at]))
                    .collect();
                answer(
                    200,
                    &json!({"from": 0, "total": batches.len(), "batches": batches}),
                )
            }
            ("POST", ["batches"]) => {
                let Some(body) = &asked.body else {
                    return message(500, "no body".into());
                };
                let submitted = Submitted::read(self.flavor, body);
                let same = books
                    .known(self.cluster)
                    .into_iter()
                    .find(|at| Some(&books.jobs[*at].id) == submitted.key.as_ref());
                if let Some(at) = same {
                    let mut item = self.kyuubi_item(&books.jobs[at]);
                    item["batchInfo"] = json!({"kyuubi.batch.duplicated": "true"});
                    return answer(200, &item);
                }
                match self.refuses(&submitted) {
                    Some(0) => return message(500, "Connection limit per user reached".into()),
                    // Refused late: a row is left that never ran.
                    Some(_) => {
                        let at = self.add(books, &submitted, false);
                        let job = &mut books.jobs[at];
                        (job.starts, job.runs, job.fails, job.stillborn) =
                            (Duration::ZERO, Duration::ZERO, true, true);
                        return message(
                            500,
                            "java.util.concurrent.RejectedExecutionException".into(),
                        );
                    }
                    None => {}
                }
                let at = self.add(books, &submitted, false);
                answer(200, &self.kyuubi_item(&books.jobs[at]))
            }
            (method, ["batches", id]) => {
                let Some(at) = self
                    .known(books)
                    .into_iter()
                    .find(|at| books.jobs[*at].id == *id)
                else {
                    return message(404, format!("Invalid batchId: {id}"));
                };
                match method {
                    "GET" => answer(200, &self.kyuubi_item(&books.jobs[at])),
                    "DELETE" => {
                        let alive = books.jobs[at].is_alive(self.now);
                        self.delete(books, at);
                        answer(200, &json!({"success": alive, "msg": "x"}))
                    }
                    _ => message(405, "HTTP 405 Method Not Allowed".into()),
                }
            }
            _ => message(404, "HTTP 404 Not Found".into()),
        }
    }

    fn kyuubi_item(&self, job: &Job) -> Value {
        let (state, app_state) = match job.state(self.now) {
            _ if job.stillborn => ("ERROR", None),
            BatchState::Starting => ("PENDING", None),
            BatchState::Running => ("RUNNING", Some("RUNNING")),
            BatchState::Success => ("FINISHED", Some("FINISHED")),
            BatchState::Dead | BatchState::Error => ("ERROR", Some("FAILED")),
            BatchState::Killed => ("CANCELED", Some("KILLED")),
        };
        json!({"id": job.id, "user": job.user, "batchType": "PYSPARK", "name": job.name, "appId": job.shown_app_id(self.now), "appUrl": null,
            "appState": app_state, "appDiagnostic": null, "state": state, "batchInfo": {}})
    }

    fn ibm(&self, books: &mut Books, asked: &Asked) -> Answer {
        let parts: Vec<&str> = asked
            .path
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        let error = |status, text: &str| {
            answer(
                status,
                &json!({"errors": [{"code": "c", "message": text}], "trace": "t"}),
            )
        };
        match (asked.method.as_str(), parts.as_slice()) {
            ("GET", ["spark_applications", rest @ ..])
                if books.clusters[self.cluster].applications =>
            {
                let details = |job: &Job| {
                    json!({"id": format!("x{}", job.app_id), "spark_application_id": job.app_id,
                        "application_details": {"conf": {ibm::MARKER: job.key}}})
                };
                let known = self.known(books);
                match rest {
                    [] => {
                        let all: Vec<Value> = known
                            .into_iter()
                            .map(|at| details(&books.jobs[at]))
                            .collect();
                        answer(200, &json!({"applications": all}))
                    }
                    [id, ..] => match known
                        .into_iter()
                        .find(|at| format!("x{}", books.jobs[*at].app_id) == *id)
                    {
                        Some(at) => answer(200, &details(&books.jobs[at])),
                        None => error(404, "not found"),
                    },
                }
            }
            ("GET", ["batches"]) => {
                let sessions: Vec<Value> = self
                    .known(books)
                    .into_iter()
                    .map(|at| self.ibm_item(&books.jobs[at]))
                    .collect();
                answer(
                    200,
                    &json!({"from": 0, "sessions": sessions, "total": sessions.len()}),
                )
            }
            ("POST", ["batches"]) => {
                let Some(body) = &asked.body else {
                    return error(400, "no body");
                };
                let submitted = Submitted::read(self.flavor, body);
                if self.refuses(&submitted).is_some() {
                    return error(400, "refused");
                }
                let at = self.add(books, &submitted, false);
                answer(
                    201,
                    &json!({"id": books.jobs[at].id.parse::<i64>().unwrap_or(0), "app_info": {}, "state": "not_started"}),
                )
            }
            (method, ["batches", id, rest @ ..]) => {
                let Some(at) = self
                    .known(books)
                    .into_iter()
                    .find(|at| books.jobs[*at].id == *id)
                else {
                    return error(404, "no such batch");
                };
                match (method, rest) {
                    ("GET", _) => answer(200, &self.ibm_item(&books.jobs[at])),
                    ("DELETE", []) => {
                        self.delete(books, at);
                        answer(200, &json!({"msg": "deleted"}))
                    }
                    _ => error(405, "no"),
                }
            }
            _ => error(404, "The resource was not found."),
        }
    }

    fn ibm_item(&self, job: &Job) -> Value {
        json!({"id": job.id.parse::<i64>().unwrap_or(0), "appId": job.shown_app_id(self.now), "appInfo": {"sparkUiUrl": null},
            "state": job.state(self.now).as_str()})
    }
}

/// Creates a job directly on a cluster; one whose name is taken there is not created.
pub(crate) fn create_foreign(
    world: &World,
    cluster: &str,
    name: Option<String>,
    user: Option<String>,
) {
    let now = Instant::now();
    let mut books = world.books();
    let Some((flavor, down)) = books
        .clusters
        .get(cluster)
        .map(|of| (of.flavor, of.down_until.max(of.blind_until) > now))
    else {
        return;
    };
    let taken = name.is_some()
        && books
            .known(cluster)
            .iter()
            .any(|at| books.jobs[*at].name == name);
    if down || (taken && flavor == Flavor::Livy) {
        return;
    }
    let at = Place {
        world,
        cluster,
        now,
        flavor,
        blind: false,
    };
    let user = if flavor == Flavor::Ibm { None } else { user };
    at.add(
        &mut books,
        &Submitted {
            name,
            user,
            ..Submitted::default()
        },
        false,
    );
}
