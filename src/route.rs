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
    let candidates = match pinned {
        Some(name) => pinned_candidate(upstreams, name),
        None => in_order(&route.targets, upstreams),
    };
    if candidates.is_empty() {
        let why: Vec<String> = route
            .targets
            .iter()
            .filter(|target| pinned.is_none_or(|name| target.cluster == name))
            .filter_map(|target| upstreams.get(&target.cluster))
            .map(|upstream| {
                let health = &upstream.health;
                format!(
                    "{} is {}{}",
                    upstream.config.name,
                    health.state(),
                    health.why()
                )
            })
            .collect();
        let message = format!(
            "no cluster of route '{}' takes batches at the moment: {}",
            route.name,
            why.join(", ")
        );
        return Err(ApiError::new(Code::ClusterUnavailable, message));
    }
    Ok((route.clone(), candidates))
}

fn pinned_candidate(upstreams: &BTreeMap<String, Arc<Upstream>>, name: &str) -> Vec<Candidate> {
    let upstream = upstreams
        .get(name)
        .filter(|upstream| upstream.health.takes_batches());
    upstream
        .map(|upstream| Candidate {
            upstream: upstream.clone(),
            reason: "pinned",
        })
        .into_iter()
        .collect()
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
/// Clusters that take no batches are left out.
fn in_order(targets: &[Target], upstreams: &BTreeMap<String, Arc<Upstream>>) -> Vec<Candidate> {
    let mut tiers: BTreeMap<u32, Vec<(u32, Arc<Upstream>)>> = BTreeMap::new();
    for target in targets {
        if let Some(upstream) = upstreams
            .get(&target.cluster)
            .filter(|upstream| upstream.health.takes_batches())
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
            let (_, upstream) = members.swap_remove(pick(&weights, random()));
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

fn random() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
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
