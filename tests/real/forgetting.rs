//! What a real Livy forgets, and what the gateway remembers: restarts without and with recovery,
//! and garbage collection.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{JOB, gateway_over, gateway_to, log_lines, submit};
use testkit::servers::livy::{Livy, LivySetup};
use testkit::servers::yarn::Yarn;
use testkit::{Gateway, ROOT, Request};

fn upstream_id(gateway: &Gateway, id: i64) -> Option<String> {
    gateway
        .get(&format!("/batches/{id}"))
        .header("x-livy-gateway-upstream-id")
        .map(str::to_owned)
}

fn shown(gateway: &Gateway, id: i64) -> Value {
    gateway.get(&format!("/batches/{id}")).json()
}

/// Waits for something that a Livy itself shows.
#[track_caller]
fn wait_for(what: &str, patience: Duration, holds: impl Fn() -> bool) {
    let until = Instant::now() + patience;
    while !holds() {
        assert!(Instant::now() < until, "it never held: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_livy_that_counts_from_zero_again_shows_nobody_anothers_batch() {
    let mut livy = Livy::start();
    let gateway = gateway_over(&livy);
    let ended = submit(&gateway, &livy, &["0"], "ended");
    gateway.wait_longer_for_state(ended, "success", JOB);
    let lost = submit(&gateway, &livy, &["600"], "lost");
    gateway.wait_longer_for_state(lost, "running", JOB);
    livy.restart();
    let (first, second) = (
        submit(&gateway, &livy, &["600"], "first"),
        submit(&gateway, &livy, &["600"], "second"),
    );
    assert_eq!(
        (
            upstream_id(&gateway, first).as_deref(),
            upstream_id(&gateway, second).as_deref()
        ),
        (Some("0"), Some("1")),
        "it began again"
    );
    gateway.wait_longer_for_state(first, "running", JOB);
    let shown = |id| shown(&gateway, id);
    assert_eq!(
        (
            shown(ended)["name"].as_str(),
            shown(ended)["state"].as_str()
        ),
        (Some("ended"), Some("success"))
    );
    assert_eq!(
        (shown(lost)["name"].as_str(), shown(lost)["state"].as_str()),
        (Some("lost"), Some("error"))
    );
    assert_eq!(gateway.get(&format!("/batches/{ended}/log")).status, 200);
    // Killing the old ones kills nothing of the new ones'.
    for id in [ended, lost] {
        assert_eq!(gateway.delete(&format!("/batches/{id}")).status, 200);
    }
    assert_eq!(livy.direct("/batches")["total"], 2);
    assert_eq!(gateway.get("/batches").json()["total"], 2);
}

#[test]
fn a_livy_that_recovers_keeps_every_batch() {
    let yarn = Yarn::start();
    let mut livy = Livy::set_up(&LivySetup {
        yarn: Some(&yarn),
        ..LivySetup::default()
    });
    let gateway = gateway_over(&livy);
    let ended = submit(&gateway, &livy, &["0"], "ended");
    gateway.wait_longer_for_state(ended, "success", JOB);
    let application = shown(&gateway, ended)["appId"]
        .as_str()
        .expect("YARN has given an id")
        .to_owned();
    let live = submit(&gateway, &livy, &["600"], "live");
    gateway.wait_longer_for_state(live, "running", JOB);
    livy.restart();
    // Livy says `recovering` for a while; clients must see neither that word nor a step back.
    wait_for("the batch is recovered", JOB, || {
        for (id, wanted) in [(ended, "success"), (live, "running")] {
            let reply = gateway.get(&format!("/batches/{id}/state"));
            assert_eq!(
                (reply.status, reply.json()["state"].as_str()),
                (200, Some(wanted))
            );
        }
        // Nor may a list take what is being recovered for something new, not even for an admin.
        let list = gateway.send(&Request::get("/batches").basic(ROOT)).json();
        assert_eq!(list["total"], 2, "{list}");
        livy.direct("/batches/1/state")["state"] == "running"
    });
    let batch = shown(&gateway, ended);
    assert_eq!(
        (batch["name"].as_str(), batch["appId"].as_str()),
        (Some("ended"), Some(application.as_str()))
    );
    assert_eq!(gateway.get(&format!("/batches/{ended}/log")).status, 200);
    let new = submit(&gateway, &livy, &["0", "on purpose"], "new");
    assert_eq!(
        upstream_id(&gateway, new).as_deref(),
        Some("2"),
        "it goes on counting"
    );
    let ids: Vec<i64> = gateway.get("/batches").json()["sessions"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["id"].as_i64())
        .collect();
    assert_eq!(
        ids,
        [ended, live, new],
        "in order, whatever the order in which Livy recovered them"
    );
    gateway.wait_longer_for_state(new, "dead", JOB);
    let killed = shown(&gateway, live)["appId"]
        .as_str()
        .expect("YARN has given an id")
        .to_owned();
    assert_eq!(gateway.delete(&format!("/batches/{live}")).status, 200);
    wait_for("YARN has killed it", JOB, || {
        yarn.state_of(&killed) == "KILLED"
    });
    gateway
        .get(&format!("/batches/{live}/state"))
        .error(404, "not_found");
}

#[test]
fn what_livy_collects_stays_answerable() {
    // Livy looks for what to collect once a minute.
    const COLLECTED: Duration = Duration::from_secs(150);
    let livy = Livy::set_up(&LivySetup {
        keeps_ended: Some(Duration::from_secs(20)),
        ..LivySetup::default()
    });
    let gateway = gateway_to(&format!(
        "flavor: livy, url: \"http://{}\", watch: 1s",
        livy.address
    ));
    let polled = submit(&gateway, &livy, &["0"], "polled");
    gateway.wait_longer_for_state(polled, "success", JOB);
    let (_, _, log) = log_lines(&gateway, polled, "?size=-1");
    let silent = submit(&gateway, &livy, &["0", "on purpose"], "silent");
    // Nobody polls the second one. Livy is asked directly, until it has run and forgotten both.
    wait_for("Livy has forgotten both", JOB + COLLECTED, || {
        livy.direct("/batches")["total"] == 0
    });
    for (id, name, wanted) in [(polled, "polled", "success"), (silent, "silent", "dead")] {
        assert_eq!(
            gateway.get(&format!("/batches/{id}/state")).json()["state"],
            wanted
        );
        let batch = shown(&gateway, id);
        assert_eq!(
            (
                batch["name"].as_str(),
                batch["state"].as_str(),
                batch["appInfo"]["gatewayReason"].as_str()
            ),
            (Some(name), Some(wanted), None)
        );
        let (_, total, lines) = log_lines(&gateway, id, "?size=-1");
        assert_eq!(i64::try_from(lines.len()).ok(), Some(total));
    }
    let (_, _, kept) = log_lines(&gateway, polled, "?size=-1");
    assert_eq!(
        kept,
        log[log.len() - kept.len()..],
        "the end of its log is still there"
    );
    assert_eq!(kept.len(), 10);
    assert_eq!(gateway.get("/batches").json()["total"], 2);
    // The name is free again at the Livy, and another batch of that name is another batch.
    let again = gateway.post(
        "/batches",
        &json!({"file": livy.job(), "args": ["0"], "name": "polled"}),
    );
    assert_eq!(again.status, 201, "{}", again.text());
    assert_ne!(again.json()["id"], polled);
    assert_eq!(gateway.delete(&format!("/batches/{silent}")).status, 200);
    gateway
        .get(&format!("/batches/{silent}"))
        .error(404, "not_found");
}
