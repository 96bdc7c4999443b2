//! The judgement: what clients were told, what the gateway shows now, and what the clusters' books
//! say must be one story.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::submission::{ENDS, Manners, Outcome, Submission, Wrong};
use crate::world::{Lane, World};
use testkit::{ROOT, Reply, Request};

const PATIENCE: Duration = Duration::from_secs(30);
/// Between two judgements while things come to rest.
const PAUSE: Duration = Duration::from_secs(1);

/// A violation.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) wrong: Wrong,
    pub(crate) flavor: &'static str,
    /// The submission, or the stranger, that it is about.
    pub(crate) tag: String,
    pub(crate) what: String,
}

/// What came out.
pub(crate) struct Verdict {
    pub(crate) violations: Vec<Violation>,
    /// Not wrong, but worth a number: what they are called, flavor, how many.
    pub(crate) counts: Vec<(&'static str, &'static str, usize)>,
    /// The books, by flavor.
    pub(crate) books: HashMap<&'static str, Vec<Value>>,
    /// How long it took until everything was at rest.
    pub(crate) rested_after: Duration,
}

/// Judges until nothing is wrong that time could still heal.
pub(crate) fn wait_and_judge(world: &World) -> Verdict {
    let began = Instant::now();
    loop {
        let (mut verdict, may_heal) = judge(world);
        verdict.rested_after = began.elapsed();
        if !may_heal || began.elapsed() > world.wish.calm {
            return verdict;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Returns the verdict of this moment, and whether some of it may still change.
fn judge(world: &World) -> (Verdict, bool) {
    let mut verdict = Verdict {
        violations: Vec::new(),
        counts: Vec::new(),
        books: HashMap::new(),
        rested_after: Duration::ZERO,
    };
    let mut may_heal = false;
    let submissions: Vec<_> = world.lanes.iter().flat_map(Lane::submissions).collect();
    // Whose kill is whose: by the request ids that the clients gave them.
    let kills: HashMap<String, String> = submissions
        .iter()
        .flat_map(|submission| {
            submission
                .client()
                .kills
                .iter()
                .map(|(id, _)| (id.clone(), submission.tag.clone()))
                .collect::<Vec<_>>()
        })
        .collect();
    for lane in &world.lanes {
        // Views first: a job that is created or killed between the two is seen in the next round.
        let views: HashMap<String, Option<Reply>> = lane
            .submissions()
            .iter()
            .map(|submission| (submission.tag.clone(), view(world, submission)))
            .collect();
        let books = Books::read(world, lane);
        let mut bench = Bench {
            lane,
            books: &books,
            kills: &kills,
            now: Vec::new(),
            in_time: Vec::new(),
            counts: HashMap::new(),
            untold: HashSet::new(),
        };
        for submission in lane.submissions() {
            bench.judge(
                &submission,
                views.get(&submission.tag).and_then(Option::as_ref),
            );
        }
        for submission in lane.submissions() {
            bench.judge_kills(
                &submission,
                views.get(&submission.tag).and_then(Option::as_ref),
            );
        }
        bench.judge_strangers();
        bench.judge_list(world);
        may_heal |= !bench.in_time.is_empty();
        verdict.violations.append(&mut bench.now);
        verdict.violations.append(&mut bench.in_time);
        verdict.counts.extend(
            bench
                .counts
                .into_iter()
                .map(|(what, count)| (what, lane.flavor, count)),
        );
        verdict.books.insert(lane.flavor, books.all);
    }
    (verdict, may_heal)
}

/// Asks for a batch as its client.
fn view(world: &World, submission: &Submission) -> Option<Reply> {
    let path = format!("/batches/{}", submission.id()?);
    world.ask(&Request::get(&path).basic(submission.login), PATIENCE)
}

/// A lane's books.
struct Books {
    all: Vec<Value>,
}

impl Books {
    fn read(world: &World, lane: &Lane) -> Books {
        Books {
            all: world.clusters.books(lane.flavor),
        }
    }

    fn of(&self, tag: &str) -> Vec<&Value> {
        self.all
            .iter()
            .filter(|job| tag_of(job) == tag && job["ghost"] == false)
            .collect()
    }

    fn of_application(&self, id: &str) -> Option<&Value> {
        self.all.iter().find(|job| job["appId"] == id)
    }

    /// Finds the job that the cluster has under this id now.
    fn known(&self, upstream_id: &str) -> Option<&Value> {
        self.all.iter().find(|job| {
            job["known"] == true
                && (upstream_id.parse().is_ok_and(|id: i64| job["id"] == id)
                    || job["uuid"] == upstream_id)
        })
    }
}

pub(crate) fn tag_of(job: &Value) -> &str {
    job["args"][2].as_str().unwrap_or_default()
}

fn is_alive(job: &Value) -> bool {
    job["killed"].is_null() && (job["state"] == "starting" || job["state"] == "running")
}

fn killer(job: &Value) -> Option<&str> {
    if job["killed"].is_null() {
        None
    } else {
        Some(job["killed"]["by_request_id"].as_str().unwrap_or(""))
    }
}

/// Tells whether a batch says that nobody can know which one it is.
fn is_open(shown: &Value) -> bool {
    shown["state"] == "starting"
        && shown["appInfo"]["gatewayReason"]
            .as_str()
            .is_some_and(|why| why.contains("does not say which") || why.contains("does not list"))
}

fn is_stale(reply: &Reply) -> bool {
    reply.header("x-livy-gateway-stale").is_some()
}

struct Bench<'a> {
    lane: &'a Lane,
    books: &'a Books,
    /// Request id of a client's kill, and whose.
    kills: &'a HashMap<String, String>,
    /// What is wrong for good.
    now: Vec<Violation>,
    /// What may yet come right.
    in_time: Vec<Violation>,
    counts: HashMap<&'static str, usize>,
    /// Submissions to IBM whose job was forgotten in a restart before its application was shown.
    /// There are no names there, and the number went to somebody else: nobody can tell the two.
    untold: HashSet<String>,
}

impl Bench<'_> {
    fn violation(&self, wrong: Wrong, tag: &str, what: String) -> Violation {
        Violation {
            wrong,
            flavor: self.lane.flavor,
            tag: tag.to_owned(),
            what,
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn judge(&mut self, submission: &Submission, view: Option<&Reply>) {
        let tag = &submission.tag;
        let client = submission.client();
        let jobs = self.books.of(tag);
        let alive = jobs.iter().filter(|job| is_alive(job)).count();
        self.count(match client.outcome {
            Outcome::Open => "open",
            Outcome::Created => "told 201",
            Outcome::Refused(_) => "told an error",
            Outcome::Unanswered => "told nothing",
        });
        if jobs.len() > 1 {
            self.count("reached the cluster more than once");
        }
        self.judge_number_of_jobs(submission, client.posts, &jobs);
        let unseen = |job: &&Value| {
            job["appId"]
                .as_str()
                .is_none_or(|application| !client.applications.contains(application))
        };
        if self.lane.flavor == "ibm" && jobs.iter().any(|job| job["known"] == false && unseen(job))
        {
            self.untold.insert(tag.clone());
            return self.count("ibm: lost before it could be told from others");
        }
        for (wrong, what) in &client.wrongs {
            let found = self.violation(*wrong, tag, what.clone());
            self.now.push(found);
        }
        if client.ids.len() > 1 {
            let found = self.violation(
                Wrong::TwoIds,
                tag,
                format!("it was told the ids {:?}", client.ids),
            );
            self.now.push(found);
        }
        for application in &client.applications {
            match self.books.of_application(application) {
                Some(job) if tag_of(job) == tag => {}
                other => {
                    let what = format!(
                        "it was shown {application}, which is {}",
                        other.map_or("nobody's", tag_of)
                    );
                    let found = self.violation(Wrong::Anothers, tag, what);
                    self.now.push(found);
                }
            }
        }
        for end in client.ends.iter().filter(|end| *end != "error") {
            if !jobs.iter().any(|job| job["state"] == **end) {
                let states: Vec<_> = jobs.iter().map(|job| job["state"].to_string()).collect();
                let found = self.violation(
                    Wrong::OtherEnd,
                    tag,
                    format!("it was shown as {end}; its jobs are {states:?}"),
                );
                self.in_time.push(found);
            }
        }
        match client.outcome {
            Outcome::Refused(status) if alive > 0 => {
                let found = self.violation(
                    Wrong::RunsThoughRefused,
                    tag,
                    format!("its client heard {status}, and its job runs"),
                );
                self.in_time.push(found);
            }
            Outcome::Created => self.judge_view(submission, &client, &jobs, view),
            _ => {}
        }
    }

    /// One submission is one job, those aside that the gateway killed because they came late. What
    /// a cluster's restart ended may have been sent again afterwards.
    fn judge_number_of_jobs(&mut self, submission: &Submission, posts: u32, jobs: &[&Value]) {
        let own = |job: &&&Value| {
            killer(job)
                .is_none_or(|by| by == "restart" || self.kills.get(by) == Some(&submission.tag))
        };
        let kept: Vec<&Value> = jobs.iter().filter(own).copied().collect();
        let over = |pair: &[&Value]| {
            pair[0]["ended_ms"].is_i64()
                && pair[0]["ended_ms"].as_i64() <= pair[1]["created_ms"].as_i64()
        };
        let follows = |pair: &[&Value]| over(pair) && killer(pair[0]) == Some("restart");
        // It came, ended, and was forgotten in a restart before anybody could ask.
        let forgotten = |pair: &[&Value]| {
            over(pair) && pair[0]["generation"].as_i64() < pair[1]["generation"].as_i64()
        };
        let excused =
            |pair: &[&Value]| follows(pair) || (forgotten(pair) && pair[0]["known"] == false);
        if kept.windows(2).all(excused) {
            return (1..kept.len())
                .for_each(|_| self.count("sent again after its cluster lost or forgot it"));
        }
        // IBM gives no name back, and a client that asks again without a key gets a second batch:
        // nobody can know.
        if self.lane.flavor == "ibm" && submission.manners == Manners::Named && posts > 1 {
            return self.count("ibm: asked again without a key, ran twice");
        }
        let ids: Vec<_> = kept
            .iter()
            .map(|job| format!("{}/{}", job["id"], job["uuid"]))
            .collect();
        let found = self.violation(
            Wrong::Doubled,
            &submission.tag,
            format!("it ran as {}", ids.join(" and as ")),
        );
        self.in_time.push(found);
    }

    fn judge_view(
        &mut self,
        submission: &Submission,
        client: &crate::submission::Client,
        jobs: &[&Value],
        view: Option<&Reply>,
    ) {
        let tag = &submission.tag;
        let alive = jobs.iter().any(|job| is_alive(job));
        let Some(view) = view else {
            let found = self.violation(
                Wrong::ReadFailed,
                tag,
                "a calm gateway does not answer a look at it".to_owned(),
            );
            return self.in_time.push(found);
        };
        let killed = client.kills.iter().any(|(_, told)| *told == Some(200));
        match view.status {
            404 if client.kills.is_empty() => {
                let found = self.violation(
                    Wrong::Lost,
                    tag,
                    format!("it was told id {:?}, which is 404", client.ids),
                );
                return self.in_time.push(found);
            }
            404 if alive
                && self.lane.flavor == "ibm"
                && client.ends.iter().any(|end| end == "error") =>
            {
                return self.count("ibm: deleted, though it could not be found");
            }
            404 if alive => {
                let found = self.violation(
                    Wrong::KillLied,
                    tag,
                    "it is deleted, and its job runs".to_owned(),
                );
                return self.in_time.push(found);
            }
            404 => return,
            200 if killed => {
                let found = self.violation(
                    Wrong::KillLied,
                    tag,
                    "its DELETE was answered 200, and it is still there".to_owned(),
                );
                return self.now.push(found);
            }
            200 => {}
            status => {
                let found = self.violation(
                    Wrong::ReadFailed,
                    tag,
                    format!("a look at it is answered {status}: {}", view.text()),
                );
                return self.in_time.push(found);
            }
        }
        let shown = view.json();
        let state = shown["state"].as_str().unwrap_or_default();
        let reason = shown["appInfo"]["gatewayReason"].as_str();
        let states: Vec<_> = jobs
            .iter()
            .map(|job| job["state"].as_str().unwrap_or_default())
            .collect();
        let found = if state == "error" && alive {
            if self.lane.flavor == "ibm" && reason.is_some() {
                return self.count("ibm: error while it runs, and says why");
            }
            Some((
                Wrong::ErrorWhileRunning,
                format!("shown as error ({reason:?})"),
            ))
        } else if state == "error" {
            let has_end = jobs.iter().any(|job| {
                job["known"] == true && (job["state"] == "success" || job["state"] == "dead")
            });
            if self.lane.flavor == "ibm" && has_end && reason.is_some() {
                return self.count("ibm: error though it ended otherwise, and says why");
            }
            (has_end || reason.is_none()).then(|| {
                (
                    Wrong::OtherEnd,
                    format!("shown as error ({reason:?}); its jobs are {states:?}"),
                )
            })
        } else if ENDS.contains(&state) {
            (!states.contains(&state)).then(|| {
                (
                    Wrong::OtherEnd,
                    format!("shown as {state}; its jobs are {states:?}"),
                )
            })
        } else if self.lane.flavor == "ibm" && is_open(&shown) {
            return self.count("ibm: open, and says why");
        } else if jobs.is_empty() {
            Some((
                Wrong::Lost,
                format!("shown as {state}; it never was on the cluster"),
            ))
        } else if self.lane.flavor == "ibm"
            && !alive
            && is_stale(view)
            && client.applications.is_empty()
            && shown["appId"].is_null()
        {
            // Its number began again before its application was known: whose it is can't be told,
            // so what was known last is shown.
            return self.count("ibm: can't be told from another, shown stale");
        } else if view.header("x-livy-gateway-upstream-id").is_none() {
            Some((
                Wrong::Unresolved,
                format!("shown as {state}, with no place on the cluster"),
            ))
        } else {
            (!alive).then(|| {
                (
                    Wrong::OtherEnd,
                    format!("shown as {state}; its jobs are {states:?}"),
                )
            })
        };
        if let Some((wrong, what)) = found {
            let found = self.violation(wrong, tag, what);
            self.in_time.push(found);
        }
        if let Some(application) = shown["appId"].as_str()
            && !jobs.iter().any(|job| job["appId"] == application)
        {
            let found = self.violation(
                Wrong::Anothers,
                tag,
                format!("shown with {application}, which is none of its jobs"),
            );
            self.in_time.push(found);
        }
    }

    /// Nobody's job is deleted by another's kill; and the only job of a client that holds a good id
    /// is not killed as late.
    fn judge_kills(&mut self, submission: &Submission, view: Option<&Reply>) {
        let tag = &submission.tag;
        let jobs = self.books.of(tag);
        for job in &jobs {
            for by in job["deleted_by"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
            {
                match self.kills.get(by) {
                    Some(whose) if whose != tag && self.untold.contains(whose) => {
                        self.count("ibm: killed for one that was lost")
                    }
                    Some(whose) if whose != tag => {
                        let found = self.violation(
                            Wrong::Touched,
                            tag,
                            format!("{whose} asked for its own kill, and this one was deleted"),
                        );
                        self.now.push(found);
                    }
                    _ => {}
                }
            }
        }
        let by_gateway = |job: &&&Value| {
            killer(job).is_some_and(|by| by != "restart" && !self.kills.contains_key(by))
        };
        let late = jobs.iter().filter(by_gateway).count();
        let is_good =
            view.is_some_and(|view| view.status == 200 && view.json()["state"] != "error");
        if late > 0
            && late == jobs.len()
            && is_good
            && submission.client().outcome == Outcome::Created
        {
            let found = self.violation(
                Wrong::Killed,
                tag,
                "its only job was killed by the gateway itself".to_owned(),
            );
            self.in_time.push(found);
        }
        for _ in 0..late {
            self.count("killed by the gateway as late");
        }
    }

    fn judge_strangers(&mut self) {
        let strangers: Vec<Value> = self
            .books
            .all
            .iter()
            .filter(|job| tag_of(job).starts_with("foreign-"))
            .cloned()
            .collect();
        for job in strangers {
            self.count("strangers");
            let killers = job["deleted_by"].as_array().cloned().unwrap_or_default();
            let is_excused = |by: &Value| {
                by.as_str()
                    .and_then(|by| self.kills.get(by))
                    .is_some_and(|whose| self.untold.contains(whose))
            };
            if !killers.is_empty() && killers.iter().all(is_excused) {
                self.count("ibm: killed for one that was lost");
            } else if !killers.is_empty() {
                let found = self.violation(
                    Wrong::Touched,
                    tag_of(&job),
                    format!("a stranger's job was deleted by {}", job["deleted_by"]),
                );
                self.now.push(found);
            }
        }
    }

    /// Nothing stands in the list under an id that its client was not told, and nothing twice.
    fn judge_list(&mut self, world: &World) {
        let ask = |path: &str| {
            world
                .ask(&Request::get(path).basic(ROOT), PATIENCE)
                .filter(|reply| reply.status == 200)
        };
        let path = format!("/clusters/{}/batches", self.lane.flavor);
        let Some(Ok(list)) = world.list(&path, ROOT, PATIENCE) else {
            return;
        };
        let told: HashMap<i64, String> = self
            .lane
            .submissions()
            .iter()
            .flat_map(|submission| {
                submission
                    .client()
                    .ids
                    .iter()
                    .map(|id| (*id, submission.tag.clone()))
                    .collect::<Vec<_>>()
            })
            .collect();
        let given_up: HashSet<String> = self
            .lane
            .submissions()
            .iter()
            .filter(|submission| submission.client().ends.iter().any(|end| end == "error"))
            .map(|submission| submission.tag.clone())
            .collect();
        let created: Vec<String> = self
            .lane
            .created()
            .iter()
            .map(|submission| submission.tag.clone())
            .collect();
        let mut seen: HashMap<String, i64> = HashMap::new();
        for session in &list {
            let Some(id) = session["id"].as_i64() else {
                continue;
            };
            let ended = ENDS.iter().any(|end| session["state"] == *end);
            let job = match session["appId"].as_str() {
                Some(application) => self.books.of_application(application),
                // Numbers come again: only what lives now is the job that has the number now.
                None if ended => None,
                None => ask(&format!("/batches/{id}"))
                    .filter(|reply| !is_stale(reply))
                    .and_then(|reply| {
                        reply
                            .header("x-livy-gateway-upstream-id")
                            .map(str::to_owned)
                    })
                    .and_then(|upstream_id| self.books.known(&upstream_id)),
            };
            let Some(job) = job else { continue };
            let owner = tag_of(job).to_owned();
            match told.get(&id) {
                Some(tag) if self.untold.contains(tag) => {}
                Some(tag) if *tag != owner => {
                    let found = self.violation(
                        Wrong::Anothers,
                        tag,
                        format!("its id {id} stands for {owner}"),
                    );
                    self.in_time.push(found);
                }
                // IBM gives no name back: a job whose answer was lost is nobody's there.
                None if self.lane.flavor == "ibm" && given_up.contains(&owner) => {
                    self.count("ibm: its lost job is listed as a new one");
                }
                None if created.contains(&owner) => {
                    let found = self.violation(
                        Wrong::ListedTwice,
                        &owner,
                        format!("its job is listed as {id}, which it was never told"),
                    );
                    self.in_time.push(found);
                }
                _ => {}
            }
            if let Some(other) = seen.insert(job["uuid"].to_string(), id) {
                let found = self.violation(
                    Wrong::ListedTwice,
                    &owner,
                    format!("its job is listed as {other} and as {id}"),
                );
                self.in_time.push(found);
            }
        }
    }
}
