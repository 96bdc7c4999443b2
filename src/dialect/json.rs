//! Small readers over `serde_json::Value` for answers whose shape can't be trusted.
//!
//! Upstreams leave keys out, write numbers as text and `"null"` for null. These helpers read what
//! can be read and never fail.

use serde_json::{Map, Value};

use crate::fault::{FaultKind, UpstreamFault};
use crate::wire::UpstreamResponse;

/// Reads the answer as a JSON object, or returns `None`.
pub fn object(body: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Some(map),
        _ => None,
    }
}

/// Reads a success as a JSON object. Anything else is a fault: of the kind that `refusal` reads out
/// of it, or one that can't be read. `who` begins the sentence about the latter.
///
/// # Errors
/// What the answer proves.
pub fn accept(
    response: &UpstreamResponse<'_>,
    who: &str,
    refusal: impl FnOnce() -> FaultKind,
) -> Result<Map<String, Value>, UpstreamFault> {
    if response.is_success() && !response.is_html() {
        let unreadable = || {
            UpstreamFault::unreadable(
                response,
                &format!("{who} answered with something that is not a JSON object"),
            )
        };
        return object(response.body).ok_or_else(unreadable);
    }
    Err(UpstreamFault::of(refusal(), response))
}

/// Cuts a text after so many characters, visibly.
pub fn shorten(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text.to_owned(),
    }
}

/// Returns a scalar as text; null, missing, `"null"` and containers are `None`.
pub fn text(map: &Map<String, Value>, key: &str) -> Option<String> {
    match map.get(key)? {
        Value::String(text) if text == "null" => None,
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns a name that somebody chose: as [`text`], but the four letters of null are a name like
/// any other.
pub fn name(map: &Map<String, Value>, key: &str) -> Option<String> {
    match map.get(key) {
        Some(Value::String(name)) => Some(name.clone()),
        _ => text(map, key),
    }
}

/// Returns a non-negative integer, also one that is written as text, as canonical decimal text.
pub fn id(map: &Map<String, Value>, key: &str) -> Option<String> {
    match map.get(key)? {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse::<u64>().ok(),
        _ => None,
    }
    .map(|number| number.to_string())
}

/// Returns the texts of a list; a missing or null list is empty, elements that are no scalars are
/// left out.
pub fn lines(map: &Map<String, Value>, key: &str) -> Vec<String> {
    let Some(Value::Array(items)) = map.get(key) else {
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| match item {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        })
        .collect()
}
