//! The contract between the gateway and one dialect: encode a canonical request, decode an
//! upstream's answer.
//!
//! Everything here is a pure function of its arguments. What to do about a fault, when to look up
//! and when to ask again is decided by the caller, from the proof that
//! [`FaultKind`](crate::FaultKind) carries.

use core::time::Duration;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::UpstreamFault;
use crate::model::{BatchSpec, Field, Observed, StateReading};
use crate::state::BatchState;
use crate::support::Support;
use crate::window::LogWindow;
use crate::wire::{UpstreamRequest, UpstreamResponse, segment};
use crate::{ibm, kyuubi, livy};

/// The dialect that a cluster speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavor {
    /// Apache Livy itself, 0.5 to 0.9.
    Livy,
    /// Apache Livy behind Apache Knox; also IBM Analytics Engine classic.
    Knox,
    /// Apache Livy behind the Azure HDInsight cluster gateway.
    Hdinsight,
    /// IBM Analytics Engine serverless.
    Ibm,
    /// Apache Kyuubi's batch REST API, 1.9 and later.
    Kyuubi,
}

impl Flavor {
    /// Every flavor.
    pub const ALL: [Flavor; 5] = [
        Flavor::Livy,
        Flavor::Knox,
        Flavor::Hdinsight,
        Flavor::Ibm,
        Flavor::Kyuubi,
    ];

    /// Returns the word used in `routes.yaml` and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Flavor::Livy => "livy",
            Flavor::Knox => "knox",
            Flavor::Hdinsight => "hdinsight",
            Flavor::Ibm => "ibm",
            Flavor::Kyuubi => "kyuubi",
        }
    }

    /// Returns the flavor of a word.
    pub fn from_word(word: &str) -> Option<Flavor> {
        Flavor::ALL
            .into_iter()
            .find(|flavor| flavor.as_str() == word)
    }

    /// Returns the translator.
    pub fn dialect(self) -> &'static dyn Dialect {
        match self {
            Flavor::Livy => &livy::LivyDialect {
                front: livy::Front::None,
            },
            Flavor::Knox => &livy::LivyDialect {
                front: livy::Front::Knox,
            },
            Flavor::Hdinsight => &livy::LivyDialect {
                front: livy::Front::Hdinsight,
            },
            Flavor::Ibm => &ibm::IbmDialect,
            Flavor::Kyuubi => &kyuubi::KyuubiDialect,
        }
    }
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What of a cluster's configuration matters to translation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// The instance of an IBM Analytics Engine: part of the default path.
    pub instance_id: Option<String>,
    /// Kyuubi: what a path without scheme gets in front, such as `hdfs://nameservice1`.
    pub default_fs: Option<String>,
}

/// The handle by which a submission can be found again when its answer is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// A UUID that the gateway made for this submission; Kyuubi takes it as the batch's id.
    pub key: String,
    /// The name under which it was sent: the client's, or one derived from the key. `None` where
    /// names are not echoed.
    pub sent_name: Option<String>,
}

/// A batch, as its cluster knows it.
#[derive(Clone, Copy, Debug)]
pub struct BatchRef<'a> {
    /// The upstream's id.
    pub upstream_id: &'a str,
    /// A name that it alone has, if its cluster shows it under one: what is asked by it can't be
    /// answered for another batch, whatever became of the numbers.
    pub sent_name: Option<&'a str>,
}

/// An encoded submission.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// What to send.
    pub request: UpstreamRequest,
    /// How to find it again.
    pub lookup: Lookup,
    /// What was changed on the way, for the client to read.
    pub notes: Vec<Note>,
}

/// Something that translation did to a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Which field.
    pub field: Field,
    /// What was done.
    pub action: NoteAction,
    /// One sentence; goes into `x-livy-gateway-warning` for dropped and emulated fields that change
    /// meaning.
    pub text: String,
}

/// What was done to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoteAction {
    /// Left out.
    Dropped,
    /// Expressed by other means.
    Emulated,
}

impl NoteAction {
    /// Returns the label for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            NoteAction::Dropped => "dropped",
            NoteAction::Emulated => "emulated",
        }
    }
}

/// A field, or one key of `conf`, that the cluster can't honour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The field.
    pub field: Field,
    /// The key of `conf`, when only that is meant.
    pub conf_key: Option<String>,
    /// Why, and what to write instead.
    pub reason: String,
    /// Whether `on_unsupported: drop` may leave it out. False where the job could not run without
    /// it.
    pub droppable: bool,
}

impl Unsupported {
    /// Removes what is unsupported from a submission and says so.
    pub fn drop_from(&self, spec: &mut BatchSpec) -> Note {
        let what = match &self.conf_key {
            Some(key) => {
                spec.conf.remove(key);
                format!("conf.{key}")
            }
            None => {
                spec.clear(self.field);
                self.field.name().to_owned()
            }
        };
        Note {
            field: self.field,
            action: NoteAction::Dropped,
            text: format!("{what} was dropped: {}", self.reason),
        }
    }
}

/// How to read a log.
#[derive(Clone, Debug, PartialEq)]
pub enum LogPlan {
    /// The upstream cuts the window itself.
    Window(UpstreamRequest),
    /// The upstream knows absolute positions only: read pages of `size` from 0 until a short one,
    /// then cut the window here.
    Pages {
        /// Lines a page.
        size: i32,
        /// Whether Livy's section headers are added around the lines.
        headers: bool,
    },
    /// There is no log over REST; this line says where it is.
    Nowhere(&'static str),
}

/// How to ask whether a submission arrived.
#[derive(Clone, Debug, PartialEq)]
pub enum LookupPlan {
    /// This item is the batch, if [`crate::proof::shows`] says so.
    Item(UpstreamRequest),
    /// The list shows it under its name, which no path can carry.
    InList,
    /// Nothing shows it: what is new in the list since the send is a hint.
    NewInList,
}

/// A decoded log answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPart {
    /// Whose lines these are, where the upstream says it.
    pub upstream_id: Option<String>,
    /// The first line's position, where the upstream says it.
    pub from: Option<i64>,
    /// The number of lines there are, where the upstream says it.
    pub total: Option<i64>,
    /// The lines.
    pub lines: Vec<String>,
}

/// What a kill's answer proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone.
    Gone,
    /// The answer proves nothing: read the batch and decide by its state.
    Verify,
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The batches that can be read.
    pub batches: Vec<Observed>,
    /// How many there are, with those that can't be read.
    pub rows: usize,
    /// How many the whole list has, where the upstream says it.
    pub total: Option<usize>,
}

/// What reads cost an upstream, in thousandths of what the state of one batch costs a Livy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The state, or the item, of one batch.
    pub state: usize,
    /// A page of the list, without its rows.
    pub page: usize,
    /// A row of the list.
    pub row: usize,
    /// Whether rows may lag behind items, and for some batches for ever: what lives must be looked
    /// at by itself now and then.
    pub lags: bool,
}

/// One flavor's translation.
pub trait Dialect: Send + Sync {
    /// Returns the flavor.
    fn flavor(&self) -> Flavor;

    /// Returns the path that stands before `/batches` when the cluster's URL has none.
    fn base_path(&self, settings: &Settings) -> String;

    /// Tells what becomes of a field.
    fn support(&self, field: Field) -> Support;

    /// Tells how each operation is served.
    fn operation_support(&self, operation: Operation) -> Support;

    /// Encodes a submission. `spec.proxy_user` is the user that the gateway decided on, not what
    /// the client asked for.
    ///
    /// # Errors
    /// Everything that this flavor can't honour, at once.
    fn create(
        &self,
        spec: &BatchSpec,
        key: &str,
        settings: &Settings,
    ) -> Result<Encoded, Vec<Unsupported>>;

    /// Asks for the batch.
    fn get(&self, batch: BatchRef<'_>) -> UpstreamRequest {
        UpstreamRequest::get(format!("/batches/{}", segment(batch.upstream_id)))
    }

    /// Asks for the state in the cheapest way that can't confuse two batches.
    fn state(&self, batch: BatchRef<'_>) -> UpstreamRequest;

    /// Tells how to read the log.
    fn log(&self, batch: BatchRef<'_>, window: LogWindow) -> LogPlan;

    /// Asks for one page of the log; only called after [`LogPlan::Pages`].
    fn log_page(&self, batch: BatchRef<'_>, from: i32, size: i32) -> UpstreamRequest;

    /// Asks for a page of the list.
    fn list(&self, from: usize, size: usize) -> UpstreamRequest {
        UpstreamRequest::get(format!("/batches?from={from}&size={size}"))
    }

    /// Says what reads cost.
    fn cost(&self) -> Cost;

    /// Tells whether [`Dialect::list`] honours its window; if not, one request returns everything.
    fn list_is_paged(&self) -> bool {
        true
    }

    /// Kills and forgets the batch.
    fn delete(&self, batch: BatchRef<'_>) -> UpstreamRequest {
        UpstreamRequest::delete(format!("/batches/{}", segment(batch.upstream_id)))
    }

    /// Tells how to ask whether a submission arrived.
    fn lookup(&self, lookup: &Lookup) -> LookupPlan;

    /// Tells whether the cluster must be asked before a submission is sent, because its key means
    /// something only with what was there before.
    fn asks_first(&self, _lookup: &Lookup) -> bool {
        false
    }

    /// Tells whether a batch shows the `proxyUser` that its submission asked for, if it shows any.
    /// Whoever stands in front may put in another.
    fn shows_proxy_user(&self) -> bool {
        false
    }

    /// For how long at least the cluster shows what has ended. A look-up that comes later and finds
    /// nothing proves nothing.
    fn remembers(&self) -> Duration;

    /// Where the cluster lists its Spark applications with their `conf`, as an absolute path, if it
    /// does. `base` is the path of its batch API.
    fn applications(&self, _base: &str) -> Option<String> {
        None
    }

    /// Tells whether the cluster itself keeps names unique, and for how long a name is taken.
    fn keeps_names(&self) -> bool {
        false
    }

    /// Tells whether an answer to a submission comes from a handler of the batch server that may
    /// leave a row behind which never ran. After any other one what is found is the job, also if it
    /// has ended badly by then: Livy's own 500 is read as a refusal, and that of whoever stands in
    /// front only means that it gave up waiting.
    fn may_leave_a_row(&self, _response: &UpstreamResponse<'_>) -> bool {
        false
    }

    /// Asks whether the cluster is alive, at the least cost.
    fn probe(&self) -> UpstreamRequest;

    /// Asks the same by way of a batch that the cluster is known to have, where that costs less.
    fn probe_by(&self, _upstream_id: &str) -> Option<UpstreamRequest> {
        None
    }

    /// Tells whether an answer of 500 or more was written by the batch server itself: it works, and
    /// this one request it could not do. Anything else of that kind is said by, or about, whoever
    /// stands in front.
    fn is_own_fault(&self, response: &UpstreamResponse<'_>) -> bool;

    /// Reads the answer to a submission.
    ///
    /// # Errors
    /// What the answer proves.
    fn decode_create(&self, response: &UpstreamResponse<'_>) -> Result<Observed, UpstreamFault>;

    /// Reads a batch.
    ///
    /// # Errors
    /// What the answer proves.
    fn decode_get(&self, response: &UpstreamResponse<'_>) -> Result<Observed, UpstreamFault>;

    /// Reads a state: the upstream's id, and the reading.
    ///
    /// # Errors
    /// What the answer proves.
    fn decode_state(
        &self,
        response: &UpstreamResponse<'_>,
    ) -> Result<(String, StateReading), UpstreamFault>;

    /// Reads a log window or page.
    ///
    /// # Errors
    /// What the answer proves.
    fn decode_log(&self, response: &UpstreamResponse<'_>) -> Result<LogPart, UpstreamFault>;

    /// Reads a page of the list.
    ///
    /// # Errors
    /// What the answer proves.
    fn decode_list(&self, response: &UpstreamResponse<'_>) -> Result<Listing, UpstreamFault>;

    /// Reads the answer to a kill.
    ///
    /// # Errors
    /// What the answer proves; `NotFound` when it was gone already.
    fn decode_delete(&self, response: &UpstreamResponse<'_>) -> Result<Deleted, UpstreamFault>;

    /// Tells whether a batch found after a refused POST is the refusal's leftover, to be removed or
    /// ignored, and not a job.
    fn is_leftover(&self, observed: &Observed) -> bool {
        let StateReading::Known(state) = observed.state else {
            return false;
        };
        state == BatchState::Starting && observed.log.is_empty() && observed.app_id.is_none()
    }
}

/// The operations of the canonical API; also the `operation` label of every metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the API's")]
pub enum Operation {
    CreateBatch,
    ListBatches,
    GetBatch,
    GetState,
    GetLog,
    DeleteBatch,
    /// Whatever is none of the six: `/version`, unknown paths.
    Other,
}

impl Operation {
    /// Every operation, `Other` last.
    pub const ALL: [Operation; 7] = [
        Operation::CreateBatch,
        Operation::ListBatches,
        Operation::GetBatch,
        Operation::GetState,
        Operation::GetLog,
        Operation::DeleteBatch,
        Operation::Other,
    ];

    /// Returns its place in [`Operation::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Operation::CreateBatch => "create_batch",
            Operation::ListBatches => "list_batches",
            Operation::GetBatch => "get_batch",
            Operation::GetState => "get_state",
            Operation::GetLog => "get_log",
            Operation::DeleteBatch => "delete_batch",
            Operation::Other => "other",
        }
    }
}
