//! Submissions that must be refused, with a message that helps, and without leaving anything
//! behind.

use http::Method;
use serde_json::{Value, json};

use crate::certify::catalogue::Profile;
use crate::certify::endpoint::Ask;
use crate::certify::job::Job;
use crate::certify::miss::{Outcome, ensure};
use crate::certify::suite::{Suite, id_of};

/// How Livy refuses.
#[derive(Clone, Copy)]
enum Livy {
    /// `{"msg": …}` with these words.
    Says(u16, &'static str),
    /// A bare JSON string with these words.
    Bare(u16, &'static str),
}

/// The words that the gateway's 400 must have: the field's name, so that its user finds it.
struct Wanted {
    livy: Livy,
    gateway: &'static str,
}

pub(super) async fn all(suite: &Suite) {
    texts(suite).await;
    fields(suite).await;
    names(suite).await;
}

/// Bodies that are no submission at all.
async fn texts(suite: &Suite) {
    let cases = [
        ("refuse.malformed", r#"{"file": "#, 400, "end-of-input"),
        ("refuse.empty", "", 400, "No content"),
        ("refuse.array", "[]", 400, ""),
        ("refuse.text_body", "\"text\"", 400, ""),
        ("refuse.null_body", "null", 500, ""),
    ];
    for (id, body, status, words) in cases {
        let refused = async {
            let answer = suite
                .submit_as(
                    Ask::new(Method::POST, "/batches").text("application/json", body),
                    &Value::Null,
                )
                .await?;
            judge(
                suite,
                &answer,
                &Wanted {
                    livy: Livy::Bare(status, words),
                    gateway: "",
                },
            )
        };
        suite.check(id, refused).await;
    }
}

/// Fields that are missing, unknown, or of a wrong type.
async fn fields(suite: &Suite) {
    let cases = [
        (
            "refuse.unknown_field",
            "unknown",
            json!({"certifyUnknown": 1}),
            Livy::Bare(400, "certifyUnknown"),
            "certifyUnknown",
        ),
        (
            "refuse.wrong_type",
            "type",
            json!({"args": "text"}),
            Livy::Bare(400, ""),
            "args",
        ),
        (
            "refuse.list_entry",
            "entry",
            json!({"args": [{"a": 1}]}),
            Livy::Bare(400, ""),
            "args",
        ),
        (
            "refuse.conf_list",
            "conf",
            json!({"conf": [1]}),
            Livy::Bare(400, ""),
            "conf",
        ),
        (
            "refuse.big_integer",
            "big",
            json!({"numExecutors": 99_999_999_999_i64}),
            Livy::Bare(500, ""),
            "numExecutors",
        ),
        (
            "refuse.relative_file",
            "relative",
            json!({"file": "certify.py"}),
            Livy::Says(400, "not absolute"),
            "not absolute",
        ),
        (
            "refuse.bad_uri",
            "uri",
            json!({"file": "/certify a.py"}),
            Livy::Says(400, "Illegal character"),
            "Illegal character",
        ),
        (
            "refuse.fraction",
            "fraction",
            json!({"numExecutors": 2.5}),
            Livy::Bare(500, ""),
            "numExecutors",
        ),
        (
            "refuse.null_file",
            "null-file",
            json!({"file": null}),
            Livy::Says(400, "File is required"),
            "file",
        ),
        (
            "refuse.empty_file",
            "empty-file",
            json!({"file": ""}),
            Livy::Bare(500, ""),
            "file",
        ),
    ];
    for (id, what, more, livy, gateway) in cases {
        suite
            .check(
                id,
                refused(
                    suite,
                    suite.body(Job::Succeeds, what, more),
                    Wanted { livy, gateway },
                ),
            )
            .await;
    }
    let without_file = json!({"name": suite.name("no-file")});
    let wanted = || Wanted {
        livy: Livy::Says(400, "File is required"),
        gateway: "file",
    };
    suite
        .check("refuse.no_file", refused(suite, without_file, wanted()))
        .await;
    suite.check("refuse.ghost", ghost(suite)).await;
}

/// Names that are taken or can't be one.
async fn names(suite: &Suite) {
    let invalid = || Wanted {
        livy: Livy::Says(400, "Invalid session name"),
        gateway: "Invalid session name",
    };
    for (id, name) in [
        ("refuse.digits_name", json!("123")),
        ("refuse.number_name", json!(5)),
        ("refuse.empty_name", json!("")),
    ] {
        suite
            .check(
                id,
                refused(
                    suite,
                    suite.body(Job::Succeeds, "name", json!({"name": name})),
                    invalid(),
                ),
            )
            .await;
    }
    let taken = async {
        let (made, _) = suite.start(Job::Runs, "taken").await?;
        let body = suite.body(Job::Succeeds, "taken", Value::Null);
        // Not remembered under its name a second time: the first one is what has to be removed.
        let answer = suite.endpoint.send(Ask::submit(&body)).await?;
        let extra = id_of(&answer).filter(|_| answer.status < 300);
        for id in extra.into_iter().chain([made.id]) {
            suite
                .endpoint
                .send(Ask::delete(format!("/batches/{id}")))
                .await?;
        }
        answer.says(400, "Duplicate session name")
    };
    suite.check("refuse.taken_name", taken).await;
}

async fn refused(suite: &Suite, body: Value, wanted: Wanted) -> Outcome {
    let answer = suite.submit(&body).await?;
    if let Some(name) = body["name"]
        .as_str()
        .filter(|name| name.starts_with("certify-"))
    {
        suite.sweep(name).await?;
    }
    judge(suite, &answer, &wanted)
}

fn judge(suite: &Suite, answer: &crate::certify::endpoint::Answer, wanted: &Wanted) -> Outcome {
    match (suite.profile, wanted.livy) {
        (Profile::Gateway, _) => answer.says(400, wanted.gateway),
        (Profile::ApacheLivy, Livy::Bare(status, words)) => answer.bare(status, words),
        (Profile::ApacheLivy, Livy::Says(status, words)) => {
            // Livy 0.5 writes the message as a bare string.
            let told = answer.status == status
                && answer.message().is_some_and(|text| text.contains(words));
            ensure(told, || {
                format!("{}; wanted status {status} and {words:?}", answer.line())
            })
        }
    }
}

async fn ghost(suite: &Suite) -> Outcome {
    let name = suite.name("ghost");
    let body = json!({"name": name});
    let refusal = suite.submit(&body).await?;
    ensure(refusal.status >= 400, || {
        format!("{}; wanted a refusal to look behind", refusal.line())
    })?;
    let found = suite.endpoint.get(&format!("/batches/{name}")).await?;
    let in_list = suite
        .newest()
        .await?
        .iter()
        .any(|batch| batch["name"] == name.as_str());
    suite.sweep(&name).await?;
    match suite.profile {
        Profile::Gateway => ensure(found.status == 404 && !in_list, || {
            format!(
                "{}; wanted nothing under the name of what was refused",
                found.line()
            )
        }),
        Profile::ApacheLivy => {
            found.status(200)?;
            let state = found.json()?["state"].as_str().map(str::to_owned);
            ensure(state.as_deref() == Some("starting") && in_list, || {
                format!("{}; wanted it listed as starting", found.line())
            })
        }
    }
}
