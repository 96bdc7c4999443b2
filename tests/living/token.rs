//! A front of a cluster that lets in only whoever has the token in force, or the one before it for
//! a moment: as a service does whose tokens are exchanged.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use livy_gateway::sandbox::TOKEN;

/// How long the token before is good after a new one was made.
const OVERLAP: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Tokens {
    now: String,
    before: Option<(String, Instant)>,
}

/// The front.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    tokens: Arc<Mutex<Tokens>>,
    /// Requests that came with the newest token since it was made.
    newest: Arc<AtomicU64>,
}

impl Front {
    pub(crate) fn start(cluster: SocketAddr, first: &str) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let front = Front {
            address: listener.local_addr().expect("is bound"),
            tokens: Arc::new(Mutex::new(Tokens {
                now: first.to_owned(),
                before: None,
            })),
            newest: Arc::default(),
        };
        let serving = front.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(client, cluster));
            }
        });
        front
    }

    /// Makes a new token.
    pub(crate) fn exchange(&self, token: &str) {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut tokens.now, token.to_owned());
        tokens.before = Some((before, Instant::now()));
        self.newest.store(0, Ordering::Relaxed);
    }

    /// Tells whether somebody came with the newest token.
    pub(crate) fn saw_the_newest(&self) -> bool {
        self.newest.load(Ordering::Relaxed) > 0
    }

    fn is_good(&self, token: &str) -> bool {
        let tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if token == tokens.now {
            self.newest.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let before = tokens.before.as_ref();
        before.is_some_and(|(before, at)| token == before && at.elapsed() < OVERLAP)
    }

    /// One request after the other, each passed on over a connection of its own.
    fn serve(&self, mut client: TcpStream, cluster: SocketAddr) -> Option<()> {
        loop {
            let head = testkit::read_head(&mut client).ok()?;
            let body = testkit::read_body(&mut client, &head.headers, head.rest, Some(0));
            let token = head.headers.iter().find_map(|(name, value)| {
                let is_it = name.eq_ignore_ascii_case("authorization");
                is_it.then(|| value.strip_prefix("Bearer ")).flatten()
            });
            if !token.is_some_and(|token| self.is_good(token)) {
                let refusal = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
                client.write_all(refusal.as_bytes()).ok()?;
                continue;
            }
            let mut passed = format!("{}\r\nConnection: close\r\n", head.first);
            for (name, value) in &head.headers {
                let value = match name.eq_ignore_ascii_case("authorization") {
                    true => format!("Bearer {TOKEN}"),
                    false => value.clone(),
                };
                passed.push_str(&format!("{name}: {value}\r\n"));
            }
            passed.push_str("\r\n");
            let mut upstream = TcpStream::connect(cluster).ok()?;
            upstream.write_all(passed.as_bytes()).ok()?;
            upstream.write_all(&body).ok()?;
            let mut answer = Vec::new();
            upstream.read_to_end(&mut answer).ok()?;
            client.write_all(&answer).ok()?;
        }
    }
}
