//! What a row of a cluster's list means.

use std::collections::HashMap;
use std::time::Duration;

use livy_dialect::{BatchState, Observed, StateReading};

use super::same::{Same, same};
use crate::clock::Moment;
use crate::registry::row::{Phase, Row};

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopt {
    /// It is the batch of this entry: note what the list says.
    Known,
    /// Somebody is on it already, or nothing tells whose it is.
    Leave,
    /// It is what a submission became after it was given up: `usize` is its place among the
    /// candidates.
    Late(usize),
    /// It is what an entry stands for that lost its id on another's word, and is to have it back:
    /// `usize` is its place among the candidates.
    Again(usize),
    /// The live entry that has its id would have lost it. One list is no proof: it is asked for by
    /// itself, and lost when its cluster goes on saying so.
    Contradicts,
    /// It was created outside the gateway. The ended entry that had its id, if any, has lost it.
    New,
}

/// What else is known when a row of a list is judged.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// A submission is under way that no name would tell.
    pub unnamed_on_its_way: bool,
    /// A live batch of another cluster has the row's name: both may be one server.
    pub lives_elsewhere: bool,
    /// When the list was asked for.
    pub asked: Moment,
}

/// Tells whether it matters for a page of candidates if a live batch of another cluster has the
/// row's name.
pub fn matters_elsewhere(candidates: &[Row]) -> bool {
    let by_name = |row: &Row| row.known.may_arrive && !row.identity.lookup.is_certain();
    candidates.iter().any(by_name)
}

/// What clients are shown of a batch that was created outside the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Face<'a> {
    /// Whose it is.
    pub owner: Option<&'a str>,
    /// Its name.
    pub name: Option<&'a str>,
}

/// Returns what clients are shown of a batch that was created outside the gateway. A made-up name
/// is the mark of a gateway, not something that a client chose: it is shown to nobody.
pub fn face(seen: &Observed) -> Face<'_> {
    let chosen = |name: &&str| !name.starts_with(livy_dialect::livy::NAME_PREFIX);
    Face {
        owner: seen.proxy_user.as_deref().or(seen.owner.as_deref()),
        name: seen.name.as_deref().filter(chosen),
    }
}

/// Leaves out what one list shows as two batches under one number: nothing tells which is right. A
/// batch that moved from page to page while they were read is shown twice, and is the same.
pub fn readable(seen: Vec<Observed>) -> Vec<Observed> {
    let mut by_id: HashMap<String, Option<usize>> = HashMap::new();
    for (at, one) in seen.iter().enumerate() {
        let place = by_id.entry(one.upstream_id.clone()).or_insert(Some(at));
        if place.is_some_and(|first| !may_be_one(&seen[first], one)) {
            *place = None;
        } else if place.is_some() {
            *place = Some(at);
        }
    }
    let keep = |(at, one): (usize, Observed)| {
        (by_id.get(&one.upstream_id) == Some(&Some(at))).then_some(one)
    };
    seen.into_iter().enumerate().filter_map(keep).collect()
}

fn may_be_one(one: &Observed, other: &Observed) -> bool {
    let differ = |one: &Option<String>, other: &Option<String>| matches!((one, other), (Some(one), Some(other)) if one != other);
    one.upstream_id.parse::<u64>().is_err()
        || (one.name == other.name
            && one.proxy_user == other.proxy_user
            && !differ(&one.app_id, &other.app_id))
}

/// Decides. `holder` is the entry that has the upstream id; `candidates` are all entries of the
/// cluster that went, or may have gone, under its key or name.
pub fn adopt(
    seen: &Observed,
    holder: Option<&Row>,
    candidates: &[Row],
    around: Circumstances,
) -> Adopt {
    match holder.map(|row| same(&row.identity, &row.known, seen)) {
        Some(Same::Yes) => return Adopt::Known,
        Some(Same::CannotTell) => return Adopt::Leave,
        Some(Same::No) | None => {}
    }
    for (at, row) in candidates.iter().enumerate() {
        match relation(row, seen, around) {
            Relation::OnItsWay => return Adopt::Leave,
            Relation::Late => return Adopt::Late(at),
            Relation::Again => return Adopt::Again(at),
            Relation::Over => return Adopt::Leave,
            Relation::None => {}
        }
    }
    if holder.is_none()
        && around.unnamed_on_its_way
        && !seen.name_shown
        && seen.upstream_id.parse::<u64>().is_ok()
    {
        return Adopt::Leave;
    }
    match holder {
        Some(row) if !row.known.state.is_terminal() => Adopt::Contradicts,
        // It was bound, or ended, while the list was on its way.
        Some(row) if ended_since(row, around.asked) => Adopt::Leave,
        Some(_) | None => Adopt::New,
    }
}

fn ended_since(row: &Row, asked: Moment) -> bool {
    row.known
        .ended
        .is_some_and(|ended| ended.up_ms >= asked.up_ms)
}

enum Relation {
    None,
    /// Whoever sent it will bind it.
    OnItsWay,
    /// It was given up, and here it is.
    Late,
    /// It lost its id on another's word, and here it is.
    Again,
    /// It was given up or deleted, and has ended.
    Over,
}

fn relation(row: &Row, seen: &Observed, around: Circumstances) -> Relation {
    let asked = around.asked;
    // It ended, or was deleted, while the list was on its way.
    let was_here = row.known.phase.upstream_id() == Some(seen.upstream_id.as_str());
    if was_here && ended_since(row, asked) {
        return Relation::Over;
    }
    let by_id = row.identity.lookup.key == seen.upstream_id && !row.identity.adopted;
    let by_name =
        row.identity.lookup.sent_name.is_some() && row.identity.lookup.sent_name == seen.name;
    let certain = by_id || (by_name && row.identity.lookup.is_made_up());
    let ended = matches!(seen.state, StateReading::Known(state) if state.is_terminal());
    if !certain && is_itself(row, seen, asked) {
        return if ended {
            Relation::Over
        } else {
            Relation::Late
        };
    }
    if !certain && !by_name {
        return over_under_its_id(row, seen);
    }
    match &row.known.phase {
        Phase::Sending => Relation::OnItsWay,
        // Another of the same name: only one can be, and this entry's is elsewhere.
        Phase::Bound { .. } if certain && !row.known.state.is_terminal() => Relation::OnItsWay,
        Phase::Bound { .. } if certain => Relation::Over,
        Phase::Bound { .. } => Relation::None,
        Phase::Refused | Phase::Detached { .. } | Phase::Deleted { .. } if certain && ended => {
            Relation::Over
        }
        // What ended well is not killed because its cluster, recovering, shows it as alive for a
        // while.
        Phase::Detached { .. } if certain && !gave_up(row) => Relation::Over,
        // Its client was not told that it never was; and its cluster never said that it is gone.
        Phase::Detached {
            upstream_id: Some(_),
        } if certain && !row.known.may_arrive => Relation::Again,
        Phase::Refused | Phase::Detached { .. } | Phase::Deleted { .. } if certain => {
            Relation::Late
        }
        Phase::Refused | Phase::Detached { .. } | Phase::Deleted { .. } => {
            arrived_by_name(row, seen, ended, around)
        }
    }
}

/// Tells whether the gateway ended it by itself; an `error` may be its cluster's own word.
fn gave_up(row: &Row) -> bool {
    let itself =
        row.known.phase.upstream_id().is_none() || row.known.app_info.contains_key("gatewayReason");
    row.known.state == BatchState::Error && itself
}

/// Tells whether this is a batch that its client was told to be deleted or lost, without its
/// cluster's word: the same id and name, and the same application; or, while that is not known, the
/// same user, for a short while.
fn is_itself(row: &Row, seen: &Observed, asked: Moment) -> bool {
    let told_gone = match row.known.phase {
        Phase::Deleted { .. } => true,
        // Nobody submitted it here, and so nobody submits it again.
        Phase::Detached { .. } => gave_up(row) && !row.identity.adopted,
        Phase::Sending | Phase::Bound { .. } | Phase::Refused => false,
    };
    let was_here = row.known.phase.upstream_id() == Some(seen.upstream_id.as_str());
    let sent_name = &row.identity.lookup.sent_name;
    let name = sent_name.is_none() || *sent_name == seen.name;
    let proven = match (&row.known.app_id, &seen.app_id) {
        (Some(ours), theirs) => theirs.as_ref() == Some(ours),
        (None, _) => {
            let user = &row.known.proxy_user;
            user.is_some()
                && *user == seen.proxy_user
                && row.known.ended.is_some_and(|ended| is_lately(ended, asked))
        }
    };
    told_gone && row.known.may_arrive && was_here && name && proven
}

/// Tells whether a job that a cluster shows is what a submission became after it was given up, or a
/// batch that its client was told to be gone.
pub fn is_late(row: &Row, seen: &Observed, asked: Moment) -> bool {
    let around = Circumstances {
        unnamed_on_its_way: false,
        lives_elsewhere: false,
        asked,
    };
    matches!(relation(row, seen, around), Relation::Late)
}

/// For how long a job under a client's own name may be taken for a submission of that name that was
/// given up.
pub const BY_NAME_FOR: Duration = Duration::from_secs(900);

/// Tells whether a job under a client's own name may still be taken for a submission of a moment.
/// By both clocks: uptime stands still while no gateway runs, and somebody else may do the same job
/// meanwhile.
pub fn is_lately(moment: Moment, asked: Moment) -> bool {
    let until = moment.after(BY_NAME_FOR);
    until.up_ms >= asked.up_ms && until.wall_ms >= asked.wall_ms
}

/// A client's own name may be anybody's. It is this submission only if the cluster was still to
/// give out this id when it was sent, if it was given up a short while ago without the cluster's
/// word, if the users agree, and if no other live batch has the name.
fn arrived_by_name(row: &Row, seen: &Observed, ended: bool, around: Circumstances) -> Relation {
    let id = seen.upstream_id.parse::<i64>().ok();
    let after = matches!((id, row.identity.above), (Some(id), Some(above)) if id > above);
    // What says nothing of its user may be anybody's, and is not killed.
    let users = row.known.proxy_user.is_some() && row.known.proxy_user != seen.proxy_user;
    // One that was bound was that batch, and no other that comes later.
    let never_was = row.known.phase.upstream_id().is_none() && row.known.app_id.is_none();
    let lately = is_lately(row.identity.created, around.asked);
    let tied = never_was && after && !users && lately && !around.lives_elsewhere;
    match row.known.may_arrive && tied {
        true if ended => Relation::Over,
        true => Relation::Late,
        false => over_under_its_id(row, seen),
    }
}

/// Kyuubi goes on listing what was deleted, and Livy a ghost under its refused name; such a row
/// must not come back under a new id.
fn over_under_its_id(row: &Row, seen: &Observed) -> Relation {
    let ended = matches!(seen.state, StateReading::Known(state) if state.is_terminal());
    let was_here = row.known.phase.upstream_id() == Some(seen.upstream_id.as_str());
    let gone = matches!(
        row.known.phase,
        Phase::Deleted { .. } | Phase::Detached { .. }
    );
    if was_here
        && gone
        && ended
        && (row.identity.adopted || same(&row.identity, &row.known, seen) == Same::Yes)
    {
        return Relation::Over;
    }
    let ghost = seen.log.is_empty() && seen.app_id.is_none() && seen.name_shown;
    let refused_name = row.known.phase == Phase::Refused
        && row.identity.lookup.sent_name.is_some()
        && row.identity.lookup.sent_name == seen.name;
    if refused_name && ghost {
        Relation::Over
    } else {
        Relation::None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::entry::tests::{identity, known, seen};

    const LATER: Moment = Moment {
        wall_ms: 1000,
        up_ms: 1000,
    };

    const ALONE: Circumstances = Circumstances {
        unnamed_on_its_way: false,
        lives_elsewhere: false,
        asked: LATER,
    };

    const UNNAMED: Circumstances = Circumstances {
        unnamed_on_its_way: true,
        ..ALONE
    };

    fn row(name: Option<&str>, phase: Phase, state: BatchState) -> Row {
        let mut row = Row {
            identity: identity(name),
            known: known("3"),
            version: 1,
            key_until: None,
        };
        (row.known.phase, row.known.state) = (phase, state);
        row.identity.above = Some(10);
        row
    }

    fn ours(row: &Row, id: &str, state: BatchState) -> Observed {
        seen(id, row.identity.lookup.sent_name.as_deref(), state)
    }

    #[test]
    fn what_was_given_up_is_never_a_new_batch() {
        let lost = Phase::Detached { upstream_id: None };
        let unnamed = row(None, lost.clone(), BatchState::Error);
        let found = ours(&unnamed, "12", BatchState::Running);
        assert_eq!(
            adopt(&found, None, std::slice::from_ref(&unnamed), ALONE),
            Adopt::Late(0)
        );
        let over = ours(&unnamed, "12", BatchState::Success);
        assert_eq!(
            adopt(&over, None, std::slice::from_ref(&unnamed), ALONE),
            Adopt::Leave
        );
        let mut named = row(Some("nightly"), lost, BatchState::Error);
        let found = seen("12", Some("nightly"), BatchState::Running);
        assert_eq!(
            adopt(&found, None, std::slice::from_ref(&named), ALONE),
            Adopt::New,
            "anybody may use a client's name"
        );
        named.known.may_arrive = true;
        assert_eq!(
            adopt(&found, None, std::slice::from_ref(&named), ALONE),
            Adopt::Late(0)
        );
        let elsewhere = Circumstances {
            lives_elsewhere: true,
            ..ALONE
        };
        assert_eq!(
            adopt(&found, None, std::slice::from_ref(&named), elsewhere),
            Adopt::New,
            "one server may stand behind two clusters"
        );
        let mut had_run = named.clone();
        had_run.known.app_id = Some("application_1".into());
        let rows = std::slice::from_ref(&had_run);
        assert_eq!(
            adopt(&found, None, rows, ALONE),
            Adopt::New,
            "another of its name"
        );
        had_run.known.app_id = None;
        had_run.known.phase = Phase::Detached {
            upstream_id: Some("11".into()),
        };
        let rows = std::slice::from_ref(&had_run);
        assert_eq!(
            adopt(&found, None, rows, ALONE),
            Adopt::New,
            "it was another number"
        );
        let older = seen("9", Some("nightly"), BatchState::Running);
        assert_eq!(
            adopt(&older, None, std::slice::from_ref(&named), ALONE),
            Adopt::New,
            "it was there before"
        );
    }

    #[test]
    fn what_is_on_its_way_is_left_to_its_sender() {
        let sending = row(None, Phase::Sending, BatchState::Starting);
        assert_eq!(
            adopt(
                &ours(&sending, "12", BatchState::Running),
                None,
                std::slice::from_ref(&sending),
                ALONE
            ),
            Adopt::Leave
        );
        let mut ibm = seen("12", None, BatchState::Running);
        ibm.name_shown = false;
        assert_eq!(adopt(&ibm, None, &[], UNNAMED), Adopt::Leave);
        assert_eq!(adopt(&ibm, None, &[], ALONE), Adopt::New);
        assert_eq!(
            adopt(
                &seen("12", Some("foreign"), BatchState::Running),
                None,
                &[],
                UNNAMED
            ),
            Adopt::New
        );
    }

    #[test]
    fn what_was_deleted_while_the_list_was_on_its_way_is_not_new() {
        let mut deleted = row(
            Some("n"),
            Phase::Deleted {
                upstream_id: Some("3".into()),
            },
            BatchState::Killed,
        );
        deleted.identity.adopted = true;
        deleted.known.ended = Some(Moment {
            wall_ms: 2000,
            up_ms: 2000,
        });
        let seen = seen("3", Some("n"), BatchState::Running);
        assert_eq!(
            adopt(&seen, None, std::slice::from_ref(&deleted), ALONE),
            Adopt::Leave
        );
        deleted.known.ended = Some(Moment {
            wall_ms: 900,
            up_ms: 900,
        });
        assert_eq!(
            adopt(&seen, None, std::slice::from_ref(&deleted), ALONE),
            Adopt::New,
            "the cluster counts anew"
        );
    }

    #[test]
    fn one_list_takes_no_id_from_what_is_live() {
        let mut held = row(
            None,
            Phase::Bound {
                upstream_id: "3".into(),
            },
            BatchState::Running,
        );
        assert_eq!(
            adopt(
                &ours(&held, "3", BatchState::Running),
                Some(&held),
                &[],
                ALONE
            ),
            Adopt::Known
        );
        assert_eq!(
            adopt(
                &seen("3", None, BatchState::Running),
                Some(&held),
                &[],
                ALONE
            ),
            Adopt::Contradicts
        );
        held.known.state = BatchState::Success;
        for (ended_ms, wanted) in [(900, Adopt::New), (1000, Adopt::Leave)] {
            held.known.ended = Some(Moment {
                wall_ms: ended_ms,
                up_ms: ended_ms,
            });
            let stranger = seen("3", None, BatchState::Running);
            assert_eq!(adopt(&stranger, Some(&held), &[], ALONE), wanted);
        }
    }

    #[test]
    fn what_lost_its_id_on_anothers_word_gets_it_back() {
        let lost = Phase::Detached {
            upstream_id: Some("3".into()),
        };
        let mut taken = row(None, lost, BatchState::Error);
        let reason = ("gatewayReason".to_owned(), Some("why".to_owned()));
        taken.known.app_info.extend([reason]);
        let shown = ours(&taken, "3", BatchState::Running);
        let decide = |row: &Row| adopt(&shown, None, std::slice::from_ref(row), ALONE);
        assert_eq!(decide(&taken), Adopt::Again(0));
        taken.known.may_arrive = true;
        assert_eq!(
            decide(&taken),
            Adopt::Late(0),
            "its cluster said that it is gone, and its client was told so"
        );
    }

    #[test]
    fn what_its_client_was_told_to_be_gone_is_late() {
        let found = |setup: fn(&mut Row, &mut Observed)| {
            let deleted = Phase::Deleted {
                upstream_id: Some("3".into()),
            };
            let mut row = row(Some("nightly"), deleted, BatchState::Killed);
            let mut seen = seen("3", Some("nightly"), BatchState::Running);
            row.known.may_arrive = true;
            row.known.app_id = Some("application_1".into());
            row.known.ended = Some(Moment {
                wall_ms: 900,
                up_ms: 900,
            });
            seen.app_id = row.known.app_id.clone();
            setup(&mut row, &mut seen);
            adopt(&seen, None, std::slice::from_ref(&row), ALONE)
        };
        assert_eq!(found(|_, _| {}), Adopt::Late(0));
        assert_eq!(
            found(|row, _| row.known.may_arrive = false),
            Adopt::New,
            "its cluster said that it is dead: this is another one"
        );
        assert_eq!(found(|_, seen| seen.app_id = None), Adopt::New);
        let by_user = |row: &mut Row, seen: &mut Observed| {
            row.known.app_id = None;
            (row.known.proxy_user, seen.proxy_user) = (Some("ann".into()), Some("ann".into()));
        };
        assert_eq!(found(by_user), Adopt::Late(0));
        assert_eq!(
            found(|row, seen| {
                row.known.app_id = None;
                seen.app_id = None;
            }),
            Adopt::New,
            "nothing tells"
        );
        let long_ago = |row: &mut Row, seen: &mut Observed| {
            row.known.app_id = None;
            (row.known.proxy_user, seen.proxy_user) = (Some("ann".into()), Some("ann".into()));
            row.known.ended = Some(Moment {
                wall_ms: 900 - 1_000_000,
                up_ms: 900,
            });
        };
        assert_eq!(found(long_ago), Adopt::New, "by the wall clock");
        let lost = |row: &mut Row, _: &mut Observed| {
            row.known.phase = Phase::Detached {
                upstream_id: Some("3".into()),
            };
            row.known.state = BatchState::Error;
            let reason = ("gatewayReason".to_owned(), Some("why".to_owned()));
            row.known.app_info.extend([reason]);
        };
        assert_eq!(found(lost), Adopt::Late(0));
    }

    #[test]
    fn a_clients_name_ties_for_a_quarter_of_an_hour_by_both_clocks() {
        let mut given_up = row(
            Some("nightly"),
            Phase::Detached { upstream_id: None },
            BatchState::Error,
        );
        given_up.known.may_arrive = true;
        let found = seen("12", Some("nightly"), BatchState::Running);
        for (wall_ms, up_ms, late) in [
            (900_000, 900_000, true),
            (3_000_000, 5000, false),
            (5000, 3_000_000, false),
        ] {
            assert_eq!(is_late(&given_up, &found, Moment { wall_ms, up_ms }), late);
        }
    }

    #[test]
    fn one_number_is_one_batch() {
        let ids = |seen: Vec<Observed>| {
            let readable = readable(seen);
            let ids: Vec<String> = readable.into_iter().map(|one| one.upstream_id).collect();
            ids
        };
        let one = |id: &str, name: &str| seen(id, Some(name), BatchState::Running);
        assert_eq!(
            ids(vec![one("3", "a"), one("4", "b"), one("3", "a")]),
            ["4", "3"]
        );
        assert_eq!(
            ids(vec![one("3", "a"), one("4", "b"), one("3", "c")]),
            ["4"]
        );
        assert_eq!(
            ids(vec![one("3", "a"), one("3", "c"), one("3", "a")]).len(),
            0
        );
    }
}
