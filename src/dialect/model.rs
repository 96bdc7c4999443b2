//! The canonical model: what a client sends, what a client sees, and what an upstream was heard to
//! say.
//!
//! Key names, order and nullability follow Apache Livy 0.7 (`BatchSessionServlet`,
//! `CreateBatchRequest`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::state::BatchState;

/// Spark configuration as Livy carries it: scalar values already turned into text.
pub type ConfMap = BTreeMap<String, String>;

/// `appInfo`: the one open map of Livy's schema. Values are texts or null, because typed clients
/// read it as a map of texts.
pub type AppInfo = BTreeMap<String, Option<String>>;

/// A field of Livy's `CreateBatchRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// The application: a jar or a Python file.
    File,
    /// The user that the job shall run as.
    ProxyUser,
    /// The main class of a JVM application.
    ClassName,
    /// The application's arguments.
    Args,
    /// Jars for driver and executors.
    Jars,
    /// Python files for driver and executors.
    PyFiles,
    /// Files for each executor's working folder.
    Files,
    /// Driver memory, such as `512m`.
    DriverMemory,
    /// Driver cores.
    DriverCores,
    /// Executor memory, such as `2g`.
    ExecutorMemory,
    /// Cores of each executor.
    ExecutorCores,
    /// How many executors.
    NumExecutors,
    /// Archives for each executor's working folder.
    Archives,
    /// The YARN queue.
    Queue,
    /// The batch's name, unique among live batches.
    Name,
    /// Spark configuration.
    Conf,
}

impl Field {
    /// Every field, in the order of Livy's documentation.
    pub const ALL: [Field; 16] = [
        Field::File,
        Field::ProxyUser,
        Field::ClassName,
        Field::Args,
        Field::Jars,
        Field::PyFiles,
        Field::Files,
        Field::DriverMemory,
        Field::DriverCores,
        Field::ExecutorMemory,
        Field::ExecutorCores,
        Field::NumExecutors,
        Field::Archives,
        Field::Queue,
        Field::Name,
        Field::Conf,
    ];

    /// Returns the field's JSON key.
    pub const fn name(self) -> &'static str {
        match self {
            Field::File => "file",
            Field::ProxyUser => "proxyUser",
            Field::ClassName => "className",
            Field::Args => "args",
            Field::Jars => "jars",
            Field::PyFiles => "pyFiles",
            Field::Files => "files",
            Field::DriverMemory => "driverMemory",
            Field::DriverCores => "driverCores",
            Field::ExecutorMemory => "executorMemory",
            Field::ExecutorCores => "executorCores",
            Field::NumExecutors => "numExecutors",
            Field::Archives => "archives",
            Field::Queue => "queue",
            Field::Name => "name",
            Field::Conf => "conf",
        }
    }

    /// Returns the field of a JSON key, case-sensitive as in Livy.
    pub fn from_name(name: &str) -> Option<Field> {
        Field::ALL.into_iter().find(|field| field.name() == name)
    }
}

/// A submission after it was read: every value has its final type, absent and `null` are one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    missing_docs,
    reason = "the fields are documented at `Field`, name for name"
)]
pub struct BatchSpec {
    pub file: String,
    pub proxy_user: Option<String>,
    pub class_name: Option<String>,
    pub args: Vec<String>,
    pub jars: Vec<String>,
    pub py_files: Vec<String>,
    pub files: Vec<String>,
    pub driver_memory: Option<String>,
    pub driver_cores: Option<i32>,
    pub executor_memory: Option<String>,
    pub executor_cores: Option<i32>,
    pub num_executors: Option<i32>,
    pub archives: Vec<String>,
    pub queue: Option<String>,
    pub name: Option<String>,
    pub conf: ConfMap,
}

impl BatchSpec {
    /// Tells whether the client gave the field a value.
    pub fn has(&self, field: Field) -> bool {
        match field {
            Field::File => !self.file.is_empty(),
            Field::ProxyUser => self.proxy_user.is_some(),
            Field::ClassName => self.class_name.is_some(),
            Field::Args => !self.args.is_empty(),
            Field::Jars => !self.jars.is_empty(),
            Field::PyFiles => !self.py_files.is_empty(),
            Field::Files => !self.files.is_empty(),
            Field::DriverMemory => self.driver_memory.is_some(),
            Field::DriverCores => self.driver_cores.is_some(),
            Field::ExecutorMemory => self.executor_memory.is_some(),
            Field::ExecutorCores => self.executor_cores.is_some(),
            Field::NumExecutors => self.num_executors.is_some(),
            Field::Archives => !self.archives.is_empty(),
            Field::Queue => self.queue.is_some(),
            Field::Name => self.name.is_some(),
            Field::Conf => !self.conf.is_empty(),
        }
    }

    /// Removes the field's value: the effect of `on_unsupported: drop`.
    pub fn clear(&mut self, field: Field) {
        match field {
            Field::File => self.file.clear(),
            Field::ProxyUser => self.proxy_user = None,
            Field::ClassName => self.class_name = None,
            Field::Args => self.args.clear(),
            Field::Jars => self.jars.clear(),
            Field::PyFiles => self.py_files.clear(),
            Field::Files => self.files.clear(),
            Field::DriverMemory => self.driver_memory = None,
            Field::DriverCores => self.driver_cores = None,
            Field::ExecutorMemory => self.executor_memory = None,
            Field::ExecutorCores => self.executor_cores = None,
            Field::NumExecutors => self.num_executors = None,
            Field::Archives => self.archives.clear(),
            Field::Queue => self.queue = None,
            Field::Name => self.name = None,
            Field::Conf => self.conf.clear(),
        }
    }

    /// Returns the field's value as JSON, `None` when the client gave none.
    pub fn value(&self, field: Field) -> Option<serde_json::Value> {
        use serde_json::Value;
        let list = |items: &Vec<String>| Value::from(items.clone());
        self.has(field).then(|| match field {
            Field::File => Value::from(self.file.clone()),
            Field::ProxyUser => Value::from(self.proxy_user.clone()),
            Field::ClassName => Value::from(self.class_name.clone()),
            Field::Args => list(&self.args),
            Field::Jars => list(&self.jars),
            Field::PyFiles => list(&self.py_files),
            Field::Files => list(&self.files),
            Field::DriverMemory => Value::from(self.driver_memory.clone()),
            Field::DriverCores => Value::from(self.driver_cores),
            Field::ExecutorMemory => Value::from(self.executor_memory.clone()),
            Field::ExecutorCores => Value::from(self.executor_cores),
            Field::NumExecutors => Value::from(self.num_executors),
            Field::Archives => list(&self.archives),
            Field::Queue => Value::from(self.queue.clone()),
            Field::Name => Value::from(self.name.clone()),
            Field::Conf => self
                .conf
                .iter()
                .map(|(k, v)| (k.clone(), Value::from(v.clone())))
                .collect(),
        })
    }
}

/// A batch as a client sees it: Livy's object, every key always present, in Livy's order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// The gateway's id: positive, 32 bit, never reused.
    pub id: i32,
    /// The name that the client gave, not one that was made up for look-ups.
    pub name: Option<String>,
    /// Who submitted it.
    pub owner: Option<String>,
    /// The user that the job runs as, when the cluster said so.
    pub proxy_user: Option<String>,
    /// One of the six states that a client may see.
    pub state: BatchState,
    /// YARN application id, Spark app id; null until known.
    pub app_id: Option<String>,
    /// `driverLogUrl` and `sparkUiUrl` always, and what the gateway knows besides.
    pub app_info: AppInfo,
    /// The last lines of the log, ten at the most.
    pub log: Vec<String>,
}

/// What an upstream said about one batch, in canonical words but under the upstream's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// The upstream's id as text: decimal for Livy kinds, a UUID for Kyuubi.
    pub upstream_id: String,
    /// The name as the upstream has it (`None`: it has none, or never says).
    pub name: Option<String>,
    /// Whether the upstream says what the name is, be it null: a Livy that does knows no other name
    /// for a batch.
    pub name_shown: bool,
    /// The account that submitted it, as the upstream sees it.
    pub owner: Option<String>,
    /// The effective user.
    pub proxy_user: Option<String>,
    /// The state, or the reason why there is none.
    pub state: StateReading,
    /// YARN application id, Spark app id.
    pub app_id: Option<String>,
    /// `driverLogUrl`, `sparkUiUrl` and the flavor's extras.
    pub app_info: AppInfo,
    /// The last lines of the log, where the upstream's item carries them.
    pub log: Vec<String>,
    /// The upstream said that this answer is an older batch found under the client-chosen id
    /// (Kyuubi).
    pub duplicate: bool,
}

/// One reading of an upstream's state word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateReading {
    /// A word of the contract, translated.
    Known(BatchState),
    /// A known word that tells nothing new: keep the last known state, else `starting`.
    Hold,
    /// A word outside the contract (kept for one log line): keep the last known state, else
    /// `starting`.
    Unknown(String),
}

impl StateReading {
    /// Resolves the reading against what was known before. Never leaves a final state, never goes
    /// from running to starting.
    pub fn settle(&self, last: Option<BatchState>) -> BatchState {
        let next = match self {
            StateReading::Known(state) => *state,
            StateReading::Hold | StateReading::Unknown(_) => last.unwrap_or(BatchState::Starting),
        };
        match last {
            Some(before) if before.is_terminal() => before,
            Some(BatchState::Running) if next == BatchState::Starting => BatchState::Running,
            _ => next,
        }
    }
}
