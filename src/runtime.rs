//! The running gateway: what a configuration became, and what outlives configurations.
//!
//! A [`Snapshot`] is everything that was built from one file; a request keeps the one that it began
//! with. The registry, the metrics and the tasks of submissions belong to the [`Gateway`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::DecodingKey;
use secrecy::ExposeSecret as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::Access;
use crate::api::error::ApiError;
use crate::api::path::BasePaths;
use crate::auth::htpasswd::Htpasswd;
use crate::auth::jwks::{KeySet, Source};
use crate::auth::jwt::{JwtVerifier, Keys};
use crate::auth::{Authenticator, Authenticators, Check};
use crate::batches::{Origin, Want};
use crate::config::checked::{AuthenticatorKind, Jwt, JwtKeys, Route};
use crate::config::{BuildProblem, Config};
use crate::flight::Flights;
use crate::observe::metrics::{Metrics, NO_ROUTE};
use crate::registry::{Entry, GatewayId, Registry, RegistryError};
use crate::submit::Board;
use crate::upstream::{Upstream, tls};

/// How often kills that are not confirmed, and jobs that may come late, are looked after.
const CARE: Duration = Duration::from_secs(2);

/// How often the registry notes that it is in use.
const BEAT: Duration = Duration::from_secs(2);

/// How often ended batches are swept out.
const SWEEP: Duration = Duration::from_secs(3600);

/// Everything that was built from one configuration.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration itself.
    pub config: Config,
    /// The served paths.
    pub base_paths: BasePaths,
    /// Who callers may be.
    pub authenticators: Authenticators,
    /// Who may do what.
    pub access: Access,
    /// The clusters, by name.
    pub upstreams: BTreeMap<String, Arc<Upstream>>,
    /// The routes, in order.
    pub routes: Vec<Arc<Route>>,
    key_sets: Vec<(KeySet, Duration)>,
}

impl Snapshot {
    /// Builds pools, TLS and authenticators.
    ///
    /// # Errors
    /// Every problem, under the keys of the file.
    pub fn build(config: Config, metrics: &Arc<Metrics>) -> Result<Snapshot, Vec<BuildProblem>> {
        let mut problems = Vec::new();
        let mut key_sets = Vec::new();
        let chain = config.authenticators.iter().filter_map(|one| {
            let check = match &one.kind {
                AuthenticatorKind::Anonymous { user } => Check::Anonymous(user.clone()),
                AuthenticatorKind::Basic { htpasswd_file } => {
                    let path = ["authenticators", &one.name, "basic", "htpasswd_file"];
                    Check::Basic(Arc::new(read_htpasswd(
                        htpasswd_file,
                        &path,
                        &mut problems,
                    )?))
                }
                AuthenticatorKind::Jwt(jwt) => {
                    let path = ["authenticators", &one.name, "jwt", "jwks", "file"];
                    Check::Jwt(Box::new(verifier(
                        &one.name,
                        jwt,
                        &path,
                        metrics,
                        &mut key_sets,
                        &mut problems,
                    )?))
                }
            };
            Some(Authenticator {
                name: one.name.clone(),
                check,
            })
        });
        let chain: Vec<Authenticator> = chain.collect();
        let mut upstreams = BTreeMap::new();
        for cluster in &config.clusters {
            let path = ["clusters", cluster.name.as_str()];
            let tls = if cluster.base.https {
                tls::client(&cluster.tls, &path, &mut problems)
            } else {
                None
            };
            upstreams.insert(
                cluster.name.clone(),
                Arc::new(Upstream::new(cluster.clone(), tls, metrics.clone())),
            );
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        metrics.create_route(NO_ROUTE);
        for route in &config.routes {
            metrics.create_route(&route.name);
            for target in &route.targets {
                for outcome in crate::submit::OUTCOMES {
                    metrics.submissions_total.with_label_values(&[
                        route.name.as_str(),
                        target.cluster.as_str(),
                        outcome,
                    ]);
                }
            }
        }
        Ok(Snapshot {
            base_paths: BasePaths::new(&config.server.base_paths),
            authenticators: Authenticators::new(chain, metrics),
            access: Access::new(config.admins.clone(), config.visible_to_all),
            upstreams,
            routes: config.routes.iter().cloned().map(Arc::new).collect(),
            key_sets,
            config,
        })
    }

    /// Returns a batch's cluster, if it is configured and may be asked.
    pub fn upstream_of(&self, entry: &Entry) -> Option<&Arc<Upstream>> {
        self.upstreams
            .get(&entry.cluster)
            .filter(|upstream| upstream.health.is_enabled())
    }

    /// Returns the key sets that are read from outside, with the names of their authenticators.
    pub fn key_sets(&self) -> impl Iterator<Item = (&str, &KeySet)> {
        self.key_sets.iter().map(|(set, _)| (set.name(), set))
    }
}

fn read_htpasswd(
    file: &std::path::Path,
    path: &[&str],
    problems: &mut Vec<BuildProblem>,
) -> Option<Htpasswd> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            let what = format!("can't read {}: {error}", file.display());
            problems.push(BuildProblem::new(
                path,
                what,
                "make it with `htpasswd -B -c FILE USER`",
            ));
            return None;
        }
    };
    match Htpasswd::parse(&text) {
        Ok(parsed) => Some(parsed),
        Err(faults) => {
            for fault in faults {
                problems.push(BuildProblem::new(
                    path,
                    format!("{}: {fault}", file.display()),
                    "lines are `user:hash`; make one with `htpasswd -nB USER`",
                ));
            }
            None
        }
    }
}

fn verifier(
    name: &str,
    jwt: &Jwt,
    path: &[&str],
    metrics: &Arc<Metrics>,
    key_sets: &mut Vec<(KeySet, Duration)>,
    problems: &mut Vec<BuildProblem>,
) -> Option<JwtVerifier> {
    let mut key_set = |source, refresh| {
        let set = KeySet::new(name, source, metrics.clone());
        key_sets.push((set.clone(), refresh));
        Keys::Set(set)
    };
    let keys = match &jwt.keys {
        JwtKeys::Secret(secret) => Keys::Secret(Box::new(DecodingKey::from_secret(
            secret.expose_secret().as_bytes(),
        ))),
        JwtKeys::Url(uri, refresh) => key_set(Source::Url(uri.clone(), Box::default()), *refresh),
        JwtKeys::File(file, refresh) => {
            // A URL may be away for a while; a file that is wrong at start is a mistake in the
            // configuration.
            let read = std::fs::read(file)
                .map_err(|error| error.to_string())
                .and_then(|text| KeySet::parse(&text));
            if let Err(why) = read {
                problems.push(BuildProblem::new(
                    path,
                    format!("{}: {why}", file.display()),
                    "name a file with `{\"keys\": [...]}` (RFC 7517)",
                ));
                return None;
            }
            key_set(Source::File(file.clone()), *refresh)
        }
    };
    Some(JwtVerifier {
        issuer: jwt.issuer.clone(),
        audiences: jwt.audiences.clone(),
        algorithms: jwt.algorithms.clone(),
        keys,
        user_claim: jwt.user_claim.clone(),
        groups_claim: jwt.groups_claim.clone(),
        leeway: jwt.leeway,
    })
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
    /// Says that the gateway is going down.
    pub stop: CancellationToken,
    /// Says that whoever waits must be answered now.
    pub hurry: CancellationToken,
    /// When this process began.
    pub started: Instant,
    /// The submissions under way.
    pub board: Arc<Board>,
    /// Reads under way.
    pub reads: Flights<(GatewayId, Want), Result<Origin, ApiError>>,
    /// Lists under way, by cluster.
    pub lists: Flights<String, bool>,
    /// Kills under way.
    pub kills: Flights<GatewayId, Result<(), ApiError>>,
    draining: AtomicBool,
}

impl Gateway {
    /// Makes the gateway.
    pub fn new(snapshot: Snapshot, registry: Registry, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Gateway {
            snapshot: ArcSwap::from_pointee(snapshot),
            registry,
            metrics,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            hurry: CancellationToken::new(),
            started: Instant::now(),
            board: Arc::default(),
            reads: Flights::default(),
            lists: Flights::default(),
            kills: Flights::default(),
            draining: AtomicBool::new(false),
        })
    }

    /// Tells whether a shutdown has begun.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Begins the shutdown: `/readyz` fails from now on.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Starts what runs beside requests: probes, key sets, the sweep, and the resolving of what a
    /// crash left open.
    pub fn start_background(self: &Arc<Self>) {
        let snapshot = self.snapshot.load_full();
        for (set, refresh) in &snapshot.key_sets {
            let set = set.clone();
            self.every(*refresh, move |_| {
                let set = set.clone();
                // A failure is logged and counted where it happens.
                async move { drop(set.refresh().await) }
            });
        }
        for upstream in snapshot.upstreams.values() {
            self.every_for(
                upstream,
                upstream.config.health.interval,
                |_, upstream| async move { upstream.health.judge(&upstream.probe().await) },
            );
        }
        for upstream in snapshot
            .upstreams
            .values()
            .filter(|upstream| !upstream.config.watch.is_zero())
        {
            self.every_for(
                upstream,
                upstream.config.watch,
                |gateway, upstream| async move {
                    crate::batches::watch::watch(&gateway, &upstream).await
                },
            );
        }
        let retain = snapshot.config.retain;
        self.every(SWEEP, move |gateway| async move {
            if let Err(error) = gateway.registry.sweep(retain).await {
                tracing::warn!(%error, "old batches could not be removed");
            }
        });
        for upstream in snapshot.upstreams.values() {
            self.every_for(upstream, CARE, |gateway, upstream| async move {
                crate::batches::watch::finish_kills(&gateway, &upstream).await;
                crate::submit::late::watch(&gateway, &upstream).await;
            });
        }
        self.every(crate::submit::resolve::TAKE_UP, |gateway| async move {
            crate::submit::resolve::take_up(&gateway).await
        });
        self.every(BEAT, |gateway| async move { gateway.beat().await });
        let gateway = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = gateway.stop.cancelled() => return,
                    () = gateway.registry.until_dirty() => gateway.registry.flush().await,
                }
            }
        });
    }

    /// Notes how long the registry has been in use, and whether it can be written; what could not
    /// be is tried again.
    async fn beat(&self) {
        let beat = self.registry.beat().await;
        self.metrics.registry_up.set(beat.is_ok().into());
        if beat.is_ok() {
            self.registry.flush().await;
        }
    }

    /// Counts the live batches of a cluster, and shows the number in its metric. `None` if the
    /// registry does not say.
    pub async fn count_live(&self, cluster: &str) -> Option<i64> {
        let live = self.registry.live(cluster).await.ok()?;
        self.metrics
            .cluster_live_batches
            .with_label_values(&[cluster])
            .set(live);
        Some(live)
    }

    /// Makes clusters obey what administrators said in earlier processes.
    ///
    /// # Errors
    /// The database failed.
    pub async fn recall_orders(&self) -> Result<(), RegistryError> {
        let snapshot = self.snapshot.load();
        for order in self.registry.orders().await? {
            match snapshot.upstreams.get(&order.cluster) {
                Some(upstream) => {
                    tracing::warn!(cluster = %order.cluster, order = order.wish.as_str(), by = %order.by, "an administrator's order still holds");
                    upstream.health.obey(order.wish, Some(order));
                }
                None => {
                    tracing::info!(cluster = %order.cluster, order = order.wish.as_str(), "an administrator's order is for a cluster that is not configured");
                }
            }
        }
        Ok(())
    }

    /// Runs something for a cluster now and then, while that may be asked anything.
    fn every_for<F>(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        period: Duration,
        work: impl Fn(Arc<Gateway>, Arc<Upstream>) -> F + Send + Copy + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let upstream = upstream.clone();
        self.every(period, move |gateway| {
            let upstream = upstream.clone();
            async move {
                if upstream.health.is_enabled() {
                    work(gateway, upstream).await;
                }
            }
        });
    }

    /// Runs something now and then, until the shutdown.
    fn every<F>(
        self: &Arc<Self>,
        period: Duration,
        mut work: impl FnMut(Arc<Gateway>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let gateway = self.clone();
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    () = gateway.stop.cancelled() => return,
                    _ = ticks.tick() => work(gateway.clone()).await,
                }
            }
        });
    }
}
