//! `kerberos`: SPNEGO (RFC 4559) with tickets that a keytab gets from a KDC.
//!
//! What is kept for a while is a `Session`: a process that holds tickets, its own and the
//! service's. It is replaced ahead of their end like any token. Each request gets a token of its
//! own from it, because a service takes none twice.

pub mod helper;
mod keytab;
mod session;
mod talk;
mod words;

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http::header::HeaderValue;
use http_body_util::Full;
use tokio::time::Instant;

use super::credential::{Credential, Renewal, Signing, Stamp, Unsigned, authorize};
use super::endpoint::{Asking, Endpoint};
use super::renewing::{Renewing, no_token};
use super::users::Users;
use crate::config::{BuildProblem, checked};
use crate::live::{Living, Source};
use crate::observe::exchange::Exchange;
use session::Session;

/// A session that broke is replaced once for a request.
const TRIES: usize = 2;

#[derive(Debug)]
pub(super) struct Kerberos {
    sessions: Renewing<Arc<Session>>,
}

impl Kerberos {
    /// Opens the keytab; `path` is where its key stands.
    pub(super) fn open(
        config: &checked::Kerberos,
        path: &[&str],
        users: Arc<Users>,
        problems: &mut Vec<BuildProblem>,
    ) -> Option<Self> {
        let cluster = path.get(1).copied().unwrap_or_default();
        let (place, principal) = (
            config.keytab.display().to_string(),
            config.principal.clone(),
        );
        let read = move |contents: &[Vec<u8>]| {
            keytab::check(&contents[0], &principal).map_err(|why| format!("{place}: {why}"))
        };
        let keytab = match Source::open("credential", cluster, vec![config.keytab.clone()], read) {
            Ok(keytab) => keytab,
            Err(why) => {
                let remedy = "name a keytab that the gateway can read, with the principal's keys";
                problems.push(BuildProblem::new(path, why, remedy));
                return None;
            }
        };
        let kdc = Kdc {
            config: config.clone(),
            keytab,
        };
        Some(Kerberos {
            sessions: Renewing::new(Box::new(kdc), users),
        })
    }

    async fn negotiate(&self, request: &mut Request<Full<Bytes>>) -> Result<Stamp, Unsigned> {
        let mut why = String::new();
        for _ in 0..TRIES {
            let session = self.sessions.token().await?;
            match session.login.token().await {
                Ok(token) => {
                    // Base64 can stand in any header.
                    if let Ok(value) = HeaderValue::from_str(&format!("Negotiate {token}")) {
                        authorize(request, value);
                    }
                    return Ok(session.stamp);
                }
                Err(failure) => {
                    tracing::warn!(why = %failure, "a Kerberos session gives no tokens any more; another one begins");
                    self.sessions.lost(session.stamp);
                    why = failure;
                }
            }
        }
        Err(no_token(&why, Instant::now()))
    }
}

impl Credential for Kerberos {
    fn sign<'a>(&'a self, request: &'a mut Request<Full<Bytes>>, _: &'a Exchange) -> Signing<'a> {
        Box::pin(self.negotiate(request))
    }

    fn refused(&self, stamp: Stamp) {
        self.sessions.refused(stamp);
    }

    fn renewed(&self, stamp: Stamp) -> Renewal<'_> {
        Box::pin(self.sessions.renewed(stamp))
    }

    fn living(&self) -> Vec<Arc<dyn Living>> {
        self.sessions.living()
    }
}

/// Gives sessions.
#[derive(Debug)]
struct Kdc {
    config: checked::Kerberos,
    /// Its keys are read by the helper; here it is only looked whether they can be.
    keytab: Arc<Source<()>>,
}

impl Endpoint<Arc<Session>> for Kdc {
    fn ask(&self) -> Asking<'_, Arc<Session>> {
        Box::pin(session::open(&self.config))
    }

    fn secret_version(&self) -> u64 {
        self.keytab.version()
    }

    fn living(&self) -> Vec<Arc<dyn Living>> {
        vec![self.keytab.clone()]
    }
}
