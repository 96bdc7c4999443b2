//! Sockets: limits, deadlines, TLS, the drain.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use serde_json::json;

use testkit::*;

/// Reads until the other side closes, and returns how long that took.
fn closed_after(stream: &mut impl std::io::Read) -> Duration {
    let started = Instant::now();
    let mut buffer = [0; 1024];
    while matches!(stream.read(&mut buffer), Ok(count) if count > 0) {}
    started.elapsed()
}

/// Tells whether the other side has closed a connection on which it says nothing.
fn is_closed(mut stream: &std::net::TcpStream) -> bool {
    stream.set_nonblocking(true).expect("is a socket");
    !matches!(stream.read(&mut [0; 16]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn silent_and_slow_peers_are_shown_the_door() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_server("timeouts: {request_head: 1s, request_body: 1s, idle: 1s}")
        .start();
    // Says nothing at all.
    assert!(closed_after(&mut gateway.tcp()) < PATIENCE / 2);
    // A handshake, then nothing.
    let mut silent = gateway.tls(&[b"http/1.1"]);
    silent.flush().expect("a handshake");
    assert!(closed_after(&mut silent) < PATIENCE / 2);
    // Half a head.
    let mut slow = gateway.tls(&[b"http/1.1"]);
    slow.write_all(b"GET /batches HTTP/1.1\r\nHost: x\r\n")
        .expect("is sent");
    assert!(closed_after(&mut slow) < PATIENCE / 2);
    // A head, and a body that never comes.
    let mut stalled = gateway.tls(&[b"http/1.1"]);
    let head = Request {
        method: "POST",
        ..Request::get("/batches")
    }
    .basic(ALICE)
    .header("Content-Length", "10")
    .to_bytes();
    stalled.write_all(&head).expect("is sent");
    read_reply(&mut stalled).error(408, "request_timeout");
    // Idle between two requests.
    let mut idle = gateway.tls(&[b"http/1.1"]);
    let request = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n";
    idle.write_all(request).expect("is sent");
    assert_eq!(read_reply(&mut idle).status, 401);
    assert!(closed_after(&mut idle) < PATIENCE / 2);
    assert!(
        gateway
            .metric(r#"livy_gateway_connections_total{listener="127.0.0.1:0",outcome="timeout"}"#)
            >= 1.0
    );
    // The patient are served.
    assert_eq!(gateway.get("/batches").status, 200);
}

#[test]
fn a_connection_serves_many_requests() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let mut stream = gateway.tls(&[b"http/1.1"]);
    let token = token(json!({}));
    for _ in 0..20 {
        write!(
            stream,
            "GET /version HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        .expect("is sent");
        assert_eq!(read_reply(&mut stream).status, 200);
    }
    assert_eq!(
        gateway.metric(r#"livy_gateway_connections_total{listener="127.0.0.1:0",outcome="ok"}"#),
        1.0
    );
}

#[test]
fn heads_and_connections_have_limits() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters)
        .with_server("limits: {request_head: 8KiB, connections: 2}")
        .start();
    let long = Request::get("/batches")
        .basic(ALICE)
        .header("X-Long", &"a".repeat(20_000))
        .to_bytes();
    assert_eq!(exchange(gateway.tls(&[b"http/1.1"]), &long).status, 431);
    gateway.wait_until("that connection is gone", |gateway| {
        gateway.metric(r#"livy_gateway_connections_open{listener="127.0.0.1:0"}"#) == 0.0
    });
    let (mut first, mut second) = (gateway.tls(&[b"http/1.1"]), gateway.tls(&[b"http/1.1"]));
    first.flush().expect("a handshake");
    second.flush().expect("a handshake");
    assert!(
        closed_after(&mut gateway.tcp()) < PATIENCE / 2,
        "a third connection is closed at once"
    );
    assert!(
        gateway.metric(r#"livy_gateway_connections_total{listener="127.0.0.1:0",outcome="limit"}"#)
            >= 1.0
    );
    drop((first, second));
    gateway.wait_until("there is room again", |gateway| {
        gateway
            .try_send(&Request::get("/batches").basic(ALICE).to_bytes())
            .is_some()
    });
}

#[test]
fn what_is_no_tls_is_counted_and_closed() {
    let clusters = Clusters::start();
    let gateway = Scene::new(&clusters).start();
    let mut plain = gateway.tcp();
    plain
        .write_all(b"GET /batches HTTP/1.1\r\nHost: x\r\n\r\n")
        .expect("is sent");
    let mut told = Vec::new();
    let _ = plain.read_to_end(&mut told);
    assert!(
        !told.starts_with(b"HTTP/"),
        "no plain answer to a plain request"
    );
    gateway.wait_until("it was counted", |gateway| {
        gateway
            .metric(r#"livy_gateway_connections_total{listener="127.0.0.1:0",outcome="tls_error"}"#)
            >= 1.0
    });
}

#[test]
fn a_drain_finishes_what_is_in_flight_and_takes_nothing_new() {
    let clusters = Clusters::start();
    let mut gateway = Gateway::over(&clusters);
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "delay_ms": 3000}),
    );
    let mut in_flight = gateway.tls(&[b"http/1.1"]);
    let body = json!({"file": "hdfs:///x.py", "name": "last"});
    in_flight
        .write_all(
            &Request::post("/clusters/livy/batches", &body)
                .basic(ALICE)
                .to_bytes(),
        )
        .expect("is sent");
    in_flight.flush().expect("is sent");
    gateway.wait_until("the submission was on its way", |_| {
        clusters.submissions("livy") == 1
    });
    gateway.process.signal("-TERM");
    gateway.wait_until("it is not ready any more", |gateway| {
        gateway.admin("/readyz").status == 503
    });
    let reply = read_reply(&mut in_flight);
    assert_eq!(
        (reply.status, reply.json()["name"].as_str()),
        (201, Some("last"))
    );
    assert_eq!(gateway.process.ended(), Some(0));
    assert!(gateway.log().contains("\"message\":\"stopped\""));
    assert!(std::net::TcpStream::connect(gateway.address).is_err());
}

#[test]
fn a_drain_is_bounded() {
    let clusters = Clusters::start();
    let mut gateway = Scene::new(&clusters)
        .with_server("drain_timeout: 300ms")
        .start();
    clusters.fault(
        "livy",
        json!({"operation": "create_batch", "delay_ms": 600_000}),
    );
    let mut in_flight = gateway.tls(&[b"http/1.1"]);
    in_flight
        .write_all(
            &Request::post("/clusters/livy/batches", &json!({"file": "hdfs:///x.py"}))
                .basic(ALICE)
                .to_bytes(),
        )
        .expect("is sent");
    in_flight.flush().expect("is sent");
    gateway.wait_until("the submission was on its way", |_| {
        clusters.submissions("livy") == 1
    });
    gateway.process.signal("-TERM");
    assert_eq!(gateway.process.ended(), Some(0));
}

#[test]
fn plain_http_only_when_the_file_says_so() {
    let clusters = Clusters::start();
    let folder = tempfile::tempdir().expect("a folder");
    let yaml = format!(
        "server: {{listen: \"127.0.0.1:0\", PLAIN}}\nadmin: {{listen: \"127.0.0.1:0\"}}\nauthenticators: {{open: {{anonymous: {{user: guest}}}}}}\n\
         clusters: {{a: {{flavor: livy, url: \"http://{}\"}}}}\nroutes: [{{name: all, targets: [{{cluster: a}}]}}]\nregistry: {{memory: {{}}}}\n",
        clusters.address
    );
    std::fs::write(
        folder.path().join("routes.yaml"),
        yaml.replace("PLAIN", "plaintext: false"),
    )
    .expect("is writable");
    let (status, _, told) = run(&["serve"], folder.path());
    assert!(
        status == 1 && told.contains("neither `tls` nor `plaintext: true`"),
        "{told}"
    );
    std::fs::write(
        folder.path().join("routes.yaml"),
        yaml.replace("PLAIN", "plaintext: true"),
    )
    .expect("is writable");
    let (_process, address) = serve(folder.path());
    let stream = std::net::TcpStream::connect(address).expect("connects");
    assert_eq!(
        exchange(stream, &Request::get("/batches").to_bytes()).status,
        200
    );
}

#[test]
fn probes_are_answered_when_descriptors_run_out() {
    // Nobody leaves by himself meanwhile.
    let folder = plain_folder("timeouts: {request_head: 10m, idle: 10m}");
    let (process, address, admin_address) = serve_with_limit(folder.path(), "-n 64");
    assert_eq!(admin(admin_address, "/livez").status, 200);
    let connect = || std::net::TcpStream::connect(address).expect("connects");
    let crowd: Vec<_> = (0..200).map(|_| connect()).collect();
    let until = Instant::now() + PATIENCE;
    // Those for whom there was no descriptor are told so; the others have taken all that there
    // were.
    while crowd.iter().filter(|&one| is_closed(one)).count() < 136 {
        assert!(Instant::now() < until, "too few were sent away");
        std::thread::yield_now();
    }
    let kept = crowd.iter().filter(|&one| !is_closed(one)).count();
    assert!(kept > 10, "{kept} are still there");
    for _ in 0..20 {
        let reply = admin(admin_address, "/livez");
        assert_eq!((reply.status, reply.text().as_str()), (200, "ok\n"));
    }
    let metrics = admin(admin_address, "/metrics").text();
    assert!(
        metrics
            .contains("livy_gateway_connections_total{listener=\"127.0.0.1:0\",outcome=\"limit\"}"),
        "{metrics}"
    );
    process.wait_for("the reason", |line| {
        line.contains("a connection could not be accepted")
            .then_some(())
    });
    drop(crowd);
    while exchange(connect(), &Request::get("/batches").to_bytes()).status != 200 {
        assert!(Instant::now() < until, "it never served again");
    }
}

#[test]
fn silent_connections_do_not_lock_the_probes_out() {
    let folder = plain_folder("");
    let (_process, _, admin_address) = serve_with_limit(folder.path(), "-n 1024");
    let begun = Instant::now();
    let silent: Vec<_> = (0..70)
        .map(|_| std::net::TcpStream::connect(admin_address).expect("connects"))
        .collect();
    // Who says nothing has 10 seconds, but not when all places are taken.
    let in_time = || {
        assert!(
            begun.elapsed() < Duration::from_secs(9),
            "only patience with the silent ones helped"
        )
    };
    while silent.iter().filter(|&one| is_closed(one)).count() < 6 {
        in_time();
        std::thread::yield_now();
    }
    while admin(admin_address, "/livez").status != 200 {
        in_time();
    }
    drop(silent);
}

#[test]
fn too_few_descriptors_are_said_at_start() {
    let folder = plain_folder("limits: {connections: 3000}");
    let (process, ..) = serve_with_limit(folder.path(), "-n 2048");
    let warning = |process: &Process| {
        let seen = process.seen.lock().expect("no panic holds it");
        seen.iter()
            .find(|line| line.contains("\"level\":\"WARN\"") && line.contains("open files"))
            .cloned()
    };
    let line: serde_json::Value =
        serde_json::from_str(&warning(&process).expect("a warning")).expect("JSON");
    assert_eq!(
        (line["soft_limit"].as_u64(), line["connections"].as_u64()),
        (Some(2048), Some(3000))
    );
    assert!(line["message"].as_str().is_some_and(
        |text| text.contains("LimitNOFILE") && text.contains("server.limits.connections")
    ));
    drop(process);
    let folder = plain_folder("limits: {connections: 1000}");
    let (process, ..) = serve_with_limit(folder.path(), "-n 2048");
    assert_eq!(warning(&process), None);
}

#[test]
fn a_stop_still_accepts_for_a_moment_and_ends_at_once_when_told_twice() {
    let folder = plain_folder("drain_delay: 10m");
    let (mut process, listen, admin_address) = serve_with_limit(folder.path(), "-n 1024");
    process.signal("-TERM");
    let until = std::time::Instant::now() + PATIENCE;
    while admin(admin_address, "/readyz").status != 503 {
        assert!(std::time::Instant::now() < until, "it is still ready");
    }
    let tcp = std::net::TcpStream::connect(listen).expect("it still accepts");
    let reply = exchange(tcp, &Request::get("/batches").to_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(process.is_running());
    process.signal("-TERM");
    assert_eq!(process.ended(), Some(0));
}
