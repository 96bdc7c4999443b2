//! Many seeds side by side: one thread each for as many as there are processors.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::run::{Report, run};
use crate::world::Story;

/// Returns a number that was given by the environment.
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs so many seeds from a first one on, or, if it `stops`, until one broke a promise; returns
/// how many did. Where the stories are digested, each runs twice and must go the same way.
pub(crate) fn all(first: u64, count: u64, stops: bool, story: Story) -> usize {
    let next = AtomicU64::new(first);
    let failed = AtomicBool::new(false);
    let reports: Mutex<Vec<Report>> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let began = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || (stops && failed.load(Ordering::Relaxed)) {
                        return;
                    }
                    let mut report = run(seed, story);
                    if story == Story::Digested && run(seed, story).digest != report.digest {
                        report
                            .broken
                            .push("went another way the second time".into());
                    }
                    if !report.broken.is_empty() {
                        failed.store(true, Ordering::Relaxed);
                        eprintln!("seed {seed} ({}): {}", report.scene, report.broken[0]);
                        for more in &report.broken[1..] {
                            eprintln!("    {more}");
                        }
                    }
                    reports
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push(report);
                }
            });
        }
    });
    let reports = reports
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for report in &reports {
        report
            .counts
            .iter()
            .for_each(|(what, count)| *counts.entry(what).or_default() += count);
    }
    for (what, count) in counts {
        eprintln!("{count:>8} {what}");
    }
    let mut failed: Vec<u64> = reports
        .iter()
        .filter(|report| !report.broken.is_empty())
        .map(|report| report.seed)
        .collect();
    failed.sort_unstable();
    eprintln!(
        "{} seeds from {first} in {:.1} s: {} broke a promise",
        reports.len(),
        began.elapsed().as_secs_f64(),
        failed.len()
    );
    if let Some(seed) = failed.first() {
        eprintln!("to see one: SEED={seed} cargo test --test simulation");
    }
    failed.len()
}
