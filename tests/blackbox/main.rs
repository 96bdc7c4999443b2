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
mod listener;
mod logs;
mod metrics;
mod mutants;
mod ownership;
mod promise;
mod proxy;
mod registry;
mod scenario;
mod submissions;
mod upstream;
