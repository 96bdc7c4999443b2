//! Black-box tests: the real binary in front of simulated clusters, talked to over TLS.

mod api;
mod auth;
mod certify;
mod clients;
mod config;
mod docs;
mod doubles;
mod errors;
mod harness;
mod knobs;
mod listener;
mod metrics;
mod mutants;
mod ownership;
mod proxy;
mod registry;
mod scenario;
mod submissions;
mod upstream;
