//! Ids: never reused, never another's.

use serde_json::json;

use testkit::*;

#[test]
fn everything_is_known_after_a_restart() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let running: Vec<i64> = FLAVORS
        .iter()
        .map(|(flavor, _)| gateway.submit(flavor, &json!({})))
        .collect();
    let ended = gateway
        .post(
            "/clusters/kyuubi/batches",
            &json!({"file": "hdfs:///x.py", "args": ["0.1"]}),
        )
        .json()["id"]
        .as_i64()
        .expect("an id");
    gateway.wait_for_state(ended, "success");
    let gateway = gateway.killed_and_restarted();
    for id in &running {
        gateway.wait_for_state(*id, "running");
    }
    assert_eq!(
        gateway.get(&format!("/batches/{ended}/state")).json()["state"],
        "success"
    );
    let next = gateway.submit("livy", &json!({}));
    assert!(next > ended, "ids go on: {next}");
}

#[test]
fn what_has_ended_stays_answerable_after_its_cluster_forgot_it() {
    let clusters = Clusters::start();
    let scene = Scene::new(&clusters)
        .with_cluster("livy", "freshness: 0s")
        .with_cluster("kyuubi", "freshness: 0s");
    let gateway = scene.start();
    let mut ended = Vec::new();
    for flavor in ["livy", "kyuubi"] {
        let body = json!({"file": "hdfs:///x.py", "args": ["0.2"]});
        let id = gateway
            .post(&format!("/clusters/{flavor}/batches"), &body)
            .json()["id"]
            .as_i64()
            .expect("an id");
        // Nobody but a state poll has looked when it ends.
        gateway.wait_for_state(id, "success");
        clusters.restart(flavor);
        ended.push(id);
    }
    let gateway = gateway.killed_and_restarted();
    for id in ended {
        let item = gateway.get(&format!("/batches/{id}")).json();
        assert_eq!(item["state"], "success");
        assert!(item["log"].is_array());
        let log = gateway.get(&format!("/batches/{id}/log"));
        assert_eq!(log.status, 200, "{}", log.text());
    }
    let livy = gateway.get("/batches").json()["sessions"][0].clone();
    assert!(
        livy["log"].to_string().contains("simulated job: done"),
        "its last lines were kept: {livy}"
    );
}

#[test]
fn batches_made_around_the_gateway_get_an_id_when_a_list_shows_them() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", "freshness: 0s")
        .with_cluster("kyuubi", "freshness: 0s")
        .start();
    let body = json!({"file": "hdfs:///x.py", "name": "around", "args": ["600"]})
        .to_string()
        .into_bytes();
    let direct = Request {
        method: "POST",
        path: "/batches",
        body: Some(body),
        ..Request::default()
    }
    .header("X-Requested-By", "me");
    let stream = std::net::TcpStream::connect(clusters.address).expect("connects");
    assert_eq!(exchange(stream, &direct.to_bytes()).status, 201);
    let list = |who| gateway.send(&Request::get("/batches").basic(who)).json();
    assert_eq!(list(ALICE)["total"], 0, "nobody's batch is not alice's");
    let seen = list(ROOT);
    assert_eq!(
        (seen["total"].as_i64(), seen["sessions"][0]["name"].as_str()),
        (Some(1), Some("around"))
    );
    let id = seen["sessions"][0]["id"].clone();
    assert_eq!(list(ROOT)["sessions"][0]["id"], id, "it keeps its id");
    let by_name = gateway
        .send(&Request::get("/batches/around/state").basic(ROOT))
        .json();
    assert_eq!(by_name["id"], id);
    // On Kyuubi the effective user owns it.
    let body = json!({"batchType": "PYSPARK", "resource": "hdfs:///x.py", "args": ["600"], "conf": {"hive.server2.proxy.user": "bob"}});
    let direct = Request::post("/api/v1/batches", &body)
        .basic((livy_gateway::sandbox::USER, livy_gateway::sandbox::PASSWORD));
    let stream = std::net::TcpStream::connect(clusters.address).expect("connects");
    assert_eq!(exchange(stream, &direct.to_bytes()).status, 200);
    assert_eq!(list(BOB)["total"], 1);
}

#[test]
fn a_cluster_that_counts_from_zero_again_shows_nobody_anothers_batch() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", "freshness: 0s")
        .start();
    let old = gateway.submit("livy", &json!({"name": "old"}));
    let ended = gateway
        .post(
            "/clusters/livy/batches",
            &json!({"file": "hdfs:///x.py", "args": ["0.1"]}),
        )
        .json()["id"]
        .as_i64()
        .expect("an id");
    gateway.wait_for_state(ended, "success");
    clusters.restart("livy");
    let new = gateway.submit("livy", &json!({"name": "new"}));
    assert_ne!(old, new);
    let upstream_id = |id| {
        gateway
            .get(&format!("/batches/{id}"))
            .header("x-livy-gateway-upstream-id")
            .map(str::to_owned)
    };
    assert_eq!(
        upstream_id(new).as_deref(),
        Some("0"),
        "the cluster began again"
    );
    let batch = gateway.get(&format!("/batches/{old}")).json();
    assert_eq!(
        (batch["name"].as_str(), batch["state"].as_str()),
        (Some("old"), Some("error")),
        "{batch}"
    );
    assert!(batch["appInfo"]["gatewayReason"].is_string());
    assert_eq!(
        gateway.get(&format!("/batches/{ended}/state")).json()["state"],
        "success",
        "what has ended stays answerable"
    );
    // Killing the old one kills nothing of the new one's.
    assert_eq!(gateway.delete(&format!("/batches/{old}")).status, 200);
    gateway.wait_for_state(new, "running");
}

/// A Livy that recovers shows what has ended as `recovering` for a while: that is no other batch,
/// and nothing that starts again.
#[test]
fn an_ended_batch_that_its_cluster_recovers_is_the_same_one() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", "freshness: 0s")
        .start();
    let shows = |operation: &str, body: &serde_json::Value| {
        let answer =
            json!({"status": 200, "content_type": "application/json", "body": body.to_string()});
        clusters.fault(
            "livy",
            json!({"operation": operation, "times": 1, "answer": answer}),
        );
    };
    let batch = |id: i64, name: &str, state: &str, application: Option<&str>| {
        json!({"id": id, "name": name, "owner": null, "proxyUser": null, "state": state, "appId": application,
            "appInfo": {"driverLogUrl": null, "sparkUiUrl": null}, "log": ["stdout: ", "\nstderr: ", "\nYARN Diagnostics: "]})
    };
    let submit = |more: serde_json::Value| {
        let mut body = json!({"file": "hdfs:///x.py", "args": ["0.1"]});
        more.as_object()
            .into_iter()
            .flatten()
            .for_each(|(key, value)| body[key] = value.clone());
        gateway.post("/clusters/livy/batches", &body).json()["id"]
            .as_i64()
            .expect("an id")
    };
    // One under a name of its client's, known by its application; one under a name that the gateway
    // made up, without any.
    let application = "application_1795273529178_0001";
    let (named, unnamed) = (submit(json!({"name": "ended"})), submit(json!({})));
    shows(
        "get_batch",
        &batch(0, "ended", "success", Some(application)),
    );
    gateway.wait_for_state(named, "success");
    gateway.wait_for_state(unnamed, "success");
    let posts = clusters.requests("livy");
    let sent = posts
        .iter()
        .filter(|one| one["method"] == "POST")
        .filter_map(|one| one["body"].as_str());
    let made_up = sent
        .filter_map(|body| {
            serde_json::from_str::<serde_json::Value>(body).ok()?["name"]
                .as_str()
                .map(str::to_owned)
        })
        .next_back()
        .expect("a name");
    let recovering = [
        batch(1, &made_up, "recovering", None),
        batch(0, "ended", "recovering", Some(application)),
    ];
    shows(
        "list_batches",
        &json!({"from": 0, "total": 2, "sessions": recovering}),
    );
    let list = gateway
        .send(&Request::get("/clusters/livy/batches").basic(ROOT))
        .json();
    let seen: Vec<_> = list["sessions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| (one["id"].as_i64(), one["state"].as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            (Some(named), Some("success")),
            (Some(unnamed), Some("success"))
        ],
        "{list}"
    );
    for id in [named, unnamed] {
        let batch = gateway.get(&format!("/batches/{id}"));
        assert!(
            batch.header("x-livy-gateway-upstream-id").is_some(),
            "it still has its place at the cluster"
        );
    }
}

/// Livy forgets what has ended after ten minutes; a scheduler that was away for longer must still
/// learn how its job ended.
#[test]
fn an_end_that_nobody_asked_about_is_known_after_the_cluster_forgot_it() {
    let clusters = Clusters::start();
    for flavor in ["livy", "kyuubi"] {
        let gateway = Scene::new(&clusters)
            .with_cluster(flavor, "watch: 50ms")
            .start();
        let submit = |file: &str| {
            let reply = gateway.post(
                &format!("/clusters/{flavor}/batches"),
                &json!({"file": file, "args": ["0.1"]}),
            );
            reply.json()["id"].as_i64().expect("an id")
        };
        let (good, bad) = (
            submit("hdfs:///jobs/good.py"),
            submit("hdfs:///jobs/bad.py"),
        );
        let noticed = |gateway: &Gateway, state: &str| {
            gateway.metric(&format!(
                "livy_gateway_batch_transitions_total{{cluster=\"{flavor}\",state=\"{state}\"}}"
            ))
        };
        gateway.wait_until("both ends were noticed", |gateway| {
            noticed(gateway, "success") + noticed(gateway, "dead") == 2.0
        });
        clusters.collect(flavor);
        for (id, wanted) in [(good, "success"), (bad, "dead")] {
            assert_eq!(
                gateway.get(&format!("/batches/{id}/state")).json()["state"],
                wanted,
                "{flavor}"
            );
            let batch = gateway.get(&format!("/batches/{id}")).json();
            assert_eq!(
                (
                    batch["state"].as_str(),
                    batch["appInfo"]["gatewayReason"].as_str()
                ),
                (Some(wanted), None),
                "{flavor}: {batch}"
            );
            assert_eq!(gateway.get(&format!("/batches/{id}/log")).status, 200);
        }
    }
    // Only what went through the gateway is asked about: other people's batches are none of its
    // business until somebody lists them.
    let body = json!({"file": "hdfs:///x.py", "args": ["600"], "name": "strangers"});
    let created = clusters.direct("livy", "POST", "/batches", Some(&body));
    assert_eq!(created.status, 201);
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", "watch: 50ms")
        .start();
    gateway.submit("livy", &json!({"name": "ours"}));
    let asked = |path: &str| {
        clusters
            .requests("livy")
            .iter()
            .filter(|one| one["path"].as_str().is_some_and(|at| at.starts_with(path)))
            .count()
    };
    let ours = gateway
        .get("/batches/ours")
        .header("x-livy-gateway-upstream-id")
        .expect("it is there")
        .to_owned();
    gateway.wait_until("ours was looked at more than once", |_| {
        asked(&format!("/batches/{ours}")) > 2
    });
    assert_eq!(asked("/batches/strangers"), 0);
}

#[test]
fn a_batch_whose_id_went_to_a_stranger_is_not_killed_by_mistake() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", "freshness: 0s, lost_after: 1s")
        .start();
    let mine = gateway.submit("livy", &json!({}));
    clusters.restart("livy");
    let body = json!({"file": "hdfs:///x.py", "name": "stranger", "args": ["600"]});
    let created = clusters.direct("livy", "POST", "/batches", Some(&body));
    assert_eq!(created.status, 201);
    let stale = gateway.get(&format!("/batches/{mine}/state"));
    assert_eq!(
        (stale.status, stale.header("x-livy-gateway-stale")),
        (200, Some("true")),
        "the stranger's state is not shown as ours"
    );
    gateway
        .delete(&format!("/batches/{mine}"))
        .error(502, "kill_unconfirmed");
    gateway.wait_until("nothing of ours is left there", |gateway| {
        [200, 404].contains(&gateway.delete(&format!("/batches/{mine}")).status)
    });
    let survivors = clusters
        .requests("livy")
        .iter()
        .filter(|request| request["method"] == "DELETE")
        .count();
    assert_eq!(survivors, 0, "nothing was killed there");
}

#[test]
fn a_broken_database_is_told_at_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).expect("is writable")
    };
    write(
        "no-database",
        "this is no SQLite file, and long enough to be looked at as one",
    );
    write(
        "routes.yaml",
        "server: {listen: \"127.0.0.1:0\", plaintext: true}\nadmin: {listen: \"127.0.0.1:0\"}\nauthenticators: {open: {anonymous: {user: guest}}}\n\
         clusters: {a: {flavor: livy, url: \"http://127.0.0.1:1\"}}\nroutes: [{name: all, targets: [{cluster: a}]}]\nregistry: {sqlite: {path: no-database}}\n",
    );
    let (status, _, told) = run(&["serve"], folder.path());
    assert_eq!(status, 1);
    assert!(
        told.contains("registry.sqlite: can't open") && told.contains("no-database"),
        "{told}"
    );
}

#[test]
fn an_id_that_cannot_be_noted_is_given_to_nobody() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    assert_eq!(gateway.submit("livy", &json!({})), 1);
    let marks = gateway.scene.folder.path().join("livy-gateway.db.ids");
    std::fs::remove_file(&marks).expect("is there");
    std::fs::create_dir(&marks).expect("is made");
    let before = clusters.submissions("livy");
    let post = || gateway.post("/clusters/livy/batches", &json!({"file": "hdfs:///x.py"}));
    post().error(503, "registry_unavailable");
    assert_eq!(clusters.submissions("livy"), before, "nothing was sent");
    std::fs::remove_dir(&marks).expect("is empty");
    let healed = post();
    assert_eq!(healed.status, 201, "{}", healed.text());
    let noted = || {
        std::fs::read_to_string(&marks)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    assert_eq!(noted(), healed.json()["id"].to_string());
    // Only taken away, it is made anew at once, with what was in it.
    std::fs::remove_file(&marks).expect("is there");
    let next = post().json()["id"].to_string();
    assert_eq!(noted(), next);
}

#[test]
fn a_database_that_may_not_grow_refuses_and_ends_nobody() {
    let clusters = Clusters::start();
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = format!(
        "allow_inline_secrets: true\nserver: {{listen: \"127.0.0.1:0\", plaintext: true}}\nadmin: {{listen: \"127.0.0.1:0\"}}\nregistry: {{sqlite: {{path: grows.db}}}}\n\
         authenticators: {{open: {{anonymous: {{user: guest}}}}}}\nclusters:\n{}routes: [{{name: all, targets: [{{cluster: livy}}]}}]\n",
        clusters.yaml()
    );
    std::fs::write(folder.path().join("routes.yaml"), yaml).expect("is writable");
    let (mut process, address, admin_address) = serve_with_limit(folder.path(), "-f 800");
    let ask = |request: &Request<'_>| {
        exchange(
            std::net::TcpStream::connect(address).expect("it listens"),
            &request.to_bytes(),
        )
    };
    let arguments = "a".repeat(30_000);
    let post = || {
        ask(&Request::post(
            "/clusters/livy/batches",
            &json!({"file": "hdfs:///x.py", "args": [arguments], "name": null}),
        ))
    };
    let first = post();
    assert_eq!(first.status, 201, "{}", first.text());
    let until = std::time::Instant::now() + PATIENCE;
    let refused = loop {
        let reply = post();
        assert!(std::time::Instant::now() < until, "it grows on");
        if reply.status != 201 {
            break reply;
        }
    };
    refused.error(503, "registry_unavailable");
    assert!(process.is_running(), "SIGXFSZ ended it");
    assert_eq!(
        ask(&Request::get(&format!("/batches/{}", first.json()["id"]))).status,
        200
    );
    assert!(
        admin(admin_address, "/readyz")
            .text()
            .starts_with("degraded")
    );
}
