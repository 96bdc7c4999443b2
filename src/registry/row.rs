//! A batch as it is stored: the identity that never changes, and what is known.

use livy_dialect::{AppInfo, BatchState, Lookup};
use tokio::time::Instant;

use super::decide::absence::Silence;
use crate::clock::Moment;

/// The gateway's id of a batch: positive, 32 bit, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayId(pub i32);

impl std::fmt::Display for GatewayId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a batch is in its life. Goes forward only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Recorded; whether it was created is not known (yet).
    Sending,
    /// It exists.
    Bound {
        /// Its id at the cluster.
        upstream_id: String,
    },
    /// It never came to be. Nobody sees it.
    Refused,
    /// It has ended as far as anybody can tell: its cluster forgot it, or gave its id to another
    /// batch, or never knew.
    Detached {
        /// The id that it had.
        upstream_id: Option<String>,
    },
    /// Its owner deleted it. 404 from then on.
    Deleted {
        /// The id that it had.
        upstream_id: Option<String>,
    },
}

impl Phase {
    /// Returns the word in the database.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Phase::Sending => "sending",
            Phase::Bound { .. } => "bound",
            Phase::Refused => "refused",
            Phase::Detached { .. } => "detached",
            Phase::Deleted { .. } => "deleted",
        }
    }

    /// Reads the word of the database; what is half there is treated as gone.
    pub fn from_columns(word: &str, upstream_id: Option<String>) -> Phase {
        match (word, upstream_id) {
            ("sending", _) => Phase::Sending,
            ("bound", Some(upstream_id)) => Phase::Bound { upstream_id },
            ("refused", _) => Phase::Refused,
            ("deleted", upstream_id) => Phase::Deleted { upstream_id },
            (_, upstream_id) => Phase::Detached { upstream_id },
        }
    }

    /// Returns the id at the cluster.
    pub fn upstream_id(&self) -> Option<&str> {
        match self {
            Phase::Bound { upstream_id } => Some(upstream_id),
            Phase::Detached { upstream_id } | Phase::Deleted { upstream_id } => {
                upstream_id.as_deref()
            }
            Phase::Sending | Phase::Refused => None,
        }
    }

    /// Orders phases: what is higher came later.
    pub const fn rank(&self) -> u8 {
        match self {
            Phase::Sending => 0,
            Phase::Bound { .. } => 1,
            Phase::Refused => 2,
            Phase::Detached { .. } => 3,
            Phase::Deleted { .. } => 4,
        }
    }

    /// Tells whether clients may know of it.
    pub const fn is_visible(&self) -> bool {
        match self {
            Phase::Sending | Phase::Bound { .. } | Phase::Detached { .. } => true,
            Phase::Refused | Phase::Deleted { .. } => false,
        }
    }
}

/// What never changes about a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Its id for clients.
    pub id: GatewayId,
    /// Its cluster.
    pub cluster: String,
    /// The route by which it came.
    pub route: String,
    /// How it was sent, and can be found again.
    pub lookup: Lookup,
    /// Who submitted it; for a batch that was created outside the gateway, the user that its
    /// cluster names.
    pub owner: Option<String>,
    /// The name that the client gave.
    pub name: Option<String>,
    /// Whether it was created outside the gateway.
    pub adopted: bool,
    /// When it was recorded.
    pub created: Moment,
    /// For how long after its end it keeps its name.
    pub name_hold_ms: i64,
    /// A hash of the submission.
    pub body_hash: Option<String>,
    /// The highest id that its cluster was known to have given when it was sent.
    pub above: Option<i64>,
}

/// What is known of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Where it is in its life.
    pub phase: Phase,
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
    /// When the cluster last said something about it, wall time; 0 if never. For people to read.
    pub seen_ms: i64,
    /// When its end was first seen.
    pub ended: Option<Moment>,
    /// When it became known what came of its submission.
    pub resolved: Option<Moment>,
    /// The user that the cluster runs it as.
    pub proxy_user: Option<String>,
    /// Whether its owner may have heard of it: from then on it is no answer to another submission
    /// of its name.
    pub told: bool,
    /// Whether anybody was shown it in the time of this process: from then on its id stays
    /// answerable, and it goes nowhere else. What an earlier process left open never vanishes.
    pub shown: bool,
    /// Whether the cluster showed the name under which it was submitted.
    pub echoed: bool,
    /// Whether it is not proven to be this submission, only presumed.
    pub presumed: bool,
    /// Whether its owner asked for its end.
    pub kill_asked: bool,
    /// Whether it was given up without the cluster's own word, so that the job may still show up.
    pub may_arrive: bool,
    /// Whether whoever stood in front has answered the submission, and so holds it no longer.
    pub let_go: bool,
    /// For how long look-ups that were answered have been showing nothing, one after the other,
    /// over all processes.
    pub quiet_ms: i64,
    /// How long ago its last byte left, over all processes.
    pub waited_ms: i64,
    /// Whether its cluster said that it has it, and not under which id, or showed what may be it.
    pub arrived: bool,
    /// Whether it is proven that nothing runs: it did not arrive, or was refused. Its key is free.
    pub absent: bool,
    /// When a look-up was last answered, wall time; 0 if never.
    pub looked_ms: i64,
    /// Whether its cluster, in the time of this process, once said that there is no such batch.
    pub doubted: bool,
    /// When, in the time of this process, the cluster last said something about it.
    pub heard: Option<Instant>,
    /// When it was read from the store, if its cluster had spoken of it shortly before.
    pub recalled: Option<Instant>,
    /// When, in the time of this process, the cluster last showed the whole item.
    pub item: Option<Instant>,
    /// For how long, in the time of this process, its cluster has been saying that there is no such
    /// batch, each time that it was asked.
    pub missing: Option<Silence>,
}

impl Known {
    /// What is known of a submission that was just recorded.
    pub fn new() -> Known {
        Known {
            phase: Phase::Sending,
            state: BatchState::Starting,
            app_id: None,
            app_info: AppInfo::from([
                ("driverLogUrl".to_owned(), None),
                ("sparkUiUrl".to_owned(), None),
            ]),
            log: Vec::new(),
            complete: false,
            seen_ms: 0,
            ended: None,
            resolved: None,
            proxy_user: None,
            told: false,
            shown: false,
            echoed: false,
            presumed: false,
            kill_asked: false,
            may_arrive: false,
            let_go: false,
            quiet_ms: 0,
            waited_ms: 0,
            arrived: false,
            absent: false,
            looked_ms: 0,
            doubted: false,
            heard: None,
            recalled: None,
            item: None,
            missing: None,
        }
    }
}

impl Known {
    /// Tells whether nobody knows of it and nothing is known of it: then another attempt of its
    /// submission may take its place.
    pub fn may_vanish(&self) -> bool {
        self.phase == Phase::Sending && !self.told && !self.shown && !self.kill_asked
    }

    /// Tells whether its key is free: it never came to be. What was to end keeps it, so that
    /// whoever sends it again learns of the end.
    pub fn frees_key(&self) -> bool {
        self.phase == Phase::Refused || (self.absent && !self.kill_asked)
    }
}

impl Default for Known {
    fn default() -> Self {
        Known::new()
    }
}

/// One batch as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What never changes.
    pub identity: Identity,
    /// What is known.
    pub known: Known,
    /// Counts the writes.
    pub version: i64,
    /// Until when its `Idempotency-Key` is remembered.
    pub key_until: Option<Moment>,
}
