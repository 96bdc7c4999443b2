//! Why a check did not pass, in a sentence.

/// Why a check did not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// The endpoint does not do what the check says.
    Failed(String),
    /// The check could not be made, through no fault of the endpoint.
    Skipped(String),
}

impl Miss {
    pub(super) fn failed(why: impl Into<String>) -> Miss {
        Miss::Failed(why.into())
    }

    pub(super) fn skipped(why: impl Into<String>) -> Miss {
        Miss::Skipped(why.into())
    }
}

/// What a check ends with.
pub(super) type Outcome = Result<(), Miss>;

/// Fails with a sentence unless something holds.
pub(super) fn ensure(holds: bool, why: impl FnOnce() -> String) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(Miss::Failed(why()))
    }
}

/// Cuts a text for a line of a report.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 240;
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &one_line[..at]),
        None => one_line,
    }
}
