//! What becomes of a line of an import: decided over what the registry has already.

use std::collections::HashMap;

use super::record::Record;
use crate::registry::decide::forward;

/// What the registry has of the batches of some lines.
#[derive(Debug, Default)]
pub(super) struct There {
    pub(super) by_id: HashMap<i32, Record>,
    /// Which batch has an upstream id of a cluster.
    pub(super) holders: HashMap<(String, String), i32>,
    /// Which batch has a key of a user.
    pub(super) keys: HashMap<(String, String), i32>,
}

impl There {
    /// Notes that a batch will be there, for the lines that follow.
    pub(super) fn put(&mut self, record: &Record) {
        if let Some(before) = self.by_id.insert(record.id(), record.clone()) {
            before.place().map(|place| self.holders.remove(&place));
            before.claim().map(|claim| self.keys.remove(&claim));
        }
        if let Some(place) = record.place() {
            self.holders.insert(place, record.id());
        }
        if let Some(claim) = record.claim() {
            self.keys.insert(claim, record.id());
        }
    }
}

/// The decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Bring {
    /// The registry does not have it.
    New,
    /// The registry has it, and knows less of it.
    Newer,
    /// The registry has it, just so.
    Same,
    /// The registry has it, and knows more of it, or as much as a line by hand tells.
    Older,
    /// It can't be true of both.
    Conflict(String),
}

/// Decides. `by_hand`: the line says nothing of what it leaves out.
pub(super) fn bring(there: &There, record: &Record, by_hand: bool) -> Bring {
    let id = record.id();
    let decision = match there.by_id.get(&id) {
        None => Bring::New,
        Some(stored) if by_hand => by_hand_again(stored, record),
        Some(stored) => again(stored, record),
    };
    if !matches!(decision, Bring::New | Bring::Newer) {
        return decision;
    }
    if let Some(place) = record.place()
        && let Some(holder) = there.holders.get(&place).filter(|holder| **holder != id)
    {
        let (cluster, upstream_id) = place;
        return Bring::Conflict(format!(
            "upstream id {upstream_id:?} of cluster {cluster:?} is batch {holder} already"
        ));
    }
    if let Some(claim) = record.claim()
        && let Some(holder) = there.keys.get(&claim).filter(|holder| **holder != id)
    {
        return Bring::Conflict(format!(
            "the Idempotency-Key {:?} of {:?} stands for batch {holder} already",
            claim.1, claim.0
        ));
    }
    decision
}

fn another(stored: &Record, record: &Record) -> Bring {
    let (stored, record) = (&stored.row, &record.row);
    let name = |of: &crate::registry::row::Row| {
        let upstream_id = of.known.phase.upstream_id().unwrap_or("none");
        format!("{:?}, upstream id {upstream_id}", of.identity.cluster)
    };
    Bring::Conflict(format!(
        "the registry has another batch of this id (cluster {}; in the file {})",
        name(stored),
        name(record)
    ))
}

fn by_hand_again(stored: &Record, record: &Record) -> Bring {
    let (ours, theirs) = (&stored.row, &record.row);
    let differ = |ours: Option<&str>, theirs: Option<&str>| {
        ours.zip(theirs)
            .is_some_and(|(ours, theirs)| ours != theirs)
    };
    let is_another = ours.identity.cluster != theirs.identity.cluster
        || differ(
            ours.known.phase.upstream_id(),
            theirs.known.phase.upstream_id(),
        )
        || differ(
            ours.identity.owner.as_deref(),
            theirs.identity.owner.as_deref(),
        )
        || differ(
            ours.identity.name.as_deref(),
            theirs.identity.name.as_deref(),
        );
    match is_another {
        true => another(stored, record),
        false => Bring::Older,
    }
}

fn again(stored: &Record, record: &Record) -> Bring {
    let (ours, theirs) = (&stored.row, &record.row);
    if ours.identity != theirs.identity {
        return another(stored, record);
    }
    if theirs.version < ours.version {
        return Bring::Older;
    }
    // A key that was let go of in between is of no consequence.
    if ours.known == theirs.known {
        return match theirs.version > ours.version {
            true => Bring::Newer,
            false => Bring::Same,
        };
    }
    if theirs.version == ours.version {
        return Bring::Conflict(format!(
            "the registry has version {} of it too, and says something else: a line that is to replace it needs a higher `version`",
            ours.version
        ));
    }
    match forward(&ours.known, &theirs.known) == theirs.known {
        true => Bring::Newer,
        false => Bring::Conflict(format!(
            "the registry knows an end, or a later phase, that the line does not: {} and {}; in the file {} and {}",
            ours.known.phase.as_str(),
            ours.known.state.as_str(),
            theirs.known.phase.as_str(),
            theirs.known.state.as_str()
        )),
    }
}

#[cfg(test)]
mod tests {
    use livy_dialect::BatchState;

    use super::*;
    use crate::clock::Moment;
    use crate::registry::entry::tests::{identity, known};
    use crate::registry::row::{GatewayId, Row};

    fn record(id: i32, upstream_id: &str) -> Record {
        let mut identity = identity(Some("n"));
        identity.id = GatewayId(id);
        let row = Row {
            identity,
            known: known(upstream_id),
            version: 3,
            key_until: None,
        };
        Record { row, key: None }
    }

    fn there(records: &[Record]) -> There {
        let mut there = There::default();
        records.iter().for_each(|record| there.put(record));
        there
    }

    fn told(decision: &Bring) -> &str {
        match decision {
            Bring::Conflict(why) => why,
            other => panic!("no conflict: {other:?}"),
        }
    }

    #[test]
    fn the_same_file_twice_changes_nothing() {
        let one = record(7, "3");
        assert_eq!(bring(&There::default(), &one, false), Bring::New);
        let there = there(std::slice::from_ref(&one));
        assert_eq!(bring(&there, &one, false), Bring::Same);
        assert_eq!(bring(&there, &one, true), Bring::Older);
    }

    #[test]
    fn what_knows_more_stands() {
        let older = record(7, "3");
        let mut newer = older.clone();
        newer.row.version = 4;
        newer.row.known.state = BatchState::Success;
        newer.row.known.ended = Some(Moment::default());
        assert_eq!(
            bring(&there(std::slice::from_ref(&older)), &newer, false),
            Bring::Newer
        );
        assert_eq!(bring(&there(&[newer.clone()]), &older, false), Bring::Older);
        // Two registries that went on by themselves: an end is not taken back.
        let mut went_on = older;
        went_on.row.version = 9;
        let decision = bring(&there(&[newer.clone()]), &went_on, false);
        assert!(told(&decision).contains("an end"), "{decision:?}");
        let mut edited = newer.clone();
        edited.row.known.state = BatchState::Dead;
        let decision = bring(&there(&[newer]), &edited, false);
        assert!(told(&decision).contains("version 4"), "{decision:?}");
    }

    #[test]
    fn what_is_another_batch_is_told() {
        let here = there(&[record(7, "3")]);
        let mut other = record(7, "3");
        other.row.identity.cluster = "elsewhere".into();
        let decision = bring(&here, &other, false);
        assert!(told(&decision).contains("another batch"), "{decision:?}");
        assert_eq!(bring(&here, &other, true), decision);
        let decision = bring(&here, &record(8, "3"), false);
        assert!(
            told(&decision).contains("is batch 7 already"),
            "{decision:?}"
        );
        let with_key = |id, upstream_id: &str| Record {
            key: Some("k".into()),
            ..record(id, upstream_id)
        };
        let decision = bring(&there(&[with_key(7, "3")]), &with_key(8, "4"), false);
        assert!(
            told(&decision).contains("stands for batch 7"),
            "{decision:?}"
        );
    }

    #[test]
    fn what_an_earlier_line_took_is_taken() {
        let mut there = there(&[record(7, "3")]);
        let mut moved = record(7, "9");
        moved.row.version = 4;
        there.put(&moved);
        assert_eq!(bring(&there, &record(8, "3"), false), Bring::New);
        let decision = bring(&there, &record(8, "9"), false);
        assert!(
            told(&decision).contains("is batch 7 already"),
            "{decision:?}"
        );
    }
}
