//! A proxy in front of a good endpoint, in which a mutant sits: it reads a request, lets the mutant
//! deal with it, and writes what comes.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use serde_json::Value;

use crate::mutants::Mutant;
use testkit::{Gateway, Head, Reply, exchange, read_body, read_head};

/// A request on its way through.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// Returns the path below the endpoint's base, without its query: `/batches…`.
    pub(crate) fn below(&self) -> &str {
        let path = self.path.split('?').next().unwrap_or_default();
        path.find("/batches").map_or(path, |at| &path[at..])
    }

    pub(crate) fn is(&self, method: &str, end: &str) -> bool {
        self.method == method && self.below().ends_with(end)
    }

    /// Tells whether it is about one batch itself, not about a part of it.
    pub(crate) fn is_item(&self) -> bool {
        self.below()
            .trim_start_matches("/batches")
            .matches('/')
            .count()
            == 1
            && self.below() != "/batches/"
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.headers
            .iter()
            .any(|(key, _)| key.eq_ignore_ascii_case(name))
    }

    pub(crate) fn without(&self, name: &str) -> Asked {
        let mut changed = self.clone();
        changed
            .headers
            .retain(|(key, _)| !key.eq_ignore_ascii_case(name));
        changed
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n",
            self.method,
            self.path,
            self.body.len()
        );
        for (name, value) in &self.headers {
            let own = ["host", "connection", "content-length", "transfer-encoding"]
                .contains(&name.to_ascii_lowercase().as_str());
            if !own {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        text.push_str("\r\n");
        [text.into_bytes(), self.body.clone()].concat()
    }
}

/// Sends a request on to the good endpoint.
pub(crate) type Forward = dyn Fn(&Asked) -> Reply + Send + Sync;

/// A broken endpoint at a port of its own; it goes with the process.
pub(crate) fn serve(mutant: &Arc<Mutant>, forward: Arc<Forward>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("is bound");
    let mutant = Arc::clone(mutant);
    std::thread::spawn(move || {
        for stream in listener.incoming().filter_map(Result::ok) {
            let (mutant, forward) = (Arc::clone(&mutant), Arc::clone(&forward));
            std::thread::spawn(move || pass(stream, &mutant, &forward));
        }
    });
    address
}

/// Sends a request to a plain HTTP server.
pub(crate) fn to_server(server: SocketAddr) -> Arc<Forward> {
    Arc::new(move |asked| {
        exchange(
            TcpStream::connect(server).expect("the server listens"),
            &asked.to_bytes(),
        )
    })
}

/// Sends a request to a gateway, for as long as somebody has it: the broken endpoint must not keep
/// it alive.
pub(crate) fn to_gateway(gateway: &Arc<Gateway>) -> Arc<Forward> {
    let gateway = Arc::downgrade(gateway);
    Arc::new(move |asked| match gateway.upgrade() {
        Some(gateway) => exchange(gateway.tls(&[b"http/1.1"]), &asked.to_bytes()),
        None => Reply {
            status: 502,
            headers: Vec::new(),
            body: Vec::new(),
        },
    })
}

fn pass(mut stream: TcpStream, mutant: &Mutant, forward: &Arc<Forward>) {
    let Some(asked) = read_request(&mut stream) else {
        return;
    };
    let reply = (mutant.act)(&asked, forward.as_ref());
    let mut head = format!("HTTP/1.1 {} Told\r\nConnection: close\r\n", reply.status);
    for (name, value) in &reply.headers {
        if !["content-length", "connection", "transfer-encoding"]
            .contains(&name.to_ascii_lowercase().as_str())
        {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if reply.status != 204 {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    head.push_str("\r\n");
    // Whoever asked may be gone; then nobody misses the answer.
    let _ = stream.write_all(
        &[
            head.into_bytes(),
            if asked.method == "HEAD" {
                Vec::new()
            } else {
                reply.body
            },
        ]
        .concat(),
    );
}

fn read_request(stream: &mut TcpStream) -> Option<Asked> {
    let Head {
        first,
        headers,
        rest,
    } = read_head(stream).ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let body = read_body(stream, &headers, rest, Some(0));
    Some(Asked {
        method,
        path,
        headers,
        body,
    })
}
