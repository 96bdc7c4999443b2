//! One request's record: what is known of it by now. Whoever learns something notes it here; the
//! request log and the metrics read it at the end, and what goes along to a cluster is taken from
//! it. The gateway's own questions have one too, in which nobody asks.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use http::header::HeaderValue;
use secrecy::SecretString;

/// The record. Shared: a submission goes on after its request has ended.
#[derive(Debug, Default)]
pub struct Exchange {
    /// `X-Request-Id`; empty if nobody asks.
    pub request_id: String,
    /// W3C trace context, as the client sent it.
    pub traceparent: Option<HeaderValue>,
    /// Who is connected; Kyuubi counts its limits by it.
    pub peer: Option<IpAddr>,
    waited_us: AtomicU64,
    upstream_status: AtomicU16,
    notes: Mutex<Notes>,
    /// The caller's own bearer token, in memory for as long as the request is worked on; set only
    /// where a cluster is asked with it.
    caller_token: OnceLock<SecretString>,
}

/// What became known on the way.
#[derive(Debug, Default, Clone)]
pub struct Notes {
    /// Who asks, once that is proven.
    pub user: Option<String>,
    /// The route.
    pub route: Option<String>,
    /// The cluster.
    pub cluster: Option<String>,
    /// The id of the batch that it is about.
    pub batch: Option<i32>,
    /// The user that a submission is to run as.
    pub run_as: Option<String>,
    /// The code of the error that it was answered with.
    pub code: Option<&'static str>,
}

impl Exchange {
    /// Begins the record of a client's request.
    pub fn new(request_id: String, traceparent: Option<HeaderValue>, peer: IpAddr) -> Self {
        Exchange {
            request_id,
            traceparent,
            peer: Some(peer),
            ..Exchange::default()
        }
    }

    /// Keeps the caller's own bearer token, for clusters that are asked with it.
    pub fn bring_token(&self, token: SecretString) {
        // One request has one caller.
        let _ = self.caller_token.set(token);
    }

    /// Returns the caller's own bearer token.
    pub fn caller_token(&self) -> Option<&SecretString> {
        self.caller_token.get()
    }

    /// Notes who asks.
    pub fn asked_by(&self, user: &str) {
        self.lock().user = Some(user.to_owned());
    }

    /// Notes where the request goes.
    pub fn goes_to(&self, route: &str, cluster: &str) {
        let mut notes = self.lock();
        notes.route = Some(route.to_owned());
        notes.cluster = Some(cluster.to_owned());
    }

    /// Notes which batch it is about.
    pub fn is_about(&self, batch: i32) {
        self.lock().batch = Some(batch);
    }

    /// Notes whom a submission is to run as.
    pub fn runs_as(&self, user: Option<&str>) {
        self.lock().run_as = user.map(str::to_owned);
    }

    /// Notes the error that it ends with.
    pub fn failed(&self, code: &'static str) {
        self.lock().code = Some(code);
    }

    /// Notes an exchange with a cluster: how long it took, and the status if there was an answer.
    pub fn waited(&self, time: Duration, status: Option<u16>) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(0);
        self.waited_us.fetch_add(micros, Ordering::Relaxed);
        self.upstream_status
            .store(status.unwrap_or(0), Ordering::Relaxed);
    }

    /// Notes time in which a client waited for a change, and nothing was done.
    pub fn rested(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(0);
        self.waited_us.fetch_add(micros, Ordering::Relaxed);
    }

    /// Returns the time spent waiting for clusters, or for a change.
    pub fn time_waited(&self) -> Duration {
        Duration::from_micros(self.waited_us.load(Ordering::Relaxed))
    }

    /// Returns the last status that a cluster answered.
    pub fn upstream_status(&self) -> Option<u16> {
        let status = self.upstream_status.load(Ordering::Relaxed);
        (status > 0).then_some(status)
    }

    /// Returns what is known by now.
    pub fn notes(&self) -> Notes {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
