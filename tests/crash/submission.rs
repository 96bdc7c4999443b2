//! One submission of one client: what it asked for, and everything that it was told.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use testkit::chance::Chance;
use testkit::{ALICE, BOB, Reply};

/// States that a batch never leaves.
pub(crate) const ENDS: [&str; 4] = ["success", "dead", "killed", "error"];

/// How long a job runs that is to live until everything is over, as its first argument says it.
pub(crate) const FOR_LONG: &str = "900";

/// How a client behaves when it gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// It sends the same `Idempotency-Key` until it knows.
    Keyed,
    /// It does not ask again.
    Plain,
    /// It has a name for its batch, and sends it again after a lost connection, as Airflow's task
    /// does.
    Named,
}

/// What a submission came to, as far as its client knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is still at it.
    Open,
    /// 201, with an id.
    Created,
    /// An error, and it will not ask again.
    Refused(u16),
    /// No answer, and it will not ask again.
    Unanswered,
}

/// A submission.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) flavor: &'static str,
    /// Its last argument: that is how its jobs are known in the books.
    pub(crate) tag: String,
    pub(crate) manners: Manners,
    pub(crate) login: (&'static str, &'static str),
    pub(crate) name: Option<String>,
    pub(crate) body: Value,
    /// Whether its client kills it some day.
    pub(crate) to_be_killed: bool,
    client: Mutex<Client>,
}

/// What its client knows.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) outcome: Outcome,
    /// Every id that it was told, in order; there must be one only.
    pub(crate) ids: Vec<i64>,
    /// How often it sent its POST.
    pub(crate) posts: u32,
    /// Whether one of them was not answered.
    pub(crate) left_alone: bool,
    /// Ends that it was shown, in order; there must be one only.
    pub(crate) ends: Vec<String>,
    /// When it heard of the first one.
    ended: Option<Instant>,
    /// Application ids that it was shown.
    pub(crate) applications: BTreeSet<String>,
    /// Request ids of its kills, with what they were answered.
    pub(crate) kills: Vec<(String, Option<u16>)>,
    /// What it was told that can't be right whatever comes.
    pub(crate) wrongs: Vec<(Wrong, String)>,
    /// Everything, for the story.
    pub(crate) story: Vec<String>,
}

/// What no client may ever see or suffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wrong {
    /// It was told 201, and its id is unknown, or stands for nothing.
    Lost,
    /// Its submission ran more than once.
    Doubled,
    /// It was told two ids for one submission.
    TwoIds,
    /// It is shown an end that its job never had.
    OtherEnd,
    /// It is shown another's job.
    Anothers,
    /// A job was deleted whose owner did not ask for it.
    Touched,
    /// It is shown `error` while its job runs.
    ErrorWhileRunning,
    /// Its job was killed, and nobody asked for that.
    Killed,
    /// It was told that nothing was submitted, and its job runs.
    RunsThoughRefused,
    /// It is told `starting`, and that never ends.
    Unresolved,
    /// Its job stands in the list under an id that it was never told.
    ListedTwice,
    /// It was told that its job is dead, and it runs.
    KillLied,
    /// A look at its own batch was refused.
    ReadFailed,
}

impl Wrong {
    pub(crate) const ALL: [Wrong; 13] = [
        Wrong::Lost,
        Wrong::Doubled,
        Wrong::TwoIds,
        Wrong::OtherEnd,
        Wrong::Anothers,
        Wrong::Touched,
        Wrong::ErrorWhileRunning,
        Wrong::Killed,
        Wrong::RunsThoughRefused,
        Wrong::Unresolved,
        Wrong::ListedTwice,
        Wrong::KillLied,
        Wrong::ReadFailed,
    ];

    pub(crate) fn words(self) -> &'static str {
        match self {
            Wrong::Lost => "lost",
            Wrong::Doubled => "doubled",
            Wrong::TwoIds => "two ids",
            Wrong::OtherEnd => "wrong end",
            Wrong::Anothers => "another's job shown",
            Wrong::Touched => "another's job touched",
            Wrong::ErrorWhileRunning => "error while it runs",
            Wrong::Killed => "killed unasked",
            Wrong::RunsThoughRefused => "runs though refused",
            Wrong::Unresolved => "never resolved",
            Wrong::ListedTwice => "listed twice",
            Wrong::KillLied => "kill lied",
            Wrong::ReadFailed => "read refused",
        }
    }
}

impl Submission {
    /// Draws the submission of this number. What it is depends on the seed alone.
    pub(crate) fn draw(seed: u64, flavor: &'static str, file: &str, number: usize) -> Submission {
        let tag = format!("submission-{flavor}-{number}");
        let mut chance = Chance::of(seed, &tag);
        let manners = *chance.pick(&[
            Manners::Keyed,
            Manners::Keyed,
            Manners::Plain,
            Manners::Named,
            Manners::Named,
        ]);
        // Half of them still run when everything is over; the others end well or badly on the way.
        let runs = if chance.percent(50) {
            FOR_LONG.to_owned()
        } else {
            chance.within(1..7).to_string()
        };
        let end = if chance.percent(30) { "fail" } else { "ok" };
        let mut body = json!({"file": file, "args": [runs, end, tag], "conf": {"spark.executor.instances": "2"}});
        let name = (manners == Manners::Named).then(|| client_name(flavor, number));
        if let Some(name) = &name {
            body["name"] = name.as_str().into();
        }
        let client = Client {
            outcome: Outcome::Open,
            ids: Vec::new(),
            posts: 0,
            left_alone: false,
            ends: Vec::new(),
            ended: None,
            applications: BTreeSet::new(),
            kills: Vec::new(),
            wrongs: Vec::new(),
            story: Vec::new(),
        };
        let login = if chance.percent(60) { ALICE } else { BOB };
        Submission {
            flavor,
            tag,
            manners,
            login,
            name,
            body,
            to_be_killed: chance.percent(20),
            client: Mutex::new(client),
        }
    }

    pub(crate) fn client(&self) -> MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the id that its client holds.
    pub(crate) fn id(&self) -> Option<i64> {
        self.client().ids.last().copied()
    }
}

/// The name that a client with names gives its submission. Others know it too.
pub(crate) fn client_name(flavor: &str, number: usize) -> String {
    format!("nightly-{flavor}-{number}")
}

impl Client {
    /// Writes a line of the story.
    pub(crate) fn tell(&mut self, began: Instant, line: &str) {
        self.story
            .push(format!("{} {line}", clock(began.elapsed())));
    }

    /// Writes an answer down.
    pub(crate) fn heard(&mut self, began: Instant, request: &str, reply: Option<&Reply>) {
        self.left_alone |= reply.is_none();
        let told = match reply {
            None => "no answer".to_owned(),
            Some(reply) => {
                let stale = if reply.header("x-livy-gateway-stale").is_some() {
                    " (stale)"
                } else {
                    ""
                };
                let there = reply
                    .header("x-livy-gateway-upstream-id")
                    .map(|id| format!(" [{id} there]"))
                    .unwrap_or_default();
                format!(
                    "{}{stale}{there} {}",
                    reply.status,
                    shortened(&reply.text())
                )
            }
        };
        self.tell(began, &format!("{request}: {told}"));
    }

    pub(crate) fn was_told(&mut self, id: i64) {
        if self.ids.last() != Some(&id) {
            self.ids.push(id);
        }
    }

    /// Takes in a batch or a state that was shown as its own, to a request that went out at this
    /// time.
    pub(crate) fn saw(&mut self, shown: &Value, asked: Instant) {
        let Some(state) = shown["state"].as_str() else {
            return;
        };
        self.applications
            .extend(shown["appId"].as_str().map(str::to_owned));
        let ends = ENDS.contains(&state);
        match self.ends.last() {
            None if ends => {
                self.ends.push(state.to_owned());
                self.ended = Some(Instant::now());
            }
            // An answer that was on its way when the end became known says nothing.
            Some(end)
                if end != state && (ends || self.ended.is_some_and(|ended| ended < asked)) =>
            {
                self.wrongs.push((
                    Wrong::OtherEnd,
                    format!("it was shown as {end}, then as {state}"),
                ));
                self.ends.push(state.to_owned());
            }
            _ => {}
        }
    }
}

/// Shows a time since the beginning.
pub(crate) fn clock(since: Duration) -> String {
    format!("{:9.3}", since.as_secs_f64())
}

pub(crate) fn shortened(text: &str) -> String {
    if text.chars().count() <= 300 {
        text.to_owned()
    } else {
        text.chars().take(300).chain("…".chars()).collect()
    }
}
