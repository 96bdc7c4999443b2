//! What the helper says to the gateway: one line of JSON for each line that it hears.

use serde::{Deserialize, Serialize};

/// A line of the helper's.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Said {
    /// There are tickets.
    Ready {
        /// For how long, in seconds.
        life_s: u64,
    },
    /// A token for one request, in base64.
    Token(String),
    /// There is no ticket, or no token.
    Failed {
        /// MIT Kerberos' number.
        code: i32,
        /// Its sentence.
        words: String,
    },
}

impl Said {
    pub(super) fn to_line(&self) -> String {
        // Numbers and texts always become JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn from_line(line: &str) -> Option<Said> {
        serde_json::from_str(line).ok()
    }
}
