//! Everything but submitting: polls, items, lists, logs, kills.
//!
//! A poll must never fail because a cluster is away while the job goes on: real clients give up at
//! the first bad answer. So what is known is always at hand, and a cluster is asked only where that
//! could bring something new. A file per operation; this one finds the batch and refreshes what is
//! known of it.

mod alone;
mod ask;
pub mod kill;
mod lines;
pub mod list;
pub mod log;
mod missing;
mod numbers;
pub mod poll;
mod round;
pub mod watch;

use std::sync::Arc;
use std::time::Duration;

use livy_dialect::FaultKind;

use crate::api::error::{ApiError, Code};
use crate::api::etag::Has;
use crate::api::path::BatchKey;
use crate::api::respond::Reply;
use crate::auth::Principal;
use crate::fleet::{AskError, Upstream};
use crate::gateway::reads::Origin;
use crate::gateway::{Gateway, Snapshot};
use crate::observe::exchange::Exchange;
use crate::observe::metrics::NO_ROUTE;
use crate::registry::{Entry, GatewayId, Registry};

/// Who reads clusters: a request, or the gateway by itself.
#[derive(Debug, Clone)]
pub struct Reader {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// The configuration that it began with.
    pub snapshot: Arc<Snapshot>,
    /// For the cluster's log.
    pub exchange: Arc<Exchange>,
}

/// One request: a reader, and who the caller is.
#[derive(Debug, Clone)]
pub struct Call {
    /// What it reads with.
    pub reader: Reader,
    /// Who asks.
    pub principal: Arc<Principal>,
    /// The cluster of `/clusters/{name}/...`.
    pub pinned: Option<String>,
    /// What the client has already.
    pub has: Has,
}

impl std::ops::Deref for Call {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

/// Why a poll brought nothing new.
#[derive(Clone, Debug)]
enum Nothing {
    /// Its cluster, or somebody in front of it, gave no answer that can be used.
    NoAnswer(AskError),
    /// Its cluster says that there is no such batch.
    Gone,
    /// Its cluster shows another batch under its id: it counts anew.
    Another,
    /// What its cluster shows may be this batch or another one: nothing tells.
    CannotTell,
}

impl From<AskError> for Nothing {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Fault(fault) if fault.kind == FaultKind::NotFound => Nothing::Gone,
            error => Nothing::NoAnswer(error),
        }
    }
}

impl Call {
    /// Finds a batch that the caller may see.
    ///
    /// # Errors
    /// Livy's 404, the same for what does not exist and for what is another's.
    pub async fn find(&self, key: &BatchKey) -> Result<Arc<Entry>, ApiError> {
        let by_number = self.registry().numbers_are_the_clusters();
        let found = match key {
            // A cluster may count from 0.
            BatchKey::Id(id) if by_number && *id >= 0 => Ok(Box::pin(self.by_number(*id)).await?),
            BatchKey::Id(id) if *id > 0 => self.registry().get(GatewayId(*id)).await,
            BatchKey::Id(_) => Ok(None),
            BatchKey::Name(name) => {
                let visible = self.snapshot.access.visible(&self.principal);
                match self.registry().by_name(name, visible.clone()).await {
                    Ok(None) if by_number => {
                        Box::pin(self.learn_names()).await?;
                        self.registry().by_name(name, visible).await
                    }
                    found => found,
                }
            }
        };
        let entry = found.map_err(|error| read_failed(&error))?;
        let entry = entry
            .filter(|entry| self.snapshot.access.may_see(&self.principal, entry))
            .filter(|entry| {
                self.pinned
                    .as_ref()
                    .is_none_or(|cluster| *cluster == entry.cluster)
            });
        let entry = match entry {
            Some(entry) => self.shows(&entry).await?.then_some(entry),
            None => None,
        };
        entry
            .inspect(|entry| self.exchange.is_about(entry.shown_id().0))
            .inspect(|entry| {
                self.exchange
                    .goes_to(self.route_label(entry), &entry.cluster)
            })
            .ok_or_else(|| ApiError::no_such_batch(&key.to_string()))
    }

    /// Notes that the caller is shown a batch of a list, where nothing stands that another process
    /// may yet let go of; false if it vanished meanwhile.
    fn lists(&self, entry: &Arc<Entry>) -> bool {
        let to_owner = entry.owner.as_deref() == Some(self.principal.user.as_str());
        self.registry().show(entry, to_owner)
    }

    /// Notes that the caller is shown a batch; false if it vanished meanwhile.
    async fn shows(&self, entry: &Arc<Entry>) -> Result<bool, ApiError> {
        let to_owner = entry.owner.as_deref() == Some(self.principal.user.as_str());
        let shown = self.registry().show_to(entry, to_owner).await;
        shown.map_err(|error| read_failed(&error))
    }

    /// Returns the route by which a batch came, if there still is one of that name: labels are
    /// configured names only.
    fn route_label<'a>(&self, entry: &'a Entry) -> &'a str {
        let known = self
            .snapshot
            .routes
            .iter()
            .any(|route| route.name == entry.route);
        if known { &entry.route } else { NO_ROUTE }
    }

    fn signed(&self, reply: Reply, entry: &Entry) -> Reply {
        entry.peek(|known| {
            reply.from_cluster(&entry.cluster, &entry.route, known.phase.upstream_id())
        })
    }
}

impl Reader {
    fn registry(&self) -> &Registry {
        &self.gateway.registry
    }

    /// Refuses to look at a live batch for a caller without a bearer token, where the cluster is
    /// asked with that. What has ended is answered from memory for everybody who may see it.
    fn check_caller(&self, entry: &Entry) -> Result<(), ApiError> {
        let has_ended = entry.peek(|known| known.state.is_terminal());
        match self.snapshot.upstream_of(entry) {
            Some(upstream) if !has_ended => self.check_token(upstream),
            _ => Ok(()),
        }
    }

    /// Refuses to ask a cluster in the name of a caller who brought no token.
    fn check_token(&self, upstream: &Upstream) -> Result<(), ApiError> {
        if upstream.needs_a_caller() && self.exchange.caller_token().is_none() {
            return Err(ApiError::no_token_to_pass_on(&upstream.config.name));
        }
        Ok(())
    }
}

/// Says in an answer how old it is.
fn mark(origin: Origin, reply: Reply) -> Reply {
    match origin {
        Origin::Upstream | Origin::Terminal => reply,
        Origin::Coalesced => reply.age(Some(Duration::ZERO)),
        Origin::Cached(age) => reply.age(Some(age)),
        Origin::Stale(age) => reply.stale().age(age),
    }
}

/// Makes the answer to a failure of the registry on a read.
pub fn read_failed(error: &crate::registry::RegistryError) -> ApiError {
    tracing::error!(%error, "the registry failed");
    ApiError::new(Code::RegistryUnavailable, "the gateway's registry failed")
}
