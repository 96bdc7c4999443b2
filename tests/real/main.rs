//! A real Apache Livy with a real Spark, through the gateway, over TLS.
//!
//! Each test starts a Livy of its own (three seconds) on a free loopback port, in a folder of its own, and stops it with everything that it
//! started. `fetch.sh` brings the packages, into a cache outside the tree.

#[expect(dead_code, reason = "shared with the other suite, which uses all of it")]
#[path = "../blackbox/harness.rs"]
mod harness;
#[path = "../blackbox/scenario.rs"]
mod scenario;
mod servers;

mod alike;
mod forgetting;

use std::time::Duration;

use harness::{ALICE, BOB, Clusters, Gateway, Request, Scene};
use serde_json::json;
use servers::{Front, Livy, hdinsight_front, knox_front};

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
    scene.with_routes("  - {name: all, targets: [{cluster: real}]}\n").start()
}

fn submit(gateway: &Gateway, livy: &Livy, args: &[&str], name: &str) -> i64 {
    let body = json!({"file": livy.job(), "args": args, "name": name, "conf": {"spark.ui.enabled": false}, "driverMemory": "512m"});
    let reply = gateway.post("/batches", &body);
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()["id"].as_i64().expect("an id")
}

fn log_lines(gateway: &Gateway, id: i64, query: &str) -> (i64, i64, Vec<String>) {
    let page = gateway.get(&format!("/batches/{id}/log{query}")).json();
    let lines = page["log"].as_array().expect("a list").iter().map(|line| line.as_str().expect("a text").to_owned()).collect();
    (page["from"].as_i64().expect("a number"), page["total"].as_i64().expect("a number"), lines)
}

#[test]
fn a_pyspark_job_runs_to_success_and_its_log_is_read_in_pages() {
    let livy = Livy::start();
    let gateway = gateway_over(&livy);
    let id = submit(&gateway, &livy, &["2"], "real-ok");
    let states = gateway.wait_longer_for_state(id, "success", JOB);
    assert!(states.iter().all(|state| ["starting", "running", "success"].contains(&state.as_str())), "{states:?}");
    let (_, total, all) = log_lines(&gateway, id, "?from=0&size=-1");
    assert_eq!(i64::try_from(all.len()).ok(), Some(total));
    for wanted in ["stdout: ", "sum 499500", "tick 0", "tick 1", "\nstderr: "] {
        assert!(all.iter().any(|line| line == wanted), "{wanted:?} is not in {all:#?}");
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
    assert_eq!(log_lines(&gateway, id, "?from=1&size=2147483647").2, all[1..]);
    let (_, _, tail) = log_lines(&gateway, id, "?size=2");
    assert_eq!(tail, all[all.len() - 2..]);
    let item = gateway.get(&format!("/batches/{id}")).json();
    assert_eq!((item["state"].as_str(), item["name"].as_str(), item["owner"].as_str()), (Some("success"), Some("real-ok"), Some("alice")));
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
    assert!(log.iter().any(|line| line.contains("told to fail: on purpose")), "{log:#?}");
}

#[test]
fn a_running_job_is_killed_and_lists_are_true() {
    let livy = Livy::start();
    let gateway = gateway_over(&livy);
    let id = submit(&gateway, &livy, &["600"], "real-long");
    gateway.wait_longer_for_state(id, "running", JOB);
    let list = gateway.get("/batches").json();
    assert_eq!((list["total"].as_i64(), list["sessions"][0]["id"].as_i64()), (Some(1), Some(id)));
    assert_eq!(gateway.send(&Request::get("/batches").basic(BOB)).json()["total"], 0);
    assert_eq!(livy.direct("/batches")["total"], 1);
    let taken = gateway.post("/batches", &json!({"file": livy.job(), "name": "real-long"}));
    taken.error(400, "duplicate_name");
    let killed = gateway.delete(&format!("/batches/{id}"));
    assert_eq!((killed.status, killed.json()["msg"].as_str()), (200, Some("deleted")), "{}", killed.text());
    assert_eq!(livy.direct("/batches")["total"], 0, "it is gone at the Livy as well");
    gateway.get(&format!("/batches/{id}/state")).error(404, "not_found");
    assert_eq!(gateway.get("/batches").json()["total"], 0);
}

#[test]
fn refusals_of_a_real_livy_leave_no_ghost() {
    let livy = Livy::start();
    let gateway = gateway_over(&livy);
    let told = gateway.post("/batches", &json!({"file": "/etc/passwd", "name": "ghost"})).error(400, "upstream_rejected");
    assert!(told.contains("cannot be added to user sessions"), "{told}");
    assert_eq!(livy.direct("/batches")["total"], 0, "the ghost was removed");
    let request = Request::post("/batches", &json!({"file": "/etc/passwd"})).basic(ALICE);
    gateway.send(&request).error(400, "upstream_rejected");
    assert_eq!(livy.direct("/batches")["total"], 0, "also the one without a name");
}

/// Everything that a scheduler does, through something that stands in front of a real Livy.
fn walk_behind(livy: &Livy, front: &Front) {
    let gateway = gateway_to(&front.yaml);
    gateway.wait_until("the front serves", |gateway| gateway.get("/batches").header("x-livy-gateway-stale").is_none());
    let jvm = gateway.post("/batches", &json!({"file": livy.jvm_job(), "className": "Pi", "name": "jvm"}));
    assert_eq!(jvm.status, 201, "{}", jvm.text());
    for name in ["set-cookie", "www-authenticate", "server", "x-powered-by"] {
        assert_eq!(jvm.header(name), None);
    }
    let python = submit(&gateway, livy, &["1"], "python");
    let jvm = jvm.json()["id"].as_i64().expect("an id");
    gateway.wait_longer_for_state(jvm, "success", JOB);
    assert!(log_lines(&gateway, jvm, "?size=-1").2.iter().any(|line| line.starts_with("Pi is roughly 3.")));
    gateway.wait_longer_for_state(python, "success", JOB);
    let (_, total, all) = log_lines(&gateway, python, "?from=0&size=-1");
    assert!(total > 10 && all.iter().any(|line| line == "tick 0"));
    assert_eq!(log_lines(&gateway, python, "?from=3&size=4").2, all[3..7]);
    let failing = submit(&gateway, livy, &["0", "on purpose"], "failing");
    gateway.wait_longer_for_state(failing, "dead", JOB);
    let long = submit(&gateway, livy, &["600"], "long");
    gateway.wait_longer_for_state(long, "running", JOB);
    let (_, before, _) = log_lines(&gateway, long, "?from=0&size=2");
    assert!(before >= 2, "a log is paged before the end as well");
    let list = gateway.get("/batches").json();
    assert_eq!(list["total"], 4, "{list}");
    assert_eq!(gateway.get("/batches/long").json()["id"], long);
    gateway.post("/batches", &json!({"file": livy.job(), "name": "long"})).error(400, "duplicate_name");
    assert_eq!(gateway.delete(&format!("/batches/{long}")).status, 200);
    assert_eq!(livy.direct("/batches")["total"], 3, "it is gone at the Livy as well");
    gateway.post("/batches", &json!({"file": "/etc/passwd"})).error(400, "upstream_rejected");
    assert_eq!(livy.direct("/batches")["total"], 3, "and so is the ghost of what was refused");
}

#[test]
fn behind_a_real_knox_everything_works() {
    let livy = Livy::start();
    let front = knox_front(&livy);
    walk_behind(&livy, &front);
    // Another password is the gateway's own trouble, not the client's: nothing is submitted, and it says so.
    let gateway = gateway_to(&front.yaml.replace(servers::PASSWORD, "not-the-password"));
    gateway.post("/batches", &json!({"file": livy.job()})).error(503, "upstream_credentials");
}

#[test]
fn behind_an_hdinsight_front_everything_works() {
    let livy = Livy::start();
    let front = hdinsight_front(&livy);
    walk_behind(&livy, &front);
}
