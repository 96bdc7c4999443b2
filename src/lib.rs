//! livy-gateway: one stable Apache Livy batch endpoint in front of Livy, Knox, HDInsight, IBM
//! Analytics Engine and Kyuubi.
//!
//! The rooms, in the order in which a request meets them; a room never imports one that stands
//! before it in this list, `runtime` aside, which holds them all together:
//!
//! - [`cli`]: the commands.
//! - [`listen`]: sockets, TLS, HTTP limits, drain.
//! - [`walk`]: one request, step by step. Start reading here.
//! - [`auth`]: who is calling.
//! - [`api`]: the canonical API's paths, requests, answers and errors.
//! - [`batches`], [`submit`]: what the operations do.
//! - [`access`], [`route`]: who may do what; where a submission goes.
//! - `livy_dialect` (a crate of its own below `src/dialect/`): the pure translation core.
//! - [`upstream`]: clusters as they are reached.
//! - [`registry`]: the memory of all batches.
//! - [`config`], [`observe`], [`clock`], [`flight`]: what every room may use.
//! - [`admin`], [`sandbox`], [`certify`]: beside the walk.

pub mod access;
pub mod admin;
pub mod api;
pub mod auth;
pub mod batches;
pub mod certify;
pub mod cli;
pub mod clock;
pub mod config;
pub mod flight;
pub mod listen;
pub mod observe;
pub mod registry;
pub mod route;
pub mod runtime;
pub mod sandbox;
pub mod submit;
pub mod upstream;
pub mod walk;

/// The revision that this was built from, where the build knows it.
pub const REVISION: &str = match option_env!("LIVY_GATEWAY_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
