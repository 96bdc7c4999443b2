//! Every metric family, registered once; handles for hot paths are resolved when the configuration
//! is built.
//!
//! To add a metric: a field here with its help text, its name in `docs/metrics.md` (a test compares
//! the two), and a call at the place where the thing happens. Families with closed label sets get
//! their children up front, so that `rate()` works from zero.

use std::borrow::Cow;
use std::collections::HashMap;

use livy_dialect::{BatchState, Operation};
use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    Encoder as _, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::named::Named;

/// Requests: clients and clusters, up to serverless submissions of minutes.
const R: [f64; 16] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];
/// Overhead: the gateway's own part.
const O: [f64; 10] = [
    0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
];
/// Authentication: from a cache hit to a costly bcrypt.
const A: [f64; 10] = [
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0,
];
/// Bytes.
const B: [f64; 9] = [
    256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0,
];

/// The value of `route` where no route was involved.
pub const NO_ROUTE: &str = "_none";

/// All families.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "each field's meaning is its help text, in `new` and in docs/metrics.md"
)]
pub struct Metrics {
    registry: Registry,
    forget: Forgetters,
    pub requests_total: IntCounterVec,
    pub request_duration_seconds: HistogramVec,
    pub overhead_seconds: HistogramVec,
    pub requests_in_flight: IntGaugeVec,
    pub request_body_bytes: HistogramVec,
    pub response_body_bytes: HistogramVec,
    pub connections_open: IntGaugeVec,
    pub connections_total: IntCounterVec,
    pub tls_handshakes_total: IntCounterVec,
    pub tls_certificate_expiry: GaugeVec,
    pub auth_total: IntCounterVec,
    pub auth_duration_seconds: HistogramVec,
    pub jwks_refresh_total: IntCounterVec,
    pub jwks_last_success: GaugeVec,
    pub jwks_keys: IntGaugeVec,
    pub upstream_requests_total: IntCounterVec,
    pub upstream_duration_seconds: HistogramVec,
    pub upstream_errors_total: IntCounterVec,
    pub upstream_connections: IntGaugeVec,
    pub upstream_retries_total: IntCounterVec,
    pub upstream_shed_total: IntCounterVec,
    pub cluster_up: IntGaugeVec,
    pub cluster_state: IntGaugeVec,
    pub cluster_transitions_total: IntCounterVec,
    pub cluster_live_batches: IntGaugeVec,
    pub cluster_info: IntGaugeVec,
    pub cluster_insecure_tls: IntGaugeVec,
    pub credential_refresh_total: IntCounterVec,
    pub credential_expiry: GaugeVec,
    pub submissions_total: IntCounterVec,
    pub ambiguous_submissions_total: IntCounterVec,
    pub routing_decisions_total: IntCounterVec,
    pub batch_transitions_total: IntCounterVec,
    pub translation_notes_total: IntCounterVec,
    pub translation_errors_total: IntCounterVec,
    pub idempotency_total: IntCounterVec,
    pub registry_up: IntGauge,
    pub late_jobs_total: IntCounterVec,
    pub lost_batches_total: IntCounterVec,
    pub state_reads_total: IntCounterVec,
    pub config_info: IntGaugeVec,
    pub config_reloads_total: IntCounterVec,
    pub file_reads_total: IntCounterVec,
    pub file_current: IntGaugeVec,
    pub config_last_reload_success: IntGauge,
    pub config_last_reload_timestamp: Gauge,
    pub build_info: IntGaugeVec,
    pub log_records_dropped_total: IntCounter,
    pub panics_total: IntCounterVec,
}

struct Forgetters(Vec<Forget>);

impl std::fmt::Debug for Forgetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} families", self.0.len())
    }
}

/// Makes families of one registry; the names and label names below are constants, so registering
/// can only fail by a bug here.
struct Maker<'a>(&'a Registry, std::cell::RefCell<Vec<Forget>>);

/// Removes the series of one family that stand for what is named.
type Forget = Box<dyn Fn(&Named) + Send + Sync>;

impl Maker<'_> {
    fn register<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        made: prometheus::Result<C>,
    ) -> C {
        let family = made.expect("names and labels are constants of this file");
        self.0
            .register(Box::new(family.clone()))
            .expect("each name is registered once");
        family
    }

    /// Registers a family with labels.
    fn family<B>(&self, made: prometheus::Result<MetricVec<B>>) -> MetricVec<B>
    where
        B: MetricVecBuilder + Send + Sync + 'static,
        B::M: Send + Sync,
        MetricVec<B>: Collector,
    {
        let family = self.register(made);
        let forgotten = family.clone();
        let descriptions = forgotten.desc();
        let names = descriptions.iter().flat_map(|one| &one.variable_labels);
        let names: Vec<String> = names.cloned().collect();
        let forget = move |gone: &Named| {
            if !gone.concerns(&names) {
                return;
            }
            // One look at the family, however much is gone: looking copies every series.
            for metric in forgotten
                .collect()
                .iter()
                .flat_map(|family| family.get_metric())
            {
                let labels = metric.get_label().iter();
                let labels: HashMap<&str, &str> =
                    labels.map(|pair| (pair.name(), pair.value())).collect();
                if gone.has(&labels) {
                    // Somebody else may just have removed it.
                    let _ = forgotten.remove(&labels);
                }
            }
        };
        self.1.borrow_mut().push(Box::new(forget));
        family
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(format!("livy_gateway_{name}"), help)
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.family(IntCounterVec::new(Self::opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.family(IntGaugeVec::new(Self::opts(name, help), labels))
    }

    fn float(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.family(GaugeVec::new(Self::opts(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let opts =
            HistogramOpts::new(format!("livy_gateway_{name}"), help).buckets(buckets.to_vec());
        self.family(HistogramVec::new(opts, labels))
    }
}

impl Metrics {
    /// Removes every series that stands for what is named, in one pass. Takes a while where there are
    /// many series: not for a thread that serves.
    pub fn forget_all(&self, gone: &Named) {
        self.forget.0.iter().for_each(|forget| forget(gone));
    }

    /// Registers everything.
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let m = Maker(&registry, std::cell::RefCell::default());
        let route_op = ["route", "operation"];
        let cluster_op = ["cluster", "operation"];
        let metrics = Metrics {
            requests_total: m.counter(
                "requests_total",
                "Requests answered, as clients saw them.",
                &["route", "operation", "code"],
            ),
            request_duration_seconds: m.histogram(
                "request_duration_seconds",
                "From a request's head to the end of its answer.",
                &route_op,
                &R,
            ),
            overhead_seconds: m.histogram(
                "overhead_seconds",
                "A request's time less the time spent waiting for clusters.",
                &["operation"],
                &O,
            ),
            requests_in_flight: m.gauge(
                "requests_in_flight",
                "Requests being served.",
                &["operation"],
            ),
            request_body_bytes: m.histogram(
                "request_body_bytes",
                "Size of request bodies.",
                &["operation"],
                &B,
            ),
            response_body_bytes: m.histogram(
                "response_body_bytes",
                "Size of response bodies.",
                &["operation"],
                &B,
            ),
            connections_open: m.gauge(
                "connections_open",
                "Open client connections.",
                &["listener"],
            ),
            connections_total: m.counter(
                "connections_total",
                "Client connections, by how their beginning went.",
                &["listener", "outcome"],
            ),
            tls_handshakes_total: m.counter(
                "tls_handshakes_total",
                "TLS handshakes with clients.",
                &["listener", "version", "outcome"],
            ),
            tls_certificate_expiry: m.float(
                "tls_certificate_expiry_timestamp_seconds",
                "When a certificate ends, Unix time.",
                &["kind", "name"],
            ),
            auth_total: m.counter(
                "auth_total",
                "Authentications by outcome.",
                &["authenticator", "outcome"],
            ),
            auth_duration_seconds: m.histogram(
                "auth_duration_seconds",
                "Time of authentications that were not cached.",
                &["authenticator"],
                &A,
            ),
            jwks_refresh_total: m.counter(
                "jwks_refresh_total",
                "Readings of key sets.",
                &["authenticator", "outcome"],
            ),
            jwks_last_success: m.float(
                "jwks_last_success_timestamp_seconds",
                "When a key set was last read, Unix time.",
                &["authenticator"],
            ),
            jwks_keys: m.gauge("jwks_keys", "Keys in force.", &["authenticator"]),
            upstream_requests_total: m.counter(
                "upstream_requests_total",
                "Requests to clusters, by the cluster's own status, or its class if that is an unusual one; `none` is no answer.",
                &["cluster", "operation", "code"],
            ),
            upstream_duration_seconds: m.histogram(
                "upstream_duration_seconds",
                "Time that clusters took.",
                &cluster_op,
                &R,
            ),
            upstream_errors_total: m.counter(
                "upstream_errors_total",
                "Requests to clusters that got no answer.",
                &["cluster", "reason"],
            ),
            upstream_connections: m.gauge(
                "upstream_connections",
                "Open connections to clusters.",
                &["cluster", "state"],
            ),
            upstream_retries_total: m.counter(
                "upstream_retries_total",
                "Requests to clusters that were, or would have been, sent again.",
                &["cluster", "operation", "outcome"],
            ),
            upstream_shed_total: m.counter(
                "upstream_shed_total",
                "Requests to clusters that were not sent because as many as may be were on their way.",
                &["cluster", "operation"],
            ),
            cluster_up: m.gauge(
                "cluster_up",
                "Whether the last probe found the cluster alive.",
                &["cluster"],
            ),
            cluster_state: m.gauge(
                "cluster_state",
                "1 for the state that a cluster is in.",
                &["cluster", "state"],
            ),
            cluster_transitions_total: m.counter(
                "cluster_transitions_total",
                "Changes of a cluster's state.",
                &["cluster", "to", "cause"],
            ),
            cluster_live_batches: m.gauge(
                "cluster_live_batches",
                "Known batches that have not ended.",
                &["cluster"],
            ),
            cluster_info: m.gauge(
                "cluster_info",
                "1; joins the flavor to a cluster.",
                &["cluster", "flavor"],
            ),
            cluster_insecure_tls: m.gauge(
                "cluster_insecure_tls",
                "1 where certificates are not verified.",
                &["cluster"],
            ),
            credential_refresh_total: m.counter(
                "credential_refresh_total",
                "Exchanges of a secret for a token, by outcome.",
                &["cluster", "kind", "outcome"],
            ),
            credential_expiry: m.float(
                "credential_expiry_timestamp_seconds",
                "When the token in use for a cluster ends, Unix time.",
                &["cluster"],
            ),
            submissions_total: m.counter(
                "submissions_total",
                "Submissions by outcome.",
                &["route", "cluster", "outcome"],
            ),
            ambiguous_submissions_total: m.counter(
                "ambiguous_submissions_total",
                "Submissions whose answer was lost, by what became clear.",
                &["cluster", "resolution"],
            ),
            routing_decisions_total: m.counter(
                "routing_decisions_total",
                "Why a cluster was chosen.",
                &["route", "cluster", "reason"],
            ),
            batch_transitions_total: m.counter(
                "batch_transitions_total",
                "Batches first seen in a state.",
                &["cluster", "state"],
            ),
            translation_notes_total: m.counter(
                "translation_notes_total",
                "Fields dropped or emulated.",
                &["flavor", "field", "action"],
            ),
            translation_errors_total: m.counter(
                "translation_errors_total",
                "Answers of clusters that could not be read.",
                &["flavor", "operation", "reason"],
            ),
            registry_up: m.register(IntGauge::new(
                "livy_gateway_registry_up",
                "Whether the registry can be written; reads go on without.",
            )),
            late_jobs_total: m.counter(
                "late_jobs_total",
                "Jobs that showed up after their submission had been given up, by what was done.",
                &["cluster", "action"],
            ),
            panics_total: m.counter(
                "panics_total",
                "Bugs that ended one request, or made a background task begin again.",
                &["task"],
            ),
            lost_batches_total: m.counter(
                "lost_batches_total",
                "Live batches that their cluster no longer knows.",
                &["cluster"],
            ),
            idempotency_total: m.counter(
                "idempotency_total",
                "Submissions with an Idempotency-Key, by outcome.",
                &["outcome"],
            ),
            state_reads_total: m.counter(
                "state_reads_total",
                "Where the answer to a poll came from.",
                &["outcome"],
            ),
            config_reloads_total: m.counter(
                "config_reloads_total",
                "Configurations that were put in force (ok) or had problems (refused).",
                &["outcome"],
            ),
            file_reads_total: m.counter(
                "file_reads_total",
                "Files that had changed and were read again: certificates, passwords, keys, secrets.",
                &["kind", "name", "outcome"],
            ),
            file_current: m.gauge(
                "file_current",
                "1 while the newest content of a file that has changed is in use.",
                &["kind", "name"],
            ),
            config_info: m.gauge(
                "config_info",
                "1; the hash of the configuration in force.",
                &["hash"],
            ),
            config_last_reload_success: m.register(IntGauge::new(
                "livy_gateway_config_last_reload_success",
                "Whether the configuration was read at the last attempt.",
            )),
            config_last_reload_timestamp: m.register(Gauge::new(
                "livy_gateway_config_last_reload_timestamp_seconds",
                "When the configuration in force was read, Unix time.",
            )),
            build_info: m.gauge(
                "build_info",
                "1; version and revision of this binary.",
                &["version", "revision"],
            ),
            // Counted where lines are left, which is before and after any configuration.
            log_records_dropped_total: m.register(Ok(super::log::DROPPED.clone())),
            registry: registry.clone(),
            forget: Forgetters(m.1.take()),
        };
        metrics.create_closed_sets();
        // The standard `process_*` family; absent where there is no /proc.
        let _ = registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ));
        metrics
    }

    fn create_closed_sets(&self) {
        for operation in Operation::ALL.map(Operation::as_str) {
            self.overhead_seconds.with_label_values(&[operation]);
            self.requests_in_flight.with_label_values(&[operation]);
            self.request_body_bytes.with_label_values(&[operation]);
            self.response_body_bytes.with_label_values(&[operation]);
        }
        for outcome in ["upstream", "coalesced", "cached", "terminal", "stale"] {
            self.state_reads_total.with_label_values(&[outcome]);
        }
        for outcome in ["new", "replayed", "in_progress", "conflict"] {
            self.idempotency_total.with_label_values(&[outcome]);
        }
        self.registry_up.set(1);
        self.build_info
            .with_label_values(&[env!("CARGO_PKG_VERSION"), crate::REVISION])
            .set(1);
    }

    /// Creates the children of one route.
    pub fn create_route(&self, route: &str) {
        for operation in Operation::ALL.map(Operation::as_str) {
            self.request_duration_seconds
                .with_label_values(&[route, operation]);
        }
    }

    /// Writes the text format 0.0.4.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // Writing to memory can't fail; a family that can't be encoded is left out.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        out
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

/// Why a request to a cluster got no answer; the `reason` label of `upstream_errors_total`.
pub const UPSTREAM_ERRORS: [&str; 8] = [
    "dns",
    "connect",
    "tls",
    "timeout_connect",
    "timeout_response",
    "reset",
    "protocol",
    "body_limit",
];

/// The statuses that servers and whoever stands in front of them really use; any other number that
/// a cluster invents is counted by its class.
const USUAL: [u16; 33] = [
    200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 406, 407, 408,
    409, 410, 411, 413, 414, 415, 422, 429, 431, 500, 501, 502, 503, 504,
];

/// Returns the `code` of a status; their number is bounded, whatever is answered.
fn code_label(status: u16) -> Cow<'static, str> {
    if USUAL.contains(&status) {
        return status.to_string().into();
    }
    match status {
        100..=199 => "1xx",
        200..=299 => "2xx",
        300..=399 => "3xx",
        400..=499 => "4xx",
        500..=599 => "5xx",
        _ => "other",
    }
    .into()
}

/// Creates the series of what can be sent again, or is turned away.
fn create_repeats(metrics: &Metrics, name: &str) {
    for operation in Operation::ALL.map(Operation::as_str) {
        let outcomes: &[&str] = match operation {
            "other" => continue,
            "create_batch" => &["unsafe"],
            _ => &["recovered", "exhausted", "over_budget"],
        };
        metrics
            .upstream_shed_total
            .with_label_values(&[name, operation]);
        for outcome in outcomes {
            metrics
                .upstream_retries_total
                .with_label_values(&[name, operation, outcome]);
        }
    }
}
/// The `outcome` values of `submissions_total`.
pub const SUBMISSION_OUTCOMES: [&str; 7] = [
    "accepted",
    "rejected_request",
    "rejected_policy",
    "rejected_upstream",
    "ambiguous",
    "deduplicated",
    "failed",
];

/// The `action` values of `late_jobs_total`.
pub const LATE_JOB_ACTIONS: [&str; 3] = ["killed", "adopted", "failed"];

/// The handles of one cluster.
#[derive(Debug)]
pub struct ClusterMetrics {
    name: String,
    durations: [Histogram; Operation::ALL.len()],
    errors: [IntCounter; UPSTREAM_ERRORS.len()],
    transitions: [IntCounter; BatchState::ALL.len()],
}

impl ClusterMetrics {
    /// Resolves the handles, and so creates the series.
    pub fn new(metrics: &Metrics, name: &str, flavor: &str) -> Self {
        metrics
            .cluster_info
            .with_label_values(&[name, flavor])
            .set(1);
        for action in LATE_JOB_ACTIONS {
            metrics.late_jobs_total.with_label_values(&[name, action]);
        }
        metrics.lost_batches_total.with_label_values(&[name]);
        for resolution in ["found", "absent", "unknown"] {
            metrics
                .ambiguous_submissions_total
                .with_label_values(&[name, resolution]);
        }
        create_repeats(metrics, name);
        ClusterMetrics {
            name: name.to_owned(),
            durations: Operation::ALL.map(|op| {
                metrics
                    .upstream_duration_seconds
                    .with_label_values(&[name, op.as_str()])
            }),
            errors: UPSTREAM_ERRORS.map(|reason| {
                metrics
                    .upstream_errors_total
                    .with_label_values(&[name, reason])
            }),
            transitions: BatchState::ALL.map(|state| {
                metrics
                    .batch_transitions_total
                    .with_label_values(&[name, state.as_str()])
            }),
        }
    }

    /// Counts an answer, or the lack of one.
    pub fn answered(
        &self,
        metrics: &Metrics,
        operation: Operation,
        code: Option<u16>,
        seconds: f64,
    ) {
        let code = code.map_or(Cow::Borrowed("none"), code_label);
        metrics
            .upstream_requests_total
            .with_label_values(&[self.name.as_str(), operation.as_str(), &code])
            .inc();
        if let Some(at) = Operation::ALL.iter().position(|one| *one == operation) {
            self.durations[at].observe(seconds);
        }
    }

    /// Counts a failure by its reason.
    pub fn failed(&self, reason: &str) {
        if let Some(at) = UPSTREAM_ERRORS.iter().position(|one| *one == reason) {
            self.errors[at].inc();
        }
    }

    /// Counts a batch's arrival in a state.
    pub fn entered(&self, state: BatchState) {
        if let Some(at) = BatchState::ALL.iter().position(|one| *one == state) {
            self.transitions[at].inc();
        }
    }
}

/// Returns the time as Prometheus wants it.
pub fn unix_now() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{ClusterMetrics, Metrics, Named, code_label};

    #[test]
    fn what_is_gone_is_forgotten_and_nothing_else() {
        let metrics = Metrics::new();
        for name in ["a", "b", "c"] {
            ClusterMetrics::new(&metrics, name, "livy");
            metrics.file_current.with_label_values(&["htpasswd", name]);
        }
        let mut gone = Named::default();
        gone.add("cluster", "a");
        gone.add("cluster", "c");
        gone.add_pair("htpasswd", "b");
        metrics.forget_all(&gone);
        let text = String::from_utf8(metrics.encode()).expect("is text");
        for (series, stays) in [
            ("cluster=\"a\"", false),
            ("cluster=\"b\"", true),
            ("cluster=\"c\"", false),
            ("name=\"a\"", true),
            ("name=\"b\"", false),
        ] {
            assert_eq!(text.contains(series), stays, "{series}");
        }
    }

    #[test]
    fn a_cluster_can_not_invent_codes() {
        let labels: BTreeSet<_> = (0..=u16::MAX).map(code_label).collect();
        assert_eq!(labels.len(), super::USUAL.len() + 6);
        assert_eq!(code_label(299), "2xx");
        assert_eq!(code_label(503), "503");
        assert_eq!(code_label(999), "other");
    }
}
