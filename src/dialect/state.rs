//! The six states that a client may see, and Livy's own words for them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::StateReading;

/// A state that every known Livy batch client understands. Livy's other words never leave the
/// gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchState {
    /// Accepted, not yet running.
    Starting,
    /// Running.
    Running,
    /// Ended well. Final.
    Success,
    /// Failed. Final.
    Dead,
    /// Killed. Final.
    Killed,
    /// The gateway can't say what became of it; the reason is in `appInfo` and the log. Final.
    Error,
}

impl BatchState {
    /// Every state.
    pub const ALL: [BatchState; 6] = [
        BatchState::Starting,
        BatchState::Running,
        BatchState::Success,
        BatchState::Dead,
        BatchState::Killed,
        BatchState::Error,
    ];

    /// Returns Livy's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            BatchState::Starting => "starting",
            BatchState::Running => "running",
            BatchState::Success => "success",
            BatchState::Dead => "dead",
            BatchState::Killed => "killed",
            BatchState::Error => "error",
        }
    }

    /// Returns the state of one of the six words, exactly as [`BatchState::as_str`] writes them.
    pub fn from_word(word: &str) -> Option<BatchState> {
        BatchState::ALL
            .into_iter()
            .find(|state| state.as_str() == word)
    }

    /// Tells whether nothing can follow.
    pub const fn is_terminal(self) -> bool {
        match self {
            BatchState::Starting | BatchState::Running => false,
            BatchState::Success | BatchState::Dead | BatchState::Killed | BatchState::Error => true,
        }
    }
}

impl fmt::Display for BatchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads a state word of Apache Livy (`SessionState.scala`), in any case.
///
/// `recovering` and `not_started` become `starting`, and `idle`, `busy`, `shutting_down` become
/// `running`: real clients fail on each of them or, worse, take them for the end.
pub fn livy_state(word: &str) -> StateReading {
    StateReading::Known(match word.to_ascii_lowercase().as_str() {
        "starting" | "not_started" | "recovering" => BatchState::Starting,
        "running" | "idle" | "busy" | "shutting_down" => BatchState::Running,
        "success" => BatchState::Success,
        "dead" => BatchState::Dead,
        "killed" => BatchState::Killed,
        "error" => BatchState::Error,
        _ => return StateReading::Unknown(word.to_owned()),
    })
}
