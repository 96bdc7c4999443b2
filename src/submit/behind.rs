//! Looking behind a refusal: whoever stands in between may have sent the submission twice.

use livy_dialect::{FaultKind, LookupPlan, Observed, UpstreamFault};

use super::look::{Looked, look, remove_leftover};
use super::whose::whose;
use crate::fleet::{AskError, Upstream};
use crate::gateway::Gateway;
use crate::observe::exchange::Exchange;
use crate::registry::decide::Before;
use crate::registry::{Entry, Same};

/// What stands behind a refusal.
#[derive(Debug)]
pub(super) enum Behind {
    /// Nothing: nothing was created.
    Nothing,
    /// The submission: somebody in between sent it twice, and the refusal is the second one's.
    Shows(Box<Observed>),
    /// Nobody knows: no answer of the cluster's own, a list that could not be read whole, or a
    /// batch that may be the submission.
    Unknown,
}

/// Looks behind a refusal of a submission. Whoever repeats a POST on the way hands on what the
/// second one was told, so "not created" is believed only once the cluster shows nothing under our
/// key, where it can be asked. What Livy keeps of a submission that it refused is removed.
pub(super) async fn behind_refusal(
    upstream: &Upstream,
    gateway: &Gateway,
    entry: &Entry,
    before: &Before,
    fault: &UpstreamFault,
    exchange: &Exchange,
) -> Behind {
    let dialect = upstream.dialect();
    if dialect.lookup(&entry.lookup) == LookupPlan::NewInList {
        return Behind::Nothing;
    }
    let seen = match look(upstream, &entry.lookup, exchange).await {
        Looked::Shows(seen) => seen,
        Looked::Nothing => return Behind::Nothing,
        // A Livy without names (0.5) can't be asked for one.
        Looked::Unanswered(AskError::Fault(fault)) if fault.kind == FaultKind::Refused => {
            return Behind::Nothing;
        }
        Looked::NotAll | Looked::Unanswered(_) => return Behind::Unknown,
    };
    match whose(upstream, gateway, entry, before, &seen, exchange).await {
        Same::No => Behind::Nothing,
        Same::Yes if fault.kind == FaultKind::Refused && dialect.is_leftover(&seen) => {
            remove_leftover(upstream, &seen, exchange).await;
            Behind::Nothing
        }
        Same::Yes => Behind::Shows(seen),
        Same::CannotTell => Behind::Unknown,
    }
}
