//! Every operation on every flavor.

use serde_json::{Value, json};

use testkit::*;

const KEYS: [&str; 8] = [
    "id",
    "name",
    "owner",
    "proxyUser",
    "state",
    "appId",
    "appInfo",
    "log",
];

#[track_caller]
fn assert_is_batch(batch: &Value) {
    let text = batch.to_string();
    let map = batch
        .as_object()
        .unwrap_or_else(|| panic!("no object: {text}"));
    assert_eq!(map.len(), KEYS.len(), "{text}");
    assert!(KEYS.iter().all(|key| map.contains_key(*key)), "{text}");
    assert!(
        batch["id"]
            .as_i64()
            .is_some_and(|id| id > 0 && id <= i64::from(i32::MAX)),
        "{text}"
    );
    let info = batch["appInfo"]
        .as_object()
        .unwrap_or_else(|| panic!("appInfo is no object: {text}"));
    assert!(
        info.contains_key("driverLogUrl") && info.contains_key("sparkUiUrl"),
        "{text}"
    );
    assert!(
        info.values()
            .all(|value| value.is_string() || value.is_null()),
        "{text}"
    );
    assert!(
        batch["log"].as_array().is_some_and(|log| log.len() <= 10),
        "{text}"
    );
}

#[test]
fn every_operation_works_on_every_flavor() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    for (flavor, file) in FLAVORS {
        let name = format!("job-{flavor}");
        let body = json!({"file": file, "name": name, "args": ["0.5", 2, true], "conf": {"spark.x": 1}, "executorCores": "2"});
        // Both kinds of authentication, and both ways to choose the cluster.
        let path = format!("/clusters/{flavor}/batches");
        let reply = gateway.send(&Request::post(&path, &body).bearer(&token(json!({}))));
        assert_eq!(reply.status, 201, "{flavor}: {}", reply.text());
        let batch = reply.json();
        assert_is_batch(&batch);
        let id = batch["id"].as_i64().expect("is checked");
        assert_eq!(
            reply.header("location"),
            Some(format!("/clusters/{flavor}/batches/{id}").as_str())
        );
        assert_eq!(reply.header("x-livy-gateway-cluster"), Some(flavor));
        assert_eq!(reply.header("x-livy-gateway-route"), Some("all"));
        assert!(reply.header("x-livy-gateway-upstream-id").is_some());
        assert_eq!(
            (batch["name"].as_str(), batch["owner"].as_str()),
            (Some(name.as_str()), Some("alice"))
        );

        let item = gateway.get(&format!("/livy/v1/batches/{id}/"));
        assert_eq!(item.status, 200, "{flavor}: {}", item.text());
        assert_is_batch(&item.json());
        let by_name = gateway.get(&format!("/batches/{name}"));
        assert_eq!(by_name.json()["id"], id);
        let states = gateway.wait_for_state(id, "success");
        assert!(
            states
                .iter()
                .all(|state| ["starting", "running", "success"].contains(&state.as_str())),
            "{flavor}: {states:?}"
        );

        let log = gateway.get(&format!("/batches/{id}/log?from=0&size=2"));
        assert_eq!(log.status, 200, "{flavor}: {}", log.text());
        let page = log.json();
        assert_eq!(
            (page["id"].as_i64(), page["from"].as_i64()),
            (Some(id), Some(0))
        );
        let lines = page["log"].as_array().expect("a list").len();
        if flavor == "ibm" {
            assert_eq!((page["total"].as_i64(), lines), (Some(1), 1));
            assert!(log.header("x-livy-gateway-warning").is_some());
        } else {
            assert_eq!(lines, 2, "{flavor}: {page}");
            assert_eq!(page["log"][0], "stdout: ");
            let total = page["total"].as_i64().expect("a number");
            let tail = gateway.get(&format!("/batches/{id}/log?size=3")).json();
            assert_eq!(
                (tail["from"].as_i64(), tail["log"][2].as_str()),
                (Some(total - 3), Some("\nstderr: "))
            );
            let rest = gateway
                .get(&format!("/batches/{id}/log?from=1&size=2147483647"))
                .json();
            assert_eq!(
                rest["log"].as_array().map(Vec::len),
                usize::try_from(total - 1).ok()
            );
        }

        let list = gateway.get(&format!("/clusters/{flavor}/batches")).json();
        assert_eq!(
            (list["from"].as_i64(), list["total"].as_i64()),
            (Some(0), Some(1)),
            "{flavor}: {list}"
        );
        assert_is_batch(&list["sessions"][0]);

        let deleted = gateway.delete(&format!("/batches/{id}"));
        assert_eq!(
            (deleted.status, deleted.text().as_str()),
            (200, r#"{"msg":"deleted"}"#),
            "{flavor}"
        );
        assert_eq!(
            gateway
                .get(&format!("/batches/{id}"))
                .error(404, "not_found"),
            format!("Session '{id}' not found.")
        );
        gateway
            .delete(&format!("/batches/{id}"))
            .error(404, "not_found");
        let list = gateway.get(&format!("/clusters/{flavor}/batches")).json();
        assert_eq!(
            list["total"], 0,
            "{flavor}: what was deleted came back: {list}"
        );
    }
}

#[test]
fn a_failing_job_is_dead_and_a_killed_one_is_gone() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    for (flavor, file) in FLAVORS {
        let body = json!({"file": file.replace("pi", "fail"), "args": ["0.2"]});
        let id = gateway
            .post(&format!("/clusters/{flavor}/batches"), &body)
            .json()["id"]
            .as_i64()
            .expect("an id");
        gateway.wait_for_state(id, "dead");
        let id = gateway.submit(flavor, &json!({}));
        gateway.wait_for_state(id, "running");
        assert_eq!(
            gateway.delete(&format!("/batches/{id}")).status,
            200,
            "{flavor}"
        );
        gateway
            .get(&format!("/batches/{id}/state"))
            .error(404, "not_found");
    }
}

#[test]
fn lists_page_over_all_clusters_in_order_of_ids() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let ids: Vec<i64> = FLAVORS
        .iter()
        .map(|(flavor, _)| gateway.submit(flavor, &json!({})))
        .collect();
    let listed = |query: &str| {
        let list = gateway.get(&format!("/batches{query}")).json();
        let ids: Vec<i64> = list["sessions"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|one| one["id"].as_i64().expect("an id"))
            .collect();
        (
            list["from"].as_i64().expect("a number"),
            list["total"].as_i64().expect("a number"),
            ids,
        )
    };
    assert_eq!(listed(""), (0, 5, ids.clone()));
    assert_eq!(listed("?from=1&size=2"), (1, 5, ids[1..3].to_vec()));
    assert_eq!(listed("?from=-1&size=3"), (-1, 5, ids[..2].to_vec()));
    assert_eq!(listed("?from=4&size=2147483647"), (4, 5, ids[4..].to_vec()));
    assert_eq!(listed("?size=0"), (0, 5, vec![]));
    assert_eq!(listed("?from=99"), (99, 5, vec![]));
}

#[test]
fn bodies_have_livys_keys_in_livys_order() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let id = gateway.submit("livy", &json!({"name": "ordered"}));
    let in_order = |text: &str, keys: &[&str]| {
        let places: Vec<_> = keys
            .iter()
            .map(|key| text.find(&format!("\"{key}\":")))
            .collect();
        assert!(
            places.iter().all(Option::is_some) && places.is_sorted(),
            "{text}"
        );
    };
    in_order(&gateway.get(&format!("/batches/{id}")).text(), &KEYS);
    in_order(
        &gateway.get("/batches").text(),
        &["from", "total", "sessions"],
    );
    in_order(
        &gateway.get(&format!("/batches/{id}/log")).text(),
        &["id", "from", "total", "log"],
    );
    in_order(
        &gateway.get(&format!("/batches/{id}/state")).text(),
        &["id", "state"],
    );
    in_order(
        &gateway.get("/version").text(),
        &["branch", "date", "revision", "url", "user", "version"],
    );
}

#[test]
fn head_is_get_without_a_body() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let id = gateway.submit("livy", &json!({}));
    for path in [
        "/batches",
        "/version",
        &format!("/batches/{id}"),
        &format!("/batches/{id}/state"),
        &format!("/batches/{id}/log"),
    ] {
        let head = gateway.send(
            &Request {
                method: "HEAD",
                ..Request::get(path)
            }
            .basic(ALICE),
        );
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert!(
            head.header("content-length")
                .is_some_and(|length| length != "0"),
            "{path}"
        );
    }
}

#[test]
fn the_same_walk_is_served_over_http_2() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let id = gateway.submit("livy", &json!({}));
    let config = std::sync::Arc::new(gateway.client_config(&[b"h2"]));
    let address = gateway.address;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async move {
        let tcp = tokio::net::TcpStream::connect(address)
            .await
            .expect("connects");
        let name = rustls_pki_types::ServerName::try_from("localhost").expect("a name");
        let tls = tokio_rustls::TlsConnector::from(config)
            .connect(name, tcp)
            .await
            .expect("TLS");
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let io = hyper_util::rt::TokioIo::new(tls);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io)
                .await
                .expect("HTTP/2");
        tokio::spawn(connection);
        for (method, path) in [
            ("GET", format!("/batches/{id}/state")),
            ("HEAD", "/batches".to_owned()),
        ] {
            let request = http::Request::builder()
                .method(method)
                .uri(format!("https://localhost{path}"))
                .header("authorization", format!("Bearer {}", token(json!({}))))
                .body(http_body_util::Empty::<bytes::Bytes>::new())
                .expect("a request");
            let response = sender.send_request(request).await.expect("an answer");
            assert_eq!(response.status(), 200, "{method} {path}");
            let body = http_body_util::BodyExt::collect(response.into_body())
                .await
                .expect("a body")
                .to_bytes();
            assert_eq!(body.is_empty(), method == "HEAD");
        }
    });
}

#[test]
fn a_kyuubi_log_belongs_to_no_reader() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let id = gateway.submit("kyuubi", &json!({"args": ["0.3"]}));
    gateway.wait_for_state(id, "success");
    // Without a position Kyuubi would go on where the last reader stopped; here everybody reads
    // from the same place.
    let first = gateway
        .get(&format!("/batches/{id}/log?from=0&size=3"))
        .json();
    let tail = gateway.get(&format!("/batches/{id}/log")).json();
    let again = gateway
        .get(&format!("/batches/{id}/log?from=0&size=3"))
        .json();
    assert_eq!(first, again);
    assert_eq!(tail["from"], 0);
    assert!(
        clusters
            .requests("kyuubi")
            .iter()
            .filter(|r| r["path"].as_str().is_some_and(|p| p.ends_with("localLog")))
            .all(|r| r["query"]
                .as_str()
                .is_some_and(|q| q.contains("from=") && !q.contains("from=-")))
    );
}
