//! The batches that most checks look at.

use crate::certify::miss::Miss;
use crate::certify::suite::Made;

/// The batches that most checks look at; `None` for one that could not be submitted.
#[derive(Debug, Default)]
pub(super) struct Batches {
    /// Ends well.
    pub(super) ok: Option<Made>,
    /// Fails.
    pub(super) failing: Option<Made>,
    /// Runs until it is killed.
    pub(super) long: Option<Made>,
}

/// Takes a batch, or skips the check that needs it.
pub(super) fn need(batch: &Option<Made>) -> Result<&Made, Miss> {
    batch
        .as_ref()
        .ok_or_else(|| Miss::skipped("no batch to look at: it could not be submitted"))
}
