//! `registry export`, `import`, `prune`, `stats` and `verify`.

use std::path::Path;

use serde_json::{Value, json};
use testkit::servers::postgres::Postgres;
use testkit::*;

/// Runs a `registry` command in a gateway's folder: status, stdout, stderr.
fn registry(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let (command, rest) = arguments.split_first().expect("a command");
    let arguments = [&["registry", command, "-c", "routes.yaml"], rest].concat();
    run(&arguments, folder)
}

#[track_caller]
fn done(folder: &Path, arguments: &[&str]) -> (String, String) {
    let (status, out, err) = registry(folder, arguments);
    assert_eq!(status, 0, "{arguments:?}: {out}{err}");
    (out, err)
}

fn json_of(folder: &Path, arguments: &[&str]) -> Value {
    let (status, out, err) = registry(folder, arguments);
    serde_json::from_str(&out).unwrap_or_else(|_| panic!("{status}: {out}{err}"))
}

fn write(folder: &Path, lines: &[Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(folder.join("lines.jsonl"), text).expect("is writable");
}

fn stop(gateway: &mut Gateway) {
    gateway.process.signal("-TERM");
    gateway.process.ended();
}

/// A gateway before the simulated Livy and Kyuubi, with a live batch and an ended one at each.
fn busy(clusters: &Clusters) -> (Gateway, Vec<i64>) {
    let gateway = Scene::new(clusters)
        .with_cluster("livy", "freshness: 0s")
        .start();
    let mut ids = Vec::new();
    for flavor in ["livy", "kyuubi"] {
        let running = gateway.submit(flavor, &json!({"name": format!("runs on {flavor}")}));
        gateway.wait_for_state(running, "running");
        ids.push(running);
        let ended = gateway.submit(flavor, &json!({"args": ["0.1"]}));
        gateway.wait_for_state(ended, "success");
        ids.push(ended);
    }
    (gateway, ids)
}

fn shown(gateway: &Gateway) -> Value {
    let mut list = gateway.get("/batches?size=100").json();
    for batch in list["sessions"].as_array_mut().expect("a list") {
        // What its cluster says of it meanwhile.
        batch["log"] = Value::Null;
        batch["appInfo"] = Value::Null;
    }
    list
}

#[test]
fn a_registry_moves_with_its_ids_while_its_gateway_runs() {
    let clusters = Clusters::start();
    let (mut old, ids) = busy(&clusters);
    let keyed = Request::post(
        "/clusters/livy/batches",
        &json!({"file": "hdfs:///k.py", "args": ["600"]}),
    )
    .basic(ALICE)
    .header("Idempotency-Key", "k");
    let with_key = old.send(&keyed).json()["id"].clone();
    old.wait_for_state(with_key.as_i64().expect("an id"), "running");
    let folder = old.scene.folder.path().to_owned();
    let (_, said) = done(&folder, &["export", "-o", "lines.jsonl"]);
    assert!(said.contains("5 batches"), "{said}");
    let (piped, _) = done(&folder, &["export"]);
    assert_eq!(
        piped.lines().count(),
        6,
        "a head line, and one for each batch"
    );
    let before = shown(&old);
    stop(&mut old);
    let new = Scene::new(&clusters);
    new.write();
    let lines = folder.join("lines.jsonl");
    let lines = lines.to_str().expect("is text");
    let at = new.folder.path().to_owned();
    let (_, said) = done(&at, &["import", lines]);
    assert!(said.contains("5 new"), "{said}");
    let (_, said) = done(&at, &["import", lines]);
    assert!(
        said.contains("0 new, 0 brought up to date; 5 here already"),
        "{said}"
    );
    let new = new.start();
    assert_eq!(shown(&new), before);
    assert_eq!(
        new.send(&keyed).json()["id"],
        with_key,
        "keys are remembered"
    );
    let next = new.submit("livy", &json!({}));
    assert!(next > ids[3], "ids go on: {next}");
    assert_eq!(json_of(&at, &["verify", "--format", "json"])["ok"], true);
}

#[test]
fn nothing_is_written_beside_a_gateway_that_runs() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters).start();
    let folder = gateway.scene.folder.path();
    write(
        folder,
        &[json!({"id": 3, "cluster": "livy", "state": "dead"})],
    );
    for command in [
        &["import", "lines.jsonl"][..],
        &["prune", "--older-than", "0s", "--yes"],
    ] {
        let (status, _, told) = registry(folder, command);
        assert_eq!(status, 1, "{told}");
        assert!(told.contains("another gateway is using it"), "{told}");
    }
}

#[test]
fn the_ids_of_an_old_gateway_are_brought_along() {
    let clusters = Clusters::start();
    let body = json!({"file": "hdfs:///x.py", "name": "nightly", "args": ["600"]});
    let nightly = clusters
        .direct("livy", "POST", "/batches", Some(&body))
        .json()["id"]
        .clone();
    let body = json!({"file": "hdfs:///x.py", "name": "other", "args": ["600"]});
    let other = clusters
        .direct("livy", "POST", "/batches", Some(&body))
        .json()["id"]
        .clone();
    let scene = Scene::new(&clusters).with_cluster("livy", "freshness: 0s");
    scene.write();
    write(
        scene.folder.path(),
        &[
            json!({"id": 4711, "cluster": "livy", "upstream_id": nightly, "owner": "alice", "name": "nightly", "state": "running"}),
            // Whoever does not know a name leaves it out.
            json!({"id": 4712, "cluster": "livy", "upstream_id": other.to_string(), "owner": "alice", "state": "starting"}),
            json!({"id": 4713, "cluster": "livy", "owner": "alice", "name": "forgotten", "state": "success"}),
        ],
    );
    let (_, said) = done(scene.folder.path(), &["import", "--dry-run", "lines.jsonl"]);
    assert!(said.contains("would import: 3 new"), "{said}");
    done(scene.folder.path(), &["import", "lines.jsonl"]);
    let gateway = scene.start();
    for id in [4711, 4712] {
        gateway.wait_for_state(id, "running");
    }
    let item = gateway.get("/batches/4711").json();
    assert_eq!(
        (&item["name"], &item["owner"]),
        (&json!("nightly"), &json!("alice"))
    );
    assert_eq!(gateway.get("/batches/nightly/state").json()["id"], 4711);
    let forgotten = gateway.get("/batches/4713").json();
    assert_eq!(
        (&forgotten["state"], &forgotten["name"]),
        (&json!("success"), &json!("forgotten"))
    );
    let list = gateway.get("/batches").json();
    assert_eq!(list["total"], 3, "none of them is here twice: {list}");
    assert_eq!(gateway.submit("livy", &json!({})), 4714);
    assert_eq!(gateway.delete("/batches/4712").status, 200);
    let states: Vec<Value> = clusters
        .books("livy")
        .into_iter()
        .map(|job| job["state"].clone())
        .collect();
    assert_eq!(
        states.iter().filter(|state| **state == "killed").count(),
        1,
        "{states:?}"
    );
    let bob = gateway.send(&Request::get("/batches/4711").basic(BOB));
    assert_eq!(bob.status, 404, "it has an owner");
}

#[test]
fn every_mistake_is_told_with_its_line_and_nothing_is_done() {
    let clusters = Clusters::start();
    let scene = Scene::new(&clusters);
    scene.write();
    let folder = scene.folder.path();
    let text = r#"{"id": 1, "cluster": "livy", "upstream_id": "5", "state": "running"}
{"id": 2, "cluster": "livy", "upstream_id": "5", "state": "running"}

{"id": 3, "cluster": "livy", "state": "running"}
{"id": 4, "cluster": "livy", "stat": "running", "state": "dead"}
{"id": 5, "cluster": "livy", "state": "dead"
{"id": 1, "cluster": "knox", "upstream_id": "6", "state": "running"}
{"id": 6, "cluster": "nowhere", "upstream_id": "7", "state": "running"}
"#;
    std::fs::write(folder.join("lines.jsonl"), text).expect("is writable");
    let (status, _, told) = registry(folder, &["import", "lines.jsonl"]);
    assert_eq!(status, 1);
    insta::assert_snapshot!("import_mistakes", told);
    assert_eq!(
        json_of(folder, &["stats", "--format", "json"])["batches"],
        0
    );
    let good: String = text
        .lines()
        .take(1)
        .chain(text.lines().skip(7))
        .collect::<Vec<_>>()
        .join("\n");
    std::fs::write(folder.join("lines.jsonl"), good).expect("is writable");
    let (_, said) = done(folder, &["import", "lines.jsonl"]);
    assert!(said.contains("note: 1 batch is of \"nowhere\""), "{said}");
    let cut = format!(
        "{}\n{}",
        json!({"livy_gateway_registry": 1, "batches": 2}),
        json!({"id": 9, "cluster": "livy", "state": "dead"})
    );
    std::fs::write(folder.join("lines.jsonl"), cut).expect("is writable");
    let (status, _, told) = registry(folder, &["import", "lines.jsonl"]);
    assert!(status == 1 && told.contains("it is cut short"), "{told}");
}

#[test]
fn what_is_over_is_pruned_and_what_lives_stays() {
    let clusters = Clusters::start();
    let (mut gateway, ids) = busy(&clusters);
    stop(&mut gateway);
    let folder = gateway.scene.folder.path().to_owned();
    let (said, why) = done(&folder, &["prune", "--older-than", "30d"]);
    assert_eq!(said, "would remove 0 of 4 batches; --yes does it\n");
    assert!(why.contains("note: gateways have been running"), "{why}");
    let (said, _) = done(&folder, &["prune", "--older-than", "0s"]);
    assert_eq!(said, "would remove 2 of 4 batches; --yes does it\n");
    let (said, _) = done(&folder, &["prune", "--older-than", "0s", "--yes"]);
    assert_eq!(said, "removed 2 of 4 batches\n");
    let gateway = gateway.killed_and_restarted();
    for (at, id) in ids.iter().enumerate() {
        let wanted = if at % 2 == 0 { 200 } else { 404 };
        assert_eq!(gateway.get(&format!("/batches/{id}")).status, wanted);
    }
    assert!(
        gateway.submit("livy", &json!({})) > ids[3],
        "ids are not given again"
    );
}

#[test]
fn what_a_registry_holds_is_counted_and_looked_over() {
    let clusters = Clusters::start();
    let (mut gateway, ids) = busy(&clusters);
    let folder = gateway.scene.folder.path().to_owned();
    let stats = json_of(&folder, &["stats", "--format", "json"]);
    assert_eq!(
        stats["clusters"]["livy"]["live"], 1,
        "beside a gateway: {stats}"
    );
    assert_eq!(
        (&stats["batches"], &stats["highest_id"]),
        (&json!(4), &json!(ids[3]))
    );
    let (table, _) = done(&folder, &["stats"]);
    let line = table
        .lines()
        .find(|line| line.starts_with("kyuubi"))
        .expect("a line");
    assert!(line.split_whitespace().nth(1) == Some("2"), "{table}");
    done(&folder, &["verify"]);
    stop(&mut gateway);
    let broken = rusqlite::Connection::open(folder.join("livy-gateway.db")).expect("opens");
    let damage = "UPDATE counts SET shown = shown + 1 WHERE level = 0 AND owner = '' AND cluster = 'livy'; UPDATE live SET batches = 7 WHERE cluster = 'livy';
        UPDATE batches SET upstream_id = NULL, state = 'starting' WHERE id = 1; UPDATE batches SET state = 'idle' WHERE id = 2;
        UPDATE sqlite_sequence SET seq = 2 WHERE name = 'batches';";
    broken.execute_batch(damage).expect("is done");
    drop(broken);
    let (status, out, told) = registry(&folder, &["verify"]);
    assert_eq!(status, 1, "{out}");
    assert!(told.contains("of 14 checks failed"), "{told}");
    insta::assert_snapshot!(
        "verify_finds",
        out.replace(&folder.display().to_string(), "FOLDER")
    );
    let verdict = json_of(&folder, &["verify", "--format", "json"]);
    assert_eq!(verdict["ok"], false);
}

#[test]
fn without_a_registry_there_is_nothing_to_do() {
    let folder = plain_folder("");
    for command in [
        &["export"][..],
        &["import", "routes.yaml"],
        &["stats"],
        &["verify"],
    ] {
        let (status, _, told) = registry(folder.path(), command);
        assert!(status == 1 && told.contains("keeps nothing"), "{told}");
    }
    let clusters = Clusters::start();
    let scene = Scene::new(&clusters);
    scene.write();
    let (status, _, told) = registry(scene.folder.path(), &["export"]);
    assert!(
        status == 1 && told.contains("there is no registry at"),
        "{told}"
    );
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_registry_moves_to_postgres_and_back() {
    let (database, clusters) = (Postgres::start(), Clusters::start());
    let (mut old, _) = busy(&clusters);
    let before = shown(&old);
    stop(&mut old);
    let folder = old.scene.folder.path().to_owned();
    done(&folder, &["export", "-o", "lines.jsonl"]);
    let lines = folder.join("lines.jsonl");
    let lines = lines.to_str().expect("is text");
    let top = format!("registry: {{postgres: {{url: \"{}\"}}}}", database.url());
    let scene = Scene::new(&clusters)
        .with_cluster("livy", "freshness: 0s")
        .with_top(&top);
    scene.write();
    let at = scene.folder.path().to_owned();
    let (status, _, told) = registry(&at, &["export"]);
    assert!(
        status == 1 && told.contains("there is no registry in the database"),
        "{told}"
    );
    done(&at, &["import", lines]);
    let verdict = json_of(&at, &["verify", "--format", "json"]);
    assert_eq!(verdict["ok"], true, "{verdict}");
    let mut gateway = scene.start();
    assert_eq!(shown(&gateway), before);
    let (status, _, told) = registry(&at, &["import", lines]);
    assert!(status == 1 && told.contains("stop them first"), "{told}");
    let next = gateway.submit("livy", &json!({}));
    gateway.wait_for_state(next, "running");
    assert_eq!(
        json_of(&at, &["stats", "--format", "json"])["highest_id"],
        next
    );
    let verdict = json_of(&at, &["verify", "--format", "json"]);
    assert_eq!(verdict["ok"], true, "{verdict}");
    let (said, _) = done(&at, &["prune", "--older-than", "0s", "--yes"]);
    assert_eq!(said, "removed 2 of 5 batches\n", "beside a gateway");
    let before = shown(&gateway);
    stop(&mut gateway);
    done(&at, &["export", "-o", "lines.jsonl"]);
    let back = Scene::new(&clusters).with_cluster("livy", "freshness: 0s");
    back.write();
    let lines = at.join("lines.jsonl");
    done(
        back.folder.path(),
        &["import", lines.to_str().expect("is text")],
    );
    let back = back.start();
    assert_eq!(shown(&back), before);
    assert!(back.submit("livy", &json!({})) > next);
}
