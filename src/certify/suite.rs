//! What every check works with: the endpoint, the batches made so far, and the book of verdicts.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::catalogue::{CHECKS, Check, Profile};
use super::endpoint::{Answer, Ask, Endpoint, TIME_IS_OVER};
use super::job::{Job, Jobs};
use super::miss::{Miss, Outcome, ensure};
use super::report::{Line, Verdict};

/// How long cleaning up may take, whatever happened before.
const CLEANING: Duration = Duration::from_secs(60);
/// How many batches of the end of a list are looked through.
const NEWEST: i64 = 500;
/// Between two polls: short enough to see a state that lasts a moment.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// A submission that was sent, by what its batch can be found again.
#[derive(Clone, Debug, Default)]
struct Submitted {
    /// The name that was sent.
    name: Option<String>,
    /// The id, if one was told.
    id: Option<i64>,
}

/// A batch that the suite submitted.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) id: i64,
    pub(super) name: String,
}

/// What a run is given beside its endpoint.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) jobs: Jobs,
    /// How long a job may take from submission to its end.
    pub(super) job_limit: Duration,
    /// When the last check must be made.
    pub(super) deadline: Instant,
    /// Whether to tell on stderr how far it is.
    pub(super) progress: bool,
}

/// The run of a suite.
#[derive(Debug)]
pub(super) struct Suite {
    pub(super) endpoint: Endpoint,
    pub(super) profile: Profile,
    pub(super) terms: Terms,
    run: String,
    submitted: Mutex<Vec<Submitted>>,
    book: Mutex<Vec<Line>>,
}

impl Suite {
    pub(super) fn new(endpoint: Endpoint, profile: Profile, terms: Terms) -> Suite {
        endpoint.answer_until(Some(terms.deadline));
        let run = uuid::Uuid::new_v4().simple().to_string()[..8].to_owned();
        Suite {
            endpoint,
            profile,
            terms,
            run,
            submitted: Mutex::default(),
            book: Mutex::default(),
        }
    }

    /// Makes one check and writes its verdict down; does nothing if the profile does not have it.
    pub(super) async fn check(&self, id: &'static str, work: impl Future<Output = Outcome>) {
        let check = Check::find(id).unwrap_or_else(|| unreachable!("{id} stands in the catalogue"));
        if check.says(self.profile).is_none() {
            return;
        }
        let began = Instant::now();
        let outcome = match tokio::time::timeout_at(self.terms.deadline.into(), work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Miss::failed(TIME_IS_OVER)),
        };
        let verdict = match outcome {
            Ok(()) => Verdict::Passed,
            Err(Miss::Failed(why)) => Verdict::Failed(self.endpoint.without_secrets(why)),
            Err(Miss::Skipped(why)) => Verdict::Skipped(self.endpoint.without_secrets(why)),
        };
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.push(Line {
            check,
            verdict,
            took: began.elapsed(),
        });
        if self.terms.progress {
            // One line that is written over, for whoever waits at a terminal.
            eprint!(
                "\r{} of {} checks made ",
                book.len(),
                Check::of(self.profile)
            );
        }
    }

    /// Writes the same reason down for checks that can't be made.
    pub(super) async fn skip(&self, ids: &[&'static str], why: &str) {
        for id in ids {
            self.check(id, async { Err(Miss::skipped(why)) }).await;
        }
    }

    /// Returns the verdicts in the catalogue's order.
    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines = self
            .book
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let place = |line: &Line| CHECKS.iter().position(|check| check.id == line.check.id);
        lines.sort_by_key(place);
        lines
    }

    /// Returns a name that no other batch has.
    pub(super) fn name(&self, what: &str) -> String {
        format!("certify-{}-{what}", self.run)
    }

    /// Makes a submission of a job under a name of this run; `more` adds or replaces fields.
    pub(super) fn body(&self, job: Job, what: &str, more: Value) -> Value {
        let mut body = json!({"file": self.terms.jobs.file(job), "args": job.arguments(), "name": self.name(what)});
        if let Value::Object(more) = more {
            for (key, value) in more {
                body[key] = value;
            }
        }
        body
    }

    /// Submits, and remembers what has to be removed.
    pub(super) async fn submit(&self, body: &Value) -> Result<Arc<Answer>, Miss> {
        self.submit_as(Ask::submit(body), body).await
    }

    /// The same with a request that is special in another way.
    pub(super) async fn submit_as(&self, ask: Ask, body: &Value) -> Result<Arc<Answer>, Miss> {
        let name = body.get("name").and_then(Value::as_str).map(str::to_owned);
        // Before it is sent: what is submitted by a request that fails must be found as well.
        let at = {
            let mut submitted = self.submitted();
            submitted.push(Submitted { name, id: None });
            submitted.len() - 1
        };
        let answer = self.endpoint.send(ask).await?;
        self.submitted()[at].id = id_of(&answer);
        Ok(answer)
    }

    fn submitted(&self) -> MutexGuard<'_, Vec<Submitted>> {
        self.submitted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Submits a job that other checks need; any answer with an id will do here, `submit.*` judge
    /// it.
    pub(super) async fn start(&self, job: Job, what: &str) -> Result<(Made, Arc<Answer>), Miss> {
        let answer = self.submit(&self.body(job, what, Value::Null)).await?;
        let id = id_of(&answer).ok_or_else(|| answer.miss("a batch with an id"))?;
        Ok((
            Made {
                id,
                name: self.name(what),
            },
            answer,
        ))
    }

    /// Submits a body that must be taken, and kills the batch at once: it was not about the job.
    pub(super) async fn accepted(&self, ask: Ask, body: &Value) -> Outcome {
        let answer = self.submit_as(ask, body).await?;
        if let Some(id) = id_of(&answer) {
            self.endpoint
                .send(Ask::delete(format!("/batches/{id}")))
                .await?;
        }
        // Which of the 2xx it is, `submit.created` says.
        ensure(
            (200..300).contains(&answer.status) && id_of(&answer).is_some(),
            || format!("{}; wanted a batch", answer.line()),
        )
    }

    /// Removes what a refused submission may have left under its name.
    pub(super) async fn sweep(&self, name: &str) -> Outcome {
        let answer = self.endpoint.get(&format!("/batches/{name}")).await?;
        if answer.status == 200 && named(&answer, name) {
            self.endpoint
                .send(Ask::delete(format!("/batches/{name}")))
                .await?;
        }
        Ok(())
    }

    /// Polls the state until it fits, the job's time is over, or the batch has ended another way;
    /// returns every word seen, in order.
    pub(super) async fn watch(
        &self,
        id: i64,
        enough: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, Miss> {
        let until = Instant::now() + self.terms.job_limit;
        let mut words: Vec<String> = Vec::new();
        loop {
            let answer = self.endpoint.get(&format!("/batches/{id}/state")).await?;
            let word = answer.status(200)?.json()?["state"]
                .as_str()
                .ok_or_else(|| answer.miss("a state"))?
                .to_owned();
            if words.last() != Some(&word) {
                words.push(word.clone());
            }
            // Any case and wording: whether the word is a good one is for `state.words` to say.
            let ended = ![
                "starting",
                "running",
                "recovering",
                "not_started",
                "idle",
                "busy",
            ]
            .contains(&word.to_lowercase().as_str());
            if enough(&word) || ended || Instant::now() > until {
                return Ok(words);
            }
            if Instant::now() > self.terms.deadline {
                return Err(Miss::failed(TIME_IS_OVER));
            }
            tokio::time::sleep(POLL_EVERY).await;
        }
    }

    /// Reads the end of the list, where what was submitted last stands; a server may remember tens
    /// of thousands of batches.
    pub(super) async fn newest(&self) -> Result<Vec<Value>, Miss> {
        let first = self
            .endpoint
            .get("/batches?from=0&size=1")
            .await?
            .status(200)?
            .json()?;
        let from = (first["total"].as_i64().unwrap_or(0) - NEWEST).max(0);
        let answer = self
            .endpoint
            .get(&format!("/batches?from={from}&size={NEWEST}"))
            .await?;
        let body = answer.status(200)?.json()?;
        body["sessions"]
            .as_array()
            .cloned()
            .ok_or_else(|| answer.miss("a list under \"sessions\""))
    }

    /// Deletes everything that was submitted and is still there; returns what could not be removed.
    pub(super) async fn clean_up(&self) -> Vec<String> {
        let all = self.submitted().clone();
        let until = Instant::now() + CLEANING;
        self.endpoint.answer_until(Some(until));
        let mut left = Vec::new();
        for one in all {
            let done = tokio::time::timeout_at(until.into(), self.remove(&one)).await;
            if !matches!(done, Ok(Ok(()))) {
                let name = one.name.unwrap_or_else(|| "(no name)".to_owned());
                left.push(
                    one.id
                        .map_or_else(|| name.clone(), |id| format!("{name} (id {id})")),
                );
            }
        }
        left
    }

    async fn remove(&self, submitted: &Submitted) -> Outcome {
        let key = match (submitted.id, &submitted.name) {
            (Some(id), _) => id.to_string(),
            (None, Some(name)) => name.clone(),
            (None, None) => return Ok(()),
        };
        let found = self.endpoint.get(&format!("/batches/{key}")).await?;
        // An id may belong to somebody else by now, after a restart of the server: it is ours only
        // under our name.
        if found.status == 404
            || submitted
                .name
                .as_ref()
                .is_some_and(|name| !named(&found, name))
        {
            return Ok(());
        }
        self.endpoint
            .send(Ask::delete(format!("/batches/{key}")))
            .await?;
        // What DELETE answers is one thing, whether the batch is gone another.
        let after = self.endpoint.get(&format!("/batches/{key}")).await?;
        if after.status == 200 && id_of(&after) == id_of(&found) {
            Err(after.miss("it gone"))
        } else {
            Ok(())
        }
    }
}

/// Reads the id of a batch, without asking for more than that it is there.
pub(super) fn id_of(answer: &Answer) -> Option<i64> {
    let body: Map<String, Value> = serde_json::from_slice(&answer.body).ok()?;
    let id = body.get("id")?;
    id.as_i64().or_else(|| id.as_str()?.parse().ok())
}

fn named(answer: &Answer, name: &str) -> bool {
    answer
        .json()
        .is_ok_and(|body| body["name"].as_str() == Some(name))
}
