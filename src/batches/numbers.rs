//! Finding a batch by its cluster's own number, where nothing is stored (`registry: {passthrough: {}}`):
//! what this process does not know yet, its cluster may.

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::{BatchRef, FaultKind, Operation};
use tokio::time::{Instant, sleep};

use super::{Call, read_failed};
use crate::api::error::{ApiError, Code};
use crate::fleet::{AskError, Upstream};
use crate::registry::Entry;

/// How long a number is looked into that may be that of a submission on its way.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long that rests between two looks.
const REST: Duration = Duration::from_millis(200);

impl Call {
    /// Finds a batch by number. One that this process does not know is asked for, and has an entry
    /// from then on, whose owner is whom the cluster names.
    ///
    /// # Errors
    /// 503 where its cluster can't tell: a 404 would end the job for whoever polls it.
    pub(super) async fn by_number(&self, number: i32) -> Result<Option<Arc<Entry>>, ApiError> {
        // A configuration that passes numbers through has one cluster.
        let Some(upstream) = self.snapshot.upstreams.values().next() else {
            return Ok(None);
        };
        let cluster = &upstream.config.name;
        let until = Instant::now() + PATIENCE;
        loop {
            let known = self.registry().by_number(cluster, number).await;
            if let Some(entry) = known.map_err(|error| read_failed(&error))? {
                return Ok(Some(entry));
            }
            if !self.is_there(upstream, number).await? {
                return Ok(None);
            }
            let known = self.registry().by_number(cluster, number).await;
            if let Some(entry) = known.map_err(|error| read_failed(&error))? {
                return Ok(Some(entry));
            }
            // It is there and has no entry: what was given up or deleted here, or what a submission on
            // its way is about to become.
            let open = self.registry().has_open().await;
            if !open.map_err(|error| read_failed(&error))? {
                return Ok(None);
            }
            if Instant::now() > until {
                let why = "a submission is on its way that may be it";
                return Err(cannot_tell(upstream, number, why));
            }
            sleep(REST).await;
        }
    }

    /// Asks the cluster for a batch by number, and notes what it shows.
    async fn is_there(&self, upstream: &Arc<Upstream>, number: i32) -> Result<bool, ApiError> {
        self.check_token(upstream)?;
        if !upstream.health.is_enabled() || !upstream.health.may_ask() {
            let why = format!("its cluster does not answer{}", upstream.health.why());
            return Err(cannot_tell(upstream, number, &why));
        }
        let dialect = upstream.dialect();
        let upstream_id = number.to_string();
        let request = dialect.get(BatchRef {
            upstream_id: &upstream_id,
            sent_name: None,
        });
        let asked = self.registry().clock().now();
        let seen = upstream
            .ask(Operation::GetBatch, &request, &self.exchange, |response| {
                dialect.decode_get(response)
            })
            .await;
        match seen {
            Ok(seen) if seen.upstream_id == upstream_id => {
                upstream.showed_id(&seen.upstream_id);
                let adopted = self
                    .registry()
                    .adopt(&upstream.config.name, vec![seen], asked);
                adopted
                    .await
                    .map(|_| true)
                    .map_err(|error| read_failed(&error))
            }
            // A name that reads as a number: Livy takes a number for an id, and would not say so.
            Ok(_) => Ok(false),
            Err(AskError::Fault(fault)) if fault.kind == FaultKind::NotFound => Ok(false),
            Err(error) => Err(cannot_tell(upstream, number, &error.words())),
        }
    }

    /// Reads the cluster's list, where a name is asked for that this process does not know.
    pub(super) async fn learn_names(&self) -> Result<(), ApiError> {
        if let Some(upstream) = self.snapshot.upstreams.values().next() {
            self.check_token(upstream)?;
            self.refresh_list(upstream).await;
        }
        Ok(())
    }
}

fn cannot_tell(upstream: &Upstream, number: i32, why: &str) -> ApiError {
    let message = format!(
        "whether cluster '{}' has batch {number} can't be told: {why}",
        upstream.config.name
    );
    ApiError::new(Code::ClusterUnavailable, message)
}
