//! The admin listener: who may ask, over TLS or not.

use serde_json::json;

use testkit::*;

fn ask(gateway: &Gateway, request: &Request<'_>) -> Reply {
    let tcp = std::net::TcpStream::connect(gateway.admin).expect("it listens");
    tcp.set_read_timeout(Some(PATIENCE)).expect("is a socket");
    let config = gateway.client_config(&[]);
    exchange(over_tls(tcp, config), &request.to_bytes())
}

fn guarded(clusters: &Clusters) -> Gateway {
    let scene = Scene::new(clusters);
    let path = scene.write();
    let text = std::fs::read_to_string(&path).expect("is there");
    let guarded = "admin: {listen: \"127.0.0.1:0\", authenticators: [staff], \
                   tls: {cert_file: tls.crt, key_file: tls.key}}";
    let text = text.replace("admin: {listen: \"127.0.0.1:0\"}", guarded);
    std::fs::write(&path, text).expect("is writable");
    scene.start_as_written()
}

#[test]
fn a_guarded_admin_listener_wants_a_login_and_tls() {
    let clusters = Clusters::start();
    let gateway = guarded(&clusters);
    let post = |path| Request {
        method: "POST",
        ..Request::get(path)
    };
    for path in ["/livez", "/readyz"] {
        assert_eq!(
            ask(&gateway, &Request::get(path)).status,
            200,
            "a probe has no login"
        );
    }
    for path in ["/metrics", "/clusters", "/config"] {
        let refused = ask(&gateway, &Request::get(path));
        assert_eq!(refused.status, 401);
        assert!(
            refused
                .header("www-authenticate")
                .is_some_and(|value| value.starts_with("Basic"))
        );
        assert_eq!(ask(&gateway, &Request::get(path).basic(ALICE)).status, 200);
        assert_eq!(
            ask(&gateway, &Request::get(path).basic((ALICE.0, "wrong"))).status,
            401
        );
    }
    let robot =
        token(json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "root", "exp": 4_000_000_000_u64}));
    assert_eq!(
        ask(&gateway, &Request::get("/config").bearer(&robot)).status,
        403
    );
    assert_eq!(ask(&gateway, &post("/reload")).status, 401);
    assert_eq!(
        ask(&gateway, &post("/reload").basic(ALICE)).status,
        403,
        "alice is no administrator"
    );
    let reloaded = ask(&gateway, &post("/reload").basic(ROOT));
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    let drain = "/clusters/livy/drain";
    assert_eq!(ask(&gateway, &post(drain)).status, 401);
    assert_eq!(ask(&gateway, &post(drain).basic(ALICE)).status, 403);
    let drained = ask(&gateway, &post(drain).basic(ROOT)).json();
    assert_eq!(drained["state"], "draining");
    let by = drained["orders"][0]["by"].as_str().expect("somebody");
    assert!(by.starts_with("root, "), "{by}");
    let plain = admin(gateway.admin, "/livez");
    assert_ne!(plain.status, 200, "it is TLS only");
}

#[test]
fn an_address_that_others_reach_needs_a_guard() {
    let folder = plain_folder("");
    let path = folder.path().join("routes.yaml");
    let text = std::fs::read_to_string(&path).expect("is there");
    let check = |admin: &str| {
        let changed = text.replace("admin: {listen: \"127.0.0.1:0\"}", admin);
        assert_ne!(changed, text);
        std::fs::write(&path, changed).expect("is writable");
        run(&["check", "-c", "routes.yaml"], folder.path())
    };
    let (status, _, told) = check("admin: {listen: \"0.0.0.0:0\"}");
    assert!(
        status == 1 && told.contains("everybody who reaches 0.0.0.0:0"),
        "{told}"
    );
    let (status, _, told) = check("admin: {listen: \"0.0.0.0:0\", open: true}");
    assert_eq!(status, 0, "{told}");
    let (status, _, told) = check("admin: {listen: \"0.0.0.0:0\", authenticators: [open]}");
    assert_eq!(status, 0, "{told}");
    let (status, _, told) = check("admin: {listen: \"127.0.0.1:0\", authenticators: [opne]}");
    assert!(
        status == 1 && told.contains("did you mean `open`"),
        "{told}"
    );
}
