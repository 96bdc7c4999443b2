//! One structured line for each request.
//!
//! What may stand in it is decided here: never a header's value but the request id, never a body,
//! never a query (it may carry `doAs` or what a client put there by mistake).

use std::net::SocketAddr;
use std::time::Duration;

use http::Method;
use livy_dialect::Operation;

use super::exchange::Exchange;

/// What the line tells.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are the line's own")]
pub struct Line<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    pub peer: SocketAddr,
    pub operation: Operation,
    pub exchange: &'a Exchange,
}

/// Longest path that is written whole.
const LONGEST_PATH: usize = 200;

/// Writes the line.
pub fn write(line: &Line<'_>, status: u16, total: Duration, response_bytes: u64) {
    if !tracing::enabled!(target: "livy_gateway::access", tracing::Level::INFO) {
        return;
    }
    let notes = line.exchange.notes();
    let path: String = line.path.chars().take(LONGEST_PATH).collect();
    tracing::info!(
        target: "livy_gateway::access",
        request_id = %line.exchange.request_id,
        client = %line.peer.ip(),
        user = notes.user.as_deref(),
        method = %line.method,
        path,
        operation = line.operation.as_str(),
        route = notes.route.as_deref(),
        cluster = notes.cluster.as_deref(),
        batch = notes.batch,
        run_as = notes.run_as.as_deref(),
        status,
        code = notes.code,
        upstream_status = line.exchange.upstream_status(),
        duration_ms = millis(total),
        upstream_ms = millis(line.exchange.time_waited()),
        response_bytes,
        "request"
    );
}

fn millis(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
