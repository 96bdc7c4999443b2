//! The promise against an enemy who has the registry's file, its keys, and the configuration in his
//! hands: each of these once disproved a line of docs/reliability.md.

use std::time::Instant;

use serde_json::{Value, json};

use testkit::*;

const QUICK: &str =
    "settle: 300ms, lost_after: 1s, freshness: 0s, timeouts: {create_batch: 2s, response: 2s}";

fn job() -> Value {
    json!({"file": "hdfs:///x.py", "args": ["600"]})
}

fn deletes(clusters: &Clusters, flavor: &str) -> usize {
    let requests = clusters.requests(flavor);
    requests
        .iter()
        .filter(|one| one["method"] == "DELETE")
        .count()
}

/// Another process holds the file: nobody waits in a queue for it, nothing is sent, and when it has
/// let go everything goes on.
#[test]
fn a_registry_that_is_locked_refuses_at_once() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters).with_cluster("livy", QUICK).start();
    let id = gateway.submit("livy", &json!({}));
    gateway.wait_for_state(id, "running");
    let path = gateway.scene.folder.path().join("livy-gateway.db");
    let other = rusqlite::Connection::open(path).expect("opens");
    other
        .busy_timeout(PATIENCE)
        .and_then(|()| other.execute_batch("BEGIN EXCLUSIVE"))
        .expect("is locked");
    let before = clusters.submissions("livy");
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let refused = gateway.post("/clusters/livy/batches", &job());
                refused.error(503, "registry_unavailable");
            });
        }
    });
    gateway
        .delete(&format!("/batches/{id}"))
        .error(503, "registry_unavailable");
    // Not a measure of speed: one after the other they would wait for ten times as long.
    assert!(began.elapsed().as_secs() < 9, "{:?}", began.elapsed());
    assert_eq!(
        (clusters.submissions("livy"), deletes(&clusters, "livy")),
        (before, 0),
        "nothing was sent"
    );
    gateway.wait_for_state(id, "running");
    other.execute_batch("ROLLBACK").expect("lets go");
    let again = gateway.post("/clusters/livy/batches", &job());
    assert_eq!(again.status, 201, "{}", again.text());
    assert_eq!(gateway.delete(&format!("/batches/{id}")).status, 200);
}

/// What is open holds its key, however short keys are remembered.
#[test]
fn a_key_is_held_while_its_submission_is_open() {
    let clusters = Clusters::start();
    let routes = "  - {name: one, idempotency_ttl: 1s, targets: [{cluster: livy}]}\n";
    let slow = QUICK.replace("create_batch: 2s", "create_batch: 8s");
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", &slow)
        .with_routes(routes)
        .start();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 4000}),
    );
    let post = || {
        let request = Request::post("/batches", &job()).header("Idempotency-Key", "k");
        gateway.send(&request.basic(ALICE))
    };
    let began = Instant::now();
    let (first, again) = std::thread::scope(|scope| {
        let first = scope.spawn(post);
        gateway.wait_until("it is sent, and its key's time is over", |_| {
            clusters.submissions("livy") == 1 && began.elapsed().as_millis() > 2000
        });
        (scope.spawn(post).join(), first.join())
    });
    let (first, again) = (first.expect("no panic"), again.expect("no panic"));
    assert_eq!(
        (
            again.status,
            &again.json()["id"],
            clusters.submissions("livy")
        ),
        (201, &first.json()["id"], 1),
        "{}",
        again.text()
    );
}

/// Two keys are no key.
#[test]
fn two_keys_are_refused() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let request = Request::post("/clusters/livy/batches", &job())
        .header("Idempotency-Key", "a")
        .header("Idempotency-Key", "b")
        .basic(ALICE);
    let told = gateway.send(&request).error(400, "bad_request");
    assert!(told.contains("Idempotency-Key"), "{told}");
    assert_eq!(clusters.submissions("livy"), 0);
}

/// The file's name may be a link whose file was taken away; what stands beside that file counts.
#[test]
fn ids_do_not_begin_again_behind_a_link() {
    let clusters = Clusters::start();
    let scene = Scene::new(&clusters);
    let folder = scene.folder.path().to_owned();
    let data = folder.join("data");
    std::fs::create_dir(&data).expect("is made");
    std::fs::write(data.join("real.db"), "").expect("is made");
    std::os::unix::fs::symlink("link.db", folder.join("livy-gateway.db")).expect("is linked");
    std::os::unix::fs::symlink("data/real.db", folder.join("link.db")).expect("is linked");
    let mut gateway = scene.start();
    gateway.submit("livy", &json!({}));
    gateway.process.signal("-TERM");
    gateway.process.ended();
    for name in ["real.db", "real.db-wal", "real.db-shm"] {
        let _ = std::fs::remove_file(data.join(name));
    }
    let (status, _, told) = run(&["serve"], &folder);
    assert!(
        status == 1 && told.contains("ids up to 1 were given") && told.contains("data/real.db.ids"),
        "{told}"
    );
    // Its folder is gone as well: what was given is not known, and what to do is said.
    std::fs::remove_dir_all(&data).expect("is removed");
    let (status, _, told) = run(&["serve"], &folder);
    assert!(
        status == 1 && told.contains("data/real.db") && told.contains("is a link to"),
        "{told}"
    );
}

/// Another server under the name of a cluster knows nothing of its batches.
#[test]
fn a_cluster_with_live_batches_stays_where_it_is() {
    let clusters = Clusters::start();
    let mut gateway = Gateway::over(&clusters);
    let id = gateway.submit("livy", &json!({}));
    gateway.wait_for_state(id, "running");
    let here = format!("livy: {{flavor: livy, url: \"http://{}\"", clusters.address);
    let other = "livy: {flavor: livy, url: \"http://127.0.0.1:9\"";
    gateway.scene.clusters = gateway.scene.clusters.replace(&here, other);
    assert!(gateway.scene.clusters.contains(other));
    gateway.scene.write();
    let refused = gateway.admin_post("/reload");
    assert!(
        refused.status >= 400
            && refused
                .text()
                .contains("cluster 'livy' still has 1 live batches"),
        "{}",
        refused.text()
    );
    gateway.wait_for_state(id, "running");
    let forced = gateway.admin_post("/reload?force");
    assert_eq!(forced.status, 200, "{}", forced.text());
}
