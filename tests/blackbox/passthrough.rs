//! `registry: {passthrough: {}}`: ids are the cluster's own, and nothing is stored.

use serde_json::{Value, json};

use testkit::*;

/// A gateway before one of the simulated clusters.
fn before(clusters: &Clusters, flavor: &str, top: &str) -> Scene {
    let mut scene = Scene::new(clusters)
        .with_cluster(flavor, "freshness: 0s, lost_after: 1s")
        .with_top("registry: {passthrough: {}}")
        .with_top(top)
        .with_routes(&format!(
            "  - {{name: all, targets: [{{cluster: {flavor}}}]}}\n"
        ));
    let head = format!("  {flavor}: ");
    let line = scene.clusters.lines().find(|line| line.starts_with(&head));
    scene.clusters = format!("{}\n", line.expect("is configured"));
    scene
}

const ALL: &str = "visibility: all";

fn job(name: &str) -> Value {
    json!({"file": "hdfs:///x.py", "name": name, "args": ["600"]})
}

fn ids(gateway: &Gateway) -> Vec<i64> {
    let list = gateway.get("/batches?size=100").json();
    let batches = list["sessions"].as_array().expect("a list");
    assert_eq!(list["total"], batches.len());
    batches
        .iter()
        .map(|batch| batch["id"].as_i64().expect("an id"))
        .collect()
}

#[test]
fn ids_are_the_clusters_own_whoever_is_asked() {
    let clusters = Clusters::start();
    for flavor in ["livy", "knox", "hdinsight", "ibm"] {
        let one = before(&clusters, flavor, ALL).start();
        let other = before(&clusters, flavor, ALL).start();
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for round in 0..3 {
            first.push(one.submit(flavor, &json!({"name": format!("one {round}")})));
            second.push(other.submit(flavor, &json!({})));
        }
        for id in first.iter().chain(&second) {
            for gateway in [&one, &other] {
                let item = gateway.get(&format!("/batches/{id}"));
                assert_eq!(
                    item.header("x-livy-gateway-upstream-id"),
                    Some(id.to_string().as_str())
                );
                assert_eq!(item.json()["id"], *id);
                assert_eq!(
                    gateway.get(&format!("/batches/{id}/state")).json()["id"],
                    *id
                );
                assert_eq!(gateway.get(&format!("/batches/{id}/log")).json()["id"], *id);
            }
        }
        let mut all = [first.clone(), second].concat();
        all.sort_unstable();
        assert_eq!((ids(&one), ids(&other)), (all.clone(), all), "{flavor}");
        assert_eq!(one.delete(&format!("/batches/{}", first[1])).status, 200);
        // Gone without its having ended: that is believed when it has held for a while.
        other.wait_until("the kill is seen", |other| {
            let state = other.get(&format!("/batches/{}/state", first[1])).json();
            state["state"] == "error" || state["state"] == "killed"
        });
    }
}

#[test]
fn a_poll_goes_on_after_a_restart_also_of_the_first_number() {
    let clusters = Clusters::start();
    let gateway = before(&clusters, "livy", ALL).start();
    let created = gateway.post("/batches", &job("nightly"));
    assert_eq!(
        (created.status, &created.json()["id"]),
        (201, &json!(0)),
        "as Livy counts"
    );
    assert_eq!(created.header("location"), Some("/batches/0"));
    assert!(
        gateway.log().contains("nothing is stored"),
        "it is said at start"
    );
    let unnamed = gateway.post(
        "/batches",
        &json!({"file": "hdfs:///x.py", "args": ["600"]}),
    );
    let gateway = gateway.killed_and_restarted();
    // The first thing that it hears of any batch.
    gateway.wait_for_state(0, "running");
    let unnamed = format!("/batches/{}", unnamed.json()["id"]);
    assert_eq!(
        gateway.get(&unnamed).json()["name"],
        Value::Null,
        "a made-up name is shown to nobody"
    );
    let gateway = gateway.killed_and_restarted();
    assert_eq!(
        gateway.get("/batches/nightly/state").json()["id"],
        0,
        "by name, too"
    );
    assert_eq!(gateway.get("/batches/77").status, 404);
    assert_eq!(gateway.submit("livy", &json!({})), 2);
    let root = |method| {
        gateway.send(
            &Request {
                method,
                ..Request::get("/batches/0")
            }
            .basic(ROOT),
        )
    };
    assert_eq!(
        gateway.delete("/batches/0").status,
        403,
        "nobody knows any more that it was hers"
    );
    assert_eq!(root("DELETE").status, 200);
    assert_eq!(root("GET").status, 404);
}

#[test]
fn after_a_restart_a_batch_is_whose_its_cluster_says() {
    let clusters = Clusters::start();
    let gateway = before(&clusters, "livy", "").start();
    assert_eq!(gateway.post("/batches", &job("hers")).status, 201);
    assert_eq!(gateway.get("/batches/0").json()["owner"], "alice");
    let gateway = gateway.killed_and_restarted();
    // The simulated Livy does not impersonate: it shows nobody.
    assert_eq!(gateway.get("/batches/0/state").status, 404);
    assert_eq!(ids(&gateway), Vec::<i64>::new());
    let root = Request::get("/batches/0/state").basic(ROOT);
    assert_eq!(gateway.send(&root).status, 200);
    let gateway = gateway.killed_and_restarted();
    let mut item = clusters.direct("livy", "GET", "/batches/0", None).json();
    item["proxyUser"] = json!("alice");
    let answer =
        json!({"status": 200, "content_type": "application/json", "body": item.to_string()});
    clusters.fault(
        "livy",
        json!({"operation": "get_batch", "times": 9, "answer": answer}),
    );
    assert_eq!(gateway.get("/batches/0").json()["owner"], "alice");
    let bob = Request::get("/batches/0").basic(BOB);
    assert_eq!(gateway.send(&bob).status, 404);
}

#[test]
fn a_cluster_that_cannot_tell_ends_nothing() {
    let clusters = Clusters::start();
    let gateway = before(&clusters, "livy", ALL).start();
    assert_eq!(gateway.post("/batches", &job("n")).status, 201);
    let gateway = gateway.killed_and_restarted();
    let answer =
        json!({"status": 502, "content_type": "text/html", "body": "<h1>Bad Gateway</h1>"});
    clusters.fault(
        "livy",
        json!({"operation": "get_batch", "times": 50, "answer": answer}),
    );
    gateway
        .get("/batches/0/state")
        .error(503, "cluster_unavailable");
    clusters.heal("livy");
    gateway.wait_until("it is asked again", |gateway| {
        gateway.get("/batches/0/state").status == 200
    });
}

#[test]
fn within_a_process_nothing_is_doubled() {
    let clusters = Clusters::start();
    let gateway = before(&clusters, "livy", ALL).start();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "hang_up": true}),
    );
    let lost = gateway.post("/batches", &job("lost answer"));
    assert_eq!(
        (lost.status, &lost.json()["id"]),
        (201, &json!(0)),
        "it was looked up"
    );
    let keyed = Request::post("/batches", &job("keyed"))
        .basic(ALICE)
        .header("Idempotency-Key", "k");
    let first = gateway.send(&keyed).json()["id"].clone();
    assert_eq!(gateway.send(&keyed).json()["id"], first);
    gateway
        .post("/batches", &job("keyed"))
        .error(400, "duplicate_name");
    assert_eq!(clusters.submissions("livy"), 2);
    assert_eq!(ids(&gateway), [0, 1]);
}

#[test]
fn what_is_answered_before_it_has_a_number_stays_known() {
    let clusters = Clusters::start();
    let scene = before(&clusters, "livy", ALL)
        .with_cluster("livy", "settle: 300ms, timeouts: {create_batch: 3s}");
    let gateway = scene.with_server("drain_timeout: 1s").start();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "hang_up": true}),
    );
    let gone = json!({"status": 503, "content_type": "text/plain", "body": "later"});
    for operation in ["get_batch", "list_batches"] {
        clusters.fault(
            "livy",
            json!({"operation": operation, "times": 10000, "answer": gone}),
        );
    }
    // Without a name: nothing is looked for before it is sent.
    let body = json!({"file": "hdfs:///x.py", "args": ["600"]});
    let created = gateway.post("/batches", &body);
    assert_eq!(created.status, 201, "{}", created.text());
    let own = created.json()["id"].as_i64().expect("an id");
    assert!(own > i64::from(1 << 30) - 1, "{own}");
    assert_eq!(
        gateway.get(&format!("/batches/{own}/state")).json()["state"],
        "starting"
    );
    clusters.heal("livy");
    gateway.wait_for_state(own, "running");
    assert_eq!(gateway.get(&format!("/batches/{own}")).json()["id"], 0);
    assert_eq!(ids(&gateway), [0]);
}

#[test]
fn a_cluster_that_counts_anew_shows_its_new_batch() {
    let clusters = Clusters::start();
    let gateway = before(&clusters, "livy", ALL).start();
    gateway.post("/batches", &job("old"));
    clusters.restart("livy");
    assert_eq!(gateway.post("/batches", &job("new")).json()["id"], 0);
    assert_eq!(gateway.get("/batches/0").json()["name"], "new");
    assert_eq!(ids(&gateway), [0]);
}

#[test]
fn what_cannot_be_passed_through_is_refused_with_a_remedy() {
    let clusters = Clusters::start();
    let checked = |scene: Scene| {
        scene.write();
        run(&["check", "-c", "routes.yaml"], scene.folder.path())
    };
    let (status, _, told) = checked(before(&clusters, "kyuubi", ""));
    assert!(
        status == 1 && told.contains("registry.passthrough: ids of cluster \"kyuubi\""),
        "{told}"
    );
    let two = Scene::new(&clusters).with_top("registry: {passthrough: {}}");
    let (status, _, told) = checked(two);
    assert!(
        status == 1 && told.contains("there are 5 clusters"),
        "{told}"
    );
    assert!(told.contains("`postgres` for several"), "{told}");
    let (status, out, _) = checked(before(&clusters, "knox", ""));
    assert_eq!(status, 0);
    assert!(
        out.contains("note: registry.passthrough: ids are the cluster's own"),
        "{out}"
    );
    assert!(out.contains("run as the gateway's own account"), "{out}");
    let (_, out, _) = checked(before(&clusters, "livy", ALL));
    assert_eq!(out.matches("note: ").count(), 1, "{out}");
    let (_, out, _) = checked(Scene::new(&clusters));
    assert_eq!(out.matches("note: ").count(), 0, "{out}");
    let (_, out, _) = checked(Scene::new(&clusters).with_top("registry: {sqlite: {path: a.db}}"));
    assert!(
        out.contains("note: registry.sqlite: a file serves one gateway"),
        "{out}"
    );
}
