//! Black-box tests: the real binary in front of simulated clusters, talked to over TLS.

mod api;
mod auth;
mod clients;
mod config;
mod docs;
mod errors;
mod harness;
mod listener;
mod metrics;
mod ownership;
mod registry;
mod submissions;
mod upstream;
