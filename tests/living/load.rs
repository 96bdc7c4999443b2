//! Clients that poll and submit at a steady rate, each over one connection that it keeps.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use serde_json::json;

use crate::changes::House;
use testkit::{ALICE, PATIENCE, Request, exchange, over_tls};

/// How many clients share the rate.
const CLIENTS: u64 = 10;
/// One of so many requests submits.
const SUBMITS: u64 = 10;
/// Violations told by each client at most.
const TOLD: usize = 5;

/// What the clients met.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) polls: u64,
    pub(crate) submissions: u64,
    pub(crate) connections: u64,
    pub(crate) longest: Duration,
    pub(crate) wrong: Vec<String>,
}

pub(crate) struct Load(Vec<JoinHandle<Report>>);

impl Load {
    pub(crate) fn start(house: &House, rate: u64, over: &Arc<AtomicBool>) -> Load {
        let pause = Duration::from_micros(1_000_000 * CLIENTS / rate.max(1));
        let clients = (0..CLIENTS).map(|number| {
            let (over, address) = (over.clone(), house.gateway.address);
            let tls = house.trust.clone();
            std::thread::spawn(move || {
                let connect = move || {
                    let tcp = TcpStream::connect(address).expect("the gateway listens");
                    tcp.set_read_timeout(Some(PATIENCE)).expect("is a socket");
                    over_tls(tcp, tls.clone())
                };
                Client::new(number, connect).run(pause, &over)
            })
        });
        Load(clients.collect())
    }

    pub(crate) fn end(self) -> Report {
        let mut all = Report::default();
        for client in self.0 {
            let one = client.join().expect("no client panics");
            all.polls += one.polls;
            all.submissions += one.submissions;
            all.connections += one.connections;
            all.longest = all.longest.max(one.longest);
            all.wrong.extend(one.wrong);
        }
        all
    }
}

struct Client<C> {
    number: u64,
    connect: C,
    stream: StreamOwned<ClientConnection, TcpStream>,
    batch: Option<i64>,
    report: Report,
}

impl<C: Fn() -> StreamOwned<ClientConnection, TcpStream>> Client<C> {
    fn new(number: u64, connect: C) -> Self {
        let stream = connect();
        let report = Report {
            connections: 1,
            ..Report::default()
        };
        Client {
            number,
            connect,
            stream,
            batch: None,
            report,
        }
    }

    fn run(mut self, pause: Duration, over: &AtomicBool) -> Report {
        let mut due = Instant::now();
        for round in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            due += pause;
            match self.batch {
                Some(id) if round % SUBMITS != 0 => self.poll(id),
                _ => self.submit(round),
            }
        }
        self.report
    }

    fn submit(&mut self, round: u64) {
        // Some to a cluster whose token changes.
        let (cluster, file) = match (self.number + round / SUBMITS) % 3 {
            0 => ("ibm", "cos://jobs.store/pi.py"),
            1 => ("kyuubi", "hdfs:///jobs/pi.py"),
            _ => ("livy", "hdfs:///jobs/pi.py"),
        };
        let path = format!("/clusters/{cluster}/batches");
        let body = json!({"file": file, "args": ["2"]});
        self.report.submissions += 1;
        if let Some(reply) = self.ask(&Request::post(&path, &body), 201) {
            self.batch = reply["id"].as_i64();
        }
    }

    fn poll(&mut self, id: i64) {
        self.report.polls += 1;
        self.ask(&Request::get(&format!("/batches/{id}/state")), 200);
    }

    fn ask(&mut self, request: &Request<'_>, wanted: u16) -> Option<serde_json::Value> {
        let began = Instant::now();
        let request = Request {
            method: request.method,
            path: request.path,
            headers: request.headers.clone(),
            body: request.body.clone(),
        }
        .basic(ALICE);
        let text = String::from_utf8(request.to_bytes()).expect("is text");
        let kept_open = text.replace("Connection: close\r\n", "");
        let reply = exchange(&mut self.stream, kept_open.as_bytes());
        let what = format!("{} {}", request.method, request.path);
        self.report.longest = self.report.longest.max(began.elapsed());
        if reply.status == 0 {
            self.wrong(format!("{what}: the connection was dropped"));
            self.stream = (self.connect)();
            self.report.connections += 1;
            return None;
        }
        if reply.status != wanted {
            self.wrong(format!("{what}: {} {}", reply.status, reply.text()));
            return None;
        }
        Some(reply.json())
    }

    fn wrong(&mut self, what: String) {
        if self.report.wrong.len() < TOLD {
            self.report.wrong.push(what);
        }
    }
}
