//! What the running gateway holds. Data only: what is done with it is in `submit`, `batches` and
//! `engine`.
//!
//! A [`Snapshot`] is everything that was built from one configuration; a request keeps the one that
//! it began with. The registry, the metrics and the tasks of submissions belong to the [`Gateway`].

pub mod board;
pub mod reads;
pub mod reload;

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::api::error::ApiError;
use crate::api::path::BasePaths;
use crate::auth::Authenticators;
use crate::config::Config;
use crate::config::checked::Route;
use crate::fleet::Upstream;
use crate::flight::Flights;
use crate::net::certificate::ServerCertificate;
use crate::observe::metrics::Metrics;
use crate::random::Random;
use crate::registry::{Entry, GatewayId, Registry};
use board::Board;
use reads::{Origin, Round, Want};
use reload::Reloads;

/// Everything that was built from one configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration itself.
    pub config: Config,
    /// The served paths.
    pub base_paths: BasePaths,
    /// Who callers may be.
    pub authenticators: Arc<Authenticators>,
    /// Who may do what.
    pub access: Access,
    /// The clusters, by name.
    pub upstreams: BTreeMap<String, Arc<Upstream>>,
    /// The routes, in order.
    pub routes: Vec<Arc<Route>>,
    /// What clients see, if TLS ends here.
    pub certificate: Option<ServerCertificate>,
    /// What is shown at the admin listener, if it has TLS.
    pub admin_certificate: Option<ServerCertificate>,
    /// The configuration as it may be shown: every secret masked.
    pub masked: Arc<str>,
}

impl Snapshot {
    /// Tells whether some cluster is asked with its callers' own tokens.
    pub fn passes_tokens_on(&self) -> bool {
        self.upstreams
            .values()
            .any(|upstream| upstream.needs_a_caller())
    }

    /// Returns a batch's cluster, if it is configured and may be asked.
    pub fn upstream_of(&self, entry: &Entry) -> Option<&Arc<Upstream>> {
        self.upstreams
            .get(&entry.cluster)
            .filter(|upstream| upstream.health.is_enabled())
    }
}

/// The gateway.
#[derive(Debug)]
pub struct Gateway {
    /// What was built from the configuration in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// The memory of all batches.
    pub registry: Registry,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Submissions and their resolving: a client that hangs up does not stop them, a shutdown waits
    /// for them.
    pub tasks: TaskTracker,
    /// What runs beside requests.
    pub background: TaskTracker,
    /// Says that the gateway is going down.
    pub stop: CancellationToken,
    /// Says that whoever waits must be answered now.
    pub hurry: CancellationToken,
    /// What keys are made of, and weights are drawn by.
    pub random: Random,
    /// When this process began.
    pub started: Instant,
    /// The submissions under way.
    pub board: Arc<Board>,
    /// Reads under way.
    pub reads: Flights<(GatewayId, Want), Result<Origin, ApiError>>,
    /// Questions, over and over, for batches that their cluster does not know.
    pub missing: Flights<GatewayId, ()>,
    /// Lists under way, by cluster.
    pub lists: Flights<String, Round>,
    /// Kills under way.
    pub kills: Flights<GatewayId, Result<(), ApiError>>,
    /// Where to ask for a reload.
    pub reloads: Reloads,
    /// Held by whoever stores an administrator's order and makes clusters obey, or puts other
    /// clusters in their place.
    pub orders: tokio::sync::Mutex<()>,
    /// Held by whoever records a submission for what is in force, together with others who do; alone
    /// by whoever puts something else in force.
    pub in_force: tokio::sync::RwLock<()>,
    draining: CancellationToken,
    takes_no_more: CancellationToken,
}

impl Gateway {
    /// Makes the gateway.
    pub fn new(snapshot: Snapshot, registry: Registry, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Gateway {
            snapshot: ArcSwap::from_pointee(snapshot),
            registry,
            metrics,
            tasks: TaskTracker::new(),
            background: TaskTracker::new(),
            stop: CancellationToken::new(),
            hurry: CancellationToken::new(),
            random: Random::default(),
            started: Instant::now(),
            board: Arc::default(),
            reads: Flights::default(),
            missing: Flights::default(),
            lists: Flights::default(),
            kills: Flights::default(),
            reloads: Reloads::default(),
            orders: tokio::sync::Mutex::default(),
            in_force: tokio::sync::RwLock::default(),
            draining: CancellationToken::new(),
            takes_no_more: CancellationToken::new(),
        })
    }

    /// Tells whether a shutdown has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Tells whether submissions are taken, which ends some time after a shutdown has begun.
    pub fn takes_submissions(&self) -> bool {
        !self.takes_no_more.is_cancelled()
    }

    /// Refuses submissions from now on: whoever sends clients here had time to learn of the shutdown.
    pub fn take_no_more(&self) {
        self.takes_no_more.cancel();
    }

    /// Begins the shutdown: `/readyz` fails from now on, and whoever waits for news is answered.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Returns what says that a shutdown has begun.
    pub fn drained(&self) -> &CancellationToken {
        &self.draining
    }
}
