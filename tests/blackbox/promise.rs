//! The promise against an enemy: somebody else's job, late arrivals, planned stops, lost databases.
//! Each of these once went wrong.

use std::time::Instant;

use serde_json::{Value, json};

use testkit::*;

/// A cluster whose silence is proof after a second, and that is asked every time.
const QUICK: &str = "settle: 300ms, freshness: 0s, timeouts: {create_batch: 1s, response: 2s}";

fn gateway(clusters: &Clusters, flavor: &str) -> Gateway {
    Scene::new(clusters).with_cluster(flavor, QUICK).start()
}

/// Creates a job directly on the Livy double, as somebody does who knows nothing of the gateway.
fn foreign(clusters: &Clusters, name: Option<&str>) {
    let mut body = json!({"file": "hdfs:///foreign.py", "args": ["600"]});
    if let Some(name) = name {
        body["name"] = name.into();
    }
    assert_eq!(
        clusters
            .direct("livy", "POST", "/batches", Some(&body))
            .status,
        201
    );
}

fn count(clusters: &Clusters, flavor: &str, method: &str) -> usize {
    clusters
        .requests(flavor)
        .iter()
        .filter(|one| one["method"] == method)
        .count()
}

#[test]
fn an_unnamed_job_under_an_old_number_is_neither_shown_nor_killed() {
    let clusters = Clusters::start();
    let scene = Scene::new(&clusters).with_cluster("livy", &format!("{QUICK}, lost_after: 1s"));
    let gateway = scene.start();
    for more in [json!({}), json!({"name": "nightly"})] {
        clusters.restart("livy");
        let mine = gateway.submit("livy", &more);
        gateway.wait_for_state(mine, "running");
        clusters.restart("livy");
        foreign(&clusters, None);
        for path in ["", "/state", "/log"] {
            let reply = gateway.get(&format!("/batches/{mine}{path}"));
            assert_eq!(
                (reply.status, reply.header("x-livy-gateway-stale").is_some()),
                (200, true),
                "{path}: {}",
                reply.text()
            );
        }
        let before = count(&clusters, "livy", "DELETE");
        gateway.wait_until("nothing of ours is left there", |gateway| {
            [200, 404].contains(&gateway.delete(&format!("/batches/{mine}")).status)
        });
        assert_eq!(
            count(&clusters, "livy", "DELETE"),
            before,
            "and nothing was killed"
        );
    }
}

#[test]
fn a_name_that_livy_reads_as_a_number_finds_nobody_elses_batch() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy");
    let alices = gateway.submit("livy", &json!({"name": "alices"}));
    // The answer is lost, and the look-up of this name would be read as id 0.
    for name in ["٠", ".", ".."] {
        clusters.fault(
            "livy",
            json!({"operation": "create_batch", "moment": "before", "hang_up": true, "times": 3}),
        );
        let body = json!({"file": "hdfs:///x.py", "name": name, "args": ["600"]});
        let reply = gateway.send(&Request::post("/clusters/livy/batches", &body).basic(BOB));
        clusters.heal("livy");
        assert_ne!(
            reply.header("x-livy-gateway-upstream-id"),
            Some("0"),
            "{name}: {}",
            reply.text()
        );
        let asked = clusters.requests("livy");
        let odd = |one: &&Value| {
            one["path"]
                .as_str()
                .is_some_and(|path| path.ends_with(name) && !name.is_empty())
        };
        assert!(
            !asked.iter().any(|one| odd(&one)),
            "{name} is never asked for by path"
        );
    }
    gateway.wait_for_state(alices, "running");
}

#[test]
fn what_somebody_in_front_says_is_no_proof() {
    let clusters = Clusters::start();
    let routes = "  - {name: two, targets: [{cluster: livy}, {cluster: kyuubi, tier: 2}]}\n";
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", QUICK)
        .with_routes(routes)
        .start();
    for (status, kind, body) in [
        (503, "text/html", "<html>no server is available</html>"),
        (302, "text/html", ""),
        (401, "", ""),
        (404, "application/json", r#"{"message":"no route"}"#),
        (200, "text/html", "<html>please log in</html>"),
    ] {
        let before = clusters.submissions("livy");
        let answer = json!({"status": status, "content_type": kind, "body": body});
        clusters.fault(
            "livy",
            json!({"operation": "create_batch", "moment": "after", "answer": answer}),
        );
        let reply = gateway.post(
            "/batches",
            &json!({"file": "hdfs:///x.py", "args": ["600"]}),
        );
        assert_eq!(
            (reply.status, reply.header("x-livy-gateway-cluster")),
            (201, Some("livy")),
            "{status}: {}",
            reply.text()
        );
        assert!(
            reply.header("x-livy-gateway-upstream-id").is_some(),
            "{status}: it was found"
        );
        assert_eq!(
            (clusters.submissions("livy"), clusters.submissions("kyuubi")),
            (before + 1, 0),
            "{status}: and started once"
        );
    }
}

/// A job that shows up after its client was told that it is not there is killed, and is never a new
/// batch.
#[test]
fn a_job_that_comes_late_is_killed() {
    let clusters = Clusters::start();
    for flavor in ["livy", "kyuubi"] {
        let gateway = Scene::new(&clusters)
            .with_cluster(flavor, &format!("{QUICK}, lost_after: 1s"))
            .start();
        let path = format!("/clusters/{flavor}/batches");
        let before = clusters.submissions(flavor);
        clusters.fault(
            flavor,
            json!({"operation": "create_batch", "moment": "before", "delay_ms": 60_000}),
        );
        let mut stream = gateway.tls(&[b"http/1.1"]);
        let request =
            Request::post(&path, &json!({"file": "hdfs:///x.py", "args": ["600"]})).basic(ALICE);
        std::io::Write::write_all(&mut stream, &request.to_bytes()).expect("is sent");
        std::io::Write::flush(&mut stream).expect("is sent");
        gateway.wait_until("it was on its way", |_| {
            clusters.submissions(flavor) > before
        });
        let gateway = gateway.killed_and_restarted();
        let list = || {
            gateway
                .send(&Request::get(&format!("{path}?size=100")).basic(ROOT))
                .json()
        };
        gateway.wait_until("it is given up", |_| {
            list()["sessions"]
                .as_array()
                .is_some_and(|all| all.iter().all(|one| one["state"] == "error"))
        });
        // Now it arrives: something in between had held it.
        let held = clusters
            .requests(flavor)
            .into_iter()
            .rfind(|one| one["method"] == "POST")
            .expect("a submission");
        let body: Value =
            serde_json::from_str(held["body"].as_str().expect("a body")).expect("JSON");
        let arrived = clusters.direct(flavor, "POST", "/batches", Some(&body));
        assert!(arrived.status < 300, "{flavor}: {}", arrived.text());
        gateway.wait_until("it came all the same, and was killed", |gateway| {
            gateway.metric(&format!(
                "livy_gateway_late_jobs_total{{action=\"killed\",cluster=\"{flavor}\"}}"
            )) >= 1.0
        });
        assert_eq!(count(&clusters, flavor, "DELETE"), 1, "{flavor}");
        let list = list();
        assert_eq!(list["total"], 1, "{flavor}: no twin: {list}");
        assert!(
            !list.to_string().contains("livy-gateway-"),
            "{flavor}: the internal name is shown to nobody: {list}"
        );
    }
}

/// A planned stop while a cluster takes its time: whoever waits gets an id, and the next process
/// finds the jobs under these ids.
#[test]
fn a_planned_stop_answers_whoever_waits() {
    let clusters = Clusters::start();
    let scene = Scene::new(&clusters)
        .with_server("drain_timeout: 200ms")
        .with_cluster("livy", "settle: 300ms");
    let mut gateway = scene.start();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 5000, "times": 5}),
    );
    let before = clusters.submissions("livy");
    let ids: Vec<i64> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..5)
            .map(|_| {
                scope.spawn(|| {
                    let body = json!({"file": "hdfs:///x.py", "args": ["600"]});
                    gateway
                        .try_send(
                            &Request::post("/clusters/livy/batches", &body)
                                .basic(ALICE)
                                .to_bytes(),
                        )
                        .expect("is answered")
                })
            })
            .collect();
        gateway.wait_until("all are on their way", |_| {
            clusters.submissions("livy") == before + 5
        });
        gateway.process.signal("-TERM");
        let answers = clients
            .into_iter()
            .map(|client| client.join().expect("no panic"));
        answers
            .map(|reply| {
                assert_eq!(
                    (reply.status, reply.json()["state"].as_str()),
                    (201, Some("starting")),
                    "{}",
                    reply.text()
                );
                reply.json()["id"].as_i64().expect("an id")
            })
            .collect()
    });
    assert_eq!(gateway.process.ended(), Some(0));
    let gateway = gateway.killed_and_restarted();
    for id in &ids {
        gateway.wait_for_state(*id, "running");
    }
    let list = gateway
        .send(&Request::get("/clusters/livy/batches").basic(ROOT))
        .json();
    assert_eq!(list["total"], 5, "nothing stands twice: {list}");
}

/// A Livy that recovers says 404 of jobs that run on.
#[test]
fn a_kill_does_not_believe_one_404() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy");
    let id = gateway.submit("livy", &json!({}));
    gateway.wait_for_state(id, "running");
    let unknown = json!({"status": 404, "content_type": "application/json", "body": r#"{"msg":"Session '0' not found."}"#});
    clusters.fault(
        "livy",
        json!({"operation": "get_batch", "times": 2, "answer": unknown}),
    );
    gateway
        .delete(&format!("/batches/{id}"))
        .error(502, "kill_unconfirmed");
    // The wish is remembered, and carried out once the cluster knows its batches again.
    gateway.wait_until("it was killed", |_| count(&clusters, "livy", "DELETE") == 1);
    gateway.wait_until("it is gone", |gateway| {
        gateway.get(&format!("/batches/{id}")).status == 404
    });
    assert_eq!(
        gateway
            .send(&Request::get("/clusters/livy/batches").basic(ROOT))
            .json()["total"],
        0
    );
}

#[test]
fn a_registry_that_is_gone_refuses_before_anything_is_sent() {
    let clusters = Clusters::start();
    let mut gateway = gateway(&clusters, "livy");
    let id = gateway.submit("livy", &json!({}));
    assert_eq!(gateway.admin("/readyz").text(), "ok\n");
    let database = gateway.scene.folder.path().join("livy-gateway.db");
    std::fs::rename(&database, gateway.scene.folder.path().join("moved.db")).expect("is moved");
    let before = (
        clusters.submissions("livy"),
        count(&clusters, "livy", "DELETE"),
    );
    let refused = gateway.post("/clusters/livy/batches", &json!({"file": "hdfs:///x.py"}));
    assert!(refused.header("retry-after").is_some());
    assert!(
        refused
            .error(503, "registry_unavailable")
            .contains("nothing was submitted")
    );
    gateway
        .delete(&format!("/batches/{id}"))
        .error(503, "registry_unavailable");
    assert_eq!(
        (
            clusters.submissions("livy"),
            count(&clusters, "livy", "DELETE")
        ),
        before,
        "nothing was sent"
    );
    gateway.wait_for_state(id, "running");
    let ready = gateway.admin("/readyz");
    assert!(
        ready.status == 200 && ready.text().starts_with("degraded"),
        "{}",
        ready.text()
    );
    assert_eq!(gateway.admin("/readyz?strict").status, 503);
    gateway.wait_until("the metric says so", |gateway| {
        gateway.metric("livy_gateway_registry_up ") == 0.0
    });
    // The next process does not begin at 1 again.
    let folder = gateway.scene.folder.path().to_owned();
    gateway.process.signal("-KILL");
    gateway.process.ended();
    let (status, _, told) = run(&["serve"], &folder);
    assert!(
        status == 1 && told.contains("ids up to 1 were given"),
        "{told}"
    );
}

#[test]
fn one_database_has_one_gateway() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let (status, _, told) = run(&["serve"], gateway.scene.folder.path());
    assert!(
        status == 1 && told.contains("another gateway is using it (process "),
        "{told}"
    );
}

#[test]
fn a_key_is_answered_before_any_cluster_is_considered() {
    let clusters = Clusters::start();
    let health = "health: {interval: 100ms, timeout: 1s, unhealthy_after: 1}";
    let scene = Scene::new(&clusters)
        .with_cluster("livy", health)
        .with_routes("  - {name: one, targets: [{cluster: livy}]}\n");
    let gateway = scene.start();
    let post = || {
        gateway.send(
            &Request::post("/batches", &json!({"file": "hdfs:///x.py"}))
                .header("Idempotency-Key", "k")
                .basic(ALICE),
        )
    };
    let first = post();
    assert_eq!(first.status, 201);
    clusters.fault("livy", json!({"times": 100_000, "hang_up": true}));
    gateway.wait_until("the cluster is ejected", |gateway| {
        gateway.metric(r#"livy_gateway_cluster_state{cluster="livy",state="ejected"}"#) == 1.0
    });
    let again = post();
    assert_eq!(
        (again.status, &again.json()["id"]),
        (201, &first.json()["id"]),
        "{}",
        again.text()
    );
}

#[test]
fn whoever_waits_on_the_same_key_gets_the_same_answer() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy");
    let full = json!({"status": 400, "content_type": "application/json", "body": r#"{"msg":"Rejected, too many sessions are being created!"}"#});
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "delay_ms": 500, "answer": full}),
    );
    let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
        let post = || {
            let request = Request::post("/clusters/livy/batches", &json!({"file": "hdfs:///x.py"}))
                .header("Idempotency-Key", "k")
                .basic(ALICE);
            let reply = gateway.send(&request);
            (reply.status, reply.json()["msg"].to_string())
        };
        let first = scope.spawn(post);
        gateway.wait_until("the first is on its way", |_| {
            clusters.submissions("livy") == 1
        });
        let second = scope.spawn(post);
        [first, second]
            .map(|client| client.join().expect("no panic"))
            .into()
    });
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0, 429);
}

/// Airflow repeats a POST whose connection broke; the name is its own.
#[test]
fn a_named_submission_that_is_repeated_after_a_crash_is_the_same() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy");
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 2000}),
    );
    let body = json!({"file": "hdfs:///x.py", "name": "nightly", "args": ["600"]});
    let mut stream = gateway.tls(&[b"http/1.1"]);
    std::io::Write::write_all(
        &mut stream,
        &Request::post("/clusters/livy/batches", &body)
            .basic(ALICE)
            .to_bytes(),
    )
    .expect("is sent");
    std::io::Write::flush(&mut stream).expect("is sent");
    gateway.wait_until("it was on its way", |_| clusters.submissions("livy") == 1);
    let gateway = gateway.killed_and_restarted();
    let again = gateway.post("/clusters/livy/batches", &body);
    assert_eq!(again.status, 201, "{}", again.text());
    gateway.wait_for_state(again.json()["id"].as_i64().expect("an id"), "running");
    assert_eq!(clusters.submissions("livy"), 1);
    // Now its client has heard of it: a second one of the name is refused, as Livy does.
    gateway
        .post("/clusters/livy/batches", &body)
        .error(400, "duplicate_name");
}

#[test]
fn a_job_of_the_same_name_that_was_there_before_is_not_taken_over() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy");
    foreign(&clusters, Some("nightly"));
    let body = json!({"file": "hdfs:///x.py", "name": "nightly", "args": ["600"]});
    gateway
        .post("/clusters/livy/batches", &body)
        .error(400, "duplicate_name");
    assert_eq!(clusters.submissions("livy"), 1, "only the foreign one's");
    gateway.get("/batches/nightly").error(404, "not_found");
}

/// `ambiguous: failover`: when no look-up gets through, the next target has it; what then shows up
/// at the first is killed.
#[test]
fn a_route_may_prefer_at_least_once() {
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
    let reply = gateway.post(
        "/batches",
        &json!({"file": "hdfs:///x.py", "args": ["600"]}),
    );
    assert_eq!(
        (reply.status, reply.header("x-livy-gateway-cluster")),
        (201, Some("kyuubi")),
        "{}",
        reply.text()
    );
    clusters.heal("livy");
    gateway.wait_until("the one at the first is killed", |gateway| {
        gateway.metric(r#"livy_gateway_late_jobs_total{action="killed",cluster="livy"}"#) == 1.0
    });
    let list = gateway.send(&Request::get("/batches").basic(ROOT)).json();
    assert_eq!(list["total"], 1, "{list}");
}

/// Six pollers of a cluster that hangs wait for its deadline once, not one after the other.
#[test]
fn who_waits_for_anothers_question_shares_its_failure() {
    let clusters = Clusters::start();
    let scene = Scene::new(&clusters).with_cluster(
        "livy",
        "freshness: 10ms, timeouts: {response: 1s}, health: {interval: 1h}",
    );
    let gateway = scene.start();
    let id = gateway.submit("livy", &json!({}));
    gateway.wait_for_state(id, "running");
    clusters.fault("livy", json!({"times": 1000, "delay_ms": 60_000}));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let reply = gateway.get(&format!("/batches/{id}/state"));
                assert_eq!(
                    (reply.status, reply.json()["state"].as_str()),
                    (200, Some("running")),
                    "{}",
                    reply.text()
                );
            });
        }
    });
    // Not a measure of speed: one after the other they would need six deadlines.
    assert!(began.elapsed().as_secs() < 5, "{:?}", began.elapsed());
}

/// IBM's own application API shows `conf`: the marker in it finds a submission among others, and
/// nothing is presumed.
#[test]
fn a_lost_submission_is_found_by_the_marker_in_its_conf() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "ibm");
    clusters.options("ibm", &json!({"applications": true}));
    clusters.fault(
        "ibm",
        json!({"operation": "create_batch", "moment": "after", "hang_up": true}),
    );
    let id = std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.submit("ibm", &json!({})));
        gateway.wait_until("it was submitted", |_| clusters.submissions("ibm") == 1);
        let foreign = json!({"file": "cos://b.s/foreign.py", "args": ["600"]});
        assert!(
            clusters
                .direct("ibm", "POST", "/batches", Some(&foreign))
                .status
                < 300
        );
        client.join().expect("no panic")
    });
    gateway.wait_for_state(id, "running");
    let batch = gateway.get(&format!("/batches/{id}"));
    assert_eq!(
        batch.header("x-livy-gateway-upstream-id"),
        Some("1"),
        "{}",
        batch.text()
    );
    assert!(
        batch.json()["appInfo"].get("gatewayReason").is_none(),
        "{}",
        batch.text()
    );
}

/// A client's own name may be used again by somebody else, under the same number: the application
/// tells.
#[test]
fn a_job_of_the_same_name_and_number_is_told_by_its_application() {
    let clusters = Clusters::start();
    clusters.options("livy", &json!({"app_ids": true}));
    let gateway = gateway(&clusters, "livy");
    let mine = gateway.submit("livy", &json!({"name": "nightly"}));
    gateway.wait_for_state(mine, "running");
    gateway.wait_until("its application is known", |gateway| {
        gateway.get(&format!("/batches/{mine}")).json()["appId"].is_string()
    });
    clusters.restart("livy");
    foreign(&clusters, Some("nightly"));
    gateway.wait_until("the foreign one has an application", |gateway| {
        gateway
            .get(&format!("/batches/{mine}"))
            .header("x-livy-gateway-stale")
            == Some("true")
    });
    let before = count(&clusters, "livy", "DELETE");
    gateway.delete(&format!("/batches/{mine}"));
    assert_eq!(
        count(&clusters, "livy", "DELETE"),
        before,
        "the foreign one was not killed"
    );
}

/// The four letters of null are a name like any other.
#[test]
fn a_batch_that_is_called_null_is_one_batch() {
    let clusters = Clusters::start();
    let routes = "  - {name: two, targets: [{cluster: livy}, {cluster: kyuubi, tier: 2}]}\n";
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", QUICK)
        .with_routes(routes)
        .start();
    let reply = gateway.post(
        "/batches",
        &json!({"file": "hdfs:///x.py", "name": "null", "args": ["600"]}),
    );
    assert_eq!(
        (reply.status, reply.header("x-livy-gateway-cluster")),
        (201, Some("livy")),
        "{}",
        reply.text()
    );
    assert_eq!(clusters.submissions("kyuubi"), 0);
    assert_eq!(
        gateway.send(&Request::get("/batches").basic(ROOT)).json()["total"],
        1
    );
}

/// A kill whose cluster no longer knows the batch for long enough has succeeded: it ends as
/// deleted, not as an error.
#[test]
fn a_kill_that_took_effect_unheard_ends_as_deleted() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", &format!("{QUICK}, lost_after: 1s"))
        .start();
    let id = gateway.submit("livy", &json!({}));
    gateway.wait_for_state(id, "running");
    clusters.fault(
        "livy",
        json!({"operation": "delete_batch", "moment": "after", "hang_up": true, "times": 2}),
    );
    gateway.delete(&format!("/batches/{id}"));
    gateway.wait_until("it is gone", |gateway| {
        let reply = gateway.get(&format!("/batches/{id}"));
        assert_ne!(reply.json()["state"], "error", "{}", reply.text());
        reply.status == 404
    });
}

/// An answer that somebody in front repeats speaks of a batch that was there before.
#[test]
fn an_answer_that_names_an_older_batch_binds_nobody_to_it() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "ibm");
    let alices = gateway.submit("ibm", &json!({}));
    let replayed = json!({"status": 201, "content_type": "application/json", "body": r#"{"id":1,"app_info":{},"state":"not_started"}"#});
    clusters.fault(
        "ibm",
        json!({"operation": "create_batch", "moment": "after", "answer": replayed}),
    );
    let body = json!({"file": "cos://b.s/x.py", "args": ["600"]});
    let bobs = gateway.send(&Request::post("/clusters/ibm/batches", &body).basic(BOB));
    assert_eq!(
        bobs.header("x-livy-gateway-upstream-id"),
        Some("2"),
        "{}",
        bobs.text()
    );
    gateway.wait_for_state(alices, "running");
}

/// One file has one writer, by whatever name it is opened.
#[test]
fn one_database_has_one_gateway_under_any_name() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let folder = gateway.scene.folder.path();
    for (name, link) in [("soft.db", true), ("hard.db", false)] {
        let (from, to) = (folder.join("livy-gateway.db"), folder.join(name));
        if link {
            std::os::unix::fs::symlink(&from, &to)
        } else {
            std::fs::hard_link(&from, &to)
        }
        .expect("is linked");
        let yaml = std::fs::read_to_string(folder.join("routes.yaml")).expect("is there");
        std::fs::write(
            folder.join("second.yaml"),
            format!("{yaml}registry: {{sqlite: {{path: {name}}}}}\n"),
        )
        .expect("is writable");
        let (status, _, told) = run(&["serve", "-c", "second.yaml"], folder);
        assert!(
            status == 1 && told.contains("another gateway is using it"),
            "{name}: {told}"
        );
    }
}

/// A success that is not the cluster's own word is no end of a job, and no log.
#[test]
fn what_somebody_in_front_says_is_no_kill_and_no_log() {
    let clusters = Clusters::start();
    for flavor in ["livy", "ibm"] {
        let gateway = gateway(&clusters, flavor);
        let id = gateway.submit(flavor, &json!({}));
        gateway.wait_for_state(id, "running");
        let said =
            json!({"status": 200, "content_type": "application/json", "body": r#"{"error":"x"}"#});
        clusters.fault(flavor, json!({"operation": "delete_batch", "answer": said}));
        gateway
            .delete(&format!("/batches/{id}"))
            .error(502, "kill_unconfirmed");
        // The wish is remembered: what really ends the job is a second kill.
        gateway.wait_until("it is gone", |gateway| {
            gateway.get(&format!("/batches/{id}")).status == 404
        });
        assert!(
            clusters
                .books(flavor)
                .iter()
                .all(|job| !job["killed"].is_null()),
            "{flavor}"
        );
        if flavor == "livy" {
            let id = gateway.submit(flavor, &json!({}));
            gateway.wait_for_state(id, "running");
            clusters.fault(flavor, json!({"operation": "get_log", "answer": said}));
            let log = gateway.get(&format!("/batches/{id}/log"));
            assert_eq!(
                (log.status, log.header("x-livy-gateway-stale")),
                (200, Some("true")),
                "{}",
                log.text()
            );
        }
    }
}
