//! The knobs of the doubles: books, restarts with and without recovery, application ids, IBM's
//! application API.

use std::net::TcpStream;
use std::time::Instant;

use serde_json::{Value, json};

use testkit::*;

fn create(clusters: &Clusters, flavor: &str, name: Option<&str>) -> Value {
    let file = FLAVORS
        .iter()
        .find(|(known, _)| *known == flavor)
        .expect("is a flavor")
        .1;
    let mut body = json!({"file": file, "args": ["600"]});
    if flavor == "kyuubi" {
        body = json!({"batchType": "PYSPARK", "resource": file, "args": ["600"]});
    }
    if let Some(name) = name {
        body["name"] = name.into();
    }
    let reply = clusters.direct(flavor, "POST", "/batches", Some(&body));
    assert!(
        reply.status == 200 || reply.status == 201,
        "{flavor}: {}",
        reply.text()
    );
    reply.json()
}

/// Asks a cluster until its answer fits.
fn wait_for(clusters: &Clusters, flavor: &str, path: &str, fits: impl Fn(&Reply) -> bool) -> Reply {
    let until = Instant::now() + PATIENCE;
    loop {
        let reply = clusters.direct(flavor, "GET", path, None);
        if fits(&reply) {
            return reply;
        }
        assert!(Instant::now() < until, "{flavor}{path}: {}", reply.text());
        std::thread::yield_now();
    }
}

#[test]
fn the_books_keep_what_the_cluster_forgets() {
    let clusters = Clusters::start();
    for flavor in ["livy", "knox", "hdinsight", "ibm", "kyuubi"] {
        let first = create(&clusters, flavor, Some("first"));
        let path = format!("/batches/{}", first["id"].to_string().trim_matches('"'));
        assert_eq!(clusters.direct(flavor, "DELETE", &path, None).status, 200);
        create(&clusters, flavor, Some("second"));
        clusters.restart(flavor);
        let third = create(&clusters, flavor, Some("third"));
        let books = clusters.books(flavor);
        let names: Vec<_> = books
            .iter()
            .map(|one| one["name"].as_str().expect("a name"))
            .collect();
        assert_eq!(names, ["first", "second", "third"], "{flavor}");
        let of = |key: &str| books.iter().map(|one| one[key].clone()).collect::<Vec<_>>();
        assert_eq!(of("deletes"), [1, 0, 0], "{flavor}");
        assert_eq!(of("generation"), [0, 0, 1], "{flavor}");
        assert_eq!(of("known"), [false, false, true], "{flavor}");
        assert_eq!(books[0]["args"], json!(["600"]));
        let killers: Vec<_> = books
            .iter()
            .map(|one| one["killed"]["by_request_id"].as_str())
            .collect();
        assert_eq!(
            killers,
            [None, Some("restart"), None],
            "{flavor}: a restart kills what runs"
        );
        assert!(
            books[0]["killed"]["at_ms"].as_i64() >= books[0]["created_ms"].as_i64(),
            "{flavor}"
        );
        if flavor != "kyuubi" {
            assert_eq!(
                third["id"], first["id"],
                "{flavor}: it counts from its first number again"
            );
        }
    }
}

#[test]
fn the_books_say_who_asked() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let body = json!({"file": "hdfs:///x.py", "args": ["600"], "conf": {"spark.a": "1"}, "proxyUser": "alice"});
    let reply = gateway.post("/clusters/livy/batches", &body);
    let id = reply.json()["id"].as_i64().expect("an id");
    gateway.wait_for_state(id, "running");
    let killed = gateway.delete(&format!("/batches/{id}"));
    let book = &clusters.books("livy")[0];
    assert_eq!(book["x_request_id"].as_str(), reply.header("x-request-id"));
    assert_eq!(
        book["killed"]["by_request_id"].as_str(),
        killed.header("x-request-id")
    );
    assert_eq!(
        (book["proxyUser"].as_str(), book["state"].as_str()),
        (Some("alice"), Some("killed")),
        "{book}"
    );
    assert_eq!(book["conf"], json!({"spark.a": "1"}));
}

#[test]
fn a_livy_that_recovers_goes_through_its_phases() {
    let clusters = Clusters::start();
    std::thread::scope(|scope| {
        for flavor in ["livy", "knox", "hdinsight"] {
            let clusters = &clusters;
            scope.spawn(move || recovers(clusters, flavor));
        }
    });
}

fn recovers(clusters: &Clusters, flavor: &str) {
    create(clusters, flavor, Some("kept"));
    wait_for(clusters, flavor, "/batches/kept", |reply| {
        reply.json()["state"] == "running"
    });
    // Long enough that a busy machine does not sleep through a phase.
    clusters.restart_with(
        flavor,
        &json!({"recover": true, "away_ms": 1500, "unknown_ms": 1500, "recovering_ms": 1500}),
    );
    assert_eq!(
        clusters.direct(flavor, "GET", "/batches", None).status,
        0,
        "{flavor}: it hangs up"
    );
    wait_for(clusters, flavor, "/batches/kept", |reply| {
        reply.status == 404
    });
    assert_eq!(
        clusters.direct(flavor, "GET", "/batches/0", None).status,
        404
    );
    assert_eq!(
        clusters.direct(flavor, "GET", "/batches", None).json()["total"],
        0
    );
    let taken = json!({"file": "hdfs:///x.py", "name": "kept"});
    assert_eq!(
        clusters
            .direct(flavor, "POST", "/batches", Some(&taken))
            .status,
        400,
        "{flavor}: the name is in the store"
    );
    wait_for(clusters, flavor, "/batches/kept", |reply| {
        reply.status == 200 && reply.json()["state"] == "recovering"
    });
    wait_for(clusters, flavor, "/batches/kept", |reply| {
        reply.json()["state"] == "running"
    });
    assert_eq!(
        create(clusters, flavor, None)["id"],
        2,
        "{flavor}: numbers go on"
    );
    assert_eq!(clusters.books(flavor)[0]["killed"], Value::Null);
}

#[test]
fn a_request_does_not_live_through_a_restart() {
    let clusters = Clusters::start();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "before", "delay_ms": 300}),
    );
    let body = json!({"file": "hdfs:///x.py"});
    let reply = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| clusters.direct("livy", "POST", "/batches", Some(&body)));
        let until = Instant::now() + PATIENCE;
        while clusters.submissions("livy") == 0 {
            assert!(Instant::now() < until);
        }
        clusters.restart("livy");
        waiting.join().expect("no panic")
    });
    assert_eq!(
        (reply.status, clusters.books("livy").len()),
        (0, 0),
        "it was cut off, and nothing came of it"
    );
}

#[test]
fn a_create_can_answer_late() {
    let clusters = Clusters::start();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "moment": "after", "delay_ms": 500}),
    );
    let asked = Instant::now();
    let reply = clusters.direct(
        "livy",
        "POST",
        "/batches",
        Some(&json!({"file": "hdfs:///x.py", "args": ["0.1"]})),
    );
    assert_eq!(reply.status, 201);
    assert!(asked.elapsed().as_millis() >= 500);
    assert_eq!(
        clusters
            .direct("livy", "GET", "/batches/0/state", None)
            .json()["state"],
        "success",
        "it ran meanwhile"
    );
}

#[test]
fn livy_shows_application_ids_where_there_is_a_yarn() {
    let clusters = Clusters::start();
    let mut seen = std::collections::HashSet::new();
    for flavor in ["livy", "knox", "hdinsight"] {
        create(&clusters, flavor, Some("a"));
        let without = wait_for(&clusters, flavor, "/batches/a", |reply| {
            reply.json()["state"] == "running"
        })
        .json();
        assert_eq!(without["appId"], Value::Null, "a local master has none");
        clusters.options(flavor, &json!({"app_ids": true}));
        let with = clusters.direct(flavor, "GET", "/batches/a", None).json();
        let id = with["appId"]
            .as_str()
            .expect("an application id")
            .to_owned();
        assert!(id.starts_with("application_"), "{id}");
        seen.insert(id);
        clusters.restart(flavor);
        let starting = create(&clusters, flavor, Some("b"));
        assert_eq!(
            starting["appId"],
            Value::Null,
            "there is none before it runs"
        );
        let again = wait_for(&clusters, flavor, "/batches/b", |reply| {
            reply.json()["state"] == "running"
        })
        .json();
        seen.insert(
            again["appId"]
                .as_str()
                .expect("an application id")
                .to_owned(),
        );
    }
    assert_eq!(
        seen.len(),
        6,
        "no id comes twice, whatever was restarted: {seen:?}"
    );
}

#[test]
fn a_name_of_digits_is_a_number_in_every_script() {
    let clusters = Clusters::start();
    create(&clusters, "livy", None);
    // ARABIC-INDIC DIGIT ZERO.
    let reply = clusters.direct("livy", "GET", "/batches/%D9%A0", None);
    assert_eq!(
        (reply.status, reply.json()["id"].as_i64()),
        (200, Some(0)),
        "{}",
        reply.text()
    );
    let refused = clusters.direct(
        "livy",
        "POST",
        "/batches",
        Some(&json!({"file": "hdfs:///x.py", "name": "\u{661}\u{662}"})),
    );
    assert_eq!(
        (refused.status, refused.json()["msg"].as_str()),
        (400, Some("Invalid session name: \u{661}\u{662}"))
    );
    let unknown = clusters.direct("livy", "GET", "/batches/%D9%A7", None);
    assert_eq!(
        (unknown.status, unknown.json()["msg"].as_str()),
        (404, Some("Session '\u{667}' not found."))
    );
}

#[test]
fn ibm_shows_batches_as_applications_where_a_test_wants_it() {
    let clusters = Clusters::start();
    let ask = |path: &str| {
        let stream = TcpStream::connect(clusters.address).expect("connects");
        let path = format!(
            "/v3/analytics_engines/{}/{path}",
            livy_gateway::sandbox::INSTANCE
        );
        exchange(
            stream,
            &Request::get(&path)
                .bearer(livy_gateway::sandbox::TOKEN)
                .to_bytes(),
        )
    };
    assert_eq!(
        ask("spark_applications").status,
        404,
        "not unless it is wanted"
    );
    clusters.options("ibm", &json!({"applications": true}));
    for at in 0..3 {
        let conf = json!({"spark.app.name": format!("job {at}")});
        let body = json!({"file": "cos://b.s/x.py", "args": ["600", "ok"], "conf": conf});
        assert_eq!(
            clusters
                .direct("ibm", "POST", "/batches", Some(&body))
                .status,
            201
        );
    }
    let running = wait_for(&clusters, "ibm", "/batches/3", |reply| {
        reply.json()["state"] == "running"
    })
    .json();
    let page = ask("spark_applications?limit=2").json();
    let names: Vec<_> = page["applications"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["spark_application_name"].clone())
        .collect();
    assert_eq!(names, ["job 2", "job 1"]);
    assert_eq!(
        page["applications"][0]["spark_application_id"],
        running["appId"]
    );
    let next = ask(&format!(
        "spark_applications?limit=2&start={}",
        page["next"]["start"].as_str().expect("a token")
    ))
    .json();
    assert_eq!(
        (next["applications"].as_array().map(Vec::len), &next["next"]),
        (Some(1), &Value::Null)
    );
    let item = ask(&format!(
        "spark_applications/{}",
        page["applications"][0]["id"].as_str().expect("an id")
    ))
    .json();
    assert_eq!(
        (
            item["state"].as_str(),
            &item["application_details"]["arguments"]
        ),
        (Some("running"), &json!(["600", "ok"]))
    );
    assert_eq!(
        item["application_details"]["conf"]["spark.app.name"],
        "job 2"
    );
    let since = item["submission_time"]
        .as_str()
        .expect("a time")
        .replace('+', "%2B");
    let recent = ask(&format!(
        "spark_applications?submission_time_interval={since},CURRENT"
    ))
    .json();
    assert_eq!(recent["applications"][0]["id"], item["id"]);
    assert_eq!(ask("spark_applications/no-such").status, 404);
}
