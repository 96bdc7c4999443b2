//! Which cluster gets a submission: the first route that matches, then its targets by tier and
//! weight.
//!
//! Owns the order in which clusters are tried; leaves trying them to `submit`.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderMap;
use livy_dialect::BatchSpec;

use crate::api::error::{ApiError, Code};
use crate::auth::Principal;
use crate::config::checked::{Match, Route, Target};
use crate::config::glob::{self, Glob};
use crate::fleet::Upstream;
use crate::fleet::health::Health;
use crate::random::Random;

/// A cluster to try.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The cluster.
    pub upstream: Arc<Upstream>,
    /// Why it comes at this place; the `reason` of `routing_decisions_total`.
    pub reason: &'static str,
}

/// Returns the route of a submission and its clusters in the order to try them.
///
/// # Errors
/// 403 when no route matches, 404 for a pinned cluster that does not exist, 503 when none of the
/// clusters takes batches now.
pub fn choose(
    routes: &[Arc<Route>],
    upstreams: &BTreeMap<String, Arc<Upstream>>,
    principal: &Principal,
    spec: &BatchSpec,
    headers: &HeaderMap,
    pinned: Option<&str>,
    random: &Random,
) -> Result<(Arc<Route>, Vec<Candidate>), ApiError> {
    if let Some(name) = pinned
        && !upstreams.contains_key(name)
    {
        return Err(ApiError::new(
            Code::UnknownPath,
            format!("there is no cluster '{name}'"),
        ));
    }
    let serves_pin = |route: &Route| {
        pinned.is_none_or(|name| route.targets.iter().any(|target| target.cluster == name))
    };
    let found = routes
        .iter()
        .find(|route| matches(route, principal, spec, headers) && serves_pin(route));
    let Some(route) = found else {
        return Err(ApiError::new(
            Code::NoRoute,
            "no route matches this submission",
        ));
    };
    let targets: Vec<Target> = route
        .targets
        .iter()
        .filter(|target| pinned.is_none_or(|name| target.cluster == name))
        .cloned()
        .collect();
    let mut candidates = in_order(&targets, upstreams, random, Health::takes_batches);
    if candidates.is_empty() {
        candidates = last_resort(route, &targets, upstreams, random);
    } else if pinned.is_some() {
        candidates.iter_mut().for_each(|one| one.reason = "pinned");
    }
    if candidates.is_empty() {
        return Err(nobody_takes_it(route, &targets, upstreams));
    }
    Ok((route.clone(), candidates))
}

/// Where every cluster that could take a batch is ejected, those are tried all the same that only
/// real requests ejected: what failed there may be something else than submitting, and their probes
/// say that they live. A submission proves nothing by being tried, so the order and the rules are
/// those of any other.
fn last_resort(
    route: &Route,
    targets: &[Target],
    upstreams: &BTreeMap<String, Arc<Upstream>>,
    random: &Random,
) -> Vec<Candidate> {
    let mut candidates = in_order(targets, upstreams, random, Health::is_last_resort);
    for candidate in &mut candidates {
        candidate.reason = "last_resort";
        tracing::warn!(
            route = %route.name, cluster = %candidate.upstream.config.name,
            "every cluster of a route is ejected; this one is tried all the same"
        );
    }
    candidates
}

/// Says why, for each cluster: a route is never without one in silence.
fn nobody_takes_it(
    route: &Route,
    targets: &[Target],
    upstreams: &BTreeMap<String, Arc<Upstream>>,
) -> ApiError {
    let excuses: Vec<String> = targets
        .iter()
        .filter_map(|target| upstreams.get(&target.cluster))
        .map(|upstream| {
            let health = &upstream.health;
            let (excuse, why) = (health.excuse(), health.why());
            format!("'{}' is {excuse}{why}", upstream.config.name)
        })
        .collect();
    let message = format!(
        "no cluster of route '{}' takes batches at the moment; nothing was submitted: {}",
        route.name,
        excuses.join("; ")
    );
    tracing::warn!(route = %route.name, %message, "a submission is turned away");
    ApiError::new(Code::ClusterUnavailable, message)
}

fn matches(route: &Route, principal: &Principal, spec: &BatchSpec, headers: &HeaderMap) -> bool {
    let Match {
        users,
        groups,
        queue,
        name,
        file,
        header,
    } = &route.matches;
    let text = |patterns: &[Glob], value: Option<&str>| {
        patterns.is_empty() || value.is_some_and(|value| glob::any(patterns, value))
    };
    (route.authenticators.is_empty() || route.authenticators.contains(&principal.authenticator))
        && text(users, Some(&principal.user))
        && (groups.is_empty()
            || principal
                .groups
                .iter()
                .any(|group| glob::any(groups, group)))
        && text(queue, spec.queue.as_deref())
        && text(name, spec.name.as_deref())
        && text(file, Some(&spec.file))
        && header.iter().all(|(name, pattern)| {
            headers
                .get_all(name)
                .iter()
                .any(|value| value.to_str().is_ok_and(|value| pattern.matches(value)))
        })
}

/// Orders targets: lower tiers first, within a tier by chance in proportion to the weights.
/// Clusters that don't fit are left out.
fn in_order(
    targets: &[Target],
    upstreams: &BTreeMap<String, Arc<Upstream>>,
    random: &Random,
    fits: impl Fn(&Health) -> bool,
) -> Vec<Candidate> {
    let mut tiers: BTreeMap<u32, Vec<(u32, Arc<Upstream>)>> = BTreeMap::new();
    for target in targets {
        if let Some(upstream) = upstreams
            .get(&target.cluster)
            .filter(|upstream| fits(&upstream.health))
        {
            tiers
                .entry(target.tier)
                .or_default()
                .push((target.weight, upstream.clone()));
        }
    }
    let best = targets.iter().map(|target| target.tier).min();
    let mut order = Vec::new();
    for (tier, mut members) in tiers {
        while !members.is_empty() {
            let weights: Vec<u32> = members.iter().map(|(weight, _)| *weight).collect();
            let (_, upstream) = members.swap_remove(pick(&weights, random.number()));
            let reason = match (order.is_empty(), Some(tier) == best) {
                (true, true) => "weight",
                (true, false) => "tier",
                (false, _) => "fallback",
            };
            order.push(Candidate { upstream, reason });
        }
    }
    order
}

/// Picks an index in proportion to the weights. `chance` is any number.
fn pick(weights: &[u32], chance: u64) -> usize {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let mut left = chance % total.max(1);
    for (at, weight) in weights.iter().enumerate() {
        match left.checked_sub(u64::from(*weight)) {
            Some(rest) => left = rest,
            None => return at,
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::pick;

    #[test]
    fn weights_are_shares() {
        let mut hits = [0; 3];
        for chance in 0..60 {
            hits[pick(&[1, 2, 3], chance)] += 1;
        }
        assert_eq!(hits, [10, 20, 30]);
    }
}
