//! What every kind of credential has in common: the seam itself, and the header that most of them
//! write.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::{AUTHORIZATION, HeaderValue};
use http_body_util::Full;
use thiserror::Error;

use crate::live::Living;
use crate::observe::exchange::Exchange;

/// Which login a request went out with: a later one has a higher number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub(super) u64);

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

    /// Comes in force: creates its series.
    fn enter(&self) {}

    /// Is no longer in force: its series are somebody else's, or nobody's.
    fn leave(&self) {}

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

/// Puts a login into a request, marked so that nothing that prints headers prints it.
pub(super) fn authorize(request: &mut Request<Full<Bytes>>, mut login: HeaderValue) {
    login.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, login);
}

/// Makes the value of `Authorization: Bearer`; `None` if the token holds what no header can carry.
pub(super) fn bearer_value(token: &str) -> Option<HeaderValue> {
    let token = token.trim();
    let fits = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| HeaderValue::from_str(&format!("Bearer {token}")).ok())?
}
