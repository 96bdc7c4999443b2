//! What polls, lists, logs and kills must not believe: answers that came late, that were meant for
//! somebody else, or that speak of what has taken the place of a batch.

use serde_json::{Value, json};

use testkit::*;

/// A cluster whose silence is proof after a second, and that is asked every time.
const QUICK: &str = "settle: 300ms, freshness: 0s, timeouts: {create_batch: 1s, response: 4s}";

/// By the probes of another one, which nothing else is asked of, tests know that time has passed.
const METRONOME: &str = "hdinsight";

fn gateway(clusters: &Clusters, flavor: &str, more: &str) -> Gateway {
    Scene::new(clusters)
        .with_cluster(flavor, &format!("{QUICK}{more}"))
        .with_cluster(METRONOME, "health: {interval: 500ms}")
        .start()
}

/// Creates a job directly on a cluster, as somebody does who knows nothing of the gateway.
fn foreign(clusters: &Clusters, flavor: &str, name: Option<&str>) {
    let file = if flavor == "ibm" {
        "cos://b.s/foreign.py"
    } else {
        "hdfs:///foreign.py"
    };
    let mut body = json!({"file": file, "args": ["600"]});
    if let Some(name) = name {
        body["name"] = name.into();
    }
    let reply = clusters.direct(flavor, "POST", "/batches", Some(&body));
    assert!(reply.status < 300, "{}", reply.text());
}

fn deletes(clusters: &Clusters, flavor: &str) -> usize {
    let requests = clusters.requests(flavor);
    let deletes = requests.iter().filter(|one| one["method"] == "DELETE");
    deletes.count()
}

/// Returns the jobs that nobody has killed.
fn alive(clusters: &Clusters, flavor: &str) -> Vec<Value> {
    let mut books = clusters.books(flavor);
    books.retain(|job| job["killed"].is_null());
    books
}

fn answer(body: &str) -> Value {
    json!({"status": 200, "content_type": "application/json", "body": body})
}

fn list(gateway: &Gateway, flavor: &str) -> Value {
    let path = format!("/clusters/{flavor}/batches?size=100");
    gateway.send(&Request::get(&path).basic(ROOT)).json()
}

/// An answer that carries another id than was asked for was meant for somebody else.
#[test]
fn an_answer_with_another_id_is_no_proof_for_a_kill() {
    let clusters = Clusters::start();
    for flavor in ["livy", "kyuubi"] {
        let gateway = gateway(&clusters, flavor, ", watch: 1h");
        let others = gateway.submit(flavor, &json!({}));
        let path = gateway.get(&format!("/batches/{others}"));
        let upstream = path
            .header("x-livy-gateway-upstream-id")
            .expect("an id")
            .to_owned();
        let item = clusters.direct(flavor, "GET", &format!("/batches/{upstream}"), None);
        let mine = gateway.submit(flavor, &json!({"name": format!("{flavor}-nightly")}));
        gateway.wait_for_state(mine, "running");
        let fault = json!({"operation": "get_batch", "times": 2, "answer": answer(&item.text())});
        clusters.fault(flavor, fault);
        let told = gateway.delete(&format!("/batches/{mine}"));
        assert_ne!(told.status, 200, "{flavor}: {}", told.text());
        // The wish is remembered, and carried out.
        gateway.wait_until("it was killed", |gateway| {
            gateway.get(&format!("/batches/{mine}")).status == 404
        });
        assert_eq!(deletes(&clusters, flavor), 1, "{flavor}");
        gateway.wait_for_state(others, "running");
    }
}

/// A kill whose connection broke because its cluster restarted is not repeated blindly: the number
/// is somebody else's by now.
#[test]
fn a_kill_is_not_repeated_blindly() {
    let clusters = Clusters::start();
    for (flavor, name) in [("livy", None), ("livy", Some("nightly")), ("ibm", None)] {
        clusters.restart(flavor);
        let gateway = gateway(&clusters, flavor, "");
        let mine = gateway.submit(
            flavor,
            &name.map_or(json!({}), |name| json!({"name": name})),
        );
        gateway.wait_for_state(mine, "running");
        let before = deletes(&clusters, flavor);
        clusters.fault(
            flavor,
            json!({"operation": "delete_batch", "delay_ms": 60_000}),
        );
        let told = std::thread::scope(|scope| {
            let kill = scope.spawn(|| gateway.delete(&format!("/batches/{mine}")));
            gateway.wait_until("it is on its way", |_| deletes(&clusters, flavor) > before);
            clusters.restart(flavor);
            foreign(&clusters, flavor, Some("another"));
            kill.join().expect("no panic")
        });
        assert!(
            [200, 502].contains(&told.status),
            "{flavor}: {}",
            told.text()
        );
        gateway.wait_for_probes(&clusters, METRONOME, 6);
        assert_eq!(
            alive(&clusters, flavor).len(),
            1,
            "{flavor} {name:?}: the stranger's runs on"
        );
        assert_eq!(deletes(&clusters, flavor), before + 1, "{flavor} {name:?}");
    }
}

/// A kill of what has a name of its own names it: whatever happens between the look and the kill,
/// nobody else's job has that name.
#[test]
fn a_kill_names_what_it_means() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy", "");
    let mine = gateway.submit("livy", &json!({}));
    gateway.wait_for_state(mine, "running");
    assert_eq!(gateway.delete(&format!("/batches/{mine}")).status, 200);
    let requests = clusters.requests("livy");
    let kill = requests.iter().find(|one| one["method"] == "DELETE");
    let path = kill.expect("a kill")["path"].as_str().expect("a path");
    assert!(path.starts_with("/batches/livy-gateway-"), "{path}");
    assert!(alive(&clusters, "livy").is_empty());
}

/// A log that comes by number is believed only if the batch is there after it was read; one that
/// says that it is another's is not shown.
#[test]
fn a_log_is_nobody_elses() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_cluster("livy", "freshness: 1h")
        .start();
    let others = gateway.submit("livy", &json!({"args": ["600", "others"]}));
    let log = clusters.direct("livy", "GET", "/batches/0/log", None);
    for name in [json!({}), json!({"name": "nightly"})] {
        let mine = gateway.submit("livy", &name);
        clusters.fault(
            "livy",
            json!({"operation": "get_log", "answer": answer(&log.text())}),
        );
        let told = gateway.get(&format!("/batches/{mine}/log"));
        assert_eq!(
            (told.status, told.header("x-livy-gateway-stale")),
            (200, Some("true")),
            "{}",
            told.text()
        );
    }
    let nightly = others + 2;
    gateway.get(&format!("/batches/{nightly}"));
    clusters.restart("livy");
    for name in ["a", "b", "another"] {
        foreign(&clusters, "livy", Some(name));
    }
    let told = gateway.get(&format!("/batches/{nightly}/log"));
    assert_eq!(
        (told.status, told.header("x-livy-gateway-stale")),
        (200, Some("true")),
        "looked at a moment ago, and another's by now: {}",
        told.text()
    );
}

/// Waits until a batch was looked at again after a list, and makes sure that it runs on.
#[track_caller]
fn runs_on(gateway: &Gateway, clusters: &Clusters, flavor: &str, ids: &[i64]) {
    for _ in 0..2 {
        gateway.wait_for_probes(clusters, METRONOME, 3);
        list(gateway, flavor);
    }
    for id in ids {
        let path = format!("/batches/{id}");
        let told = gateway.send(&Request::get(&path).basic(ROOT)).json();
        assert_eq!(told["state"], "running", "{told}");
    }
    assert_eq!(deletes(clusters, flavor), 0);
}

/// A list that was asked for before its cluster restarted arrives after a new batch got an old
/// number.
#[test]
fn a_list_that_comes_late_ends_nothing() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy", "");
    foreign(&clusters, "livy", Some("old"));
    let old = clusters.direct("livy", "GET", "/batches?from=0&size=200", None);
    clusters.restart("livy");
    let fault =
        json!({"operation": "list_batches", "delay_ms": 2500, "answer": answer(&old.text())});
    clusters.fault("livy", fault);
    let lists = || {
        let requests = clusters.requests("livy");
        let lists = requests.iter().filter(|one| {
            one["query"]
                .as_str()
                .is_some_and(|q| q.contains("size=200"))
        });
        lists.count()
    };
    let before = lists();
    let mine = std::thread::scope(|scope| {
        let asking = scope.spawn(|| list(&gateway, "livy"));
        gateway.wait_until("the list is on its way", |_| lists() > before);
        let mine = gateway.submit("livy", &json!({}));
        gateway.wait_for_state(mine, "running");
        asking.join().expect("no panic");
        mine
    });
    runs_on(&gateway, &clusters, "livy", &[mine]);
}

/// One list of another Livy behind the same address, and one that shows a number twice.
#[test]
fn one_wrong_list_ends_nothing() {
    let (clusters, others) = (Clusters::start(), Clusters::start());
    let gateway = gateway(&clusters, "livy", "");
    let mut ids: Vec<i64> = (0..2).map(|_| gateway.submit("livy", &json!({}))).collect();
    ids.push(gateway.submit("livy", &json!({"name": "nightly"})));
    for id in &ids {
        gateway.wait_for_state(*id, "running");
    }
    for name in ["x", "y", "z"] {
        foreign(&others, "livy", Some(name));
    }
    let mut twice = clusters
        .direct("livy", "GET", "/batches?size=200", None)
        .json();
    let mut first = twice["sessions"][0].clone();
    first["name"] = Value::Null;
    twice["sessions"]
        .as_array_mut()
        .expect("a list")
        .push(first);
    let wrong = others
        .direct("livy", "GET", "/batches?size=200", None)
        .text();
    for body in [wrong, twice.to_string()] {
        let fault = json!({"operation": "list_batches", "times": 1, "answer": answer(&body)});
        clusters.fault("livy", fault);
        list(&gateway, "livy");
        clusters.heal("livy");
        runs_on(&gateway, &clusters, "livy", &ids);
    }
    assert_eq!(list(&gateway, "livy")["total"], 3);
}

/// What a cluster goes on saying for long enough is believed.
#[test]
fn a_number_that_was_given_again_is_lost_after_a_while() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy", ", lost_after: 1s, watch: 500ms");
    let mine = gateway.submit("livy", &json!({}));
    gateway.wait_for_state(mine, "running");
    clusters.restart("livy");
    foreign(&clusters, "livy", Some("another"));
    list(&gateway, "livy");
    gateway.wait_until("it is lost", |gateway| {
        gateway.get(&format!("/batches/{mine}")).json()["state"] == "error"
    });
    gateway.wait_until("the other one is listed", |gateway| {
        list(gateway, "livy")["total"] == 2
    });
    assert_eq!(
        (deletes(&clusters, "livy"), alive(&clusters, "livy").len()),
        (0, 1)
    );
}

/// A 201 without a name names a batch that somebody else has; one that is repeated names one that
/// was there before.
#[test]
fn an_answer_to_a_submission_takes_no_running_batch() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy", "");
    let bobs = gateway.submit("livy", &json!({"name": "nightly"}));
    gateway.wait_for_state(bobs, "running");
    let repeated = clusters.direct("livy", "GET", "/batches/0", None).text();
    for (body, more) in [
        (r#"{"id":0,"state":"starting"}"#, json!({})),
        (&repeated, json!({"name": "weekly"})),
    ] {
        let created = json!({"status": 201, "content_type": "application/json", "body": body});
        clusters.fault(
            "livy",
            json!({"operation": "create_batch", "moment": "after", "answer": created}),
        );
        let mine = gateway.submit("livy", &more);
        gateway.wait_for_state(mine, "running");
        let id = gateway.get(&format!("/batches/{mine}"));
        assert_ne!(
            id.header("x-livy-gateway-upstream-id"),
            Some("0"),
            "{}",
            id.text()
        );
        gateway.wait_for_state(bobs, "running");
    }
    // Its own name, under an old number.
    let ended = gateway.submit("livy", &json!({"name": "daily", "args": ["1"]}));
    let old = clusters
        .direct("livy", "GET", "/batches/daily", None)
        .text();
    gateway.wait_for_state(ended, "success");
    clusters.collect("livy");
    let created = json!({"status": 201, "content_type": "application/json", "body": old});
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "answer": created}),
    );
    let again = gateway.submit("livy", &json!({"name": "daily"}));
    let id = gateway.get(&format!("/batches/{again}"));
    assert_eq!(
        id.header("x-livy-gateway-upstream-id"),
        Some("4"),
        "{}",
        id.text()
    );
    runs_on(&gateway, &clusters, "livy", &[bobs, again]);
}

/// The database is locked at the moment of a bind that takes an id from an older batch.
#[test]
fn what_could_not_be_bound_is_bound_later() {
    let clusters = Clusters::start();
    let gateway = gateway(&clusters, "livy", "");
    let old = gateway.submit("livy", &json!({}));
    gateway.wait_for_state(old, "running");
    clusters.restart("livy");
    let before = clusters.submissions("livy");
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 700}),
    );
    let database = gateway.scene.folder.path().join("livy-gateway.db");
    let locking = rusqlite::Connection::open(&database).expect("opens");
    let mine = std::thread::scope(|scope| {
        let client = scope.spawn(|| gateway.submit("livy", &json!({"args": ["8"]})));
        gateway.wait_until("it is on its way", |_| {
            clusters.submissions("livy") > before
        });
        locking.execute_batch("BEGIN IMMEDIATE").expect("locks");
        gateway.wait_until("the bind was refused", |gateway| {
            gateway.admin("/readyz").text().contains("degraded")
        });
        locking.execute_batch("ROLLBACK").expect("unlocks");
        client.join().expect("no panic")
    });
    gateway.wait_for_state(mine, "success");
    let phase = || -> String {
        let query = format!("SELECT phase || ' ' || state FROM batches WHERE id = {mine}");
        locking
            .query_row(&query, [], |row| row.get(0))
            .expect("is there")
    };
    gateway.wait_until("it is stored", |_| phase() == "bound success");
    assert_eq!(gateway.admin("/readyz").text(), "ok\n");
    clusters.collect("livy");
    let gateway = gateway.killed_and_restarted();
    gateway.wait_for_state(mine, "success");
    assert_eq!(clusters.submissions("livy"), before + 1, "it ran once");
}

/// What its client was told to be deleted, or lost, and shows up again, is killed without anybody
/// listing: a Livy took longer to recover than it was given.
#[test]
fn what_was_told_to_be_gone_is_killed_when_it_shows_up() {
    let clusters = Clusters::start();
    clusters.options("livy", &json!({"app_ids": true}));
    let gateway = gateway(&clusters, "livy", ", lost_after: 1s");
    let ids: Vec<i64> = [
        json!({}),
        json!({"name": "nightly"}),
        json!({}),
        json!({"name": "daily"}),
    ]
    .iter()
    .map(|more| gateway.submit("livy", more))
    .collect();
    for id in &ids {
        gateway.wait_for_state(*id, "running");
        gateway.wait_until("its application is known", |gateway| {
            gateway.get(&format!("/batches/{id}")).json()["appId"].is_string()
        });
    }
    clusters.restart_with("livy", &json!({"recover": true, "unknown_ms": 5000}));
    for id in &ids[..2] {
        gateway.wait_until("it is deleted", |gateway| {
            [200, 404].contains(&gateway.delete(&format!("/batches/{id}")).status)
        });
    }
    for id in &ids[2..] {
        gateway.wait_until("it is lost", |gateway| {
            gateway.get(&format!("/batches/{id}")).json()["state"] == "error"
        });
    }
    let gateway = gateway.killed_and_restarted();
    gateway.wait_until("all are killed", |_| alive(&clusters, "livy").is_empty());
    let killed = r#"livy_gateway_late_jobs_total{action="killed",cluster="livy"}"#;
    gateway.wait_until("and counted", |gateway| gateway.metric(killed) == 4.0);
    assert_eq!(list(&gateway, "livy")["total"], 2, "no twins");
}

/// Another of the same name and number, where nobody had looked at ours since it was submitted.
#[test]
fn a_clients_name_is_told_by_the_application_that_was_learnt() {
    let clusters = Clusters::start();
    clusters.options("livy", &json!({"app_ids": true}));
    let gateway = gateway(&clusters, "livy", "");
    let mine = gateway.submit("livy", &json!({"name": "nightly"}));
    // By itself: nobody polls.
    let database = gateway.scene.folder.path().join("livy-gateway.db");
    let reading = rusqlite::Connection::open(database).expect("opens");
    let is_learnt = || -> bool {
        let query = format!("SELECT app_id IS NOT NULL FROM batches WHERE id = {mine}");
        reading
            .query_row(&query, [], |row| row.get(0))
            .expect("is there")
    };
    gateway.wait_until("its application is learnt", |_| is_learnt());
    clusters.restart("livy");
    let body = json!({"file": "hdfs:///foreign.py", "name": "nightly", "args": ["600", "secret"]});
    assert_eq!(
        clusters
            .direct("livy", "POST", "/batches", Some(&body))
            .status,
        201
    );
    gateway.wait_until("the foreign one runs", |_| {
        let books = clusters.books("livy");
        books.last().is_some_and(|job| job["state"] == "running")
    });
    let log = gateway.get(&format!("/batches/{mine}/log"));
    assert_eq!(
        log.header("x-livy-gateway-stale"),
        Some("true"),
        "{}",
        log.text()
    );
    gateway
        .delete(&format!("/batches/{mine}"))
        .error(502, "kill_unconfirmed");
    assert_eq!(deletes(&clusters, "livy"), 0);
}
