//! Which submission an application of an IBM service belongs to: what their details said so far.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

/// How often an application whose details lack something is looked at: they may show it later.
const LOOKS: u32 = 10;
/// The first pause between two such looks; it doubles.
const PAUSE: Duration = Duration::from_millis(200);

/// What the details of the applications said that the service lists.
#[derive(Debug, Default)]
pub struct Marks(pub(super) Mutex<HashMap<String, Mark>>);

/// What is known of one application.
#[derive(Debug, Default)]
pub(super) struct Mark {
    pub(super) looks: u32,
    pub(super) looked: Option<Instant>,
    pub(super) shows_conf: bool,
    pub(super) key: Option<String>,
    /// Spark's id.
    pub(super) spark_id: Option<String>,
}

impl Mark {
    pub(super) fn is_due(&self) -> bool {
        let rested = |at: Instant| at.elapsed() >= PAUSE * 2_u32.pow(self.looks.min(LOOKS));
        self.looks < LOOKS && self.looked.is_none_or(rested)
    }
}

impl Marks {
    /// Tells whether an application, by Spark's id, was seen to have this marker.
    pub async fn has(&self, key: &str, spark_id: Option<&str>) -> bool {
        let marks = self.0.lock().await;
        let is_it = |mark: &Mark| {
            mark.key.as_deref() == Some(key)
                && mark.spark_id.is_some()
                && mark.spark_id.as_deref() == spark_id
        };
        marks.values().any(is_it)
    }

    /// Tells whether something speaks against an application, by Spark's id, being that of this
    /// marker: it was submitted without it, or that is still to be seen.
    pub async fn speak_against(&self, key: &str, spark_id: Option<&str>) -> bool {
        let marks = self.0.lock().await;
        let other = |mark: &Mark| mark.shows_conf && mark.key.as_deref() != Some(key);
        let is_it = |mark: &Mark| spark_id.is_none() || mark.spark_id.as_deref() == spark_id;
        marks.values().any(|mark| other(mark) && is_it(mark))
    }
}
