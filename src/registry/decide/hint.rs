//! What a list that gives no names back tells of a submission whose answer was lost.

use livy_dialect::Observed;

use super::before::Before;
use super::same::{Same, same};
use crate::registry::row::Row;

/// What a row of such a list can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// It was there before, or is somebody else's.
    No,
    /// It may be the submission, or the batch of somebody who had its id before.
    Perhaps,
    /// It is new, and nobody's so far.
    Likely,
}

/// Judges a row of a list that showed those of `before` when the submission was not sent yet. `had`
/// are the entries of others that have, or ever had, its id: what was once somebody's is nobody
/// else's. Where the service counts anew the id alone says nothing of them.
pub fn hint(before: &Before, seen: &Observed, counts_anew: bool, had: &[Row]) -> Hint {
    let counts = seen.upstream_id.parse::<i64>().is_ok();
    let is_new = counts && (counts_anew || !before.had(&seen.upstream_id));
    let theirs = had
        .iter()
        .filter(|row| !counts_anew || row.known.app_id.is_some())
        .map(|row| same(&row.identity, &row.known, seen))
        .fold(Same::No, |all, one| match (all, one) {
            (Same::Yes, _) | (_, Same::Yes) => Same::Yes,
            (Same::CannotTell, _) | (_, Same::CannotTell) => Same::CannotTell,
            _ => Same::No,
        });
    match theirs {
        _ if !is_new => Hint::No,
        Same::Yes => Hint::No,
        Same::CannotTell => Hint::Perhaps,
        Same::No => Hint::Likely,
    }
}

#[cfg(test)]
mod tests {
    use livy_dialect::BatchState;

    use super::super::before::counts_anew;
    use super::*;
    use crate::registry::entry::tests::{identity, known, seen};
    use crate::registry::row::Phase;

    fn listed(id: &str, app: Option<&str>) -> Observed {
        let mut seen = seen(id, None, BatchState::Running);
        (seen.name_shown, seen.app_id) = (false, app.map(str::to_owned));
        seen
    }

    fn up_to(above: i64) -> Before {
        Before {
            above: Some(above),
            ..Before::default()
        }
    }

    fn had(phase: Phase, app: Option<&str>) -> Row {
        let mut row = Row {
            identity: identity(None),
            known: known("3"),
            version: 1,
            key_until: None,
        };
        row.identity.lookup.sent_name = None;
        (row.known.phase, row.known.echoed) = (phase, false);
        row.known.app_id = app.map(str::to_owned);
        row
    }

    #[test]
    fn what_was_once_somebodys_is_nobody_elses() {
        let new = listed("3", Some("a"));
        assert_eq!(hint(&up_to(2), &new, false, &[]), Hint::Likely);
        assert_eq!(
            hint(&up_to(3), &new, false, &[]),
            Hint::No,
            "it was there before"
        );
        let whole = Before {
            ids: Some(["5".to_owned()].into()),
            ..up_to(5)
        };
        assert_eq!(
            hint(&whole, &new, false, &[]),
            Hint::Likely,
            "a list without it went higher"
        );
        let gone = Phase::Deleted {
            upstream_id: Some("3".into()),
        };
        assert_eq!(
            hint(&up_to(2), &new, false, &[had(gone.clone(), Some("a"))]),
            Hint::No
        );
        assert_eq!(
            hint(&up_to(2), &new, false, &[had(gone.clone(), Some("b"))]),
            Hint::Likely,
            "another application under the same number"
        );
        let young = listed("3", None);
        assert_eq!(
            hint(&up_to(2), &young, false, &[had(gone, Some("a"))]),
            Hint::Perhaps
        );
    }

    #[test]
    fn a_list_shows_that_its_service_counts_anew() {
        let list = [listed("1", None)];
        assert!(counts_anew(3, &list) && !counts_anew(1, &list));
        assert!(!counts_anew(-1, &[]) && !counts_anew(3, &[]));
        assert_eq!(hint(&up_to(3), &list[0], true, &[]), Hint::Likely);
        let bound = Phase::Bound {
            upstream_id: "1".into(),
        };
        let before = had(bound.clone(), None);
        assert_eq!(hint(&up_to(3), &list[0], true, &[before]), Hint::Likely);
        let still_there = had(bound, Some("a"));
        let shown = listed("1", Some("a"));
        assert_eq!(hint(&up_to(3), &shown, true, &[still_there]), Hint::No);
    }
}
