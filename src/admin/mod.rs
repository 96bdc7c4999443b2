//! The admin listener: probes, metrics, what the gateway knows of itself, and orders. Meant for the
//! pod, for Prometheus and for administrators.
//!
//! No answer here holds a secret; `/config` is the file, every secret masked, with the values of
//! what it leaves out.

mod answer;
mod clusters;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, HeaderValue, ORIGIN, WWW_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::api::error::{ApiError, Code};
use crate::gateway::Gateway;
use crate::gateway::reload::Verdict;
use crate::listen::{Listener, serve_plain};
use crate::net::certificate::ServerCertificate;
use answer::with_type;

/// Serves until the gateway stops.
pub async fn serve(gateway: Arc<Gateway>, listener: Listener, end: CancellationToken) {
    let shown = gateway.clone();
    let acceptor = move || {
        let snapshot = shown.snapshot.load();
        let certificate = snapshot.admin_certificate.as_ref();
        certificate.map(ServerCertificate::acceptor)
    };
    serve_plain(listener, end, acceptor, move |request, peer| {
        let gateway = gateway.clone();
        async move { answer(&gateway, &request, peer).await }
    })
    .await;
}

async fn answer<B>(
    gateway: &Arc<Gateway>,
    request: &Request<B>,
    peer: SocketAddr,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    // A kubelet has no login.
    let user = match PROBES.contains(&path) {
        true => None,
        false => match may(gateway, request, peer).await {
            Ok(user) => user,
            Err(refusal) => return refusal,
        },
    };
    let by = match user {
        Some(user) => format!("{user}, {}", peer.ip()),
        None => peer.ip().to_string(),
    };
    if path == "/reload" {
        return reload(gateway, request, &by).await;
    }
    if let Some((cluster, verb)) = clusters::order_of(path) {
        return clusters::order(gateway, cluster, verb, request, &by).await;
    }
    look(gateway, request).await
}

/// What a kubelet asks.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// Decides who may ask, and returns who that is, if anybody needs to be. Without authenticators the
/// address itself is the guard; what changes something is then for this machine only.
async fn may<B>(
    gateway: &Gateway,
    request: &Request<B>,
    peer: SocketAddr,
) -> Result<Option<String>, Response<Full<Bytes>>> {
    let snapshot = gateway.snapshot.load_full();
    let changes = request.method() == Method::POST;
    if changes && request.headers().contains_key(ORIGIN) {
        // A page that somebody looks at on this machine must not give orders.
        let error = ApiError::new(Code::Forbidden, "orders are not taken from web pages");
        return Err(with_type(
            error.status(),
            "application/json",
            error.body(""),
        ));
    }
    let allowed = &snapshot.config.admin.authenticators;
    if allowed.is_empty() {
        return match changes && !peer.ip().to_canonical().is_loopback() {
            true => Err(text(
                StatusCode::FORBIDDEN,
                "what changes something is asked from this machine, or with `admin.authenticators`\n",
            )),
            false => Ok(None),
        };
    }
    let authenticated = snapshot
        .authenticators
        .authenticate(request.headers(), &gateway.metrics);
    let principal = authenticated.await.map_err(|refusal| {
        let status = StatusCode::from_u16(refusal.code.row().status);
        let status = status.unwrap_or(StatusCode::UNAUTHORIZED);
        let mut response = text(status, &format!("{}\n", refusal.message));
        for challenge in refusal.challenges {
            response.headers_mut().append(WWW_AUTHENTICATE, challenge);
        }
        response
    })?;
    if !allowed.contains(&principal.authenticator) {
        let told = "this login is not for the admin listener\n";
        return Err(text(StatusCode::FORBIDDEN, told));
    }
    if changes && !snapshot.access.is_admin(&principal) {
        let told = "what changes something is for administrators (`admin_users`, `admin_groups`)\n";
        return Err(text(StatusCode::FORBIDDEN, told));
    }
    Ok(Some(principal.user.clone()))
}

/// Reads the file again; `?force` also if clusters with live batches go away.
async fn reload<B>(gateway: &Gateway, request: &Request<B>, by: &str) -> Response<Full<Bytes>> {
    if request.method() != Method::POST {
        return not_allowed("POST");
    }
    let force = request.uri().query() == Some("force");
    tracing::info!(by, force, "somebody asked for a reload");
    let (status, said) = match gateway.reloads.ask(force).await {
        Some(Verdict::InForce(hash)) => (
            StatusCode::OK,
            json!({"ok": true, "hash": hash, "problems": []}),
        ),
        Some(Verdict::Refused(problems)) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            json!({"ok": false, "problems": problems.list}),
        ),
        None => (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({"ok": false, "problems": [], "msg": "the gateway is going down"}),
        ),
    };
    with_type(status, "application/json", said.to_string().into_bytes())
}

fn not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, &format!("{allow} only\n"));
    let allow = HeaderValue::from_static(allow);
    response.headers_mut().insert(ALLOW, allow);
    response
}

async fn look<B>(gateway: &Gateway, request: &Request<B>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let known = ["/livez", "/readyz", "/metrics", "/clusters", "/config"];
    if !known.contains(&path) {
        return text(
            StatusCode::NOT_FOUND,
            &format!(
                "nothing here; there is {}, POST /reload and POST /clusters/NAME/drain, undrain, disable, enable\n",
                known.join(" ")
            ),
        );
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return not_allowed("GET, HEAD");
    }
    match path {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/readyz" if gateway.is_draining() => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
        "/readyz" if !gateway.registry.is_writable() => {
            // Failing would take the reads away too, which go on.
            let strict = request.uri().query() == Some("strict");
            let status = if strict {
                StatusCode::SERVICE_UNAVAILABLE
            } else {
                StatusCode::OK
            };
            text(
                status,
                "degraded: the registry can't be written; submissions and kills are refused, reads go on\n",
            )
        }
        "/readyz" => text(StatusCode::OK, "ok\n"),
        "/metrics" => {
            clusters::refresh(gateway).await;
            with_type(
                StatusCode::OK,
                "text/plain; version=0.0.4",
                gateway.metrics.encode(),
            )
        }
        "/clusters" => with_type(
            StatusCode::OK,
            "application/json",
            clusters::all(gateway).await.to_string().into_bytes(),
        ),
        _ => with_type(
            StatusCode::OK,
            "application/json",
            gateway.snapshot.load().masked.as_bytes().to_vec(),
        ),
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    with_type(
        status,
        "text/plain; charset=utf-8",
        body.as_bytes().to_vec(),
    )
}
