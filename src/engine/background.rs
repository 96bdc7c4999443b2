//! What runs beside requests: probes, key sets, the sweep, and the resolving of what a crash left
//! open. Everything is tracked, and begins again when it panics.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::auth::Authenticator;
use crate::fleet::Upstream;
use crate::gateway::Gateway;
use crate::observe::panics::{Panicked, catch};
use crate::{batches, submit};

/// How often kills that are not confirmed, and jobs that may come late, are looked after.
const CARE: Duration = Duration::from_secs(2);

/// How often the registry notes that it is in use.
const BEAT: Duration = Duration::from_secs(2);

/// How often ended batches are swept out.
const SWEEP: Duration = Duration::from_secs(3600);

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
}

/// Starts what belongs to one cluster, until `gone`.
pub fn look_after(gateway: &Arc<Gateway>, upstream: &Arc<Upstream>, gone: &CancellationToken) {
    if !upstream.health.is_enabled() {
        return;
    }
    let config = &upstream.config;
    let probed = upstream.clone();
    every(
        gateway,
        "probe",
        config.health.interval,
        gone,
        move |gateway| {
            let upstream = probed.clone();
            async move { probe(&gateway, &upstream).await }
        },
    );
    if !config.watch.is_zero() {
        let watched = upstream.clone();
        every(gateway, "watch", config.watch, gone, move |gateway| {
            let upstream = watched.clone();
            async move { batches::watch::watch(&gateway, &upstream).await }
        });
    }
    let cared_for = upstream.clone();
    every(gateway, "care", CARE, gone, move |gateway| {
        let upstream = cared_for.clone();
        async move {
            batches::watch::learn(&gateway, &upstream).await;
            batches::watch::finish_kills(&gateway, &upstream).await;
            submit::late::watch(&gateway, &upstream).await;
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

async fn probe(gateway: &Gateway, upstream: &Upstream) {
    upstream.health.judge(&upstream.probe().await);
    let name = upstream.config.name.as_str();
    if let Ok(live) = gateway.registry.live(name).await {
        let gauge = gateway
            .metrics
            .cluster_live_batches
            .with_label_values(&[name]);
        gauge.set(live);
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
                () = end.cancelled() => return,
                () = tokio::time::sleep(REST) => {}
            }
        }
    });
}
