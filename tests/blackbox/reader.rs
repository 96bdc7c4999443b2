//! The reader of a cluster: what clients have already, waits, shared reads, lists by page.

use std::time::{Duration, Instant};

use serde_json::json;

use testkit::*;

/// Asks as Alice, who has something already.
fn get_unless(gateway: &Gateway, path: &str, tag: &str) -> Reply {
    let request = Request::get(path).basic(ALICE);
    gateway.send(&request.header("If-None-Match", tag))
}

fn tag(reply: &Reply) -> String {
    let tag = reply.header("etag");
    tag.unwrap_or_else(|| panic!("no tag: {}", reply.whole()))
        .to_owned()
}

#[test]
fn what_a_client_has_already_is_304() {
    let clusters = Clusters::start();
    // Nothing is asked for a while: the answers stay the same.
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", "freshness: 1h")
        .start();
    let id = gateway.submit("livy", &json!({}));
    let (item, state) = (format!("/batches/{id}"), format!("/batches/{id}/state"));
    for path in [&item, &state, &"/clusters/livy/batches".to_owned()] {
        gateway.get(path);
        let whole = gateway.get(path);
        let has = tag(&whole);
        assert_eq!(whole.header("cache-control"), Some("private, no-cache"));
        for has in [&has, &format!("W/{has}"), &format!("\"x\", {has}")] {
            let nothing = get_unless(&gateway, path, has);
            assert_eq!((nothing.status, nothing.body.len()), (304, 0), "{path}");
            assert_eq!(nothing.header("content-type"), None);
            for same in ["etag", "cache-control", "x-livy-gateway-cluster"] {
                assert_eq!(nothing.header(same), whole.header(same), "{path}: {same}");
            }
        }
        assert_eq!(get_unless(&gateway, path, "\"x\"").status, 200);
        // An administrator is shown the same, under another tag.
        let roots = gateway.send(&Request::get(path).basic(ROOT));
        assert_eq!(roots.json(), whole.json());
        assert_ne!(tag(&roots), has, "{path}");
        let head = Request {
            method: "HEAD",
            ..Request::get(path)
        };
        let head = head.basic(ALICE).header("If-None-Match", &has);
        assert_eq!(gateway.send(&head).status, 304, "{path}");
    }
    // A tag of what changed since is no tag any more; errors and writes have none.
    let has = tag(&gateway.get(&state));
    let gone = gateway.delete(&item);
    assert_eq!((gone.status, gone.header("etag")), (200, None));
    let error = get_unless(&gateway, &state, &has);
    assert_eq!((error.status, error.header("etag")), (404, None));
}

#[test]
fn what_is_stale_says_so_in_a_304_too() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", "freshness: 0s")
        .start();
    let id = gateway.submit("livy", &json!({}));
    gateway.wait_for_state(id, "running");
    let path = format!("/batches/{id}/state");
    let has = tag(&gateway.get(&path));
    let answer = json!({"status": 502, "content_type": "text/html", "body": "<html>down</html>"});
    clusters.fault("livy", json!({"times": 1000, "answer": answer}));
    let reply = get_unless(&gateway, &path, &has);
    assert_eq!(reply.status, 304);
    assert_eq!(reply.header("x-livy-gateway-stale"), Some("true"));
    assert!(reply.header("age").is_some());
    clusters.heal("livy");
}

#[test]
fn a_wait_ends_with_the_change() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    for flavor in ["livy", "kyuubi", "ibm"] {
        let id = gateway.submit(flavor, &json!({"args": ["1"]}));
        let mut seen = Vec::new();
        let until = Instant::now() + PATIENCE;
        // Each answer but the first is another state.
        while seen.last() != Some(&json!("success")) {
            let reply = gateway.get(&format!("/batches/{id}/state?wait=20s"));
            assert_eq!(reply.status, 200, "{}", reply.text());
            let state = reply.json()["state"].clone();
            assert_ne!(seen.last(), Some(&state), "{flavor}: {seen:?}");
            seen.push(state);
            assert!(Instant::now() < until, "{flavor}: {seen:?}");
        }
        // What has ended is answered at once.
        for path in ["state?wait=60s", "?wait=60s"] {
            let path = format!("/batches/{id}/{path}").replace("/?", "?");
            let began = Instant::now();
            assert_eq!(gateway.get(&path).status, 200, "{path}");
            assert!(began.elapsed() < Duration::from_secs(15), "{path}");
        }
    }
}

#[test]
fn a_wait_is_for_what_the_client_does_not_have() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let id = gateway.submit("livy", &json!({}));
    gateway.wait_for_state(id, "running");
    let path = format!("/batches/{id}/state?wait=500ms");
    let began = Instant::now();
    let reply = gateway.get(&path);
    assert_eq!(reply.json(), json!({"id": id, "state": "running"}));
    assert!(began.elapsed() >= Duration::from_millis(500), "it waited");
    let has = tag(&reply);
    let began = Instant::now();
    assert_eq!(get_unless(&gateway, &path, &has).status, 304);
    assert!(began.elapsed() >= Duration::from_millis(500), "it waited");
    // It has something else, and is answered at once.
    let path = format!("/batches/{id}/state?wait=60s");
    assert_eq!(get_unless(&gateway, &path, "\"other\"").status, 200);
    // Whoever ends it meanwhile ends the wait.
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| get_unless(&gateway, &path, &has));
        gateway.wait_until("somebody waits", |gateway| {
            gateway.metric(r#"livy_gateway_requests_in_flight{operation="get_state"}"#) >= 1.0
        });
        assert_eq!(gateway.delete(&format!("/batches/{id}")).status, 200);
        waits.join().expect("no panic").error(404, "not_found");
    });
}

#[test]
fn a_wait_that_can_not_be_read_is_named() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let id = gateway.submit("livy", &json!({}));
    for wrong in ["30", "", "fast", "-1s", "61s", "2h", "1%20s"] {
        for path in [format!("/batches/{id}"), format!("/batches/{id}/state")] {
            let reply = gateway.get(&format!("{path}?wait={wrong}"));
            let message = reply.error(400, "bad_request");
            assert!(message.starts_with("wait: "), "{message}");
        }
    }
}

#[test]
fn a_wait_holds_nothing_of_its_cluster_and_ends_with_the_gateway() {
    let clusters = Clusters::start();
    let mut gateway = Scene::new(&clusters)
        .with_cluster("livy", "max_in_flight: {get_state: 1, get_batch: 1}")
        .with_server("drain_timeout: 20s")
        .start();
    let id = gateway.submit("livy", &json!({}));
    let other = gateway.submit("livy", &json!({}));
    for id in [id, other] {
        gateway.wait_for_state(id, "running");
    }
    let path = format!("/batches/{id}/state?wait=60s");
    std::thread::scope(|scope| {
        let waits: Vec<_> = (0..5).map(|_| scope.spawn(|| gateway.get(&path))).collect();
        gateway.wait_until("all wait", |gateway| {
            gateway.metric(r#"livy_gateway_requests_in_flight{operation="get_state"}"#) >= 5.0
        });
        // The only place is free for others.
        gateway.wait_until("another poll gets through", |gateway| {
            let reply = gateway.get(&format!("/batches/{other}/state"));
            reply.status == 200
                && reply.header("x-livy-gateway-stale").is_none()
                && reply.header("age").is_none()
        });
        let began = Instant::now();
        gateway.process.signal("-TERM");
        for wait in waits {
            let reply = wait.join().expect("no panic");
            assert_eq!(reply.json(), json!({"id": id, "state": "running"}));
        }
        assert!(began.elapsed() < Duration::from_secs(10));
    });
    assert_eq!(gateway.process.ended(), Some(0));
}

#[test]
fn items_show_the_last_lines_that_are_known() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let log_of = |id: i64| gateway.get(&format!("/batches/{id}")).json()["log"].clone();
    let id = gateway.submit("kyuubi", &json!({}));
    gateway.wait_for_state(id, "running");
    assert_eq!(log_of(id), json!([]), "nobody read any");
    let log = gateway.get(&format!("/batches/{id}/log")).json()["log"].clone();
    let lines = log.as_array().expect("lines");
    let shown = log_of(id);
    assert_eq!(shown[0], lines[lines.len().saturating_sub(10)]);
    assert_eq!(shown.as_array().and_then(|all| all.last()), lines.last());
    // A window at the beginning is not the end.
    gateway.get(&format!("/batches/{id}/log?from=0&size=1"));
    assert_eq!(
        log_of(id).as_array().and_then(|all| all.last()),
        lines.last()
    );
    // Whoever may not see the item sees no line of it.
    let bobs = gateway.send(&Request::get(&format!("/batches/{id}")).basic(BOB));
    bobs.error(404, "not_found");
    // The last lines are read when it ends, also if nobody asks for them.
    let ends = gateway.submit("kyuubi", &json!({"args": ["0.3"]}));
    gateway.wait_for_state(ends, "success");
    gateway.wait_until("the last lines are there", |_| {
        log_of(ends)
            .as_array()
            .is_some_and(|all| all.contains(&json!("simulated job: done")))
    });
    let gateway = gateway.killed_and_restarted();
    let item = gateway.get(&format!("/batches/{ends}"));
    assert!(
        item.text().contains("simulated job: done"),
        "{}",
        item.text()
    );
    // IBM has no lines, and says where they are.
    let id = gateway.submit("ibm", &json!({}));
    let told = gateway.get(&format!("/batches/{id}/log")).json()["log"].clone();
    assert_eq!(gateway.get(&format!("/batches/{id}")).json()["log"], told);
}
