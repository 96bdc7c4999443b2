//! Chance that can be repeated: the same seed gives the same numbers. SplitMix64 (Steele, Lea,
//! Flood: "Fast Splittable Pseudorandom Number Generators", 2014).

use std::ops::Range;

/// A source of numbers.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Makes the source of a seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// Makes the source of somebody who draws beside others: what they draw does not depend on who
    /// is faster.
    pub fn of(seed: u64, whose: &str) -> Chance {
        // FNV-1a: a name becomes a number, the same one in every run.
        let hash = whose.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Chance(seed ^ hash)
    }

    /// Draws any number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Draws a number of a range that is not empty.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.draw() % (range.end - range.start)
    }

    /// Happens so many times of a hundred.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.within(0..100) < chance
    }

    /// Picks one; there must be one.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = usize::try_from(self.draw()).unwrap_or(usize::MAX) % from.len();
        &from[at]
    }
}
