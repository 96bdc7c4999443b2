//! Clusters as the gateway reaches them: connections, TLS, credentials, time limits, health.
//!
//! Owns every byte that leaves for a cluster and the proof of how far a request got
//! ([`SendError`]). Whatever is sent asks [`health`] first, takes a place ([`slots`]) and tells how
//! it ended ([`verdict`]). Leaves what the bytes mean to the dialect, and what to do after a
//! failure to `submit` and `batches`. A client's own headers never come this far: what is sent is
//! made here from nothing.

pub mod breaker;
pub mod budget;
pub mod credentials;
pub mod health;
mod repeat;
pub mod slots;
pub mod transport;
pub mod verdict;

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http::{Method, Request};
use http_body_util::Full;
use livy_dialect::{
    FaultKind, Flavor, Operation, UpstreamFault, UpstreamRequest, UpstreamResponse, proof, wire,
};
use thiserror::Error;
use tokio::time::Instant;

use crate::config::checked::{Cluster, MaxInFlight};
use crate::live::Living;
use crate::net::Held;
use crate::net::connect::Connector;
use crate::net::tls::ClientTls;
use crate::observe::exchange::Exchange;
use crate::observe::metrics::{ClusterMetrics, Metrics};
use credentials::scrub::scrub;
use credentials::{Common, Credential, Opened, Stamp, Unsigned};
use health::{Health, State};
use repeat::Repeats;
use slots::{Slot, Slots};
use transport::{Http, Transport};
use verdict::Verdict;

const UNKNOWN: i64 = i64::MIN;

/// A cluster, ready to be asked.
#[derive(Debug)]
pub struct Upstream {
    /// Its configuration.
    pub config: Cluster,
    /// Its handles in the metrics.
    pub handles: ClusterMetrics,
    /// What it is used for, and whether it answers.
    pub health: Health,
    slots: Slots,
    repeats: Repeats,
    /// A batch that it is known to have, for a probe that costs less than a list.
    known_batch: Mutex<Option<String>>,
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
    credential: Box<dyn Credential>,
    /// What of it other clusters may have as well.
    common_login: Option<Arc<Common>>,
    /// The last request could not be signed: there is no login.
    lacks_login: AtomicBool,
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
    /// Nothing was sent: there is nothing to log in with.
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
}

/// The `reason` of a request that was not sent because as many as may are on their way.
const SHED: &str = "max_in_flight";

impl SendError {
    /// Says in words why there was no answer, for a client's message.
    pub fn words(&self) -> String {
        match self {
            SendError::NotSent { detail, .. } | SendError::MaybeSent { detail, .. } => {
                detail.clone()
            }
            SendError::Unsigned(unsigned) => unsigned.to_string(),
        }
    }

    fn not_sent(reason: &'static str, detail: impl Into<String>) -> SendError {
        SendError::NotSent {
            reason,
            detail: detail.into(),
        }
    }

    /// Says that it was turned away here.
    pub fn shed() -> SendError {
        SendError::not_sent(SHED, "as many requests as may be are on their way")
    }

    /// Tells whether it was turned away here, because as many as may are on their way.
    pub fn is_shed(&self) -> bool {
        matches!(self, SendError::NotSent { reason: SHED, .. })
    }

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

impl AskError {
    /// Says in words why there is nothing, for a client's message.
    pub fn words(&self) -> String {
        match self {
            AskError::Send(error) => error.words(),
            AskError::Fault(fault) => fault.message.clone(),
        }
    }
}

impl Upstream {
    /// Makes the pool of a cluster. No connection is opened yet.
    pub fn new(
        config: Cluster,
        tls: Option<ClientTls>,
        login: Opened,
        metrics: Arc<Metrics>,
    ) -> Self {
        let open = Arc::new(AtomicI64::new(0));
        let connector = Connector::new(tls.clone(), config.timeouts.connect, open.clone());
        let transport = Box::new(Http::new(connector));
        login.credential.enter();
        Upstream {
            tls,
            credential: login.credential,
            common_login: login.common,
            ..Upstream::over(transport, open, config, metrics)
        }
    }

    /// Makes an open cluster that is reached by a transport of the caller's.
    pub fn over(
        transport: Box<dyn Transport>,
        open: Arc<AtomicI64>,
        config: Cluster,
        metrics: Arc<Metrics>,
    ) -> Self {
        let handles = ClusterMetrics::new(&metrics, &config.name, config.flavor.as_str());
        let health = Health::new(&config, metrics.clone());
        // An authority is made of visible ASCII.
        let host = HeaderValue::from_str(config.base.authority.as_str())
            .unwrap_or(HeaderValue::from_static("localhost"));
        Upstream {
            transport,
            slots: Slots::new(most_in_flight(&config.max_in_flight)),
            repeats: Repeats::new(&config),
            known_batch: Mutex::default(),
            tls: None,
            highest: AtomicI64::new(UNKNOWN),
            refuses_login: AtomicBool::new(false),
            listed: Mutex::default(),
            watched_up_to: AtomicI32::new(0),
            credential: Box::new(credentials::Open),
            common_login: None,
            lacks_login: AtomicBool::new(false),
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
    pub fn living(&self) -> Vec<Arc<dyn Living>> {
        let tls = self.tls.as_ref().and_then(ClientTls::living);
        tls.into_iter().chain(self.credential.living()).collect()
    }

    /// Returns the login that it has, or may have, in common with others.
    pub fn common_login(&self) -> Option<Arc<Common>> {
        self.common_login.clone()
    }

    /// Leaves the metrics to whoever takes its place.
    pub fn leave(&self, next: Option<&Upstream>) {
        self.health.leave();
        self.credential.leave();
        if let Some(common) = &self.common_login {
            let next = next.and_then(|next| next.common_login.as_deref());
            common.forget(&self.config.name, next);
        }
    }

    /// Notes that the cluster just gave an id, if it counts: the newest is the highest, also when
    /// it has begun to count again.
    pub fn gave_id(&self, upstream_id: &str) {
        self.know_batch(Some(upstream_id));
        if let Ok(id) = upstream_id.parse() {
            self.highest.store(id, Ordering::Relaxed);
        }
    }

    fn know_batch(&self, upstream_id: Option<&str>) {
        *self
            .known_batch
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = upstream_id.map(str::to_owned);
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
        let limit = self.limit(operation);
        self.send_within(operation, request, exchange, limit).await
    }

    /// Returns how long an answer may take.
    fn limit(&self, operation: Operation) -> Duration {
        let timeouts = &self.config.timeouts;
        match operation {
            Operation::CreateBatch => timeouts.create_batch,
            // A Livy on YARN may wait two minutes for an application id before it kills.
            Operation::DeleteBatch => timeouts.create_batch.max(timeouts.response),
            _ => timeouts.response,
        }
    }

    /// Takes a place for one more request; `None` if as many as may are on their way. What sends a
    /// submission takes its place before anything is stored.
    pub fn place(&self, operation: Operation) -> Option<Slot> {
        let slot = self.slots.take(operation);
        if slot.is_none() {
            let labels = [self.config.name.as_str(), operation.as_str()];
            self.metrics
                .upstream_shed_total
                .with_label_values(&labels)
                .inc();
        }
        slot
    }

    /// What is asked nothing gets nothing, whoever still holds it; one that takes no new batches
    /// gets none either.
    fn admit(&self, operation: Operation) -> Result<Option<Slot>, SendError> {
        match (self.health.state(), operation) {
            (State::Disabled, _) => return Err(SendError::not_sent("disabled", "it is disabled")),
            (State::Draining, Operation::CreateBatch) => {
                return Err(SendError::not_sent("draining", "it takes no new batches"));
            }
            _ => {}
        }
        // Probes must get through when everything is taken; a submission has its place already.
        if matches!(operation, Operation::Other | Operation::CreateBatch) {
            return Ok(None);
        }
        let slot = self.place(operation);
        slot.map(Some).ok_or_else(SendError::shed)
    }

    async fn send_within(
        &self,
        operation: Operation,
        request: &UpstreamRequest,
        exchange: &Exchange,
        limit: Duration,
    ) -> Result<Answer, SendError> {
        let uri = format!("{}{}", self.config.base, request.path);
        self.send_signed(operation, &uri, request, exchange, limit)
            .await
    }

    /// Signs and sends. A login that the cluster refuses is renewed, and what may be asked again is
    /// asked once more with the new one.
    async fn send_signed(
        &self,
        operation: Operation,
        uri: &str,
        request: &UpstreamRequest,
        exchange: &Exchange,
        limit: Duration,
    ) -> Result<Answer, SendError> {
        let (answer, stamp) = self
            .send_once(operation, uri, request, exchange, limit)
            .await?;
        if !self.refuses_this_login(&answer) {
            return Ok(answer);
        }
        self.credential.refused(stamp);
        if !self.may_ask_again(operation, &answer) || !self.credential.renewed(stamp).await {
            return Ok(answer);
        }
        let again = self
            .send_once(operation, uri, request, exchange, limit)
            .await;
        let accepted = matches!(&again, Ok((answer, _)) if !self.refuses_this_login(answer));
        let outcome = if accepted { "recovered" } else { "exhausted" };
        self.count_retry(operation, outcome);
        Ok(again?.0)
    }

    /// Tells whether an answer is about our login: 401, and of Kyuubi, which has no 401 for a login
    /// that it does not take, the 403 of its filter.
    fn refuses_this_login(&self, answer: &Answer) -> bool {
        let as_a_list = || self.dialect().decode_list(&answer.as_response());
        answer.status == 401
            || (answer.status == 403
                && matches!(as_a_list(), Err(fault) if fault.kind == FaultKind::Unauthorized))
    }

    /// Tells whether what was answered so may be sent again: a submission only if the
    /// cluster's own software says that it did not take it.
    fn may_ask_again(&self, operation: Operation, answer: &Answer) -> bool {
        operation != Operation::CreateBatch
            || proof::refuses_login(self.dialect(), &answer.as_response())
    }

    async fn send_once(
        &self,
        operation: Operation,
        uri: &str,
        request: &UpstreamRequest,
        exchange: &Exchange,
        limit: Duration,
    ) -> Result<(Answer, Stamp), SendError> {
        let mut request = self.http_request(uri, request, exchange)?;
        let signed = self.credential.sign(&mut request, exchange).await;
        let lacks_login = matches!(signed, Err(Unsigned::NoToken { .. }));
        self.lacks_login.store(lacks_login, Ordering::Relaxed);
        let stamp = match signed {
            Ok(stamp) => stamp,
            Err(unsigned) => {
                tracing::debug!(cluster = %self.config.name, operation = operation.as_str(), %unsigned, "nothing was sent to the cluster");
                return Err(unsigned.into());
            }
        };
        let login = request.headers().get(AUTHORIZATION).cloned();
        let mut answer = self.carry(operation, request, exchange, limit).await?;
        if let Some(clean) = scrub(&answer.body, login.as_ref()) {
            tracing::warn!(cluster = %self.config.name, operation = operation.as_str(), "an answer quoted the gateway's own login; it was taken out");
            answer.body = clean;
        }
        Ok((answer, stamp))
    }

    /// Tells whether requests go out in their callers' names, and none can without one.
    pub fn needs_a_caller(&self) -> bool {
        self.credential.needs_a_caller()
    }

    /// Tells whether the gateway's own login could not be had the last time: that says nothing
    /// about the cluster.
    pub fn lacks_login(&self) -> bool {
        self.lacks_login.load(Ordering::Relaxed)
    }

    async fn carry(
        &self,
        operation: Operation,
        request: Request<Full<Bytes>>,
        exchange: &Exchange,
        limit: Duration,
    ) -> Result<Answer, SendError> {
        let _slot = self.admit(operation)?;
        let started = Instant::now();
        let mut unheard = Unheard::new(self, operation, limit);
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
        unheard.heard(&result);
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
        self.send_signed(
            Operation::Other,
            &uri,
            &UpstreamRequest::get(path),
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

    /// Asks something that may be asked twice, and reads the answer. Where that can help, and the
    /// cluster's budget allows it, it is asked twice.
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
        let answer = self.send_or_repeat(operation, request, exchange).await?;
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

    /// Asks whether the cluster is alive. One that is asked with its callers' tokens is asked
    /// without any, and what it says to that, 401 or 403, is a sign of life.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub async fn probe(&self) -> Result<(), String> {
        let known = self
            .known_batch
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(request) = known.and_then(|id| self.dialect().probe_by(&id)) {
            match self.send_probe(&request).await? {
                answer if self.works(&answer) => return Ok(()),
                // That batch is gone, or the whole instance: the list will tell.
                answer if answer.status == 404 => self.know_batch(None),
                answer => return Err(format!("it answered {}", answer.status)),
            }
        }
        let answer = self.send_probe(&self.dialect().probe()).await?;
        if !self.works(&answer) {
            return Err(format!("it answered {}", answer.status));
        }
        if let Ok(list) = self.dialect().decode_list(&answer.as_response())
            && let Some(last) = list.batches.last()
        {
            self.know_batch(Some(&last.upstream_id));
        }
        Ok(())
    }

    /// One that is asked with its callers' tokens is asked without any.
    async fn send_probe(&self, request: &UpstreamRequest) -> Result<Answer, String> {
        let (exchange, limit) = (Exchange::default(), self.config.health.timeout);
        let asked = match self.needs_a_caller() {
            true => self.probe_unsigned(request, &exchange, limit).await,
            false => {
                self.send_within(Operation::Other, request, &exchange, limit)
                    .await
            }
        };
        asked.map_err(|error| error.words())
    }

    async fn probe_unsigned(
        &self,
        request: &UpstreamRequest,
        exchange: &Exchange,
        limit: Duration,
    ) -> Result<Answer, SendError> {
        let uri = format!("{}{}", self.config.base, request.path);
        let request = self.http_request(&uri, request, exchange)?;
        self.carry(Operation::Other, request, exchange, limit).await
    }

    /// Tells whether an answer is a sign of life: also that it wants a login, where nobody's is at
    /// hand.
    fn works(&self, answer: &Answer) -> bool {
        let refuses = self.needs_a_caller() && matches!(answer.status, 401 | 403);
        refuses || (answer.as_response().is_success() && !answer.as_response().is_html())
    }
}

fn most_in_flight(most: &MaxInFlight) -> [u32; Operation::ALL.len()] {
    Operation::ALL.map(|operation| match operation {
        Operation::CreateBatch => most.create_batch,
        Operation::ListBatches => most.list_batches,
        Operation::GetBatch => most.get_batch,
        Operation::GetState => most.get_state,
        Operation::GetLog => most.get_log,
        Operation::DeleteBatch => most.delete_batch,
        Operation::Other => u32::MAX,
    })
}

/// A request whose end the cluster's health has not heard of. One that nobody waits for any more
/// has failed as well, if it was given its time.
struct Unheard<'a> {
    upstream: &'a Upstream,
    operation: Operation,
    began: Instant,
    limit: Duration,
    is_heard: bool,
}

impl<'a> Unheard<'a> {
    fn new(upstream: &'a Upstream, operation: Operation, limit: Duration) -> Self {
        Unheard {
            upstream,
            operation,
            began: Instant::now(),
            limit,
            // A probe's verdict is its own; what lies beside the batch API may be missing.
            is_heard: operation == Operation::Other,
        }
    }

    fn heard(&mut self, result: &Result<Answer, SendError>) {
        if std::mem::replace(&mut self.is_heard, true) {
            return;
        }
        let verdict = verdict::of(result, self.upstream.dialect());
        let what = match result {
            // Nobody reads of it.
            _ if verdict == Verdict::Good => String::new(),
            Ok(answer) => format!("{}: it answered {}", self.operation.as_str(), answer.status),
            Err(error) => format!("{}: {error}", self.operation.as_str()),
        };
        self.upstream.health.heard(verdict, self.began, what);
    }
}

impl Drop for Unheard<'_> {
    fn drop(&mut self) {
        // Whoever waits has the same deadline, and began to count a moment earlier.
        if self.is_heard || self.began.elapsed() < self.limit.mul_f32(0.9) {
            return;
        }
        let what = format!("{}: no answer in time", self.operation.as_str());
        self.upstream.health.heard(Verdict::Bad, self.began, what);
    }
}
