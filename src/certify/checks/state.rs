//! States: their words, their order, their end.

use serde_json::Value;

use super::batches::{Batches, need};
use crate::certify::catalogue::Profile;
use crate::certify::job::Job;
use crate::certify::miss::{Miss, Outcome, ensure};
use crate::certify::suite::{Made, Suite};

/// The words seen of each batch, in order.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) ok: Result<Vec<String>, Miss>,
    pub(super) failing: Result<Vec<String>, Miss>,
    pub(super) long: Result<Vec<String>, Miss>,
}

/// Follows the three jobs: two to their end, the third until it runs.
pub(super) async fn follow(suite: &Suite, batches: &Batches) -> Ends {
    let watch = async |batch: &Option<Made>, enough: fn(&str) -> bool| {
        suite.watch(need(batch)?.id, enough).await
    };
    let (ok, failing, long) = tokio::join!(
        watch(&batches.ok, |_| false),
        watch(&batches.failing, |_| false),
        watch(&batches.long, |word| word.eq_ignore_ascii_case("running")),
    );
    suite
        .check("state.running", async {
            let words = long.clone()?;
            missing_job(suite, &words, "running")?;
            ensure(words.last().is_some_and(|word| word == "running"), || {
                format!("the job that runs went {words:?}; wanted running")
            })
        })
        .await;
    suite
        .check("state.success", async {
            ends(suite, &ok.clone()?, "success", Job::Succeeds)
        })
        .await;
    suite
        .check("state.dead", async {
            ends(suite, &failing.clone()?, "dead", Job::Fails)
        })
        .await;
    let all = [&ok, &failing, &long];
    suite
        .check("state.order", async {
            let seen: Vec<&Vec<String>> = all.iter().filter_map(|one| one.as_ref().ok()).collect();
            ensure(!seen.is_empty(), || "no state could be read".into())?;
            let backwards = seen
                .into_iter()
                .find(|words| !words.iter().filter_map(|word| rank(word)).is_sorted());
            ensure(backwards.is_none(), || {
                format!(
                    "states went {:?}",
                    backwards.map(Vec::as_slice).unwrap_or_default()
                )
            })
        })
        .await;
    Ends { ok, failing, long }
}

/// Where a word stands in the life of a batch; `None` for a word that is none.
fn rank(word: &str) -> Option<u8> {
    match word {
        "starting" | "recovering" => Some(0),
        "running" => Some(1),
        "success" | "dead" | "killed" | "error" => Some(2),
        _ => None,
    }
}

fn ends(suite: &Suite, words: &[String], wanted: &str, job: Job) -> Outcome {
    missing_job(suite, words, wanted)?;
    let file = suite.terms.jobs.file(job);
    ensure(words.last().is_some_and(|word| word == wanted), || {
        format!(
            "the job {file} went {words:?} within {:?}; wanted {wanted}",
            suite.terms.job_limit
        )
    })
}

/// Without `--job` nobody knows whether there is a job at the default place: then its failure says
/// nothing about the endpoint.
fn missing_job(suite: &Suite, words: &[String], wanted: &str) -> Outcome {
    let failed = words.last().is_some_and(|word| word == "dead") && wanted != "dead";
    if failed && !suite.terms.jobs.named {
        return Err(Miss::skipped(format!(
            "the job did not run; is {} there? --job names another",
            crate::certify::job::DEFAULT_JOB
        )));
    }
    Ok(())
}

/// What a state looks like, and that an end is the end.
pub(super) async fn ended(suite: &Suite, batches: &Batches, ends: &Ends) {
    suite
        .check("state.body", async {
            let made = need(&batches.ok)?;
            let answer = suite
                .endpoint
                .get(&format!("/batches/{}/state", made.id))
                .await?;
            let body = answer.status(200)?.object()?;
            let exact = body.len() == 2
                && body.get("id").and_then(Value::as_i64) == Some(made.id)
                && body.get("state").is_some_and(Value::is_string);
            ensure(exact, || {
                format!(
                    "{}; wanted {{\"id\": {}, \"state\": …}}",
                    answer.line(),
                    made.id
                )
            })
        })
        .await;
    let last = ends
        .ok
        .as_ref()
        .ok()
        .and_then(|words| words.last())
        .filter(|word| rank(word) == Some(2));
    let end = || last.ok_or_else(|| Miss::skipped("the job did not end"));
    suite
        .check("state.final", async {
            let (end, made) = (end()?, need(&batches.ok)?);
            let words = suite.watch(made.id, |_| true).await?;
            ensure(words == [end.clone()], || {
                format!("batch {} was {end}, then {words:?}", made.id)
            })
        })
        .await;
    suite
        .check("state.agrees", async {
            let made = need(&batches.ok)?;
            end()?;
            let word = async |path: String| {
                Ok::<_, Miss>(
                    suite.endpoint.get(&path).await?.status(200)?.json()?["state"].clone(),
                )
            };
            let state = word(format!("/batches/{}/state", made.id)).await?;
            let item = word(format!("/batches/{}", made.id)).await?;
            let list = suite.newest().await?;
            let listed = list
                .iter()
                .find(|one| one["id"] == made.id)
                .map(|one| one["state"].clone());
            let agree = item == state && listed.as_ref().is_none_or(|listed| *listed == state);
            ensure(agree, || {
                format!(
                    "/state says {state}, the batch {item}, the list {}",
                    listed.unwrap_or_default()
                )
            })
        })
        .await;
    suite.check("state.words", async { words(suite) }).await;
}

/// Looks at every state that any answer showed.
fn words(suite: &Suite) -> Outcome {
    let known: &[&str] = match suite.profile {
        Profile::ApacheLivy => &[
            "starting",
            "recovering",
            "running",
            "success",
            "dead",
            "killed",
        ],
        Profile::Gateway => &["starting", "running", "success", "dead", "killed", "error"],
    };
    for answer in suite.endpoint.seen() {
        let Ok(body) = answer.json() else { continue };
        let listed = body["sessions"].as_array().cloned().unwrap_or_default();
        let strange = std::iter::once(&body)
            .chain(&listed)
            .filter_map(|batch| batch.get("state")?.as_str())
            .find(|word| !known.contains(word));
        if let Some(word) = strange {
            return Err(Miss::failed(format!(
                "{} {} shows the state {word:?}; wanted one of {known:?}",
                answer.method, answer.path
            )));
        }
    }
    Ok(())
}
