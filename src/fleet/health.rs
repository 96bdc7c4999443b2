//! The state of a cluster: what the configuration says, what an administrator said, and what the
//! [breaker](super::breaker) makes of probes and real requests, under one lock.
//!
//! `/clusters` and the metrics are both written from here, so that they can't disagree. The
//! strictest wins: *disabled* (not asked anything), *draining* (no new batches), *ejected*,
//! *serving*. A draining cluster may be ejected as well: then it is not asked either.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::breaker::{Breaker, Cause, Change, Settings};
use super::verdict::Verdict;
use crate::clock::millis;
use crate::config::checked::{Cluster, ClusterState};
use crate::observe::metrics::Metrics;
use crate::registry::{Order, Wish};

/// What a cluster is used for; the words of `cluster_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Everything.
    Serving,
    /// Its batches; no new ones.
    Draining,
    /// Nothing until it answers again.
    Ejected,
    /// Nothing.
    Disabled,
}

impl State {
    /// Every state, in the order of their numbers.
    pub const ALL: [State; 4] = [
        State::Serving,
        State::Draining,
        State::Ejected,
        State::Disabled,
    ];

    /// Returns the word.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Serving => "serving",
            State::Draining => "draining",
            State::Ejected => "ejected",
            State::Disabled => "disabled",
        }
    }
}

/// The transitions that a running gateway can see, as `to` and `cause`.
pub(crate) const TRANSITIONS: [(&str, &str); 11] = [
    ("serving", "probe"),
    ("serving", "outlier"),
    ("serving", "admin"),
    ("ejected", "probe"),
    ("ejected", "outlier"),
    ("ejected", "admin"),
    ("draining", "admin"),
    ("disabled", "admin"),
    ("serving", "config"),
    ("draining", "config"),
    ("disabled", "config"),
];

/// A cluster's health.
#[derive(Debug)]
pub struct Health {
    name: String,
    configured: ClusterState,
    began: Instant,
    inner: Mutex<Inner>,
    /// A copy of `inner.state` for those who ask at every request.
    state: AtomicU8,
    /// A copy of what the breaker says.
    ejected: AtomicBool,
    /// Another definition of this cluster, or none, is in force: the metrics are no longer its.
    is_gone: AtomicBool,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Inner {
    breaker: Breaker,
    thresholds: Settings,
    /// The last probe's verdict.
    up: bool,
    /// What the last probe said, if it failed.
    why_dead: String,
    probed_ms: Option<i64>,
    orders: Vec<Order>,
    state: State,
    since_ms: i64,
    /// Why it is ejected, without a word that a client should not read.
    why_ejected: String,
    last_error: Option<(String, i64)>,
}

/// What an administrator sees of a cluster's health. Times are Unix time in milliseconds.
#[derive(Clone, Debug)]
pub struct Report {
    /// The state.
    pub state: State,
    /// Since when.
    pub since_ms: i64,
    /// Why it is not `serving`.
    pub reason: Option<String>,
    /// Whether the last probe found it alive.
    pub up: bool,
    /// When it was last probed.
    pub probed_ms: Option<i64>,
    /// Whether it is ejected, whatever else it is.
    pub ejected: bool,
    /// When a request will be let through to see whether it works again.
    pub trial_ms: Option<i64>,
    /// What last went wrong, and when.
    pub last_error: Option<(String, i64)>,
    /// What administrators said.
    pub orders: Vec<Order>,
    /// What the configuration says.
    pub configured: ClusterState,
}

impl Health {
    pub(super) fn new(config: &Cluster, metrics: Arc<Metrics>) -> Self {
        let thresholds = Settings {
            unhealthy_after: config.health.unhealthy_after,
            healthy_after: config.health.healthy_after,
            eject_after: config.health.eject_after,
            ejection_time: config.health.ejection_time,
            max_ejection_time: config.health.max_ejection_time,
            patience: config.timeouts.response,
        };
        let health = Health {
            name: config.name.clone(),
            configured: config.state,
            began: Instant::now(),
            state: AtomicU8::new(0),
            ejected: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                breaker: Breaker::new(thresholds),
                thresholds,
                up: true,
                why_dead: String::new(),
                probed_ms: None,
                orders: Vec::new(),
                state: State::Serving,
                since_ms: now_ms(),
                why_ejected: String::new(),
                last_error: None,
            }),
            is_gone: AtomicBool::new(false),
            metrics,
        };
        let labels = [health.name.as_str()];
        health
            .metrics
            .cluster_live_batches
            .with_label_values(&labels);
        health
            .metrics
            .cluster_insecure_tls
            .with_label_values(&labels)
            .set(config.tls.insecure_skip_verify.into());
        for (to, cause) in TRANSITIONS {
            health
                .metrics
                .cluster_transitions_total
                .with_label_values(&[labels[0], to, cause]);
        }
        let mut inner = health.lock();
        inner.state = health.strictest(&inner);
        health.show(&inner);
        drop(inner);
        health
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the state.
    pub fn state(&self) -> State {
        State::ALL[usize::from(self.state.load(Ordering::Relaxed))]
    }

    /// Tells whether it is ejected, by probes or by requests.
    pub fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Asks for leave to send an ordinary read: yes, unless it is ejected. After the cool-down one
    /// of those who ask gets it, and is the trial.
    pub fn may_ask(&self) -> bool {
        !self.is_ejected() || self.lock().breaker.knock(self.began.elapsed())
    }

    /// Returns why the last probe failed, as the end of a sentence; nothing if it did not.
    pub fn why(&self) -> String {
        match self.lock().why_dead.as_str() {
            "" => String::new(),
            why => format!(" ({why})"),
        }
    }

    /// Tells whether new batches may go there.
    pub fn takes_batches(&self) -> bool {
        self.state() == State::Serving
    }

    /// Tells whether new batches may go there if there is no other cluster for them: real requests
    /// ejected it, but its probes find it alive.
    pub fn is_last_resort(&self) -> bool {
        self.state() == State::Ejected && !self.lock().breaker.is_dead()
    }

    /// Tells whether it may be asked anything.
    pub fn is_enabled(&self) -> bool {
        self.state() != State::Disabled
    }

    /// Takes a probe's verdict.
    pub fn judge(&self, verdict: &Result<(), String>) {
        let mut inner = self.lock();
        inner.up = verdict.is_ok();
        inner.probed_ms = Some(now_ms());
        inner.why_dead = verdict.as_ref().err().cloned().unwrap_or_default();
        if let Err(why) = verdict {
            inner.last_error = Some((format!("probe: {why}"), now_ms()));
        }
        let change = inner.breaker.probed(verdict.is_ok(), self.began.elapsed());
        self.changed(&mut inner, change);
    }

    /// Takes in how a real request ended that began at `began`, and in words for an administrator.
    pub(super) fn heard(&self, verdict: Verdict, began: Instant, what: String) {
        let mut inner = self.lock();
        if verdict != Verdict::Good {
            inner.last_error = Some((what, now_ms()));
        }
        if verdict != Verdict::Neither {
            let (began, now) = (
                began.saturating_duration_since(self.began),
                self.began.elapsed(),
            );
            let good = verdict == Verdict::Good;
            let change = inner.breaker.heard(good, began, now);
            self.changed(&mut inner, change);
        }
    }

    /// Takes an administrator's order, or takes it back.
    pub fn obey(&self, wish: Wish, order: Option<Order>) {
        let mut inner = self.lock();
        inner.orders.retain(|order| order.wish != wish);
        inner.orders.extend(order);
        self.settle(&mut inner, "admin");
    }

    /// Takes every order of earlier processes, or of the definition that was in force before.
    pub fn obey_all(&self, orders: Vec<Order>) {
        let mut inner = self.lock();
        inner.orders = orders;
        // Nothing has changed: it was so before this began to be looked at.
        inner.state = self.strictest(&inner);
        self.show(&inner);
    }

    /// Counts the change if another definition has put the cluster in another state.
    pub fn was_defined_anew(&self, before: State) {
        let state = self.state();
        if state != before {
            let labels = [self.name.as_str(), state.as_str(), "config"];
            let transitions = &self.metrics.cluster_transitions_total;
            transitions.with_label_values(&labels).inc();
        }
    }

    /// Leaves the metrics to whoever takes its place.
    pub fn leave(&self) {
        let _inner = self.lock();
        self.is_gone.store(true, Ordering::Relaxed);
    }

    /// Writes the metrics again, which one that has left may have written meanwhile.
    pub fn take_over(&self) {
        self.show(&self.lock());
    }

    fn changed(&self, inner: &mut Inner, change: Option<Change>) {
        let cause = match change {
            Some(Change::Ejected(cause)) => {
                inner.why_ejected = why_ejected(cause, &inner.thresholds);
                let error = inner.last_error.as_ref().map_or("", |(text, _)| text);
                tracing::warn!(cluster = %self.name, why = %inner.why_ejected, error, "the cluster is ejected");
                cause
            }
            Some(Change::Back(cause)) => {
                tracing::info!(cluster = %self.name, "the cluster is back");
                cause
            }
            Some(Change::Prolonged) => {
                tracing::info!(cluster = %self.name, "the trial of an ejected cluster failed; it stays ejected for longer");
                Cause::Outlier
            }
            None => return self.show(inner),
        };
        let cause = match cause {
            Cause::Probe => "probe",
            Cause::Outlier => "outlier",
        };
        self.settle(inner, cause);
    }

    /// Brings the state up to date with everything that decides about it.
    fn settle(&self, inner: &mut Inner, cause: &str) {
        let state = self.strictest(inner);
        if state != inner.state {
            inner.state = state;
            inner.since_ms = now_ms();
            if !self.is_gone.load(Ordering::Relaxed) {
                self.metrics
                    .cluster_transitions_total
                    .with_label_values(&[self.name.as_str(), state.as_str(), cause])
                    .inc();
            }
        }
        self.show(inner);
    }

    fn strictest(&self, inner: &Inner) -> State {
        let ordered = |wish| inner.orders.iter().any(|order| order.wish == wish);
        if self.configured == ClusterState::Disabled || ordered(Wish::Disable) {
            State::Disabled
        } else if self.configured == ClusterState::Draining || ordered(Wish::Drain) {
            State::Draining
        } else if inner.breaker.is_ejected() {
            State::Ejected
        } else {
            State::Serving
        }
    }

    /// Writes the metrics and the copies, under the lock.
    fn show(&self, inner: &Inner) {
        self.state.store(inner.state as u8, Ordering::Relaxed);
        self.ejected
            .store(inner.breaker.is_ejected(), Ordering::Relaxed);
        if self.is_gone.load(Ordering::Relaxed) {
            return;
        }
        let labels = [self.name.as_str()];
        let metrics = &self.metrics;
        metrics
            .cluster_up
            .with_label_values(&labels)
            .set(inner.up.into());
        for state in State::ALL {
            let here = inner.state == state;
            metrics
                .cluster_state
                .with_label_values(&[labels[0], state.as_str()])
                .set(here.into());
        }
    }

    /// Returns what an administrator sees.
    pub fn report(&self) -> Report {
        let inner = self.lock();
        let trial = inner.breaker.trial_at();
        Report {
            state: inner.state,
            since_ms: self.since_ms(&inner),
            reason: self.reason(&inner),
            up: inner.up,
            probed_ms: inner.probed_ms,
            ejected: inner.breaker.is_ejected(),
            trial_ms: trial.map(|at| {
                let ahead = at.saturating_sub(self.began.elapsed());
                now_ms().saturating_add(millis(ahead))
            }),
            last_error: inner.last_error.clone(),
            orders: inner.orders.clone(),
            configured: self.configured,
        }
    }

    /// Returns state, time and reason in words for a client whose submission it can't have.
    pub fn excuse(&self) -> String {
        let inner = self.lock();
        let state = inner.state.as_str();
        let since = rfc3339(self.since_ms(&inner));
        match inner.state {
            State::Ejected => format!("{state} since {since}: {}", inner.why_ejected),
            _ => format!("{state} since {since}"),
        }
    }

    /// An order holds since it was given, also if that was in an earlier process.
    fn since_ms(&self, inner: &Inner) -> i64 {
        let deciding = match inner.state {
            State::Disabled if self.configured != ClusterState::Disabled => Wish::Disable,
            State::Draining if self.configured != ClusterState::Draining => Wish::Drain,
            _ => return inner.since_ms,
        };
        let order = inner.orders.iter().find(|order| order.wish == deciding);
        order.map_or(inner.since_ms, |order| order.since_ms)
    }

    fn reason(&self, inner: &Inner) -> Option<String> {
        let (configured, wish) = match inner.state {
            State::Serving => return None,
            State::Ejected => return Some(inner.why_ejected.clone()),
            State::Draining => (ClusterState::Draining, Wish::Drain),
            State::Disabled => (ClusterState::Disabled, Wish::Disable),
        };
        if self.configured == configured {
            return Some("the configuration says so".to_owned());
        }
        let order = inner.orders.iter().find(|order| order.wish == wish)?;
        Some(format!("an administrator said so ({})", order.by))
    }
}

fn why_ejected(cause: Cause, thresholds: &Settings) -> String {
    match cause {
        Cause::Probe => format!("{} probes in a row failed", thresholds.unhealthy_after),
        Cause::Outlier => format!(
            "{} requests in a row got no answer of the cluster's own",
            thresholds.eject_after
        ),
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    millis(since.unwrap_or_default())
}

/// Writes Unix time in milliseconds as RFC 3339 has it, in UTC.
pub fn rfc3339(unix_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(unix_ms)
        .unwrap_or_default()
        .to_string()
}
