//! IBM Analytics Engine serverless: a Livy-like façade without logs, paging, look-up keys or
//! impersonation.
//!
//! Follows IBM's "Livy batch APIs" page and the sample answers on it, the IBM Cloud API handbook
//! for errors, and the state words of the sibling application API. No name is ever given back;
//! whether a lost submission arrived is asked of the sibling application API, whose details show
//! `conf` (`ApplicationGetResponse` of IBM's Python SDK), and else guessed at, with words that say
//! so, by what is new in the list.

use core::time::Duration;

use serde_json::{Map, Value};

use crate::fault::{FaultKind, UpstreamFault};
use crate::flavor::{
    BatchRef, Cost, Deleted, Dialect, Encoded, Flavor, Listing, LogPart, LogPlan, Lookup,
    LookupPlan, Operation, Settings, Unsupported,
};
use crate::json;
use crate::livy::{app_info, body_of, decode_sessions, deleted};
use crate::model::{BatchSpec, Field, Observed, StateReading};
use crate::state::{BatchState, livy_state};
use crate::support::{Support, refused_fields};
use crate::window::LogWindow;
use crate::wire::{UpstreamRequest, UpstreamResponse, segment};

/// IBM Analytics Engine serverless.
#[derive(Debug)]
pub struct IbmDialect;

/// The `conf` key that carries the submission's key: the service shows `conf` with the details of
/// an application.
pub const MARKER: &str = "spark.livy-gateway.key";

/// Where the log of a batch is, for whoever asks here.
pub const LOG_LINE: &str = "IBM Analytics Engine serverless has no log over REST: look in the instance home bucket, or in IBM Cloud Logs if forwarding is on";

impl Dialect for IbmDialect {
    fn flavor(&self) -> Flavor {
        Flavor::Ibm
    }

    fn base_path(&self, settings: &Settings) -> String {
        format!(
            "/v3/analytics_engines/{}/livy",
            segment(settings.instance_id.as_deref().unwrap_or_default())
        )
    }

    fn support(&self, field: Field) -> Support {
        match field {
            Field::ProxyUser => {
                Support::Refused("the service has no impersonation; jobs run as the service ID")
            }
            Field::Archives => Support::Refused(
                "the service takes no archives; pack the files into a zip for pyFiles or files",
            ),
            Field::Queue => Support::Refused("the service has no queues"),
            Field::Name => Support::Emulated(
                "sent as given, but never given back by the service: kept in the registry",
            ),
            _ => Support::Native,
        }
    }

    fn operation_support(&self, operation: Operation) -> Support {
        match operation {
            Operation::ListBatches => {
                Support::Emulated("the service returns everything; paged and merged by the gateway")
            }
            Operation::GetBatch => Support::Emulated(
                "missing keys are filled in from the registry; `log` is empty, or the line that says where the log is",
            ),
            Operation::GetLog => {
                Support::Emulated("one line that says where the log is, and a warning header")
            }
            _ => Support::Native,
        }
    }

    fn create(
        &self,
        spec: &BatchSpec,
        key: &str,
        _settings: &Settings,
    ) -> Result<Encoded, Vec<Unsupported>> {
        let refused = refused_fields(self, spec);
        if !refused.is_empty() {
            return Err(refused);
        }
        let mut body = body_of(spec);
        let conf = body
            .entry(Field::Conf.name())
            .or_insert_with(|| Value::Object(Map::new()));
        conf[MARKER] = Value::from(key);
        Ok(Encoded {
            request: UpstreamRequest::post("/batches", Value::Object(body)),
            lookup: Lookup {
                key: key.to_owned(),
                sent_name: None,
            },
            notes: Vec::new(),
        })
    }

    fn state(&self, batch: BatchRef<'_>) -> UpstreamRequest {
        UpstreamRequest::get(format!("/batches/{}/state", segment(batch.upstream_id)))
    }

    fn log(&self, _batch: BatchRef<'_>, _window: LogWindow) -> LogPlan {
        LogPlan::Nowhere(LOG_LINE)
    }

    fn log_page(&self, batch: BatchRef<'_>, _from: i32, _size: i32) -> UpstreamRequest {
        self.get(batch)
    }

    fn list(&self, _from: usize, _size: usize) -> UpstreamRequest {
        UpstreamRequest::get("/batches")
    }

    fn list_is_paged(&self) -> bool {
        false
    }

    /// Each request passes IBM Cloud's front, which counts them and looks at the token.
    fn cost(&self) -> Cost {
        Cost {
            state: 1_000,
            page: 1_000,
            row: 10,
            lags: false,
        }
    }

    fn lookup(&self, _lookup: &Lookup) -> LookupPlan {
        LookupPlan::NewInList
    }

    fn asks_first(&self, _lookup: &Lookup) -> bool {
        // What is new since the send can be told only by what was there before.
        true
    }

    fn remembers(&self) -> Duration {
        // Nothing says that a batch is ever forgotten before its application is, which may run for
        // 72 hours.
        Duration::from_secs(2 * 24 * 3600)
    }

    fn applications(&self, base: &str) -> Option<String> {
        base.strip_suffix("/livy")
            .map(|instance| format!("{instance}/spark_applications"))
    }

    fn probe(&self) -> UpstreamRequest {
        UpstreamRequest::get("/batches")
    }

    /// The list has no pages and may be large; the state of one batch needs the same service, login
    /// and role.
    fn probe_by(&self, upstream_id: &str) -> Option<UpstreamRequest> {
        Some(UpstreamRequest::get(format!(
            "/batches/{}/state",
            segment(upstream_id)
        )))
    }

    /// IBM Cloud's front writes the same shape: of its 502, 503 and 504 nothing is the batch
    /// server's own.
    fn is_own_fault(&self, response: &UpstreamResponse<'_>) -> bool {
        !matches!(response.status, 502..=504) && speaks_as_ibm(response)
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
        let map = accept(response, false)?;
        let id = json::id(&map, "id")
            .ok_or_else(|| UpstreamFault::unreadable(response, "the state answer has no id"))?;
        Ok((id, state_of(&map)))
    }

    fn decode_log(&self, response: &UpstreamResponse<'_>) -> Result<LogPart, UpstreamFault> {
        Err(UpstreamFault::unreadable(response, LOG_LINE))
    }

    fn decode_list(&self, response: &UpstreamResponse<'_>) -> Result<Listing, UpstreamFault> {
        let map = accept(response, false)?;
        decode_sessions(&map, "sessions", response, observed)
    }

    fn decode_delete(&self, response: &UpstreamResponse<'_>) -> Result<Deleted, UpstreamFault> {
        // The sibling application API answers 204: an empty success may be one, and is settled by
        // reading the batch again.
        if response.is_success() && response.body.is_empty() {
            return Ok(Deleted::Verify);
        }
        accept(response, false).map(|map| deleted(&map))
    }

    fn is_leftover(&self, _observed: &Observed) -> bool {
        false
    }
}

fn accept(
    response: &UpstreamResponse<'_>,
    creating: bool,
) -> Result<Map<String, Value>, UpstreamFault> {
    json::accept(response, "the service", || match response.status {
        // IBM Cloud's own shape of errors (API handbook). Also 401 and 403: the login is looked at
        // before the request is.
        400 | 409 | 422 if creating && speaks_as_ibm(response) => FaultKind::Refused,
        401 if creating && speaks_as_ibm(response) => FaultKind::Unauthorized,
        403 if creating && speaks_as_ibm(response) => FaultKind::Forbidden,
        429 if creating && speaks_as_ibm(response) => FaultKind::Busy,
        // Also 503: IBM's own SDK repeats a POST on it; nothing documents that it was not accepted.
        _ if creating => FaultKind::Unclear,
        200..=399 | 401 => FaultKind::Unauthorized,
        403 => FaultKind::Forbidden,
        // A deleted instance, or one in another region, looks the same; only a structured error
        // speaks of the batch itself.
        404 if speaks_as_ibm(response) => FaultKind::NotFound,
        429 => FaultKind::Unavailable,
        _ => FaultKind::Unclear,
    })
}

fn speaks_as_ibm(response: &UpstreamResponse<'_>) -> bool {
    let errors = json::object(response.body)
        .and_then(|map| map.get("errors")?.as_array().cloned())
        .unwrap_or_default();
    errors
        .first()
        .is_some_and(|first| first.get("code").is_some() && first.get("message").is_some())
}

/// One application of an instance, as the service's own API shows it (`Application`,
/// `ApplicationDetails` of the Python SDK).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Its id in that API.
    pub id: String,
    /// Spark's id: the `appId` of the batch.
    pub spark_id: Option<String>,
    /// The key of the submission, where the details show it.
    pub key: Option<String>,
    /// Whether the details show `conf`: they may do so only after a while.
    pub shows_conf: bool,
    /// Its state.
    pub state: StateReading,
}

/// Reads the list of applications, newest as the service orders them; `None` if it is none.
pub fn read_applications(response: &UpstreamResponse<'_>) -> Option<Vec<Application>> {
    if !response.is_success() {
        return None;
    }
    let map = json::object(response.body)?;
    let items = map.get("applications")?.as_array()?;
    Some(
        items
            .iter()
            .filter_map(Value::as_object)
            .filter_map(application)
            .collect(),
    )
}

/// Reads the details of one application; `None` if they are none.
pub fn read_application(response: &UpstreamResponse<'_>) -> Option<Application> {
    if response.is_success() {
        application(&json::object(response.body)?)
    } else {
        None
    }
}

fn application(map: &Map<String, Value>) -> Option<Application> {
    let conf = map
        .get("application_details")
        .and_then(|details| details.get("conf"));
    let key = conf
        .and_then(|conf| conf.get(MARKER))
        .and_then(Value::as_str)
        .map(str::to_owned);
    Some(Application {
        id: json::text(map, "id")?,
        spark_id: json::text(map, "spark_application_id"),
        key,
        shows_conf: conf.is_some_and(Value::is_object),
        state: state_of(map),
    })
}

/// Reads a state: Livy's words, and those of the application API in case they show through.
fn state_of(map: &Map<String, Value>) -> StateReading {
    let word = json::text(map, "state").unwrap_or_default();
    match word.to_ascii_lowercase().as_str() {
        "accepted" | "waiting" | "submitted" => StateReading::Known(BatchState::Starting),
        "finished" => StateReading::Known(BatchState::Success),
        "failed" => StateReading::Known(BatchState::Dead),
        "stopped" | "auto_terminated" | "ops_terminated" => StateReading::Known(BatchState::Killed),
        _ => livy_state(&word),
    }
}

fn observed(
    map: &Map<String, Value>,
    response: &UpstreamResponse<'_>,
) -> Result<Observed, UpstreamFault> {
    let upstream_id = json::id(map, "id")
        .ok_or_else(|| UpstreamFault::unreadable(response, "the batch has no id"))?;
    let mut info = app_info(map.get("appInfo").or_else(|| map.get("app_info")));
    // The page's prose spells it with a capital letter.
    if let Some(url) = info.remove("SparkUiUrl") {
        info.insert("sparkUiUrl".to_owned(), url);
    }
    Ok(Observed {
        upstream_id,
        name: json::name(map, "name"),
        name_shown: map.contains_key("name"),
        owner: json::name(map, "owner"),
        proxy_user: None,
        state: state_of(map),
        app_id: json::text(map, "appId"),
        app_info: info,
        log: json::lines(map, "log"),
        duplicate: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_without_conf_say_nothing_of_the_marker() {
        let shows_conf = |details: &str| {
            let body = format!(r#"{{"id":"x","application_details":{details}}}"#);
            let response = UpstreamResponse {
                status: 200,
                content_type: Some("application/json"),
                body: body.as_bytes(),
            };
            read_application(&response).map(|it| (it.shows_conf, it.key.is_some()))
        };
        assert_eq!(shows_conf("{}"), Some((false, false)));
        assert_eq!(shows_conf(r#"{"conf":{}}"#), Some((true, false)));
        let marked = format!(r#"{{"conf":{{"{MARKER}":"k"}}}}"#);
        assert_eq!(shows_conf(&marked), Some((true, true)));
    }
}
