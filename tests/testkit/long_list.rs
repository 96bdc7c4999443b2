//! A Livy with as many batches as a test wants, all of them made around the gateway, that counts
//! what it is asked; below `/api/v1` a Kyuubi with the same batches, each with a long log. It only
//! reads.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::wire::read_head;

/// What it was asked, and what it shows.
#[derive(Debug, Default)]
struct Books {
    batches: usize,
    /// More text in each row.
    padding: usize,
    state: String,
    hangs: bool,
    /// Each window of the list that was asked for.
    lists: Vec<(usize, usize)>,
    /// How often a state or an item was asked for.
    alone: usize,
    /// How many lines each log has, and how many were read.
    lines: usize,
    read: usize,
}

/// The cluster.
#[derive(Clone, Debug)]
pub struct LongList {
    /// Where it listens.
    pub address: SocketAddr,
    books: Arc<Mutex<Books>>,
}

impl LongList {
    /// Starts one with so many running batches.
    pub fn start(batches: usize, padding: usize) -> LongList {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let books = Books {
            batches,
            padding,
            state: "running".to_owned(),
            ..Books::default()
        };
        let cluster = LongList {
            address: listener.local_addr().expect("is bound"),
            books: Arc::new(Mutex::new(books)),
        };
        let serving = cluster.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        cluster
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one more batch.
    pub fn add(&self) {
        self.lock().batches += 1;
    }

    /// Sets how many lines each log has.
    pub fn set_lines(&self, lines: usize) {
        self.lock().lines = lines;
    }

    /// Returns how many lines of logs were read since this was last called.
    pub fn lines_read(&self) -> usize {
        std::mem::take(&mut self.lock().read)
    }

    /// Sets the state of all batches.
    pub fn set_state(&self, state: &str) {
        state.clone_into(&mut self.lock().state);
    }

    /// Answers nothing any more, or again.
    pub fn hang(&self, hangs: bool) {
        self.lock().hangs = hangs;
    }

    /// Returns the windows of the list that were asked for since this was last called, without
    /// probes.
    pub fn lists(&self) -> Vec<(usize, usize)> {
        let lists = std::mem::take(&mut self.lock().lists);
        lists.into_iter().filter(|(_, size)| *size > 0).collect()
    }

    /// Returns how many states and items were asked for since this was last called.
    pub fn alone(&self) -> usize {
        std::mem::take(&mut self.lock().alone)
    }

    fn serve(&self, mut stream: TcpStream) {
        while let Ok(head) = read_head(&mut stream) {
            let path = head.first.split(' ').nth(1).unwrap_or_default().to_owned();
            let answer = self.answer(&path);
            if self.lock().hangs {
                // Until the other side hangs up.
                let _ = std::io::Read::read(&mut stream, &mut [0; 1]);
                return;
            }
            let (status, body) = match answer {
                Some(body) => ("200 OK", body),
                None => ("404 Not Found", json!({"msg": "Session '0' not found."})),
            };
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            if stream.write_all(head.as_bytes()).is_err()
                || stream.write_all(body.as_bytes()).is_err()
            {
                return;
            }
        }
    }

    fn answer(&self, path: &str) -> Option<Value> {
        let mut books = self.lock();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let number = |name: &str, default: usize| {
            let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            let mut found = pairs.filter(|(key, _)| *key == name);
            found
                .next()
                .map_or(default, |(_, value)| value.parse().unwrap_or(0))
        };
        if let Some(path) = path.strip_prefix("/api/v1") {
            let mut parts = path
                .trim_start_matches("/batches")
                .trim_start_matches('/')
                .split('/');
            return match (parts.next(), parts.next()) {
                (Some(_), Some("localLog")) => {
                    let (from, size) = (number("from", 0), number("size", 100));
                    let end = (from + size).min(books.lines);
                    let lines: Vec<String> = (from.min(end)..end)
                        .map(|line| format!("line {line}"))
                        .collect();
                    books.read += lines.len();
                    Some(json!({"rowCount": lines.len(), "logRowSet": lines}))
                }
                (Some("" | "version"), _) => {
                    let (from, size) = (number("from", 0), number("size", 100));
                    books.lists.push((from, size));
                    let end = (from + size).min(books.batches);
                    let rows: Vec<Value> = (from.min(end)..end)
                        .map(|id| kyuubi_batch(&books, id))
                        .collect();
                    Some(json!({"from": from, "total": rows.len(), "batches": rows}))
                }
                (Some(id), None) => {
                    books.alone += 1;
                    let id = id.rsplit('-').next()?.parse().ok()?;
                    Some(kyuubi_batch(&books, id))
                }
                _ => None,
            };
        }
        let rest = path.strip_prefix("/batches")?;
        if rest.is_empty() {
            let (from, size) = (number("from", 0), number("size", 100));
            books.lists.push((from, size));
            let end = (from + size).min(books.batches);
            let rows: Vec<Value> = (from.min(end)..end).map(|id| batch(&books, id)).collect();
            return Some(json!({"from": from, "total": books.batches, "sessions": rows}));
        }
        books.alone += 1;
        let (id, what) = rest[1..].split_once('/').unwrap_or((&rest[1..], ""));
        let id = id.parse().ok().filter(|id| *id < books.batches)?;
        match what {
            "" => Some(batch(&books, id)),
            "state" => Some(json!({"id": id, "state": books.state})),
            _ => Some(json!({"id": id, "from": 0, "total": 1, "log": ["a line"]})),
        }
    }
}

fn kyuubi_batch(books: &Books, id: usize) -> Value {
    let state = books.state.to_uppercase();
    json!({"id": format!("00000000-0000-4000-8000-{id:012}"), "user": "ann", "batchType": "SPARK", "name": format!("job-{id}"),
        "appId": format!("application_1_{id}"), "appUrl": null, "appState": state, "appDiagnostic": null, "state": state,
        "createTime": 1, "endTime": 0, "batchInfo": {}})
}

fn batch(books: &Books, id: usize) -> Value {
    let info =
        json!({"driverLogUrl": null, "sparkUiUrl": null, "padding": "x".repeat(books.padding)});
    json!({"id": id, "name": format!("job-{id}"), "owner": null, "proxyUser": null, "state": books.state,
        "appId": format!("application_1_{id}"), "appInfo": info, "log": ["a line"]})
}
