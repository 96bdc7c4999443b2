//! Simulated clusters, one per flavor: the same code for `sandbox`, `demo` and the tests.
//!
//! Each is a double of its contract, quirks and ghosts included, at the path that its flavor has by
//! default; so all five fit behind one address. `POST /_sandbox/{flavor}/faults` and its neighbours
//! are the knobs, for tests: see [`control`].

mod books;
pub mod control;
mod ibm;
mod job;
mod kyuubi;
mod livy;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use livy_dialect::{Flavor, Operation};
use serde_json::Value;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};

use control::{Control, Moment, Restart};
use job::Jobs;

/// The account that the doubles of Knox, HDInsight and Kyuubi know.
pub const USER: &str = "gateway";
/// Its password.
pub const PASSWORD: &str = "sandbox-cluster-password";
/// The token that the double of IBM Analytics Engine knows.
pub const TOKEN: &str = "sandbox-cluster-token";
/// The instance that the double of IBM Analytics Engine has.
pub const INSTANCE: &str = "11111111-2222-3333-4444-555555555555";

/// Largest request body that a double reads.
const LARGEST_BODY: usize = 4 << 20;

/// A simulated cluster.
#[derive(Debug)]
pub(crate) struct Double {
    flavor: Flavor,
    jobs: Mutex<Jobs>,
    control: Control,
}

/// A request as the doubles see it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    method: Method,
    /// Below the base path, split and decoded.
    segments: Vec<String>,
    /// Whether the path ended with a slash.
    slash: bool,
    /// Whether two slashes stood side by side.
    doubled_slash: bool,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
}

impl Asked {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the `X-Request-Id`, by which a test finds out which request did something.
    fn request_id(&self) -> Option<String> {
        self.headers
            .get("x-request-id")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    }

    /// Returns the segments as texts, for matching.
    fn path(&self) -> Vec<&str> {
        self.segments.iter().map(String::as_str).collect()
    }

    fn operation(&self) -> Operation {
        match (self.method.as_str(), self.path().as_slice()) {
            ("POST", ["batches"]) => Operation::CreateBatch,
            ("GET", ["batches"]) => Operation::ListBatches,
            ("GET", ["batches", _]) => Operation::GetBatch,
            ("GET", ["batches", _, "state"]) => Operation::GetState,
            ("GET", ["batches", _, "log" | "localLog"]) => Operation::GetLog,
            ("DELETE", ["batches", _]) => Operation::DeleteBatch,
            _ => Operation::Other,
        }
    }
}

/// An answer of a double.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
}

impl Told {
    fn new(status: u16, content_type: &str, body: impl Into<String>) -> Told {
        let headers = if content_type.is_empty() {
            Vec::new()
        } else {
            vec![("content-type", content_type.to_owned())]
        };
        Told {
            status,
            headers,
            body: body.into(),
        }
    }

    fn json(status: u16, body: &Value) -> Told {
        Told::new(status, "application/json;charset=utf-8", body.to_string())
    }

    fn with(mut self, name: &'static str, value: impl Into<String>) -> Told {
        self.headers.push((name, value.into()));
        self
    }
}

/// The connection is closed without an answer.
#[derive(Debug, Error)]
#[error("the simulated cluster hung up")]
struct HungUp;

impl Double {
    fn new(flavor: Flavor) -> Self {
        Double {
            flavor,
            jobs: Mutex::new(Jobs::new(flavor)),
            control: Control::default(),
        }
    }

    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn restart(&self, how: &Restart) {
        self.jobs().restart(how);
    }

    async fn answer(&self, asked: Asked) -> Result<Told, HungUp> {
        let operation = asked.operation();
        let generation = self.jobs().generation().ok_or(HungUp)?;
        self.control.remember(&asked);
        let fault = self.control.next(operation);
        if let Some(answer) = control::act(fault.as_ref(), Moment::Before).await? {
            return Ok(answer);
        }
        self.is_still(generation)?;
        let told = match self.flavor {
            Flavor::Livy | Flavor::Knox | Flavor::Hdinsight => livy::answer(self, &asked),
            Flavor::Ibm => ibm::answer(self, &asked),
            Flavor::Kyuubi => kyuubi::answer(self, &asked),
        };
        let made_up = control::act(fault.as_ref(), Moment::After).await?;
        self.is_still(generation)?;
        Ok(made_up.unwrap_or(told))
    }

    /// A restart cuts every connection: no request lives through one.
    fn is_still(&self, generation: u32) -> Result<(), HungUp> {
        if self.jobs().generation() == Some(generation) {
            Ok(())
        } else {
            Err(HungUp)
        }
    }
}

/// The simulated clusters behind one address.
#[derive(Clone, Debug)]
pub struct Sandbox {
    doubles: Arc<Vec<Double>>,
}

impl Sandbox {
    /// Makes doubles of these flavors; all of them if none is named.
    pub fn new(flavors: &[Flavor]) -> Self {
        let flavors = if flavors.is_empty() {
            &Flavor::ALL[..]
        } else {
            flavors
        };
        Sandbox {
            doubles: Arc::new(flavors.iter().map(|flavor| Double::new(*flavor)).collect()),
        }
    }

    /// Serves until dropped.
    pub async fn serve(self, listener: TcpListener) {
        loop {
            if let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(self.clone().connection(tcp));
            }
        }
    }

    async fn connection(self, tcp: TcpStream) {
        let service = service_fn(|request| {
            let sandbox = self.clone();
            async move { sandbox.respond(request).await }
        });
        // A double that hangs up ends its connection with an error: that is its purpose.
        let _ = http1::Builder::new()
            .serve_connection(TokioIo::new(tcp), service)
            .await;
    }

    async fn respond(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, HungUp> {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, LARGEST_BODY)
            .collect()
            .await
            .map_err(|_| HungUp)?
            .to_bytes();
        let path = parts.uri.path();
        if let Some(rest) = path.strip_prefix("/_sandbox/") {
            return Ok(response(control::answer(
                &self.doubles,
                rest,
                &parts.method,
                &body,
            )));
        }
        let Some((double, rest)) = self.find(path) else {
            return Ok(response(Told::new(404, "text/html;charset=utf-8", "")));
        };
        let asked = Asked {
            method: parts.method,
            segments: rest
                .split('/')
                .filter(|part| !part.is_empty())
                .map(decode)
                .collect(),
            doubled_slash: rest.contains("//"),
            slash: rest.ends_with('/') && rest.len() > 1,
            query: parts
                .uri
                .query()
                .unwrap_or_default()
                .split('&')
                .filter_map(pair)
                .collect(),
            headers: parts.headers,
            body,
        };
        double.answer(asked).await.map(response)
    }

    /// Finds the double of a path, and the path below its base.
    fn find<'a>(&self, path: &'a str) -> Option<(&Double, &'a str)> {
        let bases = [
            ("/gateway/default/livy/v1", Flavor::Knox),
            ("/gateway/default/livy", Flavor::Knox),
            (
                "/v3/analytics_engines/11111111-2222-3333-4444-555555555555/livy",
                Flavor::Ibm,
            ),
            // Beside its Livy: the application API.
            (
                "/v3/analytics_engines/11111111-2222-3333-4444-555555555555",
                Flavor::Ibm,
            ),
            ("/api/v1", Flavor::Kyuubi),
            ("/livy", Flavor::Hdinsight),
            ("", Flavor::Livy),
        ];
        bases.into_iter().find_map(|(base, flavor)| {
            let rest = path
                .strip_prefix(base)
                .filter(|rest| rest.starts_with('/'))?;
            let double = self.doubles.iter().find(|double| double.flavor == flavor)?;
            Some((double, rest))
        })
    }
}

/// Binds an address and serves doubles there; returns the address that was really bound.
///
/// # Errors
/// The address can't be bound.
pub async fn start(listen: SocketAddr, flavors: &[Flavor]) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    tokio::spawn(Sandbox::new(flavors).serve(listener));
    Ok(address)
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

fn pair(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((decode(name), decode(value)))
}

fn response(told: Told) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(told.body.into()));
    *response.status_mut() =
        StatusCode::from_u16(told.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in told.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Reads user and password of HTTP Basic.
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers
        .get(AUTHORIZATION)?
        .to_str()
        .ok()?
        .strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(value).ok()?).ok()?;
    text.split_once(':')
        .map(|(user, password)| (user.to_owned(), password.to_owned()))
}

/// Tells whether the request carries the account that the doubles know.
fn has_account(headers: &HeaderMap) -> bool {
    basic(headers) == Some((USER.to_owned(), PASSWORD.to_owned()))
}

/// Tells whether the request says that its body is of this type.
fn says(headers: &HeaderMap, kind: &str) -> bool {
    headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|text| text.starts_with(kind))
}

/// Tells whether the request says that its body is JSON.
fn says_json(headers: &HeaderMap) -> bool {
    says(headers, "application/json")
}

/// Tells whether the request says that its body is a form.
fn says_form(headers: &HeaderMap) -> bool {
    says(headers, "application/x-www-form-urlencoded")
}
