//! The admin listener: probes, metrics, and what the gateway knows of itself. Plain HTTP, meant for
//! the pod and for Prometheus.
//!
//! No answer here holds a secret; `/config` is the file with every secret masked.

mod clusters;

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use serde_json::Value;

use crate::listen::{Listener, serve_plain};
use crate::runtime::Gateway;

/// Serves until the gateway stops.
pub async fn serve(gateway: Arc<Gateway>, listener: Listener, masked_config: Value) {
    let masked_config: Arc<str> = serde_json::to_string_pretty(&masked_config)
        .unwrap_or_default()
        .into();
    let stop = gateway.stop.clone();
    serve_plain(listener, stop, move |request, peer| {
        let (gateway, masked_config) = (gateway.clone(), masked_config.clone());
        async move { answer(&gateway, &masked_config, &request, peer).await }
    })
    .await;
}

async fn answer<B>(
    gateway: &Arc<Gateway>,
    config: &str,
    request: &Request<B>,
    peer: Option<SocketAddr>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    if let Some((cluster, verb)) = clusters::order_of(path) {
        return clusters::order(gateway, cluster, verb, request, peer).await;
    }
    let known = ["/livez", "/readyz", "/metrics", "/clusters", "/config"];
    if !known.contains(&path) {
        return text(
            StatusCode::NOT_FOUND,
            &format!("nothing here; there is {}\n", known.join(" ")),
        );
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
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
            config.as_bytes().to_vec(),
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

fn with_type(
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
