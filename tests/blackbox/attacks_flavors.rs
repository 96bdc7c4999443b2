//! What single flavors, and a disk that fails, must not make wrong.

use serde_json::{Value, json};

use testkit::*;

const QUICK: &str = "settle: 300ms, freshness: 0s, timeouts: {create_batch: 1s, response: 4s}";

fn gateway(clusters: &Clusters, flavor: &str) -> Gateway {
    Scene::new(clusters).with_cluster(flavor, QUICK).start()
}

fn job(file: &str) -> Value {
    json!({"file": format!("cos://b.s/{file}"), "args": ["600"]})
}

/// A submission to IBM whose answer was lost: its application shows the marker and ends, and no row
/// of the batches' list has that application. Its end is told, not waited for in vain.
#[test]
fn an_application_that_ended_tells_the_end_of_a_lost_submission() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "ibm");
    clusters.options("ibm", &json!({"applications": true}));
    clusters.fault(
        "ibm",
        json!({"operation": "create_batch", "moment": "after", "hang_up": true}),
    );
    let empty = json!({"status": 200, "content_type": "application/json", "body": r#"{"from":0,"total":0,"sessions":[]}"#});
    clusters.fault(
        "ibm",
        json!({"operation": "list_batches", "times": 10_000, "answer": empty}),
    );
    let id = std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.submit("ibm", &json!({})));
        gateway.wait_until("it was submitted", |_| clusters.submissions("ibm") == 1);
        let upstream_id = &clusters.books("ibm")[0]["id"];
        let path = format!("/batches/{}", upstream_id.as_str().unwrap_or("1"));
        assert!(clusters.direct("ibm", "DELETE", &path, None).status < 300);
        client.join().expect("no panic")
    });
    gateway.wait_for_state(id, "killed");
    let batch = gateway.get(&format!("/batches/{id}")).json();
    let reason = batch["appInfo"]["gatewayReason"]
        .as_str()
        .expect("a reason");
    assert!(reason.contains("its application has ended"), "{reason}");
    assert_eq!(gateway.delete(&format!("/batches/{id}")).status, 200);
}

/// IBM's own double, with the API that shows `conf`. Returns the gateway before it.
fn with_applications(clusters: &Clusters) -> Gateway {
    clusters.options("ibm", &json!({"applications": true}));
    let keys = format!("{QUICK}, lost_after: 1s");
    Scene::new(clusters).with_cluster("ibm", &keys).start()
}

/// The body of the last submission that a cluster got.
fn last_sent(clusters: &Clusters) -> Value {
    let requests = clusters.requests("ibm");
    let sent = requests.into_iter().rfind(|one| one["method"] == "POST");
    let sent = sent.expect("a submission");
    serde_json::from_str(sent["body"].as_str().expect("a body")).expect("JSON")
}

/// A submission to IBM that comes after it was given up is known by its marker, and killed.
#[test]
fn a_late_job_at_ibm_is_known_by_its_marker() {
    let clusters = Clusters::start();
    let gateway = with_applications(&clusters);
    clusters.fault(
        "ibm",
        json!({"operation": "create_batch", "moment": "before", "hang_up": true}),
    );
    let refused = gateway.post("/clusters/ibm/batches", &job("mine.py"));
    assert!(refused.status >= 500, "{}", refused.text());
    // Now it arrives: something in between had held it.
    let body = last_sent(&clusters);
    let arrived = clusters.direct("ibm", "POST", "/batches", Some(&body));
    assert!(arrived.status < 300, "{}", arrived.text());
    let strangers = clusters.direct("ibm", "POST", "/batches", Some(&job("other.py")));
    assert!(strangers.status < 300, "{}", strangers.text());
    gateway.wait_until("it is known, and killed", |gateway| {
        gateway.metric("livy_gateway_late_jobs_total{action=\"killed\",cluster=\"ibm\"}") >= 1.0
    });
    let killed: Vec<bool> = clusters
        .books("ibm")
        .iter()
        .map(|job| !job["killed"].is_null())
        .collect();
    assert_eq!(killed, [true, false], "the late one and no other");
}

/// The only new job since a lost submission was sent without its marker: it is not presumed to be
/// that.
#[test]
fn a_strangers_job_without_the_marker_is_not_presumed_to_be_ours() {
    let clusters = Clusters::start();
    let gateway = with_applications(&clusters);
    clusters.fault(
        "ibm",
        json!({"operation": "create_batch", "moment": "before", "hang_up": true, "delay_ms": 500}),
    );
    let told = std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.post("/clusters/ibm/batches", &job("mine.py")));
        gateway.wait_until("it was sent", |_| clusters.submissions("ibm") == 1);
        let mut other = job("other.py");
        other["conf"] = json!({"spark.app.name": "other"});
        let strangers = clusters.direct("ibm", "POST", "/batches", Some(&other));
        assert!(strangers.status < 300, "{}", strangers.text());
        client.join().expect("no panic")
    });
    assert_eq!(told.status, 201, "{}", told.text());
    let id = told.json()["id"].as_i64().expect("an id");
    gateway.wait_until("nobody can tell, which it says", |gateway| {
        let batch = gateway.get(&format!("/batches/{id}")).json();
        let reason = batch["appInfo"]["gatewayReason"]
            .as_str()
            .map(str::to_owned);
        reason.is_some_and(|reason| reason.contains("does not say which"))
    });
    gateway.send(&Request {
        method: "DELETE",
        ..Request::get(&format!("/batches/{id}")).basic(ROOT)
    });
    assert!(clusters.books("ibm")[0]["killed"].is_null());
}

/// The cluster confirmed the kill, and the database can't take it: who was told `deleted` is not
/// shown a batch that runs, and it is stored when that is possible again.
#[test]
fn a_kill_that_was_confirmed_is_gone_though_it_cant_be_stored() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy");
    let other = gateway.submit("livy", &json!({}));
    let id = gateway.submit("livy", &json!({}));
    gateway.wait_for_state(id, "running");
    let database = gateway.scene.folder.path().join("livy-gateway.db");
    let locking = rusqlite::Connection::open(&database).expect("opens");
    clusters.fault(
        "livy",
        json!({"operation": "delete_batch", "moment": "after", "delay_ms": 700}),
    );
    let path = format!("/batches/{id}");
    std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.delete(&path));
        gateway.wait_until("the kill is on its way", |_| {
            let requests = clusters.requests("livy");
            requests.iter().any(|one| one["method"] == "DELETE")
        });
        locking.execute_batch("BEGIN IMMEDIATE").expect("locks");
        let told = client.join().expect("no panic");
        assert_eq!(told.status, 200, "{}", told.text());
    });
    assert_eq!(gateway.get(&path).status, 404);
    assert_eq!(gateway.get(&format!("{path}/state")).status, 404);
    let listed = gateway.get("/batches?size=100").json();
    assert_eq!(listed["total"], 1, "{listed}");
    assert_eq!(listed["sessions"][0]["id"], other, "{listed}");
    locking.execute_batch("ROLLBACK").expect("unlocks");
    let phase = || -> String {
        let query = format!("SELECT phase FROM batches WHERE id = {id}");
        locking
            .query_row(&query, [], |row| row.get(0))
            .expect("is there")
    };
    gateway.wait_until("it is stored", |_| phase() == "deleted");
    assert_eq!(gateway.get(&path).status, 404);
}

/// Two entries of the configuration are one Kyuubi: a batch that came through one of them is not
/// listed by the other, as the batch of whoever it runs as, who could kill it.
#[test]
fn one_kyuubi_behind_two_entries_lists_a_batch_once() {
    let clusters = Clusters::start();
    let mut scene = Scene::new(&clusters);
    let twin = scene
        .clusters
        .lines()
        .find(|line| line.trim_start().starts_with("kyuubi:"))
        .expect("there is one")
        .replacen("kyuubi:", "twin:", 1);
    scene.clusters.push_str(&format!("{twin}\n"));
    let gateway = scene.start();
    let mut batch = json!({"file": "hdfs:///x.py", "args": ["600"]});
    batch["proxyUser"] = ALICE.0.into();
    let reply = gateway.send(&Request::post("/clusters/kyuubi/batches", &batch).basic(ROOT));
    assert_eq!(reply.status, 201, "{}", reply.text());
    let list = |path: &str, user| gateway.send(&Request::get(path).basic(user)).json();
    for path in ["/clusters/twin/batches?size=100", "/batches?size=100"] {
        gateway.wait_until("the twin's list was read", |_| {
            list(path, ROOT);
            count_lists(&clusters) >= 2
        });
        assert_eq!(list(path, ALICE)["total"], 0, "{path}");
    }
    let everything = list("/batches?size=100", ROOT);
    assert_eq!(everything["total"], 1, "{everything}");
}

fn count_lists(clusters: &Clusters) -> usize {
    let requests = clusters.requests("kyuubi");
    let is_list = |one: &&Value| {
        let path = one["path"].as_str().unwrap_or_default();
        one["method"] == "GET" && path == "/batches"
    };
    requests.iter().filter(is_list).count()
}
