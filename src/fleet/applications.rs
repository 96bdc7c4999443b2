//! Looking for the application of a submission at an IBM service: the marker that went along in
//! `conf` is shown with an application's details only, so each of them is read, once.

use livy_dialect::ibm::{self, Application};
use livy_dialect::wire;
use tokio::time::Instant;

use super::upstream::Upstream;
use crate::observe::exchange::Exchange;

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
