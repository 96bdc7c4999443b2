//! One submission, from the decision where it goes to the answer: never lost, never doubled, never guessed at.
//!
//! The order is the promise. *Record*: the registry has it before a byte is sent. *Send*: once. *Resolve*: by the answer, or, when the
//! answer proves nothing, by asking the cluster (`resolve`). A second cluster is tried only after proof that the first one took nothing.
//! The whole walk runs in a task of its own, so that a client that hangs up can't stop it between two of these steps.

mod plan;
pub mod resolve;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use livy_dialect::{BatchSpec, FaultKind, Operation, UpstreamFault};
use tokio::time::timeout;

use crate::api::error::{ApiError, Code};
use crate::api::respond::Reply;
use crate::auth::Principal;
use crate::config::checked::Route;
use crate::registry::{Entry, Idempotency, Intent, Intention, Phase, RegistryError, now_ms};
use crate::runtime::{Gateway, Snapshot};
use crate::upstream::{Errand, SendError, Upstream};
use plan::Plan;

/// The `outcome` values of `submissions_total`.
pub const OUTCOMES: [&str; 7] =
    ["accepted", "rejected_request", "rejected_policy", "rejected_upstream", "ambiguous", "deduplicated", "failed"];

/// How long a client waits, after an answer was lost, for the matter to become clear, before it gets its 201 with `starting`.
const PATIENCE: Duration = Duration::from_secs(20);

/// The strictest client that is known gives up reading after 120 s (Kylin); the answer must be under way by then, whatever the cluster does.
const CLIENT_LIMIT: Duration = Duration::from_secs(110);

/// A submission as it came out of the API.
#[derive(Debug)]
pub struct Submission {
    /// Who submits.
    pub principal: Arc<Principal>,
    /// What.
    pub spec: BatchSpec,
    /// The cluster of `/clusters/{name}/batches`.
    pub pinned: Option<String>,
    /// `?doAs=`.
    pub do_as: Option<String>,
    /// The client's path prefix, for `Location`.
    pub prefix: String,
    /// `Idempotency-Key`.
    pub idempotency_key: Option<String>,
}

enum Sent {
    /// It exists.
    Created,
    /// Proven: it was not accepted, and another cluster may be tried.
    NotAccepted(ApiError),
    /// Proven: it was refused for good.
    Refused(ApiError),
    /// Nothing is proven.
    Unclear(UpstreamFault),
}

/// Serves `POST /batches`.
///
/// # Errors
/// A refusal for good (4xx), or 503 when nothing was sent.
pub async fn submit(
    gateway: &Arc<Gateway>,
    snapshot: &Arc<Snapshot>,
    submission: Submission,
    headers: &HeaderMap,
    errand: Arc<Errand>,
) -> Result<Reply, ApiError> {
    if gateway.is_draining() {
        return Err(ApiError::new(Code::Draining, "this gateway is shutting down"));
    }
    let (route, plans) = plan::make(snapshot, &submission, headers, &gateway.metrics)?;
    let walk = Walk { gateway: gateway.clone(), route, errand, started: Instant::now(), submission, recorded: Mutex::default() };
    let walk = Arc::new(walk);
    // From here on a client that hangs up changes nothing.
    let mut task = gateway.tasks.spawn({
        let walk = walk.clone();
        async move { walk.run(plans).await }
    });
    let ended_early = |_| Err(ApiError::new(Code::Internal, "the submission's task ended early; what was sent will be looked up"));
    match timeout(CLIENT_LIMIT, &mut task).await {
        Ok(result) => result.unwrap_or_else(ended_early),
        Err(_) => match walk.answer_in_time() {
            Some(answer) => answer,
            None => task.await.unwrap_or_else(ended_early),
        },
    }
}

struct Walk {
    gateway: Arc<Gateway>,
    route: Arc<Route>,
    errand: Arc<Errand>,
    started: Instant,
    submission: Submission,
    /// What was recorded last: the batch that the client hears of when time runs out before the cluster has answered.
    recorded: Mutex<Option<Arc<Entry>>>,
}

impl Walk {
    /// Answers for a cluster that takes longer than clients wait: the batch is recorded, so it has an id, and it is `starting`.
    fn answer_in_time(&self) -> Option<Result<Reply, ApiError>> {
        let entry = self.recorded.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        if !entry.disclose_unresolved() {
            return None;
        }
        tracing::warn!(batch = %entry.id, cluster = %entry.cluster, "the cluster takes longer than clients wait; answering before it");
        Some(if self.route.ambiguous_is_error { Err(unknown(&entry)) } else { Ok(self.reply(&entry)) })
    }

    async fn run(&self, plans: Vec<Plan>) -> Result<Reply, ApiError> {
        let mut last = ApiError::new(Code::ClusterUnavailable, "no cluster took the submission");
        for plan in plans {
            let cluster = plan.upstream.config.name.clone();
            self.errand.goes_to(&self.route.name, &cluster);
            let labels = [self.route.name.as_str(), cluster.as_str(), plan.reason];
            self.gateway.metrics.routing_decisions_total.with_label_values(&labels).inc();
            match self.try_one(plan).await {
                Ok(settled) => return settled,
                Err(not_accepted) => last = not_accepted,
            }
        }
        Err(last)
    }

    /// Tries one cluster. `Err` means that nothing was accepted there and the next one may be tried.
    async fn try_one(&self, plan: Plan) -> Result<Result<Reply, ApiError>, ApiError> {
        let entry = match self.record(&plan).await {
            Ok(Intention::New(entry)) => entry,
            Ok(Intention::NameTaken(id)) => return Ok(Err(self.duplicate_name(&plan, id).await)),
            Ok(Intention::Replay(entry)) => return Ok(self.replay(&plan, &entry).await),
            Ok(Intention::Conflict) => {
                self.gateway.metrics.idempotency_total.with_label_values(&["conflict"]).inc();
                let message = "this Idempotency-Key was used with another submission";
                return Ok(Err(ApiError::new(Code::IdempotencyConflict, message)));
            }
            Err(error) => return Ok(Err(registry_failed(&error))),
        };
        *self.recorded.lock().unwrap_or_else(PoisonError::into_inner) = Some(entry.clone());
        // A crash from here to `bind` or `refuse` leaves the entry pending; the next start looks it up.
        match self.send(&plan, &entry).await {
            Sent::Created => {
                self.count(&plan, "accepted");
                Ok(Ok(self.created(&plan, &entry)))
            }
            Sent::NotAccepted(error) => {
                self.count(&plan, if error.code == Code::ClusterFull { "rejected_upstream" } else { "failed" });
                // With an id that the client already has, the job must not run anywhere else.
                if self.refuse(&entry, &error).await { Err(error) } else { Ok(Err(error)) }
            }
            Sent::Refused(error) => {
                self.count(&plan, "rejected_upstream");
                self.refuse(&entry, &error).await;
                Ok(Err(error))
            }
            Sent::Unclear(fault) => {
                self.count(&plan, "ambiguous");
                plan.upstream.count_retry(Operation::CreateBatch, "unsafe");
                Ok(self.resolve(plan, entry, fault).await)
            }
        }
    }

    async fn record(&self, plan: &Plan) -> Result<Intention, RegistryError> {
        let spec = &plan.spec;
        let idempotency = self.submission.idempotency_key.clone().map(|key| Idempotency {
            key,
            body_hash: plan::hash(&self.submission),
            until_ms: now_ms() + i64::try_from(self.route.idempotency_ttl.as_millis()).unwrap_or(i64::MAX / 2),
        });
        let keyed = idempotency.is_some();
        let intent = Intent {
            cluster: plan.upstream.config.name.clone(),
            route: self.route.name.clone(),
            lookup: plan.encoded.lookup.clone(),
            owner: self.submission.principal.user.clone(),
            name: spec.name.clone(),
            names_kept_by_cluster: plan.upstream.dialect().keeps_names(),
            idempotency,
        };
        let result = self.gateway.registry.record(intent).await;
        if keyed && matches!(result, Ok(Intention::New(_))) {
            self.gateway.metrics.idempotency_total.with_label_values(&["new"]).inc();
        }
        result
    }

    /// Sends once, and reads what the answer proves.
    async fn send(&self, plan: &Plan, entry: &Entry) -> Sent {
        let upstream = &plan.upstream;
        let mut sent = upstream.send(Operation::CreateBatch, &plan.encoded.request, &self.errand).await;
        if matches!(sent, Err(SendError::NotSent { reason: "reset", .. })) {
            // A pooled connection was closed before it took a byte: proven unsent, and no fault of the cluster's.
            sent = upstream.send(Operation::CreateBatch, &plan.encoded.request, &self.errand).await;
            upstream.count_retry(Operation::CreateBatch, if sent.is_ok() { "recovered" } else { "exhausted" });
        }
        let answer = match sent {
            Ok(answer) => answer,
            Err(SendError::NotSent { reason, .. }) => {
                let message = format!("cluster '{}' can't be reached ({reason}); nothing was submitted", upstream.config.name);
                return Sent::NotAccepted(ApiError::new(Code::ClusterUnavailable, message));
            }
            Err(SendError::MaybeSent { reason, detail }) => {
                let message = format!("{reason}: {detail}");
                return Sent::Unclear(UpstreamFault { kind: FaultKind::Unclear, status: 0, message });
            }
        };
        match upstream.dialect().decode_create(&answer.as_response()) {
            Ok(observed) => {
                self.bind(upstream, entry, &observed).await;
                self.check_effective_user(plan, &observed);
                Sent::Created
            }
            Err(fault) => {
                upstream.count_fault(Operation::CreateBatch, &fault);
                self.judge(plan, fault).await
            }
        }
    }

    async fn bind(&self, upstream: &Upstream, entry: &Entry, observed: &livy_dialect::Observed) {
        if let Err(error) = self.gateway.registry.bind(entry, observed).await {
            // It exists and is known in memory; the database still says `sending`, so the next start finds it by look-up.
            tracing::error!(batch = %entry.id, %error, "a created batch could not be stored");
        }
        upstream.handles.entered(entry.peek(|known| known.state));
    }

    /// A Livy with impersonation off answers `proxyUser: null` to a request that had one: said in the log and in a metric.
    fn check_effective_user(&self, plan: &Plan, observed: &livy_dialect::Observed) {
        let Some(asked) = &plan.spec.proxy_user else { return };
        if observed.proxy_user.as_ref() != Some(asked) {
            let labels = [plan.upstream.config.flavor.as_str(), "proxyUser", "dropped"];
            self.gateway.metrics.translation_notes_total.with_label_values(&labels).inc();
            tracing::debug!(cluster = %plan.upstream.config.name, "the cluster did not take proxyUser; the job runs as another account");
        }
    }

    async fn judge(&self, plan: &Plan, fault: UpstreamFault) -> Sent {
        let cluster = &plan.upstream.config.name;
        match fault.kind {
            FaultKind::Busy => Sent::NotAccepted(ApiError::new(
                Code::ClusterFull,
                format!("cluster '{cluster}' takes no more batches now: {}", fault.message),
            )),
            FaultKind::Unavailable | FaultKind::NotFound => {
                let message = format!("cluster '{cluster}' turned the request away ({}); nothing was submitted", fault.status);
                Sent::NotAccepted(ApiError::new(Code::ClusterUnavailable, message))
            }
            FaultKind::Unauthorized => {
                tracing::error!(%cluster, status = fault.status, "the cluster refused the gateway's credentials");
                let message = format!("cluster '{cluster}' refused the gateway's own credentials; nothing was submitted");
                Sent::NotAccepted(ApiError::new(Code::UpstreamCredentials, message))
            }
            FaultKind::Forbidden => Sent::Refused(ApiError::new(Code::UpstreamForbidden, fault.message)),
            FaultKind::DuplicateName => Sent::Refused(ApiError::new(Code::DuplicateName, plain_duplicate(&plan.spec))),
            FaultKind::Refused => {
                self.remove_leftover(plan).await;
                Sent::Refused(ApiError::new(Code::UpstreamRejected, format!("cluster '{cluster}' refused the batch: {}", fault.message)))
            }
            FaultKind::Unclear | FaultKind::Unreadable => Sent::Unclear(fault),
        }
    }

    /// Removes the ghost that Livy keeps of a submission that it refused; its name would be taken for ever.
    async fn remove_leftover(&self, plan: &Plan) {
        let (upstream, errand) = (&plan.upstream, &self.errand);
        let dialect = upstream.dialect();
        let Some(request) = dialect.lookup(&plan.encoded.lookup) else { return };
        let found = upstream.ask(Operation::GetBatch, &request, errand, |response| dialect.decode_get(response)).await;
        let Ok(ghost) = found else { return };
        let ours = ghost.name == plan.encoded.lookup.sent_name;
        if !ours || !dialect.is_leftover(&ghost) || plan.encoded.lookup.sent_name.is_none() {
            return;
        }
        let batch = livy_dialect::BatchRef { upstream_id: &ghost.upstream_id, sent_name: ghost.name.as_deref() };
        let request = dialect.delete(batch);
        if let Err(error) = upstream.ask(Operation::DeleteBatch, &request, errand, |response| dialect.decode_delete(response)).await {
            tracing::warn!(cluster = %upstream.config.name, %error, "the ghost of a refused submission could not be removed");
        }
    }

    /// Stores a refusal. False when the client was given the id meanwhile: then the batch ends as an error instead of vanishing.
    async fn refuse(&self, entry: &Entry, why: &ApiError) -> bool {
        let stored = self.gateway.registry.refuse(entry, &why.message).await;
        if let Err(error) = stored {
            tracing::error!(batch = %entry.id, %error, "a refused submission could not be stored as such");
        }
        entry.phase() == Phase::Refused
    }

    /// Asks until it is clear what became of the submission; the client waits for a while only.
    async fn resolve(&self, plan: Plan, entry: Arc<Entry>, fault: UpstreamFault) -> Result<Reply, ApiError> {
        tracing::warn!(cluster = %plan.upstream.config.name, batch = %entry.id, %fault, "the outcome of a submission is unclear; asking the cluster");
        let patience = PATIENCE.min(CLIENT_LIMIT.saturating_sub(self.started.elapsed())).max(Duration::from_secs(1));
        let open = resolve::Open {
            gateway: self.gateway.clone(),
            upstream: plan.upstream.clone(),
            entry: entry.clone(),
            errand: self.errand.clone(),
            repeat: Some(plan.encoded.request.clone()),
            answered_by_server: fault.status == 500 && plan.upstream.dialect().leaves_rows_after_500(),
        };
        self.gateway.tasks.spawn(open.run());
        let clear = timeout(patience, entry.resolved()).await;
        match clear {
            Err(_) if self.route.ambiguous_is_error => Err(unknown(&entry)),
            Ok(Phase::Refused) => {
                let message = format!("cluster '{}' refused the batch: {}", plan.upstream.config.name, fault.message);
                Err(ApiError::new(Code::UpstreamRejected, message))
            }
            _ => Ok(self.created(&plan, &entry)),
        }
    }

    async fn duplicate_name(&self, plan: &Plan, holder: crate::registry::GatewayId) -> ApiError {
        self.count(plan, "rejected_request");
        let visible = match self.gateway.registry.get(holder).await {
            Ok(Some(entry)) => entry.owner.as_deref() == Some(self.submission.principal.user.as_str()),
            _ => false,
        };
        // Livy's sentence; the id only where the caller may know it.
        let of = if visible { format!(" for session {holder}") } else { String::new() };
        ApiError::new(Code::DuplicateName, format!("{}{of}", plain_duplicate(&plan.spec)))
    }

    async fn replay(&self, plan: &Plan, entry: &Arc<Entry>) -> Result<Reply, ApiError> {
        self.count(plan, "deduplicated");
        let in_progress = entry.phase() == Phase::Sending;
        let outcome = if in_progress { "in_progress" } else { "replayed" };
        self.gateway.metrics.idempotency_total.with_label_values(&[outcome]).inc();
        // Still unclear after the wait is answered like the first request: 201 with what is known.
        let _ = timeout(PATIENCE, entry.resolved()).await;
        if !entry.phase().is_visible() {
            return Err(ApiError::new(Code::UpstreamRejected, "the submission with this Idempotency-Key was refused; use a new key"));
        }
        Ok(self.created(plan, entry))
    }

    fn created(&self, plan: &Plan, entry: &Entry) -> Reply {
        let reply = plan.warnings().fold(self.reply(entry), |reply, text| reply.warning(text));
        let (seen, is_bound) = entry.peek(|known| (known.proxy_user.clone(), known.upstream_id.is_some()));
        match &plan.spec.proxy_user {
            Some(asked) if is_bound && seen.as_ref() != Some(asked) => {
                reply.warning("proxyUser: the cluster did not take it; the job runs as the cluster's own account")
            }
            _ => reply,
        }
    }

    /// Makes the 201. Whoever gets it has the id from now on.
    fn reply(&self, entry: &Entry) -> Reply {
        entry.disclose();
        let upstream_id = entry.peek(|known| known.upstream_id.clone());
        Reply::ok(&entry.batch()).created(&self.submission.prefix, entry.id.0).from_cluster(
            &entry.cluster,
            &entry.route,
            upstream_id.as_deref(),
        )
    }

    fn count(&self, plan: &Plan, outcome: &str) {
        let labels = [self.route.name.as_str(), plan.upstream.config.name.as_str(), outcome];
        self.gateway.metrics.submissions_total.with_label_values(&labels).inc();
    }
}

fn unknown(entry: &Entry) -> ApiError {
    entry.disclose();
    let message =
        format!("it is not known whether cluster '{}' created the batch; the gateway goes on asking (batch {})", entry.cluster, entry.id);
    ApiError::new(Code::SubmissionUnknown, message)
}

fn plain_duplicate(spec: &BatchSpec) -> String {
    format!("Duplicate session name: {}", spec.name.as_deref().unwrap_or_default())
}

/// Makes the answer to a failure of the registry before anything was sent.
pub fn registry_failed(error: &RegistryError) -> ApiError {
    tracing::error!(%error, "the registry failed");
    ApiError::new(Code::RegistryUnavailable, "the gateway's registry failed; nothing was submitted")
}
