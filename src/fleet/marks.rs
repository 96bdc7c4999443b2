//! Which submission an application of an IBM service belongs to: the marker that went along in
//! `conf` is shown with an application's details only, so each of them is read, once.

use std::collections::HashMap;
use std::time::Duration;

use livy_dialect::ibm::{self, Application};
use livy_dialect::wire;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::upstream::Upstream;
use crate::observe::exchange::Exchange;

/// How often an application whose details lack something is looked at: they may show it later.
const LOOKS: u32 = 10;
/// The first pause between two such looks; it doubles.
const PAUSE: Duration = Duration::from_millis(200);

/// What the details of the applications said that the service lists.
#[derive(Debug, Default)]
pub struct Marks(Mutex<HashMap<String, Mark>>);

#[derive(Debug, Default)]
struct Mark {
    looks: u32,
    looked: Option<Instant>,
    shows_conf: bool,
    key: Option<String>,
    /// Spark's id.
    spark_id: Option<String>,
}

impl Mark {
    fn is_due(&self) -> bool {
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

impl Upstream {
    /// Looks for the application that has a submission's marker. `None`: nobody shows it, so far.
    pub async fn marked(&self, key: &str, exchange: &Exchange) -> Option<Application> {
        let path = self.dialect().applications(&self.config.base.path)?;
        let answer = self.read_beside(&path, exchange).await.ok()?;
        let listed = ibm::read_applications(&answer.as_response()).unwrap_or_default();
        // One at a time: whoever comes meanwhile finds the details read.
        let mut marks = self.marks.0.lock().await;
        marks.retain(|id, _| listed.iter().any(|application| application.id == *id));
        for application in listed {
            let mark = marks.entry(application.id.clone()).or_default();
            let is_mine = mark.key.as_deref() == Some(key);
            // Spark's id comes once it runs.
            let is_read = mark.shows_conf && mark.spark_id.is_some();
            if !is_mine && (is_read || !mark.is_due()) {
                continue;
            }
            (mark.looks, mark.looked) = (mark.looks + 1, Some(Instant::now()));
            let detail = format!("{path}/{}", wire::segment(&application.id));
            let answer = self.read_beside(&detail, exchange).await.ok()?;
            let Some(detail) = ibm::read_application(&answer.as_response()) else {
                continue;
            };
            mark.shows_conf |= detail.shows_conf;
            mark.key.clone_from(&detail.key);
            mark.spark_id.clone_from(&detail.spark_id);
            if detail.key.as_deref() == Some(key) {
                return Some(detail);
            }
        }
        None
    }
}
