//! Which batch is the same, and what proves that one is not there, against an enemy who read it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use testkit::*;

/// A cluster whose silence is proof after a second, and that is asked every time.
const QUICK: &str = "settle: 300ms, freshness: 0s, timeouts: {create_batch: 1s, response: 4s}";
const JSON: &str = "application/json";

fn gateway(clusters: &Clusters, flavor: &str, more: &str) -> Gateway {
    Scene::new(clusters)
        .with_cluster(flavor, &format!("{QUICK}{more}"))
        .start()
}

fn named(name: &str) -> Value {
    json!({"file": "hdfs:///x.py", "name": name, "args": ["600"]})
}

fn answer(status: u16, body: &str) -> Value {
    json!({"status": status, "content_type": JSON, "body": body})
}

fn list(gateway: &Gateway, cluster: &str) -> Value {
    let path = format!("/clusters/{cluster}/batches?size=100");
    gateway.send(&Request::get(&path).basic(ROOT)).json()
}

/// Returns how often a path was asked for.
fn asked(clusters: &Clusters, flavor: &str, path: &str) -> usize {
    let requests = clusters.requests(flavor);
    let fit = requests
        .iter()
        .filter(|one| one["method"] == "GET" && one["path"] == path);
    fit.count()
}

fn deletes(clusters: &Clusters, flavor: &str) -> usize {
    let requests = clusters.requests(flavor);
    let deletes = requests.iter().filter(|one| one["method"] == "DELETE");
    deletes.count()
}

/// Creates a job directly on a Livy, as somebody does who knows nothing of the gateway.
fn foreign(clusters: &Clusters, name: &str) {
    let reply = clusters.direct("livy", "POST", "/batches", Some(&named(name)));
    assert_eq!(reply.status, 201, "{}", reply.text());
}

/// Loses the answer to the next submission a while after the cluster has taken it.
fn lose_the_answer(clusters: &Clusters, flavor: &str) {
    let fault =
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 500, "hang_up": true});
    clusters.fault(flavor, fault);
}

/// Submits, and does something once the cluster has taken it.
fn meanwhile(
    clusters: &Clusters,
    gateway: &Gateway,
    flavor: &str,
    body: &Value,
    then: impl FnOnce(),
) -> Reply {
    let before = clusters.submissions(flavor);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.post(&format!("/clusters/{flavor}/batches"), body));
        gateway.wait_until("it was sent", |_| clusters.submissions(flavor) > before);
        then();
        client.join().expect("no panic")
    })
}

/// What a cluster answers that has no such batch.
fn not_found(flavor: &str) -> Value {
    let body = match flavor {
        "kyuubi" => r#"{"message":"Invalid batchId: x"}"#,
        "ibm" => r#"{"errors":[{"code":"not_found","message":"no such batch"}],"trace":"t"}"#,
        _ => r#"{"msg":"Session '0' not found."}"#,
    };
    answer(404, body)
}

/// A cluster says once that it does not know a batch, is away for longer than `lost_after`, and
/// says so once more: that is no silence.
#[test]
fn two_single_404s_end_nothing() {
    let clusters = Clusters::start();
    for flavor in ["livy", "kyuubi", "ibm"] {
        let gateway = gateway(&clusters, flavor, ", lost_after: 1s, watch: 1h");
        let mine = gateway.submit(flavor, &json!({}));
        gateway.wait_for_state(mine, "running");
        let item = format!("/batches/{mine}");
        let once = json!({"operation": "get_batch", "answer": not_found(flavor)});
        let told_stale = || {
            let told = gateway.get(&item);
            assert_eq!(told.json()["state"], "running", "{flavor}: {}", told.text());
            told.header("x-livy-gateway-stale") == Some("true")
        };
        clusters.fault(flavor, once.clone());
        clusters.fault(flavor, json!({"times": 1_000_000, "hang_up": true}));
        assert!(told_stale(), "{flavor}");
        let away = Instant::now();
        gateway.wait_until("it is away for longer than that", |_| {
            told_stale() && away.elapsed() > Duration::from_millis(1300)
        });
        clusters.heal(flavor);
        clusters.fault(flavor, once);
        gateway.wait_until("it is heard of again", |_| !told_stale());
    }
}

/// A batch that its cluster has lost ends though only one poll ever came.
#[test]
fn what_is_lost_is_asked_for_until_that_is_clear() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy", ", lost_after: 3s, watch: 1h");
    let mine = gateway.submit("livy", &json!({}));
    gateway.wait_for_state(mine, "running");
    clusters.restart("livy");
    let told = gateway.get(&format!("/batches/{mine}"));
    assert_eq!(told.json()["state"], "running", "{}", told.text());
    let lost = r#"livy_gateway_lost_batches_total{cluster="livy"}"#;
    gateway.wait_until("it is lost", |gateway| gateway.metric(lost) == 1.0);
}

/// One Livy stands behind two clusters of the gateway. What the second one took after the first one
/// did not is shown by the first one's list as well, under the name that the client chose.
#[test]
fn what_the_next_cluster_took_is_not_killed_by_the_firsts_list() {
    let clusters = Clusters::start();
    let routes = "  - {name: two, targets: [{cluster: livy}, {cluster: twin, tier: 2}]}\n";
    let mut scene = Scene::new(&clusters)
        .with_cluster("livy", &format!("{QUICK}, act_as: service"))
        .with_routes(routes);
    let twin = scene.clusters.lines().next().expect("a cluster");
    let twin = twin.replacen("livy: {", "twin: {", 1);
    scene.clusters.push_str(&format!("{twin}\n"));
    let gateway = scene.start();
    let lost = json!({"operation": "create_batch", "times": 3, "hang_up": true});
    clusters.fault("livy", lost);
    let reply = gateway.post("/batches", &named("nightly"));
    assert_eq!(
        (reply.status, reply.header("x-livy-gateway-cluster")),
        (201, Some("twin")),
        "{}",
        reply.text()
    );
    for cluster in ["livy", "twin"] {
        list(&gateway, cluster);
    }
    gateway.wait_for_state(reply.json()["id"].as_i64().expect("an id"), "running");
    assert_eq!(deletes(&clusters, "livy"), 0);
}

/// A Livy that recovers keeps the names of what it does not show yet. What then shows up under the
/// name was there before the submission was sent.
#[test]
fn an_older_job_of_the_name_is_no_submission() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy", ", lost_after: 1s");
    foreign(&clusters, "nightly");
    gateway.submit("livy", &json!({}));
    clusters.restart_with("livy", &json!({"recover": true, "unknown_ms": 2500}));
    lose_the_answer(&clusters, "livy");
    let reply = gateway.post("/clusters/livy/batches", &named("nightly"));
    assert_ne!(
        reply.header("x-livy-gateway-upstream-id"),
        Some("0"),
        "{}",
        reply.text()
    );
    assert_eq!(deletes(&clusters, "livy"), 0);
}

/// A list that could not be read whole does not say that a name is free: what is found under it
/// later may have been there before.
#[test]
fn a_name_that_was_not_looked_for_in_all_of_a_list_is_not_free() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy", "");
    foreign(&clusters, "my job");
    let odd = r#"{"from":0,"total":1,"sessions":[{"id":-1,"name":"my job","state":"running"}]}"#;
    let fault = json!({"operation": "list_batches", "times": 1000, "answer": answer(200, odd)});
    clusters.fault("livy", fault);
    let slow = json!({"operation": "create_batch", "delay_ms": 500});
    clusters.fault("livy", slow);
    let reply = meanwhile(&clusters, &gateway, "livy", &named("my job"), || {
        clusters.heal("livy");
    });
    assert_ne!(
        reply.header("x-livy-gateway-upstream-id"),
        Some("0"),
        "{}",
        reply.text()
    );
}

/// A list that could not be read whole does not say that a refusal left nothing: somebody in front
/// sent it twice.
#[test]
fn a_list_that_is_not_whole_proves_no_refusal() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy", "");
    let full = answer(
        400,
        r#"{"msg":"Rejected, too many sessions are being created!"}"#,
    );
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 500, "answer": full}),
    );
    let reply = meanwhile(&clusters, &gateway, "livy", &named("my job"), || {
        let odd =
            r#"{"from":0,"total":1,"sessions":[{"id":-1,"name":"my job","state":"running"}]}"#;
        let fault = json!({"operation": "list_batches", "times": 3, "answer": answer(200, odd)});
        clusters.fault("livy", fault);
    });
    assert_eq!(
        (reply.status, reply.header("x-livy-gateway-upstream-id")),
        (201, Some("0")),
        "{}",
        reply.text()
    );
}

/// A service whose list holds a higher number than it gives: what is new under the very number of
/// the answer is the submission.
#[test]
fn a_number_below_the_highest_of_the_list_may_be_new() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "ibm", "");
    let listed = |rows: &str| {
        let body = format!(r#"{{"from":0,"total":2,"sessions":[{rows}]}}"#);
        let shown = answer(200, &body);
        clusters.fault(
            "ibm",
            json!({"operation": "list_batches", "times": 1000, "answer": shown}),
        );
    };
    listed(r#"{"id":500,"state":"running"}"#);
    clusters.fault("ibm", json!({"operation": "create_batch", "delay_ms": 500}));
    let body = json!({"file": "cos://b.s/x.py", "args": ["600"]});
    let reply = meanwhile(&clusters, &gateway, "ibm", &body, || {
        clusters.heal("ibm");
        listed(r#"{"id":500,"state":"running"},{"id":1,"state":"running"}"#);
    });
    assert_eq!(
        (reply.status, reply.header("x-livy-gateway-upstream-id")),
        (201, Some("1")),
        "{}",
        reply.text()
    );
    assert_eq!(clusters.submissions("ibm"), 1);
}

/// A cluster that runs the job as its own account, or shows another name than it was sent, shows
/// neither a stranger's job nor none.
#[test]
fn what_a_cluster_changes_is_no_absence() {
    let service = r#"{"id":0,"name":"nightly","owner":null,"proxyUser":"svc","state":"running","appId":null,"appInfo":{},"log":["x"]}"#;
    let trimmed = r#"{"id":0,"name":"night","owner":null,"proxyUser":null,"state":"starting","appId":null,"appInfo":{},"log":[]}"#;
    let gone = r#"{"msg":"Session 'nightly' not found."}"#;
    for (created, shown) in [
        (json!({"hang_up": true}), answer(200, service)),
        (json!({"answer": answer(201, trimmed)}), answer(404, gone)),
    ] {
        let clusters = Clusters::start();
        let gateway = gateway(&clusters, "livy", "");
        let mut fault = json!({"operation": "create_batch", "moment": "after", "delay_ms": 500});
        for (key, value) in created.as_object().expect("an object") {
            fault[key] = value.clone();
        }
        clusters.fault("livy", fault);
        let reply = meanwhile(&clusters, &gateway, "livy", &named("nightly"), || {
            let sent = Instant::now();
            let fault = json!({"operation": "get_batch", "times": 1000, "answer": shown});
            clusters.fault("livy", fault);
            gateway.wait_until("it is looked for far longer than that", |_| {
                sent.elapsed() > Duration::from_secs(4)
                    && asked(&clusters, "livy", "/batches/nightly") > 5
            });
            clusters.heal("livy");
        });
        assert_eq!(
            (reply.status, clusters.submissions("livy")),
            (201, 1),
            "{created}: {}",
            reply.text()
        );
        gateway.wait_for_state(reply.json()["id"].as_i64().expect("an id"), "running");
    }
}
