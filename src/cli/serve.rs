//! `livy-gateway serve`: from a file to a gateway that accepts, and back down without dropping a
//! request.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use crate::config::{self, checked};
use crate::listen::{self, Listener, Server};
use crate::observe::metrics::{Metrics, unix_now};
use crate::registry::{Registry, SqliteStore};
use crate::runtime::{Gateway, Snapshot};

/// How long clients get to read what they are told when the drain's time is up.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long submissions that are still being resolved may delay the end after the last connection
/// is gone.
const LAST_SUBMISSIONS: Duration = Duration::from_secs(5);

pub(super) fn run(path: &Path) -> Result<(), String> {
    super::runtime()?.block_on(async {
        let running = Running::start(path).await?;
        running.until_told().await;
        running.stop().await;
        Ok(())
    })
}

/// A gateway with its listeners.
pub(super) struct Running {
    gateway: Arc<Gateway>,
    server: Arc<Server>,
    addresses: Vec<std::net::SocketAddr>,
    admin: std::net::SocketAddr,
    drain: Duration,
}

impl Running {
    /// Reads the file, builds everything, binds, accepts.
    pub(super) async fn start(path: &Path) -> Result<Running, String> {
        let began = Instant::now();
        ignore_file_size_signal();
        let metrics = Arc::new(Metrics::new());
        let loaded = config::load(path).map_err(|problems| problems.render())?;
        let server_config = loaded.config.server.clone();
        let tls = match &server_config.tls {
            None => None,
            Some(tls) => {
                let made = listen::tls::acceptor(tls, &metrics);
                Some(made.map_err(|problems| loaded.locate(problems).render())?)
            }
        };
        let registry = open_registry(&loaded.config.registry).await?;
        let snapshot = Snapshot::build(loaded.config.clone(), &metrics)
            .map_err(|problems| loaded.locate(problems).render())?;
        warn_of_danger(&snapshot);
        listen::warn_of_few(server_config.limits.connections);
        metrics
            .config_info
            .with_label_values(&[&loaded.hash()])
            .set(1);
        metrics.config_last_reload_success.set(1);
        metrics.config_last_reload_timestamp.set(unix_now());
        let admin_listen = snapshot.config.admin_listen;
        let gateway = Gateway::new(snapshot, registry, metrics);
        gateway
            .recall_orders()
            .await
            .map_err(|error| format!("registry: {error}"))?;
        let mut listeners = Vec::new();
        for address in &server_config.listen {
            listeners.push(
                Listener::bind(*address)
                    .await
                    .map_err(|error| format!("server.listen: can't bind {address}: {error}"))?,
            );
        }
        let admin = Listener::bind(admin_listen)
            .await
            .map_err(|error| format!("admin.listen: can't bind {admin_listen}: {error}"))?;
        let broken = |error: std::io::Error| error.to_string();
        let admin_address = admin.address().map_err(broken)?;
        let addresses = listeners
            .iter()
            .map(Listener::address)
            .collect::<Result<Vec<_>, _>>()
            .map_err(broken)?;
        let server = Server::new(gateway.clone(), tls);
        tokio::spawn(crate::admin::serve(gateway.clone(), admin, loaded.masked()));
        for listener in listeners {
            tokio::spawn(server.clone().accept(listener));
        }
        gateway.start_background();
        let running = Running {
            gateway,
            server,
            addresses,
            admin: admin_address,
            drain: server_config.drain_timeout,
        };
        running.announce(server_config.tls.is_some(), began);
        Ok(running)
    }

    fn announce(&self, tls: bool, began: Instant) {
        let listen = self
            .addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",");
        let start_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(0);
        tracing::info!(%listen, admin = %self.admin, tls, version = env!("CARGO_PKG_VERSION"), start_ms, "accepting connections");
        // No systemd, nobody to tell: not an error.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    }

    /// Returns the addresses that are served.
    pub(super) fn addresses(&self) -> &[std::net::SocketAddr] {
        &self.addresses
    }

    /// Returns the admin listener's address.
    pub(super) fn admin_address(&self) -> std::net::SocketAddr {
        self.admin
    }

    /// Waits for SIGTERM or SIGINT.
    pub(super) async fn until_told(&self) {
        let mut signals = match (
            signal(SignalKind::terminate()),
            signal(SignalKind::interrupt()),
            signal(SignalKind::hangup()),
        ) {
            (Ok(terminate), Ok(interrupt), Ok(hangup)) => (terminate, interrupt, hangup),
            _ => return tracing::error!("signals can't be listened to; stopping"),
        };
        loop {
            tokio::select! {
                _ = signals.0.recv() => return,
                _ = signals.1.recv() => return,
                _ = signals.2.recv() => tracing::warn!("SIGHUP: reloading is not supported yet; restart to read the file again"),
            }
        }
    }

    /// Stops accepting, finishes what is in flight within `drain_timeout`, writes what is known,
    /// and ends.
    pub(super) async fn stop(self) {
        tracing::info!(limit_s = self.drain.as_secs(), "draining");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        self.gateway.drain();
        // Whoever still waits when the time is up is answered with what is known, and gets a moment
        // to read it.
        let drained = self.server.drain(self.drain + LAST_WORDS);
        let hurry = async {
            tokio::time::sleep(self.drain).await;
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
        let _ = tokio::time::timeout(LAST_SUBMISSIONS, self.gateway.tasks.wait()).await;
        self.gateway.registry.close().await;
        tracing::info!(connections_cut = cut, "stopped");
    }
}

async fn open_registry(config: &checked::Registry) -> Result<Registry, String> {
    let store = match config {
        checked::Registry::Memory => {
            SqliteStore::in_memory().map_err(|why| format!("registry: {why}"))?
        }
        checked::Registry::Sqlite(path) => SqliteStore::open(path).map_err(|why| {
            format!(
                "registry.sqlite: can't open {}: {why}; is its folder there and writable?",
                path.display()
            )
        })?,
    };
    Registry::open(Arc::new(store))
        .await
        .map_err(|error| format!("registry: {error}"))
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
