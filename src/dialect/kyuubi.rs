//! Apache Kyuubi's batch REST API.
//!
//! Follows Kyuubi 1.9 to 1.12 (`BatchesResource`, `KyuubiBatchSession`, `BatchJobSubmission`,
//! `ApplicationOperation`) and what 1.10.2 and 1.12.0 answered. Kyuubi has no typed resource fields
//! (all become Spark configuration), no integer ids, no `/state`, says 200 to everything and 500 to
//! every bad request, and ignores unknown fields without a word: so nothing of Livy's is sent under
//! Livy's name.

use core::time::Duration;

use serde_json::{Map, Value, json};

use crate::fault::{FaultKind, UpstreamFault};
use crate::flavor::{
    BatchRef, Cost, Deleted, Dialect, Encoded, Flavor, Listing, LogPart, LogPlan, Lookup,
    LookupPlan, Note, NoteAction, Operation, Settings, Unsupported,
};
use crate::json;
use crate::livy::{app_info, decode_sessions};
use crate::model::{BatchSpec, ConfMap, Field, Observed, StateReading};
use crate::request::scheme;
use crate::state::BatchState;
use crate::support::{Support, refused_fields};
use crate::window::LogWindow;
use crate::wire::{UpstreamRequest, UpstreamResponse, segment};

/// Apache Kyuubi.
#[derive(Debug)]
pub struct KyuubiDialect;

/// The key under which Kyuubi takes a client-chosen batch id.
const BATCH_ID: &str = "kyuubi.batch.id";

/// The two spellings of the effective user; both are sent, because the first exists only since 1.9.
const PROXY_USER_KEYS: [&str; 2] = ["kyuubi.session.proxy.user", "hive.server2.proxy.user"];

/// Configuration that decides about identity, place or queueing on the Kyuubi host: never a
/// client's to set.
const RESERVED: [&str; 12] = [
    BATCH_ID,
    "kyuubi.batch.priority",
    "kyuubi.batch.impl.version",
    "kyuubi.batch.resource.uploaded",
    "kyuubi.session.real.user",
    "spark.yarn.principal",
    "spark.yarn.keytab",
    "spark.master",
    "spark.submit.deployMode",
    "spark.yarn.jar",
    "spark.yarn.jars",
    "spark.yarn.archive",
];

/// Lines a page when a log is read: large enough that one request reads nearly every log, small
/// enough to bound a page.
const LOG_PAGE: i32 = 10_000;

/// Longest part of `appDiagnostic` that is kept: on Kubernetes it is a whole pod status.
const LONGEST_DIAGNOSTIC: usize = 1000;

impl Dialect for KyuubiDialect {
    fn flavor(&self) -> Flavor {
        Flavor::Kyuubi
    }

    fn base_path(&self, _settings: &Settings) -> String {
        "/api/v1".to_owned()
    }

    fn support(&self, field: Field) -> Support {
        match field {
            Field::File => Support::Emulated(
                "`resource`; `batchType` by the file's kind; a path without scheme gets `default_fs`, or a warning that the Kyuubi host reads it",
            ),
            Field::ProxyUser => Support::Emulated(
                "`conf[\"kyuubi.session.proxy.user\"]` and `conf[\"hive.server2.proxy.user\"]`",
            ),
            Field::ClassName => Support::Emulated(
                "`className` for JVM jobs, where it is required; dropped with a note for Python files",
            ),
            Field::Args => Support::Native,
            Field::Jars => Support::Emulated("`conf[\"spark.jars\"]`, the field's first"),
            Field::PyFiles => {
                Support::Emulated("`conf[\"spark.submit.pyFiles\"]`, the field's first")
            }
            Field::Files => Support::Emulated("`conf[\"spark.files\"]`, the field's first"),
            Field::Archives => Support::Emulated("`conf[\"spark.archives\"]`, the field's first"),
            Field::DriverMemory => Support::Emulated("`conf[\"spark.driver.memory\"]`"),
            Field::DriverCores => Support::Emulated("`conf[\"spark.driver.cores\"]`"),
            Field::ExecutorMemory => Support::Emulated("`conf[\"spark.executor.memory\"]`"),
            Field::ExecutorCores => Support::Emulated("`conf[\"spark.executor.cores\"]`"),
            Field::NumExecutors => Support::Emulated("`conf[\"spark.executor.instances\"]`"),
            Field::Queue => Support::Emulated("`conf[\"spark.yarn.queue\"]`"),
            Field::Name => {
                Support::Emulated("`name`; Kyuubi doesn't keep names unique, the gateway does")
            }
            Field::Conf => Support::Emulated(
                "`conf`; reserved keys (`spark.master`, `spark.kerberos.*`, `kyuubi.batch.*`, …) are refused, keys without `spark.` get a warning",
            ),
        }
    }

    fn operation_support(&self, operation: Operation) -> Support {
        match operation {
            Operation::CreateBatch => Support::Emulated(
                "200 becomes 201; the batch id is chosen by the gateway, so that a lost answer can be looked up",
            ),
            Operation::ListBatches => Support::Emulated(
                "read in pages until a short one (Kyuubi's `total` is the page's length)",
            ),
            Operation::GetBatch => Support::Emulated(
                "`log` holds the last lines that are known: of a log that was read, or read when the batch ended; more would cost a second request for each poll",
            ),
            Operation::GetState => Support::Emulated("read from the item; Kyuubi has no `/state`"),
            Operation::GetLog => Support::Emulated(
                "the end is found, and the window read, by explicit positions; Livy's section headers are added",
            ),
            Operation::DeleteBatch => Support::Emulated(
                "`success: false` is settled by reading the batch again; afterwards 404, as Livy",
            ),
            Operation::Other => Support::Native,
        }
    }

    fn create(
        &self,
        spec: &BatchSpec,
        key: &str,
        settings: &Settings,
    ) -> Result<Encoded, Vec<Unsupported>> {
        let mut unsupported = refused_fields(self, spec);
        unsupported.extend(reserved_keys(&spec.conf));
        unsupported.extend(inexpressible_lists(spec));
        let python = is_python(&spec.file);
        if !python && spec.class_name.is_none() {
            unsupported.push(Unsupported {
                field: Field::ClassName,
                conf_key: None,
                reason: "Kyuubi requires className for every application that is not a .py file"
                    .into(),
                droppable: false,
            });
        }
        if !unsupported.is_empty() {
            return Err(unsupported);
        }
        let mut notes = Vec::new();
        let resource = resource(&spec.file, settings, &mut notes);
        let conf = conf_of(spec, key, settings, &mut notes);
        let mut body = Map::new();
        body.insert(
            "batchType".into(),
            json!(if python { "PYSPARK" } else { "SPARK" }),
        );
        body.insert("resource".into(), json!(resource));
        match &spec.class_name {
            Some(class) if !python => {
                body.insert("className".into(), json!(class));
            }
            Some(_) => notes.push(Note {
                field: Field::ClassName,
                action: NoteAction::Dropped,
                text: "className was dropped: a Python file has none".into(),
            }),
            None => {}
        }
        if let Some(name) = &spec.name {
            body.insert("name".into(), json!(name));
        }
        body.insert("args".into(), json!(spec.args));
        body.insert("conf".into(), json!(conf));
        Ok(Encoded {
            request: UpstreamRequest::post("/batches", Value::Object(body)),
            lookup: Lookup {
                key: key.to_owned(),
                sent_name: None,
            },
            notes,
        })
    }

    fn state(&self, batch: BatchRef<'_>) -> UpstreamRequest {
        self.get(batch)
    }

    fn log(&self, _batch: BatchRef<'_>, _window: LogWindow) -> LogPlan {
        LogPlan::Pages {
            size: LOG_PAGE,
            headers: true,
        }
    }

    fn log_page(&self, batch: BatchRef<'_>, from: i32, size: i32) -> UpstreamRequest {
        // Without `from` Kyuubi goes on where the previous reader of the batch stopped, whoever
        // that was.
        UpstreamRequest::get(format!(
            "/batches/{}/localLog?from={from}&size={size}",
            segment(batch.upstream_id)
        ))
    }

    /// An item may cost a request to another instance, or to the resource manager; rows come from
    /// the metadata store alone, and for batches of an instance that is gone never change.
    fn cost(&self) -> Cost {
        Cost {
            state: 2_000,
            page: 1_000,
            row: 5,
            lags: true,
        }
    }

    fn lookup(&self, lookup: &Lookup) -> LookupPlan {
        LookupPlan::Item(UpstreamRequest::get(format!(
            "/batches/{}",
            segment(&lookup.key)
        )))
    }

    fn remembers(&self) -> Duration {
        // `kyuubi.metadata.max.age` is three days.
        Duration::from_secs(2 * 24 * 3600)
    }

    fn may_leave_a_row(&self, response: &UpstreamResponse<'_>) -> bool {
        response.status == 500 && is_from_handler(response)
    }

    fn probe(&self) -> UpstreamRequest {
        UpstreamRequest::get("/version")
    }

    fn is_own_fault(&self, response: &UpstreamResponse<'_>) -> bool {
        is_from_handler(response)
    }

    fn decode_create(&self, response: &UpstreamResponse<'_>) -> Result<Observed, UpstreamFault> {
        accept(response, true).and_then(|map| observed(&map, response))
    }

    fn decode_get(&self, response: &UpstreamResponse<'_>) -> Result<Observed, UpstreamFault> {
        accept(response, false).and_then(|map| observed(&map, response))
    }

    fn decode_state(
        &self,
        response: &UpstreamResponse<'_>,
    ) -> Result<(String, StateReading), UpstreamFault> {
        self.decode_get(response)
            .map(|observed| (observed.upstream_id, observed.state))
    }

    fn decode_log(&self, response: &UpstreamResponse<'_>) -> Result<LogPart, UpstreamFault> {
        let map = accept(response, false)?;
        if !map.get("logRowSet").is_some_and(Value::is_array) {
            return Err(UpstreamFault::unreadable(
                response,
                "the log answer has no \"logRowSet\"",
            ));
        }
        Ok(LogPart {
            upstream_id: None,
            from: None,
            total: None,
            lines: json::lines(&map, "logRowSet"),
        })
    }

    fn decode_list(&self, response: &UpstreamResponse<'_>) -> Result<Listing, UpstreamFault> {
        let map = accept(response, false)?;
        decode_sessions(&map, "batches", response, observed)
    }

    fn decode_delete(&self, response: &UpstreamResponse<'_>) -> Result<Deleted, UpstreamFault> {
        // `msg` holds the spark-submit command line or the whole record with its configuration: it
        // is not even looked at.
        let map = accept(response, false)?;
        Ok(if map.get("success") == Some(&Value::Bool(true)) {
            Deleted::Gone
        } else {
            Deleted::Verify
        })
    }

    fn is_leftover(&self, observed: &Observed) -> bool {
        // A POST refused late leaves a row that never ran: CANCELED, or ERROR when the execution
        // pool was full. What ran has, or had, an application.
        let shown = |key: &str| observed.app_info.get(key).cloned().flatten();
        let never_ran = observed.app_id.is_none()
            && shown("sparkUiUrl").is_none()
            && shown("kyuubiAppState").is_none_or(|state| {
                is(&Some(state.clone()), "UNKNOWN") || is(&Some(state), "NOT_FOUND")
            });
        let ended = matches!(
            observed.state,
            StateReading::Known(BatchState::Killed | BatchState::Dead)
        );
        ended && never_ran
    }
}

fn reserved_keys(conf: &ConfMap) -> impl Iterator<Item = Unsupported> + '_ {
    conf.keys()
        .filter(|key| is_reserved(key))
        .map(|key| Unsupported {
            field: Field::Conf,
            conf_key: Some(key.clone()),
            reason: format!(
                "{key} is decided by the gateway or by the Kyuubi server, not by the request"
            ),
            droppable: true,
        })
}

fn is_reserved(key: &str) -> bool {
    // Kyuubi strips or adds the prefix `spark.` freely, so both spellings mean the same.
    let bare = key
        .strip_prefix("spark.")
        .filter(|rest| rest.starts_with("kyuubi.") || rest.starts_with("hive."));
    let names = [Some(key), bare];
    names.into_iter().flatten().any(|name| {
        RESERVED.contains(&name)
            || PROXY_USER_KEYS.contains(&name)
            || name.starts_with("spark.kerberos.")
    })
}

/// Comma-joined lists can't hold a comma.
fn inexpressible_lists(spec: &BatchSpec) -> impl Iterator<Item = Unsupported> {
    let lists = [
        (Field::Jars, &spec.jars),
        (Field::PyFiles, &spec.py_files),
        (Field::Files, &spec.files),
        (Field::Archives, &spec.archives),
    ];
    lists
        .into_iter()
        .filter(|(_, items)| items.iter().any(|item| item.contains(',')))
        .map(|(field, _)| Unsupported {
            field,
            conf_key: None,
            reason:
                "Kyuubi takes this list as one comma-joined text, so no name in it may hold a comma"
                    .into(),
            droppable: false,
        })
}

fn is_python(file: &str) -> bool {
    let path = file.split(['?', '#']).next().unwrap_or(file);
    path.to_ascii_lowercase().ends_with(".py")
}

fn resource(path: &str, settings: &Settings, notes: &mut Vec<Note>) -> String {
    let located = locate(path, settings);
    if located.is_none() {
        notes.push(Note {
            field: Field::File,
            action: NoteAction::Emulated,
            text: "file has no scheme and is read on the Kyuubi host; set default_fs for Livy's meaning".into(),
        });
    }
    located.unwrap_or_else(|| path.to_owned())
}

/// Returns the path with a scheme, or `None` where there is none to give.
fn locate(path: &str, settings: &Settings) -> Option<String> {
    match (scheme(path), &settings.default_fs) {
        (Some(_), _) => Some(path.to_owned()),
        (None, Some(fs)) => Some(format!("{}{path}", fs.trim_end_matches('/'))),
        (None, None) => None,
    }
}

/// Builds Kyuubi's `conf`: the client's, then the typed fields on top (as in Livy), then what the
/// gateway decides.
fn conf_of(spec: &BatchSpec, key: &str, settings: &Settings, notes: &mut Vec<Note>) -> ConfMap {
    let mut conf = spec.conf.clone();
    for name in conf.keys().filter(|name| !name.starts_with("spark.")) {
        notes.push(Note {
            field: Field::Conf,
            action: NoteAction::Emulated,
            text: format!("conf.{name} reaches Spark with a prefix; Livy would ignore it"),
        });
    }
    let lists = [
        ("spark.jars", &spec.jars),
        ("spark.submit.pyFiles", &spec.py_files),
        ("spark.files", &spec.files),
        ("spark.archives", &spec.archives),
    ];
    for (name, items) in lists.into_iter().filter(|(_, items)| !items.is_empty()) {
        let paths = items
            .iter()
            .map(|item| locate(item, settings).unwrap_or_else(|| item.clone()));
        let all: Vec<String> = paths.chain(conf.get(name).cloned()).collect();
        conf.insert(name.to_owned(), all.join(","));
    }
    let scalars = [
        ("spark.driver.memory", spec.driver_memory.clone()),
        (
            "spark.driver.cores",
            spec.driver_cores.map(|n| n.to_string()),
        ),
        ("spark.executor.memory", spec.executor_memory.clone()),
        (
            "spark.executor.cores",
            spec.executor_cores.map(|n| n.to_string()),
        ),
        (
            "spark.executor.instances",
            spec.num_executors.map(|n| n.to_string()),
        ),
        ("spark.yarn.queue", spec.queue.clone()),
        (PROXY_USER_KEYS[0], spec.proxy_user.clone()),
        (PROXY_USER_KEYS[1], spec.proxy_user.clone()),
        (BATCH_ID, Some(key.to_owned())),
    ];
    for (name, value) in scalars {
        if let Some(value) = value {
            conf.insert(name.to_owned(), value);
        }
    }
    conf
}

fn accept(
    response: &UpstreamResponse<'_>,
    creating: bool,
) -> Result<Map<String, Value>, UpstreamFault> {
    json::accept(response, "Kyuubi", || fault_kind(response, creating)).map_err(|mut fault| {
        // Faults after validation nest handles, users and addresses: only the innermost cause is
        // handed on.
        if let Some((_, cause)) = fault.message.rsplit_once("due to ") {
            fault.message = cause.to_owned();
        }
        fault
    })
}

fn is_from_handler(response: &UpstreamResponse<'_>) -> bool {
    json::object(response.body).is_some_and(|map| map.len() == 1 && map.contains_key("message"))
}

/// Tells whether the answer is Jackson's sentence about a body that it can't read, as Kyuubi hands
/// it on: with the place in the body.
fn is_from_reader(response: &UpstreamResponse<'_>) -> bool {
    let text = String::from_utf8_lossy(response.body);
    let plain = response
        .content_type
        .is_some_and(|kind| kind.starts_with("text/plain"));
    plain && text.starts_with("Cannot ") && text.contains("\n at [Source: ")
}

/// Reads what a refusal proves. Kyuubi's handlers answer exactly `{"message"}`; its login answers
/// with a Jetty page.
fn fault_kind(response: &UpstreamResponse<'_>, creating: bool) -> FaultKind {
    let from_handler = is_from_handler(response);
    let message = crate::fault::message(response).unwrap_or_default();
    match response.status {
        403 if creating
            && from_handler
            && message.contains("Failed to validate proxy privilege") =>
        {
            FaultKind::Forbidden
        }
        400 if creating && is_from_reader(response) => FaultKind::Refused,
        500 if creating && from_handler => refused_creation(&message),
        _ if creating => FaultKind::Unclear,
        200..=399 | 401 => FaultKind::Unauthorized,
        403 if from_handler => FaultKind::Forbidden,
        403 => FaultKind::Unauthorized,
        404 if from_handler && speaks_of_a_batch(&message) => FaultKind::NotFound,
        429 | 503 => FaultKind::Unavailable,
        _ => FaultKind::Unclear,
    }
}

/// A wrong base path is a 404 of the same shape (`HTTP 404 Not Found`), and says nothing about any
/// batch.
fn speaks_of_a_batch(message: &str) -> bool {
    [
        "Invalid batchId",
        "No local log found",
        "Error getting operation log",
    ]
    .iter()
    .any(|words| message.starts_with(words))
}

/// Kyuubi says 500 to bad requests; only these sentences prove that nothing was started.
fn refused_creation(message: &str) -> FaultKind {
    let says = |words: &str| message.contains(words);
    if says("Connection limit per") {
        FaultKind::Busy
    } else if says("Connection denied because") {
        FaultKind::Forbidden
    } else if [
        "is not in the supported list",
        "is a required parameter",
        "must be an UUID",
        "is not in the local dir allow list",
        "Relative path",
    ]
    .into_iter()
    .any(says)
    {
        FaultKind::Refused
    } else {
        FaultKind::Unclear
    }
}

fn observed(
    map: &Map<String, Value>,
    response: &UpstreamResponse<'_>,
) -> Result<Observed, UpstreamFault> {
    let upstream_id = json::text(map, "id")
        .filter(|id| !id.is_empty())
        .ok_or_else(|| UpstreamFault::unreadable(response, "the batch has no id"))?;
    let (state, app_state) = (json::text(map, "state"), json::text(map, "appState"));
    let mut info = app_info(None);
    info.insert("sparkUiUrl".into(), json::text(map, "appUrl"));
    info.insert("kyuubiState".into(), state.clone());
    info.insert("kyuubiAppState".into(), app_state.clone());
    info.insert(
        "appDiagnostic".into(),
        json::text(map, "appDiagnostic").map(|text| json::shorten(&text, LONGEST_DIAGNOSTIC)),
    );
    if is(&state, "FINISHED") && is(&app_state, "NOT_FOUND") {
        info.insert(
            "note".into(),
            Some("Kyuubi says FINISHED, but the application was gone when it looked".into()),
        );
    }
    let duplicate = map
        .get("batchInfo")
        .and_then(|info| info.get("kyuubi.batch.duplicated"))
        == Some(&json!("true"));
    Ok(Observed {
        upstream_id,
        name: json::name(map, "name"),
        name_shown: true,
        owner: None,
        proxy_user: json::name(map, "user"),
        state: livy_state_of(state.as_deref(), app_state.as_deref()),
        app_id: json::text(map, "appId"),
        app_info: info,
        log: Vec::new(),
        duplicate,
    })
}

fn is(text: &Option<String>, word: &str) -> bool {
    text.as_deref()
        .is_some_and(|text| text.eq_ignore_ascii_case(word))
}

/// The total map from Kyuubi's two states to Livy's one. First matching row wins; words are
/// compared without case.
pub fn livy_state_of(state: Option<&str>, app_state: Option<&str>) -> StateReading {
    use BatchState::{Dead, Killed, Running, Starting, Success};
    let state = state.unwrap_or_default().to_ascii_uppercase();
    let app = app_state.unwrap_or_default().to_ascii_uppercase();
    StateReading::Known(match (state.as_str(), app.as_str()) {
        ("INITIALIZED" | "PENDING", _) => Starting,
        // The application is queued: Livy too says starting until the resource manager says
        // running.
        ("RUNNING", "PENDING") => Starting,
        ("RUNNING", "" | "UNKNOWN") => return StateReading::Hold,
        // Also with an application that has ended: Kyuubi has not judged yet, and a bad exit code
        // can still turn the verdict.
        ("RUNNING" | "COMPILED", _) => Running,
        ("FINISHED", "FAILED") => Dead,
        ("FINISHED" | "ERROR", "KILLED") => Killed,
        ("FINISHED", _) => Success,
        ("ERROR" | "TIMEOUT", _) => Dead,
        ("CANCELED" | "CLOSED", _) => Killed,
        ("UNKNOWN" | "", _) => return StateReading::Hold,
        _ => return StateReading::Unknown(state.clone()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_follow_the_total_map() {
        let map = |state, app| livy_state_of(Some(state), app).settle(None).as_str();
        assert_eq!(map("INITIALIZED", None), "starting");
        assert_eq!(map("pending", Some("UNKNOWN")), "starting");
        assert_eq!(map("RUNNING", Some("PENDING")), "starting");
        assert_eq!(map("RUNNING", None), "starting");
        assert_eq!(map("RUNNING", Some("RUNNING")), "running");
        assert_eq!(map("RUNNING", Some("FAILED")), "running");
        assert_eq!(map("FINISHED", Some("FAILED")), "dead");
        assert_eq!(map("FINISHED", Some("KILLED")), "killed");
        assert_eq!(map("FINISHED", Some("NOT_FOUND")), "success");
        assert_eq!(map("FINISHED", None), "success");
        assert_eq!(map("ERROR", Some("KILLED")), "killed");
        assert_eq!(map("ERROR", None), "dead");
        assert_eq!(map("CANCELED", Some("RUNNING")), "killed");
        assert_eq!(map("TIMEOUT", None), "dead");
        assert_eq!(map("CLOSED", None), "killed");
        assert_eq!(livy_state_of(None, None), StateReading::Hold);
        assert_eq!(
            livy_state_of(Some("NEWWORD"), None),
            StateReading::Unknown("NEWWORD".into())
        );
    }

    #[test]
    fn only_its_own_handler_leaves_rows() {
        let may_leave = |status, body: &str| {
            KyuubiDialect.may_leave_a_row(&UpstreamResponse {
                status,
                content_type: None,
                body: body.as_bytes(),
            })
        };
        assert!(may_leave(
            500,
            r#"{"message":"java.util.concurrent.RejectedExecutionException"}"#
        ));
        assert!(
            !may_leave(500, "<html>front</html>"),
            "the job may have run and failed by now"
        );
        assert!(!may_leave(502, r#"{"message":"x"}"#));
    }

    #[test]
    fn what_ran_is_no_leftover() {
        let is_leftover = |item: Value| {
            let body = item.to_string();
            let response = UpstreamResponse {
                status: 200,
                content_type: Some("application/json"),
                body: body.as_bytes(),
            };
            let seen = KyuubiDialect.decode_get(&response).expect("is readable");
            KyuubiDialect.is_leftover(&seen)
        };
        assert!(is_leftover(json!({"id": "x", "state": "ERROR"})));
        assert!(is_leftover(
            json!({"id": "x", "state": "CANCELED", "appState": "UNKNOWN"})
        ));
        assert!(is_leftover(
            json!({"id": "x", "state": "CANCELED", "appState": "NOT_FOUND"})
        ));
        assert!(!is_leftover(json!({"id": "x", "state": "PENDING"})));
        assert!(!is_leftover(
            json!({"id": "x", "state": "ERROR", "appId": "application_1"})
        ));
        assert!(
            !is_leftover(json!({"id": "x", "state": "ERROR", "appState": "FAILED"})),
            "its application is not shown any more"
        );
    }

    #[test]
    fn state_never_goes_back() {
        let queued = livy_state_of(Some("RUNNING"), Some("PENDING"));
        assert_eq!(
            queued.settle(Some(BatchState::Running)),
            BatchState::Running
        );
        assert_eq!(
            queued.settle(Some(BatchState::Success)),
            BatchState::Success
        );
        assert_eq!(
            StateReading::Hold.settle(Some(BatchState::Running)),
            BatchState::Running
        );
    }

    #[test]
    fn reserved_keys_hide_behind_no_prefix() {
        for key in [
            "kyuubi.batch.id",
            "spark.kyuubi.batch.id",
            "spark.hive.server2.proxy.user",
            "spark.kerberos.keytab",
        ] {
            assert!(is_reserved(key), "{key}");
        }
        assert!(!is_reserved("spark.executor.memory") && !is_reserved("hadoop.x"));
    }
}
