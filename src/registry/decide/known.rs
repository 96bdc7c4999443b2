//! How what is known of a batch goes on. Phases and ends only go forward.

use livy_dialect::{BatchState, Observed, StateReading};

use crate::clock::Moment;
use crate::registry::row::{GatewayId, Known, Phase, Row};

/// What an observation changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The state, if it is a new one.
    pub new_state: Option<BatchState>,
    /// Whether the store should hear of it.
    pub worth_saving: bool,
}

/// Notes that the submission exists.
pub fn bind(known: &mut Known, seen: &Observed, now: Moment) -> Change {
    let was_open = known.phase == Phase::Sending;
    if was_open {
        // Until now it was the one that was asked for.
        known.proxy_user = None;
    }
    let mut change = observe(known, seen, now);
    if was_open {
        known.phase = Phase::Bound {
            upstream_id: seen.upstream_id.clone(),
        };
        known.echoed = seen.name.is_some();
        known.may_arrive = false;
        known.resolved.get_or_insert(now);
        // It was open for a reason that is over.
        known.app_info.remove("gatewayReason");
        change.worth_saving = true;
    }
    change
}

/// Notes that a batch has another id than the answer to its submission named: its own name shows
/// it.
pub fn rebind(known: &mut Known, seen: &Observed, now: Moment) {
    if matches!(known.phase, Phase::Bound { .. }) {
        observe(known, seen, now);
        known.phase = Phase::Bound {
            upstream_id: seen.upstream_id.clone(),
        };
    }
}

/// Notes that what nothing but its time of arrival ties to the submission is presumed to be it, and
/// why. Whoever asked for the end before that did not mean a batch that may be another's.
pub fn presume(known: &mut Known, seen: &Observed, sentence: &str, now: Moment) {
    if known.phase != Phase::Sending {
        return;
    }
    bind(known, seen, now);
    known.presumed = true;
    known.kill_asked = false;
    known
        .app_info
        .insert("gatewayReason".to_owned(), Some(sentence.to_owned()));
    known.log = vec![format!("livy-gateway: {sentence}")];
}

/// Lines of a log that are kept with a batch: as many as Livy shows with an item.
const LINES: usize = 10;

/// Bytes of a line that are kept: a line may be a whole query plan.
const LINE: usize = 1_024;

/// Returns what is kept of a log: its last lines, none of them longer than a kilobyte.
pub fn last_lines(lines: &[String]) -> Vec<String> {
    let last = &lines[lines.len().saturating_sub(LINES)..];
    last.iter().map(|line| shortened(line)).collect()
}

fn shortened(line: &str) -> String {
    if line.len() <= LINE {
        return line.to_owned();
    }
    let end = (0..=LINE).rev().find(|at| line.is_char_boundary(*at));
    format!("{} …", &line[..end.unwrap_or(0)])
}

/// Notes what a cluster says of the whole batch.
pub fn observe(known: &mut Known, seen: &Observed, now: Moment) -> Change {
    let mut change = observe_state(known, &seen.state, now);
    let mut changed = false;
    // What a cluster leaves out later (Kyuubi drops `appId` at the end) stays known.
    let mut keep = |slot: &mut Option<String>, seen: &Option<String>| {
        if seen.is_some() && slot != seen {
            slot.clone_from(seen);
            changed = true;
        }
    };
    keep(&mut known.app_id, &seen.app_id);
    keep(&mut known.proxy_user, &seen.proxy_user);
    for (key, value) in &seen.app_info {
        if known.app_info.get(key) != Some(value) {
            known.app_info.insert(key.clone(), value.clone());
            changed = true;
        }
    }
    if !seen.log.is_empty() {
        known.log = last_lines(&seen.log);
    }
    let completes = known.state.is_terminal() && !known.complete;
    known.complete |= completes;
    change.worth_saving |= changed || completes;
    change
}

/// Notes a state that came without the rest of the batch.
pub fn observe_state(known: &mut Known, reading: &StateReading, now: Moment) -> Change {
    let first = known.seen_ms == 0;
    let next = reading.settle((!first).then_some(known.state));
    let changed = first || next != known.state;
    known.seen_ms = now.wall_ms.max(1);
    known.state = next;
    if next.is_terminal() && known.ended.is_none() {
        known.ended = Some(now);
    }
    Change {
        new_state: changed.then_some(next),
        worth_saving: changed,
    }
}

/// Ends a batch of which nothing more can come; one that had not ended is an `error` that says why.
pub fn give_up(known: &mut Known, reason: &str, may_arrive: bool, now: Moment) {
    known.may_arrive |= may_arrive;
    if !known.state.is_terminal() {
        known.state = BatchState::Error;
        known.ended = Some(now);
        known.log.push(format!("livy-gateway: {reason}"));
        known
            .app_info
            .insert("gatewayReason".to_owned(), Some(reason.to_owned()));
    }
    known.complete = true;
    if known.phase == Phase::Sending {
        known.resolved = Some(now);
    }
    known.phase = match std::mem::replace(&mut known.phase, Phase::Refused) {
        Phase::Sending => Phase::Detached { upstream_id: None },
        Phase::Bound { upstream_id } => Phase::Detached {
            upstream_id: Some(upstream_id),
        },
        other => other,
    };
}

/// Ends a submission whose cluster tells how it ended, but not under which number: it can be asked
/// nothing more.
pub fn ended_unlisted(known: &mut Known, end: &StateReading, reason: &str, now: Moment) {
    if known.phase == Phase::Sending {
        observe_state(known, end, now);
        known
            .app_info
            .insert("gatewayReason".to_owned(), Some(reason.to_owned()));
        known.log.push(format!("livy-gateway: {reason}"));
        give_up(known, reason, false, now);
    }
}

/// Ends a submission of which nothing was created. Whoever asked for its end has what they wanted.
pub fn never_was(known: &mut Known, reason: &str, may_arrive: bool, now: Moment) {
    if known.phase != Phase::Sending {
        // Another process knows better.
        return;
    }
    if known.kill_asked {
        delete(known, may_arrive, now);
    } else {
        give_up(known, reason, may_arrive, now);
    }
    known.absent = true;
}

/// Forgets a batch for its clients, as a DELETE does at Livy.
pub fn delete(known: &mut Known, may_arrive: bool, now: Moment) {
    known.may_arrive |= may_arrive;
    if known.phase == Phase::Sending {
        known.resolved = Some(now);
    }
    let upstream_id = known.phase.upstream_id().map(str::to_owned);
    known.phase = Phase::Deleted { upstream_id };
    if known.ended.is_none() {
        (known.state, known.ended) = (BatchState::Killed, Some(now));
    }
}

/// Takes an upstream id away from the row that holds it; `by` is the submission that gets it. A row
/// that was adopted after that submission had been recorded is the submission itself, and
/// vanishes; any other one keeps its last known state, and one that had not ended is an `error` that
/// says why.
pub fn lose_id(holder: &mut Row, by: Option<GatewayId>, now: Moment) {
    give_up(
        &mut holder.known,
        "the cluster gave this batch's id to another one: it was restarted",
        false,
        now,
    );
    if holder.identity.adopted && by.is_some_and(|submission| holder.identity.id > submission) {
        holder.known.phase = Phase::Deleted { upstream_id: None };
    }
}

/// Returns what is to be known after a store, or another process, turned out to know more than the
/// memory that was about to be written.
pub fn forward(stored: &Known, wanted: &Known) -> Known {
    // Whoever wrote an open submission meanwhile took it over, showed it or wants its end: it does not
    // vanish any more.
    let gives_way = wanted.phase == Phase::Refused
        && matches!(stored.phase, Phase::Sending | Phase::Bound { .. });
    let (mut next, other) = if gives_way || stored.phase.rank() > wanted.phase.rank() {
        (stored.clone(), wanted)
    } else {
        (wanted.clone(), stored)
    };
    // A batch that ran does not go back, and what was learnt of it stays known: by no clock, for two
    // machines have two.
    if stored.phase.rank() == wanted.phase.rank() {
        if next.state == BatchState::Starting {
            next.state = other.state;
        }
        next.app_id = next.app_id.or_else(|| other.app_id.clone());
        next.proxy_user = next.proxy_user.or_else(|| other.proxy_user.clone());
        for (key, value) in &other.app_info {
            let mine = next.app_info.entry(key.clone()).or_default();
            *mine = mine.take().or_else(|| value.clone());
        }
    }
    let ended = match (&stored.ended, &wanted.ended) {
        // The first end stands.
        (Some(_), _) => Some(stored),
        (None, Some(_)) => Some(wanted),
        (None, None) => None,
    };
    if let Some(ended) = ended {
        (next.state, next.ended, next.complete) =
            (ended.state, ended.ended, ended.complete || next.complete);
    }
    next.told |= other.told;
    // Nor does an open submission vanish that another process has written.
    next.shown |= other.shown || stored.phase == Phase::Sending;
    next.resolved = stored.resolved.or(wanted.resolved);
    next.kill_asked |= other.kill_asked;
    next.may_arrive |= other.may_arrive;
    next.arrived |= other.arrived;
    next.absent |= other.absent;
    // The shorter silence: the longer one was broken since, or not stored yet.
    next.quiet_ms = next.quiet_ms.min(other.quiet_ms);
    next.waited_ms = next.waited_ms.max(other.waited_ms);
    next.seen_ms = next.seen_ms.max(other.seen_ms);
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::entry::tests::{known, seen};

    fn at(ms: i64) -> Moment {
        Moment {
            wall_ms: ms,
            up_ms: ms,
        }
    }

    #[test]
    fn observations_only_go_forward() {
        let mut known = known("3");
        known.seen_ms = 0;
        let first = observe(
            &mut known,
            &seen("3", Some("n"), BatchState::Running),
            at(10),
        );
        assert_eq!(
            (first.new_state, first.worth_saving),
            (Some(BatchState::Running), true)
        );
        let same = observe(
            &mut known,
            &seen("3", Some("n"), BatchState::Starting),
            at(20),
        );
        assert_eq!((same.new_state, same.worth_saving), (None, false));
        observe(
            &mut known,
            &seen("3", Some("n"), BatchState::Success),
            at(30),
        );
        observe(
            &mut known,
            &seen("3", Some("n"), BatchState::Running),
            at(40),
        );
        assert_eq!(
            (known.state, known.ended, known.complete),
            (BatchState::Success, Some(at(30)), true)
        );
        give_up(&mut known, "too late", false, at(50));
        assert_eq!(known.state, BatchState::Success, "an end is final");
    }

    #[test]
    fn what_either_of_two_processes_learnt_is_known() {
        let mut other = known("3");
        other.state = BatchState::Starting;
        let mut mine = other.clone();
        let mut running = seen("3", Some("n"), BatchState::Running);
        running.app_id = Some("application_1".into());
        observe(&mut other, &running, at(20));
        observe_state(
            &mut mine,
            &StateReading::Known(BatchState::Starting),
            at(30),
        );
        for next in [forward(&other, &mine), forward(&mine, &other)] {
            let known = (next.state, next.app_id.as_deref());
            assert_eq!(known, (BatchState::Running, Some("application_1")));
        }
        let end = StateReading::Known(BatchState::Success);
        observe_state(&mut mine, &end, at(40));
        let ended = forward(&other, &mine);
        let known = (ended.state, ended.ended);
        assert_eq!(
            known,
            (BatchState::Success, Some(at(40))),
            "an end is final"
        );
    }

    #[test]
    fn an_open_submission_that_another_process_wrote_does_not_vanish() {
        let open = Known::new();
        let refused = Known {
            phase: Phase::Refused,
            ..Known::new()
        };
        let next = forward(&open, &refused);
        assert_eq!(next.phase, Phase::Sending);
        assert!(!next.may_vanish() && !forward(&open, &open).may_vanish());
        assert_eq!(forward(&known("3"), &refused).phase, known("3").phase);
        let mut found = known("3");
        never_was(&mut found, "absent", true, at(1));
        assert_eq!(found.phase, known("3").phase, "it was found meanwhile");
    }

    #[test]
    fn of_a_log_its_last_lines_are_kept() {
        let mut lines: Vec<String> = (0..25).map(|line| format!("line {line}")).collect();
        lines.push("ü".repeat(3_000));
        let kept = last_lines(&lines);
        assert_eq!((kept.len(), kept[0].as_str()), (LINES, "line 16"));
        let longest = kept.iter().map(String::len).max();
        assert!(
            longest.is_some_and(|bytes| bytes <= LINE + 4),
            "{longest:?}"
        );
        assert_eq!(last_lines(&[]), Vec::<String>::new());
        assert_eq!(last_lines(&lines[..3]), &lines[..3]);
    }

    #[test]
    fn a_wish_to_kill_is_void_for_what_is_only_presumed() {
        let mut sending = Known {
            kill_asked: true,
            ..Known::new()
        };
        presume(
            &mut sending,
            &seen("8", None, BatchState::Running),
            "why",
            at(10),
        );
        assert_eq!(
            sending.phase,
            Phase::Bound {
                upstream_id: "8".into()
            }
        );
        assert_eq!((sending.presumed, sending.kill_asked), (true, false));
        assert_eq!(
            sending.app_info.get("gatewayReason"),
            Some(&Some("why".to_owned()))
        );
        let mut proven = known("3");
        presume(
            &mut proven,
            &seen("8", None, BatchState::Running),
            "why",
            at(20),
        );
        assert!(!proven.presumed, "what is known stays known");
    }

    #[test]
    fn what_a_store_knows_more_of_wins() {
        let mut stored = known("3");
        stored.phase = Phase::Deleted {
            upstream_id: Some("3".into()),
        };
        let merged = forward(&stored, &known("3"));
        assert_eq!(
            merged.phase, stored.phase,
            "a late write brings nothing back"
        );
        let mut ended = known("3");
        (ended.state, ended.ended) = (BatchState::Success, Some(at(5)));
        let mut later = known("3");
        (later.state, later.ended) = (BatchState::Error, Some(at(9)));
        assert_eq!(forward(&ended, &later).state, BatchState::Success);
        assert_eq!(forward(&known("3"), &ended).state, BatchState::Success);
    }
}
