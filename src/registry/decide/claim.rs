//! Whether a submission may begin, or is one that is here already.

use crate::clock::Moment;
use crate::registry::row::{Phase, Row};
use crate::registry::store::NewRow;

/// The decision.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// It may begin. The row that still holds its key, if there is one, must let go of it.
    Free,
    /// It is this one, sent again.
    Same(Box<Row>),
    /// The key stands for another submission.
    Conflict,
    /// A live batch has the name: this one, or one that its cluster alone knows.
    NameTaken(Option<Box<Row>>),
}

/// Decides. `by_key` is the row that holds the key, `by_name` one that holds the name; `replaces`
/// is the earlier attempt of this very submission.
pub fn claim(new: &NewRow, by_key: Option<&Row>, by_name: Option<&Row>, now: Moment) -> Claim {
    let ours = |row: &&Row| Some(row.identity.id) != new.replaces.map(|replaced| replaced.id);
    if let Some(row) = by_key.filter(ours).filter(|row| holds_key(row, now)) {
        let same = row.identity.body_hash.as_deref() == Some(new.body_hash.as_str());
        return if same {
            Claim::Same(Box::new(row.clone()))
        } else {
            Claim::Conflict
        };
    }
    match by_name.filter(ours).filter(|row| holds_name(row, now)) {
        None if new.name_in_use => Claim::NameTaken(None),
        None => Claim::Free,
        // Nobody was ever given its id, so this is its client, who heard nothing and asks again.
        Some(row)
            if !row.known.told
                && row.identity.owner == new.owner
                && row.identity.body_hash.as_deref() == Some(new.body_hash.as_str()) =>
        {
            Claim::Same(Box::new(row.clone()))
        }
        Some(row) => Claim::NameTaken(Some(Box::new(row.clone()))),
    }
}

/// Tells whether whoever sends its key again is answered with it.
pub(super) fn holds_key(row: &Row, now: Moment) -> bool {
    let open = row.known.phase == Phase::Sending;
    !row.known.frees_key() && (open || !key_until(row).is_some_and(|until| until.is_past(now)))
}

/// Returns until when its key is remembered. That counts from the moment at which its client could
/// be told what came of the submission: until then it can only send it again.
fn key_until(row: &Row) -> Option<Moment> {
    let from = row.identity.created;
    let resolved = row.known.resolved.unwrap_or(from);
    let later = |until: Moment| Moment {
        wall_ms: until
            .wall_ms
            .saturating_add((resolved.wall_ms - from.wall_ms).max(0)),
        up_ms: until
            .up_ms
            .saturating_add((resolved.up_ms - from.up_ms).max(0)),
    };
    row.key_until.map(later)
}

fn holds_name(row: &Row, now: Moment) -> bool {
    let live = matches!(row.known.phase, Phase::Sending | Phase::Bound { .. });
    let hold =
        std::time::Duration::from_millis(u64::try_from(row.identity.name_hold_ms).unwrap_or(0));
    live && row
        .known
        .ended
        .is_none_or(|ended| !hold.is_zero() && !ended.after(hold).is_past(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Known;
    use crate::registry::entry::tests::{identity, known};

    fn row(setup: impl FnOnce(&mut Row)) -> Row {
        let mut row = Row {
            identity: identity(Some("n")),
            known: known("3"),
            version: 1,
            key_until: None,
        };
        row.identity.body_hash = Some("h".into());
        row.known.told = true;
        setup(&mut row);
        row
    }

    fn new() -> NewRow {
        NewRow {
            cluster: "c".into(),
            route: "r".into(),
            lookup: identity(Some("n")).lookup,
            owner: Some("ann".into()),
            name: Some("n".into()),
            name_hold_ms: 0,
            body_hash: "h".into(),
            key: None,
            above: None,
            proxy_user: None,
            name_in_use: false,
            replaces: None,
            seen: 0,
        }
    }

    #[test]
    fn keys_and_names() {
        let now = Moment {
            wall_ms: 1000,
            up_ms: 1000,
        };
        let held = row(|_| {});
        assert!(matches!(
            claim(&new(), Some(&held), None, now),
            Claim::Same(_)
        ));
        let other = row(|row| row.identity.body_hash = Some("x".into()));
        assert_eq!(claim(&new(), Some(&other), None, now), Claim::Conflict);
        let refused = row(|row| row.known.phase = Phase::Refused);
        assert_eq!(claim(&new(), Some(&refused), None, now), Claim::Free);
        let jumped = row(|row| {
            row.key_until = Some(Moment {
                wall_ms: 10,
                up_ms: 5000,
            })
        });
        assert!(
            matches!(claim(&new(), Some(&jumped), None, now), Claim::Same(_)),
            "the wall clock alone forgets no key"
        );
        let past = |setup: fn(&mut Known)| {
            let row = row(|row| {
                let at = |ms| Moment {
                    wall_ms: ms,
                    up_ms: ms,
                };
                (row.identity.created, row.key_until) = (at(100), Some(at(200)));
                setup(&mut row.known);
            });
            claim(&new(), Some(&row), None, now)
        };
        assert_eq!(past(|_| {}), Claim::Free, "its time is over");
        assert!(
            matches!(past(|known| known.phase = Phase::Sending), Claim::Same(_)),
            "nobody knows yet what came of it"
        );
        let resolved = |known: &mut Known| {
            let at = |ms| Moment {
                wall_ms: ms,
                up_ms: ms,
            };
            known.resolved = Some(at(950));
        };
        assert!(
            matches!(past(resolved), Claim::Same(_)),
            "its time has just begun"
        );
        let killed = row(|row| (row.known.absent, row.known.kill_asked) = (true, true));
        assert!(
            matches!(claim(&new(), Some(&killed), None, now), Claim::Same(_)),
            "whoever sends again what was to end hears of its end"
        );
        assert!(matches!(
            claim(&new(), None, Some(&held), now),
            Claim::NameTaken(_)
        ));
        let untold = row(|row| row.known.told = false);
        assert!(
            matches!(claim(&new(), None, Some(&untold), now), Claim::Same(_)),
            "its client heard nothing and asks again"
        );
        let in_use = NewRow {
            name_in_use: true,
            ..new()
        };
        assert_eq!(
            claim(&in_use, None, None, now),
            Claim::NameTaken(None),
            "somebody created it directly on the cluster"
        );
        assert!(
            matches!(claim(&in_use, None, Some(&untold), now), Claim::Same(_)),
            "what is in use is its own"
        );
        let bobs = row(|row| (row.known.told, row.identity.owner) = (false, Some("bob".into())));
        assert!(matches!(
            claim(&new(), None, Some(&bobs), now),
            Claim::NameTaken(_)
        ));
    }
}
