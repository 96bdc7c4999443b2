//! Never lost, never doubled, never guessed at.

use std::time::Instant;

use serde_json::json;

use testkit::*;

/// A cluster whose silence is proof after a second: nothing between holds a request for longer
/// here.
const QUICK: &str = "settle: 300ms, timeouts: {create_batch: 3s}";

#[test]
fn an_answer_that_was_lost_is_looked_up() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    for flavor in ["livy", "knox", "hdinsight", "kyuubi"] {
        clusters.fault(
            flavor,
            json!({"operation": "create_batch", "moment": "after", "hang_up": true}),
        );
        let reply = gateway.post(
            &format!("/clusters/{flavor}/batches"),
            &json!({"file": "hdfs:///x.py", "args": ["600"]}),
        );
        assert_eq!(reply.status, 201, "{flavor}: {}", reply.text());
        assert!(
            reply.header("x-livy-gateway-upstream-id").is_some(),
            "{flavor}: it was found"
        );
        assert_eq!(
            clusters.submissions(flavor),
            1,
            "{flavor}: it was not sent again"
        );
        let id = reply.json()["id"].as_i64().expect("an id");
        gateway.wait_for_state(id, "running");
        assert_eq!(
            gateway.get(&format!("/clusters/{flavor}/batches")).json()["total"],
            1,
            "{flavor}: and it is one batch"
        );
        assert_eq!(gateway.metric(&format!("livy_gateway_ambiguous_submissions_total{{cluster=\"{flavor}\",resolution=\"found\"}}")), 1.0);
    }
}

#[test]
fn a_gateway_that_gives_up_waiting_is_no_refusal() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    // What Knox and IIS say when the Livy behind them takes too long: the batch is there all the
    // same.
    for (flavor, status, kind, body) in [
        (
            "knox",
            500,
            "application/json",
            r#"{"servlet":"default-livy","message":"Service connectivity error.","status":"500"}"#,
        ),
        (
            "hdinsight",
            502,
            "text/html",
            "<html><head><title>IIS 8.5 Detailed Error - 502.3 - Bad Gateway</title></head></html>",
        ),
        ("kyuubi", 502, "text/html", "<html>bad gateway</html>"),
    ] {
        let answer = json!({"status": status, "content_type": kind, "body": body});
        clusters.fault(
            flavor,
            json!({"operation": "create_batch", "moment": "after", "answer": answer}),
        );
        let reply = gateway.post(
            &format!("/clusters/{flavor}/batches"),
            &json!({"file": "hdfs:///x.py"}),
        );
        assert_eq!(
            (reply.status, clusters.submissions(flavor)),
            (201, 1),
            "{flavor}: {}",
            reply.text()
        );
    }
}

#[test]
fn a_job_that_is_just_being_prepared_is_no_ghost() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    // Knox gave up waiting; Livy has the session registered and goes on to start it. It looks like
    // a ghost, and is none.
    let gave_up = json!({"status": 500, "content_type": "text/html", "body": "<html><title>Error 500</title></html>"});
    clusters.fault(
        "knox",
        json!({"operation": "create_batch", "moment": "after", "answer": gave_up}),
    );
    // Before it was sent, the name was free.
    let free = r#"{"msg":"Session 'young' not found."}"#;
    clusters.fault("knox", json!({"operation": "get_batch", "answer": {"status": 404, "content_type": "application/json", "body": free}}));
    let young = r#"{"id":0,"name":"young","owner":null,"proxyUser":null,"state":"starting","appId":null,"appInfo":{},"log":[]}"#;
    clusters.fault("knox", json!({"operation": "get_batch", "answer": {"status": 200, "content_type": "application/json", "body": young}}));
    let reply = gateway.post(
        "/clusters/knox/batches",
        &json!({"file": "hdfs:///x.py", "name": "young", "args": ["600"]}),
    );
    assert_eq!(reply.status, 201, "{}", reply.text());
    gateway.wait_for_state(reply.json()["id"].as_i64().expect("an id"), "running");
    assert!(
        clusters
            .requests("knox")
            .iter()
            .all(|request| request["method"] != "DELETE"),
        "nothing was removed"
    );
}

#[test]
fn a_kyuubi_row_that_never_ran_is_a_refusal() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let failed = json!({"status": 500, "content_type": "application/json", "body": r#"{"message":"Error opening batch session, due to no room in the pool"}"#});
    clusters.fault(
        "kyuubi",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 1500, "answer": failed}),
    );
    let told = std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            gateway.post(
                "/clusters/kyuubi/batches",
                &json!({"file": "hdfs:///x.py", "args": ["600"]}),
            )
        });
        gateway.wait_until("it was submitted", |_| clusters.submissions("kyuubi") == 1);
        let sent = clusters
            .requests("kyuubi")
            .into_iter()
            .find(|one| one["method"] == "POST")
            .expect("a submission");
        let body: serde_json::Value =
            serde_json::from_str(sent["body"].as_str().expect("a body")).expect("JSON");
        // What Kyuubi leaves of a refusal: an end without an application.
        let row = json!({"id": body["conf"]["kyuubi.batch.id"], "state": "ERROR", "appId": null, "appState": null});
        let answer =
            json!({"status": 200, "content_type": "application/json", "body": row.to_string()});
        clusters.fault(
            "kyuubi",
            json!({"operation": "get_batch", "times": 1000, "answer": answer}),
        );
        client
            .join()
            .expect("no panic")
            .error(400, "upstream_rejected")
    });
    assert!(told.contains("no room in the pool"), "{told}");
}

#[test]
fn a_submission_that_proves_absent_is_sent_again() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters).with_cluster("livy", QUICK).start();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "before", "hang_up": true}),
    );
    let reply = gateway.post(
        "/clusters/livy/batches",
        &json!({"file": "hdfs:///x.py", "name": "again"}),
    );
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert!(reply.header("x-livy-gateway-upstream-id").is_some());
    assert_eq!(clusters.submissions("livy"), 2);
    assert_eq!(gateway.get("/clusters/livy/batches").json()["total"], 1);
}

/// IBM names nothing: the only new batch in the list is presumed to be the one whose answer was
/// lost, and everything says so.
#[test]
fn a_lost_submission_that_no_name_can_prove_is_presumed() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters).with_cluster("ibm", QUICK).start();
    clusters.fault(
        "ibm",
        json!({"operation": "create_batch", "moment": "after", "hang_up": true}),
    );
    let reply = gateway.post(
        "/clusters/ibm/batches",
        &json!({"file": "cos://b.s/x.py", "args": ["600"]}),
    );
    assert_eq!(reply.status, 201, "{}", reply.text());
    let id = reply.json()["id"].as_i64().expect("an id");
    gateway.wait_for_state(id, "running");
    let batch = gateway.get(&format!("/batches/{id}")).json();
    assert!(
        batch["appInfo"]["gatewayReason"]
            .as_str()
            .is_some_and(|why| why.contains("presumed")),
        "{batch}"
    );
    assert_eq!(clusters.submissions("ibm"), 1, "it was never sent twice");
    assert_eq!(
        gateway.get("/clusters/ibm/batches").json()["total"],
        1,
        "it has no twin"
    );
    let told = gateway
        .delete(&format!("/batches/{id}"))
        .error(403, "forbidden");
    assert!(told.contains("presumed"), "{told}");
    assert_eq!(
        gateway
            .send(
                &Request {
                    method: "DELETE",
                    ..Request::get(&format!("/batches/{id}"))
                }
                .basic(ROOT)
            )
            .status,
        200
    );
}

#[test]
fn a_submission_that_ibm_never_got_is_absent_and_not_sent_again() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters).with_cluster("ibm", QUICK).start();
    clusters.fault(
        "ibm",
        json!({"operation": "create_batch", "moment": "before", "hang_up": true}),
    );
    let reply = gateway.post("/clusters/ibm/batches", &json!({"file": "cos://b.s/x.py"}));
    // Should the first one come late, nothing would tell it.
    assert_eq!(clusters.submissions("ibm"), 1);
    assert!(
        reply
            .error(503, "cluster_unavailable")
            .contains("is not there")
    );
    assert_eq!(gateway.get("/clusters/ibm/batches").json()["total"], 0);
}

#[test]
fn a_route_may_want_the_plain_truth_instead() {
    let clusters = Clusters::start();
    let routes = "  - {name: strict, ambiguous: error, targets: [{cluster: livy}]}\n";
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", "timeouts: {create_batch: 200ms, response: 200ms}")
        .with_routes(routes)
        .start();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "hang_up": true}),
    );
    clusters.fault(
        "livy",
        json!({"operation": "get_batch", "times": 10000, "hang_up": true}),
    );
    let reply = gateway.post("/batches", &json!({"file": "hdfs:///x.py"}));
    reply.error(502, "submission_unknown");
}

#[test]
fn refusals_leave_nothing_behind() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    // A Livy refuses this path only after it has registered the session: a ghost with the name
    // taken.
    let body = json!({"file": "/etc/passwd", "name": "ghost"});
    for flavor in ["livy", "knox", "hdinsight"] {
        let told = gateway
            .post(&format!("/clusters/{flavor}/batches"), &body)
            .error(400, "upstream_rejected");
        assert!(told.contains("cannot be added to user sessions"), "{told}");
        let list = gateway.get(&format!("/clusters/{flavor}/batches")).json();
        assert_eq!(list["total"], 0, "{flavor}: a ghost is listed: {list}");
        let fixed = gateway.post(
            &format!("/clusters/{flavor}/batches"),
            &json!({"file": "hdfs:///x.py", "name": "ghost"}),
        );
        assert_eq!(
            fixed.status,
            201,
            "{flavor}: the name is free again: {}",
            fixed.text()
        );
        assert_eq!(gateway.delete("/batches/ghost").status, 200);
    }
    // The same without a name: the generated one finds the ghost.
    gateway
        .post("/clusters/livy/batches", &json!({"file": "/etc/passwd"}))
        .error(400, "upstream_rejected");
    let root = gateway
        .send(&Request::get("/clusters/livy/batches").basic(ROOT))
        .json();
    assert_eq!(root["total"], 0, "{root}");
    gateway.get("/batches/ghost").error(404, "not_found");
}

#[test]
fn a_cluster_without_room_is_429_and_the_next_one_is_tried_first() {
    let clusters = Clusters::start();
    let routes = "  - {name: tiers, targets: [{cluster: livy}, {cluster: kyuubi, tier: 2}]}\n";
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", QUICK)
        .with_routes(routes)
        .start();
    let full = json!({"status": 400, "content_type": "application/json", "body": r#"{"msg":"Rejected, too many sessions are being created!"}"#});
    clusters.fault("livy", json!({"operation": "create_batch", "answer": full}));
    let reply = gateway.post("/batches", &json!({"file": "hdfs:///x.py"}));
    assert_eq!(
        (reply.status, reply.header("x-livy-gateway-cluster")),
        (201, Some("kyuubi")),
        "{}",
        reply.text()
    );
    let limit = json!({"status": 500, "content_type": "application/json", "body": r#"{"message":"Connection limit per user reached (user: x limit: 1)"}"#});
    clusters.fault("livy", json!({"operation": "create_batch", "answer": full}));
    clusters.fault(
        "kyuubi",
        json!({"operation": "create_batch", "answer": limit}),
    );
    let reply = gateway.post(
        "/batches",
        &json!({"file": "hdfs:///x.py", "name": "later"}),
    );
    assert!(reply.header("retry-after").is_some());
    reply.error(429, "cluster_full");
    assert_eq!(
        gateway
            .post(
                "/batches",
                &json!({"file": "hdfs:///x.py", "name": "later"})
            )
            .status,
        201,
        "nothing holds the name"
    );
    // A status alone proves nothing: the next cluster has it once look-ups have shown nothing for
    // `settle`.
    for status in [401, 429, 503] {
        clusters.fault(
            "livy",
            json!({"operation": "create_batch", "answer": {"status": status}}),
        );
        let reply = gateway.post("/batches", &json!({"file": "hdfs:///x.py"}));
        assert_eq!(
            (reply.status, reply.header("x-livy-gateway-cluster")),
            (201, Some("kyuubi")),
            "{status}"
        );
    }
}

#[test]
fn a_cluster_that_is_not_there_is_503_before_anything_was_sent() {
    let clusters = Clusters::start();
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("binds")
        .local_addr()
        .expect("is bound");
    let mut scene =
        Scene::new(&clusters).with_routes("  - {name: all, targets: [{cluster: gone}]}\n");
    scene.clusters.push_str(&format!(
        "  gone: {{flavor: livy, url: \"http://{nowhere}\"}}\n"
    ));
    let gateway = scene.start();
    let reply = gateway.post("/batches", &json!({"file": "hdfs:///x.py"}));
    assert!(reply.header("retry-after").is_some());
    assert!(
        reply
            .error(503, "cluster_unavailable")
            .contains("nothing was submitted")
    );
    assert_eq!(gateway.get("/batches").json()["total"], 0);
    assert!(
        gateway.metric(r#"livy_gateway_upstream_errors_total{cluster="gone",reason="connect"}"#)
            >= 1.0
    );
}

#[test]
fn the_same_key_is_the_same_batch() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let post = |key: &str, body: &serde_json::Value, who| {
        gateway.send(
            &Request::post("/clusters/livy/batches", body)
                .header("Idempotency-Key", key)
                .basic(who),
        )
    };
    let body = json!({"file": "hdfs:///x.py", "conf": {"spark.a": 1}});
    let first = post("k1", &body, ALICE);
    let again = post(
        "k1",
        &json!({"conf": {"spark.a": "1"}, "file": "hdfs:///x.py"}),
        ALICE,
    );
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.json()["id"], again.json()["id"]);
    post("k1", &json!({"file": "hdfs:///y.py"}), ALICE).error(422, "idempotency_conflict");
    assert_ne!(
        post("k1", &body, BOB).json()["id"],
        first.json()["id"],
        "keys of different callers never meet"
    );
    assert_eq!(clusters.submissions("livy"), 2);
    // Two at once: the second waits for the first.
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "delay_ms": 300}),
    );
    let ids: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| post("k2", &body, ALICE).json()["id"].clone()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0] && id.is_i64()), "{ids:?}");
    assert_eq!(clusters.submissions("livy"), 3);
    // Still the same after a crash.
    let gateway = gateway.killed_and_restarted();
    let after = gateway.send(
        &Request::post("/clusters/livy/batches", &body)
            .header("Idempotency-Key", "k1")
            .basic(ALICE),
    );
    assert_eq!(after.json()["id"], first.json()["id"]);
}

#[test]
fn a_client_that_hangs_up_loses_nothing() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "delay_ms": 300}),
    );
    let mut stream = gateway.tls(&[b"http/1.1"]);
    let request = Request::post(
        "/clusters/livy/batches",
        &json!({"file": "hdfs:///x.py", "name": "hung-up"}),
    )
    .basic(ALICE);
    std::io::Write::write_all(&mut stream, &request.to_bytes()).expect("is sent");
    std::io::Write::flush(&mut stream).expect("is sent");
    gateway.wait_until("the submission was on its way", |_| {
        clusters.submissions("livy") == 1
    });
    drop(stream);
    gateway.wait_until("the hang-up was counted", |gateway| {
        gateway.metric(
            r#"livy_gateway_requests_total{code="499",operation="create_batch",route="all"}"#,
        ) == 1.0
    });
    gateway.wait_until("the batch is known", |gateway| {
        gateway.get("/batches/hung-up").status == 200
    });
    gateway.wait_until("and bound", |gateway| {
        gateway
            .get("/batches/hung-up")
            .header("x-livy-gateway-upstream-id")
            .is_some()
    });
}

#[test]
fn a_kill_nine_at_any_moment_of_a_submission_loses_no_entry() {
    let clusters = Clusters::start();
    for flavor in ["livy", "kyuubi"] {
        // Before the cluster has it, while it works on it, and after it has answered into the void.
        for (moment, delay) in [("before", 2000), ("after", 2000)] {
            // A cluster that may have died with the gateway is given this time.
            let quick = format!("{QUICK}, lost_after: 1s");
            let gateway = Scene::new(&clusters).with_cluster(flavor, &quick).start();
            clusters.fault(
                flavor,
                json!({"operation": "create_batch", "moment": moment, "delay_ms": delay}),
            );
            let mut stream = gateway.tls(&[b"http/1.1"]);
            let name = format!("crash-{flavor}-{moment}");
            let path = format!("/clusters/{flavor}/batches");
            let body = json!({"file": "hdfs:///x.py", "name": name, "args": ["600"]});
            let before = clusters.submissions(flavor);
            std::io::Write::write_all(
                &mut stream,
                &Request::post(&path, &body).basic(ALICE).to_bytes(),
            )
            .expect("is sent");
            std::io::Write::flush(&mut stream).expect("is sent");
            gateway.wait_until("the submission was on its way", |_| {
                clusters.submissions(flavor) > before
            });
            let gateway = gateway.killed_and_restarted();
            // The entry is there from the first moment on, and it says what it knows.
            assert_eq!(
                gateway.get(&format!("/batches/{name}")).status,
                200,
                "{flavor} {moment}"
            );
            gateway.wait_until("it was resolved", |gateway| {
                let batch = gateway.get(&format!("/batches/{name}"));
                batch.header("x-livy-gateway-upstream-id").is_some()
                    || batch.json()["state"] == "error"
            });
            let batch = gateway.get(&format!("/batches/{name}"));
            let known_there = batch.header("x-livy-gateway-upstream-id").is_some();
            // A request that was cut off before it took effect never will: the entry says so, and
            // nothing runs.
            assert_eq!(known_there, moment == "after", "{flavor}: {}", batch.text());
            assert_eq!(
                batch.json()["state"] == "error",
                moment == "before",
                "{flavor}: {}",
                batch.text()
            );
            assert_eq!(
                clusters.submissions(flavor),
                before + 1,
                "a crash submits nothing again"
            );
            assert_eq!(gateway.delete(&format!("/batches/{name}")).status, 200);
        }
    }
}

#[test]
fn a_kill_nine_in_a_storm_of_submissions_loses_none_that_was_answered() {
    let clusters = Clusters::start();
    for round in 0..3 {
        let gateway = Gateway::over(&clusters);
        let answered = std::sync::Mutex::new(Vec::new());
        let before = clusters.submissions("livy");
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let (gateway, answered) = (&gateway, &answered);
                scope.spawn(move || {
                    let name = format!("storm-{round}-{worker}");
                    for at in 0..50 {
                        let body = json!({"file": "hdfs:///x.py", "name": format!("{name}-{at}"), "args": ["600"]});
                        let request = Request::post("/clusters/livy/batches", &body).basic(ALICE).to_bytes();
                        let Some(reply) = gateway.try_send(&request) else { return };
                        if reply.status == 201 {
                            answered.lock().expect("no panic").push(reply.json()["id"].as_i64().expect("an id"));
                        }
                    }
                });
            }
            gateway.wait_until("some were submitted", |_| {
                clusters.submissions("livy") >= before + 10 * (round + 1)
            });
            gateway.process.signal("-KILL");
        });
        let gateway = gateway.killed_and_restarted();
        let answered = answered.into_inner().expect("no panic");
        assert!(answered.len() >= 5, "{answered:?}");
        for id in answered {
            assert_eq!(
                gateway.get(&format!("/batches/{id}/state")).status,
                200,
                "batch {id} was answered and is lost"
            );
        }
        // Whatever reached the cluster has exactly one id here.
        let until = Instant::now() + PATIENCE;
        loop {
            let list = gateway
                .send(&Request::get("/clusters/livy/batches?size=-1").basic(ROOT))
                .json();
            let shown = gateway
                .send(&Request::get("/clusters/livy/batches?size=100000").basic(ROOT))
                .json();
            let sessions = shown["sessions"].as_array().expect("a list").clone();
            let names: std::collections::HashSet<_> =
                sessions.iter().map(|one| one["name"].to_string()).collect();
            if names.len() == sessions.len()
                && list["total"].as_u64() == Some(sessions.len() as u64)
            {
                break;
            }
            assert!(Instant::now() < until, "a name stands twice in {shown}");
        }
        clusters.restart("livy");
    }
}
