//! An answer of a double, or none.

use serde_json::Value;
use thiserror::Error;

/// An answer of a double.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: String,
}

impl Told {
    pub(super) fn new(status: u16, content_type: &str, body: impl Into<String>) -> Told {
        let headers = if content_type.is_empty() {
            Vec::new()
        } else {
            vec![("content-type", content_type.to_owned())]
        };
        Told {
            status,
            headers,
            body: body.into(),
        }
    }

    pub(super) fn json(status: u16, body: &Value) -> Told {
        Told::new(status, "application/json;charset=utf-8", body.to_string())
    }

    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Told {
        self.headers.push((name, value.into()));
        self
    }
}

/// The connection is closed without an answer.
#[derive(Debug, Error)]
#[error("the simulated cluster hung up")]
pub(super) struct HungUp;
