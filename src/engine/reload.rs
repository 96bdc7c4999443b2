//! Putting another configuration in force while requests go on: read, check, build, bind, and only
//! then swap one pointer. Either all of it or nothing.

use std::sync::Arc;
use std::time::Duration;

use super::Engine;
use super::bind::{Bound, bind};
use super::build::{Built, build};
use super::{files, orders};
use crate::config::{self, BuildProblem, Loaded, Problems};
use crate::gateway::Snapshot;
use crate::gateway::reload::{Order, Verdict};
use crate::live::Watch;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// After how many looks a file that could not be put in force is tried again: a certificate that it
/// names may be there by now, or a port be free.
const LOOKS_UNTIL_AGAIN: u32 = 5;

impl Engine {
    /// Reloads when the file changes and when somebody asks.
    pub(super) fn watch(self: Arc<Self>, loaded: &Loaded) {
        let gateway = self.gateway.clone();
        let orders = gateway
            .reloads
            .take()
            .map(tokio::sync::Mutex::new)
            .map(Arc::new);
        let watch = Arc::new(tokio::sync::Mutex::new(Watch::new(
            &self.path,
            loaded.text(),
        )));
        super::background::supervise(&gateway, "reload", &gateway.stop, move |_| {
            let (engine, orders, watch) = (self.clone(), orders.clone(), watch.clone());
            async move {
                let Some(orders) = orders else { return };
                let (mut orders, mut watch) = (orders.lock().await, watch.lock().await);
                let mut ticks = tokio::time::interval(LOOK);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                // Why the file as it is now is not in force, and how often it was looked at since.
                let mut refused: Option<(String, u32)> = None;
                loop {
                    tokio::select! {
                        order = orders.recv() => match order {
                            Some(Order { force, reply }) => {
                                // What it is about to read is not news any more.
                                watch.has_changed();
                                let verdict = engine.reload(force, None).await;
                                refused = verdict.refusal().map(|why| (why, 0));
                                let _ = reply.send(verdict);
                            }
                            None => return,
                        },
                        _ = ticks.tick() => {
                            let has_changed = watch.has_changed();
                            if let Some((_, looks)) = &mut refused {
                                *looks += 1;
                            }
                            let again = |(_, looks): &(String, u32)| *looks >= LOOKS_UNTIL_AGAIN;
                            if has_changed || refused.as_ref().is_some_and(again) {
                                let known = refused.take().filter(|_| !has_changed);
                                let known = known.as_ref().map(|(why, _)| why.as_str());
                                let verdict = engine.reload(false, known).await;
                                refused = verdict.refusal().map(|why| (why, 0));
                            }
                            let again = engine.running().series.again();
                            engine.forget(again.unwrap_or_default()).await;
                        }
                    }
                }
            }
        });
    }

    /// Looks at the files that the configuration names. Beside reloads: one that waits for the
    /// registry holds up no revocation.
    pub(super) fn watch_files(self: Arc<Self>) {
        let gateway = self.gateway.clone();
        super::background::supervise(&gateway, "files", &gateway.stop, move |_| {
            let engine = self.clone();
            async move {
                let mut ticks = tokio::time::interval(LOOK);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    engine.look_at_files().await;
                }
            }
        });
    }

    /// Reads the file and puts it in force, or tells every problem and changes nothing. What is
    /// `known` to be wrong was told, and counted, before.
    async fn reload(&self, force: bool, known: Option<&str>) -> Verdict {
        match self.try_reload(force).await {
            Ok(hash) => {
                tracing::info!(hash, "the configuration was reloaded");
                self.show_reload(Some(&hash));
                Verdict::InForce(hash)
            }
            Err(problems) if known == Some(problems.render().as_str()) => {
                Verdict::Refused(problems)
            }
            Err(problems) => {
                for problem in &problems.list {
                    let place = problem.place;
                    tracing::error!(
                        line = place.line,
                        column = place.column,
                        path = problem.path,
                        problem = problem.what,
                        "the configuration is wrong; the one in force stays"
                    );
                }
                self.show_reload(None);
                Verdict::Refused(problems)
            }
        }
    }

    async fn try_reload(&self, force: bool) -> Result<String, Problems> {
        let loaded = config::load(&self.path)?;
        let before = self.gateway.snapshot.load_full();
        let metrics = &self.gateway.metrics;
        let built = build(
            loaded.config.clone(),
            &loaded.masked(),
            Some(&before),
            metrics,
        )
        .map_err(|problems| loaded.locate(problems))?;
        let bound = self.bind(&loaded).await?;
        // From here on nothing is recorded for what is in force now.
        let in_force = self.gateway.in_force.write().await;
        let problems = self.objections(&before, &built, force).await;
        if !problems.is_empty() {
            return Err(loaded.locate(problems));
        }
        // Until the swap: an order that comes now is for what is in force then.
        let turn = self.gateway.orders.lock().await;
        let held = self.gateway.registry.orders().await.map_err(|error| {
            let what = format!("the orders of administrators can't be read: {error}");
            let problem = BuildProblem::new(&["registry"], what, "reload again");
            loaded.locate(vec![problem])
        })?;
        self.give_up_arrivals(&before, &built)
            .await
            .map_err(|problem| loaded.locate(vec![problem]))?;
        let snapshot = Arc::new(built.into_snapshot(Some(&before), metrics));
        orders::obey(&snapshot, &held);
        orders::remind(&snapshot, &held);
        self.gateway.snapshot.store(snapshot.clone());
        let gone = self.run(&snapshot, Some(&before), bound);
        drop((turn, in_force, before));
        self.forget(gone).await;
        Ok(loaded.hash())
    }

    async fn bind(&self, loaded: &Loaded) -> Result<Bound, Problems> {
        let (listeners, admin) = {
            let running = self.running();
            let listeners = running.listeners.keys().copied().collect();
            (
                listeners,
                running.admin.as_ref().map(|(address, ..)| *address),
            )
        };
        bind(&loaded.config, &listeners, admin)
            .await
            .map_err(|problems| loaded.locate(problems))
    }

    /// Tells what can't change while the gateway runs, and which clusters can't go away, or become
    /// other servers, that know nothing of the batches of these.
    async fn objections(&self, before: &Snapshot, built: &Built, force: bool) -> Vec<BuildProblem> {
        let mut problems = Vec::new();
        if !built.config().registry.is_same(&before.config.registry) {
            let what = "the registry can't be exchanged while the gateway runs";
            let remedy = "restart the gateway to use another one";
            problems.push(BuildProblem::new(&["registry"], what, remedy));
        }
        for (name, is_elsewhere) in leaving(before, built).filter(|_| !force) {
            let path: &[&str] = match is_elsewhere {
                true => &["clusters", name],
                false => &["clusters"],
            };
            let what = match self.gateway.registry.live(name).await {
                Ok(0) => continue,
                Ok(live) => format!("cluster '{name}' still has {live} live batches"),
                Err(error) => {
                    format!("it can't be told whether '{name}' has live batches: {error}")
                }
            };
            let remedy = "drain it first (`state: draining`), or reload with `POST /reload?force`";
            problems.push(BuildProblem::new(path, what, remedy));
        }
        problems
    }

    /// What may still arrive at a server that goes away arrives at no other one.
    async fn give_up_arrivals(&self, before: &Snapshot, built: &Built) -> Result<(), BuildProblem> {
        for (name, _) in leaving(before, built) {
            let given_up = self.gateway.registry.give_up_arrivals(name).await;
            given_up.map_err(|error| {
                let what = format!("the registry can't be written: {error}");
                BuildProblem::new(&["registry"], what, "reload again")
            })?;
        }
        Ok(())
    }

    /// Reads files again that have changed. On a thread of its own: a disk that does not answer holds
    /// up nothing but this.
    async fn look_at_files(&self) {
        let gateway = self.gateway.clone();
        let looks = tokio::task::spawn_blocking(move || {
            files::look(&gateway.snapshot.load_full(), &gateway.metrics);
        });
        if looks.await.is_err() {
            tracing::error!("a bug: files could not be looked at");
        }
    }
}

/// Returns the clusters whose servers are not served any more: by name, and whether the name stands
/// for another server.
fn leaving<'a>(before: &'a Snapshot, built: &Built) -> impl Iterator<Item = (&'a str, bool)> {
    let clusters = &built.config().clusters;
    before.upstreams.values().filter_map(move |upstream| {
        let one = &upstream.config;
        let now = clusters.iter().find(|other| other.name == one.name);
        let stays = now.is_some_and(|other| other.is_same_server(one));
        (!stays).then_some((one.name.as_str(), now.is_some()))
    })
}
