//! The task of one submission: one cluster after the other, each only after proof that the one
//! before took nothing.

use std::sync::{Arc, Mutex, PoisonError};

use livy_dialect::proof::{self, Holder, Proof};
use livy_dialect::{BatchSpec, FaultKind, LookupPlan, Operation, UpstreamFault};
use tokio::time::Instant;

use super::behind::{Behind, behind_refusal};
use super::failure::{registry_failed, unknown, unreachable};
use super::look::{self, Looked};
use super::plan::{self, Plan};
use super::resolve::{End, Open};
use super::submission::Submission;
use super::whose;
use crate::api::error::{ApiError, Code};
use crate::config::checked::{Ambiguous, Route};
use crate::fleet::{AskError, SendError};
use crate::gateway::Gateway;
use crate::gateway::board::{Listed, Outcome, Ticket};
use crate::observe::exchange::Exchange;
use crate::registry::decide::{Before, Silence};
use crate::registry::{Entry, GatewayId, Intent, Intention, RegistryError, Replaced};

pub(super) struct Run {
    gateway: Arc<Gateway>,
    route: Arc<Route>,
    exchange: Arc<Exchange>,
    submission: Arc<Submission>,
    ticket: Arc<Ticket>,
    body_hash: String,
    /// The life of this process in which it was begun (`Registry::life`).
    life: u64,
    /// The ticket's places on the board, one for each cluster tried: whoever sends it again finds
    /// it at any time until its end.
    listed: Mutex<Vec<Listed>>,
}

/// Answers whoever waits when the task ends without an answer: a bug must not leave them waiting.
/// What was sent is taken up by `resolve`.
struct Unanswered(Arc<Ticket>);

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.answer_if_none(ApiError::new(
            Code::Internal,
            "the gateway met a bug; what was sent will be looked up",
        ));
    }
}

/// What an attempt at one cluster came to.
enum Attempt {
    /// The submission has its answer.
    Settled(Result<Outcome, ApiError>),
    /// Proven: it was not accepted there. The entry, if there is one, is withdrawn and still holds
    /// key and name.
    Next(ApiError, Option<Withdrawn>),
}

/// An attempt that came to nothing.
struct Withdrawn {
    entry: Arc<Entry>,
    may_arrive: bool,
    /// Not proven: its cluster does not answer, and another one may have it.
    is_open: bool,
}

impl Withdrawn {
    /// Tells whether its job, if it comes late, is told from that of the attempt that goes on: by a
    /// name that was made up for it, not by one that both have.
    fn is_told_apart(&self) -> bool {
        self.may_arrive && self.entry.lookup.is_certain()
    }
}

/// What a cluster shows under a client's own name before anything is sent.
enum Name {
    Free,
    Taken,
    /// Its list, which alone could show it, can't be read whole.
    Unknown,
}

/// What is known of a submission whose outcome is unclear.
struct Unclear {
    fault: UpstreamFault,
    holder: Holder,
    /// What is found may be the leftover of a refusal.
    leftovers: bool,
    /// The cluster refused it, and can't be asked whether that is all.
    refused: bool,
}

impl Unclear {
    fn new(fault: UpstreamFault, holder: Holder) -> Unclear {
        Unclear {
            fault,
            holder,
            leftovers: false,
            refused: false,
        }
    }
}

impl Run {
    pub(super) fn new(
        gateway: &Arc<Gateway>,
        route: Arc<Route>,
        exchange: Arc<Exchange>,
        submission: Arc<Submission>,
        ticket: Arc<Ticket>,
    ) -> Run {
        let body_hash = plan::hash(&submission);
        Run {
            gateway: gateway.clone(),
            route,
            exchange,
            submission,
            ticket,
            body_hash,
            life: gateway.registry.life(),
            listed: Mutex::default(),
        }
    }

    pub(super) async fn run_to_the_end(self, plans: Vec<Plan>) {
        let unanswered = Unanswered(self.ticket.clone());
        let answer = self.run(plans).await;
        unanswered.0.answer(answer);
    }

    async fn run(&self, plans: Vec<Plan>) -> Result<Outcome, ApiError> {
        let mut last = ApiError::new(
            Code::ClusterUnavailable,
            "no cluster took the submission; nothing was submitted",
        );
        let (mut before, mut open): (Option<Withdrawn>, Option<Arc<Entry>>) = (None, None);
        let count = plans.len();
        for (at, plan) in plans.into_iter().enumerate() {
            let cluster = plan.upstream.config.name.clone();
            self.exchange.goes_to(&self.route.name, &cluster);
            let labels = [self.route.name.as_str(), cluster.as_str(), plan.reason];
            self.gateway
                .metrics
                .routing_decisions_total
                .with_label_values(&labels)
                .inc();
            match self.attempt(plan, before.as_ref(), at + 1 < count).await {
                Attempt::Settled(answer) => return self.let_go(before, open, answer).await,
                Attempt::Next(error, withdrawn) => {
                    last = error;
                    if let Some(withdrawn) = withdrawn {
                        open = open.or_else(|| withdrawn.is_open.then(|| withdrawn.entry.clone()));
                        // The one before was replaced when this one was recorded.
                        before = Some(withdrawn);
                    }
                }
            }
        }
        self.let_go(before, open, Err(last)).await
    }

    /// Stores the last attempt that came to nothing as such; only now key and name are free.
    async fn let_go(
        &self,
        before: Option<Withdrawn>,
        open: Option<Arc<Entry>>,
        answer: Result<Outcome, ApiError>,
    ) -> Result<Outcome, ApiError> {
        let (Some(before), Err(error)) = (before, &answer) else {
            return answer;
        };
        let Some(first) = open else {
            self.refuse(&before.entry, &error.message, before.may_arrive)
                .await;
            return answer;
        };
        // Nobody else took it: it is open at the cluster that does not answer, and is asked for as
        // soon as nobody is on it here.
        let other = (before.entry.id != first.id).then_some(&before.entry);
        let registry = &self.gateway.registry;
        let reopened = registry.reopen(&first, other).await;
        if let Some(other) = other {
            self.refuse(other, &error.message, before.is_told_apart())
                .await;
        }
        let told = match reopened {
            Ok(()) => registry.tell_if_open(&first).await,
            Err(error) => Err(error),
        };
        match told {
            Ok(_) => Ok(Outcome::Created {
                entry: first,
                warnings: Vec::new(),
            }),
            Err(error) => {
                tracing::error!(batch = %first.id, %error, "an open submission could not be stored as such");
                Err(unknown(&first))
            }
        }
    }

    async fn attempt(&self, mut plan: Plan, before: Option<&Withdrawn>, others: bool) -> Attempt {
        // Before anything is stored or sent: what is turned away has left no trace anywhere.
        plan.slot = plan.upstream.place(Operation::CreateBatch);
        if plan.slot.is_none() {
            self.count(&plan, "failed");
            let shed = SendError::shed();
            return Attempt::Next(not_sent(&plan, &shed), None);
        }
        let mut listed = match self.look_before_recording(&plan).await {
            Ok(listed) => listed,
            Err(error) => return Attempt::Next(error, None),
        };
        let name_in_use = match self.look_for_the_name(&plan).await {
            Ok(Name::Free) => false,
            Ok(Name::Taken) => true,
            // What is found under it later may have been there before, whatever its number.
            Ok(Name::Unknown) => {
                listed = Before {
                    above: Some(i64::MAX),
                    ..Before::default()
                };
                false
            }
            Err(error) => return Attempt::Next(error, None),
        };
        if !self.ticket.begin_recording() {
            return Attempt::Settled(Err(ApiError::new(
                Code::Draining,
                "nothing was submitted: nobody waited any more",
            )));
        }
        // Until it is recorded, no other configuration comes into force: whoever puts one in force
        // counts it, or it is told here that it has come too late.
        let in_force = self.gateway.in_force.read().await;
        if let Err(error) = plan.upstream.must_be_meant() {
            self.count(&plan, "failed");
            return Attempt::Next(not_sent(&plan, &error), None);
        }
        let recorded = self.record(&plan, before, listed.above, name_in_use).await;
        drop(in_force);
        let entry = match recorded {
            Ok(Intention::New(entry)) => entry,
            Ok(Intention::NameTaken(id)) => {
                return Attempt::Settled(Err(self.duplicate_name(&plan, id).await));
            }
            Ok(Intention::Same(entry)) => return Attempt::Settled(Ok(Outcome::Joined(entry))),
            Ok(Intention::Conflict) => {
                let message = "this Idempotency-Key was used with another submission";
                return Attempt::Settled(Err(ApiError::new(Code::IdempotencyConflict, message)));
            }
            Err(error) => return Attempt::Settled(Err(registry_failed(&error))),
        };
        let place = self.gateway.board.put_up(entry.id, &self.ticket);
        self.listed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(place);
        self.ticket.recorded(&entry);
        self.send(plan, entry, listed, others).await
    }

    /// Reads what was there before: where only what is new in a list can hint at a submission, and
    /// once for each process where a client's own name is told by its number if it comes late.
    async fn look_before_recording(&self, plan: &Plan) -> Result<Before, ApiError> {
        let (upstream, lookup) = (&plan.upstream, &plan.encoded.lookup);
        let dialect = upstream.dialect();
        let only_a_list_tells = dialect.lookup(lookup) == LookupPlan::NewInList;
        let reads =
            dialect.asks_first(lookup) && (only_a_list_tells || upstream.highest_id().is_none());
        let known = || Before {
            above: upstream.highest_id(),
            ..Before::default()
        };
        if !reads {
            return Ok(known());
        }
        match look::read_whole_list(upstream, &self.exchange).await {
            // What the list shows now, and nothing that is remembered: the service may have begun
            // to count again.
            Ok((list, whole)) => {
                let ids = || list.iter().map(|seen| seen.upstream_id.clone()).collect();
                let highest = list.iter().filter_map(|seen| seen.upstream_id.parse().ok());
                let highest = highest.max().unwrap_or(-1);
                if !only_a_list_tells {
                    upstream.listed_up_to(highest);
                }
                Ok(Before {
                    above: Some(highest),
                    ids: (whole && only_a_list_tells).then(ids),
                    named: None,
                })
            }
            Err(error) if only_a_list_tells => Err(turned_away(plan, &error)),
            Err(_) => Ok(known()),
        }
    }

    async fn record(
        &self,
        plan: &Plan,
        before: Option<&Withdrawn>,
        above: Option<i64>,
        name_in_use: bool,
    ) -> Result<Intention, crate::registry::RegistryError> {
        let key = self
            .submission
            .idempotency_key
            .clone()
            .map(|key| (key, self.route.idempotency_ttl));
        let keyed = key.is_some() && before.is_none();
        let intent = Intent {
            cluster: plan.upstream.config.name.clone(),
            route: self.route.name.clone(),
            lookup: plan.encoded.lookup.clone(),
            owner: self.submission.principal.user.clone(),
            name: plan.spec.name.clone(),
            names_kept_by_cluster: plan.upstream.dialect().keeps_names(),
            body_hash: self.body_hash.clone(),
            key,
            above,
            proxy_user: plan
                .spec
                .proxy_user
                .clone()
                .filter(|_| plan.upstream.dialect().shows_proxy_user()),
            name_in_use,
            replaces: before.map(|before| Replaced {
                id: before.entry.id,
                may_arrive: before.is_told_apart(),
            }),
        };
        let result = self.gateway.registry.record(intent).await;
        if keyed && matches!(result, Ok(Intention::New(_))) {
            self.gateway
                .metrics
                .idempotency_total
                .with_label_values(&["new"])
                .inc();
        }
        result
    }

    /// Tells whether the cluster shows a batch of this name before anything is sent: then it is not
    /// this submission. A cluster that does not answer this gets nothing sent. So is one asked that
    /// has just refused our login, or is asked with a token that it may not take: what it says to a
    /// submission would prove nothing.
    async fn look_for_the_name(&self, plan: &Plan) -> Result<Name, ApiError> {
        let (dialect, lookup) = (plan.upstream.dialect(), &plan.encoded.lookup);
        let needed = dialect.asks_first(lookup)
            || plan.upstream.refuses_login()
            || plan.upstream.needs_a_caller();
        if !needed || dialect.lookup(lookup) == LookupPlan::NewInList {
            return Ok(Name::Free);
        }
        match look::look(&plan.upstream, lookup, &self.exchange).await {
            Looked::Nothing => Ok(Name::Free),
            Looked::NotAll => Ok(Name::Unknown),
            Looked::Shows(_) => Ok(Name::Taken),
            // A Livy without names (0.5) can't be asked for one.
            Looked::Unanswered(AskError::Fault(fault)) if fault.kind == FaultKind::Refused => {
                Ok(Name::Free)
            }
            Looked::Unanswered(error) => {
                self.count(plan, "failed");
                Err(turned_away(plan, &error))
            }
        }
    }

    /// Others take this process for dead, and may be looking after the submission by now: nothing of
    /// it is sent.
    async fn not_sent_by_the_dead(&self, entry: &Arc<Entry>) -> Attempt {
        let why =
            "this gateway was stopped for a while, and its registry has not heard of it since";
        if let Err(error) = self.gateway.registry.refuse(entry, why, false).await {
            tracing::error!(batch = %entry.id, %error, "what was not sent could not be withdrawn; it is looked up later");
        }
        let error = RegistryError::Store(why.to_owned());
        Attempt::Settled(Err(registry_failed(&error)))
    }

    /// Sends once, and reads what the answer proves.
    async fn send(
        &self,
        mut plan: Plan,
        entry: Arc<Entry>,
        mut before: Before,
        others: bool,
    ) -> Attempt {
        // Alive is not enough: whoever was dead for a while in between is not its sender any more.
        if self.gateway.registry.life() != self.life {
            return self.not_sent_by_the_dead(&entry).await;
        }
        let slot = plan.slot.take();
        let upstream = &plan.upstream;
        let began = Instant::now();
        let sent = upstream
            .send(
                Operation::CreateBatch,
                &plan.encoded.request,
                &self.exchange,
            )
            .await;
        let last_byte = Instant::now();
        drop(slot);
        let unclear = match sent {
            Ok(answer) => {
                let proof =
                    proof::of_create(upstream.dialect(), &entry.lookup, &answer.as_response());
                let repeated = match &proof {
                    Proof::Created(seen) => {
                        let (gateway, exchange) = (&self.gateway, &self.exchange);
                        !whose::is_believable(upstream, gateway, &entry, &before, seen, exchange)
                            .await
                    }
                    _ => false,
                };
                match proof {
                    Proof::Created(seen) if repeated => {
                        before.named = seen.name.as_ref().map(|_| seen.upstream_id.clone());
                        let message =
                            "the answer to the submission speaks of a batch that may be another's"
                                .to_owned();
                        let fault = UpstreamFault {
                            kind: FaultKind::Unreadable,
                            status: answer.status,
                            message,
                        };
                        Unclear::new(fault, Holder::Nobody)
                    }
                    Proof::Created(seen) => {
                        self.bind(&plan, &entry, &seen).await;
                        return Attempt::Settled(Ok(self.created(&plan, entry)));
                    }
                    Proof::NotCreated(fault) => {
                        let behind = behind_refusal(
                            upstream,
                            &self.gateway,
                            &entry,
                            &before,
                            &fault,
                            &self.exchange,
                        )
                        .await;
                        match behind {
                            Behind::Nothing => {
                                return self.not_created(&plan, entry, &fault, false).await;
                            }
                            Behind::Shows(seen) => {
                                self.bind(&plan, &entry, &seen).await;
                                return Attempt::Settled(Ok(self.created(&plan, entry)));
                            }
                            Behind::Unknown => Unclear {
                                leftovers: fault.kind == FaultKind::Refused,
                                refused: true,
                                ..Unclear::new(fault, Holder::Nobody)
                            },
                        }
                    }
                    Proof::Exists(fault) => {
                        upstream.count_fault(Operation::CreateBatch, &fault);
                        self.gateway.registry.arrived(&entry);
                        Unclear::new(fault, Holder::Nobody)
                    }
                    Proof::Unclear(fault, holder) => {
                        upstream.count_fault(Operation::CreateBatch, &fault);
                        Unclear {
                            leftovers: upstream.dialect().may_leave_a_row(&answer.as_response()),
                            ..Unclear::new(fault, holder)
                        }
                    }
                }
            }
            Err(error @ (SendError::NotSent { .. } | SendError::Unsigned(_))) => {
                self.count(&plan, "failed");
                return self.next(&entry, not_sent(&plan, &error), false).await;
            }
            Err(SendError::MaybeSent { reason, detail }) => {
                let fault = UpstreamFault {
                    kind: FaultKind::Unclear,
                    status: 0,
                    message: format!("{reason}: {detail}"),
                };
                Unclear::new(fault, Holder::Perhaps)
            }
        };
        self.count(&plan, "ambiguous");
        upstream.count_retry(Operation::CreateBatch, "unsafe");
        let let_go = unclear.holder == Holder::Nobody;
        self.gateway.registry.sent(&entry, let_go);
        self.ticket.is_unclear();
        tracing::warn!(cluster = %upstream.config.name, batch = %entry.id, fault = %unclear.fault, "the outcome of a submission is unclear; asking the cluster");
        self.resolve(plan, entry, unclear, before, (began, last_byte), others)
            .await
    }

    async fn resolve(
        &self,
        plan: Plan,
        entry: Arc<Entry>,
        unclear: Unclear,
        before: Before,
        (began, last_byte): (Instant, Instant),
        others: bool,
    ) -> Attempt {
        let open = Open {
            gateway: self.gateway.clone(),
            upstream: plan.upstream.clone(),
            entry: entry.clone(),
            before,
            exchange: self.exchange.clone(),
            last_byte,
            waited_before: std::time::Duration::ZERO,
            silence: Silence::since_sending(began),
            leftovers: unclear.leftovers,
            gives_way: others && self.route.ambiguous == Ambiguous::Failover,
            life: self.life,
        };
        match open.settle(Some(plan.encoded.request.clone())).await {
            End::Found | End::Ended | End::Stopped => {
                Attempt::Settled(Ok(self.created(&plan, entry)))
            }
            End::Leftover => {
                let error = refused(&plan, &unclear.fault);
                if self.refuse(&entry, &error.message, false).await {
                    Attempt::Settled(Err(error))
                } else {
                    Attempt::Settled(Ok(self.created(&plan, entry)))
                }
            }
            End::Absent if unclear.refused => {
                self.not_created(&plan, entry, &unclear.fault, true).await
            }
            End::Absent => self.next(&entry, absent(&plan, &unclear.fault), true).await,
            End::NoAnswer if self.gateway.registry.withdraw(&entry) => {
                let message = format!(
                    "cluster '{}' does not answer; it is not known whether it created the batch",
                    plan.upstream.config.name
                );
                let withdrawn = Withdrawn {
                    entry,
                    may_arrive: true,
                    is_open: true,
                };
                let error = ApiError::new(Code::ClusterUnavailable, message);
                Attempt::Next(error, Some(withdrawn))
            }
            // A client was given its id meanwhile: it is asked for as soon as nobody is on it here.
            End::NoAnswer => Attempt::Settled(Ok(self.created(&plan, entry))),
        }
    }

    /// Gives the submission to the next cluster, unless a client was given its id meanwhile: then
    /// it ends here, with the reason.
    async fn next(&self, entry: &Arc<Entry>, error: ApiError, may_arrive: bool) -> Attempt {
        if self.gateway.registry.withdraw(entry) {
            return Attempt::Next(
                error,
                Some(Withdrawn {
                    entry: entry.clone(),
                    may_arrive,
                    is_open: false,
                }),
            );
        }
        self.refuse(entry, &error.message, may_arrive).await;
        Attempt::Settled(Ok(Outcome::Created {
            entry: entry.clone(),
            warnings: Vec::new(),
        }))
    }

    async fn bind(&self, plan: &Plan, entry: &Entry, seen: &livy_dialect::Observed) {
        self.count(plan, "accepted");
        plan.upstream.gave_id(&seen.upstream_id);
        if let Err(error) = self.gateway.registry.bind(entry, seen).await {
            // It exists and is known in memory; the database still says `sending`, so the next
            // start finds it by look-up.
            tracing::error!(batch = %entry.id, %error, "a created batch could not be stored");
        }
        plan.upstream
            .handles
            .entered(entry.peek(|known| known.state));
        self.check_effective_user(plan, seen);
    }

    /// A Livy with impersonation off answers `proxyUser: null` to a request that had one: said in
    /// the log and in a metric.
    fn check_effective_user(&self, plan: &Plan, seen: &livy_dialect::Observed) {
        let Some(asked) = &plan.spec.proxy_user else {
            return;
        };
        if seen.proxy_user.as_ref() != Some(asked) {
            let labels = [plan.upstream.config.flavor.as_str(), "proxyUser", "dropped"];
            self.gateway
                .metrics
                .translation_notes_total
                .with_label_values(&labels)
                .inc();
            tracing::debug!(cluster = %plan.upstream.config.name, "the cluster did not take proxyUser; the job runs as another account");
        }
    }

    /// The cluster's own software refused it, in words that it has for exactly that.
    async fn not_created(
        &self,
        plan: &Plan,
        entry: Arc<Entry>,
        fault: &UpstreamFault,
        may_arrive: bool,
    ) -> Attempt {
        let cluster = &plan.upstream.config.name;
        let unauthorized = fault.kind == FaultKind::Unauthorized;
        self.count(
            plan,
            if unauthorized {
                "failed"
            } else {
                "rejected_upstream"
            },
        );
        let error = match fault.kind {
            FaultKind::Busy => {
                let message = format!(
                    "cluster '{cluster}' takes no more batches now: {}",
                    fault.message
                );
                let error = ApiError::new(Code::ClusterFull, message);
                return self.next(&entry, error, may_arrive).await;
            }
            FaultKind::Unauthorized => {
                let error = credentials_refused(plan, fault.status);
                return self.next(&entry, error, may_arrive).await;
            }
            FaultKind::Forbidden => ApiError::new(Code::UpstreamForbidden, fault.message.clone()),
            FaultKind::DuplicateName => {
                ApiError::new(Code::DuplicateName, plain_duplicate(&plan.spec))
            }
            _ => refused(plan, fault),
        };
        if self.refuse(&entry, &error.message, may_arrive).await {
            Attempt::Settled(Err(error))
        } else {
            Attempt::Settled(Ok(self.created(plan, entry)))
        }
    }

    /// Stores a refusal. False when a client was given the id meanwhile: then the batch has ended
    /// as an error instead of vanishing.
    async fn refuse(&self, entry: &Arc<Entry>, why: &str, may_arrive: bool) -> bool {
        match self.gateway.registry.refuse(entry, why, may_arrive).await {
            Ok(vanished) => vanished,
            Err(error) => {
                tracing::error!(batch = %entry.id, %error, "a refused submission could not be stored as such");
                !entry.phase().is_visible()
            }
        }
    }

    async fn duplicate_name(&self, plan: &Plan, holder: Option<GatewayId>) -> ApiError {
        self.count(plan, "rejected_request");
        let holder = match holder {
            Some(id) => self.gateway.registry.get(id).await.ok().flatten(),
            None => None,
        };
        // Livy's sentence; the id only where the caller may know it.
        let visible = holder.filter(|entry| {
            entry.owner.as_deref() == Some(self.submission.principal.user.as_str())
        });
        let visible = match visible {
            Some(entry) => {
                let shown = self.gateway.registry.show_to(&entry, true).await;
                shown.unwrap_or(false).then_some(entry)
            }
            None => None,
        };
        let of = visible.map_or_else(String::new, |entry| {
            format!(" for session {}", entry.shown_id())
        });
        ApiError::new(
            Code::DuplicateName,
            format!("{}{of}", plain_duplicate(&plan.spec)),
        )
    }

    fn created(&self, plan: &Plan, entry: Arc<Entry>) -> Outcome {
        let mut warnings: Vec<String> = plan.warnings().map(str::to_owned).collect();
        let (seen, is_bound) = entry.peek(|known| {
            (
                known.proxy_user.clone(),
                known.phase.upstream_id().is_some(),
            )
        });
        if let Some(asked) = &plan.spec.proxy_user
            && is_bound
            && seen.as_ref() != Some(asked)
        {
            warnings.push(
                "proxyUser: the cluster did not take it; the job runs as the cluster's own account"
                    .to_owned(),
            );
        }
        Outcome::Created { entry, warnings }
    }

    fn count(&self, plan: &Plan, outcome: &str) {
        let labels = [
            self.route.name.as_str(),
            plan.upstream.config.name.as_str(),
            outcome,
        ];
        self.gateway
            .metrics
            .submissions_total
            .with_label_values(&labels)
            .inc();
    }
}

/// Says why a cluster that was asked before anything was sent got nothing.
fn turned_away(plan: &Plan, error: &AskError) -> ApiError {
    let cluster = &plan.upstream.config.name;
    match error {
        AskError::Fault(fault)
            if matches!(fault.kind, FaultKind::Unauthorized | FaultKind::Forbidden) =>
        {
            credentials_refused(plan, fault.status)
        }
        AskError::Fault(fault) => {
            let message = format!(
                "cluster '{cluster}' turned a look-up away ({}); nothing was submitted",
                fault.status
            );
            ApiError::new(Code::ClusterUnavailable, message)
        }
        AskError::Send(error) => not_sent(plan, error),
    }
}

fn refused(plan: &Plan, fault: &UpstreamFault) -> ApiError {
    let cluster = &plan.upstream.config.name;
    ApiError::new(
        Code::UpstreamRejected,
        format!("cluster '{cluster}' refused the batch: {}", fault.message),
    )
}

/// Says why a cluster could not be asked, or nothing was sent to it.
fn not_sent(plan: &Plan, error: &SendError) -> ApiError {
    let name = &plan.upstream.config.name;
    unreachable(name, error, "nothing was submitted")
}

fn credentials_refused(plan: &Plan, status: u16) -> ApiError {
    let cluster = &plan.upstream.config.name;
    if plan.upstream.needs_a_caller() {
        // 403 and not 401: the token is good here, and another login here would not help.
        return ApiError::new(
            Code::UpstreamForbidden,
            format!("cluster '{cluster}' refused your own token ({status}); nothing was submitted"),
        );
    }
    tracing::error!(%cluster, status, "the cluster refused the gateway's credentials");
    ApiError::new(
        Code::UpstreamCredentials,
        format!("cluster '{cluster}' refused the gateway's own credentials; nothing was submitted"),
    )
}

/// Says what a submission that proved absent is to its client: what whoever stood in front said
/// about it.
fn absent(plan: &Plan, fault: &UpstreamFault) -> ApiError {
    let cluster = &plan.upstream.config.name;
    let (code, what) = match fault.status {
        429 => (Code::ClusterFull, "takes no more batches now"),
        401 if plan.upstream.needs_a_caller() => {
            (Code::UpstreamForbidden, "refused your own token")
        }
        401 | 407 => (
            Code::UpstreamCredentials,
            "refused the gateway's own credentials",
        ),
        403 => (Code::UpstreamForbidden, "refused the submission"),
        400..=499 if fault.status != 404 && fault.status != 408 => {
            (Code::UpstreamRejected, "turned the submission away")
        }
        _ => (Code::ClusterUnavailable, "did not take the submission"),
    };
    ApiError::new(
        code,
        format!(
            "cluster '{cluster}' {what} ({}); it was looked for and is not there",
            fault.message
        ),
    )
}

fn plain_duplicate(spec: &BatchSpec) -> String {
    format!(
        "Duplicate session name: {}",
        spec.name.as_deref().unwrap_or_default()
    )
}
