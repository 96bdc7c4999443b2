//! `check`, `schema`, and what `serve` says about a bad file.

use std::path::{Path, PathBuf};

use serde_json::Value;

use testkit::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn fixtures() -> PathBuf {
    root().join("tests/fixtures/config")
}

/// Every problem of a file, as `check` shows it.
fn problems(file: &str) -> String {
    let (status, out, err) = run(&["check", "-c", file], &fixtures());
    assert_eq!((status, out.as_str()), (1, ""), "{err}");
    err
}

#[test]
fn every_problem_of_a_file_is_told_at_once() {
    for file in [
        "typos",
        "values",
        "credentials",
        "not-yet",
        "syntax",
        "empty",
    ] {
        insta::assert_snapshot!(file, problems(&format!("{file}.yaml")));
    }
    let (status, _, told) = run(&["check", "-c", "nosuch.yaml"], &fixtures());
    assert!(
        status == 1 && told.contains("can't read the file"),
        "{told}"
    );
}

/// What `check` says about a cluster with this login.
fn problems_of(credentials: &str) -> (i32, String) {
    let folder = plain_folder("");
    let path = folder.path().join("routes.yaml");
    let text = std::fs::read_to_string(&path).expect("is there");
    let url = "url: \"http://127.0.0.1:9\"";
    let with = format!("{url}, credentials: {{{credentials}}}");
    std::fs::write(&path, text.replace(url, &with)).expect("is writable");
    std::fs::write(folder.path().join("none.keytab"), "no keytab").expect("is writable");
    // MIT Kerberos' format: version 2, one entry, of somebody@R.
    let entry = b"\0\x01\0\x01R\0\x08somebody\0\0\0\x01\0\0\0\0\x02\0\x12\0\x02kk";
    let size = u32::try_from(entry.len()).expect("short").to_be_bytes();
    let keytab = [&[5, 2][..], &size, entry].concat();
    std::fs::write(folder.path().join("some.keytab"), keytab).expect("is writable");
    let (status, _, told) = run(&["check", "-c", "routes.yaml"], folder.path());
    (status, told)
}

#[test]
fn kerberos_is_checked_or_the_build_that_it_needs_is_named() {
    let kerberos = |keytab: &str| {
        problems_of(&format!(
            "kerberos: {{principal: gateway@R, keytab: {keytab}}}"
        ))
    };
    if !cfg!(feature = "kerberos") {
        let (status, told) = kerberos("some.keytab");
        assert_eq!(status, 1);
        assert!(
            told.contains("this binary was built without Kerberos")
                && told.contains("--features kerberos"),
            "{told}"
        );
        return;
    }
    for (keytab, expected) in [
        ("nosuch.keytab", "can't read"),
        ("none.keytab", "it is no keytab"),
        (
            "some.keytab",
            "it holds no key of gateway@R, but of somebody@R",
        ),
    ] {
        let (status, told) = kerberos(keytab);
        assert_eq!(status, 1);
        assert!(
            told.contains("clusters.a.credentials.kerberos.keytab") && told.contains(expected),
            "{told}"
        );
    }
    let (status, told) =
        problems_of("kerberos: {principal: somebody@R, keytab: some.keytab, spn: \"HTTP h\"}");
    assert_eq!(status, 1);
    assert!(
        told.contains("kerberos.spn: \"HTTP h\" is no principal"),
        "{told}"
    );
    let (status, told) = problems_of("kerberos: {principal: somebody@R, keytab: some.keytab}");
    assert_eq!(status, 0, "{told}");
}

#[test]
fn files_that_the_file_names_are_opened() {
    // A missing secret is found with the values; the rest once those are right.
    let first = problems("files.yaml");
    assert!(
        first.contains("clusters.b.credentials.bearer.token: can't read the secret file")
            && first.contains("files.yaml:9:"),
        "{first}"
    );
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["not-a-key.pem", "not-keys.json", "plain.htpasswd"] {
        std::fs::copy(fixtures().join(name), folder.path().join(name)).expect("copies");
    }
    std::fs::write(folder.path().join("a.token"), "t\n").expect("is writable");
    let text = std::fs::read_to_string(fixtures().join("files.yaml")).expect("is there");
    std::fs::write(
        folder.path().join("routes.yaml"),
        text.replace("nosuch.token", "a.token"),
    )
    .expect("is writable");
    let (status, _, told) = run(&["check"], folder.path());
    assert_eq!(status, 1);
    for part in [
        "server.tls.cert_file: can't read",
        "server.tls.key_file: ",
        "authenticators.staff.basic.htpasswd_file: ",
        "line 1 (user \"ann\"): plain text",
        "authenticators.sso.jwt.jwks.file: ",
        "a key set without keys",
        "clusters.a.tls.ca_file: ",
    ] {
        assert!(told.contains(part), "{part:?} is not in:\n{told}");
    }
    assert!(!told.contains("hunter2"));
}

#[test]
fn problems_come_as_json_too() {
    let (status, out, _) = run(
        &["check", "-c", "typos.yaml", "--format", "json"],
        &fixtures(),
    );
    assert_eq!(status, 1);
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(told["ok"], false);
    let first = &told["problems"][0];
    assert_eq!(
        (
            first["path"].as_str(),
            first["line"].as_u64(),
            first["column"].as_u64()
        ),
        (Some("server"), Some(1), Some(1)),
        "{told}"
    );
    assert!(
        told["problems"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|one| one["remedy"] == "did you mean `listen`?")
    );
}

#[test]
fn the_shipped_file_is_valid_and_names_every_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = std::fs::read_to_string(root().join("routes.yaml")).expect("is there");
    assert!(
        text.starts_with("# yaml-language-server: $schema="),
        "the modeline comes first"
    );
    std::fs::write(folder.path().join("routes.yaml"), &text).expect("is writable");
    let made =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    std::fs::write(folder.path().join("tls.crt"), made.cert.pem()).expect("is writable");
    std::fs::write(
        folder.path().join("tls.key"),
        made.signing_key.serialize_pem(),
    )
    .expect("is writable");
    std::fs::write(
        folder.path().join("users.htpasswd"),
        "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n",
    )
    .expect("is writable");
    let (status, out, err) = run(&["check"], folder.path());
    assert_eq!((status, out.as_str()), (0, "routes.yaml: ok\n"), "{err}");
    // Commented or not, each key of the schema stands in the reference.
    let schema = livy_gateway::config::schema();
    let mut missing = Vec::new();
    for (owner, definition) in schema["$defs"]
        .as_object()
        .expect("definitions")
        .iter()
        .chain([(&"top".to_owned(), &schema)])
    {
        for key in definition["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
        {
            if !text.contains(&format!("{key}:")) {
                missing.push(format!("{owner}.{key}"));
            }
        }
    }
    assert_eq!(
        missing,
        Vec::<String>::new(),
        "keys that routes.yaml does not show"
    );
}

#[test]
fn the_commented_half_of_the_shipped_file_is_valid_too() {
    // Uncommented, the reference must still have the right keys and types; only files and
    // references may be missing.
    let text = std::fs::read_to_string(root().join("routes.yaml")).expect("is there");
    let uncommented: String = text
        .lines()
        .map(|line| format!("{}\n", line.replacen("#~ ", "", 1)))
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("routes.yaml"), uncommented).expect("is writable");
    let (_, _, told) = run(&["check"], folder.path());
    for word in [
        "unknown key",
        "expected ",
        "duplicate",
        "not supported",
        "not valid YAML",
        "is none of",
    ] {
        assert!(!told.contains(word), "{told}");
    }
}

#[test]
fn the_schema_in_the_repository_is_the_programs() {
    let (status, out, _) = run(&["schema"], root());
    assert_eq!(status, 0);
    let kept = std::fs::read_to_string(root().join("docs/routes.schema.json")).unwrap_or_default();
    assert!(
        out == kept,
        "docs/routes.schema.json is out of date: cargo run -- schema > docs/routes.schema.json"
    );
}

#[test]
fn probing_asks_every_cluster() {
    let clusters = Clusters::start();
    let scene = Scene::new(&clusters);
    let path = scene.write();
    let (status, out, err) = run(
        &["check", "--probe", "-c", path.to_str().expect("UTF-8")],
        root(),
    );
    assert_eq!(status, 0, "{out}{err}");
    assert_eq!(
        out.lines()
            .filter(|line| line.starts_with("cluster ") && line.ends_with(": ok"))
            .count(),
        5,
        "{out}"
    );
    clusters.fault("ibm", serde_json::json!({"answer": {"status": 401}}));
    let (status, out, err) = run(
        &["check", "--probe", "-c", path.to_str().expect("UTF-8")],
        root(),
    );
    assert!(
        status == 1 && out.contains("it answered 401") && err.contains("1 of the probes failed"),
        "{out}{err}"
    );
}

#[test]
fn usage_mistakes_are_status_2_and_help_has_examples() {
    assert_eq!(run(&["nosuch"], root()).0, 2);
    assert_eq!(run(&["serve", "--nosuch"], root()).0, 2);
    for command in ["serve", "check", "schema", "demo", "sandbox"] {
        let (status, out, _) = run(&[command, "--help"], root());
        assert!(
            status == 0 && out.contains("Example:\n  livy-gateway "),
            "{out}"
        );
    }
}

#[test]
fn what_looks_like_a_regular_expression_is_told() {
    let folder = plain_folder("");
    let path = folder.path().join("routes.yaml");
    let text = std::fs::read_to_string(&path).expect("is there");
    let routes = "routes: [{name: all, match: {name: \"^etl\", users: [\"team[0-9]\"], header: {x-team: \"a.*\"}}, targets: [{cluster: a}]}]";
    let changed = text.replace("routes: [{name: all, targets: [{cluster: a}]}]", routes);
    assert_ne!(changed, text);
    std::fs::write(&path, changed).expect("is writable");
    let (status, _, told) = run(&["check", "-c", "routes.yaml"], folder.path());
    assert_eq!(status, 1);
    for key in ["match.name", "match.users", "match.header.x-team"] {
        assert!(
            told.contains(&format!("routes[0].{key}")),
            "{key} is not in {told}"
        );
    }
}

#[test]
fn what_the_machine_does_not_allow_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = taken.local_addr().expect("is bound");
    let folder = plain_folder("");
    let path = folder.path().join("routes.yaml");
    let text = std::fs::read_to_string(&path).expect("is there");
    let changed = text
        .replacen("127.0.0.1:0", &address.to_string(), 1)
        .replace(
            "registry: {memory: {}}",
            "registry: {sqlite: {path: nowhere/lg.db}}",
        );
    std::fs::write(&path, changed).expect("is writable");
    let (status, _, told) = run(&["check", "-c", "routes.yaml"], folder.path());
    assert_eq!(status, 1);
    assert!(
        told.contains(&format!("server.listen: can't bind {address}")),
        "{told}"
    );
    assert!(told.contains("registry: can't write beside"), "{told}");
}

#[test]
fn the_file_of_a_running_gateway_is_checked_beside_it() {
    let folder = plain_folder("");
    let path = folder.path().join("routes.yaml");
    let (_process, listen, admin) = serve_with_limit(folder.path(), "-n 1024");
    let text = std::fs::read_to_string(&path).expect("is there");
    let changed = text
        .replacen("127.0.0.1:0", &listen.to_string(), 1)
        .replacen("127.0.0.1:0", &admin.to_string(), 1);
    std::fs::write(&path, changed).expect("is writable");
    let (status, said, told) = run(&["check", "-c", "routes.yaml"], folder.path());
    assert_eq!(status, 0, "{said}{told}");
}
