//! What Prometheus sees.

use std::collections::BTreeSet;

use serde_json::json;

use testkit::*;

#[test]
fn the_admin_listener_answers_probes() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    for path in ["/livez", "/readyz"] {
        assert_eq!(
            (
                gateway.admin(path).status,
                gateway.admin(path).text().as_str()
            ),
            (200, "ok\n")
        );
    }
    let listed = gateway.admin("/clusters").json();
    assert_eq!(listed.as_array().map(Vec::len), Some(5));
    assert!(
        listed
            .as_array()
            .expect("a list")
            .iter()
            .all(|one| one["state"] == "serving"),
        "{listed}"
    );
    let config = gateway.admin("/config");
    assert_eq!(
        config.json()["clusters"]["knox"]["credentials"]["basic"]["password"],
        "***"
    );
    let metrics = gateway.admin("/metrics").text();
    assert!(
        metrics.contains("process_resident_memory_bytes ")
            && metrics.contains("livy_gateway_build_info{"),
        "{metrics}"
    );
    assert!(
        gateway.metric(
            r#"livy_gateway_tls_certificate_expiry_timestamp_seconds{kind="server",name="default"}"#
        ) > 0.0
    );
    assert_eq!(gateway.admin("/nowhere").status, 404);
    gateway.get("/metrics").error(404, "unknown_path");
}

#[test]
fn clusters_that_do_not_answer_are_ejected_and_come_back() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_cluster(
            "livy",
            "health: {interval: 50ms, unhealthy_after: 2, healthy_after: 1}",
        )
        .with_routes("  - {name: all, targets: [{cluster: livy}, {cluster: kyuubi, tier: 2}]}\n")
        .start();
    let state = |state: &str| {
        gateway.metric(&format!(
            "livy_gateway_cluster_state{{cluster=\"livy\",state=\"{state}\"}}"
        ))
    };
    clusters.fault("livy", json!({"times": 1_000_000, "hang_up": true}));
    gateway.wait_until("it is ejected", |_| state("ejected") == 1.0);
    let reply = gateway.post("/batches", &json!({"file": "hdfs:///x.py"}));
    assert_eq!(
        (reply.status, reply.header("x-livy-gateway-cluster")),
        (201, Some("kyuubi"))
    );
    assert!(
        gateway.metric(
            r#"livy_gateway_routing_decisions_total{cluster="kyuubi",reason="tier",route="all"}"#
        ) >= 1.0
    );
    clusters.heal("livy");
    gateway.wait_until("it is back", |_| state("serving") == 1.0);
    assert!(
        gateway.metric(
            r#"livy_gateway_cluster_transitions_total{cause="probe",cluster="livy",to="ejected"}"#
        ) >= 1.0
    );
}

#[test]
fn hostile_traffic_makes_no_new_series() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let noise = |round: usize| {
        let path = format!("/evil-{round}/batches?queue=evil-{round}");
        gateway.send(
            &Request {
                method: "EVIL",
                ..Request::get(&path)
            }
            .basic(ALICE),
        );
        gateway.get(&format!("/batches/evil-{round}"));
        gateway.get(&format!("/clusters/evil-{round}/batches"));
        gateway.send(&Request::get("/batches").basic((&format!("evil-{round}"), "x")));
        gateway.post(
            "/batches",
            &json!({"file": "hdfs:///x.py", format!("evil{round}"): 1}),
        );
        gateway.post(
            "/clusters/livy/batches",
            &json!({"file": "hdfs:///x.py", "queue": format!("evil-{round}"), "name": format!("evil-{round}")}),
        );
    };
    noise(0);
    noise(1);
    let names = |text: &str| {
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, _)| name.to_owned())
            .collect::<BTreeSet<_>>()
    };
    let before = names(&gateway.admin("/metrics").text());
    (2..12).for_each(noise);
    let text = gateway.admin("/metrics").text();
    assert_eq!(
        names(&text).difference(&before).collect::<Vec<_>>(),
        Vec::<&String>::new()
    );
    assert!(!text.contains("evil"));
}

#[test]
fn the_number_of_series_has_a_budget() {
    let count = |clusters: usize, routes: usize| {
        let running = Clusters::start();
        let mut scene = Scene::new(&running);
        scene.clusters = (0..clusters)
            .map(|at| {
                format!(
                    "  c{at}: {{flavor: livy, url: \"http://{}\"}}\n",
                    running.address
                )
            })
            .collect();
        scene.routes = (0..routes)
            .map(|at| {
                let targets: Vec<String> = (0..3.min(clusters))
                    .map(|next| format!("{{cluster: c{}}}", (at + next) % clusters))
                    .collect();
                format!(
                    "  - {{name: r{at}, match: {{users: u{at}}}, targets: [{}]}}\n",
                    targets.join(", ")
                )
            })
            .collect();
        let gateway = scene.start();
        gateway
            .admin("/metrics")
            .text()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .count()
    };
    let (large, sidecar) = (count(20, 20), count(1, 1));
    assert!(
        large <= 12_000,
        "{large} series for 20 routes and 20 clusters"
    );
    assert!(sidecar <= 1_000, "{sidecar} series for a sidecar");
}

#[test]
fn one_line_for_each_request_and_no_secret_in_it() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let body = json!({"file": "cos://b.s/x.py", "conf": {"spark.hadoop.fs.cos.s.secret.key": CONF_SECRET}});
    let request = Request::post("/clusters/ibm/batches?token=conf-secret-key-value", &body)
        .basic(ALICE)
        .header("X-Request-Id", "find-me");
    assert_eq!(gateway.send(&request).status, 201);
    gateway.wait_until("the line is there", |gateway| {
        gateway.log().contains("find-me\",\"client\"")
    });
    let log = gateway.log();
    let line = log
        .lines()
        .find(|line| line.contains("livy_gateway::access"))
        .expect("a line");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    for (key, value) in [
        ("request_id", json!("find-me")),
        ("user", json!("alice")),
        ("route", json!("all")),
        ("cluster", json!("ibm")),
        ("operation", json!("create_batch")),
        ("status", json!(201)),
        ("upstream_status", json!(201)),
        ("method", json!("POST")),
    ] {
        assert_eq!(line[key], value, "{key}: {line}");
    }
    assert!(line["duration_ms"].is_number() && line["upstream_ms"].is_number());
    // Nor does the registry keep it.
    let database = std::fs::read_dir(gateway.scene.folder.path())
        .expect("a folder")
        .filter_map(Result::ok);
    for file in database.filter(|file| {
        file.file_name()
            .to_string_lossy()
            .starts_with("livy-gateway.db")
    }) {
        let bytes = std::fs::read(file.path()).expect("is readable");
        assert!(
            !bytes
                .windows(CONF_SECRET.len())
                .any(|window| window == CONF_SECRET.as_bytes()),
            "{:?} holds a secret",
            file.path()
        );
    }
}
