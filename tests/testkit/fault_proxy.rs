//! A proxy between the gateway and a cluster that does to requests what networks and fronts do:
//! refuses, cuts, holds, answers by itself.
//!
//! It reads one request at a time and asks its policy what becomes of it. Everything that it did is
//! in its records. Its policy and its door can be changed while it runs. What it holds arrives in
//! the end, whoever has hung up meanwhile: that is what a late POST is.

use std::collections::HashMap;
use std::io::Write as _;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::chance::Chance;
use crate::wire::{Head, Reply, read_body, read_head, read_reply};

/// How long a cluster may take to answer the proxy. Longer than any delay that tests give a
/// cluster.
const CLUSTER_LIMIT: Duration = Duration::from_secs(60);

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is passed on, and so is its answer.
    Pass,
    /// It is read and goes nowhere; the connection is closed.
    CutBefore,
    /// It is passed on; when the cluster has answered, the connection is closed.
    CutAfter,
    /// It is passed on after a while, even if nobody waits for the answer any more.
    Hold {
        /// For how long.
        ms: u64,
    },
    /// The proxy answers in the cluster's place.
    Answer(MadeUp),
    /// Nobody ever answers.
    Stall {
        /// Whether the cluster gets the request.
        passed_on: bool,
    },
    /// The answer ends in its middle.
    HalfAnswer {
        /// Whether the cluster gets the request.
        passed_on: bool,
    },
}

/// An answer that no cluster gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MadeUp {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`; empty for none.
    pub content_type: String,
    /// The body.
    pub body: String,
    /// `Location`.
    pub location: Option<String>,
    /// Whether the cluster gets the request first; its answer is thrown away.
    pub passed_on: bool,
}

impl Action {
    /// Returns one word for tables.
    pub fn word(&self) -> &'static str {
        match self {
            Action::Pass => "pass",
            Action::CutBefore => "cut before",
            Action::CutAfter => "cut after",
            Action::Hold { .. } => "hold",
            Action::Answer(made_up) if made_up.passed_on => "answer after",
            Action::Answer(_) => "answer before",
            Action::Stall { passed_on: true } => "stall after",
            Action::Stall { passed_on: false } => "stall before",
            Action::HalfAnswer { .. } => "half an answer",
        }
    }

    /// Tells whether the cluster gets the request.
    pub fn passes_on(&self) -> bool {
        match self {
            Action::Pass | Action::CutAfter | Action::Hold { .. } => true,
            Action::CutBefore => false,
            Action::Answer(made_up) => made_up.passed_on,
            Action::Stall { passed_on } | Action::HalfAnswer { passed_on } => *passed_on,
        }
    }
}

/// Whether the proxy can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Connections are accepted.
    Open,
    /// Nobody listens: connections are refused.
    Closed,
    /// Connections are accepted and reset.
    Reset,
}

/// A request, as a policy sees it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// HTTP method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// `X-Request-Id`.
    pub request_id: Option<String>,
    /// The body, as text.
    pub body: String,
}

impl Seen {
    /// Returns the operation in the gateway's words. Kyuubi has no state of its own: an item stands
    /// for it.
    pub fn operation(&self) -> &'static str {
        let path = self
            .path
            .split('?')
            .next()
            .unwrap_or_default()
            .trim_end_matches('/');
        let rest = path
            .find("/batches")
            .map(|at| path[at + 1..].split('/').collect::<Vec<_>>())
            .unwrap_or_default();
        match (self.method.as_str(), rest.as_slice()) {
            ("POST", ["batches"]) => "create_batch",
            ("GET", ["batches"]) => "list_batches",
            ("GET", ["batches", _]) => "get_batch",
            ("GET", ["batches", _, "state"]) => "get_state",
            ("GET", ["batches", _, "log" | "localLog"]) => "get_log",
            ("DELETE", ["batches", _]) => "delete_batch",
            _ => "other",
        }
    }
}

/// What was done to a request.
#[derive(Clone, Debug)]
pub struct Record {
    /// The request.
    pub seen: Seen,
    /// What became of it.
    pub action: Action,
    /// When it was read.
    pub came: Instant,
    /// What the cluster answered; 0 if it hung up, `None` if it never got the request, or has not
    /// answered yet.
    pub cluster_said: Option<u16>,
    /// When that was.
    pub answered: Option<Instant>,
}

type Policy = Box<dyn FnMut(&Seen) -> Action + Send>;

struct Shared {
    cluster: SocketAddr,
    address: SocketAddr,
    policy: Mutex<Policy>,
    door: Mutex<Door>,
    door_moved: Condvar,
    records: Mutex<Vec<Record>>,
    /// Requests that were read and not yet dealt with, and those among them that create something.
    under_way: AtomicUsize,
    creating: AtomicUsize,
    /// Open connections by the client's port, for a door that closes.
    connections: Mutex<HashMap<u16, TcpStream>>,
}

/// A proxy before one cluster.
pub struct FaultProxy {
    shared: Arc<Shared>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl FaultProxy {
    /// Starts a proxy that passes everything on.
    pub fn start(cluster: SocketAddr) -> FaultProxy {
        let listener = lasting_port();
        let address = listener.local_addr().expect("is bound");
        let shared = Arc::new(Shared {
            cluster,
            address,
            policy: Mutex::new(Box::new(|_| Action::Pass)),
            door: Mutex::new(Door::Open),
            door_moved: Condvar::new(),
            records: Mutex::default(),
            under_way: AtomicUsize::new(0),
            creating: AtomicUsize::new(0),
            connections: Mutex::default(),
        });
        let proxy = FaultProxy {
            shared: shared.clone(),
        };
        std::thread::spawn(move || shared.accept(listener));
        proxy
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Changes what becomes of requests from now on.
    pub fn set(&self, policy: impl FnMut(&Seen) -> Action + Send + 'static) {
        *lock(&self.shared.policy) = Box::new(policy);
    }

    /// Everything passes from now on, and the door is open. What is held stays held for its time.
    pub fn heal(&self) {
        self.set(|_| Action::Pass);
        self.door(Door::Open);
    }

    /// Opens or closes the door; open connections go with it. Returns when that is done.
    pub fn door(&self, door: Door) {
        let shared = &self.shared;
        let before = std::mem::replace(&mut *lock(&shared.door), door);
        shared.door_moved.notify_all();
        if before == door {
            return;
        }
        if before != Door::Closed {
            // Whoever waits in `accept` learns of it by a visitor.
            drop(TcpStream::connect(shared.address));
        }
        if door != Door::Open {
            for (_, connection) in lock(&shared.connections).drain() {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
        let until = Instant::now() + CLUSTER_LIMIT;
        while TcpStream::connect(shared.address).is_ok() == (door == Door::Closed) {
            assert!(Instant::now() < until, "the proxy's door does not move");
            std::thread::yield_now();
        }
    }

    /// Returns how many requests were read and not yet dealt with. Those that are held count.
    pub fn under_way(&self) -> usize {
        self.shared.under_way.load(Ordering::SeqCst)
    }

    /// The same, of requests that create a batch.
    pub fn creating(&self) -> usize {
        self.shared.creating.load(Ordering::SeqCst)
    }

    /// Returns what it did so far.
    pub fn records(&self) -> Vec<Record> {
        lock(&self.shared.records).clone()
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        *lock(&self.shared.door) = Door::Closed;
        drop(TcpStream::connect(self.shared.address));
    }
}

/// Binds a port that lies below those that the system gives to outgoing connections: one of these
/// could take it while the door is closed.
pub fn lasting_port() -> TcpListener {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut chance =
        Chance::new(u64::from(now.subsec_nanos()) << 32 ^ u64::from(std::process::id()));
    let mut ports = std::iter::repeat_with(|| chance.within(15_000..32_000))
        .take(1000)
        .filter_map(|port| u16::try_from(port).ok());
    ports
        .find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .expect("there is a free port")
}

impl Shared {
    fn accept(self: Arc<Self>, first: TcpListener) {
        let mut listener = Some(first);
        loop {
            if *lock(&self.door) == Door::Closed {
                drop(listener.take());
                let door = lock(&self.door);
                drop(
                    self.door_moved
                        .wait_while(door, |door| *door == Door::Closed)
                        .unwrap_or_else(PoisonError::into_inner),
                );
            }
            let open = listener.get_or_insert_with(|| {
                TcpListener::bind(self.address).expect("the port is still free")
            });
            let Ok((client, peer)) = open.accept() else {
                continue;
            };
            match *lock(&self.door) {
                Door::Open => {}
                // What the client sends finds nobody: the system answers it with a reset.
                Door::Reset | Door::Closed => continue,
            }
            if let Ok(clone) = client.try_clone() {
                lock(&self.connections).insert(peer.port(), clone);
            }
            let shared = self.clone();
            std::thread::spawn(move || {
                shared.serve(client);
                lock(&shared.connections).remove(&peer.port());
            });
        }
    }

    /// Deals with the requests of one connection, one after the other.
    fn serve(&self, mut client: TcpStream) {
        let mut cluster = None;
        while let Ok(head) = read_head(&mut client) {
            let Some((bytes, seen)) = whole(&mut client, head) else {
                return;
            };
            let creates = usize::from(seen.operation() == "create_batch");
            self.creating.fetch_add(creates, Ordering::SeqCst);
            self.under_way.fetch_add(1, Ordering::SeqCst);
            let action = lock(&self.policy)(&seen);
            let at = self.note(seen, &action);
            let goes_on = self.act(&mut client, &mut cluster, &bytes, &action, at);
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            self.creating.fetch_sub(creates, Ordering::SeqCst);
            if let Action::Stall { .. } = action {
                // The client gives up first.
                let _ = read_head(&mut client);
            }
            if !goes_on {
                return;
            }
        }
    }

    fn note(&self, seen: Seen, action: &Action) -> usize {
        let mut records = lock(&self.records);
        records.push(Record {
            seen,
            action: action.clone(),
            came: Instant::now(),
            cluster_said: None,
            answered: None,
        });
        records.len() - 1
    }

    /// Does what the policy said. False if the connection is to end.
    fn act(
        &self,
        client: &mut TcpStream,
        cluster: &mut Option<TcpStream>,
        bytes: &[u8],
        action: &Action,
        at: usize,
    ) -> bool {
        if let Action::Hold { ms } = action {
            std::thread::sleep(Duration::from_millis(*ms));
        }
        let answer = if action.passes_on() {
            Some(self.pass_on(cluster, bytes, at))
        } else {
            None
        };
        let reached = answer.as_ref().is_none_or(|answer| answer.status > 0);
        match action {
            Action::CutBefore | Action::CutAfter | Action::Stall { .. } => false,
            Action::Pass | Action::Hold { .. } => {
                reached && answer.is_some_and(|answer| client.write_all(&written(&answer)).is_ok())
            }
            Action::Answer(made_up) => client.write_all(&made_up.written()).is_ok(),
            Action::HalfAnswer { .. } => {
                let told = match answer {
                    Some(answer) if reached => written(&answer),
                    _ => MadeUp {
                        status: 200,
                        content_type: "application/json".into(),
                        body: "{\"id\": 1, ".into(),
                        ..MadeUp::default()
                    }
                    .written(),
                };
                // Half of the body, or, where there is none, not even the whole head.
                let head = told
                    .windows(4)
                    .position(|window| window == b"\r\n\r\n")
                    .map_or(told.len(), |at| at + 4);
                let kept = if told.len() > head {
                    head + (told.len() - head) / 2
                } else {
                    head - 5
                };
                let _ = client.write_all(&told[..kept]);
                false
            }
        }
    }

    /// Sends a request to the cluster, once. A connection that was used before may be used again;
    /// if it is gone, the request is lost with it, as a front would lose it.
    fn pass_on(&self, cluster: &mut Option<TcpStream>, bytes: &[u8], at: usize) -> Reply {
        let lost = || Reply {
            status: 0,
            headers: Vec::new(),
            body: Vec::new(),
        };
        let answer = (|| {
            let mut stream = match cluster.take() {
                Some(stream) => stream,
                None => TcpStream::connect(self.cluster).ok()?,
            };
            stream.set_read_timeout(Some(CLUSTER_LIMIT)).ok()?;
            stream.write_all(bytes).ok()?;
            let answer = read_reply(&mut stream);
            if answer.status > 0 {
                *cluster = Some(stream);
            }
            Some(answer)
        })()
        .unwrap_or_else(lost);
        let record = &mut lock(&self.records)[at];
        record.cluster_said = Some(answer.status);
        record.answered = Some(Instant::now());
        answer
    }
}

impl MadeUp {
    fn written(&self) -> Vec<u8> {
        let mut headers = Vec::new();
        if !self.content_type.is_empty() {
            headers.push(("content-type".to_owned(), self.content_type.clone()));
        }
        headers.extend(
            self.location
                .iter()
                .map(|location| ("location".to_owned(), location.clone())),
        );
        written(&Reply {
            status: self.status,
            headers,
            body: self.body.clone().into_bytes(),
        })
    }
}

/// Reads the rest of a request: the bytes to pass on, and what a policy sees.
fn whole(client: &mut TcpStream, head: Head) -> Option<(Vec<u8>, Seen)> {
    let Head {
        first,
        headers,
        rest,
    } = head;
    let body = read_body(client, &headers, rest, Some(0));
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let request_id = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("x-request-id"))
        .map(|(_, value)| value.clone());
    let mut text = format!("{first}\r\n");
    headers
        .iter()
        .for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
    text.push_str("\r\n");
    let seen = Seen {
        method,
        path,
        request_id,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    Some(([text.into_bytes(), body].concat(), seen))
}

fn written(reply: &Reply) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {} -\r\n", reply.status);
    for (name, value) in &reply.headers {
        let framing = ["connection", "content-length", "transfer-encoding"]
            .contains(&name.to_ascii_lowercase().as_str());
        if !framing {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str(&format!("content-length: {}\r\n\r\n", reply.body.len()));
    [text.as_bytes(), &reply.body].concat()
}
