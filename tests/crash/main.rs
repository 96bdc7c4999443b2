//! Never lost, never doubled, never guessed at, never another's: the promise, tried while
//! everything goes wrong at once.
//!
//!     cargo test --test crash
//!     cargo test --test crash -- --replicas 3
//!     cargo test --test crash -- --flavor kyuubi --submissions 1000 --kills 100 --secs 1200 --seed 7
//!
//! With `--replicas` there are several gateways on one PostgreSQL, which has to be installed; its
//! database goes away now and then, and a gateway is stopped until the others take it for dead.
//!
//! Clients of three manners submit jobs, others look at them, list them and kill some. Meanwhile
//! the gateway is killed, ended and stopped, proxies before the clusters cut, hold and make up
//! answers, clusters restart with and without their memory, and strangers create jobs there under
//! the same names. Then all faults end, everything gets time to come to rest, and what clients were
//! told, what the gateway shows, and what the clusters' books say is compared. A job is known by
//! the last of its arguments. Exit status 1 if anything is wrong.
//!
//! The seed is printed: it gives the same submissions and the same misfortunes again, at moments
//! that depend on the threads.
#![expect(
    clippy::print_stdout,
    reason = "the report is what this program is for"
)]

mod chaos;
mod clients;
mod judge;
mod report;
mod submission;
mod wish;
mod world;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use wish::{USAGE, Wish};
use world::World;

/// Clients of each flavor that submit, and that look.
const SUBMITTERS: usize = 4;
const READERS: usize = 2;

fn main() -> ExitCode {
    let wish = match Wish::read(std::env::args().skip(1)) {
        Ok(wish) => wish,
        Err(why) => {
            eprintln!("{why}\nusage: cargo test --test crash -- {USAGE}");
            return ExitCode::from(2);
        }
    };
    let flavors: Vec<&str> = wish.flavors.iter().map(|(flavor, _)| *flavor).collect();
    let (submissions, kills, seed) = (wish.submissions, wish.kills, wish.seed);
    println!(
        "seed {seed}: {submissions} submissions for each of {}, {kills} kills",
        flavors.join(", ")
    );
    let world = World::start(wish);
    storm(&world);
    println!(
        "the storm is over after {} s: {}",
        world.began.elapsed().as_secs(),
        report::faults(&world)
    );
    let verdict = judge::wait_and_judge(&world);
    println!(
        "at rest after {} s more\n\n{}\n",
        verdict.rested_after.as_secs(),
        report::table(&world, &verdict)
    );
    if verdict.violations.is_empty() {
        println!("seed {seed}: everything is as it was told");
        return ExitCode::SUCCESS;
    }
    println!("{}", report::stories(&world, &verdict));
    println!("seed {seed}: {} violations", verdict.violations.len());
    ExitCode::FAILURE
}

/// Everything at once, until all submissions are over and nothing is held back any more.
fn storm(world: &World) {
    std::thread::scope(|scope| {
        let mut misfortunes = vec![
            scope.spawn(|| chaos::on_gateway(world)),
            scope.spawn(|| chaos::on_database(world)),
        ];
        let mut clients = Vec::new();
        for lane in &world.lanes {
            misfortunes.push(scope.spawn(move || chaos::on_cluster(world, lane)));
            clients.extend(
                (0..SUBMITTERS).map(|_| scope.spawn(move || clients::submit_all(world, lane))),
            );
            clients.extend((0..READERS).map(|number| {
                scope.spawn(move || clients::look(world, lane, &format!("reader {number}")))
            }));
        }
        for thread in misfortunes {
            thread.join().expect("a thread that panics has said why");
        }
        // From here on clients that ask again until they know have only so much time left.
        world.is_calm();
        for thread in clients {
            thread.join().expect("a thread that panics has said why");
        }
    });
    // What a proxy holds arrives before the judgement begins.
    let until = Instant::now() + Duration::from_secs(30);
    while world.lanes.iter().any(|lane| lane.proxy.under_way() > 0) && Instant::now() < until {
        std::thread::yield_now();
    }
}
