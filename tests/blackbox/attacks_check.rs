//! What `check` and `/config` say, and what becomes of certificates whose time is over, against an
//! enemy: each of these once disproved a line of docs/operations.md or of the commands' own help.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde_json::Value;
use testkit::*;

/// The address of a listener that is held, and the listener.
fn taken() -> (SocketAddr, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    (listener.local_addr().expect("is bound"), listener)
}

/// What `check --format json` says of a folder's `routes.yaml`.
fn checked(folder: &Path) -> Value {
    let (status, out, err) = run(&["check", "--format", "json"], folder);
    let said: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    assert_eq!(said["ok"], status == 0, "{said}");
    said
}

/// Checks a folder's file with something else in it.
fn checked_with(folder: &Path, from: &str, to: &str) -> Value {
    let path = folder.join("routes.yaml");
    let text = std::fs::read_to_string(&path).expect("is there");
    assert!(text.contains(from), "{from:?} is not in {text}");
    std::fs::write(&path, text.replacen(from, to, 1)).expect("is writable");
    let said = checked(folder);
    std::fs::write(&path, text).expect("is writable");
    said
}

#[track_caller]
fn assert_told(said: &Value, path: &str, words: &str) {
    let problems = said["problems"].as_array().expect("a list").iter();
    let fits = |one: &Value| {
        one["path"] == path
            && one["what"]
                .as_str()
                .is_some_and(|what| what.contains(words))
    };
    assert!(
        problems.clone().any(fits),
        "{path}: {words:?} is not in {said}"
    );
}

/// Writes a pair, and returns the keys that name it.
fn pair(folder: &Path, name: &str, years: (i32, i32)) -> String {
    let mut params = rcgen::CertificateParams::new(vec!["a.test".to_owned()]).expect("a name");
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("is signed");
    let write = |end: &str, text: &str| {
        std::fs::write(folder.join(format!("{name}.{end}")), text).expect("is writable");
    };
    write("key", &key.serialize_pem());
    write("crt", &certificate.pem());
    format!("cert_file: {name}.crt, key_file: {name}.key")
}

const ADMIN: &str = "admin: {listen: \"127.0.0.1:0\"}";
const CLUSTER: &str = "url: \"http://127.0.0.1:9\"";

#[test]
fn any_path_can_be_checked() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder
        .path()
        .join(std::ffi::OsStr::from_bytes(b"\xff.yaml"));
    for there in [false, true] {
        if there {
            std::fs::copy(plain_folder("").path().join("routes.yaml"), &path).expect("copies");
        }
        let out = std::process::Command::new(binary())
            .args(["check", "--format", "json", "-c"])
            .arg(&path)
            .output()
            .expect("the binary starts");
        let said: Value = serde_json::from_slice(&out.stdout).expect("JSON");
        assert_eq!(
            (said["ok"] == there, out.status.success()),
            (true, there),
            "{said}"
        );
    }
}

#[test]
fn listeners_that_can_not_go_together_are_told() {
    let folder = plain_folder("");
    let (address, listener) = taken();
    drop(listener);
    let server = format!("listen: \"{address}\"");
    let same = format!("admin: {{listen: \"{address}\"}}");
    let path = folder.path().join("routes.yaml");
    let text = std::fs::read_to_string(&path).expect("is there");
    let with = text.replacen("listen: \"127.0.0.1:0\"", &server, 1);
    std::fs::write(&path, &with).expect("is writable");
    let said = checked_with(folder.path(), ADMIN, &same);
    assert_told(&said, "admin.listen", "overlaps");
    let wide = format!("listen: [\"{address}\", \"0.0.0.0:{}\"]", address.port());
    let said = checked_with(folder.path(), &server, &wide);
    assert_told(&said, "server.listen[1]", "overlaps");
    // Whoever takes which families along is seen by trying.
    let both = format!("listen: [\"{address}\", \"[::]:{}\"]", address.port());
    let said = checked_with(folder.path(), &server, &both);
    assert_eq!(said["ok"], false, "{said}");
    assert_eq!(checked(folder.path())["ok"], true);
}

#[test]
fn certificates_whose_time_is_not_now_are_told_where_they_are_named() {
    let folder = plain_folder("");
    let https = CLUSTER.replace("http:", "https:");
    for (years, words) in [
        ((2000, 2020), "the certificate expired at"),
        ((2090, 2095), "the certificate is not valid before"),
    ] {
        let keys = pair(folder.path(), "other", years);
        let cluster = format!("{https}, tls: {{{keys}}}");
        let said = checked_with(folder.path(), CLUSTER, &cluster);
        assert_told(&said, "clusters.a.tls.cert_file", words);
        let cluster = format!("{https}, tls: {{ca_file: other.crt}}");
        let said = checked_with(folder.path(), CLUSTER, &cluster);
        assert_told(&said, "clusters.a.tls.ca_file", words);
        let admin = format!("admin: {{listen: \"127.0.0.1:0\", tls: {{{keys}}}}}");
        let said = checked_with(folder.path(), ADMIN, &admin);
        assert_told(&said, "admin.tls.cert_file", words);
    }
    // A chain with one behind the first: a server's, whose client may know another way.
    let good = pair(folder.path(), "good", (2000, 2090));
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).expect("is there");
    let chain = read("good.crt") + &read("other.crt");
    std::fs::write(folder.path().join("good.crt"), chain).expect("is writable");
    let admin = format!("admin: {{listen: \"127.0.0.1:0\", tls: {{{good}}}}}");
    let said = checked_with(folder.path(), ADMIN, &admin);
    assert_told(&said, "admin.tls.cert_file", "behind the first one");
    // A bundle may hold old ones.
    pair(folder.path(), "good", (2000, 2090));
    let bundle = read("other.crt") + &read("good.crt");
    std::fs::write(folder.path().join("bundle.crt"), bundle).expect("is writable");
    let cluster = format!("{https}, tls: {{ca_file: bundle.crt}}");
    let said = checked_with(folder.path(), CLUSTER, &cluster);
    assert_eq!(said["ok"], true, "{said}");
}

#[test]
fn what_was_meant_as_a_regular_expression_is_told() {
    let folder = plain_folder("");
    let with = |matches: &str| {
        let route =
            format!("routes: [{{name: some, match: {{{matches}}}, targets: [{{cluster: a}}]}}, ");
        checked_with(folder.path(), "routes: [", &route)
    };
    for pattern in ["(a|b)*", r"etl-\d+", "a+"] {
        let said = with(&format!("users: ['{pattern}']"));
        assert_told(&said, "routes[0].match.users", "regular expression");
    }
    for matches in ["groups: ['c++']", "name: '(a|b)'", r"users: ['CORP\d*']"] {
        let said = with(matches);
        assert_eq!(said["ok"], true, "{matches}: {said}");
    }
}

#[test]
fn a_running_gateways_own_ports_are_not_taken() {
    let folder = plain_folder("");
    let path = folder.path().join("routes.yaml");
    let text = std::fs::read_to_string(&path).expect("is there");
    let free = || taken().0;
    let (server, admin, other) = (free(), free(), free());
    let with = |server: &str, admin: SocketAddr| {
        text.replacen(
            "listen: \"127.0.0.1:0\"",
            &format!("listen: \"{server}\""),
            1,
        )
        .replace(ADMIN, &format!("admin: {{listen: \"{admin}\"}}"))
    };
    let write = |text: &str| std::fs::write(&path, text).expect("is writable");
    write(&with(&server.to_string(), admin));
    let (process, _) = serve(folder.path());
    assert_eq!(checked(folder.path())["ok"], true);
    // The admin listener moves: what is taken is the gateway's own all the same.
    write(&with(&server.to_string(), other));
    let said = checked(folder.path());
    assert_eq!(
        (&said["ok"], &said["notes"]),
        (&true.into(), &Value::Array(vec![])),
        "{said}"
    );
    // What a reload would refuse is told.
    write(&with(&format!("0.0.0.0:{}", server.port()), other));
    let said = checked(folder.path());
    assert_told(&said, "server.listen", "overlaps");
    // Another file: it may be meant to take this one's place.
    let elsewhere = plain_folder("");
    std::fs::write(
        elsewhere.path().join("routes.yaml"),
        with(&server.to_string(), other),
    )
    .expect("is writable");
    let said = checked(elsewhere.path());
    let warned = said["notes"].to_string();
    assert!(
        said["ok"] == true && warned.contains("by a gateway"),
        "{said}"
    );
    drop(process);
    // Nobody else's port is anybody's own, whatever answers at the admin listener.
    let (foreign, held) = taken();
    write(&with(&foreign.to_string(), admin));
    assert_told(&checked(folder.path()), "server.listen", "can't bind");
    write(&with(&server.to_string(), foreign));
    assert_told(&checked(folder.path()), "admin.listen", "can't bind");
    drop(held);
}

#[test]
fn the_configuration_is_shown_in_the_files_own_words() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let shown = gateway.admin("/config").json();
    let livy = &shown["clusters"]["livy"];
    assert_eq!(livy["on_unsupported"], "reject");
    assert_eq!(livy["act_as"], "authenticated_user");
    assert_eq!(livy["max_in_flight"]["create_batch"], 100);
    assert_eq!(livy["retries"]["percent"], 20);
    assert_eq!(livy["health"]["eject_after"], 5);
    assert_eq!(shown["server"]["plaintext"], false);
    assert_eq!(shown["admin"]["open"], false);
}

/// A gateway before a cluster that wants a client certificate, and is away.
fn with_a_pair(years: (i32, i32)) -> Gateway {
    let clusters = Clusters::start();
    let mut scene = Scene::new(&clusters);
    let keys = pair(scene.folder.path(), "client", years);
    scene.clusters =
        format!("  far: {{flavor: livy, url: \"https://127.0.0.1:9\", tls: {{{keys}}}}}\n");
    scene.routes = "  - {name: all, targets: [{cluster: far}]}\n".to_owned();
    scene.start()
}

const ENDS: &str =
    r#"livy_gateway_tls_certificate_expiry_timestamp_seconds{kind="upstream",name="far"}"#;
const CURRENT: &str = r#"livy_gateway_file_current{kind="cluster_tls",name="far"}"#;

#[test]
fn an_expired_client_certificate_takes_no_other_ones_place() {
    let gateway = with_a_pair((2000, 2090));
    let ends = gateway.metric(ENDS);
    assert!(ends > 3.7e9, "{ends}");
    assert_eq!(gateway.metric(CURRENT), 1.0);
    pair(gateway.scene.folder.path(), "client", (2000, 2020));
    gateway.wait_until("it is told", |gateway| {
        let log = gateway.log();
        log.contains("the certificate expired at") && gateway.metric(CURRENT) == 0.0
    });
    assert_eq!(gateway.metric(ENDS), ends, "the old one stays");
    pair(gateway.scene.folder.path(), "client", (2000, 2091));
    gateway.wait_until("a good one is taken", |gateway| gateway.metric(ENDS) > ends);
    assert_eq!(gateway.metric(CURRENT), 1.0);
    // Nor does it come into force by another definition.
    let expired = pair(gateway.scene.folder.path(), "expired", (2000, 2020));
    let path = gateway.scene.folder.path().join("routes.yaml");
    let text = std::fs::read_to_string(&path).expect("is there");
    let named = text.replace("cert_file: client.crt, key_file: client.key", &expired);
    assert_ne!(named, text);
    std::fs::write(&path, named).expect("is writable");
    let said = gateway.admin_post("/reload");
    assert!(
        said.status == 422 && said.text().contains("the certificate expired at"),
        "{}",
        said.text()
    );
}

#[test]
fn one_clusters_expired_certificate_keeps_no_gateway_from_starting() {
    let gateway = with_a_pair((2000, 2020));
    assert!(gateway.log().contains("the certificate expired at"));
    let ends = gateway.metric(ENDS);
    assert!(ends > 1.5e9 && ends < 1.6e9, "{ends}");
}
