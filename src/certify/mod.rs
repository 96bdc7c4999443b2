//! `livy-gateway certify`: a conformance suite for any Livy batch endpoint, over HTTP alone.
//!
//! One walk: three jobs are submitted (one that succeeds, one that fails, one that runs until it is
//! killed); while they run, every kind of bad input is sent; then batches, lists and logs are read
//! in every window, and what was made is killed. Each point is a check of [`CHECKS`] with a verdict
//! of its own: a check never relies on another one's point, so what is broken is what fails.
//!
//! Nothing that was not submitted here is ever changed, and what was is removed at the end,
//! whatever happened.

mod catalogue;
mod checks;
mod endpoint;
mod expect;
mod job;
mod miss;
mod report;
mod suite;

use std::time::{Duration, Instant};

pub use catalogue::{CHECKS, Check, Profile, markdown};
pub use endpoint::{Address, Login};
pub use job::{DEFAULT_JOB, JOB_PROGRAM, Job, Jobs};
pub use report::{Line, Report, Verdict};

use endpoint::Endpoint;
use miss::Miss;
use suite::{Suite, Terms};

/// What to certify, and how long it may take.
#[derive(Clone, Debug)]
pub struct Options {
    /// The endpoint.
    pub address: Address,
    /// The promises to hold it to; `None` asks `/version` who it is.
    pub profile: Option<Profile>,
    /// What to submit.
    pub jobs: Jobs,
    /// How long one job may take from submission to its end.
    pub job_limit: Duration,
    /// How long all checks together may take; cleaning up comes on top, a minute at most.
    pub limit: Duration,
    /// Tells on stderr how far it is, on one line that is written over.
    pub progress: bool,
}

/// Runs the suite. `stop` ends it early: what was submitted is still removed.
///
/// # Errors
/// Nothing could be checked: the endpoint does not answer, or refuses the login.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<Report, String> {
    let began = Instant::now();
    let url = options.address.url.to_string();
    let endpoint = Endpoint::new(options.address)?;
    let profile = reach(&endpoint, options.profile)
        .await
        .map_err(|why| endpoint.without_secrets(why))?;
    let Options {
        jobs,
        job_limit,
        limit,
        progress,
        ..
    } = options;
    let suite = Suite::new(
        endpoint,
        profile,
        Terms {
            jobs,
            job_limit,
            deadline: began + limit,
            progress,
        },
    );
    let stopped = tokio::select! {
        () = checks::walk(&suite) => false,
        () = stop => true,
    };
    let left_behind = suite.clean_up().await;
    if progress {
        eprintln!();
    }
    Ok(Report {
        url,
        profile,
        lines: suite.lines(),
        left_behind,
        took: began.elapsed(),
        stopped,
    })
}

/// Makes sure that somebody is there who lets us in, and finds out who.
async fn reach(endpoint: &Endpoint, profile: Option<Profile>) -> Result<Profile, String> {
    let told = |miss: Miss| match miss {
        Miss::Failed(why) | Miss::Skipped(why) => why,
    };
    let list = endpoint.get("/batches?size=1").await.map_err(told)?;
    if [401, 403].contains(&list.status) {
        let what = if endpoint.has_login() {
            "the login is refused"
        } else {
            "a login is wanted: --user or --token-file"
        };
        return Err(format!("{what}: {}", list.line()));
    }
    if let Some(profile) = profile {
        return Ok(profile);
    }
    let version = endpoint.get("/version").await.map_err(told)?;
    let ours = version.json().is_ok_and(|body| {
        body["url"]
            .as_str()
            .is_some_and(|url| url.contains("livy-gateway"))
    });
    Ok(if ours {
        Profile::Gateway
    } else {
        Profile::ApacheLivy
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_every_check_is_in_a_profile() {
        for (at, check) in CHECKS.iter().enumerate() {
            assert!(
                CHECKS[..at].iter().all(|other| other.id != check.id),
                "{}",
                check.id
            );
            assert!(
                check.livy.is_some() || check.gateway.is_some(),
                "{}",
                check.id
            );
            assert!(
                check
                    .id
                    .split_once('.')
                    .is_some_and(|(area, point)| !area.is_empty() && !point.is_empty()),
                "{}",
                check.id
            );
        }
    }
}
