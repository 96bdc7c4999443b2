//! The promise against an enemy who read it: each of these once disproved a line of
//! docs/reliability.md.

use serde_json::{Value, json};

use testkit::*;

/// A cluster whose silence is proof after a second, and that is asked every time.
const QUICK: &str =
    "settle: 300ms, lost_after: 1s, freshness: 0s, timeouts: {create_batch: 1s, response: 2s}";
const JSON: &str = "application/json";

fn gateway(clusters: &Clusters, flavor: &str) -> Gateway {
    Scene::new(clusters).with_cluster(flavor, QUICK).start()
}

fn job() -> Value {
    json!({"file": "hdfs:///x.py", "args": ["600"]})
}

fn keyed(path: &str, body: &Value) -> Vec<u8> {
    Request::post(path, body)
        .header("Idempotency-Key", "k")
        .basic(ALICE)
        .to_bytes()
}

fn list(gateway: &Gateway) -> Vec<Value> {
    let list = gateway
        .send(&Request::get("/batches?size=100").basic(ROOT))
        .json();
    list["sessions"].as_array().cloned().unwrap_or_default()
}

/// The answer of a cluster that took the submission, in place of its own.
fn answers(clusters: &Clusters, flavor: &str, moment: &str, status: u16, kind: &str, body: &str) {
    let answer = json!({"status": status, "content_type": kind, "body": body});
    clusters.fault(
        flavor,
        json!({"operation": "create_batch", "moment": moment, "answer": answer}),
    );
}

/// Submits while the cluster takes it and then restarts before it answers.
fn submitted_into_a_restart(
    clusters: &Clusters,
    gateway: &Gateway,
    request: &[u8],
    restart: &Value,
) -> Reply {
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 60_000}),
    );
    std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.try_send(request).expect("is answered"));
        gateway.wait_until("it was accepted", |_| clusters.books("livy").len() == 1);
        clusters.restart_with("livy", restart);
        client.join().expect("no panic")
    })
}

/// Livy says of a made-up name that it is taken while look-ups don't show it: it is there.
#[test]
fn a_made_up_name_that_is_taken_is_never_absent() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy");
    let path = "/clusters/livy/batches";
    let restart = json!({"recover": true, "away_ms": 500, "unknown_ms": 7000});
    let reply = submitted_into_a_restart(&clusters, &gateway, &keyed(path, &job()), &restart);
    assert!(clusters.submissions("livy") > 1, "it was sent again");
    assert_eq!(
        (reply.status, clusters.books("livy").len()),
        (201, 1),
        "{}",
        reply.text()
    );
    gateway.wait_for_state(reply.json()["id"].as_i64().expect("an id"), "running");
}

/// Time in which nobody answers is no silence, and one 404 of a cluster that was away no proof.
#[test]
fn a_cluster_that_recovers_is_given_time() {
    let clusters = Clusters::start();
    let quick = QUICK.replace("lost_after: 1s", "lost_after: 6s");
    let gateway = Scene::new(&clusters).with_cluster("livy", &quick).start();
    let request = Request::post("/clusters/livy/batches", &job())
        .basic(ALICE)
        .to_bytes();
    let restart = json!({"recover": true, "away_ms": 2000, "unknown_ms": 3000});
    let reply = submitted_into_a_restart(&clusters, &gateway, &request, &restart);
    assert_eq!(
        (reply.status, clusters.submissions("livy")),
        (201, 1),
        "{}",
        reply.text()
    );
    gateway.wait_for_state(reply.json()["id"].as_i64().expect("an id"), "running");
}

/// The same when the gateway dies together with its cluster.
#[test]
fn a_cluster_that_recovers_after_a_crash_of_the_gateway_is_given_time() {
    let clusters = Clusters::start();
    let quick = QUICK.replace("lost_after: 1s", "lost_after: 6s");
    let gateway = Scene::new(&clusters).with_cluster("livy", &quick).start();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 60_000}),
    );
    let body = json!({"file": "hdfs:///x.py", "name": "nightly", "args": ["600"]});
    let mut stream = gateway.tls(&[b"http/1.1"]);
    let request = Request::post("/clusters/livy/batches", &body).basic(ALICE);
    std::io::Write::write_all(&mut stream, &request.to_bytes()).expect("is sent");
    std::io::Write::flush(&mut stream).expect("is sent");
    gateway.wait_until("it was accepted", |_| clusters.books("livy").len() == 1);
    clusters.restart_with(
        "livy",
        &json!({"recover": true, "away_ms": 3000, "unknown_ms": 3000}),
    );
    let gateway = gateway.killed_and_restarted();
    gateway.wait_until("it is bound", |gateway| {
        let list = list(gateway);
        assert!(list.iter().all(|one| one["state"] != "error"), "{list:?}");
        list.first().is_some_and(|one| one["state"] == "running")
    });
    assert_eq!(list(&gateway).len(), 1);
}

/// What nobody can ever know is no proof that nothing runs: the key stays.
#[test]
fn an_outcome_that_nobody_knows_keeps_the_key() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "ibm");
    let path = "/clusters/ibm/batches";
    let short = json!({"file": "cos://b.s/x.py", "args": ["1"]});
    clusters.fault(
        "ibm",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 500, "hang_up": true}),
    );
    let first = std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.try_send(&keyed(path, &short)).expect("is answered"));
        gateway.wait_until("it was accepted", |_| clusters.books("ibm").len() == 1);
        assert_eq!(
            clusters
                .direct("ibm", "POST", "/batches", Some(&short))
                .status,
            201
        );
        client.join().expect("no panic")
    });
    let id = first.json()["id"].as_i64().expect("an id");
    gateway.wait_until("both have ended", |gateway| {
        gateway.get(&format!("/batches/{id}")).json()["state"] == "error"
    });
    let again = gateway.try_send(&keyed(path, &short)).expect("is answered");
    assert_eq!(
        (again.status, &again.json()["id"]),
        (201, &json!(id)),
        "{}",
        again.text()
    );
    assert_eq!(clusters.books("ibm").len(), 2, "nothing was sent again");
}

/// A front that sends a POST twice hands on what the second one was told.
#[test]
fn what_the_second_of_two_is_told_is_no_proof() {
    let clusters = Clusters::start();
    let routes = "  - {name: two, targets: [{cluster: livy}, {cluster: kyuubi, tier: 2}]}\n";
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", QUICK)
        .with_routes(routes)
        .start();
    let named = json!({"file": "hdfs:///x.py", "name": "nightly", "args": ["600"]});
    let taken = r#"{"msg":"Duplicate session name: Some(nightly) for session 0"}"#;
    let full = r#"{"msg":"Rejected, too many sessions are being created!"}"#;
    let failed = r#""java.util.concurrent.TimeoutException""#;
    for (body, status, told) in [
        (named, 400, taken),
        (job(), 400, full),
        (job(), 500, failed),
    ] {
        let before = clusters.books("livy").len();
        answers(&clusters, "livy", "after", status, JSON, told);
        if status == 500 {
            // The first look-ups behind it are lost.
            clusters.fault(
                "livy",
                json!({"operation": "get_batch", "times": 2, "hang_up": true}),
            );
        }
        let reply = gateway.post("/batches", &body);
        assert_eq!(
            (reply.status, reply.header("x-livy-gateway-cluster")),
            (201, Some("livy")),
            "{told}: {}",
            reply.text()
        );
        assert!(
            reply.header("x-livy-gateway-upstream-id").is_some(),
            "{told}: {}",
            reply.text()
        );
        assert_eq!(
            (clusters.books("livy").len(), clusters.submissions("kyuubi")),
            (before + 1, 0),
            "{told}"
        );
    }
}

/// `ambiguous: failover` gives way only to a cluster that takes it.
#[test]
fn what_nobody_else_took_stays_open_at_the_first() {
    let clusters = Clusters::start();
    let routes = "  - {name: two, ambiguous: failover, targets: [{cluster: livy}, {cluster: kyuubi, tier: 2}]}\n";
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", QUICK)
        .with_routes(routes)
        .start();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "hang_up": true}),
    );
    clusters.fault(
        "livy",
        json!({"operation": "get_batch", "times": 100_000, "hang_up": true}),
    );
    let full = r#"{"message":"Connection limit per user reached (user: x limit: 1)"}"#;
    answers(&clusters, "kyuubi", "before", 500, JSON, full);
    let post = || {
        gateway
            .try_send(&keyed("/batches", &job()))
            .expect("is answered")
    };
    let first = post();
    assert_eq!(
        (first.status, first.header("x-livy-gateway-cluster")),
        (201, Some("livy")),
        "{}",
        first.text()
    );
    clusters.heal("livy");
    let again = post();
    assert_eq!(
        (again.status, &again.json()["id"]),
        (201, &first.json()["id"]),
        "{}",
        again.text()
    );
    gateway.wait_for_state(first.json()["id"].as_i64().expect("an id"), "running");
    assert_eq!(
        (clusters.books("livy").len(), clusters.books("kyuubi").len()),
        (1, 0)
    );
    assert_eq!(list(&gateway).len(), 1);
}

/// What ran and failed is no leftover of a refusal.
#[test]
fn a_kyuubi_job_that_ran_is_no_refusal() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "kyuubi");
    let failed = json!({"status": 500, "content_type": JSON, "body": r#"{"message":"java.sql.SQLTransientConnectionException"}"#});
    clusters.fault(
        "kyuubi",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 1700, "answer": failed}),
    );
    let body = json!({"file": "hdfs:///x.py", "args": ["1", "fail"]});
    let reply = gateway.post("/clusters/kyuubi/batches", &body);
    assert_eq!(reply.status, 201, "{}", reply.text());
    gateway.wait_for_state(reply.json()["id"].as_i64().expect("an id"), "dead");
    assert_eq!(clusters.submissions("kyuubi"), 1);
}

/// What the gateway ever knew as somebody's is never presumed to be another's, also after its end.
#[test]
fn a_batch_that_was_bobs_is_never_presumed_to_be_alices() {
    let clusters = Clusters::start();
    let slow = "settle: 300ms, freshness: 0s, timeouts: {create_batch: 4s, response: 2s}";
    let gateway = Scene::new(&clusters).with_cluster("ibm", slow).start();
    let body = json!({"file": "cos://b.s/x.py", "args": ["600"]});
    clusters.fault(
        "ibm",
        json!({"operation": "create_batch", "moment": "before", "hang_up": true}),
    );
    let path = "/clusters/ibm/batches";
    let alices = std::thread::scope(|scope| {
        let alice = scope.spawn(|| gateway.post(path, &body));
        gateway.wait_until("it was sent", |_| clusters.submissions("ibm") == 1);
        let bobs = gateway.send(&Request::post(path, &body).basic(BOB));
        assert_eq!(bobs.status, 201, "{}", bobs.text());
        let batch = format!("/batches/{}", bobs.json()["id"]);
        let kill = Request {
            method: "DELETE",
            ..Request::get(&batch)
        };
        let killed = gateway.send(&kill.basic(BOB));
        assert_eq!(killed.status, 200, "{}", killed.text());
        alice.join().expect("no panic")
    });
    alices.error(503, "cluster_unavailable");
}

/// A list in which a row can't be read proves no absence.
#[test]
fn a_list_that_is_not_whole_proves_no_absence() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy");
    let body = json!({"file": "hdfs:///x.py", "name": "my job", "args": ["600"]});
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 500, "hang_up": true}),
    );
    let odd = r#"{"from":0,"total":1,"sessions":[{"id":-1,"name":"my job","state":"running"}]}"#;
    let reply = std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.post("/clusters/livy/batches", &body));
        gateway.wait_until("it was accepted", |_| clusters.books("livy").len() == 1);
        let answer = json!({"status": 200, "content_type": JSON, "body": odd});
        clusters.fault(
            "livy",
            json!({"operation": "list_batches", "times": 10, "answer": answer}),
        );
        client.join().expect("no panic")
    });
    assert_eq!(
        (reply.status, clusters.books("livy").len()),
        (201, 1),
        "{}",
        reply.text()
    );
    clusters.heal("livy");
    gateway.wait_for_state(reply.json()["id"].as_i64().expect("an id"), "running");
}
