//! Clusters as the gateway reaches them: connections, TLS, credentials, time limits, health.
//!
//! Owns every byte that leaves for a cluster and the proof of how far a request got
//! ([`SendError`]). Leaves what the bytes mean to the dialect, and what to do after a failure to
//! `submit` and `batches`. A client's own headers never come this far: what is sent is made here
//! from nothing.

pub mod health;
pub mod transport;

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request};
use http_body_util::Full;
use livy_dialect::{Flavor, Operation, UpstreamFault, UpstreamRequest, UpstreamResponse, wire};
use secrecy::ExposeSecret as _;
use thiserror::Error;
use tokio::time::Instant;

use crate::config::checked::{Cluster, Credentials};
use crate::live::Living;
use crate::net::Held;
use crate::net::connect::Connector;
use crate::net::tls::ClientTls;
use crate::observe::exchange::Exchange;
use crate::observe::metrics::{ClusterMetrics, Metrics};
use health::Health;
use transport::{Http, Transport};

const UNKNOWN: i64 = i64::MIN;

/// A cluster, ready to be asked.
#[derive(Debug)]
pub struct Upstream {
    /// Its configuration.
    pub config: Cluster,
    /// Its handles in the metrics.
    pub handles: ClusterMetrics,
    /// Whether it is alive.
    pub health: Health,
    /// When its list was last read.
    pub listed: Mutex<Option<Instant>>,
    /// Up to which id those were asked for that may still show up; 0 to begin anew.
    pub watched_up_to: AtomicI32,
    transport: Box<dyn Transport>,
    tls: Option<ClientTls>,
    /// The highest id that the cluster was seen to have given, -1 before its first one; [`UNKNOWN`]
    /// if that is not known.
    highest: AtomicI64,
    /// Whether the last read was refused because of our login.
    refuses_login: AtomicBool,
    authorization: Option<HeaderValue>,
    /// Open connections.
    open: Arc<AtomicI64>,
    /// Requests on their way.
    active: Arc<AtomicI64>,
    host: HeaderValue,
    metrics: Arc<Metrics>,
}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// Returns it as the dialect wants it.
    pub fn as_response(&self) -> UpstreamResponse<'_> {
        UpstreamResponse {
            status: self.status,
            content_type: self.content_type.as_deref(),
            body: &self.body,
        }
    }
}

/// No answer, and the proof of how far the request got.
#[derive(Clone, Debug, Error)]
pub enum SendError {
    /// Not a byte of the request left: nothing was accepted.
    #[error("{reason}: {detail}")]
    NotSent {
        /// A word of the metric.
        reason: &'static str,
        /// For the log.
        detail: String,
    },
    /// Some or all of it left.
    #[error("{reason}: {detail}")]
    MaybeSent {
        /// A word of the metric.
        reason: &'static str,
        /// For the log.
        detail: String,
    },
}

impl SendError {
    /// Tells whether the answer was too large to be read.
    pub fn is_too_large(&self) -> bool {
        matches!(
            self,
            SendError::MaybeSent {
                reason: "body_limit",
                ..
            }
        )
    }
}

/// Why a read brought nothing.
#[derive(Clone, Debug, Error)]
pub enum AskError {
    /// No answer.
    #[error(transparent)]
    Send(#[from] SendError),
    /// An answer that is a refusal or can't be read.
    #[error("{0}")]
    Fault(UpstreamFault),
}

impl Upstream {
    /// Makes the pool of a cluster. No connection is opened yet.
    pub fn new(config: Cluster, tls: Option<ClientTls>, metrics: Arc<Metrics>) -> Self {
        let open = Arc::new(AtomicI64::new(0));
        let connector = Connector::new(tls.clone(), config.timeouts.connect, open.clone());
        let mut upstream = Upstream::over(Box::new(Http::new(connector)), open, config, metrics);
        upstream.tls = tls;
        upstream
    }

    /// Makes a cluster that is reached by a transport of the caller's.
    pub fn over(
        transport: Box<dyn Transport>,
        open: Arc<AtomicI64>,
        config: Cluster,
        metrics: Arc<Metrics>,
    ) -> Self {
        let authorization = authorization(&config.credentials);
        let handles = ClusterMetrics::new(&metrics, &config.name, config.flavor.as_str());
        let health = Health::new(&config, metrics.clone());
        // An authority is made of visible ASCII.
        let host = HeaderValue::from_str(config.base.authority.as_str())
            .unwrap_or(HeaderValue::from_static("localhost"));
        Upstream {
            transport,
            tls: None,
            highest: AtomicI64::new(UNKNOWN),
            refuses_login: AtomicBool::new(false),
            listed: Mutex::default(),
            watched_up_to: AtomicI32::new(0),
            authorization,
            open,
            active: Arc::default(),
            host,
            handles,
            health,
            metrics,
            config,
        }
    }

    /// Returns what is read again when it changes.
    pub fn living(&self) -> Option<Arc<dyn Living>> {
        self.tls.as_ref().and_then(ClientTls::living)
    }

    /// Notes that the cluster just gave an id, if it counts: the newest is the highest, also when
    /// it has begun to count again.
    pub fn gave_id(&self, upstream_id: &str) {
        if let Ok(id) = upstream_id.parse() {
            self.highest.store(id, Ordering::Relaxed);
        }
    }

    /// Notes the highest id of the cluster's whole list.
    pub fn listed_up_to(&self, highest: i64) {
        self.highest.store(highest, Ordering::Relaxed);
    }

    /// Tells whether the last read was refused because of our login.
    pub fn refuses_login(&self) -> bool {
        self.refuses_login.load(Ordering::Relaxed)
    }

    fn note_login(&self, operation: Operation, answer: &Answer) {
        if operation != Operation::CreateBatch {
            self.refuses_login
                .store(matches!(answer.status, 401 | 403), Ordering::Relaxed);
        }
    }

    /// Notes that the cluster showed an id.
    pub fn showed_id(&self, upstream_id: &str) {
        if let Ok(id) = upstream_id.parse() {
            self.highest.fetch_max(id, Ordering::Relaxed);
        }
    }

    /// Returns the highest id that the cluster was seen to have given.
    pub fn highest_id(&self) -> Option<i64> {
        let highest = self.highest.load(Ordering::Relaxed);
        (highest != UNKNOWN).then_some(highest)
    }

    /// Returns the translator.
    pub fn dialect(&self) -> &'static dyn livy_dialect::Dialect {
        self.config.flavor.dialect()
    }

    /// Sends a request once and reads the whole answer.
    ///
    /// # Errors
    /// How far the request got.
    pub async fn send(
        &self,
        operation: Operation,
        request: &UpstreamRequest,
        exchange: &Exchange,
    ) -> Result<Answer, SendError> {
        let limit = match operation {
            Operation::CreateBatch if request.body.is_some() => self.config.timeouts.create_batch,
            // A Livy on YARN may wait two minutes for an application id before it kills.
            Operation::DeleteBatch => self
                .config
                .timeouts
                .create_batch
                .max(self.config.timeouts.response),
            _ => self.config.timeouts.response,
        };
        self.send_within(operation, request, exchange, limit).await
    }

    async fn send_within(
        &self,
        operation: Operation,
        request: &UpstreamRequest,
        exchange: &Exchange,
        limit: Duration,
    ) -> Result<Answer, SendError> {
        self.carry(
            operation,
            self.http_request(
                &format!("{}{}", self.config.base, request.path),
                request,
                exchange,
            )?,
            exchange,
            limit,
        )
        .await
    }

    async fn carry(
        &self,
        operation: Operation,
        request: Request<Full<Bytes>>,
        exchange: &Exchange,
        limit: Duration,
    ) -> Result<Answer, SendError> {
        let started = Instant::now();
        let carried = self
            .transport
            .carry(request, operation == Operation::CreateBatch);
        let _active = Held::new(&self.active);
        let result = match tokio::time::timeout(limit, carried).await {
            Ok(result) => result,
            Err(_) => Err(SendError::MaybeSent {
                reason: "timeout_response",
                detail: format!("no answer within {limit:?}"),
            }),
        };
        if let Ok(answer) = &result {
            self.note_login(operation, answer);
        }
        let waited = started.elapsed();
        let code = result.as_ref().ok().map(|answer| answer.status);
        self.handles
            .answered(&self.metrics, operation, code, waited.as_secs_f64());
        exchange.waited(waited, code);
        if let Err(
            SendError::NotSent { reason, detail } | SendError::MaybeSent { reason, detail },
        ) = &result
        {
            self.handles.failed(reason);
            tracing::debug!(cluster = %self.config.name, operation = operation.as_str(), reason, detail, "no answer from the cluster");
        }
        result
    }

    /// Reads something of the same server that lies outside its batch API.
    ///
    /// # Errors
    /// How far the request got.
    pub async fn read_beside(&self, path: &str, exchange: &Exchange) -> Result<Answer, SendError> {
        let base = &self.config.base;
        let uri = format!(
            "{}://{}{path}",
            if base.https { "https" } else { "http" },
            base.authority
        );
        let request = self.http_request(&uri, &UpstreamRequest::get(path), exchange)?;
        self.carry(
            Operation::Other,
            request,
            exchange,
            self.config.timeouts.response,
        )
        .await
    }

    fn http_request(
        &self,
        uri: &str,
        request: &UpstreamRequest,
        exchange: &Exchange,
    ) -> Result<Request<Full<Bytes>>, SendError> {
        let method = match request.method {
            wire::Method::Get => Method::GET,
            wire::Method::Post => Method::POST,
            wire::Method::Delete => Method::DELETE,
        };
        let mut builder = Request::builder()
            .uri(uri)
            .header(HOST, &self.host)
            .header(ACCEPT, "application/json")
            .header(
                USER_AGENT,
                concat!("livy-gateway/", env!("CARGO_PKG_VERSION")),
            );
        if method != Method::GET {
            // Livy's CSRF filter wants the first one, that of Knox the second; both look at
            // presence only.
            builder = builder
                .header("x-requested-by", "livy-gateway")
                .header("x-xsrf-header", "livy-gateway");
        }
        if let Some(authorization) = &self.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        if !exchange.request_id.is_empty() {
            builder = builder.header("x-request-id", &exchange.request_id);
        }
        if let Some(traceparent) = &exchange.traceparent {
            builder = builder.header("traceparent", traceparent);
        }
        if let (Flavor::Kyuubi, Some(client)) = (self.config.flavor, exchange.peer) {
            builder = builder.header("x-real-ip", client.to_string());
        }
        let body = match &request.body {
            Some(body) => {
                builder = builder.header(CONTENT_TYPE, "application/json");
                Full::new(Bytes::from(body.to_string()))
            }
            None => Full::default(),
        };
        let request = builder.method(method).body(body);
        request.map_err(|error| SendError::NotSent {
            reason: "protocol",
            detail: error.to_string(),
        })
    }

    /// Asks something that may be asked twice, and reads the answer. A connection that was lost on
    /// the way costs one more try; a kill only if nothing of it left: its number may be another's by
    /// now, so whoever repeats it looks again first.
    ///
    /// # Errors
    /// No answer, or one that is a refusal.
    pub async fn ask<T>(
        &self,
        operation: Operation,
        request: &UpstreamRequest,
        exchange: &Exchange,
        read: impl Fn(&UpstreamResponse<'_>) -> Result<T, UpstreamFault>,
    ) -> Result<T, AskError> {
        let mut answer = self.send(operation, request, exchange).await;
        let repeats = match &answer {
            Err(SendError::NotSent { reason, .. }) => *reason == "reset",
            Err(SendError::MaybeSent { reason, .. }) => {
                *reason == "reset" && operation != Operation::DeleteBatch
            }
            Ok(_) => false,
        };
        if repeats {
            answer = self.send(operation, request, exchange).await;
            self.count_retry(
                operation,
                if answer.is_ok() {
                    "recovered"
                } else {
                    "exhausted"
                },
            );
        }
        let answer = answer?;
        read(&answer.as_response()).map_err(|fault| {
            self.count_fault(operation, &fault);
            AskError::Fault(fault)
        })
    }

    /// Counts a request that was sent again, or (`unsafe`) would have been if that could not double
    /// a job.
    pub fn count_retry(&self, operation: Operation, outcome: &str) {
        let labels = [self.config.name.as_str(), operation.as_str(), outcome];
        self.metrics
            .upstream_retries_total
            .with_label_values(&labels)
            .inc();
    }

    /// Brings the connection gauges up to date.
    pub fn show_connections(&self) {
        let open = self.open.load(Ordering::Relaxed);
        let active = self.active.load(Ordering::Relaxed).min(open);
        for (state, count) in [("active", active), ("idle", open - active)] {
            self.metrics
                .upstream_connections
                .with_label_values(&[self.config.name.as_str(), state])
                .set(count);
        }
    }

    /// Counts an answer that could not be read.
    pub fn count_fault(&self, operation: Operation, fault: &UpstreamFault) {
        if fault.kind == livy_dialect::FaultKind::Unreadable {
            let labels = [
                self.config.flavor.as_str(),
                operation.as_str(),
                fault.kind.as_str(),
            ];
            self.metrics
                .translation_errors_total
                .with_label_values(&labels)
                .inc();
        }
    }

    /// Asks whether the cluster is alive.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub async fn probe(&self) -> Result<(), String> {
        let exchange = Exchange::default();
        let request = self.dialect().probe();
        match self
            .send_within(
                Operation::Other,
                &request,
                &exchange,
                self.config.health.timeout,
            )
            .await
        {
            Ok(answer) if answer.as_response().is_success() && !answer.as_response().is_html() => {
                Ok(())
            }
            Ok(answer) => Err(format!("it answered {}", answer.status)),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn authorization(credentials: &Credentials) -> Option<HeaderValue> {
    let text = match credentials {
        Credentials::None => return None,
        Credentials::Basic { username, password } => {
            format!(
                "Basic {}",
                STANDARD.encode(format!("{username}:{}", password.expose_secret()))
            )
        }
        Credentials::Bearer(token) => format!("Bearer {}", token.expose_secret().trim()),
    };
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
