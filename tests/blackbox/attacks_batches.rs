//! What polls, lists, logs and kills must not believe: answers that came late, that were meant for
//! somebody else, or that speak of what has taken the place of a batch.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::*;

/// A cluster whose silence is proof after a second, and that is asked every time.
const QUICK: &str = "settle: 300ms, freshness: 0s, timeouts: {create_batch: 1s, response: 4s}";

fn gateway(clusters: &Clusters, flavor: &str, more: &str) -> Gateway {
    Scene::new(clusters)
        .with_cluster(flavor, &format!("{QUICK}{more}"))
        .start()
}

/// Creates a job directly on a cluster, as somebody does who knows nothing of the gateway.
fn foreign(clusters: &Clusters, flavor: &str, name: Option<&str>) {
    let file = if flavor == "ibm" {
        "cos://b.s/foreign.py"
    } else {
        "hdfs:///foreign.py"
    };
    let mut body = json!({"file": file, "args": ["600"]});
    if let Some(name) = name {
        body["name"] = name.into();
    }
    let reply = clusters.direct(flavor, "POST", "/batches", Some(&body));
    assert!(reply.status < 300, "{}", reply.text());
}

fn deletes(clusters: &Clusters, flavor: &str) -> usize {
    let requests = clusters.requests(flavor);
    let deletes = requests.iter().filter(|one| one["method"] == "DELETE");
    deletes.count()
}

/// Returns the jobs that nobody has killed.
fn alive(clusters: &Clusters, flavor: &str) -> Vec<Value> {
    let mut books = clusters.books(flavor);
    books.retain(|job| job["killed"].is_null());
    books
}

fn answer(body: &str) -> Value {
    json!({"status": 200, "content_type": "application/json", "body": body})
}

fn list(gateway: &Gateway, flavor: &str) -> Value {
    let path = format!("/clusters/{flavor}/batches?size=100");
    gateway.send(&Request::get(&path).basic(ROOT)).json()
}

/// An answer that carries another id than was asked for was meant for somebody else.
#[test]
fn an_answer_with_another_id_is_no_proof_for_a_kill() {
    let clusters = Clusters::start();
    for flavor in ["livy", "kyuubi"] {
        let gateway = gateway(&clusters, flavor, ", watch: 1h");
        let others = gateway.submit(flavor, &json!({}));
        let path = gateway.get(&format!("/batches/{others}"));
        let upstream = path
            .header("x-livy-gateway-upstream-id")
            .expect("an id")
            .to_owned();
        let item = clusters.direct(flavor, "GET", &format!("/batches/{upstream}"), None);
        let mine = gateway.submit(flavor, &json!({"name": format!("{flavor}-nightly")}));
        gateway.wait_for_state(mine, "running");
        let fault = json!({"operation": "get_batch", "times": 2, "answer": answer(&item.text())});
        clusters.fault(flavor, fault);
        let told = gateway.delete(&format!("/batches/{mine}"));
        assert_ne!(told.status, 200, "{flavor}: {}", told.text());
        // The wish is remembered, and carried out.
        gateway.wait_until("it was killed", |gateway| {
            gateway.get(&format!("/batches/{mine}")).status == 404
        });
        assert_eq!(deletes(&clusters, flavor), 1, "{flavor}");
        gateway.wait_for_state(others, "running");
    }
}

/// A kill whose connection broke because its cluster restarted is not repeated blindly: the number
/// is somebody else's by now.
#[test]
fn a_kill_is_not_repeated_blindly() {
    let clusters = Clusters::start();
    for (flavor, name) in [("livy", None), ("livy", Some("nightly")), ("ibm", None)] {
        clusters.restart(flavor);
        let gateway = gateway(&clusters, flavor, "");
        let mine = gateway.submit(
            flavor,
            &name.map_or(json!({}), |name| json!({"name": name})),
        );
        gateway.wait_for_state(mine, "running");
        let before = deletes(&clusters, flavor);
        clusters.fault(
            flavor,
            json!({"operation": "delete_batch", "delay_ms": 60_000}),
        );
        let told = std::thread::scope(|scope| {
            let kill = scope.spawn(|| gateway.delete(&format!("/batches/{mine}")));
            gateway.wait_until("it is on its way", |_| deletes(&clusters, flavor) > before);
            clusters.restart(flavor);
            foreign(&clusters, flavor, Some("another"));
            kill.join().expect("no panic")
        });
        assert!(
            [200, 502].contains(&told.status),
            "{flavor}: {}",
            told.text()
        );
        std::thread::sleep(Duration::from_secs(3));
        assert_eq!(
            alive(&clusters, flavor).len(),
            1,
            "{flavor} {name:?}: the stranger's runs on"
        );
        assert_eq!(deletes(&clusters, flavor), before + 1, "{flavor} {name:?}");
    }
}

/// A kill of what has a name of its own names it: whatever happens between the look and the kill,
/// nobody else's job has that name.
#[test]
fn a_kill_names_what_it_means() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy", "");
    let mine = gateway.submit("livy", &json!({}));
    gateway.wait_for_state(mine, "running");
    assert_eq!(gateway.delete(&format!("/batches/{mine}")).status, 200);
    let requests = clusters.requests("livy");
    let kill = requests.iter().find(|one| one["method"] == "DELETE");
    let path = kill.expect("a kill")["path"].as_str().expect("a path");
    assert!(path.starts_with("/batches/livy-gateway-"), "{path}");
    assert!(alive(&clusters, "livy").is_empty());
}

/// A log that comes by number is believed only if the batch is there after it was read; one that
/// says that it is another's is not shown.
#[test]
fn a_log_is_nobody_elses() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", "freshness: 1h")
        .start();
    let others = gateway.submit("livy", &json!({"args": ["600", "others"]}));
    let log = clusters.direct("livy", "GET", "/batches/0/log", None);
    for name in [json!({}), json!({"name": "nightly"})] {
        let mine = gateway.submit("livy", &name);
        clusters.fault(
            "livy",
            json!({"operation": "get_log", "answer": answer(&log.text())}),
        );
        let told = gateway.get(&format!("/batches/{mine}/log"));
        assert_eq!(
            (told.status, told.header("x-livy-gateway-stale")),
            (200, Some("true")),
            "{}",
            told.text()
        );
    }
    let nightly = others + 2;
    gateway.get(&format!("/batches/{nightly}"));
    clusters.restart("livy");
    for name in ["a", "b", "another"] {
        foreign(&clusters, "livy", Some(name));
    }
    let told = gateway.get(&format!("/batches/{nightly}/log"));
    assert_eq!(
        (told.status, told.header("x-livy-gateway-stale")),
        (200, Some("true")),
        "looked at a moment ago, and another's by now: {}",
        told.text()
    );
}
