//! A batch with all that a store keeps of it, the columns it is kept in, and what no batch can be.

use livy_dialect::BatchState;
use serde_json::Value;

use crate::registry::row::{Phase, Row};

/// A batch with all that a store keeps of it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    /// What the gateway works with.
    pub(super) row: Row,
    /// The client's `Idempotency-Key`.
    pub(super) key: Option<String>,
}

impl Record {
    pub(super) fn id(&self) -> i32 {
        self.row.identity.id.0
    }

    /// Returns cluster and upstream id, which no other batch may have at the same time.
    pub(super) fn place(&self) -> Option<(String, String)> {
        match &self.row.known.phase {
            Phase::Bound { upstream_id } => {
                Some((self.row.identity.cluster.clone(), upstream_id.clone()))
            }
            Phase::Sending | Phase::Refused | Phase::Detached { .. } | Phase::Deleted { .. } => {
                None
            }
        }
    }

    /// Returns owner and key, which no other batch may have at the same time.
    pub(super) fn claim(&self) -> Option<(String, String)> {
        self.row.identity.owner.clone().zip(self.key.clone())
    }
}

/// Returns what is to stand in each column. The columns of both stores have the same names.
pub(super) fn columns(record: &Record) -> [(&'static str, Value); 41] {
    let Record { row, key } = record;
    let (identity, known) = (&row.identity, &row.known);
    let json = |text: Result<String, _>, none: &str| {
        Value::from(text.unwrap_or_else(|_: serde_json::Error| none.to_owned()))
    };
    [
        ("id", identity.id.0.into()),
        ("cluster", identity.cluster.as_str().into()),
        ("route", identity.route.as_str().into()),
        ("lookup_key", identity.lookup.key.as_str().into()),
        ("sent_name", identity.lookup.sent_name.as_deref().into()),
        ("owner", identity.owner.as_deref().into()),
        ("name", identity.name.as_deref().into()),
        ("proxy_user", known.proxy_user.as_deref().into()),
        ("adopted", identity.adopted.into()),
        ("phase", known.phase.as_str().into()),
        ("upstream_id", known.phase.upstream_id().into()),
        ("state", known.state.as_str().into()),
        ("app_id", known.app_id.as_deref().into()),
        // Both are kept as text that is JSON.
        (
            "app_info",
            json(serde_json::to_string(&known.app_info), "{}"),
        ),
        ("log", json(serde_json::to_string(&known.log), "[]")),
        ("complete", known.complete.into()),
        ("created_ms", identity.created.wall_ms.into()),
        ("created_up_ms", identity.created.up_ms.into()),
        ("seen_ms", known.seen_ms.into()),
        ("ended_ms", known.ended.map(|ended| ended.wall_ms).into()),
        ("ended_up_ms", known.ended.map(|ended| ended.up_ms).into()),
        ("name_hold_ms", identity.name_hold_ms.into()),
        ("idempotency_key", key.as_deref().into()),
        ("idempotency_hash", identity.body_hash.as_deref().into()),
        (
            "idempotency_until_ms",
            row.key_until.map(|until| until.wall_ms).into(),
        ),
        (
            "idempotency_until_up_ms",
            row.key_until.map_or(0, |until| until.up_ms).into(),
        ),
        ("version", row.version.into()),
        ("told", known.told.into()),
        ("quiet_ms", known.quiet_ms.into()),
        ("looked_ms", known.looked_ms.into()),
        ("let_go", known.let_go.into()),
        ("may_arrive", known.may_arrive.into()),
        ("kill_asked", known.kill_asked.into()),
        ("echoed", known.echoed.into()),
        ("presumed", known.presumed.into()),
        ("above", identity.above.into()),
        ("waited_ms", known.waited_ms.into()),
        ("arrived", known.arrived.into()),
        ("absent", known.absent.into()),
        (
            "resolved_ms",
            known.resolved.map(|resolved| resolved.wall_ms).into(),
        ),
        (
            "resolved_up_ms",
            known.resolved.map(|resolved| resolved.up_ms).into(),
        ),
    ]
}

/// Tells why there can be no such batch.
pub(super) fn impossible(row: &Row) -> Option<&'static str> {
    let (identity, known) = (&row.identity, &row.known);
    let (terminal, ended) = (known.state.is_terminal(), known.ended.is_some());
    // What a list showed ended for the first time gets its end a moment later.
    let just_listed = identity.adopted && known.seen_ms == 0;
    match &known.phase {
        _ if identity.id.0 < 1 => Some("ids begin at 1"),
        _ if identity.cluster.is_empty() => Some("it has no cluster"),
        Phase::Sending if known.state != BatchState::Starting || ended => {
            Some("it is still being sent, and has ended or runs")
        }
        Phase::Detached { .. } if !terminal => {
            Some("its cluster no longer has it, and it has not ended")
        }
        Phase::Bound { .. } | Phase::Detached { .. } if terminal && !ended && !just_listed => {
            Some("it has ended, and nobody knows when: `ended_ms` is missing")
        }
        Phase::Bound { .. } | Phase::Detached { .. } if ended && !terminal => {
            Some("it has an end, and its `state` is none")
        }
        _ => None,
    }
}
