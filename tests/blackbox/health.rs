//! Clusters that fail, are drained or disabled, and what the gateway spares them.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use testkit::*;

/// A cluster that is asked at every poll, is probed but rarely, and is asked once.
const PLAIN: &str = "freshness: 0s, retries: {percent: 0, floor: 0}";

fn only_livy(clusters: &Clusters, keys: &str) -> Scene {
    Scene::new(clusters)
        .with_cluster("livy", keys)
        .with_routes("  - {name: one, targets: [{cluster: livy}]}\n")
}

fn front_says(operation: &str, status: u16) -> Value {
    json!({"operation": operation, "times": 1_000_000, "answer": {"status": status, "content_type": "text/html", "body": "<html>no server</html>"}})
}

fn shown(gateway: &Gateway, name: &str) -> Value {
    let all = gateway.admin("/clusters").json();
    let found = all.as_array().expect("a list").iter();
    found
        .clone()
        .find(|one| one["name"] == name)
        .unwrap_or_else(|| panic!("no {name} in {all}"))
        .clone()
}

/// The metric and the page are read one after the other; what is asserted has come to rest.
#[track_caller]
fn assert_agreed(gateway: &Gateway, name: &str) {
    let one = shown(gateway, name);
    for state in ["serving", "draining", "ejected", "disabled"] {
        let series = format!("livy_gateway_cluster_state{{cluster=\"{name}\",state=\"{state}\"}}");
        let here = one["state"] == state;
        assert_eq!(gateway.metric(&series), f64::from(u8::from(here)), "{one}");
    }
    let up = gateway.metric(&format!("livy_gateway_cluster_up{{cluster=\"{name}\"}}"));
    assert_eq!(up == 1.0, one["up"] == true, "{one}");
    let live = gateway.metric(&format!(
        "livy_gateway_cluster_live_batches{{cluster=\"{name}\"}}"
    ));
    assert_eq!(Some(live), one["live_batches"].as_f64(), "{one}");
}

fn is_time(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok())
}

fn send_order(gateway: &Gateway, method: &str, path: &str, origin: Option<&str>) -> Reply {
    let stream = TcpStream::connect(gateway.admin).expect("the admin listener listens");
    let mut request = Request {
        method,
        path,
        ..Request::default()
    };
    if let Some(origin) = origin {
        request = request.header("Origin", origin);
    }
    exchange(stream, &request.to_bytes())
}

#[track_caller]
fn order(gateway: &Gateway, name: &str, verb: &str) -> Value {
    let reply = send_order(gateway, "POST", &format!("/clusters/{name}/{verb}"), None);
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn is_stale(reply: &Reply) -> bool {
    reply.header("x-livy-gateway-stale") == Some("true")
}

#[test]
fn requests_that_fail_eject_and_one_that_succeeds_brings_back() {
    let clusters = Clusters::start();
    let health = "health: {interval: 1h, eject_after: 3, ejection_time: 2s}";
    let gateway = only_livy(&clusters, &format!("{PLAIN}, {health}")).start();
    let id = gateway.submit("livy", &json!({}));
    let path = format!("/batches/{id}/state");
    assert_eq!(shown(&gateway, "livy")["reason"], Value::Null);
    clusters.fault("livy", front_says("get_state", 503));
    for _ in 0..3 {
        assert!(is_stale(&gateway.get(&path)));
    }
    let one = shown(&gateway, "livy");
    assert_eq!(
        (one["state"].as_str(), one["up"].as_bool()),
        (Some("ejected"), Some(true)),
        "{one}"
    );
    assert!(
        one["reason"]
            .as_str()
            .is_some_and(|why| why.contains("3 requests in a row")),
        "{one}"
    );
    assert!(
        is_time(&one["since"]) && is_time(&one["next_trial"]),
        "{one}"
    );
    assert!(
        one["last_error"]["message"]
            .as_str()
            .is_some_and(|why| why.contains("503")),
        "{one}"
    );
    assert!(is_time(&one["last_error"]["at"]), "{one}");
    assert_agreed(&gateway, "livy");
    let asked = clusters.requests("livy").len();
    for _ in 0..20 {
        let reply = gateway.get(&path);
        assert!(reply.status == 200 && is_stale(&reply));
    }
    assert!(
        clusters.requests("livy").len() <= asked + 1,
        "at most a trial"
    );
    clusters.heal("livy");
    gateway.wait_until("it is back", |gateway| !is_stale(&gateway.get(&path)));
    assert_eq!(shown(&gateway, "livy")["state"], "serving");
    assert_agreed(&gateway, "livy");
    for to in ["ejected", "serving"] {
        let series = format!(
            "livy_gateway_cluster_transitions_total{{cause=\"outlier\",cluster=\"livy\",to=\"{to}\"}}"
        );
        assert_eq!(gateway.metric(&series), 1.0, "{to}");
    }
}

#[test]
fn a_trial_lets_one_through() {
    let clusters = Clusters::start();
    let health =
        "health: {interval: 1h, eject_after: 1, ejection_time: 1s}, timeouts: {response: 10s}";
    let gateway = only_livy(&clusters, &format!("{PLAIN}, {health}")).start();
    let ids: Vec<i64> = (0..4).map(|_| gateway.submit("livy", &json!({}))).collect();
    clusters.fault("livy", json!({"operation": "get_state", "hang_up": true}));
    gateway.get(&format!("/batches/{}/state", ids[0]));
    assert_eq!(shown(&gateway, "livy")["state"], "ejected");
    clusters.fault(
        "livy",
        json!({"operation": "get_state", "times": 100, "delay_ms": 1500, "hang_up": true}),
    );
    let asked = clusters.requests("livy").len();
    let until = Instant::now() + Duration::from_millis(2200);
    std::thread::scope(|scope| {
        for id in &ids {
            let gateway = &gateway;
            scope.spawn(move || {
                while Instant::now() < until {
                    gateway.get(&format!("/batches/{id}/state"));
                }
            });
        }
    });
    assert_eq!(clusters.requests("livy").len(), asked + 1);
}

#[test]
fn what_the_cluster_itself_refuses_ejects_nobody() {
    let clusters = Clusters::start();
    let gateway = only_livy(
        &clusters,
        &format!("{PLAIN}, health: {{interval: 1h, eject_after: 2}}"),
    )
    .start();
    let id = gateway.submit("livy", &json!({}));
    let own = json!({"status": 500, "content_type": "application/json", "body": r#"{"msg":"java.lang.IllegalStateException"}"#});
    clusters.fault(
        "livy",
        json!({"operation": "get_state", "times": 1_000_000, "answer": own}),
    );
    for _ in 0..6 {
        gateway.get(&format!("/batches/{id}/state"));
    }
    assert_eq!(shown(&gateway, "livy")["state"], "serving");
}

#[test]
fn the_last_cluster_of_a_route_is_not_ejected_in_silence() {
    let clusters = Clusters::start();
    let health = "health: {interval: 200ms, unhealthy_after: 2, healthy_after: 1, eject_after: 2, ejection_time: 1h, max_ejection_time: 1h}";
    let gateway = only_livy(&clusters, &format!("{PLAIN}, {health}")).start();
    let id = gateway.submit("livy", &json!({}));
    clusters.fault("livy", front_says("get_state", 502));
    for _ in 0..2 {
        gateway.get(&format!("/batches/{id}/state"));
    }
    assert_eq!(shown(&gateway, "livy")["state"], "ejected");
    // Its probes say that it lives: it is tried, and that it takes batches brings it back.
    let reply = gateway.post("/batches", &json!({"file": "hdfs:///x.py"}));
    assert_eq!(reply.status, 201, "{}", reply.text());
    let tried =
        r#"livy_gateway_routing_decisions_total{cluster="livy",reason="last_resort",route="one"}"#;
    assert_eq!(gateway.metric(tried), 1.0);
    assert!(
        gateway
            .log()
            .contains("every cluster of a route is ejected")
    );
    assert_eq!(shown(&gateway, "livy")["state"], "serving");
    // Dead for its probes as well: nothing is tried, and the answer says why and since when.
    clusters.fault("livy", json!({"times": 1_000_000, "hang_up": true}));
    gateway.wait_until("probes find it dead", |gateway| {
        let one = shown(gateway, "livy");
        one["state"] == "ejected" && one["next_trial"].is_null()
    });
    let submitted = clusters.submissions("livy");
    let reply = gateway.post("/batches", &json!({"file": "hdfs:///x.py"}));
    let message = reply.error(503, "cluster_unavailable");
    assert!(
        message.contains("'livy' is ejected since 20") && message.contains("in a row"),
        "{message}"
    );
    assert!(reply.header("retry-after").is_some());
    assert_eq!(clusters.submissions("livy"), submitted);
    assert_agreed(&gateway, "livy");
}

#[test]
fn a_drain_survives_the_process() {
    let clusters = Clusters::start();
    let gateway = only_livy(&clusters, "freshness: 0s").start();
    let id = gateway.submit("livy", &json!({}));
    let told = order(&gateway, "livy", "drain");
    assert_eq!(
        (&told["state"], &told["live_batches"], &told["drained"]),
        (&json!("draining"), &json!(1), &json!(false)),
        "{told}"
    );
    assert!(
        told["reason"]
            .as_str()
            .is_some_and(|why| why.contains("127.0.0.1")),
        "{told}"
    );
    assert_agreed(&gateway, "livy");
    assert!(gateway.log().contains("an administrator gave an order"));
    let series =
        r#"livy_gateway_cluster_transitions_total{cause="admin",cluster="livy",to="draining"}"#;
    assert_eq!(gateway.metric(series), 1.0);
    let gateway = gateway.killed_and_restarted();
    let one = shown(&gateway, "livy");
    assert_eq!(
        (&one["state"], &one["since"]),
        (&json!("draining"), &told["since"]),
        "{one}"
    );
    let before = clusters.submissions("livy");
    for path in ["/batches", "/clusters/livy/batches"] {
        let refused = gateway.post(path, &json!({"file": "hdfs:///x.py"}));
        let message = refused.error(503, "cluster_unavailable");
        assert!(message.contains("draining since"), "{message}");
    }
    assert_eq!(clusters.submissions("livy"), before);
    // What runs there goes on to be asked and can be killed.
    assert!(!is_stale(&gateway.get(&format!("/batches/{id}/state"))));
    assert_eq!(gateway.get(&format!("/batches/{id}/log")).status, 200);
    assert_eq!(gateway.delete(&format!("/batches/{id}")).status, 200);
    let one = shown(&gateway, "livy");
    assert_eq!(
        (&one["live_batches"], &one["drained"]),
        (&json!(0), &json!(true)),
        "{one}"
    );
    assert_agreed(&gateway, "livy");
    assert_eq!(order(&gateway, "livy", "undrain")["state"], "serving");
    let gateway = gateway.killed_and_restarted();
    assert_eq!(shown(&gateway, "livy")["state"], "serving");
    gateway.submit("livy", &json!({}));
}

#[test]
fn a_disabled_cluster_is_not_asked_anything() {
    let clusters = Clusters::start();
    let gateway = only_livy(&clusters, "freshness: 0s, health: {interval: 20ms}")
        .with_cluster("knox", "health: {interval: 20ms}")
        .start();
    let id = gateway.submit("livy", &json!({}));
    assert_eq!(order(&gateway, "livy", "disable")["state"], "disabled");
    assert_agreed(&gateway, "livy");
    // A probe may have been on its way.
    gateway.wait_for_probes(&clusters, "knox", 3);
    let asked = clusters.requests("livy").len();
    assert!(is_stale(&gateway.get(&format!("/batches/{id}/state"))));
    gateway.get("/batches");
    gateway.get(&format!("/batches/{id}/log"));
    assert_ne!(gateway.delete(&format!("/batches/{id}")).status, 200);
    gateway
        .post("/batches", &json!({"file": "hdfs:///x.py"}))
        .error(503, "cluster_unavailable");
    gateway.wait_for_probes(&clusters, "knox", 10);
    assert_eq!(
        clusters.requests("livy").len(),
        asked,
        "not even by a probe"
    );
    let gateway = gateway.killed_and_restarted();
    assert_eq!(shown(&gateway, "livy")["state"], "disabled");
    assert_eq!(order(&gateway, "livy", "enable")["state"], "serving");
    // The kill was remembered.
    gateway.wait_until("it is killed", |_| {
        clusters.books("livy")[0]["state"] == "killed"
    });
}

#[test]
fn the_stricter_of_configuration_and_administrator_holds() {
    let clusters = Clusters::start();
    let gateway = only_livy(&clusters, "state: draining").start();
    let one = order(&gateway, "livy", "undrain");
    assert_eq!(
        (&one["state"], &one["configured"]),
        (&json!("draining"), &json!("draining")),
        "{one}"
    );
    assert_eq!(one["reason"], "the configuration says so");
    assert_eq!(order(&gateway, "livy", "disable")["state"], "disabled");
    // A drain neither weakens nor ends it.
    assert_eq!(order(&gateway, "livy", "drain")["state"], "disabled");
    assert_eq!(order(&gateway, "livy", "undrain")["state"], "disabled");
    assert_eq!(order(&gateway, "livy", "enable")["state"], "draining");
}

#[test]
fn orders_are_refused_in_json() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let told = |method: &str, path: &str, origin: Option<&str>| {
        let reply = send_order(&gateway, method, path, origin);
        (
            reply.status,
            reply.json()["code"].as_str().unwrap_or_default().to_owned(),
            reply.header("allow").map(str::to_owned),
        )
    };
    let refused = |status: u16, code: &str| (status, code.to_owned(), None);
    assert_eq!(
        told("POST", "/clusters/nosuch/drain", None),
        refused(404, "unknown_path")
    );
    assert_eq!(
        told("POST", "/clusters/livy/explode", None),
        refused(404, "unknown_path")
    );
    for method in ["GET", "DELETE", "PUT"] {
        assert_eq!(
            told(method, "/clusters/livy/drain", None),
            (
                405,
                "method_not_allowed".to_owned(),
                Some("POST".to_owned())
            )
        );
    }
    assert_eq!(
        told("POST", "/clusters/livy/drain", Some("http://evil.example")),
        refused(403, "forbidden")
    );
    assert_eq!(shown(&gateway, "livy")["state"], "serving");
}

#[test]
fn a_budget_bounds_what_an_outage_costs_on_top() {
    let clusters = Clusters::start();
    let keys = "freshness: 0s, retries: {percent: 20, floor: 5}, health: {interval: 1h, eject_after: 0}, watch: 0s";
    let gateway = only_livy(&clusters, keys).start();
    let id = gateway.submit("livy", &json!({}));
    gateway.get(&format!("/batches/{id}/state"));
    clusters.fault("livy", json!({"times": 1_000_000, "hang_up": true}));
    let (began, before) = (Instant::now(), clusters.requests("livy").len());
    const POLLS: usize = 100;
    for _ in 0..POLLS {
        assert!(is_stale(&gateway.get(&format!("/batches/{id}/state"))));
    }
    let extra = clusters.requests("livy").len() - before - POLLS;
    let floor = 5 + usize::try_from(began.elapsed().as_secs()).expect("is small") / 2 + 1;
    assert!(
        (20..=20 + floor).contains(&extra),
        "{extra} on top of {POLLS}, floor {floor}"
    );
    let count = |outcome: &str| {
        gateway.metric(&format!("livy_gateway_upstream_retries_total{{cluster=\"livy\",operation=\"get_state\",outcome=\"{outcome}\"}}"))
    };
    assert_eq!(count("exhausted") as usize, extra);
    assert_eq!(count("over_budget") as usize, POLLS - extra);
}

#[test]
fn a_read_that_fails_once_is_sent_again() {
    let clusters = Clusters::start();
    let gateway = only_livy(&clusters, "freshness: 0s").start();
    let id = gateway.submit("livy", &json!({}));
    for fault in [
        json!({"operation": "get_state", "hang_up": true}),
        json!({"operation": "get_state", "answer": {"status": 503, "content_type": "text/html", "body": "<html>"}}),
    ] {
        clusters.fault("livy", fault);
        assert!(!is_stale(&gateway.get(&format!("/batches/{id}/state"))));
    }
    let series = r#"livy_gateway_upstream_retries_total{cluster="livy",operation="get_state",outcome="recovered"}"#;
    assert_eq!(gateway.metric(series), 2.0);
    // A kill whose answer was lost is looked at first, and only then sent again.
    clusters.fault(
        "livy",
        json!({"operation": "delete_batch", "hang_up": true}),
    );
    assert_eq!(gateway.delete(&format!("/batches/{id}")).status, 200);
    let asked = clusters.requests("livy");
    let methods: Vec<_> = asked.iter().map(|one| one["method"].as_str()).collect();
    let first = methods.iter().position(|method| *method == Some("DELETE"));
    let after = &methods[first.expect("a kill") + 1..];
    let (last, looks) = after.split_last().expect("it is looked at");
    assert_eq!(*last, Some("DELETE"), "{methods:?}");
    assert!(
        !looks.is_empty() && looks.iter().all(|look| *look == Some("GET")),
        "{methods:?}"
    );
}

#[test]
fn more_than_may_be_on_their_way_are_turned_away() {
    let clusters = Clusters::start();
    let scene = only_livy(
        &clusters,
        "freshness: 0s, max_in_flight: {create_batch: 1, get_state: 1}",
    );
    let gateway = scene.start();
    let ids = [
        gateway.submit("livy", &json!({})),
        gateway.submit("livy", &json!({})),
    ];
    let before = clusters.submissions("livy");
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "delay_ms": 2000}),
    );
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            gateway
                .post("/batches", &json!({"file": "hdfs:///x.py"}))
                .status
        });
        gateway.wait_until("it is on its way", |_| {
            clusters.submissions("livy") == before + 1
        });
        let reply = gateway.post("/batches", &json!({"file": "hdfs:///x.py"}));
        let message = reply.error(503, "cluster_busy");
        assert!(message.contains("nothing was submitted"), "{message}");
        assert!(reply.header("retry-after").is_some());
        assert_eq!(first.join().expect("no panic"), 201);
    });
    assert_eq!(clusters.submissions("livy"), before + 1);
    assert_eq!(
        gateway.get("/batches").json()["total"],
        3,
        "it left no trace"
    );
    let shed = |operation: &str| {
        gateway.metric(&format!(
            "livy_gateway_upstream_shed_total{{cluster=\"livy\",operation=\"{operation}\"}}"
        ))
    };
    assert_eq!(shed("create_batch"), 1.0);
    // A poll has an answer all the same: what is known.
    clusters.fault("livy", json!({"operation": "get_state", "delay_ms": 2000}));
    let asked = clusters.requests("livy").len();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| is_stale(&gateway.get(&format!("/batches/{}/state", ids[0]))));
        gateway.wait_until("it is on its way", |_| {
            clusters.requests("livy").len() > asked
        });
        let reply = gateway.get(&format!("/batches/{}/state", ids[1]));
        assert!(reply.status == 200 && is_stale(&reply));
        assert!(!first.join().expect("no panic"));
    });
    assert_eq!(shed("get_state"), 1.0);
    assert_eq!(
        shown(&gateway, "livy")["state"],
        "serving",
        "that is no failure"
    );
}

#[test]
fn what_one_cluster_turns_away_the_next_one_gets() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", "max_in_flight: {create_batch: 1}")
        .with_routes("  - {name: two, targets: [{cluster: livy}, {cluster: kyuubi, tier: 2}]}\n")
        .start();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "delay_ms": 2000}),
    );
    std::thread::scope(|scope| {
        let first = scope.spawn(|| gateway.post("/batches", &json!({"file": "hdfs:///x.py"})));
        gateway.wait_until("it is on its way", |_| clusters.submissions("livy") == 1);
        let second = gateway.post("/batches", &json!({"file": "hdfs:///x.py"}));
        assert_eq!(second.header("x-livy-gateway-cluster"), Some("kyuubi"));
        let first = first.join().expect("no panic");
        assert_eq!(first.header("x-livy-gateway-cluster"), Some("livy"));
    });
}

#[test]
fn a_probe_of_ibm_does_not_list_everything() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_cluster("ibm", "health: {interval: 50ms}, watch: 0s")
        .start();
    gateway.submit("ibm", &json!({}));
    let count = |end: &str| {
        let asked = clusters.requests("ibm");
        asked
            .iter()
            .filter(|one| one["path"].as_str().is_some_and(|path| path.ends_with(end)))
            .count()
    };
    // The first one may have been on its way when the batch was made.
    gateway.wait_until("probes ask for the batch", |_| count("/state") >= 3);
    let lists = count("/batches");
    gateway.wait_until("they go on", |_| count("/state") >= 10);
    assert_eq!(count("/batches"), lists);
    // One that is gone proves nothing: then the list tells.
    clusters.restart("ibm");
    gateway.wait_until("the list is asked", |_| count("/batches") > lists);
    assert_eq!(shown(&gateway, "ibm")["state"], "serving");
}

#[test]
fn a_cluster_can_not_invent_series() {
    let clusters = Clusters::start();
    let gateway = only_livy(&clusters, PLAIN).start();
    let id = gateway.submit("livy", &json!({}));
    for status in [299, 418, 451, 555, 599, 700, 999] {
        clusters.fault(
            "livy",
            json!({"operation": "get_state", "answer": {"status": status}}),
        );
        gateway.get(&format!("/batches/{id}/state"));
    }
    let text = gateway.admin("/metrics").text();
    let mut codes: Vec<&str> = text
        .lines()
        .filter(|line| {
            line.starts_with("livy_gateway_upstream_requests_total") && line.contains("get_state")
        })
        .filter_map(|line| line.split("code=\"").nth(1)?.split('"').next())
        .collect();
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes, ["2xx", "4xx", "5xx", "other"]);
}

#[test]
fn check_says_the_same_in_json_and_by_its_status() {
    let clusters = Clusters::start();
    let scene = only_livy(&clusters, "health: {timeout: 1s}");
    let path = scene.write();
    let check = || {
        let arguments = [
            "check",
            "--probe",
            "--format",
            "json",
            "-c",
            path.to_str().expect("UTF-8"),
        ];
        let (status, out, _) = run(&arguments, scene.folder.path());
        let told: Value = serde_json::from_str(&out).expect("JSON");
        (status, told)
    };
    let (status, told) = check();
    assert_eq!((status, &told["ok"]), (0, &json!(true)), "{told}");
    assert_eq!(told["probes"].as_array().map(Vec::len), Some(5), "{told}");
    clusters.fault("livy", json!({"times": 10, "answer": {"status": 401}}));
    let (status, told) = check();
    assert_eq!((status, &told["ok"]), (1, &json!(false)), "{told}");
    let failed: Vec<&Value> = told["probes"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|one| one["ok"] == false)
        .collect();
    assert_eq!(failed.len(), 1, "{told}");
    assert_eq!(failed[0]["error"], "it answered 401");
}

#[test]
fn an_order_survives_another_definition_of_its_cluster() {
    let clusters = Clusters::start();
    let gateway = only_livy(&clusters, "freshness: 0s").start();
    gateway.submit("livy", &json!({}));
    let told = order(&gateway, "livy", "drain");
    let path = gateway.scene.folder.path().join("routes.yaml");
    let redefine = |from: &str, to: &str| {
        let text = std::fs::read_to_string(&path).expect("is there");
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replacen(from, to, 1)).expect("is writable");
        let reply = send_order(&gateway, "POST", "/reload", None);
        assert_eq!(reply.status, 200, "{}", reply.text());
    };
    redefine("freshness: 0s", "freshness: 10ms");
    let one = shown(&gateway, "livy");
    assert_eq!(
        (&one["state"], &one["since"], &one["live_batches"]),
        (&json!("draining"), &told["since"], &json!(1)),
        "{one}"
    );
    assert_agreed(&gateway, "livy");
    assert_eq!(order(&gateway, "livy", "undrain")["state"], "serving");
    redefine("freshness: 10ms", "freshness: 10ms, state: disabled");
    assert_eq!(shown(&gateway, "livy")["state"], "disabled");
    assert_agreed(&gateway, "livy");
    let series =
        r#"livy_gateway_cluster_transitions_total{cause="config",cluster="livy",to="disabled"}"#;
    assert_eq!(gateway.metric(series), 1.0);
    redefine(", state: disabled", "");
    gateway.submit("livy", &json!({}));
}
