//! When a batch may be forgotten altogether.

use std::time::Duration;

use super::claim::holds_key;
use crate::clock::Moment;
use crate::registry::row::{Phase, Row};

/// For how long a submission that was given up is looked for without anybody asking. A list shows
/// what came of it at any time after that.
pub const WATCHED_FOR: Duration = Duration::from_secs(3600);

/// Tells whether a row may be swept out: what it stands for ended longer ago than `retain`, no key
/// is answered by it, and its job is not expected to show up any more. All by both clocks.
pub fn is_over(row: &Row, retain: Duration, now: Moment) -> bool {
    let known = &row.known;
    let open = matches!(known.phase, Phase::Sending);
    let gone = || (!known.phase.is_visible()).then_some(row.identity.created);
    let ended = known.ended.or_else(gone);
    let long_ago = ended.is_some_and(|ended| ended.after(retain).is_past(now));
    let last = known
        .ended
        .or(known.resolved)
        .unwrap_or(row.identity.created);
    let expected = known.may_arrive && !last.after(WATCHED_FOR).is_past(now);
    let answers = row.key_until.is_some() && holds_key(row, now);
    !open && long_ago && !expected && !answers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Known;
    use crate::registry::entry::tests::{identity, known};

    const RETAIN: Duration = Duration::from_secs(60);
    const HOUR_MS: i64 = 3_600_000;

    fn at(ms: i64) -> Moment {
        Moment {
            wall_ms: ms,
            up_ms: ms,
        }
    }

    fn row(setup: impl FnOnce(&mut Known)) -> Row {
        let mut row = Row {
            identity: identity(None),
            known: known("3"),
            version: 1,
            key_until: None,
        };
        row.known.ended = Some(at(1000));
        setup(&mut row.known);
        row
    }

    #[test]
    fn what_may_still_arrive_is_not_forgotten() {
        let over = |row: &Row, ms| is_over(row, RETAIN, at(ms));
        let ended = row(|_| {});
        assert!(!over(&ended, 61_000) && over(&ended, 61_001));
        let lost = row(|known| known.may_arrive = true);
        assert!(!over(&lost, 61_001) && !over(&lost, HOUR_MS) && over(&lost, HOUR_MS + 1001));
        let refused = row(|known| {
            (known.phase, known.ended, known.may_arrive) = (Phase::Refused, None, true);
            known.resolved = Some(at(HOUR_MS));
        });
        assert!(
            !over(&refused, HOUR_MS + 61_001) && over(&refused, 2 * HOUR_MS + 1),
            "it was open for long"
        );
        let open = row(|known| known.phase = Phase::Sending);
        assert!(!over(&open, HOUR_MS));
        let jumped = Moment {
            wall_ms: 40 * 24 * HOUR_MS,
            up_ms: 61_000,
        };
        assert!(!is_over(&ended, RETAIN, jumped), "by both clocks");
    }

    #[test]
    fn a_key_is_remembered_for_its_own_time() {
        let mut keyed = row(|_| {});
        keyed.key_until = Some(at(HOUR_MS));
        assert!(!is_over(&keyed, RETAIN, at(HOUR_MS)));
        assert!(is_over(&keyed, RETAIN, at(HOUR_MS + 1)));
    }
}
