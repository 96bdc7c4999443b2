//! Looking after batches that nobody asks about: a cluster forgets what has ended, and a scheduler
//! that was away must still learn how its job did; a kill that could not be carried out goes on.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::Reader;
use crate::fleet::Upstream;
use crate::fleet::reading::is_cheaper;
use crate::gateway::Gateway;
use crate::gateway::reads::Want;
use crate::registry::{Entry, GatewayId, Phase, RegistryError, decide};
use crate::submit::late;

fn reader(gateway: &Arc<Gateway>) -> Reader {
    Reader {
        gateway: Arc::clone(gateway),
        snapshot: gateway.snapshot.load_full(),
        exchange: Arc::default(),
    }
}

/// How many batches of a cluster are looked at alone in a second at most: what nobody asks for must
/// not be what a cluster has most to do with.
const LOOKS_A_SECOND: u32 = 20;

/// Looks at the live batches that went through this gateway and were not heard of for `watch`: by
/// the list where that is cheaper, and alone what it does not show. A batch that a client polls
/// costs nothing here. What a turn has no time for is the next one's.
pub async fn watch(gateway: &Arc<Gateway>, upstream: &Arc<Upstream>) {
    // Nobody's token is at hand here.
    if upstream.needs_a_caller() {
        return;
    }
    let name = &upstream.config.name;
    let live = match gateway.registry.live_ids(name).await {
        Ok(live) => live,
        Err(error) => {
            return tracing::error!(cluster = %name, %error, "live batches could not be read");
        }
    };
    let silent = upstream.reading.in_turn(live, |id| {
        let entry = gateway.registry.held(id);
        entry.is_none_or(|entry| is_silent(upstream, &entry))
    });
    let reader = reader(gateway);
    let cost = upstream.dialect().cost();
    let rows = upstream.reading.demand(|demand| demand.rows());
    if is_cheaper(cost, silent.len(), rows) {
        reader.refresh_list(upstream).await;
    }
    let until = Instant::now() + upstream.config.watch;
    for id in silent {
        if gateway.stop.is_cancelled() || upstream.health.is_ejected() || Instant::now() >= until {
            return;
        }
        // Read one by one, and let go of: a cluster may have hundreds of thousands.
        let Ok(Some(entry)) = gateway.registry.get(id).await else {
            continue;
        };
        upstream.reading.had_its_turn(id);
        if !is_silent(upstream, &entry) {
            continue;
        }
        let next = Instant::now() + Duration::from_secs(1) / LOOKS_A_SECOND;
        if let Err(error) = Box::pin(reader.ask_alone(&entry, upstream, Want::State)).await {
            tracing::debug!(batch = %entry.id, cluster = %name, error = %error.message, "a look at a silent batch brought nothing");
        }
        sleep_until(next).await;
    }
}

/// Tells whether a live batch was not heard of for `watch`; where lists lag behind, not alone.
fn is_silent(upstream: &Upstream, entry: &Entry) -> bool {
    let since = upstream.config.watch;
    let late = upstream.dialect().cost().lags && !entry.was_looked_at(since);
    entry.peek(|known| {
        let live = matches!(known.phase, Phase::Bound { .. }) && !known.state.is_terminal();
        live && (late || known.heard.is_none_or(|at| at.elapsed() >= since))
    })
}

/// Goes on with reading a long list whole, by a page. Where several gateways share a registry, the
/// one that does this also sees to it that there is something to go on with: the others' clients
/// ask for lists as well.
pub async fn read_on(gateway: &Arc<Gateway>, upstream: &Arc<Upstream>) {
    if upstream.needs_a_caller() || upstream.health.is_ejected() {
        return;
    }
    let reader = reader(gateway);
    let listed_ago = upstream.reading.listed_ago();
    if gateway.registry.is_shared() && listed_ago.is_none_or(|age| age >= LISTED_FOR_ALL_EVERY) {
        reader.refresh_list(upstream).await;
    }
    reader.read_on(upstream).await;
}

/// How often a cluster's newest rows are read on behalf of other gateways.
const LISTED_FOR_ALL_EVERY: Duration = Duration::from_secs(60);

/// For how long the application of a batch under a client's own name is asked for.
const LEARNS_FOR: Duration = Duration::from_secs(300);

/// Reads young batches under clients' own names until their application is known, ever more seldom:
/// before that nothing tells them from others of that name and number.
pub async fn learn(gateway: &Arc<Gateway>, upstream: &Upstream) {
    if upstream.needs_a_caller() {
        return;
    }
    let young = gateway.registry.young(&upstream.config.name, LEARNS_FOR);
    let reader = reader(gateway);
    let now = gateway.registry.clock().now();
    for entry in young {
        if gateway.stop.is_cancelled() || upstream.health.is_ejected() {
            return;
        }
        let age_ms = now.up_ms.saturating_sub(entry.created.up_ms);
        let pause = Duration::from_millis(u64::try_from(age_ms / 5).unwrap_or(0));
        let due = entry.peek(|known| known.item.is_none_or(|at| at.elapsed() >= pause));
        if due && let Err(error) = Box::pin(reader.ask_alone(&entry, upstream, Want::Item)).await {
            tracing::debug!(batch = %entry.id, cluster = %upstream.config.name, error = %error.message, "a look for an application brought nothing");
        }
    }
}

/// How often a list is read for what nothing else can show.
const LISTED_EVERY: Duration = Duration::from_secs(10);
/// How many submissions are looked at at a time for that.
const LOST: usize = 100;

/// Reads a cluster's list while a submission that was given up may show up in it, and nowhere else:
/// whoever reads a list deals with what comes late.
pub async fn list_for_late(gateway: &Arc<Gateway>, upstream: &Arc<Upstream>) {
    let listed_ago = upstream.reading.listed_ago();
    let is_new = listed_ago.is_some_and(|age| age < LISTED_EVERY);
    if upstream.needs_a_caller() || is_new || upstream.health.is_ejected() {
        return;
    }
    match is_one_hidden(gateway, upstream).await {
        Ok(true) => drop(reader(gateway).refresh_list(upstream).await),
        Ok(false) => {}
        Err(error) => {
            tracing::error!(cluster = %upstream.config.name, %error, "submissions that may still arrive can't be read");
        }
    }
}

/// Tells whether a list alone can show what came of some submission that was given up.
async fn is_one_hidden(gateway: &Gateway, upstream: &Upstream) -> Result<bool, RegistryError> {
    let (registry, name) = (&gateway.registry, &upstream.config.name);
    let mut after = GatewayId(0);
    loop {
        let lost = registry
            .may_arrive(name, decide::BY_NAME_FOR, after, LOST)
            .await?;
        let hidden = |entry: &Arc<Entry>| late::is_shown_by_lists_only(upstream, entry);
        if lost.iter().any(hidden) {
            return Ok(true);
        }
        match lost.last() {
            Some(last) => after = last.id,
            None => return Ok(false),
        }
    }
}

/// Goes on with the kills that were asked for and are not confirmed.
pub async fn finish_kills(gateway: &Arc<Gateway>, upstream: &Upstream) {
    if upstream.needs_a_caller() {
        return;
    }
    let wanted = match gateway.registry.to_kill(&upstream.config.name).await {
        Ok(wanted) => wanted,
        Err(error) => {
            return tracing::error!(cluster = %upstream.config.name, %error, "kills that are not confirmed could not be read");
        }
    };
    let reader = reader(gateway);
    for entry in wanted {
        if gateway.stop.is_cancelled() || upstream.health.is_ejected() {
            return;
        }
        let work = || {
            let (reader, entry) = (reader.clone(), entry.clone());
            async move { reader.kill_to_the_end(&entry, false).await }
        };
        if let (Some(Err(error)), _) = gateway.kills.join(entry.id, work).await {
            tracing::debug!(batch = %entry.id, cluster = %upstream.config.name, error = %error.message, "a kill is not confirmed yet");
        }
    }
}
