//! A hundred seeds of the simulation, for every `cargo test`; see `main.rs`.

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

#[test]
fn no_promise_is_broken_in_a_hundred_runs() {
    assert_eq!(
        all::all(1, 100, false, world::Story::Untold),
        0,
        "seeds that broke a promise; the first is named above"
    );
}

#[test]
fn a_seed_is_the_same_story_each_time() {
    assert_eq!(all::all(1, 8, false, world::Story::Digested), 0);
}
