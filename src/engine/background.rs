//! What runs beside requests: probes, key sets, the sweep, and the resolving of what a crash left
//! open. Everything is tracked, and begins again when it panics.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::orders;
use crate::auth::Authenticator;
use crate::fleet::Upstream;
use crate::gateway::Gateway;
use crate::observe::panics::{Panicked, catch};
use crate::registry::Change;
use crate::{batches, submit};

/// How often kills that are not confirmed, and jobs that may come late, are looked after.
const CARE: Duration = Duration::from_secs(2);

/// How often a long list is read on, by a page.
const PASS: Duration = Duration::from_secs(1);

/// How often the registry notes that it is in use.
const BEAT: Duration = Duration::from_secs(2);

/// How often ended batches are swept out.
const SWEEP: Duration = Duration::from_secs(3600);

/// The lead of what is done for the whole registry.
const EVERY_CLUSTER: &str = "";

/// How long a task that panicked rests before it begins again.
const REST: Duration = Duration::from_secs(1);

/// Starts what belongs to the gateway, whatever its configuration.
pub fn start(gateway: &Arc<Gateway>) {
    every(
        gateway,
        "sweep",
        SWEEP,
        &gateway.stop,
        |gateway| async move {
            let retain = gateway.snapshot.load().config.retain;
            if !gateway.registry.take_lead(EVERY_CLUSTER).await {
                return;
            }
            if let Err(error) = gateway.registry.sweep(retain).await {
                tracing::warn!(%error, "old batches could not be removed");
            }
        },
    );
    let take_up = submit::resolve::TAKE_UP;
    every(
        gateway,
        "take_up",
        take_up,
        &gateway.stop,
        |gateway| async move {
            submit::resolve::take_up(&gateway).await;
        },
    );
    every(gateway, "beat", BEAT, &gateway.stop, |gateway| async move {
        beat(&gateway).await;
    });
    supervise(gateway, "write", &gateway.stop, |gateway| async move {
        loop {
            gateway.registry.until_dirty().await;
            gateway.registry.flush().await;
        }
    });
    supervise(gateway, "follow", &gateway.stop, |gateway| async move {
        loop {
            // What was missed may be an order, too.
            if let Change::Orders | Change::Missed = gateway.registry.follow().await {
                orders::obey_again(&gateway).await;
            }
        }
    });
    supervise(gateway, "tell", &gateway.stop, |gateway| async move {
        gateway.registry.tell_others().await;
    });
}

/// Starts what belongs to one cluster, until `gone`.
pub fn look_after(gateway: &Arc<Gateway>, upstream: &Arc<Upstream>, gone: &CancellationToken) {
    let config = &upstream.config;
    let of_cluster = |name, period, work| every_for(gateway, upstream, name, period, gone, work);
    of_cluster("probe", config.health.interval, |_, upstream| {
        Box::pin(async move {
            let verdict = upstream.probe().await;
            // That we have no login at the moment is said where it is fetched, and is no fault of
            // the cluster's: it serves again with the first token.
            if !upstream.lacks_login() {
                upstream.health.judge(&verdict);
            }
        })
    });
    of_cluster("pass", PASS, |gateway, upstream| {
        Box::pin(async move {
            if gateway.registry.leads(&upstream.config.name) {
                batches::watch::read_on(&gateway, &upstream).await;
            }
        })
    });
    if !config.watch.is_zero() {
        of_cluster("watch", config.watch, |gateway, upstream| {
            Box::pin(async move {
                if gateway.registry.leads(&upstream.config.name) {
                    batches::watch::watch(&gateway, &upstream).await;
                }
            })
        });
    }
    of_cluster("care", CARE, |gateway, upstream| {
        Box::pin(async move {
            batches::watch::learn(&gateway, &upstream).await;
            // One of the gateways does this for all of them.
            if !gateway.registry.take_lead(&upstream.config.name).await {
                return;
            }
            batches::watch::finish_kills(&gateway, &upstream).await;
            submit::late::watch(&gateway, &upstream).await;
            batches::watch::list_for_late(&gateway, &upstream).await;
        })
    });
}

/// One turn of what is done for a cluster now and then.
type Turn = fn(Arc<Gateway>, Arc<Upstream>) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs something for a cluster now and then, while that may be asked anything, until `gone`.
fn every_for(
    gateway: &Arc<Gateway>,
    upstream: &Arc<Upstream>,
    name: &'static str,
    period: Duration,
    gone: &CancellationToken,
    work: Turn,
) {
    let upstream = upstream.clone();
    every(gateway, name, period, gone, move |gateway| {
        let upstream = upstream.clone();
        async move {
            if upstream.health.is_enabled() {
                work(gateway, upstream).await;
            }
        }
    });
}

/// Fetches the keys of an authenticator now and then, if they are behind a URL, until `gone`.
pub fn fetch_keys(gateway: &Arc<Gateway>, one: &Arc<Authenticator>, gone: &CancellationToken) {
    let Some(set) = one.key_set().cloned() else {
        return;
    };
    let Some(period) = set.fetched_every() else {
        return;
    };
    every(gateway, "keys", period, gone, move |_| {
        let set = set.clone();
        // A failure is logged and counted where it happens.
        async move { drop(set.refresh().await) }
    });
}

/// Notes how long the registry has been in use, and whether it can be written; what could not be is
/// tried again.
async fn beat(gateway: &Gateway) {
    let beat = gateway.registry.beat().await;
    gateway.metrics.registry_up.set(beat.is_ok().into());
    if beat.is_ok() {
        gateway.registry.flush().await;
    }
}

/// Runs something now and then, until `end`.
pub fn every<F>(
    gateway: &Arc<Gateway>,
    name: &'static str,
    period: Duration,
    end: &CancellationToken,
    work: impl Fn(Arc<Gateway>) -> F + Clone + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    supervise(gateway, name, end, move |gateway| {
        let work = work.clone();
        async move {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                work(gateway.clone()).await;
            }
        }
    });
}

/// Runs a task until `end`; one that panics is logged, counted, and begun again.
pub fn supervise<F>(
    gateway: &Arc<Gateway>,
    name: &'static str,
    end: &CancellationToken,
    begin: impl Fn(Arc<Gateway>) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let (supervised, end) = (gateway.clone(), end.clone());
    gateway.background.spawn(async move {
        loop {
            let run = catch(begin(supervised.clone()));
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                outcome = run => match outcome {
                    Ok(()) => return,
                    Err(Panicked) => {
                        tracing::error!(task = name, "a background task met a bug; it begins again");
                        supervised.metrics.panics_total.with_label_values(&[name]).inc();
                    }
                },
            }
            tokio::select! {
                biased;
                () = end.cancelled() => return,
                () = tokio::time::sleep(REST) => {}
            }
        }
    });
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::config;
    use crate::engine::build::build;
    use crate::observe::metrics::Metrics;
    use crate::registry::{Registry, SqliteStore};

    /// A gateway that everybody may use, in front of a cluster that nobody serves.
    pub(crate) async fn gateway() -> Arc<Gateway> {
        let yaml = "server: {listen: \"127.0.0.1:0\", plaintext: true}\nregistry: {memory: {}}\n\
             authenticators: {open: {anonymous: {user: guest}}}\nclusters: {a: {flavor: livy, url: \"http://127.0.0.1:9\"}}\n\
             routes: [{name: all, targets: [{cluster: a}]}]\n";
        let metrics = Arc::new(Metrics::new());
        let loaded = config::parse("routes.yaml", yaml.to_owned(), std::path::Path::new("."));
        let config = loaded.expect("is right").config;
        let built = build(config, &serde_json::Value::Null, None, &metrics).expect("is right");
        let registry = Registry::open(Arc::new(SqliteStore::in_memory().expect("opens")));
        let registry = registry.await.expect("opens");
        Gateway::new(built.into_snapshot(None, &metrics), registry, metrics)
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_begins_again_and_ends_with_its_owner() {
        let gateway = gateway().await;
        let (runs, end) = (Arc::new(AtomicU32::new(0)), CancellationToken::new());
        let counted = runs.clone();
        every(&gateway, "test", Duration::from_secs(5), &end, move |_| {
            let run = counted.fetch_add(1, Ordering::Relaxed);
            async move { assert_ne!(run, 0, "a bug on purpose") }
        });
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert!(
            runs.load(Ordering::Relaxed) > 3,
            "it ended with its first panic"
        );
        let panics = gateway.metrics.panics_total.with_label_values(&["test"]);
        assert_eq!(panics.get(), 1);
        end.cancel();
        gateway.background.close();
        gateway.background.wait().await;
        let ended = runs.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(runs.load(Ordering::Relaxed), ended);
    }
}
