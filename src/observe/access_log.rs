//! One structured line for each request.
//!
//! What may stand in it is decided here: never a header's value but the request id, never a body,
//! never a query (it may carry `doAs` or what a client put there by mistake).

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::Method;
use livy_dialect::Operation;

use crate::upstream::{Errand, Whereabouts};

/// What the line tells.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are the line's own")]
pub struct Line<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub peer: SocketAddr,
    pub operation: Operation,
    pub user: Option<String>,
    pub seen: Whereabouts,
    pub errand: &'a Errand,
}

/// Longest path that is written whole.
const LONGEST_PATH: usize = 200;

/// Writes the line.
pub fn write(line: &Line<'_>, status: u16, total: Duration, waited: Duration, response_bytes: u64) {
    if !tracing::enabled!(target: "livy_gateway::access", tracing::Level::INFO) {
        return;
    }
    let upstream_status = line.errand.upstream_status.load(Ordering::Relaxed);
    let path: String = line.path.chars().take(LONGEST_PATH).collect();
    tracing::info!(
        target: "livy_gateway::access",
        request_id = %line.errand.request_id,
        client = %line.peer.ip(),
        user = line.user.as_deref(),
        method = %line.method,
        path,
        operation = line.operation.as_str(),
        route = line.seen.route.as_deref(),
        cluster = line.seen.cluster.as_deref(),
        status,
        upstream_status = (upstream_status > 0).then_some(upstream_status),
        duration_ms = millis(total),
        upstream_ms = millis(waited),
        response_bytes,
        "request"
    );
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
