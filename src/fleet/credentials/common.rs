//! A login that clusters with the same definition have in common: one exchange, one token, one
//! task that keeps it fresh.
//!
//! Each cluster holds a [`Member`]. What they share ends with the last of them; a reload that keeps
//! any of them, or defines another one with the same login, goes on with the same token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;

use super::credential::{Credential, Renewal, Signing, Stamp};
use super::users::Users;
use crate::config::checked::Credentials;
use crate::live::{Living, Seen};
use crate::observe::exchange::Exchange;

/// What is shared.
#[derive(Debug)]
pub struct Common {
    definition: Credentials,
    users: Arc<Users>,
    credential: Box<dyn Credential>,
}

impl Common {
    pub(super) fn new(
        definition: &Credentials,
        users: Arc<Users>,
        credential: Box<dyn Credential>,
    ) -> Self {
        Common {
            definition: definition.clone(),
            users,
            credential,
        }
    }

    /// Removes the series of a cluster that logs in otherwise from now on.
    pub(in crate::fleet) fn forget(&self, cluster: &str, next: Option<&Common>) {
        self.users
            .forget(cluster, next.map(|next| next.users.as_ref()));
    }

    /// Tells whether it logs in as `definition` says.
    pub(super) fn is(&self, definition: &Credentials) -> bool {
        self.definition == *definition
    }
}

/// One cluster's part in it.
#[derive(Debug)]
pub(super) struct Member {
    cluster: String,
    common: Arc<Common>,
    has_joined: AtomicBool,
}

impl Member {
    pub(super) fn new(cluster: &str, common: Arc<Common>) -> Self {
        Member {
            cluster: cluster.to_owned(),
            common,
            has_joined: AtomicBool::new(false),
        }
    }
}

impl Credential for Member {
    fn sign<'a>(
        &'a self,
        request: &'a mut Request<Full<Bytes>>,
        exchange: &'a Exchange,
    ) -> Signing<'a> {
        self.common.credential.sign(request, exchange)
    }

    fn refused(&self, stamp: Stamp) {
        self.common.credential.refused(stamp);
    }

    fn renewed(&self, stamp: Stamp) -> Renewal<'_> {
        self.common.credential.renewed(stamp)
    }

    fn living(&self) -> Vec<Arc<dyn Living>> {
        let shared = self.common.credential.living().into_iter();
        let view = |source| {
            let users = self.common.users.clone();
            Arc::new(Shared { source, users }) as Arc<dyn Living>
        };
        shared.map(view).collect()
    }

    fn enter(&self) {
        if !self.has_joined.swap(true, Ordering::Relaxed) {
            self.common.users.join(&self.cluster);
        }
    }

    fn leave(&self) {
        if self.has_joined.swap(false, Ordering::Relaxed) {
            self.common.users.leave(&self.cluster);
        }
    }
}

/// A file of a shared login: what is read again is news for each of its clusters.
#[derive(Debug)]
struct Shared {
    source: Arc<dyn Living>,
    users: Arc<Users>,
}

impl Living for Shared {
    fn kind(&self) -> &'static str {
        self.source.kind()
    }

    fn names(&self) -> Vec<String> {
        self.users.names()
    }

    fn look(&self) -> Seen {
        self.source.look()
    }

    fn is_current(&self) -> bool {
        self.source.is_current()
    }
}
