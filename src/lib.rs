//! livy-gateway: one stable Apache Livy batch endpoint in front of Livy, Knox, HDInsight, IBM
//! Analytics Engine and Kyuubi.
//!
//! The rooms, from the door downward; a room imports only rooms that stand below it in this list,
//! and a test compares the list with the imports:
//!
//! - [`cli`]: the commands, a file each.
//! - [`sandbox`]: simulated clusters. Beside the walk.
//! - [`certify`]: the conformance suite. Beside the walk.
//! - [`engine`]: what starts, restarts and stops things: build, reload, background.
//! - [`admin`]: the second listener: probes, metrics, reload.
//! - [`listen`]: sockets, TLS, HTTP limits, drain.
//! - [`walk`]: one request, step by step. Start reading here.
//! - [`batches`]: polls, items, lists, logs, kills.
//! - [`submit`]: submissions, and what became of them.
//! - [`gateway`]: what the running gateway holds. Data only.
//! - [`route`]: where a submission goes.
//! - [`access`]: who may do what.
//! - [`auth`]: who is calling.
//! - [`fleet`]: clusters as living things: health, credentials, requests.
//! - [`registry`]: the memory of all batches.
//! - [`api`]: the canonical API's paths, requests, answers and errors.
//! - [`net`]: TLS, connector, fetch: ground for everyone who speaks on a socket.
//! - [`live`]: what is read again when it changes.
//! - [`observe`]: one request's record, metrics, the log.
//! - [`config`]: text to checked; the plain types.
//! - [`flight`]: one question that many ask.
//! - [`clock`]: the two clocks.
//! - [`random`]: chance, or a seed.
//!
//! `livy_dialect`, a crate of its own below `src/dialect/`, is the pure translation core; every
//! room may use it.

pub mod access;
pub mod admin;
pub mod api;
pub mod auth;
pub mod batches;
pub mod certify;
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod fleet;
pub mod flight;
pub mod gateway;
pub mod listen;
pub mod live;
pub mod net;
pub mod observe;
pub mod random;
pub mod registry;
pub mod route;
pub mod sandbox;
pub mod submit;
pub mod walk;

/// The revision that this was built from, where the build knows it.
pub const REVISION: &str = match option_env!("LIVY_GATEWAY_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
