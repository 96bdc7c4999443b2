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
mod wire;
mod world;

#[test]
fn no_promise_is_broken_in_a_hundred_runs() {
    assert_eq!(
        all::all(1, 100, false),
        0,
        "seeds that broke a promise; the first is named above"
    );
}
