//! A cluster, ready to be asked: what it is made of, and what is known of it.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use http::header::HeaderValue;
use livy_dialect::{Operation, UpstreamFault};
use tokio::sync::Semaphore;

use super::allowance::Repeats;
use super::answer::{Answer, SendError};
use super::credentials::{self, Common, Credential, Opened};
use super::health::{Health, State};
use super::marks::Marks;
use super::reading::Reading;
use super::slots::{Slot, Slots};
use super::transport::{Http, Transport};
use crate::config::checked::{Cluster, MaxInFlight};
use crate::live::Living;
use crate::net::connect::Connector;
use crate::net::tls::ClientTls;
use crate::observe::metrics::{ClusterMetrics, Metrics};

const UNKNOWN: i64 = i64::MIN;

/// How many batches that a cluster does not know are asked for over and over at the same time:
/// after one that lost thousands has come back, asking for them must not be all that it does.
const MISSING_AT_ONCE: usize = 100;

/// What has taken the place of a cluster's definition.
#[derive(Debug)]
enum Successor {
    /// The cluster was removed.
    None,
    /// Another definition of the same server.
    Is(Arc<Upstream>),
    /// Its name stands for another server.
    IsElsewhere,
}

/// Says that the configuration in force does not mean this server, and so nothing was sent there.
pub(super) fn not_meant(why: &'static str) -> SendError {
    SendError::not_sent(why, "another configuration is in force")
}

/// A cluster, ready to be asked.
#[derive(Debug)]
pub struct Upstream {
    /// Its configuration.
    pub config: Cluster,
    /// Its handles in the metrics.
    pub handles: ClusterMetrics,
    /// What it is used for, and whether it answers.
    pub health: Health,
    pub(super) slots: Slots,
    pub(super) repeats: Repeats,
    /// A batch that it is known to have, for a probe that costs less than a list.
    pub(super) known_batch: Mutex<Option<String>>,
    /// What its reader knows.
    pub reading: Reading,
    /// Up to which id those were asked for that may still show up; 0 to begin anew.
    pub watched_up_to: AtomicI32,
    pub(super) transport: Box<dyn Transport>,
    pub(super) tls: Option<ClientTls>,
    /// The highest id that the cluster was seen to have given, -1 before its first one; [`UNKNOWN`]
    /// if that is not known.
    pub(super) highest: AtomicI64,
    /// Whether the last read was refused because of our login.
    pub(super) refuses_login: AtomicBool,
    pub(super) credential: Box<dyn Credential>,
    /// What of it other clusters may have as well.
    common_login: Option<Arc<Common>>,
    /// The last request could not be signed: there is no login.
    pub(super) lacks_login: AtomicBool,
    /// Open connections.
    pub(super) open: Arc<AtomicI64>,
    /// Requests on their way.
    pub(super) active: Arc<AtomicI64>,
    pub(super) host: HeaderValue,
    pub(super) metrics: Arc<Metrics>,
    /// IBM: whose its applications are.
    pub marks: Marks,
    /// Places for batches that it does not know and that are asked for over and over.
    pub missing: Semaphore,
    /// Set when it is not in force any more.
    successor: OnceLock<Successor>,
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
            reading: Reading::default(),
            watched_up_to: AtomicI32::new(0),
            marks: Marks::default(),
            missing: Semaphore::new(MISSING_AT_ONCE),
            successor: OnceLock::new(),
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

    /// Returns when the certificate that it is shown ends, Unix time, if it is shown one.
    pub fn certificate_ends(&self) -> Option<f64> {
        self.tls.as_ref().and_then(ClientTls::certificate_ends)
    }

    /// Returns the login that it has, or may have, in common with others.
    pub fn common_login(&self) -> Option<Arc<Common>> {
        self.common_login.clone()
    }

    /// Leaves metrics and orders to whoever takes its place. Whoever still holds this one meets what
    /// is wanted of that one.
    pub fn leave(&self, next: Option<&Arc<Upstream>>) {
        let successor = match next {
            None => Successor::None,
            Some(next) if next.config.is_same_server(&self.config) => Successor::Is(next.clone()),
            Some(_) => Successor::IsElsewhere,
        };
        // It leaves once.
        let _ = self.successor.set(successor);
        self.health.leave();
        self.credential.leave();
        if let Some(common) = &self.common_login {
            let next = next.and_then(|next| next.common_login.as_deref());
            common.forget(&self.config.name, next);
        }
    }

    /// Returns what is wanted of it now, also if another definition of the same cluster has taken its
    /// place; why it may not have a submission, if none has that means this server.
    pub(super) fn wanted(&self) -> Result<State, &'static str> {
        match self.successor.get() {
            None => Ok(self.health.state()),
            Some(Successor::Is(next)) => next.wanted(),
            Some(Successor::None) => Err("removed"),
            Some(Successor::IsElsewhere) => Err("moved"),
        }
    }

    /// Tells whether the configuration in force still means this server.
    ///
    /// # Errors
    /// It does not: nothing is sent there.
    pub fn must_be_meant(&self) -> Result<(), SendError> {
        self.wanted().map(drop).map_err(not_meant)
    }

    /// Notes that the cluster just gave an id, if it counts: the newest is the highest, also when
    /// it has begun to count again.
    pub fn gave_id(&self, upstream_id: &str) {
        self.know_batch(Some(upstream_id));
        if let Ok(id) = upstream_id.parse() {
            self.highest.store(id, Ordering::Relaxed);
        }
    }

    pub(super) fn know_batch(&self, upstream_id: Option<&str>) {
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

    pub(super) fn note_login(&self, operation: Operation, answer: &Answer) {
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

    /// Tells whether requests go out in their callers' names, and none can without one.
    pub fn needs_a_caller(&self) -> bool {
        self.credential.needs_a_caller()
    }

    /// Tells whether the gateway's own login could not be had the last time: that says nothing
    /// about the cluster.
    pub fn lacks_login(&self) -> bool {
        self.lacks_login.load(Ordering::Relaxed)
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
