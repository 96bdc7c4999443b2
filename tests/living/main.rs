//! Everything that may change changes, again and again, under load: certificate, password file, a
//! cluster's token, routes and clusters; every fifth file is broken. No request may fail, no
//! connection may be dropped, and each change must be in force soon.
//!
//!     cargo test --test living
//!     cargo test --test living -- --changes 1000 --rate 200
//!
//! `--changes`: how many, one a second. `--rate`: polls and submissions a second. `--within`: how
//! many milliseconds a change may take. Exit status 1 if anything was not so.
#![expect(
    clippy::print_stdout,
    reason = "the report is what this program is for"
)]

mod changes;
mod load;
mod token;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use changes::{Change, House};
use load::Load;

const USAGE: &str = "[--changes N] [--rate N] [--within MS]";
/// From one change to the next.
const PACE: Duration = Duration::from_secs(1);

struct Wish {
    changes: u64,
    rate: u64,
    within: Duration,
}

fn read(mut words: impl Iterator<Item = String>) -> Result<Wish, String> {
    let mut wish = Wish {
        changes: 60,
        rate: 200,
        within: Duration::from_secs(3),
    };
    while let Some(word) = words.next() {
        let value = words.next().and_then(|value| value.parse::<u64>().ok());
        let value = value.ok_or_else(|| format!("{word} wants a number"))?;
        match word.as_str() {
            "--changes" => wish.changes = value,
            "--rate" => wish.rate = value,
            "--within" => wish.within = Duration::from_millis(value),
            _ => return Err(format!("{word} is not known")),
        }
    }
    Ok(wish)
}

fn main() -> ExitCode {
    let wish = match read(std::env::args().skip(1)) {
        Ok(wish) => wish,
        Err(why) => {
            eprintln!("{why}\nusage: cargo test --test living -- {USAGE}");
            return ExitCode::from(2);
        }
    };
    let house = House::start();
    let over = Arc::new(AtomicBool::new(false));
    let load = Load::start(&house, wish.rate, &over);
    let began = Instant::now();
    let mut took: Vec<(Change, Duration)> = Vec::new();
    let mut wrong = Vec::new();
    for number in 0..wish.changes {
        let due = began + PACE * u32::try_from(number).unwrap_or(u32::MAX);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let change = Change::number(number);
        match house.carry_out(change, number, wish.within) {
            Ok(time) => took.push((change, time)),
            Err(why) => wrong.push(format!("change {number} ({}): {why}", change.word())),
        }
    }
    over.store(true, Ordering::Relaxed);
    let load = load.end();
    report(&took, &load, began.elapsed());
    wrong.extend(load.wrong);
    if load.polls + load.submissions == 0 {
        wrong.push("there was no load".to_owned());
    }
    for what in &wrong {
        println!("wrong: {what}");
    }
    println!(
        "{} changes, {} requests: {} wrong",
        wish.changes,
        load.polls + load.submissions,
        wrong.len()
    );
    ExitCode::from(u8::from(!wrong.is_empty()))
}

fn report(took: &[(Change, Duration)], load: &load::Report, time: Duration) {
    println!(
        "change                  times   median      longest   (from the write to the effect)"
    );
    for change in Change::ALL {
        let mut times: Vec<Duration> = took
            .iter()
            .filter(|(one, _)| *one == change)
            .map(|(_, time)| *time)
            .collect();
        times.sort_unstable();
        let (Some(longest), Some(median)) = (times.last(), times.get(times.len() / 2)) else {
            continue;
        };
        println!(
            "{:<24}{:<8}{:>5} ms    {:>5} ms",
            change.word(),
            times.len(),
            median.as_millis(),
            longest.as_millis()
        );
    }
    println!(
        "{} polls and {} submissions in {} s over {} connections; longest answer {} ms",
        load.polls,
        load.submissions,
        time.as_secs(),
        load.connections,
        load.longest.as_millis()
    );
}
