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
//! To add a kind: a variant of `config::checked::Credentials`, a file here, a line in `open`.

mod basic;
mod bearer;
mod common;
mod credential;
mod endpoint;
mod grant;
mod ibm_iam;
mod kept;
#[cfg(feature = "kerberos")]
pub mod kerberos;
mod oauth2;
mod open;
mod passthrough;
mod renewing;
mod schedule;
pub(super) mod scrub;
mod users;

use std::sync::Arc;

use crate::config::BuildProblem;
use crate::config::checked::{Cluster, Credentials, TokenEndpoint};
use crate::observe::metrics::Metrics;
pub use common::Common;
use common::Member;
use credential::bearer_value;
pub use credential::{Credential, Renewal, Signing, Stamp, Unsigned};
use grant::{Grant, HttpEndpoint};
use kept::Kept;
pub(super) use open::Open;
use renewing::Renewing;
use users::Users;

/// The credential of a cluster.
#[derive(Debug)]
pub struct Opened {
    pub(super) credential: Box<dyn Credential>,
    /// What of it other clusters have, or may have, as well.
    pub(super) common: Option<Arc<Common>>,
}

impl Opened {
    pub(super) fn alone(credential: Box<dyn Credential>) -> Self {
        Opened {
            credential,
            common: None,
        }
    }
}

/// Opens the credential of a cluster: whatever of it can fail. Nothing is fetched before the first
/// request. What has a problem is reported, and open in the meantime: it is never put in force.
///
/// `known` are the logins that clusters have in common; this one's is used if it is among them, and
/// joins them if it is new.
pub fn build(
    cluster: &Cluster,
    known: &mut Vec<Arc<Common>>,
    metrics: &Arc<Metrics>,
    problems: &mut Vec<BuildProblem>,
) -> Opened {
    open(cluster, known, metrics, problems).unwrap_or_else(|| Opened::alone(Box::new(Open)))
}

fn open(
    cluster: &Cluster,
    known: &mut Vec<Arc<Common>>,
    metrics: &Arc<Metrics>,
    problems: &mut Vec<BuildProblem>,
) -> Option<Opened> {
    let name = cluster.name.as_str();
    let path = |kind, key| ["clusters", name, "credentials", kind, key];
    let alone: Box<dyn Credential> = match &cluster.credentials {
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
        Credentials::Passthrough => Box::new(passthrough::Passthrough),
        shared => {
            let common = match known.iter().find(|one| one.is(shared)) {
                Some(common) => common.clone(),
                None => {
                    let common = Arc::new(open_common(cluster, metrics, problems)?);
                    known.push(common.clone());
                    common
                }
            };
            return Some(Opened {
                credential: Box::new(Member::new(name, common.clone())),
                common: Some(common),
            });
        }
    };
    Some(Opened::alone(alone))
}

/// What stands in a form may be any text.
fn anything(_: &str) -> bool {
    true
}

/// Opens what several clusters may have in common.
fn open_common(
    cluster: &Cluster,
    metrics: &Arc<Metrics>,
    problems: &mut Vec<BuildProblem>,
) -> Option<Common> {
    let name = cluster.name.as_str();
    let path = |kind, key| ["clusters", name, "credentials", kind, key];
    let definition = &cluster.credentials;
    let (users, credential): (_, Box<dyn Credential>) = match definition {
        Credentials::IbmIam { apikey, endpoint } => {
            let apikey = Kept::open(apikey, &path("ibm_iam", "apikey"), anything, problems)?;
            let grant = Box::new(ibm_iam::IbmIam::new(apikey));
            let users = Arc::new(Users::new("ibm_iam", metrics));
            let fetched = fetched(grant, endpoint, name, &users, problems)?;
            (users, fetched)
        }
        Credentials::OAuth2(oauth2) => {
            let path = path("oauth2", "client_secret");
            let secret = Kept::open(&oauth2.client_secret, &path, anything, problems)?;
            let grant = Box::new(oauth2::OAuth2::new(oauth2, secret));
            let users = Arc::new(Users::new("oauth2", metrics));
            let fetched = fetched(grant, &oauth2.endpoint, name, &users, problems)?;
            (users, fetched)
        }
        #[cfg(feature = "kerberos")]
        Credentials::Kerberos(kerberos) => {
            let users = Arc::new(Users::new("kerberos", metrics));
            let path = path("kerberos", "keytab");
            let opened = kerberos::Kerberos::open(kerberos, &path, users.clone(), problems)?;
            (users, Box::new(opened))
        }
        // Kerberos without the feature is refused with the configuration.
        _ => return None,
    };
    Some(Common::new(definition, users, credential))
}

fn fetched(
    grant: Box<dyn Grant>,
    endpoint: &TokenEndpoint,
    cluster: &str,
    users: &Arc<Users>,
    problems: &mut Vec<BuildProblem>,
) -> Option<Box<dyn Credential>> {
    let endpoint = HttpEndpoint::new(grant, endpoint, cluster, problems)?;
    Some(Box::new(Renewing::new(Box::new(endpoint), users.clone())))
}
