//! The doubles answer as the servers that they play were recorded to.

use testkit::Clusters;
use testkit::scenario::{
    KNOX_DOUBLE, KYUUBI_DOUBLE, Known, Target, assert_alike, documented, recorded, script,
};

/// Jobs of a recording ran for 2.5 and 60 seconds; a double's run for as many seconds as they are
/// told.
fn words() -> Vec<(String, String)> {
    vec![(
        r#""args": ["25"]"#.to_owned(),
        r#""args": ["1"]"#.to_owned(),
    )]
}

fn play(
    folder: &str,
    base: &str,
    recorded_base: &'static str,
    login: Option<(&str, &str)>,
    known: &[Known],
) {
    let clusters = Clusters::start();
    let script = script(folder);
    let target = Target {
        address: clusters.address,
        ca_file: None,
        base: base.to_owned(),
        recorded_base,
        login: login.map(|(user, password)| (user.to_owned(), password.to_owned())),
        words: words(),
    };
    assert_alike(&script, &recorded(&script), &target.play(&script), known);
}

const ACCOUNT: (&str, &str) = (livy_gateway::sandbox::USER, livy_gateway::sandbox::PASSWORD);

#[test]
fn livy_is_as_recorded() {
    play("livy-0.7.1", "", "", None, &[]);
    play("livy-0.7.1-more", "", "", None, &[]);
}

#[test]
fn knox_is_as_recorded() {
    play(
        "knox-2.0.0-livy-0.7.1",
        "/gateway/default/livy",
        "",
        Some(ACCOUNT),
        &[&KNOX[..], &KNOX_DOUBLE].concat(),
    );
}

/// The Knox that was recorded stood before a Livy that had been used before.
const KNOX: [Known; 3] = [
    ("list-empty", "body.sessions[]", "it listed older batches"),
    (
        "list-from1-size1",
        "body.sessions[]",
        "it listed older batches",
    ),
    ("list", "body.sessions[].name", "older batches had no names"),
];

#[test]
fn kyuubi_is_as_recorded() {
    play(
        "kyuubi-1.12.0",
        "/api/v1",
        "/api/v1",
        Some(ACCOUNT),
        &KYUUBI_DOUBLE,
    );
}

/// IBM Analytics Engine can't be run, nor was it recorded: its double is held to the samples of its
/// documentation.
#[test]
fn ibm_is_as_documented() {
    let clusters = Clusters::start();
    let headers = [
        (
            "Authorization".to_owned(),
            format!("Bearer {}", livy_gateway::sandbox::TOKEN),
        ),
        ("Content-Type".to_owned(), "application/json".to_owned()),
    ];
    let submission = r#"{"file": "cos://bucket.service/x.py", "args": ["0.1"]}"#;
    let samples = [
        ("create", "/batches", Some(submission)),
        ("item", "/batches/13", None),
        ("state", "/batches/13/state", None),
        ("list", "/batches", None),
        ("delete", "/batches/13", None),
        ("not found", "/batches/99", None),
    ];
    let script = documented("ibm", &samples, &headers);
    let target = Target {
        address: clusters.address,
        ca_file: None,
        base: format!(
            "/v3/analytics_engines/{}/livy",
            livy_gateway::sandbox::INSTANCE
        ),
        recorded_base: "",
        login: None,
        words: Vec::new(),
    };
    assert_alike(&script, &recorded(&script), &target.play(&script), &IBM);
}

const IBM: [Known; 4] = [
    ("create", "status", "not documented; 201 is Livy's"),
    (
        "*",
        "header content-type",
        "the samples do not show headers",
    ),
    (
        "not-found",
        "body.",
        "the convention of IBM's other services, whose keys vary",
    ),
    ("list", "body.sessions[].state", "of another moment"),
];
