//! Black-box tests: the real binary in front of simulated clusters, talked to over TLS.

mod admin;
mod api;
mod attacks;
mod attacks_batches;
mod attacks_identity;
mod auth;
mod causes;
mod certify;
#[expect(dead_code, reason = "shared with the other suites, which draw more")]
#[path = "../support/chance.rs"]
mod chance;
mod clients;

mod config;
mod credentials;
mod docs;
mod doubles;
mod errors;
#[path = "../support/fault_proxy.rs"]
mod fault_proxy;
mod fault_proxy_tests;
mod harness;
mod health;
#[path = "../support/issuer.rs"]
mod issuer;
mod knobs;
mod listener;
mod logs;
mod metrics;
mod mutants;
mod ownership;
mod promise;
mod proxy;
mod registry;
mod reload;
mod scenario;
mod submissions;
mod upstream;
