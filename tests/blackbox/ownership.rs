//! Who sees, kills and runs as whom.

use serde_json::{Value, json};

use testkit::*;

#[test]
fn anothers_batch_is_as_good_as_none() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    for (flavor, _) in FLAVORS {
        let id = gateway.submit(flavor, &json!({"name": format!("mine-{flavor}")}));
        let as_bob = |method, path: String| {
            gateway.send(
                &Request {
                    method,
                    ..Request::get(&path)
                }
                .basic(BOB),
            )
        };
        let missing = as_bob("GET", "/batches/424242".into()).json()["msg"]
            .as_str()
            .map(|msg| msg.replace("424242", "N"));
        for (method, path) in [
            ("GET", format!("/batches/{id}")),
            ("GET", format!("/batches/{id}/state")),
            ("GET", format!("/batches/{id}/log")),
            ("GET", format!("/batches/mine-{flavor}")),
            ("DELETE", format!("/batches/{id}")),
        ] {
            let told = as_bob(method, path.clone()).error(404, "not_found");
            assert!(
                path.contains("mine") || Some(told.replace(&id.to_string(), "N")) == missing,
                "{told}"
            );
        }
        assert_eq!(as_bob("GET", "/batches".into()).json()["total"], 0);
        assert_eq!(
            gateway.get(&format!("/batches/{id}/state")).status,
            200,
            "bob killed nothing"
        );
        let root = |method, path: String| {
            gateway.send(
                &Request {
                    method,
                    ..Request::get(&path)
                }
                .basic(ROOT),
            )
        };
        assert_eq!(
            root("GET", format!("/batches/{id}")).json()["owner"],
            "alice"
        );
        assert_eq!(root("DELETE", format!("/batches/{id}")).status, 200);
    }
}

#[test]
fn visibility_all_shows_and_does_not_kill() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters).with_top("visibility: all").start();
    let id = gateway.submit("livy", &json!({}));
    let path = format!("/batches/{id}");
    assert_eq!(gateway.send(&Request::get(&path).basic(BOB)).status, 200);
    gateway
        .send(
            &Request {
                method: "DELETE",
                ..Request::get(&path)
            }
            .basic(BOB),
        )
        .error(403, "forbidden");
}

fn sent_conf(clusters: &Clusters, flavor: &str) -> Value {
    let requests = clusters.requests(flavor);
    let last = requests
        .iter()
        .rfind(|request| request["method"] == "POST")
        .expect("arrived");
    serde_json::from_str(last["body"].as_str().expect("text")).expect("JSON")
}

#[test]
fn nobody_runs_as_somebody_else_by_any_spelling() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    for flavor in ["livy", "hdinsight", "kyuubi"] {
        let path = format!("/clusters/{flavor}/batches");
        let before = clusters.submissions(flavor);
        for body in [
            json!({"file": "hdfs:///x.py", "proxyUser": "bob"}),
            json!({"file": "hdfs:///x.py", "conf": {"hive.server2.proxy.user": "bob"}}),
            json!({"file": "hdfs:///x.py", "conf": {"kyuubi.session.proxy.user": "bob"}}),
            json!({"file": "hdfs:///x.py", "conf": {"spark.kyuubi.session.proxy.user": "bob"}}),
            json!({"file": "hdfs:///x.py", "proxyUser": "alice", "conf": {"hive.server2.proxy.user": "bob"}}),
        ] {
            let told = gateway.post(&path, &body).error(403, "forbidden");
            assert_eq!(told, "User 'alice' not allowed to impersonate 'bob'.");
        }
        gateway
            .post(
                &format!("{path}?doAs=bob"),
                &json!({"file": "hdfs:///x.py"}),
            )
            .error(403, "forbidden");
        assert_eq!(clusters.submissions(flavor), before);
        // The caller, named or not, is who it runs as.
        for body in [
            json!({"file": "hdfs:///x.py"}),
            json!({"file": "hdfs:///x.py", "proxyUser": "alice"}),
        ] {
            assert_eq!(gateway.post(&path, &body).status, 201);
            let sent = sent_conf(&clusters, flavor);
            let user = if flavor == "kyuubi" {
                &sent["conf"]["kyuubi.session.proxy.user"]
            } else {
                &sent["proxyUser"]
            };
            assert_eq!(user, "alice", "{flavor}: {sent}");
        }
        // An admin may name anybody; it is still the admin's batch.
        let reply = gateway.send(
            &Request::post(&path, &json!({"file": "hdfs:///x.py", "proxyUser": "bob"})).basic(ROOT),
        );
        assert_eq!(
            (reply.status, reply.json()["owner"].as_str()),
            (201, Some("root"))
        );
    }
    gateway.get("/batches?doAs=bob").error(403, "forbidden");
    assert_eq!(gateway.get("/batches?doAs=alice").status, 200);
}

#[test]
fn what_cannot_be_granted_is_said() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    // A Livy with impersonation off runs it as its own account, and says so with a null.
    let reply = gateway.post("/clusters/livy/batches", &json!({"file": "hdfs:///x.py"}));
    assert_eq!(reply.json()["proxyUser"], Value::Null);
    assert!(
        reply
            .header("x-livy-gateway-warning")
            .is_some_and(|text| text.starts_with("proxyUser"))
    );
    let reply = gateway.post("/clusters/knox/batches", &json!({"file": "hdfs:///x.py"}));
    assert_eq!(
        (reply.status, sent_conf(&clusters, "knox").get("proxyUser")),
        (201, None)
    );
    let told = gateway
        .post(
            "/clusters/knox/batches",
            &json!({"file": "hdfs:///x.py", "proxyUser": "alice"}),
        )
        .error(400, "unsupported_field");
    assert!(told.contains("gateway's own account"), "{told}");
}

#[test]
fn rules_and_act_as_decide_who_may_be_named() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_cluster(
            "kyuubi",
            "act_as_rules: [{users: [alice], as: [\"etl-*\"]}]",
        )
        .with_cluster("livy", "act_as: client")
        .with_cluster("hdinsight", "act_as: service, on_unsupported: drop")
        .start();
    let named = |user: &str| {
        gateway.post(
            "/clusters/kyuubi/batches",
            &json!({"file": "hdfs:///x.py", "proxyUser": user}),
        )
    };
    let reply = named("etl-nightly");
    assert_eq!(
        (reply.status, reply.json()["proxyUser"].as_str()),
        (201, Some("etl-nightly"))
    );
    named("hdfs").error(403, "forbidden");
    assert_eq!(
        gateway
            .post("/clusters/livy/batches", &json!({"file": "hdfs:///x.py"}))
            .status,
        201
    );
    assert_eq!(
        sent_conf(&clusters, "livy").get("proxyUser"),
        None,
        "act_as: client names nobody unless the client does"
    );
    let dropped = gateway.post(
        "/clusters/hdinsight/batches",
        &json!({"file": "hdfs:///x.py", "proxyUser": "alice"}),
    );
    assert!(
        dropped
            .header("x-livy-gateway-warning")
            .is_some_and(|text| text.contains("proxyUser was dropped"))
    );
    assert_eq!(sent_conf(&clusters, "hdinsight").get("proxyUser"), None);
}
