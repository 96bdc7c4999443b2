//! A client that polls and submits at a steady pace over a connection that it keeps, until it is
//! told to close it.

use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::balancer::Balancer;
use testkit::{ALICE, Reply, Request, exchange};

/// One of so many requests submits.
const SUBMITS: u64 = 10;
/// Violations told by each client at most.
const TOLD: usize = 5;

/// What clients met.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) polls: u64,
    /// The ids that submissions were answered with.
    pub(crate) submitted: Vec<i64>,
    pub(crate) connections: u64,
    pub(crate) longest: Duration,
    pub(crate) wrong: Vec<String>,
}

impl Report {
    pub(crate) fn add(&mut self, other: Report) {
        self.polls += other.polls;
        self.submitted.extend(other.submitted);
        self.connections += other.connections;
        self.longest = self.longest.max(other.longest);
        self.wrong.extend(other.wrong);
    }
}

pub(crate) struct Client<'a> {
    balancer: &'a Balancer,
    stream: Option<TcpStream>,
    batch: Option<i64>,
    report: Report,
}

impl<'a> Client<'a> {
    pub(crate) fn new(balancer: &'a Balancer) -> Client<'a> {
        Client {
            balancer,
            stream: None,
            batch: None,
            report: Report::default(),
        }
    }

    pub(crate) fn run(mut self, pause: Duration, over: &AtomicBool) -> Report {
        let mut due = Instant::now();
        for round in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            // The pace of the load.
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += pause;
            match self.batch {
                Some(id) if round % SUBMITS != 0 => self.poll(id),
                _ => self.submit(),
            }
        }
        self.report
    }

    fn submit(&mut self) {
        let body = json!({"file": "hdfs:///jobs/pi.py", "args": ["2"]});
        if let Some(reply) = self.ask(&Request::post("/batches", &body), 201) {
            self.batch = reply.json()["id"].as_i64();
            self.report.submitted.extend(self.batch);
        }
    }

    fn poll(&mut self, id: i64) {
        self.report.polls += 1;
        self.ask(&Request::get(&format!("/batches/{id}/state")), 200);
    }

    fn ask(&mut self, request: &Request<'_>, wanted: u16) -> Option<Reply> {
        let what = format!("{} {}", request.method, request.path);
        let began = Instant::now();
        let Some(reply) = self.send(request) else {
            self.wrong(format!("{what}: nobody listened"));
            return None;
        };
        self.report.longest = self.report.longest.max(began.elapsed());
        if reply.status == 0 {
            self.wrong(format!("{what}: the connection was dropped"));
        } else if reply.status != wanted {
            self.wrong(format!("{what}: {} {}", reply.status, reply.text()));
        }
        (reply.status == wanted).then_some(reply)
    }

    /// Sends over the connection that is kept, or over a new one.
    fn send(&mut self, request: &Request<'_>) -> Option<Reply> {
        let request = Request {
            method: request.method,
            path: request.path,
            headers: request.headers.clone(),
            body: request.body.clone(),
        }
        .basic(ALICE);
        let text = String::from_utf8(request.to_bytes()).expect("is text");
        let kept_open = text.replace("Connection: close\r\n", "");
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                self.report.connections += 1;
                self.balancer.connect().ok()?
            }
        };
        let reply = exchange(&mut stream, kept_open.as_bytes());
        let closes = reply.status == 0 || reply.header("connection") == Some("close");
        self.stream = (!closes).then_some(stream);
        Some(reply)
    }

    fn wrong(&mut self, what: String) {
        if self.report.wrong.len() < TOLD {
            self.report.wrong.push(what);
        }
    }
}
