//! The endpoint under test: one request, one answer, every answer remembered. Follows no redirect,
//! keeps no cookie, repeats nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::uri::{PathAndQuery, Uri};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::miss::{Miss, shorten};
use crate::config::checked::ClusterTls;
use crate::net::connect::Connector;
use crate::net::{chain, tls};

/// The header that Livy's CSRF protection wants; its value is free.
const CSRF: HeaderName = HeaderName::from_static("x-requested-by");
/// Why nothing more is asked.
pub(super) const TIME_IS_OVER: &str =
    "the time for the whole suite was over before this could be told";
/// A page of logs is a few hundred KiB at most.
const LARGEST: usize = 16 << 20;

/// How to prove who is asking.
#[derive(Clone, Debug)]
pub enum Login {
    /// HTTP Basic.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: secrecy::SecretString,
    },
    /// A bearer token.
    Bearer(secrecy::SecretString),
}

impl Login {
    fn header(&self) -> Result<HeaderValue, String> {
        use secrecy::ExposeSecret as _;
        let text = match self {
            Login::Basic { user, password } => format!(
                "Basic {}",
                STANDARD.encode(format!("{user}:{}", password.expose_secret()))
            ),
            Login::Bearer(token) => format!("Bearer {}", token.expose_secret()),
        };
        let mut value = HeaderValue::try_from(text)
            .map_err(|_| "the login holds characters that no header can carry".to_owned())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Returns what an answer must not be quoted with.
    fn secrets(&self) -> Vec<String> {
        use secrecy::ExposeSecret as _;
        match self {
            Login::Basic { user, password } => {
                vec![
                    STANDARD.encode(format!("{user}:{}", password.expose_secret())),
                    password.expose_secret().to_owned(),
                ]
            }
            Login::Bearer(token) => vec![token.expose_secret().to_owned()],
        }
    }
}

/// Where the endpoint is and how it is reached.
#[derive(Clone, Debug)]
pub struct Address {
    /// Everything before `/batches`.
    pub url: Uri,
    /// Who asks; `None` asks without a login.
    pub login: Option<Login>,
    /// Trusted instead of the system's roots.
    pub ca_file: Option<PathBuf>,
    /// How long one request may take, connecting included.
    pub request_limit: Duration,
}

/// A request in the making.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    login: bool,
}

impl Ask {
    pub(super) fn new(method: Method, path: impl Into<String>) -> Ask {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(CSRF, HeaderValue::from_static("livy-gateway-certify"));
        Ask {
            method,
            path: path.into(),
            headers,
            body: Bytes::new(),
            login: true,
        }
    }

    pub(super) fn get(path: impl Into<String>) -> Ask {
        Ask::new(Method::GET, path)
    }

    pub(super) fn delete(path: impl Into<String>) -> Ask {
        Ask::new(Method::DELETE, path)
    }

    /// A POST to `/batches` with a JSON body.
    pub(super) fn submit(body: &Value) -> Ask {
        Ask::new(Method::POST, "/batches").text("application/json", body.to_string())
    }

    pub(super) fn text(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Ask {
        self.body = body.into();
        self.header(CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Ask {
        self.headers.insert(name, value);
        self
    }

    pub(super) fn without_csrf(mut self) -> Ask {
        self.headers.remove(CSRF);
        self
    }

    pub(super) fn without_login(mut self) -> Ask {
        self.login = false;
        self
    }

    /// Sends another login than the real one.
    pub(super) fn with_login(self, value: HeaderValue) -> Ask {
        self.without_login().header(AUTHORIZATION, value)
    }
}

/// An answer, with what was asked.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) method: Method,
    /// Below the base, with its query.
    pub(super) path: String,
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether the request carried the real login.
    pub(super) with_login: bool,
}

/// The endpoint under test.
#[derive(Debug)]
pub(super) struct Endpoint {
    url: Uri,
    client: Client<Connector, Full<Bytes>>,
    login: Option<Login>,
    limit: Duration,
    /// No answer is waited for beyond this moment.
    deadline: Mutex<Option<Instant>>,
    seen: Mutex<Vec<Arc<Answer>>>,
}

impl Endpoint {
    pub(super) fn new(address: Address) -> Result<Self, String> {
        if let Some(login) = &address.login {
            login.header()?;
        }
        let mut problems = Vec::new();
        let tls = tls::client(
            &ClusterTls {
                ca_file: address.ca_file,
                ..ClusterTls::default()
            },
            &[],
            &mut problems,
        );
        if let Some(problem) = problems.first() {
            return Err(format!("--ca: {}", problem.what));
        }
        let connector = Connector::new(tls, address.request_limit, Arc::default());
        let client = Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .pool_max_idle_per_host(4)
            .build(connector);
        Ok(Endpoint {
            url: address.url,
            client,
            login: address.login,
            limit: address.request_limit,
            deadline: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// Returns the path before `/batches`.
    pub(super) fn base(&self) -> &str {
        self.url.path().trim_end_matches('/')
    }

    pub(super) fn has_login(&self) -> bool {
        self.login.is_some()
    }

    /// Returns the user of a Basic login; whom a token stands for is not ours to read.
    pub(super) fn user(&self) -> Option<&str> {
        match &self.login {
            Some(Login::Basic { user, .. }) => Some(user),
            Some(Login::Bearer(_)) | None => None,
        }
    }

    pub(super) fn is_basic(&self) -> bool {
        matches!(self.login, Some(Login::Basic { .. }))
    }

    /// Returns every answer so far.
    pub(super) fn seen(&self) -> Vec<Arc<Answer>> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) async fn get(&self, path: &str) -> Result<Arc<Answer>, Miss> {
        self.send(Ask::get(path)).await
    }

    /// Sends a request below the base path.
    pub(super) async fn send(&self, ask: Ask) -> Result<Arc<Answer>, Miss> {
        let path = format!("{}{}", self.base(), ask.path);
        self.send_to(ask, &path).await
    }

    /// Sends a request to a path of the endpoint's host, as the client of a `Location` does.
    pub(super) async fn send_to(&self, ask: Ask, path: &str) -> Result<Arc<Answer>, Miss> {
        let what = format!("{} {}", ask.method, ask.path);
        let mut parts = self.url.clone().into_parts();
        parts.path_and_query = Some(
            PathAndQuery::try_from(path)
                .map_err(|error| Miss::failed(format!("{what}: {error}")))?,
        );
        let uri =
            Uri::from_parts(parts).map_err(|error| Miss::failed(format!("{what}: {error}")))?;
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = ask.headers.clone();
        if let Some(login) = self.login.as_ref().filter(|_| ask.login) {
            request
                .headers_mut()
                .insert(AUTHORIZATION, login.header().map_err(Miss::failed)?);
        }
        let exchange = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|error| chain(&error))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, LARGEST)
                .collect()
                .await
                .map_err(|error| chain(error.as_ref()))?
                .to_bytes();
            Ok::<_, String>((head, body))
        };
        let left = self.time_left();
        let (head, body) = match tokio::time::timeout(
            left.unwrap_or(self.limit).min(self.limit),
            exchange,
        )
        .await
        {
            Ok(Ok(answer)) => answer,
            Ok(Err(why)) => return Err(Miss::failed(format!("{what}: no answer: {why}"))),
            Err(_) if left.is_some_and(|left| left < self.limit) => {
                return Err(Miss::failed(format!("{what}: {TIME_IS_OVER}")));
            }
            Err(_) => {
                return Err(Miss::failed(format!(
                    "{what}: no answer within {:?}",
                    self.limit
                )));
            }
        };
        let answer = Arc::new(Answer {
            method: ask.method,
            path: ask.path,
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            with_login: ask.login,
        });
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&answer));
        Ok(answer)
    }

    /// Bounds all that is sent from now on; `None` ends that.
    pub(super) fn answer_until(&self, deadline: Option<Instant>) {
        *self.deadline.lock().unwrap_or_else(PoisonError::into_inner) = deadline;
    }

    fn time_left(&self) -> Option<Duration> {
        let deadline = *self.deadline.lock().unwrap_or_else(PoisonError::into_inner);
        deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// Takes the login out of a text that is going to be shown: some servers echo it.
    pub(super) fn without_secrets(&self, text: String) -> String {
        let secrets = self.login.as_ref().map(Login::secrets).unwrap_or_default();
        secrets
            .iter()
            .filter(|secret| secret.len() > 2)
            .fold(text, |text, secret| text.replace(secret.as_str(), "***"))
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Describes the exchange in a line: what was asked and what came.
    pub(super) fn line(&self) -> String {
        let body = String::from_utf8_lossy(&self.body);
        format!(
            "{} {} answered {} {}",
            self.method,
            self.path,
            self.status,
            if body.is_empty() {
                "(no body)".into()
            } else {
                shorten(&body)
            }
        )
    }
}
