//! The fault matrix: each operation, under each fault, before and after the cluster got the
//! request, on each flavor. What comes of it must be among what `expected` writes down.
//!
//!     cargo test --test faults
//!     cargo test --test faults -- --flavor kyuubi --operation create_batch --show 20
//!
//! `--show`: of how many cells that differ, for each flavor and operation, the whole story is told.
//!
//! Cells run side by side; a fault finds its request by what is in it. Where that can't be (nobody
//! listens; a list is everybody's), the cells of a flavor run one after the other on a cluster of
//! their own. Exit status 1 if a cell differs.
#![expect(
    clippy::print_stdout,
    reason = "the report is what this program is for"
)]

mod cell;
mod expected;
mod run;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use cell::{Cell, Operation};
use expected::{Outcome, allowed};
use run::{Place, Played, is_alive, jobs_of, play};
use serde_json::Value;
use testkit::fault_proxy::FaultProxy;
use testkit::keeper::{Keeper, quick};
use testkit::{Clusters, FLAVORS};

const USAGE: &str = "[--flavor FLAVOR]... [--operation OPERATION]... [--show N]";

/// Cells of one flavor that run side by side.
const WIDTH: usize = 12;

struct Wish {
    flavors: Vec<String>,
    operations: Vec<String>,
    show: usize,
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut wish = Wish {
        flavors: Vec::new(),
        operations: Vec::new(),
        show: 1,
    };
    while let Some(word) = words.next() {
        let value = words
            .next()
            .ok_or_else(|| format!("{word} wants a value"))?;
        match word.as_str() {
            "--flavor" if FLAVORS.iter().any(|(flavor, _)| *flavor == value) => {
                wish.flavors.push(value)
            }
            "--operation"
                if Operation::ALL
                    .iter()
                    .any(|operation| operation.word() == value) =>
            {
                wish.operations.push(value)
            }
            "--show" => {
                wish.show = value
                    .parse()
                    .map_err(|_| format!("--show wants a number, not {value}"))?
            }
            _ => return Err(format!("{word} {value} is not known")),
        }
    }
    Ok(wish)
}

fn main() -> ExitCode {
    let wish = match read(std::env::args().skip(1)) {
        Ok(wish) => wish,
        Err(why) => {
            eprintln!("{why}\nusage: cargo test --test faults -- {USAGE}");
            return ExitCode::from(2);
        }
    };
    let began = Instant::now();
    let (shared, alone) = (Clusters::start(), Clusters::start());
    let flavors: Vec<_> = FLAVORS
        .iter()
        .filter(|(flavor, _)| is_wanted(&wish.flavors, flavor))
        .collect();
    let place =
        |flavor: &str, suffix: &str, clusters| Place::new(format!("{flavor}{suffix}"), clusters);
    let places: Vec<(&str, Place<'_>, Place<'_>)> = flavors
        .iter()
        .map(|(flavor, _)| {
            (
                *flavor,
                place(flavor, "", &shared),
                place(flavor, "-alone", &alone),
            )
        })
        .collect();
    let behind: Vec<(&str, &str, &FaultProxy)> = places
        .iter()
        .flat_map(|(flavor, one, other)| {
            [one, other].map(|place| (place.name.as_str(), *flavor, &place.proxy))
        })
        .collect();
    // Every look asks the cluster, and nobody looks but the cells.
    let gateway = Keeper::start(&behind, &quick("freshness: 0s, watch: 10m, lost_after: 4s"));
    let results: Mutex<Vec<(Cell, Played)>> = Mutex::default();
    std::thread::scope(|scope| {
        for ((flavor, one, other), (_, file)) in places.iter().zip(&flavors) {
            let cells = cell::of(flavor, file)
                .into_iter()
                .filter(|cell| is_wanted(&wish.operations, cell.operation.word()));
            let (lonely, social): (Vec<Cell>, Vec<Cell>) = cells.partition(Cell::is_alone);
            let (results, gateway) = (&results, &gateway);
            let keep = move |cell: &Cell, played| {
                results
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((cell.clone(), played))
            };
            scope.spawn(move || {
                lonely
                    .iter()
                    .for_each(|cell| keep(cell, play(cell, other, gateway)))
            });
            let queue = std::sync::Arc::new((social, AtomicUsize::new(0)));
            for _ in 0..WIDTH {
                let queue = queue.clone();
                scope.spawn(move || {
                    while let Some(cell) = queue.0.get(queue.1.fetch_add(1, Ordering::SeqCst)) {
                        keep(cell, play(cell, one, gateway));
                    }
                });
            }
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(cell, _)| (cell.flavor, cell.operation.word(), cell.name.clone()));
    let books = |clusters: &Clusters| {
        flavors
            .iter()
            .map(|(flavor, _)| (*flavor, clusters.books(flavor)))
            .collect::<HashMap<_, _>>()
    };
    let (shared, alone) = (books(&shared), books(&alone));
    for (cell, played) in &mut results {
        look_again(
            &(if cell.is_alone() { &alone } else { &shared })[cell.flavor],
            cell,
            played,
        );
    }
    report(&results, wish.show);
    println!("{} cells in {} s", results.len(), began.elapsed().as_secs());
    if results.iter().all(|(cell, played)| fits(cell, played)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn is_wanted(list: &[String], word: &str) -> bool {
    list.is_empty() || list.iter().any(|wanted| wanted == word)
}

fn fits(cell: &Cell, played: &Played) -> bool {
    allowed(cell).contains(&played.outcome)
}

/// When all is over, nothing may have come to life that was said to be dead, and nothing twice.
fn look_again(books: &[Value], cell: &Cell, played: &mut Played) {
    let alive = jobs_of(books, &cell.tag)
        .filter(|job| is_alive(job))
        .count();
    let wanted = match played.outcome {
        Outcome::CreatedAndRunsOnce
        | Outcome::CreatedAndNobodyKnows
        | Outcome::StaleAndRight
        | Outcome::FreshAndRight => 1,
        Outcome::CreatedAndOpen if alive <= 1 => return,
        Outcome::CreatedAndOpen => 1,
        Outcome::Wrong => return,
        _ => 0,
    };
    if alive != wanted {
        played
            .story
            .push(format!("when all was over, {alive} of its jobs ran"));
        played.outcome = Outcome::Wrong;
    }
}

fn report(results: &[(Cell, Played)], show: usize) {
    let mut shown: HashMap<(&str, &str), usize> = HashMap::new();
    for (cell, played) in results.iter().filter(|(cell, played)| !fits(cell, played)) {
        let came = played.outcome.words();
        println!(
            "{} {}, {}: {came}; the answer: {}",
            cell.flavor,
            cell.operation.word(),
            cell.name,
            answer(played)
        );
        let shown = shown
            .entry((cell.flavor, cell.operation.word()))
            .or_default();
        *shown += 1;
        if *shown <= show {
            let may = allowed(cell)
                .iter()
                .map(|outcome| outcome.words())
                .collect::<Vec<_>>()
                .join(" | ");
            println!("    may be: {may}");
            played.story.iter().for_each(|line| println!("    {line}"));
        }
    }
    let flavors: Vec<&str> = FLAVORS.iter().map(|(flavor, _)| *flavor).collect();
    println!(
        "\n{:<14}{}   (as written down / all)",
        "",
        flavors
            .iter()
            .map(|flavor| format!("{flavor:>12}"))
            .collect::<String>()
    );
    for operation in Operation::ALL {
        let cells = flavors.iter().map(|flavor| {
            let of = results
                .iter()
                .filter(|(cell, _)| cell.operation == operation && cell.flavor == *flavor);
            let good = of
                .clone()
                .filter(|(cell, played)| fits(cell, played))
                .count();
            format!("{:>12}", format!("{good}/{}", of.count()))
        });
        println!("{:<14}{}", operation.word(), cells.collect::<String>());
    }
    let mut outcomes: HashMap<&str, usize> = HashMap::new();
    results
        .iter()
        .for_each(|(_, played)| *outcomes.entry(played.outcome.words()).or_default() += 1);
    let mut outcomes: Vec<_> = outcomes.into_iter().collect();
    outcomes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    println!(
        "\n{}",
        outcomes
            .iter()
            .map(|(words, count)| format!("{count:>6}  {words}"))
            .collect::<Vec<_>>()
            .join("\n")
    );
    println!(
        "{:>6}  did not meet their fault",
        results.iter().filter(|(_, played)| !played.met).count()
    );
    let differ = results
        .iter()
        .filter(|(cell, played)| !fits(cell, played))
        .count();
    println!("\n{differ} of {} cells differ", results.len());
}

/// Returns the line of the story with the answer to the operation under its fault.
fn answer(played: &Played) -> String {
    let line = played.story.iter().find(|line| line.contains("(fault)"));
    line.map_or_else(
        || "none".to_owned(),
        |line| {
            line.split("(fault): ")
                .nth(1)
                .unwrap_or(line)
                .chars()
                .take(160)
                .collect()
        },
    )
}
