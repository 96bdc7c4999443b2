//! Every error that one request can show, in the one shape.

use serde_json::json;

use testkit::*;

#[test]
fn requests_that_make_no_sense_are_told_why() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let post =
        |body: &str| gateway.send(&Request::post_bytes("/batches", body.as_bytes()).basic(ALICE));
    assert!(
        post("{\"file\": ")
            .error(400, "invalid_json")
            .contains("line 1, column 9")
    );
    assert!(
        post("")
            .error(400, "invalid_json")
            .contains("line 1, column 0")
    );
    assert!(
        post("[]")
            .error(400, "invalid_json")
            .contains("one JSON object")
    );
    assert!(
        post(r#"{"file":"/x","classname":"C"}"#)
            .error(400, "unknown_field")
            .contains("\"className\"")
    );
    assert!(
        post(r#"{"file":"/x","args":"a"}"#)
            .error(400, "wrong_type")
            .contains("\"args\" must be a list of texts")
    );
    assert!(
        post(r#"{"file":"/x","driverCores":2.5}"#)
            .error(400, "wrong_type")
            .contains("32-bit integer")
    );
    assert!(
        post(r#"{"file":"/x","conf":["a"]}"#)
            .error(400, "wrong_type")
            .contains("\"conf\"")
    );
    assert!(
        post(r#"{}"#)
            .error(400, "invalid_field")
            .contains("File is required.")
    );
    assert!(
        post(r#"{"file":"a.py"}"#)
            .error(400, "invalid_field")
            .contains("not absolute")
    );
    assert!(
        post(r#"{"file":"/x","name":"123"}"#)
            .error(400, "invalid_field")
            .contains("Invalid session name")
    );
    // None of them reached a cluster.
    assert!(
        FLAVORS
            .iter()
            .all(|(flavor, _)| clusters.submissions(flavor) == 0)
    );
}

#[test]
fn bodies_that_are_not_read_are_415_and_413() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_server("limits: {request_body: 1KiB}")
        .start();
    let post = |kind: &str, body: &[u8]| {
        gateway.send(
            &Request::post_bytes("/batches", body)
                .header("Content-Type", kind)
                .basic(ALICE),
        )
    };
    let told =
        post("application/x-www-form-urlencoded", b"file=/x").error(415, "unsupported_media_type");
    assert!(told.contains("application/json"), "{told}");
    post("multipart/form-data; boundary=x", b"--x--").error(415, "unsupported_media_type");
    let zipped = Request::post("/batches", &json!({"file": "/x"}))
        .header("Content-Encoding", "gzip")
        .basic(ALICE);
    gateway.send(&zipped).error(415, "unsupported_media_type");
    let large = json!({"file": "hdfs:///x.py", "args": ["a".repeat(2000)]});
    assert!(
        gateway
            .post("/batches", &large)
            .error(413, "body_too_large")
            .contains("1024")
    );
    // Without a Content-Length the limit holds as well.
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 2000, "a".repeat(2000));
    let mut request = Request {
        method: "POST",
        ..Request::get("/batches")
    }
    .basic(ALICE)
    .header("Transfer-Encoding", "chunked")
    .to_bytes();
    request.extend_from_slice(chunk.as_bytes());
    exchange(gateway.tls(&[b"http/1.1"]), &request).error(413, "body_too_large");
    // Whatever else it calls itself, it is read as JSON.
    for kind in ["text/plain", "application/octet-stream", ""] {
        assert_eq!(
            post(kind, br#"{"file":"hdfs:///x.py"}"#).status,
            201,
            "{kind}"
        );
    }
    let utf8 = Request::post("/batches", &json!({"file": "hdfs:///x.py"}))
        .header("Content-Encoding", "UTF-8")
        .basic(ALICE);
    assert_eq!(gateway.send(&utf8).status, 201);
}

#[test]
fn wrong_methods_name_the_right_ones() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let send = |method, path| {
        gateway.send(
            &Request {
                method,
                ..Request::get(path)
            }
            .basic(ALICE),
        )
    };
    for (method, path, allow) in [
        ("PUT", "/batches", "GET, HEAD, POST"),
        ("DELETE", "/batches", "GET, HEAD, POST"),
        ("OPTIONS", "/batches", "GET, HEAD, POST"),
        ("PATCH", "/batches/1", "GET, HEAD, DELETE"),
        ("POST", "/batches/1", "GET, HEAD, DELETE"),
        ("DELETE", "/batches/1/state", "GET, HEAD"),
        ("POST", "/batches/1/log", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
    ] {
        let reply = send(method, path);
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
        reply.error(405, "method_not_allowed");
    }
    assert!(
        send("POST", "/livy")
            .error(405, "method_not_allowed")
            .contains("/batches")
    );
}

#[test]
fn paths_that_are_not_served_are_404() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    for path in [
        "/nowhere",
        "/batches/1/logs",
        "/",
        "/livy",
        "/api/v1/batches",
        "/_sandbox/livy/requests",
    ] {
        gateway.get(path).error(404, "unknown_path");
    }
    gateway
        .get("/clusters/nosuch/batches")
        .error(404, "unknown_path");
    for path in ["/sessions", "/sessions/1/statements", "/livy/sessions"] {
        gateway.get(path).error(404, "sessions_not_supported");
        gateway
            .post(path, &json!({"kind": "pyspark"}))
            .error(404, "sessions_not_supported");
    }
    for path in [
        "/batches/999",
        "/batches/0",
        "/batches/-1",
        "/batches/nobody",
        "/batches/999/state",
        "/batches/999/log",
    ] {
        gateway.get(path).error(404, "not_found");
    }
    for path in [
        "/batches/99999999999",
        "/batches?from=a",
        "/batches?size=",
        "/batches/%ff",
        "/batches;x=1",
    ] {
        gateway.get(path).error(400, "bad_request");
    }
    let id = gateway.submit("livy", &json!({}));
    assert_eq!(
        gateway
            .get(&format!("/batches/{id}/log?from=%2B3"))
            .error(400, "bad_request"),
        "For input string: \"+3\""
    );
    assert_eq!(
        gateway
            .get(&format!("/batches/{id}/log?size=99999999999"))
            .error(400, "bad_request"),
        "For input string: \"99999999999\""
    );
}

#[test]
fn fields_that_a_cluster_cannot_honour_are_refused_by_name_or_dropped_aloud() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let ibm = |field: &str, value| {
        let mut body = json!({"file": "cos://b.s/x.py"});
        body[field] = value;
        gateway
            .post("/clusters/ibm/batches", &body)
            .error(400, "unsupported_field")
    };
    assert!(ibm("archives", json!(["cos://b.s/a.zip"])).contains("\"archives\""));
    assert!(ibm("queue", json!("q")).contains("\"queue\""));
    assert!(ibm("proxyUser", json!("alice")).contains("\"proxyUser\""));
    let kyuubi = |body| {
        gateway
            .post("/clusters/kyuubi/batches", &body)
            .error(400, "unsupported_field")
    };
    assert!(kyuubi(json!({"file": "hdfs:///a.jar"})).contains("className"));
    for key in [
        "spark.master",
        "kyuubi.batch.id",
        "spark.kerberos.keytab",
        "spark.kyuubi.batch.id",
        "spark.yarn.principal",
    ] {
        assert!(kyuubi(json!({"file": "hdfs:///a.py", "conf": {key: "x"}})).contains(key));
    }
    assert!(kyuubi(json!({"file": "hdfs:///a.py", "jars": ["hdfs:///a,b.jar"]})).contains("comma"));
    assert!(
        FLAVORS
            .iter()
            .all(|(flavor, _)| clusters.submissions(flavor) == 0)
    );

    let gateway = Scene::new(&clusters)
        .with_cluster("ibm", "on_unsupported: drop")
        .start();
    let body = json!({"file": "cos://b.s/x.py", "queue": "q", "archives": ["cos://b.s/a.zip"]});
    let reply = gateway.post("/clusters/ibm/batches", &body);
    assert_eq!(reply.status, 201, "{}", reply.text());
    assert_eq!(reply.all("x-livy-gateway-warning").len(), 2);
    assert!(
        gateway.metric(
            r#"livy_gateway_translation_notes_total{action="dropped",field="queue",flavor="ibm"}"#
        ) >= 1.0
    );
    // A route over several clusters prefers one that honours everything.
    let reply = gateway.post("/batches", &json!({"file": "hdfs:///x.py", "queue": "q"}));
    assert_ne!(reply.header("x-livy-gateway-cluster"), Some("ibm"));
}

#[test]
fn nothing_of_the_client_reaches_a_cluster_and_nothing_of_a_cluster_the_client() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let request = Request::post(
        "/clusters/knox/batches?_method=DELETE&user.name=eve",
        &json!({"file": "hdfs:///x.py"}),
    )
    .basic(ALICE)
    .header("Cookie", "session=mine")
    .header("X-HTTP-Method-Override", "DELETE")
    .header("X-Forwarded-For", "203.0.113.9")
    .header("Knox-Whatever", "x")
    .header("X-Request-Id", "my-request-7")
    .header(
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    );
    let reply = gateway.send(&request);
    assert_eq!(
        (reply.status, reply.header("x-request-id")),
        (201, Some("my-request-7"))
    );
    for name in ["set-cookie", "server", "www-authenticate"] {
        assert_eq!(reply.header(name), None);
    }
    let requests = clusters.requests("knox");
    let sent = requests
        .iter()
        .find(|request| request["method"] == "POST")
        .expect("arrived");
    let headers = sent["headers"].to_string();
    for word in ["mine", "override", "203.0.113.9", "knox-whatever", ALICE.1] {
        assert!(!headers.contains(word), "{word}: {headers}");
    }
    assert_eq!(sent["query"], "");
    assert!(
        headers.contains("my-request-7")
            && headers.contains("4bf92f3577b34da6a3ce929d0e0e4736")
            && headers.contains("x-requested-by")
    );
    let ours = gateway.send(
        &Request::get("/version")
            .basic(ALICE)
            .header("X-Request-Id", "no spaces allowed"),
    );
    assert_eq!(ours.header("x-request-id").map(str::len), Some(36));
}
