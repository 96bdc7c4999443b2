//! A real Apache Livy with a real Spark, through the gateway, over TLS. What every client does at
//! every server is the matrix's (`tests/matrix`); here is what needs a closer look: logs in pages,
//! kills, ghosts, restarts, and whether the doubles are like the servers that they play.
//!
//! Each test starts a Livy of its own (three seconds) on a free loopback port, in a folder of its
//! own, and stops it with everything that it started. `fetch.sh` brings the packages, into a cache
//! outside the tree.

mod alike;
mod forgetting;
#[cfg(feature = "kerberos")]
mod kerberos;

use std::time::Duration;

use serde_json::json;
use testkit::servers::front::knox_front;
use testkit::servers::livy::Livy;
use testkit::{ALICE, BOB, Clusters, Gateway, Request, Scene};

/// A Spark job takes ten seconds on an idle machine; a CI machine is not idle.
const JOB: Duration = Duration::from_secs(180);

fn gateway_over(livy: &Livy) -> Gateway {
    gateway_to(&format!("flavor: livy, url: \"http://{}\"", livy.address))
}

/// A gateway with one cluster.
fn gateway_to(cluster: &str) -> Gateway {
    // A scene takes its names from simulated clusters; the real one stands in their place.
    let clusters = Clusters::start();
    let mut scene = Scene::new(&clusters);
    scene.clusters = format!("  real: {{{cluster}, freshness: 0s}}\n");
    scene
        .with_routes("  - {name: all, targets: [{cluster: real}]}\n")
        .start()
}

fn submit(gateway: &Gateway, livy: &Livy, args: &[&str], name: &str) -> i64 {
    let body = json!({"file": livy.job(), "args": args, "name": name, "conf": {"spark.ui.enabled": false}, "driverMemory": "512m"});
    let reply = gateway.post("/batches", &body);
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()["id"].as_i64().expect("an id")
}

fn log_lines(gateway: &Gateway, id: i64, query: &str) -> (i64, i64, Vec<String>) {
    let page = gateway.get(&format!("/batches/{id}/log{query}")).json();
    let lines = page["log"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|line| line.as_str().expect("a text").to_owned())
        .collect();
    (
        page["from"].as_i64().expect("a number"),
        page["total"].as_i64().expect("a number"),
        lines,
    )
}

#[test]
fn a_pyspark_job_runs_to_success_and_its_log_is_read_in_pages() {
    let livy = Livy::start();
    let gateway = gateway_over(&livy);
    let id = submit(&gateway, &livy, &["2"], "real-ok");
    let states = gateway.wait_longer_for_state(id, "success", JOB);
    assert!(
        states
            .iter()
            .all(|state| ["starting", "running", "success"].contains(&state.as_str())),
        "{states:?}"
    );
    let (_, total, all) = log_lines(&gateway, id, "?from=0&size=-1");
    assert_eq!(i64::try_from(all.len()).ok(), Some(total));
    for wanted in ["stdout: ", "sum 499500", "tick 0", "tick 1", "\nstderr: "] {
        assert!(
            all.iter().any(|line| line == wanted),
            "{wanted:?} is not in {all:#?}"
        );
    }
    // Page by page, the way Airflow does and the way a cursor does, it is the same log.
    let mut paged = Vec::new();
    while i64::try_from(paged.len()).expect("small") < total {
        let (from, _, lines) = log_lines(&gateway, id, &format!("?from={}&size=7", paged.len()));
        assert_eq!(usize::try_from(from).ok(), Some(paged.len()));
        paged.extend(lines);
    }
    assert_eq!(paged, all);
    // Where a real Livy overflows and returns nothing, the rest is returned.
    assert_eq!(
        log_lines(&gateway, id, "?from=1&size=2147483647").2,
        all[1..]
    );
    let (_, _, tail) = log_lines(&gateway, id, "?size=2");
    assert_eq!(tail, all[all.len() - 2..]);
    let item = gateway.get(&format!("/batches/{id}")).json();
    assert_eq!(
        (
            item["state"].as_str(),
            item["name"].as_str(),
            item["owner"].as_str()
        ),
        (Some("success"), Some("real-ok"), Some("alice"))
    );
    assert_eq!(item["log"].as_array().map(Vec::len), Some(10));
    assert_eq!(gateway.get("/batches/real-ok").json()["id"], id);
}

#[test]
fn a_failing_job_is_dead() {
    let livy = Livy::start();
    let gateway = gateway_over(&livy);
    let id = submit(&gateway, &livy, &["0", "on purpose"], "real-bad");
    gateway.wait_longer_for_state(id, "dead", JOB);
    let (_, _, log) = log_lines(&gateway, id, "?size=-1");
    assert!(
        log.iter()
            .any(|line| line.contains("told to fail: on purpose")),
        "{log:#?}"
    );
}

#[test]
fn a_running_job_is_killed_and_lists_are_true() {
    let livy = Livy::start();
    let gateway = gateway_over(&livy);
    let id = submit(&gateway, &livy, &["600"], "real-long");
    gateway.wait_longer_for_state(id, "running", JOB);
    let list = gateway.get("/batches").json();
    assert_eq!(
        (list["total"].as_i64(), list["sessions"][0]["id"].as_i64()),
        (Some(1), Some(id))
    );
    assert_eq!(
        gateway.send(&Request::get("/batches").basic(BOB)).json()["total"],
        0
    );
    assert_eq!(livy.direct("/batches")["total"], 1);
    let taken = gateway.post(
        "/batches",
        &json!({"file": livy.job(), "name": "real-long"}),
    );
    taken.error(400, "duplicate_name");
    let killed = gateway.delete(&format!("/batches/{id}"));
    assert_eq!(
        (killed.status, killed.json()["msg"].as_str()),
        (200, Some("deleted")),
        "{}",
        killed.text()
    );
    assert_eq!(
        livy.direct("/batches")["total"],
        0,
        "it is gone at the Livy as well"
    );
    gateway
        .get(&format!("/batches/{id}/state"))
        .error(404, "not_found");
    assert_eq!(gateway.get("/batches").json()["total"], 0);
}

#[test]
fn refusals_of_a_real_livy_leave_no_ghost() {
    let livy = Livy::start();
    let gateway = gateway_over(&livy);
    let told = gateway
        .post("/batches", &json!({"file": "/etc/passwd", "name": "ghost"}))
        .error(400, "upstream_rejected");
    assert!(told.contains("cannot be added to user sessions"), "{told}");
    assert_eq!(livy.direct("/batches")["total"], 0, "the ghost was removed");
    let request = Request::post("/batches", &json!({"file": "/etc/passwd"})).basic(ALICE);
    gateway.send(&request).error(400, "upstream_rejected");
    assert_eq!(
        livy.direct("/batches")["total"],
        0,
        "also the one without a name"
    );
}

#[test]
fn a_password_that_knox_refuses_is_the_gateways_own_trouble() {
    let livy = Livy::start();
    let front = knox_front(&livy);
    let gateway = gateway_to(
        &front
            .yaml
            .replace(testkit::servers::front::PASSWORD, "not-the-password"),
    );
    // Until the gateway knows that its login is refused, a 401 proves nothing about a submission.
    gateway.wait_until("a probe was refused", |gateway| {
        gateway.metric(r#"livy_gateway_cluster_up{cluster="real"}"#) == 0.0
    });
    gateway
        .post("/batches", &json!({"file": livy.job()}))
        .error(503, "upstream_credentials");
    assert_eq!(livy.direct("/batches")["total"], 0, "nothing was submitted");
}
