//! The clients: some submit, others look at what was submitted, list it, and kill some of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::submission::{Manners, Outcome, Submission, Wrong};
use crate::world::{Lane, World};
use testkit::chance::Chance;
use testkit::{Reply, Request};

/// How long a client waits for an answer. A gateway may take 20 seconds to find out what became of
/// a submission.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a client with a key asks again after the faults are over.
const PERSISTENCE: Duration = Duration::from_secs(60);
/// How often Airflow's task is run again.
const TASK_RETRIES: u32 = 5;
/// Between two tries of a client: the pace, not a wait for something. It grows with each try, up to
/// ten times as much.
const AGAIN: Duration = Duration::from_millis(200);

/// Submits one after the other, each when its time has come.
pub(crate) fn submit_all(world: &World, lane: &Lane) {
    while let Some(submission) = lane.next(world) {
        submit(world, &submission);
        lane.is_done();
    }
}

fn post(world: &World, submission: &Submission) -> Option<Reply> {
    let attempt = {
        let mut client = submission.client();
        client.posts += 1;
        client.posts
    };
    let path = format!("/clusters/{}/batches", submission.flavor);
    let id = format!("{}-post-{attempt}", submission.tag);
    let mut request = Request::post(&path, &submission.body)
        .basic(submission.login)
        .header("X-Request-Id", &id);
    if submission.manners == Manners::Keyed {
        request = request.header("Idempotency-Key", &submission.tag);
    }
    let asked = Instant::now();
    let reply = world.ask(&request, PATIENCE);
    submission.client().heard(
        world.began,
        &format!("POST {attempt} ({} ms)", asked.elapsed().as_millis()),
        reply.as_ref(),
    );
    reply
}

fn submit(world: &World, submission: &Submission) {
    loop {
        let asked = Instant::now();
        let reply = post(world, submission);
        let tries = submission.client().posts;
        let outcome = match &reply {
            Some(reply) if reply.status == 201 => match reply.json()["id"].as_i64() {
                Some(id) => {
                    let mut client = submission.client();
                    client.was_told(id);
                    client.saw(&reply.json(), world.known_to_all(asked));
                    Outcome::Created
                }
                None => Outcome::Unanswered,
            },
            Some(reply) => match submission.manners {
                Manners::Keyed if is_retryable(reply) && world.goes_on(PERSISTENCE) => {
                    Outcome::Open
                }
                Manners::Named if tries > 1 && is_taken(reply) => by_name(world, submission),
                // What it hears now is not about a try that it heard nothing of.
                Manners::Named if submission.client().left_alone => Outcome::Unanswered,
                _ => Outcome::Refused(reply.status),
            },
            None => match submission.manners {
                Manners::Keyed if world.goes_on(PERSISTENCE) => Outcome::Open,
                Manners::Named if tries <= TASK_RETRIES => Outcome::Open,
                _ => Outcome::Unanswered,
            },
        };
        if outcome != Outcome::Open {
            submission.client().outcome = outcome;
            return;
        }
        std::thread::sleep(AGAIN * tries.min(10));
    }
}

fn is_retryable(reply: &Reply) -> bool {
    serde_json::from_slice::<Value>(&reply.body).is_ok_and(|body| body["retryable"] == true)
}

fn is_taken(reply: &Reply) -> bool {
    serde_json::from_slice::<Value>(&reply.body).is_ok_and(|body| body["code"] == "duplicate_name")
}

/// The name is taken: by its own first try, it may be. Then it has its batch.
fn by_name(world: &World, submission: &Submission) -> Outcome {
    let name = submission.name.as_deref().unwrap_or_default();
    let path = format!("/clusters/{}/batches/{name}", submission.flavor);
    let asked = Instant::now();
    let reply = world.ask(&Request::get(&path).basic(submission.login), PATIENCE);
    let mut client = submission.client();
    client.heard(world.began, "GET by name", reply.as_ref());
    match reply.map(|reply| (reply.status, reply)) {
        Some((200, reply)) => {
            let found = reply.json();
            client.ids.extend(found["id"].as_i64());
            client.saw(&found, world.known_to_all(asked));
            Outcome::Created
        }
        // A stranger has the name, or nobody any more: but what became of the try that was not
        // answered?
        _ => Outcome::Unanswered,
    }
}

/// Looks at batches of a lane until its submissions are over.
pub(crate) fn look(world: &World, lane: &Lane, whose: &str) {
    let mut chance = Chance::of(world.wish.seed, &format!("{} {whose}", lane.flavor));
    while !lane.is_over() {
        std::thread::sleep(Duration::from_millis(chance.within(20..120)));
        let known = lane.created();
        if known.is_empty() {
            continue;
        }
        let submission = chance.pick(&known).clone();
        match chance.within(0..100) {
            0..10 => list(world, lane, &submission),
            10..20 => read(world, &submission, "log", &mut chance),
            20..40 => read(world, &submission, "item", &mut chance),
            40..50 if submission.to_be_killed => kill(world, &submission),
            _ => read(world, &submission, "state", &mut chance),
        }
    }
}

/// Looks at one batch, and judges at once what can be judged at once.
fn read(world: &World, submission: &Submission, what: &str, chance: &mut Chance) {
    let Some(id) = submission.id() else { return };
    if !submission.client().kills.is_empty() {
        return;
    }
    let number = id.to_string();
    // Of a client that asked twice there may be two batches of the name, each of them its own.
    let by_name = chance.percent(30) && submission.client().posts == 1;
    let key = submission
        .name
        .as_ref()
        .filter(|_| by_name)
        .unwrap_or(&number);
    let path = match what {
        "item" => format!("/clusters/{}/batches/{key}", submission.flavor),
        "log" => format!("/batches/{key}/log?size=-1"),
        _ => format!("/batches/{key}/state"),
    };
    let asked = Instant::now();
    let Some(reply) = world.ask(&Request::get(&path).basic(submission.login), PATIENCE) else {
        return;
    };
    if world.may_be_away(&reply, asked) {
        return;
    }
    let mut client = submission.client();
    // Killed meanwhile: then there is nothing to say about a 404.
    if !client.kills.is_empty() {
        return;
    }
    let before = (
        client.ends.len(),
        client.applications.len(),
        client.wrongs.len(),
    );
    match reply.status {
        200 if what == "log" => {
            let text = reply.text();
            let others = text
                .split(|c: char| !(c.is_alphanumeric() || c == '-'))
                .find(|word| is_tag(word) && *word != submission.tag);
            if let Some(other) = others {
                client
                    .wrongs
                    .push((Wrong::Anothers, format!("its log is the one of {other}")));
            }
        }
        200 => {
            let shown = reply.json();
            client.saw(&shown, world.known_to_all(asked));
            if shown["id"] != id {
                client
                    .wrongs
                    .push((Wrong::Anothers, format!("{path} shows id {}", shown["id"])));
            }
            if what == "item" && shown["name"] != Value::from(submission.name.clone()) {
                client.wrongs.push((
                    Wrong::Anothers,
                    format!("{path} shows name {}", shown["name"]),
                ));
            }
        }
        404 => client
            .wrongs
            .push((Wrong::Lost, format!("GET {path} was answered 404"))),
        status => client.wrongs.push((
            Wrong::ReadFailed,
            format!("GET {path} was answered {status}"),
        )),
    }
    if before
        != (
            client.ends.len(),
            client.applications.len(),
            client.wrongs.len(),
        )
    {
        client.heard(world.began, &format!("GET {path}"), Some(&reply));
    }
}

fn is_tag(word: &str) -> bool {
    word.starts_with("submission-") || word.starts_with("foreign-")
}

/// Lists as the owner of one: what that owner was told before must be there.
fn list(world: &World, lane: &Lane, one: &Submission) {
    let wanted: Vec<Arc<Submission>> = lane
        .created()
        .into_iter()
        .filter(|other| other.login == one.login)
        .collect();
    let path = format!("/clusters/{}/batches", lane.flavor);
    let asked = Instant::now();
    let sessions = match world.list(&path, one.login, PATIENCE) {
        None => return,
        Some(Ok(sessions)) => sessions,
        Some(Err(status)) => {
            let what = format!("GET {path} was answered {status}");
            one.client().wrongs.push((Wrong::ReadFailed, what));
            return;
        }
    };
    for submission in wanted {
        let mut client = submission.client();
        let (Some(id), true) = (client.ids.last().copied(), client.kills.is_empty()) else {
            continue;
        };
        match sessions
            .iter()
            .filter(|session| session["id"] == id)
            .collect::<Vec<_>>()
            .as_slice()
        {
            [session] => client.saw(session, world.known_to_all(asked)),
            [] => {
                client.tell(world.began, "a list of its owner's does not have it");
                client
                    .wrongs
                    .push((Wrong::Lost, format!("GET {path} does not list id {id}")));
            }
            _ => client.wrongs.push((
                Wrong::ListedTwice,
                format!("GET {path} lists id {id} twice"),
            )),
        }
    }
}

fn kill(world: &World, submission: &Submission) {
    let Some(id) = submission.id() else { return };
    let (request_id, earlier) = {
        let mut client = submission.client();
        if client.kills.iter().any(|(_, told)| *told == Some(200)) {
            return;
        }
        let earlier = client.kills.len();
        let request_id = format!("{}-delete-{}", submission.tag, earlier + 1);
        client.kills.push((request_id.clone(), None));
        (request_id, earlier)
    };
    let path = format!("/batches/{id}");
    let request = Request {
        method: "DELETE",
        ..Request::get(&path)
    }
    .basic(submission.login)
    .header("X-Request-Id", &request_id);
    submission
        .client()
        .tell(world.began, &format!("DELETE {} goes out", earlier + 1));
    let asked = Instant::now();
    let reply = world.ask(&request, PATIENCE);
    let mut client = submission.client();
    client.heard(
        world.began,
        &format!(
            "DELETE {} ({} ms)",
            earlier + 1,
            asked.elapsed().as_millis()
        ),
        reply.as_ref(),
    );
    let Some(reply) = reply else { return };
    // Another try of its own may have been at work at the same time; only the first one can't meet
    // a batch that is gone.
    if reply.status == 404 && earlier == 0 {
        client
            .wrongs
            .push((Wrong::Lost, "its DELETE was answered 404".to_owned()));
    }
    if let Some(kill) = client.kills.iter_mut().find(|(id, _)| *id == request_id) {
        kill.1 = Some(reply.status);
    }
}
