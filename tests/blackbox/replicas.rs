//! Several gateways on one PostgreSQL database are one gateway.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::servers::postgres::Postgres;
use testkit::*;

const QUICK: &str =
    "settle: 300ms, lost_after: 1s, freshness: 0s, timeouts: {create_batch: 5s, response: 2s}";

fn replica(database: &Postgres, clusters: &Clusters) -> Gateway {
    let registry = format!("registry: {{postgres: {{url: \"{}\"}}}}", database.url());
    Scene::new(clusters)
        .with_cluster("livy", QUICK)
        .with_top(&registry)
        .with_routes("  - {name: all, targets: [{cluster: livy}]}\n")
        .start()
}

/// Two replicas on one database, before one cluster.
struct House {
    one: Gateway,
    other: Gateway,
    clusters: Clusters,
    _database: Postgres,
}

fn house() -> House {
    let (database, clusters) = (Postgres::start(), Clusters::start());
    House {
        one: replica(&database, &clusters),
        other: replica(&database, &clusters),
        clusters,
        _database: database,
    }
}

fn job(name: &str) -> Value {
    json!({"file": "hdfs:///x.py", "name": name, "args": ["600"]})
}

fn keyed<'a>(body: &Value, key: &str) -> Request<'a> {
    Request::post("/batches", body)
        .basic(ALICE)
        .header("Idempotency-Key", key)
}

#[test]
#[ignore = "needs PostgreSQL"]
fn what_one_replica_does_the_others_show() {
    let House {
        _database,
        clusters: _clusters,
        one,
        other,
    } = house();
    let id = one.post("/batches", &job("a")).json()["id"]
        .as_i64()
        .expect("an id");
    let path = format!("/batches/{id}");
    assert_eq!(other.get(&path).json()["name"], "a");
    assert_eq!(other.get("/batches").json()["total"], 1);
    assert_eq!(other.delete(&path).status, 200);
    one.wait_until("the kill is heard", |one| one.get(&path).status == 404);
    let next = other.post("/batches", &job("b")).json()["id"].as_i64();
    assert!(next > Some(id), "ids are the same everywhere: {next:?}");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_key_that_is_raced_on_two_replicas_is_one_job() {
    let House {
        _database,
        clusters,
        one,
        other,
    } = house();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "before", "delay_ms": 1_000}),
    );
    let body = job("raced");
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| one.send(&keyed(&body, "k")));
        let second = scope.spawn(|| other.send(&keyed(&body, "k")));
        (first.join().expect("ends"), second.join().expect("ends"))
    });
    assert_eq!(
        (first.status, second.status),
        (201, 201),
        "{} {}",
        first.text(),
        second.text()
    );
    assert_eq!(first.json()["id"], second.json()["id"]);
    assert_eq!(clusters.books("livy").len(), 1);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn an_order_to_one_replica_is_obeyed_by_all() {
    let House {
        _database,
        clusters,
        one,
        other,
    } = house();
    assert_eq!(one.admin_post("/clusters/livy/drain").status, 200);
    other.wait_until("the drain is heard", |other| {
        other.admin("/clusters").text().contains("draining")
    });
    assert_eq!(other.post("/batches", &job("late")).status, 503);
    assert!(clusters.books("livy").is_empty());
}

#[test]
#[ignore = "needs PostgreSQL"]
fn what_is_known_is_shown_while_the_database_is_away() {
    let (database, clusters) = (Postgres::start(), Clusters::start());
    let gateway = replica(&database, &clusters);
    let id = gateway.post("/batches", &job("a")).json()["id"]
        .as_i64()
        .expect("an id");
    let path = format!("/batches/{id}");
    assert_eq!(gateway.get(&path).status, 200);
    database.stop();
    let asked = Instant::now();
    let refused = gateway.post("/batches", &job("b"));
    refused.error(503, "registry_unavailable");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(gateway.get(&path).status, 200, "reads go on");
    assert_eq!(gateway.get(&format!("{path}/state")).status, 200);
    // As long as one of them may wait, for all that was asked.
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "{:?}",
        asked.elapsed()
    );
    assert_eq!(clusters.books("livy").len(), 1, "nothing was sent");
    database.start_again();
    gateway.wait_until("it is back", |gateway| {
        gateway.post("/batches", &job("c")).status == 201
    });
    assert_eq!(gateway.get("/batches").json()["total"], 2);
}

#[test]
#[ignore = "needs PostgreSQL"]
fn what_a_dead_replica_left_open_is_taken_over() {
    let House {
        _database,
        clusters,
        one,
        other,
    } = house();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 60_000, "hang_up": true}),
    );
    std::thread::scope(|scope| {
        let sends = scope.spawn(|| {
            one.try_send(&keyed(&json!({"file": "hdfs:///x.py", "args": ["600"]}), "k").to_bytes())
        });
        other.wait_until("it runs", |_| clusters.books("livy").len() == 1);
        one.process.signal("-KILL");
        assert!(sends.join().expect("ends").is_none(), "nobody was told");
    });
    let again = other.send(&keyed(
        &json!({"file": "hdfs:///x.py", "args": ["600"]}),
        "k",
    ));
    assert_eq!(again.status, 201, "{}", again.text());
    let id = again.json()["id"].as_i64().expect("an id");
    other.wait_longer_for_state(id, "running", Duration::from_secs(60));
    assert_eq!(clusters.books("livy").len(), 1, "it ran once");
}

#[test]
#[ignore = "needs PostgreSQL"]
fn a_replica_that_was_stopped_for_a_while_does_no_harm() {
    let House {
        _database,
        clusters,
        one,
        other,
    } = house();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 2_000, "times": 2}),
    );
    let body = json!({"file": "hdfs:///x.py", "args": ["600"]});
    // What it has to ask the database for.
    let known = other.post("/batches", &job("known")).json()["id"].clone();
    let (first, second, read) = std::thread::scope(|scope| {
        let first = scope.spawn(|| one.send(&keyed(&body, "k")));
        other.wait_until("it runs", |_| clusters.books("livy").len() == 2);
        let reads = scope.spawn(|| {
            // Until one of them is on its way when the process stops.
            loop {
                let asked = Instant::now();
                let read = one.get(&format!("/batches?size=1&from={known}"));
                if read.status != 200 || asked.elapsed() > Duration::from_secs(2) {
                    return read;
                }
            }
        });
        one.process.signal("-STOP");
        let second = other.send(&keyed(&body, "k"));
        one.process.signal("-CONT");
        let read = reads.join().expect("ends");
        (first.join().expect("ends"), second, read)
    });
    assert_eq!(
        read.status,
        200,
        "it took its own sleep for the database's: {}",
        read.text()
    );
    assert_eq!(
        (first.status, second.status),
        (201, 201),
        "{} {}",
        first.text(),
        second.text()
    );
    assert_eq!(first.json()["id"], second.json()["id"]);
    let id = first.json()["id"].as_i64().expect("an id");
    for replica in [&one, &other] {
        replica.wait_longer_for_state(id, "running", Duration::from_secs(60));
        assert_eq!(replica.get("/batches").json()["total"], 2);
    }
    assert_eq!(clusters.books("livy").len(), 2, "it ran once");
}
