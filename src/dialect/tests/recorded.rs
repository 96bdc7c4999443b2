//! Every answer that real servers were recorded to give goes through its decoder; the canonical
//! twin stands beside it as a snapshot. So do the documented samples of the two services that can't
//! be run.

use std::path::{Path, PathBuf};

use livy_dialect::{Dialect, Flavor, StateReading, UpstreamFault, UpstreamResponse};
use serde_json::{Value, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures")
}

/// Decodes one exchange as the operation that it was.
fn decode(
    dialect: &dyn Dialect,
    method: &str,
    path: &str,
    response: &UpstreamResponse<'_>,
) -> Value {
    let path = path.split('?').next().unwrap_or(path);
    let below = path
        .rsplit_once("/batches")
        .map_or("", |(_, below)| below.trim_matches('/'));
    let parts: Vec<&str> = below.split('/').filter(|part| !part.is_empty()).collect();
    match (method, parts.as_slice()) {
        ("POST", []) => batch(dialect.decode_create(response)),
        ("GET", []) if path.contains("/batches") => match dialect.decode_list(response) {
            Ok(list) => Value::Array(list.batches.into_iter().map(|one| batch(Ok(one))).collect()),
            Err(fault) => refusal(&fault),
        },
        ("DELETE", [_]) => match dialect.decode_delete(response) {
            Ok(deleted) => json!(format!("{deleted:?}")),
            Err(fault) => refusal(&fault),
        },
        (_, [_, "state"]) => match dialect.decode_state(response) {
            Ok((id, reading)) => json!({"id": id, "state": state(&reading)}),
            Err(fault) => refusal(&fault),
        },
        (_, [_, "log" | "localLog"]) => match dialect.decode_log(response) {
            Ok(part) => {
                json!({"from": part.from, "total": part.total, "lines": part.lines.len(), "first": part.lines.first(), "last": part.lines.last()})
            }
            Err(fault) => refusal(&fault),
        },
        _ => batch(dialect.decode_get(response)),
    }
}

fn state(reading: &StateReading) -> Value {
    match reading {
        StateReading::Known(state) => json!(state),
        StateReading::Hold => json!("(hold)"),
        StateReading::Unknown(word) => json!(format!("(unknown: {word})")),
    }
}

fn refusal(fault: &UpstreamFault) -> Value {
    json!({"fault": fault.kind.as_str(), "status": fault.status, "message": fault.message})
}

fn batch(result: Result<livy_dialect::Observed, UpstreamFault>) -> Value {
    match result {
        Ok(seen) => json!({
            "upstreamId": seen.upstream_id, "name": seen.name, "owner": seen.owner, "proxyUser": seen.proxy_user, "state": state(&seen.state),
            "appId": seen.app_id, "appInfo": seen.app_info, "logLines": seen.log.len(), "duplicate": seen.duplicate,
        }),
        Err(fault) => refusal(&fault),
    }
}

fn recorded(folder: &str, flavor: Flavor) {
    let mut files: Vec<PathBuf> = std::fs::read_dir(fixtures().join("recorded").join(folder))
        .expect("a folder")
        .filter_map(Result::ok)
        .map(|file| file.path())
        .collect();
    files.sort();
    assert!(files.len() >= 25, "the recordings of {folder} are there");
    let mut page = String::new();
    for file in files {
        let exchange: Value =
            serde_json::from_slice(&std::fs::read(&file).expect("is readable")).expect("JSON");
        let (request, response) = (&exchange["request"], &exchange["response"]);
        let content_type = response["headers"]
            .as_array()
            .expect("a list")
            .iter()
            .find(|one| {
                one[0]
                    .as_str()
                    .is_some_and(|name| name.eq_ignore_ascii_case("content-type"))
            });
        let body = if response["json"].is_null() {
            response["text"].as_str().unwrap_or_default().to_owned()
        } else {
            response["json"].to_string()
        };
        let seen = UpstreamResponse {
            status: response["status"]
                .as_u64()
                .and_then(|status| u16::try_from(status).ok())
                .expect("a status"),
            content_type: content_type.and_then(|one| one[1].as_str()),
            body: body.as_bytes(),
        };
        let (method, path) = (
            request["method"].as_str().expect("a method"),
            request["path"].as_str().expect("a path"),
        );
        let twin = decode(flavor.dialect(), method, path, &seen);
        let name = file.file_stem().expect("a name").to_string_lossy();
        page.push_str(&format!(
            "{name}: {method} {path} -> {}\n  {twin}\n",
            seen.status
        ));
    }
    insta::assert_snapshot!(folder, page);
}

#[test]
fn livy_0_7_1() {
    recorded("livy-0.7.1", Flavor::Livy);
    recorded("livy-0.7.1-more", Flavor::Livy);
    // On YARN: applications, and a restart with recovery in the middle.
    recorded("livy-0.7.1-yarn", Flavor::Livy);
}

#[test]
fn knox_2_0_0() {
    recorded("knox-2.0.0-livy-0.7.1", Flavor::Knox);
}

#[test]
fn kyuubi_1_10_2() {
    recorded("kyuubi-1.10.2", Flavor::Kyuubi);
}

#[test]
fn kyuubi_1_12_0() {
    recorded("kyuubi-1.12.0", Flavor::Kyuubi);
}

#[test]
fn documented_samples() {
    let samples: Value = serde_json::from_slice(
        &std::fs::read(fixtures().join("documented.json")).expect("is readable"),
    )
    .expect("JSON");
    let mut page = String::new();
    for sample in samples.as_array().expect("a list") {
        let flavor = sample["flavor"]
            .as_str()
            .and_then(Flavor::from_word)
            .expect("a flavor");
        let body = sample["body"]
            .as_str()
            .map_or_else(|| sample["body"].to_string(), str::to_owned);
        let seen = UpstreamResponse {
            status: sample["status"]
                .as_u64()
                .and_then(|status| u16::try_from(status).ok())
                .expect("a status"),
            content_type: sample["type"].as_str(),
            body: body.as_bytes(),
        };
        let (method, path) = (
            sample["method"].as_str().expect("a method"),
            sample["path"].as_str().expect("a path"),
        );
        let twin = decode(flavor.dialect(), method, path, &seen);
        page.push_str(&format!(
            "{flavor}: {} ({method} {path} -> {})\n  {twin}\n",
            sample["what"].as_str().expect("a name"),
            seen.status
        ));
    }
    insta::assert_snapshot!(page);
}
