//! What would be sent where: effective user, unsupported fields and encoding for each candidate,
//! before anything is recorded.

use std::sync::Arc;

use http::HeaderMap;
use livy_dialect::{BatchSpec, Encoded, Note, NoteAction, Unsupported};

use super::submission::Submission;
use crate::access::{self, RunAs};
use crate::api::error::{ApiError, Code};
use crate::config::checked::Route;
use crate::fleet::Upstream;
use crate::fleet::slots::Slot;
use crate::gateway::{Gateway, Snapshot};
use crate::registry::Entry;
use crate::route::{self, Candidate};

/// One cluster to try, with what it would get.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) upstream: Arc<Upstream>,
    /// Why it is tried at this place.
    pub(super) reason: &'static str,
    /// The submission after everything was decided.
    pub(super) spec: BatchSpec,
    pub(super) encoded: Encoded,
    /// Its place among the requests on their way, while it is on its way.
    pub(super) slot: Option<Slot>,
    notes: Vec<Note>,
}

impl Plan {
    /// Returns the sentences for `x-livy-gateway-warning`.
    pub(super) fn warnings(&self) -> impl Iterator<Item = &str> {
        self.notes.iter().map(|note| note.text.as_str())
    }
}

/// Makes the plans of a submission, best first: clusters that honour everything come before those
/// that drop something.
///
/// # Errors
/// No route, no cluster, an effective user that is not allowed, or fields that no cluster can
/// honour.
pub(super) fn make(
    gateway: &Gateway,
    snapshot: &Snapshot,
    submission: &Submission,
    headers: &HeaderMap,
) -> Result<(Arc<Route>, Vec<Plan>), ApiError> {
    let mut spec = submission.spec.clone();
    let claims = access::take_claims(&mut spec, submission.do_as.as_deref());
    let pinned = submission.pinned.as_deref();
    let (route, candidates) = route::choose(
        &snapshot.routes,
        &snapshot.upstreams,
        &submission.principal,
        &spec,
        headers,
        pinned,
        &gateway.random,
    )?;
    let metrics = &gateway.metrics;
    let mut plans = Vec::new();
    let mut first_refusal = None;
    for candidate in candidates {
        let cluster = candidate.upstream.config.name.clone();
        // A new key each time: what an earlier try left behind must not be taken for this one. In the
        // order of time, so that the registry's indexes, and Kyuubi's, grow at their end.
        let key = gateway.random.key().to_string();
        match plan(snapshot, submission, &spec, &claims, candidate, &key) {
            Ok(plan) => plans.push(plan),
            Err(error) => {
                first_refusal.get_or_insert((cluster, error));
            }
        }
    }
    plans.sort_by_key(|plan| {
        plan.notes
            .iter()
            .any(|note| note.action == NoteAction::Dropped)
    });
    for note in plans
        .first()
        .into_iter()
        .flat_map(|plan| plan.notes.iter().map(move |note| (plan, note)))
    {
        let (plan, note) = note;
        let labels = [
            plan.upstream.config.flavor.as_str(),
            note.field.name(),
            note.action.as_str(),
        ];
        metrics
            .translation_notes_total
            .with_label_values(&labels)
            .inc();
    }
    match (plans.is_empty(), first_refusal) {
        (true, Some((cluster, error))) => {
            metrics
                .submissions_total
                .with_label_values(&[route.name.as_str(), cluster.as_str(), "rejected_policy"])
                .inc();
            Err(error)
        }
        _ => Ok((route, plans)),
    }
}

/// Hands the request of a client that asks again over to whoever asks for the outcome of the first,
/// whose own request is lost.
pub(super) fn hand_over(
    gateway: &Gateway,
    snapshot: &Snapshot,
    submission: &Submission,
    entry: &Entry,
) {
    let mut spec = submission.spec.clone();
    let claims = access::take_claims(&mut spec, submission.do_as.as_deref());
    let Some(upstream) = snapshot.upstream_of(entry) else {
        return;
    };
    let candidate = Candidate {
        upstream: upstream.clone(),
        reason: "pinned",
    };
    if let Ok(plan) = plan(
        snapshot,
        submission,
        &spec,
        &claims,
        candidate,
        &entry.lookup.key,
    ) && plan.encoded.lookup == entry.lookup
    {
        gateway.board.hand_over(entry.id, plan.encoded.request);
    }
}

fn plan(
    snapshot: &Snapshot,
    submission: &Submission,
    spec: &BatchSpec,
    claims: &[String],
    candidate: Candidate,
    key: &str,
) -> Result<Plan, ApiError> {
    let config = &candidate.upstream.config;
    if candidate.upstream.needs_a_caller() && !submission.brings_token {
        return Err(ApiError::no_token_to_pass_on(&config.name));
    }
    let mut spec = spec.clone();
    let mut notes = Vec::new();
    match snapshot
        .access
        .run_as(&submission.principal, config, claims)?
    {
        RunAs::User(user) => spec.proxy_user = Some(user),
        RunAs::Service => {}
        RunAs::CannotGrant(unsupported) if config.drop_unsupported => {
            notes.push(unsupported.drop_from(&mut spec))
        }
        RunAs::CannotGrant(unsupported) => return Err(refusal(&config.name, &[unsupported])),
    }
    let dialect = config.flavor.dialect();
    let mut encoded = dialect.create(&spec, key, &config.settings);
    if let Err(list) = &encoded
        && config.drop_unsupported
        && list.iter().all(|one| one.droppable)
    {
        notes.extend(list.iter().map(|one| one.drop_from(&mut spec)));
        encoded = dialect.create(&spec, key, &config.settings);
    }
    let encoded = encoded.map_err(|list| refusal(&config.name, &list))?;
    notes.extend(encoded.notes.clone());
    Ok(Plan {
        reason: candidate.reason,
        upstream: candidate.upstream.clone(),
        spec,
        encoded,
        slot: None,
        notes,
    })
}

fn refusal(cluster: &str, list: &[Unsupported]) -> ApiError {
    let sentences = list.iter().map(|one| {
        let what = one
            .conf_key
            .as_ref()
            .map_or_else(|| one.field.name().to_owned(), |key| format!("conf.{key}"));
        format!(
            "field \"{what}\" can't be honoured by cluster '{cluster}': {}",
            one.reason
        )
    });
    ApiError::new(
        Code::UnsupportedField,
        sentences.collect::<Vec<_>>().join("; "),
    )
}

/// Returns a hash of everything that makes two submissions the same.
pub(super) fn hash(submission: &Submission) -> String {
    // The parsed submission, not its bytes: key order and white space make no difference.
    let text = serde_json::to_vec(&(&submission.spec, &submission.do_as, &submission.pinned))
        .unwrap_or_default();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &text);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
