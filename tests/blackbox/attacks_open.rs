//! The promise against an enemy who looks at submissions, and kills them, while they are open:
//! each of these once disproved a line of docs/reliability.md.

use serde_json::{Value, json};

use testkit::*;

const JSON: &str = "application/json";
const QUICK: &str = "settle: 300ms, lost_after: 1s, freshness: 0s, timeouts: {create_batch: 5s, response: 2s}, \
     health: {interval: 200ms, timeout: 1s, healthy_after: 1}";
/// Long enough for somebody to come between a lost answer and the next cluster.
const SETTLE: &str = "settle: 2s, lost_after: 1s, freshness: 0s, timeouts: {create_batch: 3s, response: 2s}, \
     health: {interval: 200ms, timeout: 1s, healthy_after: 1}";

/// Two clusters, of which the second has what the first does not take.
fn two(clusters: &Clusters, first: &str, keys: &str) -> Gateway {
    let routes = format!(
        "  - {{name: two, {keys}targets: [{{cluster: livy}}, {{cluster: kyuubi, tier: 2}}]}}\n"
    );
    Scene::new(clusters)
        .with_cluster("livy", first)
        .with_routes(&routes)
        .start()
}

fn named(name: &str) -> Value {
    json!({"file": "hdfs:///x.py", "name": name, "args": ["600"]})
}

/// The cluster takes a submission, and its answer is lost a moment later.
fn loses_its_answer(clusters: &Clusters) {
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 500, "hang_up": true}),
    );
}

/// No look-up gets through any more.
fn goes_dark(clusters: &Clusters) {
    clusters.fault(
        "livy",
        json!({"operation": "get_batch", "times": 100_000, "hang_up": true}),
    );
}

/// The cluster says a while after it was asked that it has no room.
fn is_full_after(clusters: &Clusters, delay_ms: u64) {
    let full = r#"{"msg":"Rejected, too many sessions are being created!"}"#;
    let answer = json!({"status": 400, "content_type": JSON, "body": full});
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "before", "delay_ms": delay_ms, "answer": answer}),
    );
}

fn in_flight(gateway: &Gateway, operation: &str) -> bool {
    let series = format!(r#"livy_gateway_requests_in_flight{{operation="{operation}"}}"#);
    gateway.metric(&series) > 0.0
}

fn list(gateway: &Gateway) -> Vec<Value> {
    let list = gateway.get("/batches?size=100").json();
    list["sessions"].as_array().cloned().unwrap_or_default()
}

/// Submits and hangs up as soon as the cluster has the submission.
fn submits_and_hangs_up(clusters: &Clusters, gateway: &Gateway, body: &Value) {
    let before = clusters.submissions("livy");
    let mut stream = gateway.tls(&[b"http/1.1"]);
    let request = Request::post("/batches", body).basic(ALICE);
    std::io::Write::write_all(&mut stream, &request.to_bytes()).expect("is sent");
    std::io::Write::flush(&mut stream).expect("is sent");
    gateway.wait_until("it was sent", |_| clusters.submissions("livy") > before);
    drop(stream);
    gateway.wait_until("its client has left", |gateway| {
        !in_flight(gateway, "create_batch")
    });
}

/// A kill that came while the submission was open holds wherever it would have gone.
#[test]
fn a_submission_whose_end_was_asked_for_goes_nowhere_else() {
    let clusters = Clusters::start();
    let gateway = two(&clusters, SETTLE, "ambiguous: failover, ");
    loses_its_answer(&clusters);
    let (created, killed) = std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.post("/batches", &named("nightly")));
        gateway.wait_until("it was sent", |_| clusters.submissions("livy") == 1);
        goes_dark(&clusters);
        let killer = scope.spawn(|| gateway.delete("/batches/nightly"));
        gateway.wait_until("its end is asked for", |gateway| {
            in_flight(gateway, "delete_batch")
        });
        gateway.wait_until("the next cluster could have had it", |gateway| {
            gateway.log().matches("the look-up brought nothing").count() >= 6
                || clusters.submissions("kyuubi") > 0
        });
        clusters.heal("livy");
        let (client, killer) = (client.join(), killer.join());
        (client.expect("no panic"), killer.expect("no panic"))
    });
    assert_eq!(
        (killed.status, clusters.submissions("kyuubi")),
        (200, 0),
        "{}",
        killed.text()
    );
    assert_eq!(
        (created.status, created.header("x-livy-gateway-cluster")),
        (201, Some("livy")),
        "{}",
        created.text()
    );
    let books = clusters.books("livy");
    assert!(
        books.iter().all(|job| !job["killed"].is_null()),
        "{books:?}"
    );
    gateway
        .get(&format!("/batches/{}", created.json()["id"]))
        .error(404, "not_found");
}

/// Whoever was shown an id can ask for it ever after, and is told the truth.
#[test]
fn an_id_that_somebody_was_shown_stays() {
    let clusters = Clusters::start();
    let gateway = two(&clusters, QUICK, "");
    for (name, path) in [("a", ""), ("b", "/state"), ("c", "/log")] {
        let before = clusters.submissions("livy");
        is_full_after(&clusters, 1500);
        let (created, shown) = std::thread::scope(|scope| {
            let client = scope.spawn(|| gateway.post("/batches", &named(name)));
            gateway.wait_until("it was sent", |_| clusters.submissions("livy") > before);
            let shown = gateway.get(&format!("/batches/{name}{path}"));
            assert_eq!(shown.status, 200, "{}", shown.text());
            (client.join().expect("no panic"), shown.json()["id"].clone())
        });
        let last = gateway.get(&format!("/batches/{shown}"));
        assert_eq!(
            (last.status, last.json()["state"].as_str()),
            (200, Some("error")),
            "{path}: {}",
            last.text()
        );
        assert_eq!(
            (&created.json()["id"], clusters.submissions("kyuubi")),
            (&shown, 0),
            "{path}: {}",
            created.text()
        );
    }
}

/// What a list shows stays; what may still become another batch is in no list while its client
/// waits.
#[test]
fn a_list_shows_no_id_that_vanishes() {
    let clusters = Clusters::start();
    let gateway = two(&clusters, QUICK, "");
    is_full_after(&clusters, 1500);
    let (created, shown) = std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.post("/batches", &named("nightly")));
        gateway.wait_until("it was sent", |_| clusters.submissions("livy") == 1);
        let shown = list(&gateway);
        (client.join().expect("no panic"), shown)
    });
    assert_eq!(
        created.header("x-livy-gateway-cluster"),
        Some("kyuubi"),
        "a look at the list changes nothing: {}",
        created.text()
    );
    for batch in &shown {
        let again = gateway.get(&format!("/batches/{}", batch["id"]));
        assert_eq!(again.status, 200, "{batch}: {}", again.text());
    }
    // Nobody waits for this one: its client learns of it by the list.
    is_full_after(&clusters, 1500);
    submits_and_hangs_up(&clusters, &gateway, &named("weekly"));
    let weekly = || {
        let all = list(&gateway);
        all.into_iter().find(|one| one["name"] == "weekly")
    };
    let shown = weekly().expect("is listed");
    gateway.wait_until("it has ended", |gateway| {
        let last = gateway.get(&format!("/batches/{}", shown["id"]));
        assert_eq!(last.status, 200, "{}", last.text());
        last.json()["state"] == "error"
    });
    assert_eq!(clusters.submissions("kyuubi"), 1, "only the first one's");
}

/// A run of which its client has heard, by whatever it asked, is not the answer to its next one.
#[test]
fn a_run_that_was_looked_at_is_not_the_next_one() {
    let clusters = Clusters::start();
    let gateway = two(&clusters, QUICK, "");
    for (name, path) in [
        ("a", "/batches?size=100"),
        ("b", "/batches/b"),
        ("c", "/batches/c/state"),
    ] {
        clusters.fault(
            "livy",
            json!({"operation": "create_batch", "moment": "after", "delay_ms": 500}),
        );
        submits_and_hangs_up(&clusters, &gateway, &named(name));
        let shown = gateway.get(path);
        let is_it = shown.status == 200
            && (path != "/batches?size=100" || shown.text().contains(r#""name":"a""#));
        assert!(is_it, "{path}: {}", shown.text());
        gateway
            .post("/batches", &named(name))
            .error(400, "duplicate_name");
    }
    // Of this one nobody heard: whoever sends it again is its client.
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 500}),
    );
    submits_and_hangs_up(&clusters, &gateway, &named("d"));
    let again = gateway.post("/batches", &named("d"));
    assert_eq!(again.status, 201, "{}", again.text());
    let runs = clusters.books("livy");
    assert_eq!(runs.iter().filter(|job| job["name"] == "d").count(), 1);
}

/// An end that was asked for holds also if the submission then proves absent.
#[test]
fn what_was_to_end_is_not_sent_again() {
    let clusters = Clusters::start();
    let gateway = two(&clusters, SETTLE, "");
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "before", "delay_ms": 500, "hang_up": true}),
    );
    let (created, killed) = std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.post("/batches", &named("nightly")));
        gateway.wait_until("it was sent", |_| clusters.submissions("livy") == 1);
        let killed = gateway.delete("/batches/nightly");
        (client.join().expect("no panic"), killed)
    });
    assert_eq!(
        (
            killed.status,
            clusters.submissions("livy"),
            clusters.submissions("kyuubi")
        ),
        (200, 1, 0),
        "{}",
        killed.text()
    );
    assert_eq!(created.status, 201, "{}", created.text());
    gateway
        .get(&format!("/batches/{}", created.json()["id"]))
        .error(404, "not_found");
}

/// What another attempt has replaced is no batch any more, whatever the route does with late jobs.
#[test]
fn a_late_job_is_not_adopted_beside_its_successor() {
    let clusters = Clusters::start();
    let gateway = two(&clusters, SETTLE, "ambiguous: failover, late_jobs: adopt, ");
    loses_its_answer(&clusters);
    let body = json!({"file": "hdfs:///x.py", "args": ["600"]});
    let created = std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.post("/batches", &body));
        gateway.wait_until("it was sent", |_| clusters.submissions("livy") == 1);
        goes_dark(&clusters);
        client.join().expect("no panic")
    });
    assert_eq!(
        (created.status, created.header("x-livy-gateway-cluster")),
        (201, Some("kyuubi")),
        "{}",
        created.text()
    );
    clusters.heal("livy");
    gateway.wait_until("the one at the first cluster is dealt with", |gateway| {
        let series = |action: &str| {
            gateway.metric(&format!(
                "livy_gateway_late_jobs_total{{action=\"{action}\",cluster=\"livy\"}}"
            ))
        };
        assert!(series("adopted") < 1.0, "it runs twice");
        series("killed") > 0.0
    });
    assert_eq!(list(&gateway).len(), 1);
}

/// A job under a client's own name is looked for without anybody asking.
#[test]
fn a_late_job_under_a_clients_name_is_killed_though_nobody_lists() {
    let clusters = Clusters::start();
    for (at, name) in ["nightly", "my job"].into_iter().enumerate() {
        // Nothing else than the name tells: the double shows no users.
        let quick = format!("{}, act_as: service", QUICK.replace("5s", "1s"));
        let gateway = two(&clusters, &quick, "");
        clusters.fault(
            "livy",
            json!({"operation": "create_batch", "moment": "before", "delay_ms": 60_000}),
        );
        submits_and_hangs_up(&clusters, &gateway, &named(name));
        let gateway = gateway.killed_and_restarted();
        let path = format!("/batches/{}/state", name.replace(' ', "%20"));
        gateway.wait_until("it is given up", |gateway| {
            gateway.get(&path).json()["state"] == "error"
        });
        // Now it arrives: something in between had held it.
        let mut sent = clusters.requests("livy").into_iter();
        let held = sent.rfind(|one| one["method"] == "POST");
        let held = held.expect("a submission")["body"].clone();
        let held = serde_json::from_str(held.as_str().expect("a body")).expect("JSON");
        let arrived = clusters.direct("livy", "POST", "/batches", Some(&held));
        assert_eq!(arrived.status, 201, "{}", arrived.text());
        gateway.wait_until("it is killed", |_| {
            let books = clusters.books("livy");
            books.len() == at + 1 && books.iter().all(|job| !job["killed"].is_null())
        });
    }
}
