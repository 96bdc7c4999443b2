//! `livy-gateway certify`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, ValueEnum};
use http::Uri;
use secrecy::SecretString;

use super::shared;
use crate::certify::{self, Address, JOB_PROGRAM, Jobs, Login, Options, Profile};
use crate::config;

#[derive(Debug, Args)]
pub(super) struct Certify {
    /// The endpoint: everything before /batches.
    #[arg(required_unless_present = "print_job", value_parser = endpoint)]
    url: Option<Uri>,
    /// HTTP Basic login.
    #[arg(
        long,
        value_name = "USER:PASSWORD",
        env = "LIVY_GATEWAY_CERTIFY_USER",
        hide_env_values = true,
        conflicts_with = "token_file"
    )]
    user: Option<String>,
    /// A file that holds a bearer token.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file of the CA to trust instead of the system's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The job as the cluster sees it: one FILE for all (see --print-job), or three (succeeds,
    /// fails, runs), or ROLE=FILE.
    #[arg(long = "job", value_name = "FILE", num_args = 1..=3)]
    jobs: Vec<String>,
    /// What the endpoint is held to; told by its /version if not named.
    #[arg(long, value_enum)]
    profile: Option<ProfileArg>,
    /// How the verdicts are written.
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    format: ReportFormat,
    /// How long one request may take.
    #[arg(long, value_name = "DURATION", default_value = "130s", value_parser = duration)]
    request_timeout: Duration,
    /// How long one job may take from submission to its end.
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = duration)]
    job_timeout: Duration,
    /// How long all checks may take; cleaning up comes on top, a minute at most.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    timeout: Duration,
    /// Prints the job's program, to be put where the cluster finds it.
    #[arg(long, exclusive = true)]
    print_job: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProfileArg {
    ApacheLivy,
    Gateway,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ReportFormat {
    Text,
    Json,
    Junit,
}

fn endpoint(text: &str) -> Result<Uri, String> {
    let base = text.trim_end_matches('/');
    let base = base.strip_suffix("/batches").unwrap_or(base);
    let uri: Uri = base.parse().map_err(|error| format!("{error}"))?;
    match (uri.scheme_str(), uri.authority(), uri.query()) {
        (Some("http" | "https"), Some(authority), None) if !authority.as_str().contains('@') => {
            Ok(uri)
        }
        (_, Some(authority), _) if authority.as_str().contains('@') => {
            Err("a login belongs into --user".into())
        }
        _ => {
            Err("wanted http://HOST[:PORT][/PATH] or https://…, everything before /batches".into())
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text)
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "wanted for instance 90s or 3m".to_owned())
}

impl Certify {
    /// Runs it; `usage` is the command line that it was read from.
    pub(super) fn run(self, usage: clap::Command) -> Result<(), String> {
        let Some(url) = self.url.clone() else {
            return shared::say(JOB_PROGRAM);
        };
        let options = Options {
            address: Address {
                url,
                login: self.login()?,
                ca_file: self.ca.clone(),
                request_limit: self.request_timeout,
            },
            profile: self.profile.map(|profile| match profile {
                ProfileArg::ApacheLivy => Profile::ApacheLivy,
                ProfileArg::Gateway => Profile::Gateway,
            }),
            jobs: self.jobs(usage),
            job_limit: self.job_timeout,
            limit: self.timeout,
            progress: std::io::stderr().is_terminal(),
        };
        let report = shared::runtime()?.block_on(certify::run(options, shared::told_to_stop()))?;
        shared::say(&match self.format {
            ReportFormat::Text => report.text(),
            ReportFormat::Json => report.json(),
            ReportFormat::Junit => report.junit(),
        })?;
        if report.passed() {
            Ok(())
        } else {
            Err(String::new())
        }
    }

    /// Reads `--job`; what can't be understood is wrong usage.
    fn jobs(&self, mut usage: clap::Command) -> Jobs {
        Jobs::parse(&self.jobs)
            .unwrap_or_else(|why| usage.error(ErrorKind::ValueValidation, why).exit())
    }

    fn login(&self) -> Result<Option<Login>, String> {
        if let Some(text) = &self.user {
            let (user, password) = text.split_once(':').ok_or("--user wants USER:PASSWORD")?;
            return Ok(Some(Login::Basic {
                user: user.to_owned(),
                password: SecretString::from(password),
            }));
        }
        let Some(file) = &self.token_file else {
            return Ok(None);
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("--token-file: can't read {}: {error}", file.display()))?;
        match text.trim() {
            "" => Err(format!("--token-file: {} is empty", file.display())),
            token => Ok(Some(Login::Bearer(SecretString::from(token)))),
        }
    }
}
