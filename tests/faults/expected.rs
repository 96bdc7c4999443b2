//! What may come of a cell, written down. Whatever the fault: what the client was told is what is
//! so.

use crate::cell::{Cell, Operation};

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    /// 201, and the job runs, once.
    CreatedAndRunsOnce,
    /// 201, ended as `error` with the reason, and nothing runs.
    CreatedAndEndedSayingWhy,
    /// 201, ended as `error` with the reason that nobody can know; it may run, once.
    CreatedAndNobodyKnows,
    /// 201, and `starting` with the reason that nobody can know which of several batches it is, for
    /// as long as one of them runs.
    CreatedAndOpen,
    /// An error, and nothing runs, or will.
    RefusedAndNothingRuns,
    /// An error, and it runs, once: it was held for longer than anybody waits, and nothing tells
    /// that it is this one.
    RefusedAndCameLate,
    /// 200 and what was known last, marked as old.
    StaleAndRight,
    /// 200 and what is so: the fault was not met, or overcome.
    FreshAndRight,
    /// 200, the job is dead, and the batch is gone.
    DeletedAndDead,
    /// 502 or 503, and the job runs and is shown so; by a second try it is dead, and the batch gone.
    NotDeletedAndRuns,
    /// 502 or 503, and the job is dead and is shown so.
    NotDeletedAndDead,
    /// Something else: the words say what.
    Wrong,
}

impl Outcome {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Outcome::CreatedAndRunsOnce => "201, and it runs once",
            Outcome::CreatedAndEndedSayingWhy => {
                "201, then an error that says why, and nothing runs"
            }
            Outcome::CreatedAndNobodyKnows => "201, then an error that says why, and it runs",
            Outcome::CreatedAndOpen => "201, and open, which says why",
            Outcome::RefusedAndNothingRuns => "an error, and nothing runs",
            Outcome::RefusedAndCameLate => "an error, and it comes late and runs",
            Outcome::StaleAndRight => "200, right, marked as old",
            Outcome::FreshAndRight => "200, right, and new",
            Outcome::DeletedAndDead => "200, and it is dead",
            Outcome::NotDeletedAndRuns => "502 or 503, and it runs and is shown so",
            Outcome::NotDeletedAndDead => "502 or 503, and it is dead and shown so",
            Outcome::Wrong => "something else",
        }
    }
}

/// Returns what may come of a cell.
///
/// | operation | fault | flavor | may be |
/// | --- | --- | --- | --- |
/// | create | the cluster never got it | all | runs once (sent again), or refused and nothing runs |
/// | create | the cluster got it | with a look-up | runs once: it is looked up and found, whatever the front said |
/// | create | held, so that it comes late | with a look-up | runs once: found, or killed and sent again; or refused, and killed when it comes |
/// | create | held, so that it comes late | ibm | also refused, and it runs when it comes: a limit that the docs name |
/// | create | any but refused | ibm | also open, or an `error`, that says why, for nothing can be looked up there while others submit |
/// | get, state, log, list | any | all | 200: what was known last, marked as old; or what is so, where the fault was overcome |
/// | delete | any | all | 200 only if it is dead; else 502 or 503, and its state agrees |
pub(crate) fn allowed(cell: &Cell) -> Vec<Outcome> {
    match cell.operation {
        Operation::Create => {
            let mut allowed = vec![Outcome::CreatedAndRunsOnce];
            if !cell.passes_on() || cell.is_held() {
                allowed.push(Outcome::RefusedAndNothingRuns);
            }
            if cell.is_held() {
                allowed.push(Outcome::CreatedAndEndedSayingWhy);
            }
            // Its batch API names nothing: whoever else submits decides what can be told.
            if cell.flavor == "ibm" && cell.is_held() {
                allowed.push(Outcome::RefusedAndCameLate);
            }
            if cell.flavor == "ibm" && cell.name != "refused" {
                allowed.extend([
                    Outcome::CreatedAndOpen,
                    Outcome::CreatedAndEndedSayingWhy,
                    Outcome::CreatedAndNobodyKnows,
                ]);
            }
            allowed
        }
        Operation::Get | Operation::State | Operation::Log | Operation::List => {
            vec![Outcome::StaleAndRight, Outcome::FreshAndRight]
        }
        Operation::Delete => vec![
            Outcome::DeletedAndDead,
            Outcome::NotDeletedAndRuns,
            Outcome::NotDeletedAndDead,
        ],
    }
}
