//! What breaks real clients, row by row: each thing that a gateway must never do, and that it does
//! not.

use serde_json::json;

use testkit::*;

/// Rows 1, 2, 10, 11, 13, 19, 28: the answer to a submission, and the first look at it.
#[test]
fn a_submission_is_a_201_with_a_usable_id_and_location() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    for (flavor, file) in FLAVORS {
        let reply = gateway.post(
            &format!("/livy/clusters/{flavor}/batches"),
            &json!({"file": file}),
        );
        assert_eq!(reply.status, 201, "{flavor}");
        let id = reply.json()["id"].as_i64().expect("an integer");
        assert!(id > 0, "Livy's first id is 0, which clients take for none");
        let location = reply.header("location").expect("a Location").to_owned();
        assert_eq!(location, format!("/livy/clusters/{flavor}/batches/{id}"));
        assert_eq!(
            gateway.get(&location).json()["id"],
            id,
            "the Location works as it is, at once"
        );
        assert!(
            gateway
                .get(&format!("/batches/{id}"))
                .json()
                .get("appId")
                .is_some()
        );
        let deleted = gateway.delete(&format!("/batches/{id}"));
        assert_eq!(
            (deleted.status, deleted.json()["msg"].as_str()),
            (200, Some("deleted"))
        );
    }
}

/// Row 7: a poll outlives a cluster that is away, slow, failing, or that refuses our own login.
#[test]
fn polls_are_answered_while_the_cluster_is_not() {
    let clusters = Clusters::start();
    let faults = [
        json!({"times": 1000, "hang_up": true}),
        json!({"times": 1000, "answer": {"status": 500, "content_type": "application/json", "body": "\"java.lang.Error\""}}),
        json!({"times": 1000, "answer": {"status": 502, "content_type": "text/html", "body": "<html><title>502 Bad Gateway</title></html>"}}),
        json!({"times": 1000, "answer": {"status": 401}}),
        json!({"times": 1000, "answer": {"status": 403, "content_type": "text/html", "body": "<html>"}}),
        json!({"times": 1000, "answer": {"status": 404, "content_type": "text/html", "body": ""}}),
        json!({"times": 1000, "answer": {"status": 429}}),
        json!({"times": 1000, "answer": {"status": 200, "content_type": "text/html", "body": "<html>please log in</html>"}}),
        json!({"times": 1000, "answer": {"status": 302}}),
        json!({"times": 1000, "answer": {"status": 200, "content_type": "application/json", "body": "{\"id\":"}}),
        json!({"times": 1000, "delay_ms": 60000}),
    ];
    let slow = "timeouts: {response: 200ms}, freshness: 0s, health: {interval: 1h}";
    let scene = FLAVORS
        .iter()
        .fold(Scene::new(&clusters), |scene, (flavor, _)| {
            scene.with_cluster(flavor, slow)
        });
    let gateway = scene.start();
    for (flavor, _) in FLAVORS {
        let id = gateway.submit(flavor, &json!({}));
        gateway.wait_for_state(id, "running");
        for fault in &faults {
            clusters.fault(flavor, fault.clone());
            for path in [
                format!("/batches/{id}/state"),
                format!("/batches/{id}"),
                format!("/batches/{id}/log"),
            ] {
                let reply = gateway.get(&path);
                assert_eq!(reply.status, 200, "{flavor} {fault}: {}", reply.text());
                // IBM has no log to be away: its line is always true.
                if flavor != "ibm" || !path.ends_with("log") {
                    assert_eq!(
                        reply.header("x-livy-gateway-stale"),
                        Some("true"),
                        "{flavor} {path} {fault}"
                    );
                }
            }
            assert_eq!(
                gateway.get(&format!("/batches/{id}/state")).json()["state"],
                "running",
                "{flavor} {fault}"
            );
            let list = gateway.get("/batches");
            assert_eq!(
                (list.status, list.header("x-livy-gateway-stale")),
                (200, Some("true"))
            );
            clusters.heal(flavor);
        }
        gateway.wait_until("the cluster is asked again", |gateway| {
            let fresh = gateway.get(&format!("/batches/{id}/state"));
            fresh.status == 200 && fresh.header("x-livy-gateway-stale").is_none()
        });
        assert_eq!(gateway.delete(&format!("/batches/{id}")).status, 200);
    }
    assert!(gateway.metric(r#"livy_gateway_state_reads_total{outcome="stale"}"#) > 0.0);
}

/// Row 7, its end: after `stale_reads` the truth is that nothing is known.
#[test]
fn stale_answers_end() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", "stale_reads: 0s, freshness: 0s")
        .start();
    let id = gateway.submit("livy", &json!({}));
    clusters.fault("livy", json!({"times": 1000, "hang_up": true}));
    gateway.wait_until("the memory was too old", |gateway| {
        gateway.get(&format!("/batches/{id}/state")).status == 503
    });
    let reply = gateway.get(&format!("/batches/{id}/state"));
    assert!(reply.header("retry-after").is_some());
    reply.error(503, "cluster_unavailable");
}

/// Rows 14 to 17: a log reply has all its keys, numbers that can be reached, lines that clients cut
/// by.
#[test]
fn logs_can_be_read_to_the_end_by_every_kind_of_reader() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    for (flavor, file) in FLAVORS {
        let id = gateway
            .post(
                &format!("/clusters/{flavor}/batches"),
                &json!({"file": file, "args": ["0.3"]}),
            )
            .json()["id"]
            .clone();
        gateway.wait_for_state(id.as_i64().expect("an id"), "success");
        let read = |query: &str| {
            let page = gateway.get(&format!("/batches/{id}/log{query}")).json();
            assert_eq!(page["id"], id);
            assert!(
                page["from"].is_i64() && page["total"].is_i64() && page["log"].is_array(),
                "{flavor}: {page}"
            );
            page
        };
        let all = read("?size=-1");
        let total = all["total"].as_i64().expect("a number");
        assert_eq!(
            all["log"].as_array().map(Vec::len),
            usize::try_from(total).ok(),
            "{flavor}: total can be reached"
        );
        assert_eq!(read("?from=0&size=2147483647")["log"], all["log"]);
        // The cursor of airflow-livy-operators: from = from + lines read, until total.
        let (mut at, mut rounds) = (0, 0);
        while at < total && rounds < 100 {
            let page = read(&format!("?from={at}&size=2"));
            at = page["from"].as_i64().expect("a number")
                + i64::try_from(page["log"].as_array().expect("a list").len()).expect("small");
            rounds += 1;
        }
        assert_eq!(at, total, "{flavor}");
        if flavor != "ibm" {
            let lines: Vec<&str> = all["log"]
                .as_array()
                .expect("a list")
                .iter()
                .filter_map(|line| line.as_str())
                .collect();
            assert!(
                lines.contains(&"stdout: ") && lines.contains(&"\nstderr: "),
                "{flavor}"
            );
        }
    }
}

/// Rows 18, 20, 22 to 25: what clients send, and what they can't read.
#[test]
fn odd_but_harmless_requests_are_served() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    // No X-Requested-By, numbers and booleans, nulls where Hue sends them.
    let body = json!({"file": "hdfs:///x.py", "className": null, "args": null, "pyFiles": null, "files": null, "proxyUser": null,
        "conf": {"spark.a": 1, "spark.b": true, "spark.c": 0.5}, "numExecutors": "2", "driverCores": 1});
    let id = gateway.post("/clusters/livy/batches", &body).json()["id"].clone();
    let sent = clusters
        .requests("livy")
        .into_iter()
        .find(|request| request["method"] == "POST")
        .expect("arrived");
    let sent: serde_json::Value =
        serde_json::from_str(sent["body"].as_str().expect("text")).expect("JSON");
    assert_eq!(
        sent["conf"],
        json!({"spark.a": "1", "spark.b": "true", "spark.c": "0.5"})
    );
    assert_eq!((&sent["numExecutors"], sent.get("args")), (&json!(2), None));
    for request in [
        Request::get(&format!("//batches//{id}//state")),
        Request::get(&format!("/livy/v1/batches/{id}/state/")),
        Request::get(&format!("/batches/{id}/state")).header("Content-Type", "application/json"),
        Request::get(&format!("/batches/{id}/state"))
            .header("Accept", "*/*")
            .header("Content-Encoding", "UTF-8"),
        Request {
            body: Some(br#"{"from":0,"size":10}"#.to_vec()),
            ..Request::get(&format!("/batches/{id}/log"))
        },
        Request::get("/batches/"),
        Request::get("/livy/batches?from=0&size=100"),
    ] {
        let reply = gateway.send(&request.clone().basic(ALICE));
        assert_eq!(reply.status, 200, "{}: {}", request.path, reply.text());
        assert!(
            reply
                .header("content-type")
                .is_some_and(|kind| kind.starts_with("application/json"))
        );
        assert_eq!(reply.header("set-cookie"), None);
    }
}

/// Row 26: a cluster that hangs costs a client the configured time and no more.
#[test]
fn a_hanging_cluster_does_not_hang_the_client() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_cluster(
            "livy",
            "timeouts: {response: 300ms, create_batch: 300ms}, freshness: 0s",
        )
        .start();
    let id = gateway.submit("livy", &json!({}));
    clusters.fault(
        "livy",
        json!({"times": 1000, "delay_ms": 100_000, "operation": "get_state"}),
    );
    assert_eq!(gateway.get(&format!("/batches/{id}/state")).status, 200);
}

/// Row 27: names are Livy's: taken while a live batch has them, whatever the cluster; free after a
/// DELETE.
#[test]
fn names_are_unique_among_live_batches() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    for (flavor, file) in FLAVORS {
        let name = format!("nightly-{flavor}");
        let id = gateway.submit(flavor, &json!({"name": name}));
        let again = gateway.post(
            &format!("/clusters/{flavor}/batches"),
            &json!({"file": file, "name": name}),
        );
        assert_eq!(
            again.error(400, "duplicate_name"),
            format!("Duplicate session name: {name} for session {id}")
        );
        let other = gateway.send(
            &Request::post(
                "/clusters/kyuubi/batches",
                &json!({"file": "hdfs:///x.py", "name": name}),
            )
            .basic(BOB),
        );
        assert_eq!(
            other.error(400, "duplicate_name"),
            format!("Duplicate session name: {name}"),
            "another's id is not told"
        );
        assert_eq!(gateway.delete(&format!("/batches/{id}")).status, 200);
        gateway.submit(flavor, &json!({"name": name}));
    }
}
