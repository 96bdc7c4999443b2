//! How the gateway logs in to a cluster: against a token endpoint that misbehaves, and a front that
//! lets in only who has its tokens.

use std::time::{Duration, Instant};

use livy_gateway::sandbox::{PASSWORD, USER};
use serde_json::json;

use testkit::issuer::{Issuer, KEY, Mood, SECRET};
use testkit::*;

/// A gateway in front of one cluster that wants tokens. `credentials` may name `ENDPOINT`.
fn behind(
    issuer: &Issuer,
    clusters: &Clusters,
    flavor: &str,
    credentials: &str,
    key: &str,
) -> Gateway {
    let mut scene =
        Scene::new(clusters).with_routes("  - {name: all, targets: [{cluster: far}]}\n");
    std::fs::write(scene.folder.path().join("key"), format!("{key}\n")).expect("is writable");
    let credentials = credentials.replace("ENDPOINT", &format!("http://{}/token", issuer.endpoint));
    let instance = match flavor {
        "ibm" => format!("instance_id: {}, ", livy_gateway::sandbox::INSTANCE),
        _ => String::new(),
    };
    scene.clusters = format!(
        "  far: {{flavor: {flavor}, {instance}url: \"http://{}\", freshness: 0s, settle: 1s, health: {{interval: 1h}}, credentials: {{{credentials}}}}}\n",
        issuer.front
    );
    scene.start()
}

const IAM: &str = "ibm_iam: {apikey: {file: key}, url: \"ENDPOINT\"}";

fn with_iam(issuer: &Issuer, clusters: &Clusters) -> Gateway {
    behind(issuer, clusters, "livy", IAM, KEY)
}

fn job() -> serde_json::Value {
    json!({"file": "hdfs:///x.py", "args": ["600"]})
}

#[track_caller]
fn submitted(gateway: &Gateway) -> i64 {
    let reply = gateway.post("/batches", &job());
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()["id"].as_i64().expect("an id")
}

/// Tells whether a poll was answered by the cluster itself.
#[track_caller]
fn is_fresh(gateway: &Gateway, id: i64) -> bool {
    let reply = gateway.get(&format!("/batches/{id}/state"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.header("x-livy-gateway-stale").is_none()
}

fn refreshes(gateway: &Gateway, kind: &str, outcome: &str) -> f64 {
    gateway.metric(&format!(
        "livy_gateway_credential_refresh_total{{cluster=\"far\",kind=\"{kind}\",outcome=\"{outcome}\"}}"
    ))
}

#[test]
fn tokens_are_replaced_ahead_of_their_end() {
    let clusters = Clusters::start();
    let issuer = Issuer::start(clusters.address);
    issuer.life(Duration::from_secs(3));
    let gateway = with_iam(&issuer, &clusters);
    let id = submitted(&gateway);
    let until = Instant::now() + PATIENCE;
    while issuer.asked() < 4 && Instant::now() < until {
        assert!(is_fresh(&gateway, id));
    }
    assert_eq!(issuer.seen("GET", false), 0, "no token was used to its end");
    gateway.wait_until("the last one is counted", |gateway| {
        refreshes(gateway, "ibm_iam", "ok") >= 4.0
    });
    let ends = gateway.metric(r#"livy_gateway_credential_expiry_timestamp_seconds{cluster="far"}"#);
    assert!(ends > 1.7e9, "{ends}");
    let (_, form) = issuer.last_form();
    assert!(
        form.starts_with("grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&"),
        "{form}"
    );
}

#[test]
fn fifty_who_come_at_once_cost_one_exchange() {
    let clusters = Clusters::start();
    let issuer = Issuer::start(clusters.address);
    issuer.takes(Duration::from_millis(700));
    let gateway = with_iam(&issuer, &clusters);
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let list = gateway.get("/batches");
                assert_eq!(
                    (list.status, list.header("x-livy-gateway-stale")),
                    (200, None)
                );
            });
        }
    });
    assert_eq!(issuer.asked(), 1);
}

#[test]
fn the_old_token_goes_on_while_the_endpoint_is_down() {
    let clusters = Clusters::start();
    let issuer = Issuer::start(clusters.address);
    issuer.life(Duration::from_secs(6));
    let gateway = with_iam(&issuer, &clusters);
    let id = submitted(&gateway);
    issuer.mood(Mood::Down);
    gateway.wait_until("an exchange fails", |_| issuer.asked() >= 2);
    assert!(is_fresh(&gateway, id), "the old token lives");
    assert_eq!(gateway.post("/batches", &job()).status, 201);
    gateway.wait_until("the token is over", |gateway| !is_fresh(gateway, id));
    let (gets, posts) = (issuer.seen("GET", true), issuer.seen("POST", true));
    let reply = gateway.post("/batches", &job());
    let message = reply.error(503, "upstream_credentials");
    assert!(
        message.contains("nothing was submitted") && message.contains("token endpoint"),
        "{message}"
    );
    let wish: u64 = reply
        .header("retry-after")
        .and_then(|text| text.parse().ok())
        .expect("a number");
    assert!((1..=60).contains(&wish));
    let killed = gateway.delete(&format!("/batches/{id}"));
    assert!(
        killed
            .error(503, "upstream_credentials")
            .contains("remembered")
    );
    assert!(!is_fresh(&gateway, id), "polls are answered from memory");
    assert_eq!(
        (issuer.seen("GET", true), issuer.seen("POST", true)),
        (gets, posts)
    );
    assert_eq!(
        issuer.seen("GET", false) + issuer.seen("POST", false),
        0,
        "nothing was sent"
    );
    assert_eq!(
        gateway.metric(r#"livy_gateway_cluster_up{cluster="far"}"#),
        1.0,
        "no fault of the cluster"
    );
    issuer.mood(Mood::Fair);
    gateway.wait_until("it is back", |gateway| {
        gateway.post("/batches", &job()).status == 201
    });
    assert!(refreshes(&gateway, "ibm_iam", "error") >= 2.0);
}

#[test]
fn a_wrong_key_is_told_and_the_right_one_is_tried_at_once() {
    let clusters = Clusters::start();
    let issuer = Issuer::start(clusters.address);
    let gateway = behind(&issuer, &clusters, "livy", IAM, "issued-secret-wrong");
    gateway.wait_until("three tries", |_| issuer.asked() == 3);
    for _ in 0..20 {
        gateway
            .post("/batches", &job())
            .error(503, "upstream_credentials");
    }
    assert_eq!(
        issuer.asked(),
        3,
        "the fourth comes a minute later, whoever wants it"
    );
    let reply = gateway.post("/batches", &job());
    let message = reply.error(503, "upstream_credentials");
    assert!(
        message.contains("it answered 400: BXNIM0415E: Provided API key could not be found: "),
        "{message}"
    );
    assert!(message.contains("apikey=***"), "{message}");
    assert!(gateway.log().contains("BXNIM0415E"));
    assert_eq!(refreshes(&gateway, "ibm_iam", "refused"), 3.0);
    // Rotated as Kubernetes does it.
    let folder = gateway.scene.folder.path();
    std::fs::write(folder.join("key.new"), KEY).expect("is writable");
    std::fs::rename(folder.join("key.new"), folder.join("key")).expect("renames");
    let rotated = Instant::now();
    gateway.wait_until("it is let in", |gateway| {
        gateway.post("/batches", &job()).status == 201
    });
    assert!(
        rotated.elapsed() < Duration::from_secs(10),
        "{:?}",
        rotated.elapsed()
    );
}

#[test]
fn a_401_of_the_cluster_costs_one_exchange_and_one_more_try() {
    let clusters = Clusters::start();
    let issuer = Issuer::start(clusters.address);
    let gateway = with_iam(&issuer, &clusters);
    let id = submitted(&gateway);
    assert_eq!(issuer.asked(), 1);
    issuer.revoke();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| assert!(is_fresh(&gateway, id)));
        }
    });
    assert_eq!(issuer.asked(), 2, "one for all of them");
    let retries = r#"livy_gateway_upstream_retries_total{cluster="far",operation="get_state",outcome="recovered"}"#;
    assert!(gateway.metric(retries) >= 1.0);
    // Refused again a moment later: the endpoint is left alone, and the poll is answered all the
    // same.
    issuer.revoke();
    assert!(!is_fresh(&gateway, id));
    assert_eq!(issuer.asked(), 2);
}

#[test]
fn a_submission_that_met_a_401_is_never_doubled() {
    let clusters = Clusters::start();
    for flavor in ["livy", "ibm"] {
        let issuer = Issuer::start(clusters.address);
        let gateway = behind(&issuer, &clusters, flavor, IAM, KEY);
        gateway.wait_until("there is a token", |_| {
            issuer.asked() == 1 && issuer.seen("GET", true) > 0
        });
        let before = clusters.submissions(flavor);
        issuer.refuse_a_post();
        let (body, sure) = match flavor {
            // IBM's own software says that it took nothing.
            "ibm" => (json!({"file": "cos://b.s/x.py", "args": ["600"]}), true),
            // What stands before a Livy may say 401 after that has accepted.
            _ => (job(), false),
        };
        let reply = gateway.post("/batches", &body);
        if !sure {
            let message = reply.error(503, "upstream_credentials");
            assert!(
                message.contains("it was looked for and is not there"),
                "{message}"
            );
            assert_eq!(clusters.submissions(flavor), before);
        }
        let reply = if sure {
            reply
        } else {
            gateway.post("/batches", &body)
        };
        assert_eq!(reply.status, 201, "{flavor}: {}", reply.text());
        assert_eq!(clusters.submissions(flavor), before + 1, "{flavor}");
        assert_eq!(issuer.asked(), 2, "{flavor}");
    }
}

#[test]
fn client_credentials_go_where_the_endpoint_wants_them() {
    let clusters = Clusters::start();
    for (auth, in_form) in [
        ("", true),
        (", client_auth: post", true),
        (", client_auth: basic", false),
    ] {
        let issuer = Issuer::start(clusters.address);
        let oauth2 = format!(
            "oauth2: {{token_url: \"ENDPOINT\", client_id: gateway, client_secret: {KEY}, scope: \"api://x/.default\"{auth}}}"
        );
        let gateway = behind(&issuer, &clusters, "livy", &oauth2, "unused");
        submitted(&gateway);
        let (login, form) = issuer.last_form();
        assert!(
            form.starts_with("grant_type=client_credentials&scope=api%3A%2F%2Fx%2F.default"),
            "{form}"
        );
        assert_eq!(
            (form.contains("client_secret="), login.is_empty()),
            (in_form, in_form),
            "{auth}"
        );
        let shown = gateway.admin("/config").json();
        assert_eq!(
            shown["clusters"]["far"]["credentials"]["oauth2"]["client_secret"],
            "***"
        );
        assert_eq!(refreshes(&gateway, "oauth2", "ok"), 1.0);
    }
}

#[test]
fn a_secret_follows_no_redirect_and_a_wish_is_kept() {
    let clusters = Clusters::start();
    let issuer = Issuer::start(clusters.address);
    let elsewhere = Issuer::start(clusters.address);
    issuer.mood(Mood::Redirect(format!(
        "http://{}/token",
        elsewhere.endpoint
    )));
    let gateway = with_iam(&issuer, &clusters);
    let message = gateway
        .post("/batches", &job())
        .error(503, "upstream_credentials");
    assert!(
        message.contains("a redirect, which is not followed"),
        "{message}"
    );
    assert_eq!(elsewhere.asked(), 0);
    issuer.mood(Mood::Busy(429, 50));
    let asked = issuer.asked();
    gateway.wait_until("it asks again", |_| issuer.asked() > asked);
    gateway.wait_until("the answer is read", |gateway| {
        gateway.log().contains("it answered 429")
    });
    let reply = gateway.post("/batches", &job());
    reply.error(503, "upstream_credentials");
    let wish: u64 = reply
        .header("retry-after")
        .and_then(|text| text.parse().ok())
        .expect("a number");
    assert!((40..=50).contains(&wish), "{wish}");
}

#[test]
fn a_bearer_token_in_a_file_may_change_at_any_time() {
    let clusters = Clusters::start();
    let issuer = Issuer::start(clusters.address);
    let (first, second) = (format!("{SECRET}-first"), format!("{SECRET}-other"));
    issuer.accept(&first);
    let gateway = behind(
        &issuer,
        &clusters,
        "livy",
        "bearer: {token: {file: key}}",
        &first,
    );
    let id = submitted(&gateway);
    let file = gateway.scene.folder.path().join("key");
    // Half-written: the good one stays.
    std::fs::write(&file, "").expect("is writable");
    gateway.wait_until("it is said", |gateway| {
        gateway.log().contains("what was read before stays in use")
    });
    assert!(is_fresh(&gateway, id));
    issuer.revoke();
    issuer.accept(&second);
    std::fs::write(&file, format!("{second}\n")).expect("is writable");
    // The cluster's 401 is reason enough to look at once.
    assert!(is_fresh(&gateway, id));
    let reads = r#"livy_gateway_file_reads_total{kind="credential",name="far",outcome="error"}"#;
    assert_eq!(gateway.metric(reads), 1.0);
}

#[test]
fn a_password_in_a_file_may_change_at_any_time() {
    let clusters = Clusters::start();
    // Knox says 401 to a wrong one, Kyuubi 403 with a page.
    for flavor in ["knox", "kyuubi"] {
        let mut scene =
            Scene::new(&clusters).with_routes("  - {name: all, targets: [{cluster: far}]}\n");
        let file = scene.folder.path().join("password");
        std::fs::write(&file, format!("{SECRET}-wrong\n")).expect("is writable");
        scene.clusters = format!(
            "  far: {{flavor: {flavor}, url: \"http://{}\", freshness: 0s, health: {{interval: 1h}}, \
             credentials: {{basic: {{username: {USER}, password: {{file: password}}}}}}}}\n",
            clusters.address
        );
        let gateway = scene.start();
        let is_stale = || {
            let list = gateway.get("/batches");
            assert_eq!(list.status, 200);
            list.header("x-livy-gateway-stale").is_some()
        };
        assert!(is_stale(), "{flavor}");
        std::fs::write(&file, format!("{PASSWORD}\n")).expect("is writable");
        assert!(!is_stale(), "{flavor}: read again because it was refused");
    }
}

#[test]
fn the_callers_own_token_goes_through_and_nothing_else_does() {
    let clusters = Clusters::start();
    let issuer = Issuer::start(clusters.address);
    let gateway = behind(&issuer, &clusters, "livy", "passthrough: {}", "unused");
    let own = token(json!({"jti": "hers"}));
    issuer.accept(&own);
    let send = |request: Request<'_>| gateway.send(&request.bearer(&own));
    let reply = send(Request::post("/batches", &job()));
    assert_eq!(reply.status, 201, "{}", reply.text());
    let id = reply.json()["id"].as_i64().expect("an id");
    let state = format!("/batches/{id}/state");
    let polled = send(Request::get(&state));
    assert_eq!(
        (polled.status, polled.header("x-livy-gateway-stale")),
        (200, None)
    );
    assert_eq!(
        gateway.metric(r#"livy_gateway_cluster_up{cluster="far"}"#),
        1.0,
        "401 is a sign of life"
    );
    assert_eq!(
        issuer.tokens().iter().filter(|seen| **seen != own).count(),
        0
    );
    // The same user with a password.
    let seen = issuer.tokens().len();
    for reply in [
        gateway.post("/batches", &job()),
        gateway.get(&state),
        gateway.delete(&format!("/batches/{id}")),
        gateway.get("/clusters/far/batches"),
    ] {
        let message = reply.error(403, "forbidden");
        assert!(
            message.contains("its caller's own bearer token"),
            "{message}"
        );
    }
    let list = gateway.get("/batches");
    assert_eq!(
        (list.status, list.header("x-livy-gateway-stale")),
        (200, Some("true"))
    );
    assert_eq!(list.json()["sessions"][0]["id"], id);
    assert_eq!(issuer.tokens().len(), seen);
    // One that is good here and not there.
    let other = token(json!({"jti": "not let in"}));
    let reply = gateway.send(&Request::post("/batches", &job()).bearer(&other));
    let message = reply.error(403, "upstream_forbidden");
    assert!(message.contains("refused your own token"), "{message}");
    // Nor is its caller shown what the cluster told another one.
    for path in [state.clone(), format!("/batches/{id}")] {
        let reply = gateway.send(&Request::get(&path).bearer(&other));
        let message = reply.error(403, "upstream_forbidden");
        assert!(message.contains("refused your own token"), "{message}");
    }
    assert_eq!(
        send(Request {
            method: "DELETE",
            ..Request::get(&format!("/batches/{id}"))
        })
        .status,
        200
    );
    let folder = std::fs::read_dir(gateway.scene.folder.path()).expect("a folder");
    for file in folder
        .filter_map(Result::ok)
        .filter(|file| file.path().is_file())
    {
        let bytes = std::fs::read(file.path()).expect("is readable");
        for part in own.split('.').chain(other.split('.')).skip(1) {
            let found = bytes
                .windows(part.len())
                .any(|window| window == part.as_bytes());
            assert!(!found, "{:?} holds a caller's token", file.path());
        }
    }
    let log = gateway.log();
    for token in [&own, &other] {
        let signature = token.rsplit('.').next().expect("three parts");
        assert!(!log.contains(signature), "the log holds a caller's token");
    }
}

#[test]
fn a_login_that_is_quoted_back_goes_no_further() {
    use base64::Engine as _;
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let (user, password) = (livy_gateway::sandbox::USER, livy_gateway::sandbox::PASSWORD);
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let body = format!(r#"{{"msg":"bad request: Authorization: Basic {pair} ({password})"}}"#);
    let answer = json!({"status": 400, "content_type": "application/json", "body": body});
    let fault = json!({"operation": "create_batch", "answer": answer});
    clusters.fault("knox", fault);
    let reply = gateway.post("/clusters/knox/batches", &json!({"file": "hdfs:///x.py"}));
    let told = reply.error(400, "upstream_rejected");
    assert!(told.contains("Basic ***"), "{told}");
    assert!(!gateway.log().contains(&pair), "the log has it");
}

/// Two clusters behind the same front, with these credentials.
fn far_and_near(issuer: &Issuer, clusters: &Clusters, far: &str, near: &str) -> Scene {
    let mut scene =
        Scene::new(clusters).with_routes("  - {name: all, targets: [{cluster: near}]}\n");
    for file in ["key", "key-too"] {
        let path = scene.folder.path().join(file);
        std::fs::write(path, format!("{KEY}\n")).expect("is writable");
    }
    let cluster = |name: &str, credentials: &str| {
        let credentials =
            credentials.replace("ENDPOINT", &format!("http://{}/token", issuer.endpoint));
        format!(
            "  {name}: {{flavor: livy, url: \"http://{}\", freshness: 0s, health: {{interval: 1h}}, credentials: {{{credentials}}}}}\n",
            issuer.front
        )
    };
    scene.clusters = format!("{}{}", cluster("far", far), cluster("near", near));
    scene
}

const OAUTH2: &str =
    "oauth2: {token_url: \"ENDPOINT\", client_id: gateway, client_secret: {file: key}, scope: all}";

/// Tells whether a cluster answers a list itself.
#[track_caller]
fn answers(gateway: &Gateway, cluster: &str) -> bool {
    let list = gateway.get(&format!("/clusters/{cluster}/batches"));
    assert_eq!(list.status, 200, "{}", list.text());
    list.header("x-livy-gateway-stale").is_none()
}

fn refreshed(gateway: &Gateway, cluster: &str, kind: &str) -> Option<f64> {
    let series = format!(
        "livy_gateway_credential_refresh_total{{cluster=\"{cluster}\",kind=\"{kind}\",outcome=\"ok\"}} "
    );
    let text = gateway.admin("/metrics").text();
    text.lines()
        .find_map(|line| line.strip_prefix(&series)?.parse().ok())
}

/// Puts a text in another's place in the configuration, and waits until it is in force.
fn edit(gateway: &Gateway, from: &str, to: &str) {
    let path = gateway.scene.folder.path().join("routes.yaml");
    let text = std::fs::read_to_string(&path).expect("is there");
    assert!(text.contains(from), "{from:?} is not in {text}");
    let reloads = "livy_gateway_config_reloads_total{outcome=\"ok\"}";
    let before = gateway.metric(reloads);
    std::fs::write(&path, text.replace(from, to)).expect("is writable");
    gateway.wait_until("it was reloaded", |gateway| {
        gateway.metric(reloads) > before
    });
}

#[test]
fn clusters_with_one_login_share_one_token() {
    let clusters = Clusters::start();
    for (kind, credentials) in [("ibm_iam", IAM), ("oauth2", OAUTH2)] {
        let issuer = Issuer::start(clusters.address);
        let gateway = far_and_near(&issuer, &clusters, credentials, credentials).start();
        assert!(answers(&gateway, "far") && answers(&gateway, "near"));
        assert_eq!(issuer.asked(), 1, "{kind}: once for both");
        for cluster in ["far", "near"] {
            assert_eq!(refreshed(&gateway, cluster, kind), Some(1.0), "{cluster}");
            let ends = format!(
                "livy_gateway_credential_expiry_timestamp_seconds{{cluster=\"{cluster}\"}}"
            );
            assert!(gateway.metric(&ends) > 1.7e9, "{cluster}");
        }
        // One 401 renews it for both.
        issuer.revoke();
        assert!(answers(&gateway, "far") && answers(&gateway, "near"));
        assert_eq!(issuer.asked(), 2, "{kind}");
    }
}

#[test]
fn a_reload_that_keeps_a_login_keeps_its_token() {
    let clusters = Clusters::start();
    let issuer = Issuer::start(clusters.address);
    let gateway = far_and_near(&issuer, &clusters, OAUTH2, OAUTH2).start();
    assert!(answers(&gateway, "far") && answers(&gateway, "near"));
    // Both are defined anew, with the same login.
    edit(&gateway, "freshness: 0s, ", "freshness: 0s, watch: 2m, ");
    assert!(answers(&gateway, "far") && answers(&gateway, "near"));
    assert_eq!(issuer.asked(), 1);
    // The first one, under whose name it began, goes.
    let config = std::fs::read_to_string(gateway.scene.folder.path().join("routes.yaml"));
    let config = config.expect("is there");
    let far = config.lines().find(|line| line.starts_with("  far: "));
    let far = format!("{}\n", far.expect("it is there"));
    edit(&gateway, &far, "");
    assert!(answers(&gateway, "near"));
    assert_eq!(issuer.asked(), 1);
    issuer.revoke();
    assert!(answers(&gateway, "near"));
    assert_eq!(
        (issuer.asked(), refreshed(&gateway, "near", "oauth2")),
        (2, Some(2.0))
    );
    assert_eq!(
        refreshed(&gateway, "far", "oauth2"),
        None,
        "its series went"
    );
    // What the secret's file says is told in the name of the one that is left.
    let read = |name: &str| {
        let series = format!(
            "livy_gateway_file_reads_total{{kind=\"credential\",name=\"{name}\",outcome=\"ok\"}}"
        );
        gateway.metric(&series)
    };
    let key = gateway.scene.folder.path().join("key");
    std::fs::write(key, format!("{KEY} \n")).expect("is writable");
    gateway.wait_until("it was read", |_| read("near") == 1.0);
    assert_eq!(read("far"), 0.0);
}

#[test]
fn another_secret_is_another_login() {
    let clusters = Clusters::start();
    let issuer = Issuer::start(clusters.address);
    let other = OAUTH2.replace("file: key", "file: key-too");
    let gateway = far_and_near(&issuer, &clusters, OAUTH2, &other).start();
    assert!(answers(&gateway, "far") && answers(&gateway, "near"));
    assert_eq!(issuer.asked(), 2);
    edit(&gateway, "client_id: gateway", "client_id: somebody");
    assert!(answers(&gateway, "far") && answers(&gateway, "near"));
    assert_eq!(issuer.asked(), 4);
}

#[test]
fn a_login_that_nobody_uses_is_not_kept_fresh() {
    let clusters = Clusters::start();
    let issuer = Issuer::start(clusters.address);
    issuer.life(Duration::from_secs(2));
    let open = format!(
        "  near: {{flavor: livy, url: \"http://{}/livy\"}}\n",
        clusters.address
    );
    let gateway = far_and_near(&issuer, &clusters, OAUTH2, OAUTH2).start();
    gateway.wait_until("it is renewed", |_| issuer.asked() >= 3);
    let config = std::fs::read_to_string(gateway.scene.folder.path().join("routes.yaml"));
    let config = config.expect("is there");
    let both = config.lines().filter(|line| {
        ["  far: ", "  near: "]
            .iter()
            .any(|name| line.starts_with(name))
    });
    let both: String = both.map(|line| format!("{line}\n")).collect();
    edit(&gateway, &both, &open);
    // One that was under way may end; a second one would be a task that goes on. It is given the
    // time of three, counted by another login that is kept fresh.
    let (watch, gone) = (Issuer::start(clusters.address), issuer.asked());
    watch.life(Duration::from_secs(2));
    let counting = far_and_near(&watch, &clusters, OAUTH2, OAUTH2).start();
    counting.wait_until("time goes by", |_| watch.asked() >= 4);
    assert!(
        issuer.asked() <= gone + 1,
        "{} after {gone}",
        issuer.asked()
    );
    for cluster in ["far", "near"] {
        assert_eq!(refreshed(&gateway, cluster, "oauth2"), None, "{cluster}");
    }
}
