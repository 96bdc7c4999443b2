//! What changes while it runs: the configuration, and the files that it names.

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};

use testkit::*;

fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::yield_now();
    }
}

fn config_of(gateway: &Gateway) -> std::path::PathBuf {
    gateway.scene.folder.path().join("routes.yaml")
}

fn edit(gateway: &Gateway, from: &str, to: &str) {
    let path = config_of(gateway);
    let text = std::fs::read_to_string(&path).expect("is there");
    assert!(text.contains(from), "{from:?} is not in {text}");
    std::fs::write(&path, text.replacen(from, to, 1)).expect("is writable");
}

fn reload(gateway: &Gateway, query: &str) -> (u16, Value) {
    let reply = gateway.admin_post(&format!("/reload{query}"));
    (reply.status, reply.json())
}

/// Writes a request whose connection stays open.
fn kept_open(request: &Request<'_>) -> Vec<u8> {
    let text = String::from_utf8(request.to_bytes()).expect("is text");
    text.replace("Connection: close\r\n", "").into_bytes()
}

#[test]
fn a_file_that_changes_is_in_force_soon() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let id = gateway.submit("livy", &json!({}));
    edit(&gateway, "admin_users: [root]", "admin_users: [bob]");
    let request = format!("/batches/{id}");
    until("bob is an admin", || {
        gateway.send(&Request::get(&request).basic(BOB)).status == 200
    });
    edit(&gateway, "admin_users: [bob]", "admin_users: [root]");
    until("and is none any more", || {
        gateway.send(&Request::get(&request).basic(BOB)).status == 404
    });
    assert_eq!(
        gateway.metric("livy_gateway_config_last_reload_success "),
        1.0
    );
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    edit(&gateway, "clusters:\n", "clustres: {}\nclusters:\n");
    let (status, said) = reload(&gateway, "");
    assert_eq!(status, 422, "{said}");
    assert_eq!(said["ok"], false);
    let problem = &said["problems"][0];
    assert!(
        problem["what"]
            .as_str()
            .is_some_and(|what| what.contains("clustres")),
        "{said}"
    );
    assert!(problem["line"].is_u64(), "{said}");
    assert_eq!(
        gateway.metric("livy_gateway_config_last_reload_success "),
        0.0
    );
    assert!(gateway.metric(r#"livy_gateway_config_reloads_total{outcome="refused"}"#) >= 1.0);
    gateway.submit("livy", &json!({}));
    edit(&gateway, "clustres: {}\n", "");
    let (status, said) = reload(&gateway, "");
    assert_eq!((status, &said["ok"]), (200, &Value::Bool(true)), "{said}");
    assert_eq!(
        gateway.metric("livy_gateway_config_last_reload_success "),
        1.0
    );
    let get = std::net::TcpStream::connect(gateway.admin).expect("it listens");
    assert_eq!(
        exchange(get, &Request::get("/reload").to_bytes()).status,
        405
    );
}

#[test]
fn a_hangup_reloads() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let series = r#"livy_gateway_config_reloads_total{outcome="ok"}"#;
    let before = gateway.metric(series);
    gateway.process.signal("-HUP");
    until("the file is read again", || gateway.metric(series) > before);
}

#[test]
fn a_cluster_comes_and_goes_and_the_others_do_not_notice() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let probes = || {
        let requests = clusters.requests("livy").into_iter();
        requests
            .filter(|request| request["method"] == "GET")
            .count()
    };
    let text = std::fs::read_to_string(config_of(&gateway)).expect("is there");
    let line = text
        .lines()
        .find(|line| line.starts_with("  livy:"))
        .expect("is configured");
    edit(
        &gateway,
        line,
        &format!("{line}\n{}", line.replace("livy:", "second:")),
    );
    edit(&gateway, "targets: [", "targets: [{cluster: second}, ");
    let (status, said) = reload(&gateway, "");
    assert_eq!(status, 200, "{said}");
    let reply = gateway.post("/clusters/second/batches", &json!({"file": "hdfs:///x.py"}));
    assert_eq!(reply.status, 201, "{}", reply.text());
    let id = reply.json()["id"].as_i64().expect("an id");
    // Its batch lives: it can't just go.
    edit(&gateway, "targets: [{cluster: second}, ", "targets: [");
    edit(&gateway, &line.replace("livy:", "second:"), "");
    let (status, said) = reload(&gateway, "");
    assert_eq!(status, 422, "{said}");
    let told = said["problems"][0]["what"].as_str().unwrap_or_default();
    assert!(
        told.contains("cluster 'second' still has 1 live batches"),
        "{said}"
    );
    assert_eq!(gateway.get(&format!("/batches/{id}")).status, 200);
    let (status, said) = reload(&gateway, "?force");
    assert_eq!(status, 200, "{said}");
    let answer = gateway.post("/clusters/second/batches", &json!({"file": "hdfs:///x.py"}));
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert!(
        !gateway
            .admin("/metrics")
            .text()
            .contains(r#"cluster="second""#),
        "its series stay"
    );
    let last = gateway.get(&format!("/batches/{id}/state"));
    assert_eq!(
        last.status,
        200,
        "what was known of its batch stays: {}",
        last.text()
    );
    assert!(probes() > 0);
}

#[test]
fn a_cluster_that_did_not_change_keeps_its_health_and_its_connections() {
    let clusters = Clusters::start();
    let health = "health: {interval: 100ms, timeout: 1s, unhealthy_after: 1}";
    let gateway = Scene::new(&clusters).with_cluster("livy", health).start();
    clusters.fault("livy", json!({"times": 100_000, "hang_up": true}));
    let ejected = r#"livy_gateway_cluster_state{cluster="livy",state="ejected"}"#;
    gateway.wait_until("it is ejected", |gateway| gateway.metric(ejected) == 1.0);
    edit(&gateway, "admin_users: [root]", "admin_users: [bob]");
    assert_eq!(reload(&gateway, "").0, 200);
    assert_eq!(
        gateway.metric(ejected),
        1.0,
        "a reload is no reason to believe in it"
    );
}

#[test]
fn a_password_that_was_removed_stops_working_on_open_connections_too() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let mut wire = gateway.tls(&[b"http/1.1"]);
    let mut ask = |login| {
        exchange(
            &mut wire,
            &kept_open(&Request::get("/batches").basic(login)),
        )
        .status
    };
    assert_eq!((ask(ALICE), ask(BOB)), (200, 200));
    let file = gateway.scene.folder.path().join("users.htpasswd");
    let text = std::fs::read_to_string(&file).expect("is there");
    let kept: String = text
        .lines()
        .filter(|line| !line.starts_with("bob:"))
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(&file, kept).expect("is writable");
    let began = Instant::now();
    while ask(BOB) != 401 {
        assert!(began.elapsed() < PATIENCE, "it still works");
    }
    assert_eq!(ask(ALICE), 200);
    // What can't be read changes nothing, and is told.
    std::fs::write(&file, "alice:plain\n").expect("is writable");
    let series = r#"livy_gateway_file_current{kind="htpasswd",name="staff"}"#;
    until("the metric says so", || gateway.metric(series) == 0.0);
    assert_eq!((ask(ALICE), ask(BOB)), (200, 401));
    std::fs::write(&file, text).expect("is writable");
    let began = Instant::now();
    while ask(BOB) != 200 {
        assert!(began.elapsed() < PATIENCE, "it does not come back");
    }
    assert_eq!(gateway.metric(series), 1.0);
}

fn certificate(folder: &Path, not_after_year: i32) -> Vec<u8> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let mut params = rcgen::CertificateParams::new(names).expect("are names");
    params.not_after = rcgen::date_time_ymd(not_after_year, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("is signed");
    std::fs::write(folder.join("tls.key"), key.serialize_pem()).expect("is writable");
    std::fs::write(folder.join("tls.crt"), certificate.pem()).expect("is writable");
    certificate.der().to_vec()
}

/// Takes any certificate: these tests look at which one it is.
#[derive(Debug)]
struct Anybody;

impl rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        let provider = livy_gateway::net::provider::provider();
        provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn shown(gateway: &Gateway) -> Vec<u8> {
    let mut config = gateway.client_config(&[]);
    config
        .dangerous()
        .set_certificate_verifier(std::sync::Arc::new(Anybody));
    let mut stream = over_tls(gateway.tcp(), config);
    while stream.conn.is_handshaking() {
        stream
            .conn
            .complete_io(&mut stream.sock)
            .expect("a handshake");
    }
    let chain = stream.conn.peer_certificates().expect("a certificate");
    chain[0].to_vec()
}

#[test]
fn a_certificate_that_was_replaced_is_shown() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let folder = gateway.scene.folder.path();
    let first = shown(&gateway);
    let second = certificate(folder, 2090);
    assert_ne!(first, second);
    until("the new one is shown", || shown(&gateway) == second);
    let series =
        r#"livy_gateway_tls_certificate_expiry_timestamp_seconds{kind="server",name="default"}"#;
    assert!(gateway.metric(series) > 3.7e9);
    // One that has expired, or none at all, is not taken.
    certificate(folder, 2020);
    let current = r#"livy_gateway_file_current{kind="server_certificate",name="default"}"#;
    until("the metric says so", || gateway.metric(current) == 0.0);
    assert_eq!(shown(&gateway), second);
    assert!(
        gateway.log().contains("the certificate expired at"),
        "the log does not say why"
    );
    std::fs::write(folder.join("tls.key"), "nonsense").expect("is writable");
    until("the log says why", || {
        gateway.log().contains("holds no private key")
    });
    assert_eq!(shown(&gateway), second);
    let third = certificate(folder, 2091);
    until("a good one is taken again", || shown(&gateway) == third);
}

#[test]
fn an_expired_certificate_is_a_problem_of_the_start() {
    let clusters = Clusters::start();
    let scene = Scene::new(&clusters);
    let path = scene.write();
    certificate(scene.folder.path(), 2020);
    let (status, _, told) = run(
        &["check", "-c", &path.display().to_string()],
        scene.folder.path(),
    );
    assert!(
        status == 1 && told.contains("the certificate expired at"),
        "{told}"
    );
}

#[test]
fn listeners_follow() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = free.local_addr().expect("is bound");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let both = |other: std::net::SocketAddr| format!("listen: [\"127.0.0.1:0\", \"{other}\"]");
    drop(free);
    edit(
        &gateway,
        "listen: 127.0.0.1:0",
        &both(taken.local_addr().expect("is bound")),
    );
    let (status, said) = reload(&gateway, "");
    assert_eq!(status, 422, "{said}");
    assert!(
        said["problems"][0]["what"]
            .as_str()
            .is_some_and(|what| what.contains("can't bind")),
        "{said}"
    );
    edit(
        &gateway,
        &both(taken.local_addr().expect("is bound")),
        &both(address),
    );
    let (status, said) = reload(&gateway, "");
    assert_eq!(status, 200, "{said}");
    assert!(std::net::TcpStream::connect(address).is_ok());
    edit(&gateway, &both(address), "listen: 127.0.0.1:0");
    assert_eq!(reload(&gateway, "").0, 200);
    until("the address is given up", || {
        std::net::TcpStream::connect(address).is_err()
    });
    gateway.submit("livy", &json!({}));
}

#[test]
fn the_registry_cannot_be_exchanged() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    edit(
        &gateway,
        "clusters:\n",
        "registry: {memory: {}}\nclusters:\n",
    );
    let (status, said) = reload(&gateway, "");
    assert_eq!(status, 422, "{said}");
    assert_eq!(said["problems"][0]["path"], "registry");
}
