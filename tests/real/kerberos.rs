//! SPNEGO: a real Livy that wants it, behind tickets of a real KDC.

use std::path::Path;

use serde_json::json;

use crate::{JOB, log_lines};
use testkit::servers::kerberos::{REALM, Realm};
use testkit::servers::livy::{Livy, LivySetup};
use testkit::{Clusters, Gateway, Scene};

/// The service, as a gateway names it that is told nothing but the URL.
const SERVICE: &str = "HTTP/127.0.0.1";

/// A gateway in front of one cluster, with a keytab.
fn gateway(url: &str, krb5_conf: &str, keytab: &Path, more: &str) -> Gateway {
    let clusters = Clusters::start();
    let mut scene = Scene::new(&clusters);
    scene.clusters = format!(
        "  real: {{flavor: livy, url: \"{url}\", freshness: 0s, health: {{interval: 1h}}, credentials: \
         {{kerberos: {{principal: gateway@{REALM}, keytab: {}{more}}}}}}}\n",
        keytab.display()
    );
    scene.environment = vec![("KRB5_CONFIG", krb5_conf.to_owned())];
    scene
        .with_routes("  - {name: all, targets: [{cluster: real}]}\n")
        .start()
}

fn refreshes(gateway: &Gateway, outcome: &str) -> f64 {
    gateway.metric(&format!(
        "livy_gateway_credential_refresh_total{{cluster=\"real\",kind=\"kerberos\",outcome=\"{outcome}\"}}"
    ))
}

#[track_caller]
fn is_fresh(gateway: &Gateway, id: i64) -> bool {
    let reply = gateway.get(&format!("/batches/{id}/state"));
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.header("x-livy-gateway-stale").is_none()
}

fn submit(gateway: &Gateway, livy: &Livy, seconds: &str) -> i64 {
    let file = format!("{}/light.py", livy.jobs());
    let reply = gateway.post("/batches", &json!({"file": file, "args": [seconds]}));
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()["id"].as_i64().expect("an id")
}

#[test]
fn a_livy_behind_kerberos_is_submitted_to_polled_and_killed_at() {
    let realm = Realm::start();
    realm.add("gateway", "1 hour");
    realm.add(SERVICE, "1 hour");
    let keytab = realm.keytab("gateway", "gateway.keytab");
    let livy = Livy::set_up(&LivySetup {
        kerberos: Some((&realm, SERVICE)),
        ..LivySetup::default()
    });
    let url = format!("http://{}", livy.address);
    let gateway = gateway(&url, &realm.krb5_conf(), &keytab, "");
    let ended = submit(&gateway, &livy, "0.5");
    gateway.wait_longer_for_state(ended, "success", JOB);
    let (_, total, lines) = log_lines(&gateway, ended, "?size=-1");
    assert_eq!(i64::try_from(lines.len()).ok(), Some(total));
    assert!(lines.iter().any(|line| line == "tick 0"), "{lines:#?}");
    let killed = submit(&gateway, &livy, "600");
    gateway.wait_longer_for_state(killed, "running", JOB);
    assert!(is_fresh(&gateway, killed));
    assert_eq!(gateway.get("/batches").json()["total"], 2);
    let batches = format!("{url}/batches");
    assert_eq!(realm.ask(&keytab, &batches)["total"], 2);
    assert_eq!(gateway.delete(&format!("/batches/{killed}")).status, 200);
    assert_eq!(realm.ask(&keytab, &batches)["total"], 1, "it is gone there");
    // Some dozens of requests, each with a token of its own, cost one ticket.
    assert_eq!(refreshes(&gateway, "ok"), 1.0);
    assert!(
        !gateway.log().contains("Negotiate YII"),
        "the log has a token"
    );
}

#[test]
fn keys_that_are_rotated_need_no_restart() {
    let realm = Realm::start();
    realm.add("gateway", "20 seconds");
    realm.add(SERVICE, "1 hour");
    let keytab = realm.keytab("gateway", "gateway.keytab");
    let livy = Livy::set_up(&LivySetup {
        kerberos: Some((&realm, SERVICE)),
        ..LivySetup::default()
    });
    let url = format!("http://{}", livy.address);
    let gateway = gateway(&url, &realm.krb5_conf(), &keytab, "");
    let id = submit(&gateway, &livy, "600");
    gateway.wait_until("tickets are replaced ahead of their end", |gateway| {
        assert!(is_fresh(gateway, id));
        refreshes(gateway, "ok") >= 2.0
    });
    let new = realm.keytab("gateway", "new.keytab");
    gateway.wait_until("the old keys are refused", |gateway| {
        assert!(is_fresh(gateway, id), "the ticket in use lives");
        refreshes(gateway, "refused") >= 1.0
    });
    let before = refreshes(&gateway, "ok");
    std::fs::rename(new, &keytab).expect("renames");
    gateway.wait_until("the new keys are used", |gateway| {
        refreshes(gateway, "ok") > before
    });
    assert!(is_fresh(&gateway, id));
    assert_eq!(gateway.delete(&format!("/batches/{id}")).status, 200);
}

#[test]
fn what_kerberos_refuses_is_told_in_words() {
    let realm = Realm::start();
    realm.add("gateway", "1 hour");
    realm.add(SERVICE, "1 hour");
    let old = realm.keytab("gateway", "old.keytab");
    let good = realm.keytab("gateway", "good.keytab");
    let told = |krb5_conf: &str, keytab: &Path, more: &str| {
        let gateway = gateway("http://127.0.0.1:9", krb5_conf, keytab, more);
        let reply = gateway.post("/batches", &json!({"file": "hdfs:///x.py"}));
        reply.error(503, "upstream_credentials")
    };
    let (here, away) = (realm.krb5_conf(), realm.krb5_conf_away());
    for (expected, told) in [
        ("the keys of gateway@TEST.LOCAL in", told(&here, &old, "")),
        (
            "the KDC knows no service HTTP/nowhere@TEST.LOCAL: set `spn`",
            told(&here, &good, ", spn: HTTP/nowhere@TEST.LOCAL"),
        ),
        ("no KDC of the realm can be reached", told(&away, &good, "")),
        ("the KDC does not know gateway@TEST.LOCAL", {
            realm.remove("gateway");
            told(&here, &good, "")
        }),
    ] {
        assert!(told.contains(expected), "{told}");
        assert!(told.contains("nothing was submitted"), "{told}");
    }
}
