//! How the gateway logs in to a cluster: one seam for every kind, a file each.
//!
//! A [`Credential`] signs a request that is complete but for its login, the last thing that happens
//! to it before it is sent. It is asynchronous because a token may have to be fetched first, and it
//! sees the whole request because some kinds sign all of it. What is at hand goes on being used
//! while something newer is fetched; only when nothing is left that could be believed is a request
//! not sent at all ([`Unsigned`]), which is the gateway's trouble and never a 401 to the caller.
//!
//! No secret and no token ever leaves here but in a request: not in `Debug`, a log line or an error.
//!
//! To add a kind: a variant of `config::checked::Credentials`, a file here, a line in [`build`].

mod basic;
mod bearer;
mod exchange;
mod ibm_iam;
mod kept;
mod oauth2;
mod passthrough;
mod renewing;
mod schedule;

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, HeaderValue};
use http_body_util::Full;
use thiserror::Error;

use super::Errand;
use crate::config::BuildProblem;
use crate::config::checked::{Cluster, Credentials, Secret, TokenEndpoint};
use crate::observe::metrics::Metrics;
use exchange::{Exchange, HttpEndpoint};
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
    fn sign<'a>(&'a self, request: &'a mut Request<Full<Bytes>>, errand: &'a Errand)
    -> Signing<'a>;

    /// Takes note that the cluster answered 401 to this login, and begins to look for another.
    /// Returns at once.
    fn refused(&self, _: Stamp) {}

    /// Waits for what [`Credential::refused`] began; tells whether there is a newer login now.
    fn renewed(&self, _: Stamp) -> Renewal<'_> {
        Box::pin(std::future::ready(false))
    }

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
    fn sign<'a>(&'a self, _: &'a mut Request<Full<Bytes>>, _: &'a Errand) -> Signing<'a> {
        Box::pin(std::future::ready(Ok(Stamp::default())))
    }
}

/// Makes the credential of a cluster. Nothing is fetched before the first request.
pub fn build(
    cluster: &Cluster,
    metrics: &Arc<Metrics>,
    problems: &mut Vec<BuildProblem>,
) -> Box<dyn Credential> {
    let name = cluster.name.as_str();
    let path = |kind| ["clusters", name, "credentials", kind];
    let keep = |kind: &'static str, secret: &Secret| Kept::new(secret, name, kind, metrics);
    match &cluster.credentials {
        Credentials::None => Box::new(Open),
        Credentials::Basic { username, password } => {
            Box::new(basic::Basic::new(username.clone(), keep("basic", password)))
        }
        Credentials::Bearer(token) => Box::new(bearer::Bearer::new(keep("bearer", token))),
        Credentials::IbmIam { apikey, endpoint } => {
            let exchange = ibm_iam::IbmIam::new(keep("ibm_iam", apikey));
            let path = path(exchange.kind());
            fetched(Box::new(exchange), endpoint, name, &path, metrics, problems)
        }
        Credentials::OAuth2(oauth2) => {
            let exchange = oauth2::OAuth2::new(oauth2, keep("oauth2", &oauth2.client_secret));
            let path = path(exchange.kind());
            let endpoint = &oauth2.endpoint;
            fetched(Box::new(exchange), endpoint, name, &path, metrics, problems)
        }
        Credentials::Passthrough => Box::new(passthrough::Passthrough),
    }
}

fn fetched(
    exchange: Box<dyn Exchange>,
    endpoint: &TokenEndpoint,
    cluster: &str,
    path: &[&str],
    metrics: &Arc<Metrics>,
    problems: &mut Vec<BuildProblem>,
) -> Box<dyn Credential> {
    let kind = exchange.kind();
    match HttpEndpoint::new(exchange, endpoint, path, problems) {
        Some(endpoint) => Box::new(Renewing::new(Box::new(endpoint), cluster, kind, metrics)),
        // Its problem was reported; what is built beside it is thrown away.
        None => Box::new(Open),
    }
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
