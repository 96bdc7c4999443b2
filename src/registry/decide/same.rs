//! Whether what a cluster shows is the batch that an entry stands for. Ids that a cluster counts
//! may begin again after a restart.

use livy_dialect::{BatchState, Observed, StateReading};

use crate::registry::row::{Identity, Known, Row};

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
/// client's own name may be anybody's: it is not ours while it is the batch of another entry,
/// `holder`, that has its upstream id, nor when the cluster runs it as another user than was asked
/// for.
pub fn ours(identity: &Identity, known: &Known, seen: &Observed, holder: Option<&Row>) -> bool {
    if identity.lookup.is_certain() {
        return true;
    }
    let anothers = |row: &Row| {
        row.identity.id != identity.id && same(&row.identity, &row.known, seen) != Same::No
    };
    !holder.is_some_and(anothers) && !differ(&known.proxy_user, &seen.proxy_user)
}

/// Decides whether the answer to a submission may name its batch. One that somebody in front repeats
/// speaks of a batch that was there before: under a client's own name, an id that the cluster had
/// given before the submission was sent; or it names nothing, though the cluster `shows_names`. A
/// look-up tells.
pub fn believable(identity: &Identity, seen: &Observed, shows_names: bool) -> bool {
    let older = matches!((seen.upstream_id.parse::<i64>(), identity.above), (Ok(id), Some(above)) if id <= above);
    let nameless = identity.lookup.sent_name.is_some() && seen.name.is_none() && shows_names;
    !nameless && (identity.lookup.is_certain() || !older)
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
        assert!(believable(&ours, &answer, true), "it names ours");
        (answer.name, answer.name_shown) = (None, false);
        assert!(!believable(&ours, &answer, true));
        assert!(believable(&ours, &answer, false), "Livy 0.5 names nothing");
        ours = identity(Some("nightly"));
        ours.above = Some(3);
        answer = seen("3", Some("nightly"), BatchState::Starting);
        assert!(!believable(&ours, &answer, true), "it was there before");
        answer.upstream_id = "4".into();
        assert!(believable(&ours, &answer, true));
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
        let ours_is = |open: &Row, seen: &Observed, holder: Option<&Row>| {
            ours(&open.identity, &open.known, seen, holder)
        };
        let open = row(7, |known| {
            *known = Known {
                proxy_user: Some("ann".into()),
                ..Known::new()
            }
        });
        let mut found = seen("3", Some("nightly"), BatchState::Running);
        assert!(ours_is(&open, &found, None), "its cluster names no user");
        let another = row(5, |_| {});
        assert!(
            !ours_is(&open, &found, Some(&another)),
            "it is the batch of another entry"
        );
        let began_again = row(5, |known| known.app_id = Some("application_1".into()));
        found.app_id = Some("application_2".into());
        assert!(
            ours_is(&open, &found, Some(&began_again)),
            "that one's was another, under an id that was given again"
        );
        found.proxy_user = Some("eve".into());
        assert!(!ours_is(&open, &found, None), "it runs as somebody else");
        let mut unnamed = open.clone();
        made_up(&mut unnamed.identity);
        assert!(
            ours_is(&unnamed, &found, Some(&another)),
            "a made-up name is nobody else's"
        );
    }
}
