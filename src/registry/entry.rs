//! One batch in memory: the identity that never changes, and what is known, behind a lock that is held for moments.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use livy_dialect::{AppInfo, Batch, BatchRef, BatchState, Lookup, Observed, StateReading};
use tokio::sync::watch;

use super::store::Row;
use super::{GatewayId, now_ms};

/// Where an entry is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Recorded; whether it was created is not known (yet).
    Sending,
    /// It has an upstream id.
    Bound,
    /// It never came to be. Nobody sees it.
    Refused,
    /// It has ended as far as anybody can tell: its cluster forgot it, or gave its id to another batch, or never knew.
    Detached,
    /// Its owner deleted it. 404 from then on.
    Deleted,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Phase; 5] = [Phase::Sending, Phase::Bound, Phase::Refused, Phase::Detached, Phase::Deleted];

    /// Returns the word in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Phase::Sending => "sending",
            Phase::Bound => "bound",
            Phase::Refused => "refused",
            Phase::Detached => "detached",
            Phase::Deleted => "deleted",
        }
    }

    /// Tells whether clients may know of it.
    pub const fn is_visible(self) -> bool {
        match self {
            Phase::Sending | Phase::Bound | Phase::Detached => true,
            Phase::Refused | Phase::Deleted => false,
        }
    }
}

/// What is known of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Where it is in its life.
    pub phase: Phase,
    /// Its id at the cluster.
    pub upstream_id: Option<String>,
    /// The state to show.
    pub state: BatchState,
    /// Application id.
    pub app_id: Option<String>,
    /// `appInfo`.
    pub app_info: AppInfo,
    /// Last log lines.
    pub log: Vec<String>,
    /// Whether the whole item was read after the batch ended: then nothing new can be learnt.
    pub complete: bool,
    /// When the cluster last said something about it; 0 if never.
    pub seen_ms: i64,
    /// When the cluster last showed the whole item; 0 if not in this process.
    pub item_ms: i64,
    /// When its end was first seen.
    pub ended_ms: Option<i64>,
    /// The user that the cluster runs it as.
    pub proxy_user: Option<String>,
    /// Whether a client was given this id by this process.
    pub disclosed: bool,
    /// Since when its cluster says that there is no such batch; 0 if it does not.
    pub missing_ms: i64,
}

/// What an observation changed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Change {
    /// The state, if it is a new one.
    pub new_state: Option<BatchState>,
    /// Whether the database should hear of it.
    pub worth_saving: bool,
}

/// A batch.
#[derive(Debug)]
pub struct Entry {
    /// Its id for clients.
    pub id: GatewayId,
    /// Its cluster.
    pub cluster: String,
    /// The route by which it came.
    pub route: String,
    /// How it was sent, and can be found again.
    pub lookup: Lookup,
    /// Who submitted it; for a batch made around the gateway, the user that its cluster names.
    pub owner: Option<String>,
    /// The name that the client gave.
    pub name: Option<String>,
    /// Whether it was made around the gateway.
    pub adopted: bool,
    /// When it was recorded.
    pub created_ms: i64,
    /// Held while a cluster is asked about it, so that identical reads share one answer.
    pub asking: tokio::sync::Mutex<()>,
    name_hold_ms: i64,
    known: Mutex<Known>,
    phase: watch::Sender<Phase>,
}

impl Entry {
    pub(super) fn from_row(row: Row) -> Self {
        Entry {
            id: row.id,
            cluster: row.cluster,
            route: row.route,
            lookup: row.lookup,
            owner: row.owner,
            name: row.name,
            adopted: row.adopted,
            created_ms: row.created_ms,
            asking: tokio::sync::Mutex::new(()),
            name_hold_ms: row.name_hold_ms,
            phase: watch::Sender::new(row.known.phase),
            known: Mutex::new(row.known),
        }
    }

    /// Returns the row to store.
    pub(super) fn row(&self) -> Row {
        Row {
            id: self.id,
            cluster: self.cluster.clone(),
            route: self.route.clone(),
            lookup: self.lookup.clone(),
            owner: self.owner.clone(),
            name: self.name.clone(),
            adopted: self.adopted,
            created_ms: self.created_ms,
            name_hold_ms: self.name_hold_ms,
            idempotency_hash: None,
            known: self.known(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing panics while it is held; if something did, the data is still whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a copy of what is known.
    pub fn known(&self) -> Known {
        self.lock().clone()
    }

    /// Notes that a client was given this id: from now on it must stay answerable, whatever becomes of the batch.
    pub fn disclose(&self) {
        self.lock().disclosed = true;
    }

    /// The same, if the submission is still open; returns whether it was. One step, so that a refusal at the same moment sees it or is seen.
    pub fn disclose_unresolved(&self) -> bool {
        let mut known = self.lock();
        let open = known.phase == Phase::Sending;
        known.disclosed |= open;
        open
    }

    /// Moves to `refused` unless a client was given the id; returns whether it did.
    pub(super) fn refuse_undisclosed(&self) -> bool {
        {
            let mut known = self.lock();
            if known.disclosed {
                return false;
            }
            known.phase = Phase::Refused;
        }
        self.phase.send_replace(Phase::Refused);
        true
    }

    /// Looks at what is known without copying it; `look` must be short, it runs under the lock.
    pub fn peek<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.lock())
    }

    /// Returns the phase.
    pub fn phase(&self) -> Phase {
        self.lock().phase
    }

    /// Waits until the submission is resolved one way or the other.
    pub async fn resolved(&self) -> Phase {
        let mut phase = self.phase.subscribe();
        match phase.wait_for(|phase| *phase != Phase::Sending).await {
            Ok(phase) => *phase,
            // The sender lives in `self`, so it can't be gone.
            Err(_) => self.phase(),
        }
    }

    /// Notes that its cluster says that there is no such batch; returns for how long it has been saying so.
    pub fn missing(&self) -> Duration {
        let mut known = self.lock();
        if known.missing_ms == 0 {
            known.missing_ms = now_ms();
        }
        age(known.missing_ms).unwrap_or_default()
    }

    /// Calls `ask` with the batch as its cluster knows it, if it does.
    pub fn with_ref<T>(&self, ask: impl FnOnce(BatchRef<'_>) -> T) -> Option<T> {
        let upstream_id = {
            let known = self.lock();
            if known.phase != Phase::Bound {
                return None;
            }
            known.upstream_id.clone()?
        };
        Some(ask(BatchRef { upstream_id: &upstream_id, sent_name: self.lookup.sent_name.as_deref() }))
    }

    /// Tells whether an answer is about this batch: same upstream id, and the name under which it was sent.
    pub fn is(&self, observed: &Observed) -> bool {
        let same_id = self.lock().upstream_id.as_deref().is_none_or(|id| id == observed.upstream_id);
        let same_name = match (&self.lookup.sent_name, &observed.name) {
            (Some(sent), Some(seen)) => sent == seen,
            // A Livy without names (0.5) never shows one.
            _ => true,
        };
        same_id && same_name
    }

    pub(super) fn set_bound(&self, upstream_id: &str) {
        self.lock().upstream_id = Some(upstream_id.to_owned());
        self.set_phase(Phase::Bound);
    }

    pub(super) fn set_phase(&self, phase: Phase) {
        self.lock().phase = phase;
        self.phase.send_replace(phase);
    }

    pub(super) fn end_as_error(&self, reason: &str, now: i64) {
        {
            let mut known = self.lock();
            if !known.state.is_terminal() {
                known.state = BatchState::Error;
                known.ended_ms = Some(now);
                known.log.push(format!("livy-gateway: {reason}"));
                known.app_info.insert("gatewayReason".to_owned(), Some(reason.to_owned()));
            }
            known.complete = true;
        }
        self.set_phase(Phase::Detached);
    }

    pub(super) fn observe(&self, observed: &Observed, now: i64) -> Change {
        let mut change = self.observe_state(&observed.state, now);
        let mut known = self.lock();
        let mut changed = false;
        // What a cluster leaves out later (Kyuubi drops `appId` at the end) stays known.
        let mut keep = |slot: &mut Option<String>, seen: &Option<String>| {
            if seen.is_some() && slot != seen {
                slot.clone_from(seen);
                changed = true;
            }
        };
        keep(&mut known.app_id, &observed.app_id);
        keep(&mut known.proxy_user, &observed.proxy_user);
        for (key, value) in &observed.app_info {
            if known.app_info.get(key) != Some(value) {
                known.app_info.insert(key.clone(), value.clone());
                changed = true;
            }
        }
        if !observed.log.is_empty() {
            known.log.clone_from(&observed.log);
        }
        known.item_ms = now;
        let completes = known.state.is_terminal() && !known.complete;
        known.complete |= completes;
        change.worth_saving |= changed || completes;
        change
    }

    pub(super) fn observe_state(&self, reading: &StateReading, now: i64) -> Change {
        let mut known = self.lock();
        let first = known.seen_ms == 0;
        let next = reading.settle((!first).then_some(known.state));
        let changed = first || next != known.state;
        known.seen_ms = now;
        known.missing_ms = 0;
        known.state = next;
        if next.is_terminal() && known.ended_ms.is_none() {
            known.ended_ms = Some(now);
        }
        Change { new_state: changed.then_some(next), worth_saving: changed }
    }

    /// Returns the batch as a client sees it.
    pub fn batch(&self) -> Batch {
        let known = self.known();
        Batch {
            id: self.id.0,
            name: self.name.clone(),
            owner: self.owner.clone(),
            proxy_user: known.proxy_user,
            state: known.state,
            app_id: known.app_id,
            app_info: known.app_info,
            log: known.log,
        }
    }
}

/// Returns the time since a moment; `None` if it never was.
pub fn age(at_ms: i64) -> Option<Duration> {
    (at_ms > 0).then(|| Duration::from_millis(u64::try_from(now_ms() - at_ms).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry {
        let known = Known {
            phase: Phase::Sending,
            upstream_id: None,
            state: BatchState::Starting,
            app_id: None,
            app_info: AppInfo::new(),
            log: Vec::new(),
            complete: false,
            seen_ms: 0,
            item_ms: 0,
            ended_ms: None,
            proxy_user: None,
            disclosed: false,
            missing_ms: 0,
        };
        Entry::from_row(Row {
            id: GatewayId(7),
            cluster: "c".into(),
            route: "r".into(),
            lookup: Lookup { key: "k".into(), sent_name: Some("n".into()) },
            owner: Some("ann".into()),
            name: None,
            adopted: false,
            created_ms: 1,
            name_hold_ms: 0,
            idempotency_hash: None,
            known,
        })
    }

    fn seen(id: &str, name: Option<&str>, state: BatchState) -> Observed {
        Observed {
            upstream_id: id.into(),
            name: name.map(str::to_owned),
            owner: None,
            proxy_user: None,
            state: StateReading::Known(state),
            app_id: None,
            app_info: AppInfo::new(),
            log: vec!["line".into()],
            duplicate: false,
        }
    }

    #[test]
    fn an_id_that_was_handed_out_is_never_refused() {
        let told = entry();
        assert!(told.disclose_unresolved());
        assert!(!told.refuse_undisclosed());
        assert_eq!(told.phase(), Phase::Sending);
        let untold = entry();
        assert!(untold.refuse_undisclosed());
        assert!(!untold.disclose_unresolved(), "what was refused is not handed out");
    }

    #[test]
    fn an_answer_about_another_batch_is_recognised() {
        let entry = entry();
        entry.set_bound("3");
        assert!(entry.is(&seen("3", Some("n"), BatchState::Running)));
        assert!(entry.is(&seen("3", None, BatchState::Running)), "an old Livy shows no names");
        assert!(!entry.is(&seen("3", Some("other"), BatchState::Running)));
        assert!(!entry.is(&seen("4", Some("n"), BatchState::Running)));
    }

    #[test]
    fn a_batch_is_missing_from_the_first_time_on_until_it_is_seen() {
        let entry = entry();
        entry.set_bound("3");
        assert!(entry.missing() < Duration::from_secs(5));
        entry.known.lock().expect("no panic").missing_ms = now_ms() - 60_000;
        assert!(entry.missing() >= Duration::from_secs(60));
        entry.observe(&seen("3", Some("n"), BatchState::Running), now_ms());
        assert!(entry.missing() < Duration::from_secs(5));
    }

    #[test]
    fn observations_only_go_forward() {
        let entry = entry();
        entry.set_bound("3");
        let first = entry.observe(&seen("3", Some("n"), BatchState::Running), 10);
        assert_eq!((first.new_state, first.worth_saving), (Some(BatchState::Running), true));
        let same = entry.observe(&seen("3", Some("n"), BatchState::Starting), 20);
        assert_eq!((same.new_state, same.worth_saving), (None, false));
        entry.observe(&seen("3", Some("n"), BatchState::Success), 30);
        entry.observe(&seen("3", Some("n"), BatchState::Running), 40);
        let known = entry.known();
        assert_eq!((known.state, known.ended_ms, known.complete), (BatchState::Success, Some(30), true));
        entry.end_as_error("too late", 50);
        assert_eq!(entry.known().state, BatchState::Success, "an end is final");
    }
}
