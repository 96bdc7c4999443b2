//! Chance, as a thing of its own: in a running gateway nobody can guess it, in a simulation it
//! hangs on a seed, so that a run can be repeated.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::{Builder, Uuid};

/// A source of chance.
#[derive(Debug, Default)]
pub struct Random(OnceLock<AtomicU64>);

impl Random {
    /// Makes it hang on a seed from now on. For tests.
    pub fn seed(&self, seed: u64) {
        self.0
            .get_or_init(AtomicU64::default)
            .store(seed, Ordering::Relaxed);
    }

    /// Draws a key that no other draw gives; a later one sorts later, but for those of one seed.
    pub fn key(&self) -> Uuid {
        match self.0.get() {
            None => Uuid::now_v7(),
            Some(state) => {
                let pair = u128::from(step(state)) << 64 | u128::from(step(state));
                Builder::from_random_bytes(pair.to_be_bytes()).into_uuid()
            }
        }
    }

    /// Draws any number.
    pub fn number(&self) -> u64 {
        match self.0.get() {
            None => Uuid::new_v4().as_u64_pair().1,
            Some(state) => step(state),
        }
    }
}

/// SplitMix64.
fn step(state: &AtomicU64) -> u64 {
    const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut mixed = state
        .fetch_add(GAMMA, Ordering::Relaxed)
        .wrapping_add(GAMMA);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_itself_and_nothing_else_does() {
        let draw = |random: &Random| [random.key(), random.key()];
        let (one, same, free) = (Random::default(), Random::default(), Random::default());
        one.seed(7);
        same.seed(7);
        assert_eq!(draw(&one), draw(&same));
        assert_ne!(one.key(), free.key());
        assert_ne!(draw(&free), draw(&Random::default()));
        assert!(free.key() < free.key(), "in the order of time");
    }
}
