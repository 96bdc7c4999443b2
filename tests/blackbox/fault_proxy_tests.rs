//! The fault proxy does what it says: other suites rely on it.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use testkit::fault_proxy::{Action, Door, FaultProxy, MadeUp};
use testkit::*;

fn post(proxy: &FaultProxy, name: &str) -> Reply {
    let body = json!({"file": "hdfs:///x.py", "args": ["600"], "name": name});
    let request = Request::post("/batches", &body)
        .header("X-Requested-By", "a test")
        .header("X-Request-Id", name);
    exchange(
        TcpStream::connect(proxy.address()).expect("the proxy listens"),
        &request.to_bytes(),
    )
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "it never held: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn the_fault_proxy_does_what_it_says() {
    let clusters = Clusters::start();
    let proxy = FaultProxy::start(clusters.address);
    let made_up = |passed_on| {
        let location = Some("/elsewhere".to_owned());
        Action::Answer(MadeUp {
            status: 302,
            content_type: "text/html".into(),
            body: "<p>".into(),
            location,
            passed_on,
        })
    };
    let cases = [
        (Action::Pass, 201),
        (Action::CutBefore, 0),
        (Action::CutAfter, 0),
        (Action::Hold { ms: 200 }, 201),
        (made_up(false), 302),
        (made_up(true), 302),
        (Action::HalfAnswer { passed_on: true }, 201),
        (Action::HalfAnswer { passed_on: false }, 200),
    ];
    for (at, (action, status)) in cases.into_iter().enumerate() {
        let name = format!("case {at}");
        let again = action.clone();
        proxy.set(move |seen| {
            if seen.operation() == "create_batch" {
                again.clone()
            } else {
                Action::Pass
            }
        });
        let reply = post(&proxy, &name);
        assert_eq!(reply.status, status, "{action:?}");
        let half = matches!(action, Action::HalfAnswer { .. });
        assert_eq!(
            half,
            reply
                .header("content-length")
                .is_some_and(|said| said != reply.body.len().to_string()),
            "{action:?}"
        );
        let created = clusters
            .books("livy")
            .iter()
            .any(|book| book["name"] == *name);
        assert_eq!(created, action.passes_on(), "{action:?}");
        let records = proxy.records();
        let record = records.last().expect("it keeps records");
        assert_eq!(
            (&record.action, record.seen.request_id.as_deref()),
            (&action, Some(name.as_str()))
        );
        assert!(
            record.seen.body.contains(&name)
                && record
                    .answered
                    .is_none_or(|answered| answered >= record.came)
        );
        assert_eq!(
            record.cluster_said,
            action.passes_on().then_some(201),
            "{}",
            record.action.word()
        );
    }
}

#[test]
fn what_the_fault_proxy_holds_arrives_late() {
    let clusters = Clusters::start();
    let proxy = FaultProxy::start(clusters.address);
    proxy.set(|_| Action::Hold { ms: 500 });
    let mut stream = TcpStream::connect(proxy.address()).expect("the proxy listens");
    let body = json!({"file": "hdfs:///x.py", "name": "late"});
    let request = Request::post("/batches", &body).header("X-Requested-By", "a test");
    std::io::Write::write_all(&mut stream, &request.to_bytes()).expect("is sent");
    wait_until("it was read", || {
        proxy.under_way() == 1 && proxy.creating() == 1
    });
    drop(stream);
    assert!(clusters.books("livy").is_empty());
    wait_until("it arrived", || clusters.books("livy").len() == 1);
    wait_until("it was dealt with", || proxy.under_way() == 0);
}

#[test]
fn the_fault_proxy_can_be_stalled_closed_and_opened() {
    let clusters = Clusters::start();
    let proxy = FaultProxy::start(clusters.address);
    let mut kept = TcpStream::connect(proxy.address()).expect("the proxy listens");
    for (at, passed_on) in [true, false].into_iter().enumerate() {
        proxy.set(move |_| Action::Stall { passed_on });
        let stalled = TcpStream::connect(proxy.address()).expect("the proxy listens");
        stalled
            .set_read_timeout(Some(Duration::from_millis(200)))
            .expect("is a socket");
        let request = Request::post("/batches", &json!({"file": "hdfs:///x.py"}))
            .header("X-Requested-By", "a test");
        assert_eq!(exchange(stalled, &request.to_bytes()).status, 0);
        assert_eq!(clusters.books("livy").len(), 1, "case {at}");
    }
    proxy.door(Door::Closed);
    assert!(TcpStream::connect(proxy.address()).is_err());
    assert!(read_head(&mut kept).is_err(), "open connections ended");
    proxy.door(Door::Reset);
    assert_eq!(post(&proxy, "reset").status, 0);
    proxy.heal();
    assert_eq!(post(&proxy, "open").status, 201);
}
