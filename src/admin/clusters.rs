//! `GET /clusters`, and the orders that an administrator gives: `POST /clusters/{name}/drain`,
//! `undrain`, `disable` and `enable`.
//!
//! An order is stored before it is obeyed, so that it survives the process. Who may give one is
//! decided before it comes here; nobody's web page may: browsers send logins by themselves, and
//! reach this machine's own addresses.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::answer::with_type;
use crate::api::error::{ApiError, Code};
use crate::config::checked::ClusterState;
use crate::fleet::Upstream;
use crate::fleet::health::{Report, State, rfc3339};
use crate::gateway::Gateway;
use crate::registry::{RegistryError, Wish};

/// How long the registry may take. Probes and scrapes must be answered whatever the disk does.
const PATIENCE: Duration = Duration::from_secs(2);

/// What can be asked for, and what it does: the wish, and whether it is taken back.
const VERBS: [(&str, Wish, bool); 4] = [
    ("drain", Wish::Drain, false),
    ("undrain", Wish::Drain, true),
    ("disable", Wish::Disable, false),
    ("enable", Wish::Disable, true),
];

/// Brings what is only counted at a scrape up to date.
pub(super) async fn refresh(gateway: &Gateway) {
    let mut registry_answers = true;
    for upstream in gateway.snapshot.load_full().upstreams.values() {
        upstream.show_connections();
        // One that does not answer is not waited for once more for each cluster.
        registry_answers = registry_answers && live(gateway, upstream).await.is_some();
    }
}

/// Returns every cluster.
pub(super) async fn all(gateway: &Gateway) -> Value {
    let mut all = Vec::new();
    let mut registry_answers = true;
    for upstream in gateway.snapshot.load_full().upstreams.values() {
        // What is seen to take no new batches is counted after that: nothing comes in between.
        let report = upstream.health.report();
        let live = match registry_answers {
            true => live(gateway, upstream).await,
            false => None,
        };
        registry_answers = live.is_some();
        all.push(describe(upstream, &report, live));
    }
    Value::Array(all)
}

async fn live(gateway: &Gateway, upstream: &Upstream) -> Option<i64> {
    let name = upstream.config.name.as_str();
    let counted = timeout(PATIENCE, gateway.registry.live(name)).await;
    let live = counted.ok()?.ok()?;
    let gauge = &gateway.metrics.cluster_live_batches;
    gauge.with_label_values(&[name]).set(live);
    Some(live)
}

fn describe(upstream: &Upstream, report: &Report, live: Option<i64>) -> Value {
    let config = &upstream.config;
    let takes_none = matches!(report.state, State::Draining | State::Disabled);
    let orders = report.orders.iter().map(|order| {
        json!({"order": order.wish.as_str(), "since": rfc3339(order.since_ms), "by": order.by})
    });
    json!({
        "name": config.name,
        "flavor": config.flavor.as_str(),
        "url": config.base.to_string(),
        "state": report.state.as_str(),
        "reason": report.reason,
        "since": rfc3339(report.since_ms),
        "up": report.up,
        "probed": report.probed_ms.map(rfc3339),
        "ejected": report.ejected,
        "next_trial": report.trial_ms.map(rfc3339),
        "last_error": report.last_error.as_ref().map(|(message, at)| {
            json!({"message": message, "at": rfc3339(*at)})
        }),
        "live_batches": live,
        "drained": takes_none && live == Some(0),
        "configured": configured(report.configured),
        "orders": orders.collect::<Vec<_>>(),
    })
}

const fn configured(state: ClusterState) -> &'static str {
    match state {
        ClusterState::Serving => "serving",
        ClusterState::Draining => "draining",
        ClusterState::Disabled => "disabled",
    }
}

/// Reads a path that gives an order: the cluster and the verb.
pub(super) fn order_of(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("/clusters/")?.split_once('/')
}

/// Carries an order out, and answers with the cluster as it is then.
pub(super) async fn order<B>(
    gateway: &Arc<Gateway>,
    cluster: &str,
    verb: &str,
    request: &Request<B>,
    by: &str,
) -> Response<Full<Bytes>> {
    let snapshot = gateway.snapshot.load_full();
    let Some((_, wish, lifts)) = VERBS.iter().find(|(known, ..)| *known == verb) else {
        let message = "a cluster can be told to drain, undrain, disable or enable";
        return refusal(&ApiError::new(Code::UnknownPath, message));
    };
    if !snapshot.upstreams.contains_key(cluster) {
        let message = format!("there is no cluster '{cluster}'");
        return refusal(&ApiError::new(Code::UnknownPath, message));
    }
    if let Err(error) = may_order(request) {
        return refusal(&error);
    }
    let work = carry_out(
        gateway.clone(),
        cluster.to_owned(),
        *wish,
        *lifts,
        by.to_owned(),
    );
    // A task of its own: what is stored is obeyed, also if nobody waits for it any more.
    let why = match timeout(PATIENCE, tokio::spawn(work)).await {
        Ok(Ok(Ok(upstream))) => {
            tracing::warn!(%cluster, order = verb, %by, "an administrator gave an order");
            let report = upstream.health.report();
            let told = describe(&upstream, &report, live(gateway, &upstream).await);
            let body = told.to_string().into_bytes();
            return with_type(StatusCode::OK, "application/json", body);
        }
        Ok(Ok(Err(error))) => error,
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it takes too long".to_owned(),
    };
    tracing::error!(%cluster, order = verb, %by, %why, "an order could not be stored");
    let message = "the registry can't be written, so the order would not hold; ask again";
    refusal(&ApiError::new(Code::RegistryUnavailable, message))
}

async fn carry_out(
    gateway: Arc<Gateway>,
    cluster: String,
    wish: Wish,
    lifts: bool,
    by: String,
) -> Result<Arc<Upstream>, String> {
    // A reload holds it as well: the cluster is the one in force.
    let _turn = gateway.orders.lock().await;
    let snapshot = gateway.snapshot.load_full();
    let gone = || "the cluster is not configured any more".to_owned();
    let upstream = snapshot.upstreams.get(&cluster).ok_or_else(gone)?;
    let in_words = |error: RegistryError| error.to_string();
    let order = if lifts {
        let lifted = gateway.registry.lift_order(&cluster, wish).await;
        lifted.map_err(in_words)?;
        None
    } else {
        let given = gateway.registry.give_order(&cluster, wish, &by).await;
        Some(given.map_err(in_words)?)
    };
    upstream.health.obey(wish, order);
    Ok(upstream.clone())
}

fn may_order<B>(request: &Request<B>) -> Result<(), ApiError> {
    if request.method() != Method::POST {
        let mut error = ApiError::new(Code::MethodNotAllowed, "an order is a POST");
        error.allow = Some("POST");
        return Err(error);
    }
    Ok(())
}

fn refusal(error: &ApiError) -> Response<Full<Bytes>> {
    let mut response = with_type(error.status(), "application/json", error.body(""));
    if let Some(allow) = error.allow {
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(allow));
    }
    response
}
