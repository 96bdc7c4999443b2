//! Whether what a cluster shows is the batch that an entry stands for. Ids that a cluster counts
//! may begin again after a restart.

use livy_dialect::{BatchState, Observed, StateReading};

use super::before::{Before, counts_anew};
use crate::registry::row::{Identity, Known, Phase, Row};

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Same {
    /// It is this batch.
    Yes,
    /// It is another one.
    No,
    /// Nothing tells: it is shown as it was last known, and never killed.
    CannotTell,
}

/// Decides over all that both sides know: id, name, application, effective user, state.
pub fn same(identity: &Identity, known: &Known, seen: &Observed) -> Same {
    same_if(identity, known, seen, false)
}

/// The same for a batch of which its cluster has spoken all the time, if `followed`: it can't have
/// begun to count again without being seen.
pub fn same_if(identity: &Identity, known: &Known, seen: &Observed, followed: bool) -> Same {
    if known
        .phase
        .upstream_id()
        .is_some_and(|id| id != seen.upstream_id)
    {
        return Same::No;
    }
    // A UUID is never given twice, whatever becomes of the name beside it.
    if seen.upstream_id.parse::<u64>().is_err() {
        return if known.phase.upstream_id().is_some() || identity.lookup.key == seen.upstream_id {
            Same::Yes
        } else {
            Same::No
        };
    }
    let name = by_name(identity, known, seen);
    if name == Same::No {
        return Same::No;
    }
    // An application is never another batch's; and what had one does not lose it.
    match (&known.app_id, &seen.app_id) {
        (Some(ours), Some(theirs)) => return if ours == theirs { Same::Yes } else { Same::No },
        (Some(_), None) if name != Same::Yes || !identity.lookup.is_made_up() => {
            return if goes_back(known, seen) {
                Same::No
            } else {
                Same::CannotTell
            };
        }
        _ => {}
    }
    // A name that was made up here was given to nothing else.
    if identity.lookup.is_made_up() && name == Same::Yes {
        return Same::Yes;
    }
    if differ(&known.proxy_user, &seen.proxy_user) || goes_back(known, seen) {
        return Same::No;
    }
    // The application is what tells one batch of a client's name from the next of that name and
    // number; the first one that shows up need not be ours.
    let learns = known.app_id.is_none() && seen.app_id.is_some() && !identity.adopted;
    let users = known.proxy_user.is_some() && known.proxy_user == seen.proxy_user;
    match name {
        Same::Yes if learns && !users && !followed => Same::CannotTell,
        Same::Yes => Same::Yes,
        // Its cluster said that there is no such batch, and then there was one: without a mark of
        // its own it may be anybody's.
        _ if known.doubted => Same::CannotTell,
        _ if nothing_names_it(identity, known) => Same::Yes,
        other => other,
    }
}

/// Decides whether what a look-up found under the key of a submission is that submission. A
/// client's own name may be anybody's: it is not ours while it is the batch of one of the other
/// entries that `had` its upstream id, and have it still or may come late, nor if it was there
/// before the submission was sent (`before`). What runs as another user than was asked for may be
/// ours all the same: a cluster may put in its own. `list` is the cluster's whole list, if it was
/// read.
pub fn ours(
    identity: &Identity,
    known: &Known,
    before: &Before,
    seen: &Observed,
    had: &[Row],
    list: Option<&[Observed]>,
) -> Same {
    if identity.lookup.is_certain() {
        return Same::Yes;
    }
    match any_is(had, seen) {
        Same::Yes => return Same::No,
        Same::CannotTell => return Same::CannotTell,
        Same::No => {}
    }
    match was_there_before(before, seen, had, list) {
        Some(true) => Same::No,
        Some(false) if !differ(&known.proxy_user, &seen.proxy_user) => Same::Yes,
        Some(false) | None => Same::CannotTell,
    }
}

/// Tells whether what a look-up found may have been there before its submission was sent: then the
/// cluster's list tells more.
pub fn may_be_older(identity: &Identity, before: &Before, seen: &Observed) -> bool {
    !identity.lookup.is_certain() && before.had(&seen.upstream_id)
}

/// Returns what is stored of the list that a cluster showed before a submission was sent.
pub fn before(identity: &Identity) -> Before {
    Before {
        above: identity.above,
        ..Before::default()
    }
}

/// Tells whether a batch is that of an entry that is bound, or may come late.
fn any_is(had: &[Row], seen: &Observed) -> Same {
    let is_it = |row: &Row| match row.known.phase {
        Phase::Bound { .. } => same(&row.identity, &row.known, seen),
        // Its end is the gateway's own word, and so no reason why it can't be alive.
        _ if row.known.may_arrive => {
            let alive = Known {
                state: BatchState::Starting,
                ..row.known.clone()
            };
            same(&row.identity, &alive, seen)
        }
        _ => Same::No,
    };
    let all = had.iter().map(is_it);
    all.fold(Same::No, |all, one| match (all, one) {
        (Same::Yes, _) | (_, Same::Yes) => Same::Yes,
        (Same::CannotTell, _) | (_, Same::CannotTell) => Same::CannotTell,
        _ => Same::No,
    })
}

/// Tells whether a cluster had given a batch's id before a submission was sent. An id that another
/// batch had before was given again, and so is new.
fn was_there_before(
    before: &Before,
    seen: &Observed,
    had: &[Row],
    list: Option<&[Observed]>,
) -> Option<bool> {
    if !before.had(&seen.upstream_id) || !had.is_empty() {
        return Some(false);
    }
    let above = before.above.unwrap_or(i64::MAX);
    let counts_on = list.is_some_and(|list| !counts_anew(above, list));
    counts_on.then_some(true)
}

/// Decides whether the answer to a submission may name its batch. One that somebody in front
/// repeats speaks of a batch that was there before, unless its cluster counts anew, which the list
/// tells; or it names nothing, though the cluster `shows_names`. A made-up name is given once.
pub fn believable(
    identity: &Identity,
    before: &Before,
    seen: &Observed,
    shows_names: bool,
) -> Same {
    let nameless = identity.lookup.sent_name.is_some() && seen.name.is_none() && shows_names;
    match before.had(&seen.upstream_id) && !identity.lookup.is_made_up() {
        _ if nameless => Same::No,
        true => Same::CannotTell,
        false => Same::Yes,
    }
}

fn by_name(identity: &Identity, known: &Known, seen: &Observed) -> Same {
    let ours = identity.lookup.sent_name.as_ref();
    match (ours, &seen.name) {
        (Some(ours), Some(theirs)) => return if ours == theirs { Same::Yes } else { Same::No },
        // One that has no name does not get one later.
        (None, Some(_)) if identity.adopted => return Same::No,
        // A cluster that shows names shows ours.
        (Some(_), None) if seen.name_shown => return Same::No,
        (Some(_), None) if known.echoed => return Same::CannotTell,
        _ => {}
    }
    Same::CannotTell
}

/// Tells whether nothing but the id could ever name it: IBM, Livy 0.5, an unnamed batch that was
/// created outside the gateway.
fn nothing_names_it(identity: &Identity, known: &Known) -> bool {
    identity.lookup.sent_name.is_none() || !known.echoed
}

fn differ(ours: &Option<String>, theirs: &Option<String>) -> bool {
    matches!((ours, theirs), (Some(ours), Some(theirs)) if ours != theirs)
}

/// Tells whether the state went back: what has ended does not start again. A Livy that recovers
/// shows ended batches as `recovering`, but under a name or an application that is compared first.
fn goes_back(known: &Known, seen: &Observed) -> bool {
    let alive = matches!(
        seen.state,
        StateReading::Known(BatchState::Starting | BatchState::Running)
    );
    known.state.is_terminal() && alive
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::entry::tests::{identity, known, seen};

    fn judge(setup: impl FnOnce(&mut Identity, &mut Known, &mut Observed)) -> Same {
        let (mut identity, mut known) = (identity(Some("nightly")), known("3"));
        let mut seen = seen("3", Some("nightly"), BatchState::Running);
        setup(&mut identity, &mut known, &mut seen);
        same(&identity, &known, &seen)
    }

    fn made_up(identity: &mut Identity) -> String {
        let name = format!("livy-gateway-{}", identity.lookup.key);
        identity.lookup.sent_name = Some(name.clone());
        name
    }

    #[test]
    fn no_name_is_not_the_same_name() {
        assert_eq!(judge(|_, _, _| {}), Same::Yes);
        assert_eq!(
            judge(|_, _, seen| seen.name = None),
            Same::No,
            "a Livy that shows `null` knows no name"
        );
        assert_eq!(
            judge(|_, _, seen| seen.name = Some("other".into())),
            Same::No
        );
        assert_eq!(judge(|_, _, seen| seen.upstream_id = "4".into()), Same::No);
        let old_livy = |_: &mut Identity, known: &mut Known, seen: &mut Observed| {
            (seen.name, seen.name_shown, known.echoed) = (None, false, false);
        };
        assert_eq!(judge(old_livy), Same::Yes, "Livy 0.5 never showed it");
        let lost = |_: &mut Identity, known: &mut Known, seen: &mut Observed| {
            (seen.name, seen.name_shown, known.echoed) = (None, false, true)
        };
        assert_eq!(judge(lost), Same::CannotTell, "it was shown before");
    }

    #[test]
    fn an_application_is_never_another_batchs() {
        let applications = |ours: Option<&str>, theirs: Option<&str>| {
            let (ours, theirs) = (ours.map(str::to_owned), theirs.map(str::to_owned));
            judge(move |_, known, seen| (known.app_id, seen.app_id) = (ours, theirs))
        };
        assert_eq!(applications(Some("a_1"), Some("a_1")), Same::Yes);
        assert_eq!(applications(Some("a_1"), Some("a_2")), Same::No);
        assert_eq!(
            applications(None, Some("a_2")),
            Same::CannotTell,
            "it was not known yet: it may be another's of that name and number"
        );
        let (identity, known) = (identity(Some("nightly")), known("3"));
        let mut shown = seen("3", Some("nightly"), BatchState::Running);
        shown.app_id = Some("a_2".into());
        assert_eq!(same_if(&identity, &known, &shown, true), Same::Yes);
        let users = |_: &mut Identity, known: &mut Known, seen: &mut Observed| {
            seen.app_id = Some("a_2".into());
            (known.proxy_user, seen.proxy_user) = (Some("ann".into()), Some("ann".into()));
        };
        assert_eq!(judge(users), Same::Yes, "the same user");
        assert_eq!(applications(Some("a_1"), None), Same::CannotTell);
    }

    #[test]
    fn a_name_that_was_made_up_here_is_proof() {
        let recovering = |identity: &mut Identity, known: &mut Known, seen: &mut Observed| {
            seen.name = Some(made_up(identity));
            known.app_id = Some("a_1".into());
            known.state = BatchState::Success;
            seen.state = StateReading::Known(BatchState::Starting);
        };
        assert_eq!(judge(recovering), Same::Yes);
    }

    #[test]
    fn what_nothing_names_is_believed_until_it_is_doubted() {
        let ibm = |identity: &mut Identity, known: &mut Known, seen: &mut Observed| {
            (
                identity.lookup.sent_name,
                seen.name,
                seen.name_shown,
                known.echoed,
            ) = (None, None, false, false);
        };
        assert_eq!(judge(ibm), Same::Yes);
        assert_eq!(
            judge(|i, k, s| {
                ibm(i, k, s);
                k.doubted = true;
            }),
            Same::CannotTell
        );
        assert_eq!(
            judge(|i, k, s| {
                ibm(i, k, s);
                k.state = BatchState::Success;
            }),
            Same::No,
            "what has ended does not start again"
        );
        let foreign = |i: &mut Identity, k: &mut Known, s: &mut Observed| {
            ibm(i, k, s);
            (k.proxy_user, s.proxy_user) = (Some("ann".into()), Some("bob".into()));
        };
        assert_eq!(judge(foreign), Same::No);
    }

    #[test]
    fn a_uuid_is_proof() {
        let uuid = "0e0b6f5e-0000-4000-8000-00000000000a";
        let renamed = |identity: &mut Identity, known: &mut Known, seen: &mut Observed| {
            known.phase = crate::registry::Phase::Bound {
                upstream_id: uuid.into(),
            };
            (seen.upstream_id, seen.name, identity.lookup.sent_name) =
                (uuid.into(), Some("the app's own".into()), None);
        };
        assert_eq!(judge(renamed), Same::Yes);
    }

    #[test]
    fn a_repeated_answer_names_nobodys_batch() {
        let mut ours = identity(None);
        let mut answer = seen("3", ours.lookup.sent_name.as_deref(), BatchState::Starting);
        let judge = |ours: &Identity, answer: &Observed, shows_names| {
            believable(ours, &before(ours), answer, shows_names)
        };
        assert_eq!(judge(&ours, &answer, true), Same::Yes, "it names ours");
        (answer.name, answer.name_shown) = (None, false);
        assert_eq!(judge(&ours, &answer, true), Same::No);
        assert_eq!(judge(&ours, &answer, false), Same::Yes, "Livy 0.5");
        ours = identity(Some("nightly"));
        ours.above = Some(3);
        answer = seen("3", Some("nightly"), BatchState::Starting);
        assert_eq!(
            judge(&ours, &answer, true),
            Same::CannotTell,
            "it was there before, if its cluster counts on"
        );
        let listed = Before {
            above: Some(3),
            ids: Some(["1".to_owned()].into()),
            named: None,
        };
        assert_eq!(
            believable(&ours, &listed, &answer, true),
            Same::Yes,
            "the list did not show it"
        );
        answer.upstream_id = "4".into();
        assert_eq!(judge(&ours, &answer, true), Same::Yes);
    }

    #[test]
    fn a_clients_name_may_be_anybodys() {
        let row = |id: i32, setup: fn(&mut Known)| {
            let mut row = Row {
                identity: identity(Some("nightly")),
                known: known("3"),
                version: 1,
                key_until: None,
            };
            row.identity.id = crate::registry::GatewayId(id);
            setup(&mut row.known);
            row
        };
        let ours_is = |open: &Row, seen: &Observed, had: Option<&Row>| {
            let had = had.map_or(&[][..], std::slice::from_ref);
            let before = before(&open.identity);
            ours(&open.identity, &open.known, &before, seen, had, None)
        };
        let open = row(7, |known| {
            *known = Known {
                proxy_user: Some("ann".into()),
                ..Known::new()
            }
        });
        let mut found = seen("3", Some("nightly"), BatchState::Running);
        assert_eq!(
            ours_is(&open, &found, None),
            Same::Yes,
            "its cluster names no user"
        );
        let another = row(5, |_| {});
        assert_eq!(
            ours_is(&open, &found, Some(&another)),
            Same::No,
            "it is the batch of another entry"
        );
        let given_up = row(5, |known| {
            known.phase = Phase::Detached {
                upstream_id: Some("3".into()),
            };
            (known.state, known.may_arrive) = (BatchState::Error, true);
        });
        assert_eq!(
            ours_is(&open, &found, Some(&given_up)),
            Same::No,
            "it is the batch of an entry that was told to be lost"
        );
        let began_again = row(5, |known| known.app_id = Some("application_1".into()));
        found.app_id = Some("application_2".into());
        assert_eq!(
            ours_is(&open, &found, Some(&began_again)),
            Same::Yes,
            "that one's was another, under an id that was given again"
        );
        found.proxy_user = Some("eve".into());
        assert_eq!(
            ours_is(&open, &found, None),
            Same::CannotTell,
            "a stranger's, or ours under an account that the cluster put in"
        );
        let mut unnamed = open.clone();
        made_up(&mut unnamed.identity);
        assert_eq!(
            ours_is(&unnamed, &found, Some(&another)),
            Same::Yes,
            "a made-up name is nobody else's"
        );
    }

    #[test]
    fn what_was_there_before_is_not_the_submission() {
        let mut open = identity(Some("nightly"));
        open.above = Some(5);
        let shown = |id: &str| seen(id, Some("nightly"), BatchState::Running);
        let judge = |id: &str, had: &[Row], list: Option<&[Observed]>| {
            ours(&open, &Known::new(), &before(&open), &shown(id), had, list)
        };
        let (counts_on, counts_anew) = ([shown("3"), shown("5")], [shown("3")]);
        assert_eq!(judge("6", &[], None), Same::Yes);
        assert_eq!(judge("3", &[], Some(&counts_on)), Same::No);
        assert_eq!(judge("3", &[], None), Same::CannotTell);
        assert_eq!(
            judge("3", &[], Some(&counts_anew)),
            Same::CannotTell,
            "those above it may have been forgotten"
        );
        let named = Before {
            named: Some("3".into()),
            ..before(&open)
        };
        let shown_again = ours(&open, &Known::new(), &named, &shown("3"), &[], None);
        assert_eq!(shown_again, Same::Yes, "the answer named it as well");
        let mut gone = Row {
            identity: identity(Some("other")),
            known: known("3"),
            version: 1,
            key_until: None,
        };
        gone.known.state = BatchState::Success;
        assert_eq!(
            judge("3", std::slice::from_ref(&gone), None),
            Same::Yes,
            "its number was another's before: the cluster counts anew"
        );
    }
}
