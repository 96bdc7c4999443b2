//! The promises about reloading, files and metrics against an enemy: each of these once disproved a
//! line of docs/operations.md, of docs/metrics.md, or of what `check` is for.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use testkit::*;

/// An address that nobody listens on.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    listener.local_addr().expect("is bound")
}

fn reload(gateway: &Gateway, query: &str) -> Value {
    gateway.admin_post(&format!("/reload{query}")).json()
}

/// Writes the scene as it is now, and puts it in force.
#[track_caller]
fn put_in_force(gateway: &Gateway) {
    gateway.scene.write();
    let said = reload(gateway, "?force");
    assert_eq!(said["ok"], true, "{said}");
}

fn file(gateway: &Gateway, name: &str, text: &str) {
    std::fs::write(gateway.scene.folder.path().join(name), text).expect("is writable");
}

#[track_caller]
fn has_series(gateway: &Gateway, part: &str) -> bool {
    let metrics = gateway.admin("/metrics");
    assert_eq!(metrics.status, 200);
    metrics.text().contains(part)
}

/// A gateway before one cluster, `x`, which bears a token from a file, by a route `rx`; and before
/// `livy`.
fn with_x(clusters: &Clusters) -> Gateway {
    let mut scene = Scene::new(clusters);
    scene.clusters = format!(
        "  livy: {{flavor: livy, url: \"http://{0}{1}\"}}\n",
        clusters.address,
        base_of("livy")
    );
    scene.clusters.push_str(&format!(
        "  x: {{flavor: livy, freshness: 0s, url: \"http://{0}{1}\", credentials: {{bearer: {{token: {{file: x.token}}}}}}}}\n",
        clusters.address,
        base_of("livy")
    ));
    scene.routes = "  - {name: rx, match: {header: {x-to: x}}, targets: [{cluster: x}]}\n  - {name: all, targets: [{cluster: livy}]}\n".to_owned();
    scene.authenticators = "  old: {basic: {htpasswd_file: old.htpasswd}}\n".to_owned();
    let folder = scene.folder.path();
    std::fs::write(folder.join("x.token"), "one").expect("is writable");
    std::fs::write(folder.join("old.htpasswd"), htpasswd()).expect("is writable");
    scene.start()
}

/// Takes `x`, its route and the second authenticator away.
fn without_x(gateway: &mut Gateway) {
    let scene = &mut gateway.scene;
    let livy = scene.clusters.lines().next().expect("a cluster");
    scene.clusters = format!("{livy}\n");
    scene.routes = "  - {name: all, targets: [{cluster: livy}]}\n".to_owned();
    scene.authenticators = String::new();
    put_in_force(gateway);
}

#[test]
fn a_cluster_that_goes_takes_every_series_along() {
    let clusters = Clusters::start();
    let mut gateway = with_x(&clusters);
    let body = json!({"file": "hdfs:///x.py", "args": ["600"]});
    let request = Request::post("/batches", &body)
        .header("x-to", "x")
        .basic(ALICE);
    let submitted = gateway.send(&request);
    assert_eq!(submitted.status, 201, "{}", submitted.text());
    let id = submitted.json()["id"].as_i64().expect("an id");
    // Its secret breaks, and so does a password file: an alert that somebody must be able to end.
    file(&gateway, "x.token", "");
    file(&gateway, "old.htpasswd", "");
    for (kind, name) in [("credential", "x"), ("htpasswd", "old")] {
        let series = format!("livy_gateway_file_current{{kind=\"{kind}\",name=\"{name}\"}} 0");
        gateway.wait_until(&series, |gateway| has_series(gateway, &series));
    }
    // A poll is on its way when it goes.
    clusters.fault(
        "livy",
        json!({"operation": "get_batch", "moment": "before", "delay_ms": 3_000}),
    );
    let mut poll = gateway.tls(&[]);
    let path = format!("/batches/{id}");
    let request = Request::get(&path).basic(ALICE);
    poll.write_all(&request.to_bytes()).expect("is sent");
    let asked = clusters.requests("livy").len();
    gateway.wait_until("the cluster is being asked", |_| {
        clusters.requests("livy").len() > asked
    });
    without_x(&mut gateway);
    for name in ["\"x\"", "\"rx\"", "\"old\""] {
        assert!(!has_series(&gateway, name), "{name} stays");
    }
    assert_eq!(read_reply(&mut poll).status, 200);
    drop(poll);
    // What the poll counted at its end goes as well.
    for name in ["\"x\"", "\"rx\"", "\"old\""] {
        gateway.wait_until("it is forgotten again", |gateway| {
            !has_series(gateway, name)
        });
    }
}

#[test]
fn a_file_that_is_named_no_more_ends_its_alert() {
    let clusters = Clusters::start();
    let mut gateway = with_x(&clusters);
    let series = "livy_gateway_file_current{kind=\"credential\",name=\"x\"}";
    let broken = format!("{series} 0");
    file(&gateway, "x.token", "");
    gateway.wait_until("it is broken", |gateway| has_series(gateway, &broken));
    file(&gateway, "y.token", "two");
    gateway.scene.clusters = gateway.scene.clusters.replace("x.token", "y.token");
    put_in_force(&gateway);
    assert!(!has_series(&gateway, &broken), "another file is in use");
    let inline = gateway.scene.clusters.replace("{file: y.token}", "three");
    gateway.scene.clusters = inline;
    put_in_force(&gateway);
    assert!(!has_series(&gateway, series), "no file is in use");
}

#[test]
fn a_listener_that_goes_takes_its_series_along() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let port = "listener=\"127.0.0.1:0\"";
    let mut open = gateway.tls(&[b"http/1.1"]);
    let ask = String::from_utf8(Request::get("/batches").basic(ALICE).to_bytes());
    let ask = ask.expect("is text").replace("Connection: close\r\n", "");
    assert_eq!(exchange(&mut open, ask.as_bytes()).status, 200);
    assert!(has_series(&gateway, port));
    let certificate = "livy_gateway_tls_certificate_expiry_timestamp_seconds";
    assert!(has_series(&gateway, &format!("{certificate}{{")));
    let yaml = std::fs::read_to_string(gateway.scene.write()).expect("is there");
    let address = free();
    let moved = yaml
        .replacen("listen: 127.0.0.1:0", &format!("listen: {address}"), 1)
        .replace(
            "tls: {cert_file: tls.crt, key_file: tls.key}",
            "plaintext: true",
        );
    file(&gateway, "routes.yaml", &moved);
    assert_eq!(reload(&gateway, "")["ok"], true);
    assert!(
        !has_series(&gateway, port),
        "the old listener's series stay"
    );
    assert!(
        !has_series(&gateway, &format!("{certificate}{{")),
        "no certificate is shown any more"
    );
    // An open connection goes on, and counts nowhere.
    assert_eq!(exchange(&mut open, ask.as_bytes()).status, 200);
    drop(open);
    file(&gateway, "routes.yaml", &yaml);
    assert_eq!(reload(&gateway, "")["ok"], true);
    let back = format!("livy_gateway_connections_open{{{port}}}");
    gateway.wait_until("it is there again", |gateway| has_series(gateway, port));
    assert_eq!(gateway.metric(&back), 0.0);
    assert!(!has_series(&gateway, &address.to_string()));
}

#[test]
fn many_clusters_go_at_once() {
    let clusters = Clusters::start();
    let mut gateway = with_x(&clusters);
    let few = gateway.scene.clusters.clone();
    let livy = few.lines().next().expect("a cluster");
    let others = (0..250).map(|at| {
        let one = livy.replace(
            "livy: {flavor",
            &format!("c{at}: {{state: disabled, flavor"),
        );
        format!("{one}\n")
    });
    gateway.scene.clusters.extend(others);
    let began = Instant::now();
    put_in_force(&gateway);
    let coming = began.elapsed();
    assert!(has_series(&gateway, "\"c249\""));
    gateway.scene.clusters = few;
    gateway.scene.write();
    let began = Instant::now();
    let said = reload(&gateway, "");
    assert_eq!(said["ok"], true, "{said}");
    // One look at all series, not one for each of the clusters: that took a hundred times as long.
    let going = began.elapsed();
    assert!(going < coming * 10, "{coming:?} to come, {going:?} to go");
    assert!(!has_series(&gateway, "cluster=\"c"));
}

/// What `check` says about a file, as text and as JSON.
fn check(path: &Path) -> (i32, String, Value) {
    let name = path.to_str().expect("is text");
    let folder = path.parent().expect("a folder");
    let (status, _, text) = run(&["check", "-c", name], folder);
    let (again, json, _) = run(&["check", "-c", name, "--format", "json"], folder);
    assert_eq!(status, again, "{text}\n{json}");
    (status, text, serde_json::from_str(&json).expect("JSON"))
}

const MISPLACED: &str = "misplaced-secret";

#[test]
fn a_secret_in_the_wrong_place_is_told_to_nobody() {
    let clusters = Clusters::start();
    let gateway = with_x(&clusters);
    let config = gateway.scene.write();
    let yaml = std::fs::read_to_string(&config).expect("is there");
    let right = "credentials: {bearer: {token: {file: x.token}}}";
    assert!(yaml.contains(right));
    for (wrong, secret) in [
        ("credentials: misplaced-secret", MISPLACED),
        ("credentials: {bearer: misplaced-secret}", MISPLACED),
        (
            "credentials: {bearer: {token: [misplaced-secret]}}",
            MISPLACED,
        ),
        ("credentials: {bearer: {tokn: misplaced-secret}}", MISPLACED),
        ("credentials: {bearer: {misplaced-secret}}", MISPLACED),
        (
            "credentials: {bearer: {token: a, token: misplaced-secret}}",
            MISPLACED,
        ),
        (
            "credentials: {bearer: {token: \"misplaced-secret}}",
            MISPLACED,
        ),
        ("credentials: {bearer: {token: 99118822}}", "99118822"),
        (
            "credentials: {basic: {username: u, password: 99118822}}",
            "99118822",
        ),
        (
            "credentials: {oauth2: {token_url: \"https://u:misplaced-secret@a.test/t\", client_id: c, client_secret: d}}",
            MISPLACED,
        ),
        (
            "credentials: {oauth2: {token_url: \"https://u:misplaced secret@a.test/t\", client_id: c, client_secret: d}}",
            "misplaced secret",
        ),
        ("proxy: \"http://u:misplaced-secret@a.test\"", MISPLACED),
    ] {
        file(&gateway, "routes.yaml", &yaml.replace(right, wrong));
        let said = gateway.admin_post("/reload");
        assert_eq!(said.status, 422, "{wrong}: {}", said.text());
        assert!(!said.text().contains(secret), "{wrong}: {}", said.text());
        let (status, text, json) = check(&config);
        assert_eq!(status, 1, "{wrong}: {text}");
        assert!(!text.contains(secret), "{wrong}: {text}");
        assert!(!json.to_string().contains(secret), "{wrong}: {json}");
    }
    // The same for the cluster's own URL.
    let url = yaml.replacen("url: \"http://", "url: \"http://u:misplaced secret@", 1);
    file(&gateway, "routes.yaml", &url);
    let (_, text, json) = check(&config);
    assert!(
        !format!("{text}{json}").contains("misplaced secret"),
        "{text}{json}"
    );
    let log = gateway.log();
    for secret in [MISPLACED, "99118822", "misplaced secret"] {
        assert!(!log.contains(secret), "the log shows {secret}");
    }
}

fn assert_refused(gateway: &Gateway, words: &[&str]) {
    let said = reload(gateway, "").to_string();
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {said}");
    }
}

#[test]
fn an_address_that_overlaps_is_refused_with_a_way_out() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let yaml = std::fs::read_to_string(gateway.scene.write()).expect("is there");
    let (first, second) = (free(), free());
    let listen = |server: &str, admin: &str| {
        let text = yaml
            .replacen("listen: 127.0.0.1:0", &format!("listen: {server}"), 1)
            .replacen(
                "admin: {listen: \"127.0.0.1:0\"}",
                &format!("admin: {{listen: \"{admin}\"}}"),
                1,
            );
        file(&gateway, "routes.yaml", &text);
    };
    let admin = "127.0.0.1:0";
    listen(&first.to_string(), admin);
    assert_eq!(reload(&gateway, "")["ok"], true);
    let wildcard = format!("0.0.0.0:{}", first.port());
    listen(&wildcard, admin);
    let ways = ["overlaps", &first.to_string(), "another port", "restart"];
    assert_refused(&gateway, &ways);
    // The way that the words show.
    listen(&second.to_string(), admin);
    assert_eq!(reload(&gateway, "")["ok"], true);
    listen(&wildcard, admin);
    assert_eq!(reload(&gateway, "")["ok"], true);
    // What can't go together in one file is seen before anything is bound.
    listen(&wildcard, &first.to_string());
    assert_refused(&gateway, &["admin.listen", "overlaps", "server.listen"]);
}

#[test]
fn a_pipe_in_a_files_place_holds_up_nothing_else() {
    let clusters = Clusters::start();
    let mut gateway = with_x(&clusters);
    let pipe = gateway.scene.folder.path().join("old.htpasswd");
    std::fs::remove_file(&pipe).expect("is there");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.expect("is there").success());
    let broken = "livy_gateway_file_current{kind=\"htpasswd\",name=\"old\"} 0";
    gateway.wait_until("it is told", |gateway| has_series(gateway, broken));
    // The other files go on being read again.
    file(&gateway, "users.htpasswd", "");
    let empty = "livy_gateway_file_current{kind=\"htpasswd\",name=\"staff\"} 0";
    gateway.wait_until("another file is read", |gateway| has_series(gateway, empty));
    file(&gateway, "users.htpasswd", htpasswd());
    let again = "livy_gateway_file_current{kind=\"htpasswd\",name=\"staff\"} 1";
    gateway.wait_until("and again", |gateway| has_series(gateway, again));
    assert_eq!(gateway.get("/batches").status, 200);
    // The same in the place of routes.yaml: one signal ends the process.
    let config = gateway.scene.folder.path().join("routes.yaml");
    std::fs::remove_file(&config).expect("is there");
    let made = std::process::Command::new("mkfifo").arg(&config).status();
    assert!(made.expect("is there").success());
    gateway.process.signal("-HUP");
    gateway.process.wait_for("why it was not read", |line| {
        line.contains("not a regular file").then_some(())
    });
    gateway.process.signal("-TERM");
    assert_eq!(gateway.process.ended(), Some(0));
}

#[test]
fn a_file_that_arrives_after_the_configuration_is_waited_for() {
    let clusters = Clusters::start();
    let mut gateway = with_x(&clusters);
    let late = gateway.scene.clusters.replace("x.token", "late.token");
    gateway.scene.clusters = late;
    gateway.scene.write();
    let refused = "livy_gateway_config_last_reload_success 0";
    gateway.wait_until("it is refused", |gateway| has_series(gateway, refused));
    file(&gateway, "late.token", "two");
    let taken = "livy_gateway_config_last_reload_success 1";
    gateway.wait_until("it is in force", |gateway| has_series(gateway, taken));
    // What was told once was counted once.
    let refusals = gateway.metric("livy_gateway_config_reloads_total{outcome=\"refused\"}");
    assert_eq!(refusals, 1.0);
}

#[test]
fn submissions_are_taken_while_clients_are_still_sent_here() {
    let clusters = Clusters::start();
    let mut gateway = Scene::new(&clusters)
        .with_server("drain_delay: 5s")
        .with_server("drain_timeout: 1s")
        .start();
    gateway.process.signal("-TERM");
    gateway.wait_until("it says that it goes down", |gateway| {
        gateway.admin("/readyz").status == 503
    });
    gateway.submit("livy", &json!({}));
    // Once the delay is over, nobody is let in.
    gateway.wait_until("it listens no more", |gateway| {
        TcpStream::connect(gateway.address).is_err()
    });
    assert_eq!(gateway.process.ended(), Some(0));
}
