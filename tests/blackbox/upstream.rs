//! Clusters behind TLS. A second gateway plays the cluster: it speaks canonical Livy over HTTP/2
//! and wants a login.

use serde_json::json;

use testkit::*;

/// A gateway in front of another one; `tls` is what stands in the cluster's `tls` key, `CA` in it
/// the other's certificate.
fn chained(clusters: &Clusters, behind: &Gateway, tls: &str, url: &str) -> Gateway {
    let mut scene =
        Scene::new(clusters).with_routes("  - {name: all, targets: [{cluster: far}]}\n");
    let ca = behind
        .scene
        .folder
        .path()
        .join("tls.crt")
        .display()
        .to_string();
    let (user, password) = ALICE;
    scene.clusters = format!(
        "  far: {{flavor: livy, url: \"{url}\", freshness: 0s, act_as: service, tls: {{{}}}, credentials: {{basic: {{username: {user}, password: {password}}}}}}}\n",
        tls.replace("CA", &ca)
    );
    scene.start()
}

#[test]
fn a_cluster_is_reached_over_tls_with_its_own_ca() {
    let clusters = Clusters::start();
    let behind = Scene::new(&clusters)
        .with_routes("  - {name: all, targets: [{cluster: livy}]}\n")
        .start();
    let url = format!("https://localhost:{}/livy", behind.address.port());
    let gateway = chained(&clusters, &behind, "ca_file: CA", &url);
    let reply = gateway.post(
        "/batches",
        &json!({"file": "hdfs:///x.py", "args": ["0.2"], "name": "chained"}),
    );
    assert_eq!(reply.status, 201, "{}", reply.text());
    let id = reply.json()["id"].as_i64().expect("an id");
    gateway.wait_for_state(id, "success");
    assert!(
        gateway
            .get(&format!("/batches/{id}/log"))
            .text()
            .contains("simulated job: done")
    );
    assert_eq!(
        gateway.get("/batches").json()["sessions"][0]["name"],
        "chained"
    );
    assert_eq!(gateway.delete(&format!("/batches/{id}")).status, 200);
    behind.get("/batches/chained").error(404, "not_found");
    // Reads go over kept connections; the submission had one of its own, the probe may have opened
    // one, the test's own request another.
    let handshakes = behind.metric(
        r#"livy_gateway_tls_handshakes_total{listener="127.0.0.1:0",outcome="ok",version="1.3"}"#,
    );
    assert!((3.0..=4.0).contains(&handshakes), "{handshakes} handshakes");
    assert!(
        gateway.metric(r#"livy_gateway_upstream_connections{cluster="far",state="idle"}"#) >= 1.0
    );
}

#[test]
fn a_certificate_that_is_not_trusted_is_not_talked_to() {
    let clusters = Clusters::start();
    let behind = Gateway::over(&clusters);
    let port = behind.address.port();
    for (what, tls, url) in [
        (
            "the system's roots don't know it",
            "",
            format!("https://localhost:{port}"),
        ),
        (
            "another name",
            "ca_file: CA",
            format!("https://127.0.0.1:{port}"),
        ),
        (
            "another name by configuration",
            "ca_file: CA, server_name: other.example.com",
            format!("https://localhost:{port}"),
        ),
    ] {
        let gateway = chained(&clusters, &behind, tls, &url);
        gateway
            .post("/batches", &json!({"file": "hdfs:///x.py"}))
            .error(503, "cluster_unavailable");
        assert!(
            gateway.metric(r#"livy_gateway_upstream_errors_total{cluster="far",reason="tls"}"#)
                >= 1.0,
            "{what}"
        );
    }
    for (tls, url) in [
        (
            "ca_file: CA, server_name: localhost",
            format!("https://127.0.0.1:{port}"),
        ),
        (
            "insecure_skip_verify: true",
            format!("https://127.0.0.1:{port}"),
        ),
    ] {
        let gateway = chained(&clusters, &behind, tls, &url);
        assert_eq!(
            gateway
                .post("/batches", &json!({"file": "hdfs:///x.py"}))
                .status,
            201,
            "{tls}"
        );
        let loud = tls.contains("insecure");
        assert_eq!(
            gateway
                .log()
                .contains("anybody on the way can read the credentials"),
            loud
        );
        assert_eq!(
            gateway.metric(r#"livy_gateway_cluster_insecure_tls{cluster="far"}"#),
            f64::from(u8::from(loud))
        );
    }
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let clusters = Clusters::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("is bound");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut head);
            let _ = std::io::Write::write_all(
                &mut stream,
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"sessions\": [\"",
            );
            // Far more than is ever read; the other side hangs up long before.
            for _ in 0..1024 {
                if std::io::Write::write_all(&mut stream, &[b'a'; 64 * 1024]).is_err() {
                    break;
                }
            }
        }
    });
    let mut scene =
        Scene::new(&clusters).with_routes("  - {name: all, targets: [{cluster: far}]}\n");
    scene.clusters =
        format!("  far: {{flavor: livy, url: \"http://{address}\", health: {{interval: 1h}}}}\n");
    let gateway = scene.start();
    let list = gateway.get("/batches");
    assert_eq!(
        (list.status, list.header("x-livy-gateway-stale")),
        (200, Some("true"))
    );
    assert!(
        gateway.metric(r#"livy_gateway_upstream_errors_total{cluster="far",reason="body_limit"}"#)
            >= 1.0
    );
}
