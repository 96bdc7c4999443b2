//! How the gateway logs in to a cluster: one seam for every kind, a file each.
//!
//! A [`Credential`] signs a request that is complete but for its login, the last thing that happens
//! to it before it is sent. It is asynchronous because a token may have to be fetched first, and it
//! sees the whole request because some kinds sign all of it. What is at hand goes on being used
//! while something newer is fetched; only when nothing is left that could be believed is a request
//! not sent at all ([`Unsigned`]), which is the gateway's trouble and never a 401 to the caller.
//!
//! No secret and no token ever leaves here but in a request: not in `Debug`, a log line or an
//! error.
//!
//! To add a kind: a variant of `config::checked::Credentials`, a file here, a line in [`build`].

mod basic;
mod bearer;
mod grant;
mod ibm_iam;
mod kept;
mod oauth2;
mod passthrough;
mod renewing;
mod schedule;
pub(super) mod scrub;

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, HeaderValue};
use http_body_util::Full;
use thiserror::Error;

use crate::config::BuildProblem;
use crate::config::checked::{Cluster, Credentials, TokenEndpoint};
use crate::live::Living;
use crate::observe::exchange::Exchange;
use crate::observe::metrics::Metrics;
use grant::{Grant, HttpEndpoint};
use kept::Kept;
use renewing::Renewing;

/// Which login a request went out with: a later one has a higher number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(u64);

/// Signing under way.
pub type Signing<'a> = Pin<Box<dyn Future<Output = Result<Stamp, Unsigned>> + Send + 'a>>;

/// A wait for a newer login.
pub type Renewal<'a> = Pin<Box<dyn Future<Output = bool> + Send + 'a>>;

/// Logs in to one cluster.
pub trait Credential: Send + Sync + Debug {
    /// Signs a request that is otherwise complete.
    fn sign<'a>(
        &'a self,
        request: &'a mut Request<Full<Bytes>>,
        exchange: &'a Exchange,
    ) -> Signing<'a>;

    /// Takes note that the cluster answered 401 to this login, and begins to look for another.
    /// Returns at once.
    fn refused(&self, _: Stamp) {}

    /// Waits for what [`Credential::refused`] began; tells whether there is a newer login now.
    fn renewed(&self, _: Stamp) -> Renewal<'_> {
        Box::pin(std::future::ready(false))
    }

    /// Returns what is read again when it changes.
    fn living(&self) -> Vec<Arc<dyn Living>> {
        Vec::new()
    }

    /// Creates its series, once it is in force.
    fn create_series(&self, _: &Metrics) {}

    /// Tells whether each request goes out in its caller's name, so that without a caller none can.
    fn needs_a_caller(&self) -> bool {
        false
    }
}

/// Nothing was sent, because there is nothing to log in with.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Unsigned {
    /// The gateway's own login can't be had at the moment.
    #[error("the gateway has no login for it at the moment: {why}")]
    NoToken {
        /// Why not, fit for a client: no secrets.
        why: String,
        /// When that may have changed.
        retry_after: Duration,
    },
    /// The cluster wants the caller's own token, and this request has none.
    #[error(
        "it is asked with the caller's own bearer token (credentials: passthrough), and there is none"
    )]
    NoCaller,
}

/// Open clusters: nothing is sent.
#[derive(Debug)]
pub(super) struct Open;

impl Credential for Open {
    fn sign<'a>(&'a self, _: &'a mut Request<Full<Bytes>>, _: &'a Exchange) -> Signing<'a> {
        Box::pin(std::future::ready(Ok(Stamp::default())))
    }
}

/// Opens the credential of a cluster: whatever of it can fail. Nothing is fetched before the first
/// request. What has a problem is reported, and open in the meantime: it is never put in force.
pub fn build(
    cluster: &Cluster,
    metrics: &Arc<Metrics>,
    problems: &mut Vec<BuildProblem>,
) -> Box<dyn Credential> {
    open(cluster, metrics, problems).unwrap_or(Box::new(Open))
}

fn open(
    cluster: &Cluster,
    metrics: &Arc<Metrics>,
    problems: &mut Vec<BuildProblem>,
) -> Option<Box<dyn Credential>> {
    let name = cluster.name.as_str();
    let path = |kind, key| ["clusters", name, "credentials", kind, key];
    let anything = |_: &str| true;
    Some(match &cluster.credentials {
        Credentials::None => Box::new(Open),
        Credentials::Basic { username, password } => {
            let password = Kept::open(password, &path("basic", "password"), anything, problems)?;
            Box::new(basic::Basic::new(username.clone(), password))
        }
        Credentials::Bearer(token) => {
            let fits = |text: &str| bearer_value(text).is_some();
            let token = Kept::open(token, &path("bearer", "token"), fits, problems)?;
            Box::new(bearer::Bearer::new(token))
        }
        Credentials::IbmIam { apikey, endpoint } => {
            let apikey = Kept::open(apikey, &path("ibm_iam", "apikey"), anything, problems)?;
            let grant = Box::new(ibm_iam::IbmIam::new(apikey));
            fetched(grant, endpoint, name, metrics, problems)?
        }
        Credentials::OAuth2(oauth2) => {
            let path = path("oauth2", "client_secret");
            let secret = Kept::open(&oauth2.client_secret, &path, anything, problems)?;
            let grant = Box::new(oauth2::OAuth2::new(oauth2, secret));
            fetched(grant, &oauth2.endpoint, name, metrics, problems)?
        }
        Credentials::Passthrough => Box::new(passthrough::Passthrough),
    })
}

fn fetched(
    grant: Box<dyn Grant>,
    endpoint: &TokenEndpoint,
    cluster: &str,
    metrics: &Arc<Metrics>,
    problems: &mut Vec<BuildProblem>,
) -> Option<Box<dyn Credential>> {
    let kind = grant.kind();
    let endpoint = HttpEndpoint::new(grant, endpoint, cluster, problems)?;
    Some(Box::new(Renewing::new(
        Box::new(endpoint),
        cluster,
        kind,
        metrics,
    )))
}

/// Puts a login into a request, marked so that nothing that prints headers prints it.
fn authorize(request: &mut Request<Full<Bytes>>, mut login: HeaderValue) {
    login.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, login);
}

/// Makes the value of `Authorization: Bearer`; `None` if the token holds what no header can carry.
fn bearer_value(token: &str) -> Option<HeaderValue> {
    let token = token.trim();
    let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| HeaderValue::from_str(&format!("Bearer {token}")).ok())?
}
