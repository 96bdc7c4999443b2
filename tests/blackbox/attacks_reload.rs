//! The promise against an enemy who changes the configuration in the middle of a submission: each of
//! these once disproved a line of docs/operations.md or docs/health.md.

use serde_json::{Value, json};
use testkit::*;

/// How long the cluster holds the look-up of a name, before anything is recorded.
const HELD_MS: u64 = 2_000;

/// Submits, and does something while the cluster is still being asked for the name.
fn meanwhile(
    clusters: &Clusters,
    gateway: &mut Gateway,
    change: impl FnOnce(&mut Gateway),
) -> Reply {
    clusters.fault(
        "livy",
        json!({"operation": "get_batch", "moment": "before", "delay_ms": HELD_MS}),
    );
    let body = json!({"file": "hdfs:///x.py", "name": "held", "args": ["600"]});
    let request = Request::post("/batches", &body).basic(ALICE).to_bytes();
    let mut stream = gateway.tls(&[]);
    std::io::Write::write_all(&mut stream, &request).expect("is sent");
    gateway.wait_until("the name is being looked for", |_| {
        let asked = clusters.requests("livy");
        asked.iter().any(|one| {
            one["path"]
                .as_str()
                .is_some_and(|path| path.ends_with("/held"))
        })
    });
    change(gateway);
    read_reply(&mut stream)
}

fn one_cluster(clusters: &Clusters) -> Gateway {
    Scene::new(clusters)
        .with_cluster("livy", "freshness: 0s")
        .with_routes("  - {name: all, targets: [{cluster: livy}]}\n")
        .start()
}

fn redefine(gateway: &mut Gateway, from: &str, to: &str) {
    assert!(
        gateway.scene.clusters.contains(from),
        "{}",
        gateway.scene.clusters
    );
    gateway.scene.clusters = gateway.scene.clusters.replace(from, to);
    gateway.scene.write();
    let reloaded = gateway.admin_post("/reload");
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
}

fn nothing_was_submitted(clusters: &Clusters, answer: &Reply, why: &str) {
    let told = answer.error(503, "cluster_unavailable");
    assert!(
        told.contains(why) && told.contains("nothing was submitted"),
        "{told}"
    );
    assert!(
        clusters.books("livy").is_empty(),
        "{:?}",
        clusters.books("livy")
    );
}

#[test]
fn a_submission_goes_to_no_server_that_its_cluster_no_longer_stands_for() {
    let (clusters, elsewhere) = (Clusters::start(), Clusters::start());
    let mut gateway = one_cluster(&clusters);
    let (here, there) = (clusters.address.to_string(), elsewhere.address.to_string());
    let answer = meanwhile(&clusters, &mut gateway, |gateway| {
        redefine(
            gateway,
            &format!("livy: {{freshness: 0s, flavor: livy, url: \"http://{here}"),
            &format!("livy: {{freshness: 0s, flavor: livy, url: \"http://{there}"),
        );
    });
    nothing_was_submitted(&clusters, &answer, "moved");
    assert!(elsewhere.books("livy").is_empty());
}

#[test]
fn a_submission_goes_to_no_cluster_that_a_reload_drains() {
    let clusters = Clusters::start();
    let mut gateway = one_cluster(&clusters);
    let answer = meanwhile(&clusters, &mut gateway, |gateway| {
        redefine(
            gateway,
            "livy: {freshness: 0s",
            "livy: {state: draining, freshness: 0s",
        );
    });
    nothing_was_submitted(&clusters, &answer, "draining");
}

#[test]
fn an_order_reaches_a_submission_whose_cluster_was_defined_anew() {
    let clusters = Clusters::start();
    let mut gateway = one_cluster(&clusters);
    let answer = meanwhile(&clusters, &mut gateway, |gateway| {
        redefine(
            gateway,
            "livy: {freshness: 0s",
            "livy: {settle: 7s, freshness: 0s",
        );
        assert_eq!(gateway.admin_post("/clusters/livy/drain").status, 200);
    });
    nothing_was_submitted(&clusters, &answer, "draining");
}

#[test]
fn a_submission_that_is_being_recorded_holds_its_cluster() {
    let clusters = Clusters::start();
    let mut gateway = one_cluster(&clusters);
    // The cluster keeps the client waiting: the batch is recorded, and open.
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "before", "delay_ms": HELD_MS}),
    );
    let body: Value = json!({"file": "hdfs:///x.py", "args": ["600"]});
    let request = Request::post("/batches", &body).basic(ALICE).to_bytes();
    let mut stream = gateway.tls(&[]);
    std::io::Write::write_all(&mut stream, &request).expect("is sent");
    gateway.wait_until("it is on its way", |_| {
        clusters
            .requests("livy")
            .iter()
            .any(|one| one["method"] == "POST")
    });
    let gone = gateway
        .scene
        .clusters
        .lines()
        .filter(|line| !line.trim_start().starts_with("livy:"));
    gateway.scene.clusters = gone.map(|line| format!("{line}\n")).collect();
    gateway.scene.routes = "  - {name: all, targets: [{cluster: kyuubi}]}\n".to_owned();
    gateway.scene.write();
    let refused = gateway.admin_post("/reload");
    assert!(
        refused
            .text()
            .contains("cluster 'livy' still has 1 live batches"),
        "{}",
        refused.text()
    );
    assert_eq!(read_reply(&mut stream).status, 201);
}
