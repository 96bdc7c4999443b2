//! A batch as a line of JSON, and back: the format of `registry export` and `registry import`.
//!
//! What stands in a line is documented in `docs/registry.md`, for people who write lines by hand and
//! for other programs: fields are added, and none changes its meaning, within one `FORMAT`. A line
//! with a `version` is whole: what it leaves out is null, false, empty or 0. One without was written
//! by hand, and says as much as its author knew; the rest is filled in here.

use livy_dialect::{AppInfo, BatchState, Lookup};
use serde::{Deserialize, Deserializer, Serialize};

use super::record::{Record, impossible};
use crate::clock::Moment;
use crate::registry::row::{GatewayId, Identity, Known, Phase, Row};

/// The number of the format, in the head line.
pub(super) const FORMAT: u32 = 1;

/// The route of what came by none.
const NO_ROUTE: &str = "_none";

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A number or a text: ids of Livy are numbers, and people write them so.
fn text_or_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a text or a number")]
    enum Either {
        Text(String),
        Number(u64),
    }
    let either = Option::<Either>::deserialize(from)?;
    Ok(either.map(|either| match either {
        Either::Text(text) => text,
        Either::Number(number) => number.to_string(),
    }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum PhaseWord {
    Sending,
    Bound,
    Refused,
    Detached,
    Deleted,
}

macro_rules! line {
    ($($(#[$attribute:meta])* $name:ident: $kind:ty,)*) => {
        /// A batch, field by field; in the order in which people read them.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Line {
            id: i32,
            cluster: String,
            state: BatchState,
            $(#[serde(default, skip_serializing_if = "is_default")] $(#[$attribute])* $name: $kind,)*
        }

        /// Every field.
        pub(super) const FIELDS: &[&str] = &["id", "cluster", "state", $(stringify!($name)),*];
    };
}

line! {
    #[serde(deserialize_with = "text_or_number")]
    upstream_id: Option<String>,
    owner: Option<String>,
    name: Option<String>,
    phase: Option<PhaseWord>,
    version: Option<i64>,
    proxy_user: Option<String>,
    app_id: Option<String>,
    app_info: AppInfo,
    log: Vec<String>,
    created_ms: i64,
    created_up_ms: i64,
    ended_ms: Option<i64>,
    ended_up_ms: i64,
    resolved_ms: Option<i64>,
    resolved_up_ms: i64,
    seen_ms: i64,
    route: Option<String>,
    lookup_key: String,
    sent_name: Option<String>,
    adopted: Option<bool>,
    complete: bool,
    told: bool,
    echoed: bool,
    presumed: bool,
    kill_asked: bool,
    may_arrive: bool,
    let_go: bool,
    arrived: bool,
    absent: bool,
    quiet_ms: i64,
    waited_ms: i64,
    looked_ms: i64,
    above: Option<i64>,
    name_hold_ms: i64,
    body_hash: Option<String>,
    idempotency_key: Option<String>,
    idempotency_until_ms: Option<i64>,
    idempotency_until_up_ms: i64,
}

fn moment(wall_ms: Option<i64>, up_ms: i64) -> Option<Moment> {
    wall_ms.map(|wall_ms| Moment { wall_ms, up_ms })
}

fn halves(moment: Option<Moment>) -> (Option<i64>, i64) {
    let moment = moment.map(|moment| (moment.wall_ms, moment.up_ms));
    moment.map_or((None, 0), |(wall_ms, up_ms)| (Some(wall_ms), up_ms))
}

impl Line {
    /// Writes a batch down, all of it.
    pub(super) fn of(record: &Record) -> Line {
        let Record { row, key } = record.clone();
        let (identity, known) = (row.identity, row.known);
        let (ended_ms, ended_up_ms) = halves(known.ended);
        let (resolved_ms, resolved_up_ms) = halves(known.resolved);
        let (until_ms, until_up_ms) = halves(row.key_until);
        Line {
            id: identity.id.0,
            cluster: identity.cluster,
            state: known.state,
            upstream_id: known.phase.upstream_id().map(str::to_owned),
            owner: identity.owner,
            name: identity.name,
            phase: Some(match known.phase {
                Phase::Sending => PhaseWord::Sending,
                Phase::Bound { .. } => PhaseWord::Bound,
                Phase::Refused => PhaseWord::Refused,
                Phase::Detached { .. } => PhaseWord::Detached,
                Phase::Deleted { .. } => PhaseWord::Deleted,
            }),
            version: Some(row.version),
            proxy_user: known.proxy_user,
            app_id: known.app_id,
            app_info: known.app_info,
            log: known.log,
            created_ms: identity.created.wall_ms,
            created_up_ms: identity.created.up_ms,
            ended_ms,
            ended_up_ms,
            resolved_ms,
            resolved_up_ms,
            seen_ms: known.seen_ms,
            route: Some(identity.route),
            lookup_key: identity.lookup.key,
            sent_name: identity.lookup.sent_name,
            adopted: Some(identity.adopted),
            complete: known.complete,
            told: known.told,
            echoed: known.echoed,
            presumed: known.presumed,
            kill_asked: known.kill_asked,
            may_arrive: known.may_arrive,
            let_go: known.let_go,
            arrived: known.arrived,
            absent: known.absent,
            quiet_ms: known.quiet_ms,
            waited_ms: known.waited_ms,
            looked_ms: known.looked_ms,
            above: identity.above,
            name_hold_ms: identity.name_hold_ms,
            body_hash: identity.body_hash,
            idempotency_key: key,
            idempotency_until_ms: until_ms,
            idempotency_until_up_ms: until_up_ms,
        }
    }

    /// Returns the batch that it stands for, at a moment; or what is wrong with it.
    pub(super) fn record(self, now: Moment) -> Result<Record, String> {
        let line = match self.version {
            Some(_) => self,
            None => self.filled_in(now)?,
        };
        let phase = line.read_phase()?;
        let known = Known {
            phase,
            state: line.state,
            app_id: line.app_id,
            app_info: line.app_info,
            log: line.log,
            complete: line.complete,
            seen_ms: line.seen_ms,
            ended: moment(line.ended_ms, line.ended_up_ms),
            resolved: moment(line.resolved_ms, line.resolved_up_ms),
            proxy_user: line.proxy_user,
            told: line.told,
            echoed: line.echoed,
            presumed: line.presumed,
            kill_asked: line.kill_asked,
            may_arrive: line.may_arrive,
            let_go: line.let_go,
            quiet_ms: line.quiet_ms,
            waited_ms: line.waited_ms,
            arrived: line.arrived,
            absent: line.absent,
            looked_ms: line.looked_ms,
            ..Known::new()
        };
        let identity = Identity {
            id: GatewayId(line.id),
            cluster: line.cluster,
            route: line.route.unwrap_or_else(|| NO_ROUTE.to_owned()),
            lookup: Lookup {
                key: line.lookup_key,
                sent_name: line.sent_name,
            },
            owner: line.owner,
            name: line.name,
            adopted: line.adopted.unwrap_or_default(),
            created: Moment {
                wall_ms: line.created_ms,
                up_ms: line.created_up_ms,
            },
            name_hold_ms: line.name_hold_ms,
            body_hash: line.body_hash,
            above: line.above,
        };
        let until = moment(line.idempotency_until_ms, line.idempotency_until_up_ms);
        let record = Record {
            row: Row {
                identity,
                known,
                version: line.version.unwrap_or(1),
                key_until: line.idempotency_key.as_ref().and(until),
            },
            key: line.idempotency_key,
        };
        match impossible(&record.row) {
            Some(why) => Err(why.to_owned()),
            None => Ok(record),
        }
    }

    /// Tells whether it was written by hand: it says nothing of what it leaves out.
    pub(super) fn is_by_hand(&self) -> bool {
        self.version.is_none()
    }

    fn read_phase(&self) -> Result<Phase, String> {
        let upstream_id = self.upstream_id.clone();
        match (self.phase, upstream_id) {
            (Some(PhaseWord::Sending), None) => Ok(Phase::Sending),
            (Some(PhaseWord::Refused), None) => Ok(Phase::Refused),
            (Some(PhaseWord::Bound) | None, Some(upstream_id)) => Ok(Phase::Bound { upstream_id }),
            (Some(PhaseWord::Detached), upstream_id) => Ok(Phase::Detached { upstream_id }),
            (Some(PhaseWord::Deleted), upstream_id) => Ok(Phase::Deleted { upstream_id }),
            (Some(PhaseWord::Bound) | None, None) => {
                Err("it has no `upstream_id`, and nobody can ask for it".to_owned())
            }
            (Some(PhaseWord::Sending | PhaseWord::Refused), Some(_)) => {
                Err("it has an `upstream_id`, and by its `phase` it never got one".to_owned())
            }
        }
    }

    /// Fills in what a person left out: a batch that another gateway, or a client, submitted, and
    /// whose id clients have.
    fn filled_in(mut self, now: Moment) -> Result<Line, String> {
        if self.created_ms == 0 {
            self.created_ms = now.wall_ms;
        }
        if self.created_up_ms == 0 {
            self.created_up_ms = now.up_ms;
        }
        if self.state.is_terminal() {
            self.ended_ms.get_or_insert(now.wall_ms);
            if self.ended_up_ms == 0 {
                self.ended_up_ms = now.up_ms;
            }
        }
        if self.phase.is_none() && self.upstream_id.is_none() {
            if !self.state.is_terminal() {
                return Err(format!(
                    "it is `{}` and has no `upstream_id`: nobody could ask its cluster for it",
                    self.state.as_str()
                ));
            }
            self.phase = Some(PhaseWord::Detached);
        }
        self.app_info.entry("driverLogUrl".to_owned()).or_default();
        self.app_info.entry("sparkUiUrl".to_owned()).or_default();
        if self.sent_name.is_none() {
            self.sent_name.clone_from(&self.name);
        }
        // Its cluster shows the name; and of one whose name is not known, the number has to do: that
        // it was created elsewhere would mean that it has none.
        self.adopted.get_or_insert(self.sent_name.is_some());
        self.echoed |= self.sent_name.is_some();
        self.told = true;
        Ok(self)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Moment = Moment {
        wall_ms: 1_700_000_000_000,
        up_ms: 77,
    };

    fn read(text: &str) -> Result<Record, String> {
        let line: Line = serde_json::from_str(text).map_err(|error| error.to_string())?;
        line.record(NOW)
    }

    fn moments() -> impl Strategy<Value = Moment> {
        (0..i64::MAX / 2, 0..i64::MAX / 2).prop_map(|(wall_ms, up_ms)| Moment { wall_ms, up_ms })
    }

    /// Texts as people and jobs write them; PostgreSQL takes all but NUL.
    fn texts() -> impl Strategy<Value = String> {
        "[^\\x00]{0,12}"
    }

    prop_compose! {
        fn identities()(
            id in 1..=i32::MAX, cluster in "[a-z]{1,3}", route in texts(), key in "[0-9a-f]{0,8}", sent_name in proptest::option::of(texts()),
            owner in proptest::option::of(texts()), name in proptest::option::of(texts()), adopted: bool, created in moments(),
            name_hold_ms in 0..10_000i64, body_hash in proptest::option::of(texts()), above: Option<i64>,
        ) -> Identity {
            let lookup = Lookup { key, sent_name };
            Identity { id: GatewayId(id), cluster, route, lookup, owner, name, adopted, created, name_hold_ms, body_hash, above }
        }
    }

    prop_compose! {
        fn knowns()(
            phase in 0..5, upstream_id in proptest::option::of("[0-9]{1,4}"), state in proptest::sample::select(BatchState::ALL.to_vec()),
            app_id in proptest::option::of(texts()), info in proptest::collection::btree_map(texts(), proptest::option::of(texts()), 0..3),
            log in proptest::collection::vec(texts(), 0..3), ended in moments(), resolved in proptest::option::of(moments()),
            proxy_user in proptest::option::of(texts()), flags in proptest::array::uniform10(any::<bool>()),
            spans in proptest::array::uniform4(0..i64::MAX),
        ) -> Known {
            let phase = match (phase, upstream_id) {
                (0, Some(upstream_id)) => Phase::Bound { upstream_id },
                (1, upstream_id) => Phase::Deleted { upstream_id },
                (2, _) => Phase::Refused,
                (3, _) => Phase::Sending,
                (_, upstream_id) => Phase::Detached { upstream_id },
            };
            let open = matches!(phase, Phase::Sending);
            let gone = matches!(phase, Phase::Detached { .. } | Phase::Deleted { .. });
            let state = match () {
                () if open => BatchState::Starting,
                () if gone && !state.is_terminal() => BatchState::Error,
                () => state,
            };
            let [complete, told, echoed, presumed, kill_asked, may_arrive, let_go, arrived, absent, _] = flags;
            let [seen_ms, quiet_ms, waited_ms, looked_ms] = spans;
            Known {
                phase, state, app_id, app_info: info, log, complete, seen_ms, ended: state.is_terminal().then_some(ended), resolved, proxy_user,
                told, echoed, presumed, kill_asked, may_arrive, let_go, quiet_ms, waited_ms, arrived, absent, looked_ms, ..Known::new()
            }
        }
    }

    prop_compose! {
        /// Batches as a registry may have them.
        pub(crate) fn records()(identity in identities(), known in knowns(), version in 0..i64::MAX, key in proptest::option::of(texts()), until in moments()) -> Record {
            let key = key.filter(|_| identity.owner.is_some() && !known.frees_key());
            let key_until = key.as_ref().map(|_| until);
            Record { row: Row { identity, known, version, key_until }, key }
        }
    }

    proptest! {
        #[test]
        fn a_line_holds_the_whole_batch(record in records()) {
            let text = serde_json::to_string(&Line::of(&record)).expect("is JSON");
            prop_assert!(!text.contains('\n'));
            prop_assert_eq!(read(&text), Ok(record));
        }
    }

    #[test]
    fn the_least_that_a_person_writes() {
        let record = read(
            r#"{"id": 17, "cluster": "onprem", "upstream_id": 5, "owner": "ann", "name": "nightly", "state": "running"}"#,
        );
        let Record { row, key } = record.expect("is a batch");
        let phase = Phase::Bound {
            upstream_id: "5".into(),
        };
        assert_eq!(
            (row.known.phase, row.known.state),
            (phase, BatchState::Running)
        );
        assert_eq!(row.identity.lookup.sent_name.as_deref(), Some("nightly"));
        assert!(row.identity.adopted && row.known.told && row.known.echoed && key.is_none());
        assert_eq!((row.version, row.identity.created), (1, NOW));
        let nameless = read(
            r#"{"id": 17, "cluster": "c", "upstream_id": "5", "state": "success", "ended_ms": 5}"#,
        );
        let row = nameless.expect("is a batch").row;
        assert!(!row.identity.adopted, "its cluster may know a name");
        assert_eq!(
            row.known.ended,
            Some(Moment {
                wall_ms: 5,
                up_ms: NOW.up_ms
            })
        );
        let forgotten = read(r#"{"id": 17, "cluster": "c", "state": "dead"}"#).expect("is a batch");
        assert_eq!(
            forgotten.row.known.phase,
            Phase::Detached { upstream_id: None }
        );
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (text, why) in [
            (
                r#"{"id": 17, "cluster": "c", "state": "running"}"#,
                "has no `upstream_id`",
            ),
            (
                r#"{"id": 0, "cluster": "c", "state": "dead"}"#,
                "ids begin at 1",
            ),
            (r#"{"id": 1, "cluster": "", "state": "dead"}"#, "no cluster"),
            (r#"{"id": 1, "cluster": "c"}"#, "missing field `state`"),
            (
                r#"{"id": 1, "cluster": "c", "state": "idle"}"#,
                "unknown variant `idle`",
            ),
            (
                r#"{"id": 1, "cluster": "c", "state": "dead", "upstream": 3}"#,
                "unknown field `upstream`",
            ),
            (
                r#"{"id": 1, "cluster": "c", "state": "dead", "upstream_id": 1.5}"#,
                "a text or a number",
            ),
            (
                r#"{"id": 5000000000, "cluster": "c", "state": "dead"}"#,
                "5000000000",
            ),
            (
                r#"{"id": 1, "cluster": "c", "state": "running", "phase": "detached", "version": 3}"#,
                "has not ended",
            ),
            (
                r#"{"id": 1, "cluster": "c", "state": "starting", "phase": "sending", "upstream_id": "3", "version": 3}"#,
                "never got one",
            ),
        ] {
            let told = read(text).expect_err(text);
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
