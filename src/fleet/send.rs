//! One request to a cluster: admitted, made, signed, carried, and its end told to the cluster's
//! health.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request};
use http_body_util::Full;
use livy_dialect::{FaultKind, Flavor, Operation, UpstreamRequest, proof, wire};
use tokio::time::Instant;

use super::answer::{Answer, SendError};
use super::credentials::scrub::scrub;
use super::credentials::{Stamp, Unsigned};
use super::health::State;
use super::slots::Slot;
use super::upstream::{Upstream, not_meant};
use super::verdict::{self, Verdict};
use crate::net::Held;
use crate::observe::exchange::Exchange;

impl Upstream {
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
    pub(super) fn limit(&self, operation: Operation) -> Duration {
        let timeouts = &self.config.timeouts;
        match operation {
            Operation::CreateBatch => timeouts.create_batch,
            // A Livy on YARN may wait two minutes for an application id before it kills.
            Operation::DeleteBatch => timeouts.create_batch.max(timeouts.response),
            _ => timeouts.response,
        }
    }

    /// What is asked nothing gets nothing, whoever still holds it; one that takes no new batches
    /// gets none either.
    fn admit(&self, operation: Operation) -> Result<Option<Slot>, SendError> {
        match (self.wanted(), operation) {
            (Ok(State::Disabled), _) => {
                return Err(SendError::not_sent("disabled", "it is disabled"));
            }
            (Ok(State::Draining), Operation::CreateBatch) => {
                return Err(SendError::not_sent("draining", "it takes no new batches"));
            }
            // What it has is still looked after.
            (Err(why), Operation::CreateBatch) => return Err(not_meant(why)),
            _ => {}
        }
        // Probes must get through when everything is taken; a submission has its place already.
        if matches!(operation, Operation::Other | Operation::CreateBatch) {
            return Ok(None);
        }
        let slot = self.place(operation);
        slot.map(Some).ok_or_else(SendError::shed)
    }

    pub(super) async fn send_within(
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

    pub(super) async fn carry(
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

    pub(super) fn http_request(
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
