//! One by one, or one list for many: the choice, as a value over what was wanted of late.
//!
//! Nothing here waits or knows a clock; the moment is an argument.

use std::time::Duration;

use livy_dialect::Cost;
use tokio::time::Instant;

/// For how long no list is read for polls after one that failed; twice as long after the next. In a
/// storm one broken connection must not turn all polls loose.
const RESTS: Duration = Duration::from_secs(1);

/// The same after one that took too long, and the most after any: everybody has waited for it.
const RESTS_LONG: Duration = Duration::from_secs(30);

/// How long a list is taken to be before the first one was read.
const UNREAD: usize = 1_000;

/// What was wanted of a cluster of late, and what its list was worth.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// When the reads that are counted began.
    since: Option<Instant>,
    /// Reads that were wanted since.
    reads: usize,
    /// Whether lists are read for polls.
    together: bool,
    /// How many batches the last list served.
    served: usize,
    /// How long the list was.
    rows: Option<usize>,
    rests_until: Option<Instant>,
    /// How long the last rest was, if no list has been read since.
    rested: Option<Duration>,
}

impl Demand {
    /// Counts a read that is wanted now, and tells whether a list is to be read for it. `freshness`:
    /// for how long an answer serves, and so the time in which reads are counted.
    pub fn wants_list(&mut self, now: Instant, freshness: Duration, cost: Cost) -> bool {
        if self.rests_until.is_some_and(|until| now < until) {
            return false;
        }
        if self.together {
            return true;
        }
        if self.since.is_none_or(|since| now - since >= freshness) {
            (self.since, self.reads) = (Some(now), 0);
        }
        self.reads += 1;
        self.together = is_cheaper(cost, self.reads, self.rows.unwrap_or(UNREAD));
        self.together
    }

    /// Tells whether lists are read for polls.
    pub fn lists(&self) -> bool {
        self.together
    }

    /// Returns how many rows of a list the reads that are wanted now are worth.
    pub fn worth(&self, cost: Cost) -> usize {
        let reads = self.reads.max(self.served);
        let spare = (reads * cost.state).saturating_sub(cost.page);
        spare / cost.row.max(1)
    }

    /// Notes how long the list is.
    pub fn is_long(&mut self, rows: usize) {
        self.rows = Some(rows);
    }

    /// Returns how long the list is, as far as that is known.
    pub fn rows(&self) -> usize {
        self.rows.unwrap_or(UNREAD)
    }

    /// Notes that so many rows were read, and how many batches that somebody had asked for were
    /// among them. Lists go on while they are worth half of what they cost: the demand of one
    /// moment is not that of the next.
    pub fn listed(&mut self, now: Instant, rows: usize, served: usize, cost: Cost) {
        self.rested = None;
        if !self.together {
            return;
        }
        self.served = served;
        if !is_cheaper(cost, 2 * served, rows) {
            self.alone(now);
        }
    }

    /// Notes that a list could not be read: each batch is asked for by itself for a while.
    pub fn failed(&mut self, now: Instant) {
        let rest = self.rested.map_or(RESTS, |rest| 2 * rest);
        self.rest(now, rest.min(RESTS_LONG));
    }

    /// Notes that a list took too long.
    pub fn too_slow(&mut self, now: Instant) {
        self.rest(now, RESTS_LONG);
    }

    fn rest(&mut self, now: Instant, rest: Duration) {
        if self.together {
            (self.rests_until, self.rested) = (Some(now + rest), Some(rest));
            self.alone(now);
        }
    }

    fn alone(&mut self, now: Instant) {
        (self.together, self.served) = (false, 0);
        (self.since, self.reads) = (Some(now), 0);
    }
}

/// Tells whether a list of so many rows costs a cluster less than so many reads.
pub fn is_cheaper(cost: Cost, reads: usize, rows: usize) -> bool {
    cost.page + rows * cost.row < reads * cost.state
}

#[cfg(test)]
mod tests {
    use livy_dialect::Flavor;
    use proptest::prelude::*;

    use super::*;

    const FRESH: Duration = Duration::from_secs(1);

    fn livy() -> Cost {
        Flavor::Livy.dialect().cost()
    }

    #[test]
    fn a_list_is_chosen_by_what_it_costs() {
        for (flavor, reads, rows, list) in [
            (Flavor::Livy, 1, 0, false),
            (Flavor::Livy, 2, 1, true),
            (Flavor::Livy, 20, 1_000, false),
            (Flavor::Livy, 1_000, 1_000, true),
            (Flavor::Livy, 1_000, 60_000, false),
            (Flavor::Kyuubi, 2, 500, true),
            (Flavor::Kyuubi, 1, 500, false),
            (Flavor::Ibm, 3, 50, true),
        ] {
            let chosen = is_cheaper(flavor.dialect().cost(), reads, rows);
            assert_eq!(chosen, list, "{flavor}: {reads} of {rows}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_answered_by_lists_and_a_calm_one_by_one() {
        let (mut demand, now) = (Demand::default(), Instant::now());
        let first = (1..100).find(|_| demand.wants_list(now, FRESH, livy()));
        assert_eq!(first, Some(22), "a thousand rows are worth 21 reads");
        demand.is_long(1_000);
        demand.listed(now, 1_000, 900, livy());
        let later = now + 10 * FRESH;
        assert!(demand.wants_list(later, FRESH, livy()), "it goes on");
        // Nobody but one asked for anything that it showed.
        demand.listed(later, 1_000, 1, livy());
        assert!(!demand.wants_list(later, FRESH, livy()));
    }

    #[tokio::test(start_paused = true)]
    async fn reads_that_are_far_apart_are_no_storm() {
        let mut demand = Demand::default();
        let now = Instant::now();
        for second in 0..100 {
            assert!(!demand.wants_list(now + second * FRESH, FRESH, livy()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_list_that_failed_there_is_none_for_a_while() {
        let (mut demand, now) = (Demand::default(), Instant::now());
        let storms =
            |demand: &mut Demand, at| (0..50).any(|_| demand.wants_list(at, FRESH, livy()));
        assert!(storms(&mut demand, now));
        demand.failed(now);
        assert!(!storms(&mut demand, now + RESTS / 2));
        assert!(storms(&mut demand, now + RESTS));
        let now = now + RESTS;
        demand.failed(now);
        assert!(!storms(&mut demand, now + RESTS));
        assert!(storms(&mut demand, now + 2 * RESTS));
        let now = now + 2 * RESTS;
        demand.too_slow(now);
        assert!(!storms(&mut demand, now + RESTS_LONG / 2));
        assert!(storms(&mut demand, now + RESTS_LONG));
        let now = now + RESTS_LONG;
        demand.listed(now, 1_000, 900, livy());
        demand.failed(now);
        assert!(storms(&mut demand, now + RESTS), "the last one was read");
    }

    proptest! {
        #[test]
        fn what_is_chosen_never_costs_more(reads in 0usize..5_000, rows in 0usize..5_000) {
            for flavor in Flavor::ALL {
                let cost = flavor.dialect().cost();
                let (list, each) = (cost.page + rows * cost.row, reads * cost.state);
                let chosen = if is_cheaper(cost, reads, rows) { list } else { each };
                prop_assert_eq!(chosen, list.min(each));
            }
        }

        #[test]
        fn more_reads_never_make_a_list_dearer(reads in 0usize..5_000, rows in 0usize..5_000) {
            let cost = livy();
            prop_assert!(!is_cheaper(cost, reads, rows) || is_cheaper(cost, reads + 1, rows));
            prop_assert!(is_cheaper(cost, reads, rows) || !is_cheaper(cost, reads, rows + 1));
        }
    }
}
