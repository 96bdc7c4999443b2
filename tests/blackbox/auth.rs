//! Who gets in.

use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use testkit::*;

#[test]
fn a_401_names_every_scheme_and_reveals_nothing() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    for request in [
        Request::get("/batches"),
        Request::get("/batches").basic(("alice", "wrong")),
        Request::get("/batches").basic(("nobody", "wrong")),
        Request::get("/batches").header("Authorization", "Basic !!!"),
        Request::get("/batches").header("Authorization", "Negotiate abc"),
        Request::get("/batches").header("Authorization", "Bearer x.y.z"),
        Request::get("/nowhere"),
        Request::post_bytes("/batches", b"not even json"),
        Request::get("/batches").basic(ALICE).basic(BOB),
    ] {
        let reply = gateway.send(&request);
        reply.error(401, "unauthenticated");
        let challenges = reply.all("www-authenticate");
        assert_eq!(challenges.len(), 2, "{challenges:?}");
        assert!(challenges[0].starts_with("Basic ") && challenges[1].starts_with("Bearer "));
    }
    let known = gateway
        .send(&Request::get("/batches").basic(("alice", "wrong")))
        .json();
    let unknown = gateway
        .send(&Request::get("/batches").basic(("nobody", "wrong")))
        .json();
    assert_eq!(known["msg"], unknown["msg"]);
    assert!(
        gateway.metric(r#"livy_gateway_auth_total{authenticator="staff",outcome="rejected"}"#)
            >= 2.0
    );
    assert_eq!(gateway.get("/batches").status, 200);
}

#[test]
fn two_credentials_are_refused_also_when_one_was_just_believed() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    assert_eq!(gateway.get("/batches").status, 200);
    gateway
        .send(&Request::get("/batches").basic(ALICE).basic(BOB))
        .error(401, "unauthenticated");
    gateway
        .send(&Request::get("/batches").basic(ALICE).basic(ALICE))
        .error(401, "unauthenticated");
}

#[test]
fn a_password_of_any_length_costs_no_more_than_another() {
    let clusters = Clusters::start();
    let scene = Scene::new(&clusters);
    // sha-crypt's work grows with the length of the password; "secret" is the user's.
    let hash = "$6$c9NG.amuZ.KN5Q.F$TABIyJZR3auz/SXvABrtUatz4dTxagjyfDvMyG05ni/qUM84NwQl7lzXnbm8h4dSzeQZZKaCyVjmQpljPkk0S0";
    let gateway = scene.with_password_line(&format!("six:{hash}")).start();
    assert_eq!(
        gateway
            .send(&Request::get("/version").basic(("six", "secret")))
            .status,
        200
    );
    let short = gateway.send(&Request::get("/version").basic(("six", "wrong")));
    let begun = std::time::Instant::now();
    let long = gateway.send(&Request::get("/version").basic(("six", &"x".repeat(20_000))));
    assert!(
        begun.elapsed() < std::time::Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        long.error(401, "unauthenticated"),
        short.error(401, "unauthenticated")
    );
}

#[test]
fn a_flood_of_logins_is_bounded_and_told_to_come_back() {
    let clusters = Clusters::start();
    // A fifth of a second each: long enough that they pile up.
    let slow = bcrypt::hash("secret", 12).expect("hashes");
    let gateway = Scene::new(&clusters)
        .with_password_line(&format!("slow:{slow}"))
        .start();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = 4 * 16 * cores;
    let replies: Vec<Reply> = std::thread::scope(|scope| {
        let ask = |at: usize| {
            gateway.send(&Request::get("/version").basic(("slow", &format!("wrong-{at}"))))
        };
        let asking: Vec<_> = (0..count).map(|at| scope.spawn(move || ask(at))).collect();
        asking
            .into_iter()
            .map(|one| one.join().expect("no panic"))
            .collect()
    });
    let (full, refused): (Vec<&Reply>, Vec<&Reply>) =
        replies.iter().partition(|reply| reply.status == 429);
    assert!(
        !full.is_empty() && !refused.is_empty(),
        "{} and {}",
        full.len(),
        refused.len()
    );
    for reply in full {
        reply.error(429, "too_many_logins");
        assert_eq!(reply.json()["retryable"], true);
        assert!(
            reply.header("retry-after").is_some() && reply.header("www-authenticate").is_none()
        );
    }
    for reply in refused {
        reply.error(401, "unauthenticated");
    }
    assert!(
        gateway.metric(r#"livy_gateway_auth_total{authenticator="staff",outcome="backend_error"}"#)
            >= 1.0
    );
    // Nobody is shut out for long.
    assert_eq!(
        gateway
            .send(&Request::get("/version").basic(("slow", "secret")))
            .status,
        200
    );
}

#[test]
fn logins_that_nobody_waits_for_cost_no_more_threads() {
    let clusters = Clusters::start();
    let slow = bcrypt::hash("secret", 13).expect("hashes");
    let gateway = Scene::new(&clusters)
        .with_password_line(&format!("slow:{slow}"))
        .start();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = || {
        std::fs::read_dir(format!("/proc/{}/task", gateway.process.id())).map_or(0, Iterator::count)
    };
    let before = threads();
    let mut most = before;
    for at in 0..20 * cores {
        let mut hasty = gateway.tls(&[b"http/1.1"]);
        let request = Request::get("/version")
            .basic(("slow", &format!("wrong-{at}")))
            .to_bytes();
        std::io::Write::write_all(&mut hasty, &request).expect("is sent");
        std::io::Write::flush(&mut hasty).expect("is sent");
        let in_flight = |gateway: &Gateway| {
            gateway.metric(r#"livy_gateway_requests_in_flight{operation="other"}"#)
        };
        gateway.wait_until("it is being checked", |gateway| in_flight(gateway) == 1.0);
        drop(hasty);
        gateway.wait_until("the gateway noticed", |gateway| in_flight(gateway) == 0.0);
        most = most.max(threads());
    }
    assert!(most <= before + cores + 4, "{before} threads became {most}");
    gateway.wait_until("somebody gets in", |gateway| {
        gateway
            .send(&Request::get("/version").basic(("slow", "secret")))
            .status
            == 200
    });
}

#[test]
fn tokens_are_checked_claim_by_claim() {
    let clusters = Clusters::start();
    let gateway = Gateway::over(&clusters);
    let now = jsonwebtoken::get_current_timestamp();
    let status = |token: &str| gateway.send(&Request::get("/version").bearer(token)).status;
    assert_eq!(status(&token(json!({}))), 200);
    assert_eq!(
        status(&token(json!({"aud": ["other", AUDIENCE], "nbf": now - 5}))),
        200
    );
    for (what, claims) in [
        ("expired", json!({"exp": now - 120})),
        ("not yet", json!({"nbf": now + 300})),
        ("another issuer", json!({"iss": "https://evil.test"})),
        ("another audience", json!({"aud": "other"})),
        ("no expiry", json!({"exp": null})),
        ("no audience", json!({"aud": null})),
        ("no issuer", json!({"iss": null})),
        ("no user", json!({"sub": null})),
        ("an empty user", json!({"sub": ""})),
    ] {
        assert_eq!(status(&token(claims)), 401, "{what}");
    }
    let forged = sign(
        json!({}),
        &Header::default(),
        &EncodingKey::from_secret(b"another secret that is long enough!!"),
    );
    assert_eq!(status(&forged), 401);
    let longer_hash = sign(
        json!({}),
        &Header::new(Algorithm::HS384),
        &EncodingKey::from_secret(JWT_SECRET.as_bytes()),
    );
    assert_eq!(
        status(&longer_hash),
        401,
        "an algorithm that is not configured"
    );
    let good = token(json!({}));
    let [_, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    let none = base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        br#"{"alg":"none"}"#,
    );
    assert_eq!(status(&format!("{none}.{payload}.")), 401);
    // RFC 7515 section 4.1.11: what is critical and not understood makes a token invalid, however
    // well it is signed.
    let critical = Header {
        crit: Some(vec!["exp".to_owned()]),
        ..Header::default()
    };
    assert_eq!(
        status(&sign(
            json!({}),
            &critical,
            &EncodingKey::from_secret(JWT_SECRET.as_bytes())
        )),
        401
    );
    assert_eq!(status(&format!("{none}.{payload}.{signature}")), 401);
    for outcome in ["expired", "wrong_audience", "bad_signature"] {
        assert!(
            gateway.metric(&format!(
                "livy_gateway_auth_total{{authenticator=\"robots\",outcome=\"{outcome}\"}}"
            )) >= 1.0,
            "{outcome}"
        );
    }
}

fn pem(name: &str) -> Vec<u8> {
    std::fs::read(format!(
        "{}/tests/fixtures/keys/{name}.pem",
        env!("CARGO_MANIFEST_DIR")
    ))
    .expect("is there")
}

/// A key of each kind, with the algorithm that signs with it.
fn key_pairs() -> Vec<(&'static str, Algorithm, EncodingKey)> {
    let rsa = || EncodingKey::from_rsa_pem(&pem("rsa")).expect("a key");
    vec![
        ("rs", Algorithm::RS256, rsa()),
        ("ps", Algorithm::PS256, rsa()),
        (
            "es",
            Algorithm::ES256,
            EncodingKey::from_ec_pem(&pem("ec")).expect("a key"),
        ),
        (
            "ed",
            Algorithm::EdDSA,
            EncodingKey::from_ed_pem(&pem("ed")).expect("a key"),
        ),
    ]
}

fn key_set(kinds: &[&str]) -> String {
    let keys: Vec<_> = key_pairs()
        .into_iter()
        .filter(|(kind, _, _)| kinds.contains(kind))
        .map(|(kind, algorithm, key)| {
            let mut jwk = Jwk::from_encoding_key(&key, algorithm).expect("a public key");
            jwk.common.key_id = Some(kind.to_owned());
            jwk
        })
        .collect();
    json!({"keys": keys}).to_string()
}

#[test]
fn a_key_set_from_a_file_decides_the_algorithm() {
    let clusters = Clusters::start();
    let scene = Scene::new(&clusters).with_routes("  - {name: all, targets: [{cluster: livy}]}\n");
    std::fs::write(
        scene.folder.path().join("keys.json"),
        key_set(&["rs", "ps", "es", "ed"]),
    )
    .expect("is writable");
    let gateway = with_key_set(scene, "file: keys.json").start();
    let status = |token: &str| gateway.send(&Request::get("/version").bearer(token)).status;
    let with = |algorithm, kid: Option<&str>| Header {
        kid: kid.map(str::to_owned),
        ..Header::new(algorithm)
    };
    for (kind, algorithm, key) in key_pairs() {
        assert_eq!(
            status(&sign(
                json!({"iss": "https://sso.test"}),
                &with(algorithm, Some(kind)),
                &key
            )),
            200,
            "{kind}"
        );
    }
    let (_, _, rsa) = key_pairs().remove(0);
    // The key says RS256; a header that says PS256 for it is refused, though the signature would
    // hold.
    assert_eq!(
        status(&sign(
            json!({"iss": "https://sso.test"}),
            &with(Algorithm::PS256, Some("rs")),
            &rsa
        )),
        401
    );
    assert_eq!(
        status(&sign(
            json!({"iss": "https://sso.test"}),
            &with(Algorithm::RS256, Some("nosuch")),
            &rsa
        )),
        401
    );
    // The oldest trick: the public key as an HMAC secret.
    let public = EncodingKey::from_secret(key_set(&["rs"]).as_bytes());
    assert_eq!(
        status(&sign(
            json!({"iss": "https://sso.test"}),
            &with(Algorithm::HS256, Some("rs")),
            &public
        )),
        401
    );
    assert!(
        gateway.metric(r#"livy_gateway_auth_total{authenticator="sso",outcome="unknown_key"}"#)
            >= 1.0
    );
    // The other authenticator goes on as before.
    assert_eq!(status(&token(json!({}))), 200);
}

fn with_key_set(mut scene: Scene, source: &str) -> Scene {
    scene
        .authenticators
        .push_str(&format!("  sso: {{jwt: {{issuer: \"https://sso.test\", audiences: [{AUDIENCE}], jwks: {{{source}}}}}}}\n"));
    scene
}

#[test]
fn a_key_that_is_new_in_the_set_is_fetched() {
    let clusters = Clusters::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("is bound").port();
    let served: std::sync::Arc<std::sync::Mutex<String>> =
        std::sync::Arc::new(std::sync::Mutex::new(key_set(&["rs"])));
    let answers = served.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            let mut head = [0; 4096];
            let _ = std::io::Read::read(&mut stream, &mut head);
            let body = answers.lock().expect("no panic").clone();
            let _ = std::io::Write::write_all(
                &mut stream,
                format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                )
                .as_bytes(),
            );
        }
    });
    let scene = Scene::new(&clusters).with_routes("  - {name: all, targets: [{cluster: livy}]}\n");
    let gateway = with_key_set(
        scene,
        &format!("url: \"http://127.0.0.1:{port}/keys\", refresh: 1h"),
    )
    .start();
    let with = |algorithm, kid: &str| Header {
        kid: Some(kid.to_owned()),
        ..Header::new(algorithm)
    };
    let pairs = key_pairs();
    let rs = sign(
        json!({"iss": "https://sso.test"}),
        &with(Algorithm::RS256, "rs"),
        &pairs[0].2,
    );
    let es = sign(
        json!({"iss": "https://sso.test"}),
        &with(Algorithm::ES256, "es"),
        &pairs[2].2,
    );
    gateway.wait_until("the first key set was read", |gateway| {
        gateway.metric(r#"livy_gateway_jwks_keys{authenticator="sso"}"#) > 0.0
    });
    assert_eq!(
        gateway.send(&Request::get("/version").bearer(&rs)).status,
        200
    );
    *served.lock().expect("no panic") = key_set(&["rs", "es"]);
    assert_eq!(
        gateway.send(&Request::get("/version").bearer(&es)).status,
        200,
        "a new key is looked for at once"
    );
    assert_eq!(
        gateway.metric(r#"livy_gateway_jwks_keys{authenticator="sso"}"#),
        2.0
    );
    // An issuer that sends nonsense takes no key away.
    *served.lock().expect("no panic") = "<html>down</html>".to_owned();
    assert_eq!(
        gateway.send(&Request::get("/version").bearer(&rs)).status,
        200
    );
}

#[test]
fn an_issuer_that_is_down_is_no_fault_of_the_token() {
    let clusters = Clusters::start();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let port = listener.local_addr().expect("is bound").port();
    // Nobody listens there any more, and nobody else gets the port of a listener that took no
    // connection.
    drop(listener);
    let gateway = with_key_set(
        Scene::new(&clusters),
        &format!("url: \"http://127.0.0.1:{port}/keys\", refresh: 1h"),
    )
    .start();
    let (_, algorithm, key) = key_pairs().remove(0);
    let header = Header {
        kid: Some("rs".to_owned()),
        ..Header::new(algorithm)
    };
    let reply = gateway.send(&Request::get("/version").bearer(&sign(
        json!({"iss": "https://sso.test"}),
        &header,
        &key,
    )));
    reply.error(503, "auth_backend_unavailable");
    assert_eq!(reply.json()["retryable"], true);
    assert!(reply.header("retry-after").is_some() && reply.header("www-authenticate").is_none());
    assert!(
        gateway.metric(r#"livy_gateway_auth_total{authenticator="sso",outcome="backend_error"}"#)
            >= 1.0
    );
    // Whoever needs no key set is served.
    assert_eq!(gateway.get("/version").status, 200);
}

#[test]
fn anonymous_is_only_where_it_is_written_down() {
    let clusters = Clusters::start();
    let mut scene = Scene::new(&clusters);
    scene
        .authenticators
        .push_str("  open: {anonymous: {user: guest}}\n");
    let gateway = scene.start();
    let reply = gateway.send(&Request::post(
        "/clusters/livy/batches",
        &json!({"file": "hdfs:///x.py"}),
    ));
    assert_eq!(
        (reply.status, reply.json()["owner"].as_str()),
        (201, Some("guest"))
    );
    // A credential that does not hold is not anonymity.
    gateway
        .send(&Request::get("/batches").basic(("alice", "wrong")))
        .error(401, "unauthenticated");
}
