//! A simulation of submitting, resolving, adopting, killing and restarting: the gateway itself,
//! unchanged from the walk of a request down, over a simulated network, simulated clusters and a
//! disk that survives it, all under a clock that nobody waits for. In every fourth scene there are
//! two gateways over one database, each with lives, standstills and partitions of its own, and
//! clients that are answered by either. Everything that happens hangs on one number, the seed.
//!
//! `cargo test --test simulation` runs 1,000 seeds; `SEEDS=20000` more, `FIRST=5000` others,
//! `STOP=1` no more after the first that breaks a promise; `TWICE=1` runs each a second time, and
//! compares the two stories; `REPLICAS=2` has two gateways in each, and 0 in every fourth; `SEED=17` tells
//! the story of one. Plain `cargo test` runs a hundred
//! (`few.rs`).

mod all;
mod client;
mod cluster;
mod disk;
mod house;
mod hunter;
mod judge;
mod life;
mod run;
mod shared;
mod wire;
mod world;

use std::process::ExitCode;

use all::number;

fn main() -> ExitCode {
    if let Some(seed) = number("SEED") {
        if std::env::var_os("RUST_LOG").is_some() {
            let filter = tracing_subscriber::EnvFilter::from_default_env();
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .without_time()
                .with_writer(std::io::stderr)
                .init();
        }
        let report = run::run(seed, world::Story::Told);
        eprintln!(
            "seed {seed} ({}), digest {:016x}: {:#?}",
            report.scene, report.digest, report.broken
        );
        return ExitCode::from(u8::from(!report.broken.is_empty()));
    }
    let failed = all::all(
        number("FIRST").unwrap_or(1),
        number("SEEDS").unwrap_or(1000),
        number("STOP").is_some(),
        if number("TWICE").is_some() {
            world::Story::Digested
        } else {
            world::Story::Untold
        },
    );
    ExitCode::from(u8::from(failed > 0))
}
