//! What the knobs set: faults, restarts, what is shown.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use livy_dialect::Operation;
use serde::Deserialize;
use serde_json::{Value, json};

use super::asked::Asked;
use super::told::{HungUp, Told};

/// One way to misbehave.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// `create_batch`, `get_state`, …; absent means every operation.
    operation: Option<String>,
    /// How many requests it lasts (1).
    #[serde(default = "once")]
    pub(super) times: u32,
    /// When it happens: before the request takes effect, or after (`before`).
    #[serde(default)]
    moment: Moment,
    /// Wait first, in milliseconds.
    #[serde(default)]
    delay_ms: u64,
    /// Then answer this instead; absent means: hang up, unless there is only a delay.
    answer: Option<FaultAnswer>,
    /// Hang up without an answer.
    #[serde(default)]
    hang_up: bool,
}

/// A made-up answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultAnswer {
    status: u16,
    #[serde(default)]
    content_type: String,
    #[serde(default)]
    body: String,
}

/// When a fault happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Moment {
    /// Nothing was accepted.
    #[default]
    Before,
    /// The request took effect.
    After,
}

fn once() -> u32 {
    1
}

/// How a cluster goes down and comes back. Without anything said it is back at once, has killed and
/// forgotten everything, and counts from its first number again.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Restart {
    /// Jobs go on, and the cluster finds them again.
    recover: bool,
    /// How long connections are closed without an answer.
    away_ms: u64,
    /// With recovery: how long, from then on, look-ups and lists don't have the old jobs. Their
    /// names stay taken.
    unknown_ms: u64,
    /// With recovery: how long, from then on, a Livy shows the old jobs as `recovering`.
    recovering_ms: u64,
}

impl Restart {
    pub(super) fn recovers(&self) -> bool {
        self.recover
    }

    pub(super) fn away(&self) -> Duration {
        Duration::from_millis(self.away_ms)
    }

    pub(super) fn unknown(&self) -> Duration {
        Duration::from_millis(self.unknown_ms)
    }

    pub(super) fn recovering(&self) -> Duration {
        Duration::from_millis(self.recovering_ms)
    }
}

/// What a cluster shows. What is not named stays as it is.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Livy kinds: whether jobs have application ids, as on YARN (no, as on a local master).
    app_ids: Option<bool>,
    /// IBM: whether the application API is served, and shows the jobs that came through Livy (no).
    applications: Option<bool>,
    /// Whether requests are remembered (yes). A long run does without: they are kept in memory,
    /// whole.
    pub(super) requests: Option<bool>,
}

#[derive(Debug, Default)]
pub(super) struct Control {
    pub(super) faults: Mutex<Vec<Fault>>,
    pub(super) requests: Mutex<Vec<Value>>,
    options: Mutex<Options>,
}

impl Control {
    /// Takes the fault that the next request of an operation meets.
    pub(super) fn next(&self, operation: Operation) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |fault: &Fault| {
            fault
                .operation
                .as_deref()
                .is_none_or(|name| name == operation.as_str())
        };
        let at = faults.iter().position(fits)?;
        faults[at].times -= 1;
        let fault = faults[at].clone();
        if fault.times == 0 {
            faults.remove(at);
        }
        Some(fault)
    }

    fn options(&self) -> Options {
        *self.options.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn change(&self, change: Options) {
        let mut options = self.options.lock().unwrap_or_else(PoisonError::into_inner);
        *options = Options {
            app_ids: change.app_ids.or(options.app_ids),
            applications: change.applications.or(options.applications),
            requests: change.requests.or(options.requests),
        };
    }

    /// Tells whether a Livy shows application ids.
    pub(super) fn shows_app_ids(&self) -> bool {
        self.options().app_ids.unwrap_or(false)
    }

    /// Tells whether IBM's application API is there.
    pub(super) fn has_applications(&self) -> bool {
        self.options().applications.unwrap_or(false)
    }

    pub(super) fn remember(&self, asked: &Asked) {
        if !self.options().requests.unwrap_or(true) {
            return;
        }
        let headers: Vec<Value> = asked
            .headers
            .iter()
            .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
            .collect();
        let query: Vec<String> = asked
            .query
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = json!({
            "method": asked.method.as_str(), "path": format!("/{}", asked.segments.join("/")), "query": query.join("&"),
            "headers": headers, "body": String::from_utf8_lossy(&asked.body),
        });
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request);
    }
}

/// Does what a fault says at this moment.
pub(super) async fn act(fault: Option<&Fault>, moment: Moment) -> Result<Option<Told>, HungUp> {
    let Some(fault) = fault.filter(|fault| fault.moment == moment) else {
        return Ok(None);
    };
    if fault.delay_ms > 0 {
        tokio::time::sleep(Duration::from_millis(fault.delay_ms)).await;
    }
    match &fault.answer {
        _ if fault.hang_up => Err(HungUp),
        Some(answer) => Ok(Some(Told::new(
            answer.status,
            &answer.content_type,
            answer.body.clone(),
        ))),
        None => Ok(None),
    }
}
