//! How one cell is played: a batch where one is needed, the fault, the operation, and a look at
//! everything afterwards.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cell::{Cell, Fault, Operation};
use crate::expected::Outcome;
use testkit::fault_proxy::{Action, Door, FaultProxy, Seen};
use testkit::keeper::Keeper;
use testkit::{ALICE, Clusters, Reply, Request};

const PATIENCE: Duration = Duration::from_secs(40);
/// How long a cell may take, after its answer, to come to rest.
const REST: Duration = Duration::from_secs(20);
/// The same for a batch whose kill was not confirmed: a gateway does not believe for half a minute
/// that a cluster has lost it.
const REST_AFTER_KILL: Duration = Duration::from_secs(45);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// A simulated cluster, the proxy before it, and what it is called in the gateway.
pub(crate) struct Place<'a> {
    pub(crate) name: String,
    pub(crate) clusters: &'a Clusters,
    pub(crate) proxy: FaultProxy,
    faults: Arc<Mutex<HashMap<String, Planned>>>,
}

/// A fault that waits for its request.
struct Planned {
    operation: Operation,
    action: Action,
    /// What the request has in its path; a create has the tag in its body.
    keys: Vec<String>,
    /// How often it was met.
    met: usize,
}

impl Planned {
    fn fits(&self, tag: &str, seen: &Seen) -> bool {
        let mut segments = seen.path.split(['/', '?']);
        match (self.operation, seen.operation()) {
            // Only the first one: what is sent again gets through.
            (Operation::Create, "create_batch") => {
                self.met == 0 && seen.body.contains(&format!("\"{tag}\""))
            }
            // Nothing in a list's request says whose it is. A Livy's health is asked for by a list
            // of no rows: that is not about it.
            (Operation::List, "list_batches") => !seen.path.contains("size=0"),
            (Operation::Delete, "delete_batch") => {
                segments.any(|part| self.keys.iter().any(|key| key == part))
            }
            // A look that fails may be tried in another way: it must fail as well.
            (
                Operation::Get | Operation::State | Operation::Log,
                "get_batch" | "get_state" | "get_log",
            ) => segments.any(|part| self.keys.iter().any(|key| key == part)),
            _ => false,
        }
    }
}

impl<'a> Place<'a> {
    pub(crate) fn new(name: String, clusters: &'a Clusters) -> Place<'a> {
        let place = Place {
            name,
            clusters,
            proxy: FaultProxy::start(clusters.address),
            faults: Arc::default(),
        };
        let faults = place.faults.clone();
        place.proxy.set(move |seen| {
            let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
            match faults
                .iter_mut()
                .find(|(tag, planned)| planned.fits(tag, seen))
            {
                Some((_, planned)) => {
                    planned.met += 1;
                    planned.action.clone()
                }
                None => Action::Pass,
            }
        });
        place
    }

    fn plan(&self, cell: &Cell, keys: Vec<String>) {
        match &cell.fault {
            Fault::Refused => self.proxy.door(Door::Closed),
            Fault::Done(action) => {
                let planned = Planned {
                    operation: cell.operation,
                    action: action.clone(),
                    keys,
                    met: 0,
                };
                self.faults
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(cell.tag.clone(), planned);
            }
        }
    }

    /// Tells whether a request met the fault of a cell.
    fn is_met(&self, cell: &Cell) -> bool {
        self.faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&cell.tag)
            .is_some_and(|planned| planned.met > 0)
    }

    /// Ends the fault of a cell; returns whether a request met it.
    fn heal(&self, cell: &Cell) -> bool {
        if cell.fault == Fault::Refused {
            self.proxy.door(Door::Open);
            return true;
        }
        let planned = self
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&cell.tag);
        planned.is_some_and(|planned| planned.met > 0)
    }
}

/// What came of a cell.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    pub(crate) outcome: Outcome,
    /// Whether a request met the fault at all.
    pub(crate) met: bool,
    /// What was told and seen, for the report.
    pub(crate) story: Vec<String>,
}

struct Player<'a> {
    cell: &'a Cell,
    place: &'a Place<'a>,
    gateway: &'a Keeper,
    began: Instant,
    story: Vec<String>,
}

pub(crate) fn play(cell: &Cell, place: &Place<'_>, gateway: &Keeper) -> Played {
    let mut player = Player {
        cell,
        place,
        gateway,
        began: Instant::now(),
        story: Vec::new(),
    };
    let (outcome, met) = match cell.operation {
        Operation::Create => player.create(),
        Operation::Delete => player.delete(),
        _ => player.look(),
    };
    player.tell_jobs();
    Played {
        outcome,
        met,
        story: player.story,
    }
}

/// Returns the jobs of a cell in a cluster's books.
pub(crate) fn jobs_of<'a>(books: &'a [Value], tag: &str) -> impl Iterator<Item = &'a Value> {
    books
        .iter()
        .filter(move |job| job["args"][2] == *tag && job["ghost"] == false)
}

pub(crate) fn is_alive(job: &Value) -> bool {
    job["killed"].is_null() && (job["state"] == "starting" || job["state"] == "running")
}

impl Player<'_> {
    fn tell(&mut self, line: &str) {
        let text: String = line.chars().take(500).collect();
        self.story
            .push(format!("{:7.3} {text}", self.began.elapsed().as_secs_f64()));
    }

    fn tell_jobs(&mut self) {
        let jobs = self.jobs();
        if jobs.is_empty() {
            self.tell("books: no job");
        }
        for job in jobs {
            self.tell(&format!(
                "books: id {}, {}, killed {}, deleted by {}",
                job["id"], job["state"], job["killed"], job["deleted_by"]
            ));
        }
    }

    fn ask(&mut self, request: &Request<'_>, what: &str) -> Option<Reply> {
        let request = request
            .clone()
            .basic(ALICE)
            .header("X-Request-Id", &format!("{}-{what}", self.cell.tag));
        let reply = self.gateway.ask(&request, PATIENCE);
        let told = reply.as_ref().map_or_else(
            || "no answer".to_owned(),
            |reply| {
                let stale = if reply.header("x-livy-gateway-stale").is_some() {
                    " (stale)"
                } else {
                    ""
                };
                format!("{}{stale} {}", reply.status, reply.text())
            },
        );
        self.tell(&format!(
            "{} {} ({what}): {told}",
            request.method, request.path
        ));
        reply
    }

    fn get(&mut self, path: &str, what: &str) -> Option<Reply> {
        self.ask(&Request::get(path), what)
    }

    fn post(&mut self, what: &str) -> Option<Reply> {
        let body = json!({"file": self.cell.file, "args": ["900", "ok", self.cell.tag]});
        let path = format!("/clusters/{}/batches", self.place.name);
        self.ask_the_living(&Request::post(&path, &body), what)
    }

    fn jobs(&self) -> Vec<Value> {
        jobs_of(&self.place.clusters.books(self.cell.flavor), &self.cell.tag)
            .cloned()
            .collect()
    }

    fn alive(&self) -> usize {
        self.jobs().iter().filter(|job| is_alive(job)).count()
    }

    /// Asks until the request meets its fault. The fault of a cell before may have made the cluster
    /// look dead, and then nobody asks it: the answer is 503, or it is old.
    fn ask_the_living(&mut self, request: &Request<'_>, what: &str) -> Option<Reply> {
        let until = Instant::now() + REST;
        loop {
            let reply = self.ask(request, what)?;
            let looks_dead = reply.status == 503 || reply.header("x-livy-gateway-stale").is_some();
            if !looks_dead
                || (self.cell.fault == Fault::Refused && what == "fault")
                || self.place.is_met(self.cell)
                || Instant::now() > until
            {
                return Some(reply);
            }
            self.story.pop();
            std::thread::sleep(PAUSE);
        }
    }

    /// Makes a batch that runs, and was seen running. Returns its id, and what a request to the
    /// cluster may call it.
    fn batch(&mut self) -> Option<(i64, Vec<String>)> {
        let id = self.post("made")?.json()["id"].as_i64()?;
        let until = Instant::now() + REST;
        loop {
            let quiet = self.story.len();
            let shown = self.get(&format!("/batches/{id}"), "made")?;
            if shown.json()["state"] == "running" {
                let job = self.jobs().into_iter().next()?;
                let words = [&job["name"], &job["uuid"]]
                    .into_iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned);
                return Some((id, words.chain([job["id"].to_string()]).collect()));
            }
            if Instant::now() > until {
                return None;
            }
            self.story.truncate(quiet);
            std::thread::sleep(PAUSE);
        }
    }

    fn create(&mut self) -> (Outcome, bool) {
        self.place.plan(self.cell, Vec::new());
        let reply = self.post("fault");
        let met = self.place.heal(self.cell);
        let Some(reply) = reply else {
            return (Outcome::Wrong, met);
        };
        let until = Instant::now() + REST;
        let mut outcome = self.created(&reply);
        // What was told is told; what is so may take its time. A request that is held must have
        // arrived before anything is final.
        while (outcome == Outcome::Wrong || !self.has_arrived()) && Instant::now() < until {
            std::thread::sleep(PAUSE);
            let quiet = self.story.len();
            outcome = self.created(&reply);
            self.story.truncate(quiet);
        }
        (self.created(&reply), met)
    }

    /// Tells whether what the proxy holds of this cell has reached the cluster.
    fn has_arrived(&self) -> bool {
        let mine = |body: &str| body.contains(&format!("\"{}\"", self.cell.tag));
        let records = self.place.proxy.records();
        records
            .iter()
            .filter(|record| mine(&record.seen.body) && record.action.passes_on())
            .all(|record| record.answered.is_some())
    }

    fn created(&mut self, reply: &Reply) -> Outcome {
        if reply.status != 201 {
            // 502 `submission_unknown` is a guess that was not asked for.
            let unknown = reply.text().contains("submission_unknown");
            return match self.alive() {
                0 if !unknown => Outcome::RefusedAndNothingRuns,
                1 if !unknown => Outcome::RefusedAndCameLate,
                _ => Outcome::Wrong,
            };
        }
        let Some(id) = reply.json()["id"].as_i64() else {
            return Outcome::Wrong;
        };
        let Some(shown) = self.get(&format!("/batches/{id}"), "after") else {
            return Outcome::Wrong;
        };
        let alive = self.alive();
        if shown.status != 200 {
            return Outcome::Wrong;
        }
        let shown_json = shown.json();
        let says_why = shown_json["appInfo"]["gatewayReason"].is_string();
        match (shown_json["state"].as_str(), alive) {
            (Some("running"), 1) if shown.header("x-livy-gateway-upstream-id").is_some() => {
                Outcome::CreatedAndRunsOnce
            }
            (Some("starting"), 0 | 1) if says_why => Outcome::CreatedAndOpen,
            (Some("error"), 0) if says_why => Outcome::CreatedAndEndedSayingWhy,
            (Some("error"), 1) if says_why => Outcome::CreatedAndNobodyKnows,
            _ => Outcome::Wrong,
        }
    }

    fn look(&mut self) -> (Outcome, bool) {
        let Some((id, keys)) = self.batch() else {
            return (Outcome::Wrong, false);
        };
        let path = match self.cell.operation {
            Operation::Get => format!("/batches/{id}"),
            Operation::State => format!("/batches/{id}/state"),
            Operation::Log => format!("/batches/{id}/log?size=-1"),
            _ => format!("/clusters/{}/batches?size=100000", self.place.name),
        };
        // What is known last must be known: it is looked at once without a fault.
        let before = self.ask_the_living(&Request::get(&path), "before");
        self.place.plan(self.cell, keys);
        let reply = self.ask_the_living(&Request::get(&path), "fault");
        let met = self.place.heal(self.cell);
        let right = |player: &Self, reply: &Option<Reply>| {
            reply
                .as_ref()
                .is_some_and(|reply| player.is_right(id, reply))
        };
        let told = right(self, &before) && right(self, &reply);
        // A fault leaves nothing behind.
        let until = Instant::now() + REST;
        let healed = loop {
            let quiet = self.story.len();
            let state = self.get(&format!("/batches/{id}/state"), "after");
            if let Some(reply) = &state
                && reply.status == 200
                && reply.json()["state"] == "running"
                && reply.header("x-livy-gateway-stale").is_none()
            {
                break true;
            }
            // An end is final: more patience brings nothing.
            let ended =
                state.is_none_or(|reply| reply.status != 200 || reply.json()["state"] != "running");
            if ended || Instant::now() > until {
                break false;
            }
            self.story.truncate(quiet);
            std::thread::sleep(PAUSE);
        };
        let stale = reply.is_some_and(|reply| reply.header("x-livy-gateway-stale") == Some("true"));
        match (told && healed && self.alive() == 1, stale) {
            (true, true) => (Outcome::StaleAndRight, met),
            (true, false) => (Outcome::FreshAndRight, met),
            (false, _) => (Outcome::Wrong, met),
        }
    }

    /// Tells whether an answer says what is so of the batch.
    fn is_right(&self, id: i64, reply: &Reply) -> bool {
        if reply.status != 200 {
            return false;
        }
        let shown = reply.json();
        match self.cell.operation {
            Operation::Log => {
                shown["id"] == id && shown["log"].as_array().is_some_and(|log| !log.is_empty())
            }
            Operation::List => {
                let sessions = shown["sessions"].as_array().cloned().unwrap_or_default();
                sessions
                    .iter()
                    .filter(|session| session["id"] == id)
                    .all(|session| session["state"] == "running")
                    && sessions
                        .iter()
                        .filter(|session| session["id"] == id)
                        .count()
                        == 1
            }
            _ => shown["id"] == id && shown["state"] == "running",
        }
    }

    fn delete(&mut self) -> (Outcome, bool) {
        let Some((id, keys)) = self.batch() else {
            return (Outcome::Wrong, false);
        };
        let path = format!("/batches/{id}");
        let request = Request {
            method: "DELETE",
            ..Request::get(&path)
        };
        self.place.plan(self.cell, keys);
        let reply = self.ask_the_living(&request, "fault");
        let met = self.place.heal(self.cell);
        let Some(reply) = reply else {
            return (Outcome::Wrong, met);
        };
        let until = Instant::now() + REST_AFTER_KILL;
        let mut outcome = self.deleted(&path, reply.status);
        while outcome == Outcome::Wrong
            && Instant::now() < until
            && (reply.status == 502 || reply.status == 503)
        {
            std::thread::sleep(PAUSE);
            let quiet = self.story.len();
            outcome = self.deleted(&path, reply.status);
            self.story.truncate(quiet);
        }
        if outcome == Outcome::NotDeletedAndRuns {
            // 404: the kill that was remembered came first.
            let again = self.ask_the_living(&request, "again");
            let is_gone = again.is_some_and(|reply| matches!(reply.status, 200 | 404));
            if !is_gone || self.alive() > 0 {
                return (Outcome::Wrong, met);
            }
        }
        (outcome, met)
    }

    fn deleted(&mut self, path: &str, status: u16) -> Outcome {
        let shown = self.get(path, "after");
        let alive = self.alive();
        let state = shown
            .as_ref()
            .filter(|shown| shown.status == 200)
            .and_then(|shown| shown.json()["state"].as_str().map(str::to_owned));
        let gone = shown.is_some_and(|shown| shown.status == 404);
        match (status, alive, state.as_deref()) {
            (200, 0, None) if gone => Outcome::DeletedAndDead,
            (502 | 503, 1, Some("running")) => Outcome::NotDeletedAndRuns,
            (502 | 503, 0, Some("killed" | "error" | "dead")) => Outcome::NotDeletedAndDead,
            (502 | 503, 0, None) if gone => Outcome::NotDeletedAndDead,
            _ => Outcome::Wrong,
        }
    }
}
