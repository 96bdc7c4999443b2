//! Why a cluster can't be reached, in words: in the answer, in the log and of `check --probe`.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};
use serde_json::json;

use testkit::*;

/// A certificate and its key.
struct Made {
    pem: String,
    config: Arc<rustls::ServerConfig>,
}

/// Makes a self-signed certificate for a name, as `openssl req -x509` does: `CA:TRUE`.
fn made(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Made {
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("signs");
    let private = rustls_pki_types::PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config =
        rustls::ServerConfig::builder_with_provider(livy_gateway::net::provider::provider())
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], private)
            .expect("they fit");
    Made {
        pem: cert.pem(),
        config: Arc::new(config),
    }
}

/// A cluster behind TLS that has no batches.
fn serve(config: Arc<rustls::ServerConfig>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("is bound");
    std::thread::spawn(move || {
        for tcp in listener.incoming().map_while(Result::ok) {
            let config = config.clone();
            std::thread::spawn(move || {
                let connection = rustls::ServerConnection::new(config).expect("a connection");
                let mut stream = rustls::StreamOwned::new(connection, tcp);
                while read_head(&mut stream).is_ok() {
                    let body = r#"{"from":0,"total":0,"sessions":[]}"#;
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    if std::io::Write::write_all(&mut stream, answer.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

/// A gateway in front of one cluster; `ca` is the text of its `ca_file`.
fn scene(clusters: &Clusters, url: &str, ca: Option<&str>) -> Scene {
    let mut scene =
        Scene::new(clusters).with_routes("  - {name: all, targets: [{cluster: far}]}\n");
    let tls = match ca {
        Some(pem) => {
            std::fs::write(scene.folder.path().join("ca.pem"), pem).expect("is writable");
            "tls: {ca_file: ca.pem}, "
        }
        None => "",
    };
    scene.clusters = format!(
        "  far: {{flavor: livy, url: \"{url}\", {tls}timeouts: {{connect: 700ms}}, health: {{interval: 100ms}}}}\n"
    );
    scene
}

/// What `check --probe` says about the cluster: what its probe brought, or, before any probe, what is
/// wrong with the file of its CA.
fn probed(scene: &Scene) -> String {
    let path = scene.write();
    let (_, out, told) = run(
        &["check", "--probe", "-c", path.to_str().expect("UTF-8")],
        scene.folder.path(),
    );
    let is_it =
        |line: &&str| line.starts_with("cluster far") || line.contains("clusters.far.tls.ca_file");
    let found = out.lines().chain(told.lines()).find(is_it);
    found
        .unwrap_or_else(|| panic!("no line of the cluster: {out}{told}"))
        .to_owned()
}

#[test]
fn the_cause_is_told_in_words() {
    let clusters = Clusters::start();
    let good = made("localhost", |_| {});
    let expired = made("localhost", |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let early = made("localhost", |params| {
        params.not_before = date_time_ymd(2200, 1, 1);
    });
    let other = made("knox.example.com", |_| {});
    let port = |made: &Made| serve(made.config.clone()).port();
    let silent = TcpListener::bind("127.0.0.1:0").expect("binds");
    let closed = TcpListener::bind("127.0.0.1:0")
        .expect("binds")
        .local_addr()
        .expect("is bound");
    let https = |port: u16| format!("https://localhost:{port}");
    for (url, ca, words) in [
        (
            https(port(&expired)),
            Some(&expired),
            "its certificate has expired",
        ),
        (
            https(port(&early)),
            Some(&early),
            "its certificate is not valid yet",
        ),
        (https(port(&good)), None, "unknown CA"),
        (https(port(&good)), Some(&expired), "its certificate"),
        (
            https(port(&other)),
            Some(&other),
            "its certificate is for another name: knox.example.com, wanted is localhost",
        ),
        (https(clusters.address.port()), Some(&good), "speaks no TLS"),
        (
            https(silent.local_addr().expect("is bound").port()),
            Some(&good),
            "timed out",
        ),
        (format!("http://{closed}"), None, "connection refused"),
        (
            "http://nosuch.invalid:8998".to_owned(),
            None,
            "nosuch.invalid",
        ),
    ] {
        let scene = scene(&clusters, &url, ca.map(|made| made.pem.as_str()));
        let line = probed(&scene);
        let ca_is_told = line.contains("ca_file")
            && (line.contains("the certificate expired") || line.contains("not valid before"));
        assert!(
            line.contains(words) || ca_is_told,
            "{words:?} is not in {line:?}"
        );
        let gateway = scene.start();
        let message = gateway
            .post("/batches", &json!({"file": "hdfs:///x.py"}))
            .error(503, "cluster_unavailable");
        assert!(message.contains(words), "{words:?} is not in {message:?}");
        gateway.wait_until("it is ejected", |gateway| {
            gateway.metric(r#"livy_gateway_cluster_state{cluster="far",state="ejected"}"#) == 1.0
        });
        let message = gateway
            .post("/batches", &json!({"file": "hdfs:///x.py"}))
            .error(503, "cluster_unavailable");
        assert!(
            message.contains(words) && message.contains("'far' is ejected"),
            "{message:?}"
        );
        gateway.wait_until("the log says so", |gateway| {
            let log = gateway.log();
            log.lines()
                .any(|line| line.contains("the cluster is ejected") && line.contains(words))
        });
    }
}

#[test]
fn a_listed_certificate_is_accepted_as_it_is() {
    let clusters = Clusters::start();
    let good = made("localhost", |_| {});
    let address = serve(good.config.clone());
    let url = format!("https://localhost:{}", address.port());
    let line = probed(&scene(&clusters, &url, Some(&good.pem)));
    assert!(line.ends_with(": ok"), "{line}");
    // Under its name only, and no other certificate of the same name.
    let line = probed(&scene(
        &clusters,
        &format!("https://{address}"),
        Some(&good.pem),
    ));
    assert!(
        line.contains("another name: localhost, wanted is 127.0.0.1"),
        "{line}"
    );
    let twin = made("localhost", |_| {});
    let line = probed(&scene(&clusters, &url, Some(&twin.pem)));
    assert!(!line.ends_with(": ok"), "{line}");
    let both = format!("{}{}", twin.pem, good.pem);
    assert!(probed(&scene(&clusters, &url, Some(&both))).ends_with(": ok"));
}

#[test]
fn a_token_endpoint_has_a_ca_of_its_own() {
    let clusters = Clusters::start();
    let good = made("localhost", |_| {});
    let port = serve(good.config.clone()).port();
    let mut scene = scene(&clusters, &format!("http://{}", clusters.address), None);
    std::fs::write(scene.folder.path().join("iam.pem"), &good.pem).expect("is writable");
    for (ca, words) in [
        ("", "unknown CA"),
        (
            ", ca_file: iam.pem",
            "it answered 200 without an access_token",
        ),
    ] {
        scene.clusters = format!(
            "  far: {{flavor: livy, url: \"http://{}\", credentials: {{ibm_iam: {{apikey: issued-secret-key, url: \"https://localhost:{port}\"{ca}}}}}}}\n",
            clusters.address
        );
        let line = probed(&scene);
        assert!(
            line.contains(words) && line.contains("/identity/token"),
            "{line}"
        );
    }
}
