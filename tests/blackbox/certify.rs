//! `certify`: passes on good endpoints, and on broken ones fails exactly where they are broken.

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use serde_json::Value;

use crate::mutants::{Mutant, of_a_gateway, of_any_endpoint};
use crate::proxy::{Forward, serve, to_gateway, to_server};
use testkit::{ALICE, Clusters, FLAVORS, Gateway, assert_no_secrets, binary};

fn certify(url: &str, more: &[&str]) -> Output {
    let out = Command::new(binary())
        .args(["certify", url])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("certify runs");
    for bytes in [&out.stdout, &out.stderr] {
        assert_no_secrets("a report", &String::from_utf8_lossy(bytes));
    }
    out
}

fn report(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out.stderr)))
}

fn with_verdict(report: &Value, verdict: &str) -> BTreeSet<String> {
    let checks = report["checks"].as_array().expect("a list").iter();
    checks
        .filter(|check| check["verdict"] == verdict)
        .map(|check| check["id"].as_str().expect("a text").to_owned())
        .collect()
}

fn assert_passes(out: &Output) -> Value {
    let report = report(out);
    assert_eq!(
        with_verdict(&report, "failed"),
        BTreeSet::new(),
        "{report:#}"
    );
    assert!(out.status.success());
    assert_eq!(report["left_behind"].as_array().map(Vec::len), Some(0));
    report
}

#[test]
fn every_double_of_livy_is_a_livy() {
    let clusters = Clusters::start();
    let base = format!("http://{}", clusters.address);
    let report = assert_passes(&certify(&base, &["--format", "json"]));
    assert_eq!(report["profile"], "apache-livy");
    // All but the logins, which this one does not have; and no check of the profile was forgotten.
    assert_eq!(with_verdict(&report, "skipped").len(), 2);
    let all = livy_gateway::certify::CHECKS
        .iter()
        .filter(|check| check.livy.is_some())
        .count();
    assert_eq!(report["checks"].as_array().map(Vec::len), Some(all));
    // What was submitted is gone, ghosts included.
    let left = testkit::exchange(
        std::net::TcpStream::connect(clusters.address).expect("the clusters listen"),
        &testkit::Request::get("/batches").to_bytes(),
    );
    assert_eq!(left.json()["total"], 0);
}

/// Knox reads bodies and rewrites paths; a real one fails the same eight checks.
#[test]
fn the_double_of_knox_departs_from_livy_where_knox_does() {
    let clusters = Clusters::start();
    let user = format!(
        "{}:{}",
        livy_gateway::sandbox::USER,
        livy_gateway::sandbox::PASSWORD
    );
    let at = |base: &str| {
        certify(
            &format!("http://{}{base}", clusters.address),
            &["--user", &user, "--format", "json"],
        )
    };
    let failed = with_verdict(&report(&at("/gateway/default/livy/v1")), "failed");
    let bodies = [
        "submit.form",
        "refuse.malformed",
        "refuse.empty",
        "refuse.array",
        "refuse.text_body",
        "refuse.null_body",
    ];
    let wanted = bodies
        .into_iter()
        .chain(["http.item_slash", "http.double_slash"]);
    assert_eq!(failed, wanted.map(str::to_owned).collect());
    assert_passes(&at("/livy"));
}

#[test]
fn the_gateway_keeps_its_promises_before_every_flavor() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let ca = gateway
        .scene
        .folder
        .path()
        .join("tls.crt")
        .display()
        .to_string();
    let user = format!("{}:{}", ALICE.0, ALICE.1);
    std::thread::scope(|scope| {
        for (flavor, file) in FLAVORS {
            let (gateway, ca, user) = (&gateway, &ca, &user);
            scope.spawn(move || {
                let url = format!(
                    "https://localhost:{}/clusters/{flavor}",
                    gateway.address.port()
                );
                let out = certify(
                    &url,
                    &[
                        "--user", user, "--ca", ca, "--format", "json", "--job", file,
                    ],
                );
                let report = assert_passes(&out);
                assert_eq!(report["profile"], "gateway", "{flavor}");
                assert_eq!(
                    with_verdict(&report, "skipped"),
                    BTreeSet::new(),
                    "{flavor}"
                );
                let all = livy_gateway::certify::CHECKS
                    .iter()
                    .filter(|check| check.gateway.is_some())
                    .count();
                assert_eq!(report["checks"].as_array().map(Vec::len), Some(all));
            });
        }
    });
    assert_eq!(
        gateway.get("/batches").json()["total"],
        0,
        "it cleans up after itself"
    );
}

/// Certifies a broken endpoint, and compares what failed with what had to.
fn caught(mutant: Mutant, forward: Arc<Forward>, base: &str, more: &[&str]) -> Result<(), String> {
    let mutant = Arc::new(mutant);
    let address = serve(&mutant, forward);
    let out = certify(
        &format!("http://{address}{base}"),
        &[&["--format", "json"], more].concat(),
    );
    let report = report(&out);
    let failed = with_verdict(&report, "failed");
    let wanted: BTreeSet<String> = mutant.caught_by.iter().map(|id| (*id).to_owned()).collect();
    // What can't be removed is told, and only that.
    let left = report["left_behind"].as_array().map_or(0, Vec::len);
    let honest = (left > 0) == (mutant.name == "DELETE does nothing");
    if failed == wanted && !out.status.success() && honest {
        return Ok(());
    }
    let why: Vec<String> = report["checks"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|check| check["verdict"] == "failed")
        .map(|check| format!("    {} {}", check["id"], check["why"]))
        .collect();
    let left = &report["left_behind"];
    Err(format!(
        "{}:\n  wanted {wanted:?}\n  failed {failed:?}\n  left {left}\n{}",
        mutant.name,
        why.join("\n")
    ))
}

/// Runs all mutants, a few side by side, and tells of every one that was not caught as it should
/// be.
fn all_caught(mutants: Vec<Mutant>, certify_one: impl Fn(Mutant) -> Result<(), String> + Sync) {
    assert!(mutants.len() >= 10);
    let queue = std::sync::Mutex::new(mutants);
    let missed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let Some(mutant) = queue.lock().expect("no panic holds it").pop() else {
                        return;
                    };
                    if let Err(why) = certify_one(mutant) {
                        missed.lock().expect("no panic holds it").push(why);
                    }
                }
            });
        }
    });
    let missed = missed.into_inner().expect("no panic holds it");
    assert!(
        missed.is_empty(),
        "{} mutants:\n{}",
        missed.len(),
        missed.join("\n")
    );
}

#[test]
fn a_broken_livy_fails_exactly_where_it_is_broken() {
    all_caught(of_any_endpoint(), |mutant| {
        let clusters = Clusters::start();
        caught(
            mutant,
            to_server(clusters.address),
            "",
            &["--profile", "apache-livy"],
        )
    });
}

#[test]
fn a_broken_gateway_fails_exactly_where_it_is_broken() {
    let user = format!("{}:{}", ALICE.0, ALICE.1);
    all_caught(
        of_any_endpoint()
            .into_iter()
            .chain(of_a_gateway())
            .collect(),
        |mutant| {
            let clusters = Clusters::start();
            let gateway = Arc::new(Gateway::over(&clusters));
            caught(
                mutant,
                to_gateway(&gateway),
                "/clusters/livy",
                &["--profile", "gateway", "--user", &user],
            )
        },
    );
}

#[test]
fn reports_come_in_three_formats_and_wrong_usage_is_told() {
    let clusters = Clusters::start();
    let base = format!("http://{}", clusters.address);
    let table = certify(&format!("{base}/batches/"), &[]);
    let text = String::from_utf8(table.stdout).expect("UTF-8");
    assert!(
        text.contains("as apache-livy\n") && text.contains("\npassed  submit.created "),
        "{text}"
    );
    assert!(
        text.trim_end()
            .lines()
            .last()
            .is_some_and(|line| line.contains(" 0 failed, 2 skipped, in ")),
        "{text}"
    );
    let junit = String::from_utf8(certify(&base, &["--format", "junit"]).stdout).expect("UTF-8");
    assert!(
        junit.starts_with("<?xml")
            && junit.contains(
                r#"<testcase classname="certify.apache-livy.submit" name="submit.created""#
            ),
        "{junit}"
    );
    let told = |url: &str, more: &[&str]| {
        let out = certify(url, more);
        (
            out.status.code(),
            String::from_utf8(out.stderr).expect("UTF-8"),
        )
    };
    for (url, more, code, words) in [
        ("livy:8998", &[][..], 2, "wanted http://HOST"),
        ("http://u:p@livy", &[], 2, "--user"),
        (
            &base,
            &["--job", "a", "b"],
            2,
            "--job takes one FILE, or three",
        ),
        (&base, &["--timeout", "5"], 2, "wanted for instance 90s"),
        (&base, &["--user", "alice"], 1, "USER:PASSWORD"),
        (
            &base,
            &["--token-file", "/nowhere"],
            1,
            "--token-file: can't read /nowhere",
        ),
        (&base, &["--ca", "/nowhere"], 1, "--ca: can't read /nowhere"),
        (
            "http://127.0.0.1:1",
            &[],
            1,
            "GET /batches?size=1: no answer",
        ),
        (&format!("{base}/livy"), &[], 1, "a login is wanted"),
        (
            &format!("{base}/livy"),
            &["--user", "gateway:wrong-one"],
            1,
            "the login is refused",
        ),
    ] {
        let (status, text) = told(url, more);
        assert_eq!(status, Some(code), "{url} {more:?}: {text}");
        assert!(text.contains(words), "{url} {more:?}: {text}");
        assert!(!text.contains("wrong-one"), "{text}");
    }
    let program = Command::new(binary())
        .args(["certify", "--print-job"])
        .output()
        .expect("certify runs");
    assert_eq!(
        String::from_utf8_lossy(&program.stdout),
        livy_gateway::certify::JOB_PROGRAM
    );
}

#[test]
fn it_ends_in_time_and_when_told_and_cleans_up_all_the_same() {
    let clusters = Clusters::start();
    let base = format!("http://{}", clusters.address);
    let out = certify(&base, &["--timeout", "1s", "--format", "json"]);
    assert_eq!(out.status.code(), Some(1));
    let cut = report(&out);
    assert!(
        cut["checks"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|check| check["why"]
                .as_str()
                .is_some_and(|why| why.contains("time"))),
        "{cut:#}"
    );
    assert_eq!(cut["left_behind"].as_array().map(Vec::len), Some(0));
    // Also where a server is in no hurry at all.
    clusters.fault(
        "livy",
        serde_json::json!({"operation": "get_state", "times": 10_000, "delay_ms": 600_000}),
    );
    let slow = report(&certify(&base, &["--timeout", "1s", "--format", "json"]));
    let success = slow["checks"]
        .as_array()
        .expect("a list")
        .iter()
        .find(|check| check["id"] == "state.success")
        .expect("is told");
    assert!(
        success["why"]
            .as_str()
            .is_some_and(|why| why.contains("the time for the whole suite was over")),
        "{success:#}"
    );
    assert_eq!(slow["left_behind"].as_array().map(Vec::len), Some(0));
    clusters.heal("livy");
    let none_left = || {
        let stream = std::net::TcpStream::connect(clusters.address).expect("the clusters listen");
        testkit::exchange(stream, &testkit::Request::get("/batches").to_bytes()).json()["total"]
            == 0
    };
    assert!(none_left());
    let child = Command::new(binary())
        .args(["certify", &base, "--format", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("certify runs");
    while none_left() {
        std::thread::yield_now();
    }
    assert!(
        Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .expect("kill runs")
            .success()
    );
    let out = child.wait_with_output().expect("it ends");
    assert_eq!(
        (out.status.code(), report(&out)["stopped"].as_bool()),
        (Some(1), Some(true))
    );
    assert!(none_left(), "what was submitted is removed");
}
