//! The flavors that are an Apache Livy: bare, behind Apache Knox, behind Azure HDInsight.
//!
//! Follows Apache Livy 0.5 to 0.9 (`BatchSessionServlet`, `SessionServlet`, `JsonServlet`), Apache
//! Knox 1.0 to 2.0 (`LivyDispatch`, Shiro) and the documented behaviour of the HDInsight gateway.
//! Every submission carries a name, made up if the client gave none: Livy keeps names unique among
//! live batches, so a lost answer can be looked up and a repeat can't double.

use core::time::Duration;

use serde_json::{Map, Value};

use crate::fault::{FaultKind, UpstreamFault};
use crate::flavor::{
    BatchRef, Cost, Deleted, Dialect, Encoded, Flavor, Listing, LogPart, LogPlan, Lookup,
    LookupPlan, Operation, Settings, Unsupported,
};
use crate::json;
use crate::model::{AppInfo, BatchSpec, Field, Observed, StateReading};
use crate::proof::is_path_safe;
use crate::state::livy_state;
use crate::support::{Support, refused_fields};
use crate::window::LogWindow;
use crate::wire::{UpstreamRequest, UpstreamResponse, segment};

/// What stands in front of the Livy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// Nothing.
    None,
    /// Apache Knox.
    Knox,
    /// The HDInsight cluster gateway (IIS).
    Hdinsight,
}

/// Apache Livy, whatever stands in front of it.
#[derive(Debug)]
pub struct LivyDialect {
    /// What stands in front of it.
    pub front: Front,
}

/// What generated names begin with; the submission's key follows.
pub const NAME_PREFIX: &str = "livy-gateway-";

impl Dialect for LivyDialect {
    fn flavor(&self) -> Flavor {
        match self.front {
            Front::None => Flavor::Livy,
            Front::Knox => Flavor::Knox,
            Front::Hdinsight => Flavor::Hdinsight,
        }
    }

    fn base_path(&self, _settings: &Settings) -> String {
        match self.front {
            Front::None => "",
            // `/livy/v1` works on every Knox since 1.0, `/livy` only since 1.3.
            Front::Knox => "/gateway/default/livy/v1",
            Front::Hdinsight => "/livy",
        }
        .to_owned()
    }

    fn support(&self, field: Field) -> Support {
        match (self.front, field) {
            (Front::Knox, Field::ProxyUser) => Support::Refused(
                "Knox overwrites proxyUser with the gateway's own login; jobs run as that account",
            ),
            (_, Field::Name) => Support::Emulated(
                "sent as given; a submission without one gets a generated name, which the client never sees",
            ),
            _ => Support::Native,
        }
    }

    fn operation_support(&self, operation: Operation) -> Support {
        match operation {
            Operation::ListBatches => {
                Support::Emulated("read in pages and merged with what the registry knows")
            }
            Operation::GetState => Support::Emulated(
                "asked by the name that the gateway made up; anything else is compared as a whole item, so that an id that began again can't show another batch",
            ),
            Operation::GetLog => Support::Emulated(
                "`size` past the 32-bit range becomes -1, where Livy would return nothing",
            ),
            Operation::CreateBatch
            | Operation::GetBatch
            | Operation::DeleteBatch
            | Operation::Other => Support::Native,
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
        let sent_name = spec
            .name
            .clone()
            .unwrap_or_else(|| format!("{NAME_PREFIX}{key}"));
        let mut body = body_of(spec);
        body.insert(
            Field::Name.name().to_owned(),
            Value::from(sent_name.clone()),
        );
        Ok(Encoded {
            request: UpstreamRequest::post("/batches", Value::Object(body)),
            lookup: Lookup {
                key: key.to_owned(),
                sent_name: Some(sent_name),
            },
            notes: Vec::new(),
        })
    }

    fn get(&self, batch: BatchRef<'_>) -> UpstreamRequest {
        UpstreamRequest::get(format!("/batches/{}", key(batch)))
    }

    fn delete(&self, batch: BatchRef<'_>) -> UpstreamRequest {
        UpstreamRequest::delete(format!("/batches/{}", key(batch)))
    }

    fn state(&self, batch: BatchRef<'_>) -> UpstreamRequest {
        UpstreamRequest::get(format!("/batches/{}/state", key(batch)))
    }

    fn log(&self, batch: BatchRef<'_>, window: LogWindow) -> LogPlan {
        let mut query = Vec::new();
        if let Some(from) = window.from {
            query.push(format!("from={from}"));
        }
        if let Some(size) = window.size {
            // Livy adds the two as 32-bit integers and answers nothing when that overflows; -1 asks
            // for the rest.
            let overflows = window.from.unwrap_or(0).max(0).checked_add(size).is_none();
            query.push(format!("size={}", if overflows { -1 } else { size }));
        }
        let query = if query.is_empty() {
            String::new()
        } else {
            format!("?{}", query.join("&"))
        };
        LogPlan::Window(UpstreamRequest::get(format!(
            "/batches/{}/log{query}",
            key(batch)
        )))
    }

    fn log_page(&self, batch: BatchRef<'_>, from: i32, size: i32) -> UpstreamRequest {
        UpstreamRequest::get(format!(
            "/batches/{}/log?from={from}&size={size}",
            key(batch)
        ))
    }

    /// Everything is in Livy's memory; a row is the batch rendered, which a request costs many times
    /// over (Jetty, filters, impersonation).
    fn cost(&self) -> Cost {
        Cost {
            state: 1_000,
            page: 1_000,
            row: 20,
            lags: false,
        }
    }

    fn lookup(&self, lookup: &Lookup) -> LookupPlan {
        match lookup
            .sent_name
            .as_deref()
            .filter(|name| is_path_safe(name))
        {
            Some(name) => LookupPlan::Item(UpstreamRequest::get(format!("/batches/{name}"))),
            None => LookupPlan::InList,
        }
    }

    fn asks_first(&self, lookup: &Lookup) -> bool {
        // A client's name may be taken by a job that was created directly on the cluster; a made-up
        // one can't be.
        !lookup.is_made_up()
    }

    fn shows_proxy_user(&self) -> bool {
        // `null` where impersonation is off.
        matches!(self.front, Front::None)
    }

    fn remembers(&self) -> Duration {
        // `livy.server.session.state-retain.sec` is 600 s.
        Duration::from_secs(540)
    }

    fn keeps_names(&self) -> bool {
        true
    }

    fn probe(&self) -> UpstreamRequest {
        UpstreamRequest::get("/batches?from=0&size=0")
    }

    fn is_own_fault(&self, response: &UpstreamResponse<'_>) -> bool {
        speaks_as_livy(response)
    }

    fn decode_create(&self, response: &UpstreamResponse<'_>) -> Result<Observed, UpstreamFault> {
        self.accept(response, true)
            .and_then(|map| observed(&map, response))
    }

    fn decode_get(&self, response: &UpstreamResponse<'_>) -> Result<Observed, UpstreamFault> {
        self.accept(response, false)
            .and_then(|map| observed(&map, response))
    }

    fn decode_state(
        &self,
        response: &UpstreamResponse<'_>,
    ) -> Result<(String, StateReading), UpstreamFault> {
        let map = self.accept(response, false)?;
        let id = json::id(&map, "id")
            .ok_or_else(|| UpstreamFault::unreadable(response, "the state answer has no id"))?;
        Ok((id, state_of(&map)))
    }

    fn decode_log(&self, response: &UpstreamResponse<'_>) -> Result<LogPart, UpstreamFault> {
        let map = self.accept(response, false)?;
        if !map.get("log").is_some_and(Value::is_array) {
            return Err(UpstreamFault::unreadable(
                response,
                "the log answer has no \"log\"",
            ));
        }
        let number = |key: &str| map.get(key).and_then(Value::as_i64);
        Ok(LogPart {
            upstream_id: json::id(&map, "id"),
            from: number("from"),
            total: number("total"),
            lines: json::lines(&map, "log"),
        })
    }

    fn decode_list(&self, response: &UpstreamResponse<'_>) -> Result<Listing, UpstreamFault> {
        let map = self.accept(response, false)?;
        let listing = decode_sessions(&map, "sessions", response, observed)?;
        let total = map.get("total").and_then(Value::as_u64);
        Ok(Listing {
            total: total.and_then(|total| usize::try_from(total).ok()),
            ..listing
        })
    }

    fn decode_delete(&self, response: &UpstreamResponse<'_>) -> Result<Deleted, UpstreamFault> {
        self.accept(response, false).map(|map| deleted(&map))
    }
}

impl LivyDialect {
    fn accept(
        &self,
        response: &UpstreamResponse<'_>,
        creating: bool,
    ) -> Result<Map<String, Value>, UpstreamFault> {
        json::accept(response, "the cluster", || {
            self.fault_kind(response, creating)
        })
    }

    /// Reads what a refusal proves. Jetty's pages and Livy's own JSON carry the same statuses and
    /// mean different things.
    fn fault_kind(&self, response: &UpstreamResponse<'_>, creating: bool) -> FaultKind {
        let from_livy = speaks_as_livy(response);
        let message = crate::fault::message(response).unwrap_or_default();
        if creating {
            return match response.status {
                400 if from_livy && message.contains("too many sessions") => FaultKind::Busy,
                400 if from_livy && message.contains("Duplicate session name") => {
                    FaultKind::DuplicateName
                }
                400 if from_livy => FaultKind::Refused,
                403 if from_livy && message.contains("not allowed to impersonate") => {
                    FaultKind::Forbidden
                }
                // Another gateway that says so has sent nothing.
                429 | 503 if from_livy && message.contains("nothing was submitted") => {
                    FaultKind::Busy
                }
                // Livy's handler ended: whatever it left behind is a ghost. A 500 of Knox or IIS
                // only means that it gave up waiting.
                500 if from_livy => FaultKind::Refused,
                _ => FaultKind::Unclear,
            };
        }
        match response.status {
            // A login page: Knox with a federation provider redirects browsers, or shows the page
            // at once.
            200..=399 | 401 => FaultKind::Unauthorized,
            // Hadoop's filter says so to a ticket that it can't read, such as one for the keys that
            // the service had before (hadoop-auth, `AuthenticationFilter.doFilter`).
            403 if message.contains("GSSException") => FaultKind::Unauthorized,
            403 => FaultKind::Forbidden,
            // Only Livy's own sentence says that a batch is gone; a topology or an instance may be
            // away for a while.
            404 if from_livy && speaks_of_a_session(&message) => FaultKind::NotFound,
            429 | 503 => FaultKind::Unavailable,
            400 if from_livy => FaultKind::Refused,
            _ => FaultKind::Unclear,
        }
    }
}

/// Returns the segment by which a batch is asked for, read and killed. `SessionServlet.doWithSession`
/// takes a name wherever it takes a number (0.6 and later).
fn key(batch: BatchRef<'_>) -> String {
    let name = batch.sent_name.filter(|name| is_path_safe(name));
    name.map_or_else(|| segment(batch.upstream_id), str::to_owned)
}

/// `Session '7' not found.`, `Session not found.` (0.5), `Session 3 already stopped.`
fn speaks_of_a_session(message: &str) -> bool {
    message.starts_with("Session ")
        && (message.contains("not found") || message.contains("already stopped"))
}

/// Tells whether the body is one that Livy's servlet makes: a JSON string, or an object of `msg`
/// alone. Jetty, Knox and load balancers make others. Another gateway of this kind adds three keys
/// of its own.
fn speaks_as_livy(response: &UpstreamResponse<'_>) -> bool {
    const GATEWAY: [&str; 3] = ["code", "retryable", "requestId"];
    match serde_json::from_slice::<Value>(response.body) {
        Ok(Value::String(_)) => true,
        Ok(Value::Object(map)) => {
            let more = map.len() == 1
                || (map.len() == 4 && GATEWAY.iter().all(|key| map.contains_key(*key)));
            more && map.get("msg").is_some_and(Value::is_string)
        }
        _ => false,
    }
}

/// Reads a success of a kill: only Livy's own word says that it is gone; what somebody in front
/// says is settled by reading the batch again.
pub(crate) fn deleted(map: &Map<String, Value>) -> Deleted {
    if json::text(map, "msg").as_deref() == Some("deleted") {
        Deleted::Gone
    } else {
        Deleted::Verify
    }
}

/// Returns the submission as Livy's JSON: only fields that have a value.
pub(crate) fn body_of(spec: &BatchSpec) -> Map<String, Value> {
    Field::ALL
        .into_iter()
        .filter_map(|field| Some((field.name().to_owned(), spec.value(field)?)))
        .collect()
}

pub(crate) fn decode_sessions(
    map: &Map<String, Value>,
    key: &str,
    response: &UpstreamResponse<'_>,
    read: impl Fn(&Map<String, Value>, &UpstreamResponse<'_>) -> Result<Observed, UpstreamFault>,
) -> Result<Listing, UpstreamFault> {
    let Some(Value::Array(items)) = map.get(key) else {
        return Err(UpstreamFault::unreadable(
            response,
            &format!("the list has no {key:?}"),
        ));
    };
    // One row that can't be read must not hide the others.
    let batches = items
        .iter()
        .filter_map(Value::as_object)
        .filter_map(|item| read(item, response).ok());
    Ok(Listing {
        batches: batches.collect(),
        rows: items.len(),
        total: None,
    })
}

fn state_of(map: &Map<String, Value>) -> StateReading {
    livy_state(&json::text(map, "state").unwrap_or_default())
}

fn observed(
    map: &Map<String, Value>,
    response: &UpstreamResponse<'_>,
) -> Result<Observed, UpstreamFault> {
    let upstream_id = json::id(map, "id")
        .ok_or_else(|| UpstreamFault::unreadable(response, "the batch has no id"))?;
    Ok(Observed {
        upstream_id,
        name: json::name(map, "name"),
        name_shown: map.contains_key("name"),
        owner: json::name(map, "owner"),
        proxy_user: json::name(map, "proxyUser"),
        state: state_of(map),
        app_id: json::text(map, "appId"),
        app_info: app_info(map.get("appInfo")),
        log: json::lines(map, "log"),
        duplicate: false,
    })
}

/// Reads `appInfo`: always with Livy's two keys, every value a text or null.
pub(crate) fn app_info(value: Option<&Value>) -> AppInfo {
    let mut info = AppInfo::from([
        ("driverLogUrl".to_owned(), None),
        ("sparkUiUrl".to_owned(), None),
    ]);
    if let Some(Value::Object(map)) = value {
        for (key, value) in map {
            let text = match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                other => Some(other.to_string()),
            };
            info.insert(key.clone(), text);
        }
    }
    info
}

#[cfg(test)]
mod tests {
    use crate::{FaultKind, Flavor, UpstreamResponse};

    #[test]
    fn a_ticket_that_hadoop_can_not_read_is_a_login() {
        let read = |reason: &str| {
            let page =
                format!("<html><title>Error 403 </title><p>Reason:\n<pre>    {reason}</pre>");
            let response = UpstreamResponse {
                status: 403,
                content_type: Some("text/html; charset=ISO-8859-1"),
                body: page.as_bytes(),
            };
            let read = Flavor::Livy.dialect().decode_list(&response);
            read.map(|_| ()).expect_err("is a refusal").kind
        };
        let reason =
            "GSSException: Failure unspecified at GSS-API level (Mechanism level: Checksum failed)";
        assert_eq!(read(reason), FaultKind::Unauthorized);
        assert_eq!(read("User alice may not"), FaultKind::Forbidden);
    }
}
