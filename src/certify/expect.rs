//! What an answer can be expected to be. Each expectation that does not hold is a sentence: what
//! was asked, what came, what was wanted.

use serde_json::{Map, Value};

use super::endpoint::Answer;
use super::miss::{Miss, Outcome, ensure};

impl Answer {
    /// Makes the sentence of an expectation that does not hold.
    pub(super) fn miss(&self, wanted: impl std::fmt::Display) -> Miss {
        Miss::Failed(format!("{}; wanted {wanted}", self.line()))
    }

    pub(super) fn status(&self, wanted: u16) -> Result<&Self, Miss> {
        if self.status == wanted {
            Ok(self)
        } else {
            Err(self.miss(format!("status {wanted}")))
        }
    }

    pub(super) fn json(&self) -> Result<Value, Miss> {
        serde_json::from_slice(&self.body).map_err(|_| self.miss("a JSON body"))
    }

    pub(super) fn object(&self) -> Result<Map<String, Value>, Miss> {
        match self.json()? {
            Value::Object(map) => Ok(map),
            _ => Err(self.miss("a JSON object")),
        }
    }

    /// Expects no body.
    pub(super) fn empty(&self) -> Outcome {
        ensure(self.body.is_empty(), || {
            format!("{}; wanted no body", self.line())
        })
    }

    /// Returns the message of an error, in each form that Livy knows: `{"msg": …}` or a bare JSON
    /// string.
    pub(super) fn message(&self) -> Option<String> {
        match serde_json::from_slice(&self.body).ok()? {
            Value::String(text) => Some(text),
            Value::Object(map) => map.get("msg").and_then(Value::as_str).map(str::to_owned),
            _ => None,
        }
    }

    /// Expects an error with `{"msg": …}` that says something.
    pub(super) fn says(&self, status: u16, needle: &str) -> Outcome {
        self.status(status)?;
        let object = self.object()?;
        let told = object
            .get("msg")
            .and_then(Value::as_str)
            .is_some_and(|text| text.to_lowercase().contains(&needle.to_lowercase()));
        ensure(told, || {
            format!(
                "{}; wanted {{\"msg\": …}} with {needle:?} in it",
                self.line()
            )
        })
    }

    /// Expects an error that is a bare JSON string: Livy's form for what its JSON reader or its
    /// handler threw.
    pub(super) fn bare(&self, status: u16, needle: &str) -> Outcome {
        self.status(status)?;
        let told = matches!(self.json()?, Value::String(text) if text.contains(needle));
        ensure(told, || {
            format!(
                "{}; wanted a bare JSON string{}",
                self.line(),
                if needle.is_empty() {
                    String::new()
                } else {
                    format!(" with {needle:?} in it")
                }
            )
        })
    }
}

/// The keys of a batch, in Livy's order.
pub(super) const BATCH_KEYS: [&str; 8] = [
    "id",
    "name",
    "owner",
    "proxyUser",
    "state",
    "appId",
    "appInfo",
    "log",
];

/// Finds the first thing that is wrong with a batch: a key that is missing, one of the wrong type.
pub(super) fn batch_fault(batch: &Value) -> Option<String> {
    let Some(map) = batch.as_object() else {
        return Some("a batch is an object".into());
    };
    if let Some(key) = BATCH_KEYS.into_iter().find(|key| !map.contains_key(*key)) {
        return Some(format!(
            "the key {key:?} is always present, if only as null"
        ));
    }
    let text_or_null = |value: &Value| value.is_string() || value.is_null();
    if map["id"]
        .as_i64()
        .and_then(|id| i32::try_from(id).ok())
        .is_none()
    {
        return Some("\"id\" is a 32-bit integer".into());
    }
    if let Some(key) = ["name", "owner", "proxyUser", "appId"]
        .into_iter()
        .find(|key| !text_or_null(&map[*key]))
    {
        return Some(format!("{key:?} is a text or null"));
    }
    if !map["state"].is_string() {
        return Some("\"state\" is a text".into());
    }
    match map["appInfo"].as_object() {
        None => return Some("\"appInfo\" is an object, never null".into()),
        Some(info) => {
            if let Some((key, _)) = info.iter().find(|(_, value)| !text_or_null(value)) {
                return Some(format!(
                    "the value of {key:?} in \"appInfo\" is a text or null"
                ));
            }
        }
    }
    texts(&map["log"])
        .is_none()
        .then(|| "\"log\" is a list of texts".into())
}

/// Reads a list of texts.
pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    value
        .as_array()?
        .iter()
        .map(|line| line.as_str().map(str::to_owned))
        .collect()
}
