//! A rolling update: two gateways on one PostgreSQL, restarted one after the other under load, as a
//! Deployment does it. No request may fail, and no connection be dropped.
//!
//!     cargo test --test rolling
//!     cargo test --test rolling -- --restarts 20 --rate 200
//!
//! `--restarts`: how often a gateway is. `--rate`: polls and submissions a second. Whoever balances
//! load asks each gateway every half second whether it is ready, and sends new connections to those
//! that are; clients keep theirs until they are told to close them. At the end the clusters' books
//! are compared with what the clients were told. PostgreSQL has to be installed. Exit status 1 if
//! anything was not so.
#![expect(
    clippy::print_stdout,
    reason = "the report is what this program is for"
)]

mod balancer;
mod client;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use balancer::Balancer;
use client::{Client, Report};
use testkit::Clusters;
use testkit::fault_proxy::FaultProxy;
use testkit::keeper::{Keeper, Ways, quick};
use testkit::servers::postgres::Postgres;

const USAGE: &str = "[--restarts N] [--rate N]";
/// How many clients share the rate.
const CLIENTS: u64 = 10;
/// How long a gateway goes on after it was told to end, so that it is not asked any more.
const DELAY: &str = ", drain_delay: 2s";
/// How long it may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(15);

fn read(mut words: impl Iterator<Item = String>) -> Result<(u64, u64), String> {
    let (mut restarts, mut rate) = (6, 200);
    while let Some(word) = words.next() {
        let value = words.next().and_then(|value| value.parse::<u64>().ok());
        let value = value.ok_or_else(|| format!("{word} wants a number"))?;
        match word.as_str() {
            "--restarts" => restarts = value,
            "--rate" => rate = value.max(1),
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok((restarts, rate))
}

fn main() -> ExitCode {
    let (restarts, rate) = match read(std::env::args().skip(1)) {
        Ok(wish) => wish,
        Err(why) => {
            eprintln!("{why}\nusage: cargo test --test rolling -- {USAGE}");
            return ExitCode::from(2);
        }
    };
    let (clusters, database) = (Clusters::start(), Postgres::start());
    let proxy = FaultProxy::start(clusters.address);
    let registry = format!("registry: {{postgres: {{url: \"{}\"}}}}", database.url());
    let ways = Ways {
        registry: &registry,
        server: DELAY,
    };
    let start = |_| {
        let behind = [("livy", "livy", &proxy)];
        Keeper::start_as(ways, &behind, &quick("freshness: 1s, watch: 5s"))
    };
    let gateways: Vec<Keeper> = (0..2).map(start).collect();
    let over = AtomicBool::new(false);
    let balancer = Arc::new(Balancer::new(&gateways));
    let began = Instant::now();
    let pause = Duration::from_micros(1_000_000 * CLIENTS / rate);
    let (all, ends) = std::thread::scope(|scope| {
        scope.spawn(|| balancer.look(&over));
        balancer.until_all_are_ready();
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| scope.spawn(|| Client::new(&balancer).run(pause, &over)))
            .collect();
        let ends = roll(&gateways, &balancer, restarts);
        over.store(true, Ordering::Relaxed);
        let mut all = Report::default();
        for client in clients {
            all.add(client.join().expect("no client panics"));
        }
        (all, ends)
    });
    let wrong = judge(&clusters, &all, &ends);
    println!(
        "{restarts} restarts, {} polls and {} submissions in {} s over {} connections; longest answer {} ms: {} wrong",
        all.polls,
        all.submitted.len(),
        began.elapsed().as_secs(),
        all.connections,
        all.longest.as_millis(),
        wrong.len()
    );
    for what in &wrong {
        println!("wrong: {what}");
    }
    ExitCode::from(u8::from(!wrong.is_empty()))
}

/// Restarts one gateway after the other, the next one when all are ready; tells which did not end by
/// themselves.
fn roll(gateways: &[Keeper], balancer: &Balancer, restarts: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, gateway) in (0..restarts).zip(gateways.iter().cycle()) {
        if !gateway.terminate(ENDS_WITHIN) {
            wrong.push(format!("restart {number}: it did not end, and was killed"));
        }
        gateway.start_again();
        balancer.until_all_are_ready();
    }
    wrong
}

/// Each submission that was answered runs once, and nothing else does.
fn judge(clusters: &Clusters, all: &Report, ends: &[String]) -> Vec<String> {
    let mut wrong = [ends, &all.wrong].concat();
    let books = clusters.books("livy");
    let told: BTreeSet<i64> = all.submitted.iter().copied().collect();
    if told.len() != all.submitted.len() {
        wrong.push("an id was given to two submissions".to_owned());
    }
    if books.len() != told.len() {
        let (ran, told) = (books.len(), told.len());
        wrong.push(format!("{told} submissions were answered, and {ran} ran"));
    }
    if all.polls == 0 || told.is_empty() {
        wrong.push("there was no load".to_owned());
    }
    wrong
}
