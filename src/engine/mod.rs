//! What starts, restarts and stops things.
//!
//! `build` makes a snapshot of a configuration, `background` runs what runs beside requests, and
//! this file is the gateway's life: from a file to a process that accepts, through every reload,
//! and back down without dropping a request. It alone starts a listener or a task.

pub mod background;
mod bind;
pub mod build;
mod files;
mod orders;
mod reload;
mod series;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use bind::Bound;
pub use bind::MOVE_IN_BETWEEN;
use series::Series;

use crate::admin;
use crate::config::{self, checked};
use crate::fleet::Upstream;
use crate::gateway::{Gateway, Snapshot};
use crate::listen::{self, Server};
use crate::observe::metrics::{Metrics, unix_now};
use crate::observe::named::Named;
#[cfg(feature = "postgres")]
use crate::registry::PostgresStore;
use crate::registry::{PassthroughStore, Registry, SqliteStore, Store};

/// How long clients get to read what they are told when the drain's time is up.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long submissions that are still being resolved may delay the end after the last connection
/// is gone.
const LAST_SUBMISSIONS: Duration = Duration::from_secs(5);

/// A gateway that runs.
#[derive(Debug)]
pub struct Engine {
    path: PathBuf,
    gateway: Arc<Gateway>,
    server: Arc<Server>,
    running: Mutex<Running>,
    signals: tokio::sync::Mutex<Signals>,
}

/// What the process is told from outside. Listened to before anybody hears that it runs: until then
/// a signal just ends it.
#[derive(Debug)]
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}

/// What was started because a configuration says so.
#[derive(Debug, Default)]
struct Running {
    /// By configured address: the address that was really bound, and what ends it.
    listeners: BTreeMap<SocketAddr, (SocketAddr, CancellationToken)>,
    admin: Option<(SocketAddr, SocketAddr, CancellationToken)>,
    clusters: BTreeMap<String, (Arc<Upstream>, CancellationToken)>,
    key_sets: Vec<(Arc<crate::auth::Authenticator>, CancellationToken)>,
    series: Series,
}

impl Engine {
    /// Reads the file, builds everything, binds, accepts.
    ///
    /// # Errors
    /// Why not, for people.
    pub async fn start(path: &Path) -> Result<Arc<Engine>, String> {
        let began = Instant::now();
        ignore_file_size_signal();
        let signals = Signals::listen();
        let signals = signals.map_err(|error| format!("signals can't be listened to: {error}"))?;
        let metrics = Arc::new(Metrics::new());
        let loaded = config::load(path).map_err(|problems| problems.render())?;
        let built = build::build_for_now(loaded.config.clone(), &loaded.masked(), None, &metrics);
        let (built, of_the_time) = built.map_err(|problems| loaded.locate(problems).render())?;
        for problem in loaded.locate(of_the_time).list {
            let (line, path) = (problem.place.line, problem.path);
            tracing::error!(line, path, problem = problem.what, "started nevertheless");
        }
        let registry = open_registry(&loaded.config.registry).await?;
        for note in loaded.promises() {
            tracing::warn!("{note}");
        }
        let bound = bind::bind(&loaded.config, &BTreeSet::new(), None)
            .await
            .map_err(|problems| in_words(&problems))?;
        let held = registry.orders().await;
        let held = held.map_err(|error| format!("registry: {error}"))?;
        let snapshot = built.into_snapshot(None, &metrics);
        orders::obey(&snapshot, &held);
        orders::remind(&snapshot, &held);
        let gateway = Gateway::new(snapshot, registry, metrics);
        let engine = Arc::new(Engine {
            path: path.to_owned(),
            server: Server::new(gateway.clone()),
            gateway,
            running: Mutex::default(),
            signals: signals.into(),
        });
        let snapshot = engine.gateway.snapshot.load_full();
        listen::warn_of_few(snapshot.config.server.limits.connections);
        // Nothing was there before that could be gone.
        let _ = engine.run(&snapshot, None, bound);
        engine.show_reload(Some(&loaded.hash()));
        background::start(&engine.gateway);
        engine.clone().watch(&loaded);
        engine.clone().watch_files();
        engine.announce(&snapshot, began);
        Ok(engine)
    }

    fn announce(&self, snapshot: &Snapshot, began: Instant) {
        let addresses: Vec<String> = self.addresses().iter().map(ToString::to_string).collect();
        let (listen, admin) = (addresses.join(","), self.admin_address());
        let start_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(0);
        let tls = snapshot.certificate.is_some();
        tracing::info!(%listen, %admin, tls, version = env!("CARGO_PKG_VERSION"), start_ms, "accepting connections");
        // No systemd, nobody to tell: not an error.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the addresses that are served.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let running = self.running();
        running
            .listeners
            .values()
            .map(|(bound, _)| *bound)
            .collect()
    }

    /// Returns the admin listener's address.
    pub fn admin_address(&self) -> SocketAddr {
        let unbound = SocketAddr::from(([0, 0, 0, 0], 0));
        self.running()
            .admin
            .as_ref()
            .map_or(unbound, |(_, bound, _)| *bound)
    }

    /// Brings what runs in line with a snapshot that is in force: starts what is new, ends what is
    /// gone. Returns the names whose series are to be forgotten.
    fn run(&self, snapshot: &Snapshot, before: Option<&Arc<Snapshot>>, bound: Bound) -> Named {
        let mut running = self.running();
        self.run_listeners(&mut running, snapshot, bound);
        self.run_clusters(&mut running, snapshot);
        self.run_key_sets(&mut running, snapshot);
        warn_of_danger(snapshot);
        files::show(snapshot, &self.gateway.metrics);
        running.series.follow(snapshot, before)
    }

    /// Removes the series of what is gone: not on a thread that serves, as there may be many.
    async fn forget(&self, gone: Named) {
        if gone.is_empty() {
            return;
        }
        let metrics = self.gateway.metrics.clone();
        let forgotten = tokio::task::spawn_blocking(move || metrics.forget_all(&gone));
        if forgotten.await.is_err() {
            tracing::error!("a bug: series of what is gone could not be removed");
        }
    }

    fn run_listeners(&self, running: &mut Running, snapshot: &Snapshot, bound: Bound) {
        let wanted = &snapshot.config.server.listen;
        running.listeners.retain(|address, (_, end)| {
            let stays = wanted.contains(address);
            if !stays {
                tracing::info!(%address, "no longer listening; open connections go on");
                end.cancel();
            }
            stays
        });
        for (address, listener) in bound.listeners {
            let (end, actual) = (
                CancellationToken::new(),
                listener.address().unwrap_or(address),
            );
            tokio::spawn(self.server.clone().accept(listener, end.clone()));
            running.listeners.insert(address, (actual, end));
        }
        if let Some((address, listener)) = bound.admin {
            let (end, actual) = (
                self.gateway.stop.child_token(),
                listener.address().unwrap_or(address),
            );
            tokio::spawn(admin::serve(self.gateway.clone(), listener, end.clone()));
            if let Some((_, _, before)) = running.admin.replace((address, actual, end)) {
                before.cancel();
            }
        }
    }

    fn run_clusters(&self, running: &mut Running, snapshot: &Snapshot) {
        running.clusters.retain(|name, (upstream, gone)| {
            let now = snapshot.upstreams.get(name);
            let stays = now.is_some_and(|now| Arc::ptr_eq(now, upstream));
            if !stays {
                gone.cancel();
                upstream.leave(now);
                let before = upstream.health.state();
                now.into_iter()
                    .for_each(|now| now.health.was_defined_anew(before));
            }
            stays
        });
        for (name, upstream) in &snapshot.upstreams {
            if !running.clusters.contains_key(name) {
                let gone = self.gateway.stop.child_token();
                upstream.health.take_over();
                background::look_after(&self.gateway, upstream, &gone);
                running
                    .clusters
                    .insert(name.clone(), (upstream.clone(), gone));
            }
        }
    }

    fn run_key_sets(&self, running: &mut Running, snapshot: &Snapshot) {
        let chain = snapshot.authenticators.chain();
        running.key_sets.retain(|(one, gone)| {
            let stays = chain.iter().any(|now| Arc::ptr_eq(now, one));
            if !stays {
                gone.cancel();
            }
            stays
        });
        for one in chain {
            if running
                .key_sets
                .iter()
                .all(|(other, _)| !Arc::ptr_eq(other, one))
            {
                let gone = self.gateway.stop.child_token();
                background::fetch_keys(&self.gateway, one, &gone);
                running.key_sets.push((one.clone(), gone));
            }
        }
    }

    fn show_reload(&self, hash: Option<&str>) {
        let metrics = &self.gateway.metrics;
        let outcome = if hash.is_some() { "ok" } else { "refused" };
        metrics
            .config_reloads_total
            .with_label_values(&[outcome])
            .inc();
        metrics
            .config_last_reload_success
            .set(hash.is_some().into());
        if let Some(hash) = hash {
            metrics.config_info.reset();
            metrics.config_info.with_label_values(&[hash]).set(1);
            metrics.config_last_reload_timestamp.set(unix_now());
        }
    }

    /// Waits for SIGTERM or SIGINT; SIGHUP reloads.
    pub async fn until_told(&self) {
        let mut signals = self.signals.lock().await;
        let Signals {
            terminate,
            interrupt,
            hangup,
        } = &mut *signals;
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                // Not waited for: the next signal is heard whatever it takes.
                _ = hangup.recv() => {
                    let gateway = self.gateway.clone();
                    tokio::spawn(async move { gateway.reloads.ask(false).await });
                }
            }
        }
    }

    /// Stops accepting, finishes what is in flight within `drain_timeout`, writes what is known,
    /// and ends. Another signal ends it at once.
    pub async fn stop(&self) {
        tokio::select! {
            () = self.drain() => {}
            () = self.until_told() => tracing::warn!("told twice: stopping at once"),
        }
    }

    async fn drain(&self) {
        let server = self.gateway.snapshot.load().config.server.clone();
        let limit = server.drain_timeout;
        tracing::info!(limit_s = limit.as_secs(), "draining");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        self.gateway.drain();
        // Whoever sends clients here learns of it only now and goes on for a moment.
        tokio::time::sleep(server.drain_delay).await;
        self.gateway.take_no_more();
        // Whoever still waits when the time is up is answered with what is known, and gets a moment
        // to read it.
        let drained = self.server.drain(limit + LAST_WORDS);
        let hurry = async {
            tokio::time::sleep(limit).await;
            self.gateway.hurry.cancel();
            std::future::pending().await
        };
        let cut = tokio::select! {
            cut = drained => cut,
            () = hurry => 0,
        };
        // What a submission's task is still resolving is in the registry; the next start goes on
        // with it.
        self.gateway.stop.cancel();
        self.gateway.tasks.close();
        self.gateway.background.close();
        let rest = async {
            self.gateway.tasks.wait().await;
            self.gateway.background.wait().await;
        };
        let _ = tokio::time::timeout(LAST_SUBMISSIONS, rest).await;
        self.gateway.registry.close().await;
        tracing::info!(connections_cut = cut, "stopped");
    }
}

/// The file is right; it is the machine that does not allow it.
fn in_words(problems: &[config::BuildProblem]) -> String {
    let line =
        |problem: &config::BuildProblem| format!("{}: {}", problem.path.join("."), problem.what);
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

async fn open_registry(config: &checked::Registry) -> Result<Registry, String> {
    let store: Arc<dyn Store> = match config {
        checked::Registry::Memory => {
            Arc::new(SqliteStore::in_memory().map_err(|why| format!("registry: {why}"))?)
        }
        checked::Registry::Passthrough => {
            Arc::new(PassthroughStore::new().map_err(|why| format!("registry: {why}"))?)
        }
        checked::Registry::Sqlite(path) => Arc::new(SqliteStore::open(path).map_err(|why| {
            format!(
                "registry.sqlite: can't open {}: {why}; is its folder there and writable?",
                path.display()
            )
        })?),
        checked::Registry::Postgres(config) => open_postgres(config).await?,
    };
    Registry::open(store)
        .await
        .map_err(|error| format!("registry: {error}"))
}

#[cfg(feature = "postgres")]
async fn open_postgres(config: &checked::Postgres) -> Result<Arc<dyn Store>, String> {
    let store = PostgresStore::open(config).await;
    Ok(Arc::new(
        store.map_err(|why| format!("registry.postgres: {why}"))?,
    ))
}

#[cfg(not(feature = "postgres"))]
async fn open_postgres(_: &checked::Postgres) -> Result<Arc<dyn Store>, String> {
    // Whoever checks the configuration has said so already.
    Err("registry.postgres: this gateway was built without PostgreSQL".to_owned())
}

fn warn_of_danger(snapshot: &Snapshot) {
    for upstream in snapshot.upstreams.values() {
        if upstream.config.tls.insecure_skip_verify {
            tracing::warn!(cluster = %upstream.config.name, "insecure_skip_verify: anybody on the way can read the credentials of this cluster");
        }
    }
}

/// A limit on the size of files (`ulimit -f`) must make a write fail, not end the process: the
/// registry is then degraded, and reads go on.
fn ignore_file_size_signal() {
    const SIGXFSZ: i32 = 25;
    // Once it is listened to, it does nothing any more.
    if let Err(error) = signal(SignalKind::from_raw(SIGXFSZ)) {
        tracing::debug!(%error, "a limit on the size of files would end this process");
    }
}
