//! What gives logins for a while, whatever they are: a token endpoint, a KDC.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::schedule::Kind;
use crate::live::Living;

/// How long one exchange may take.
pub(super) const LIMIT: Duration = Duration::from_secs(10);

/// What was given: a token, or what makes tokens.
#[derive(Clone, Debug)]
pub(super) struct Granted<L> {
    pub(super) login: L,
    pub(super) life: Duration,
}

/// Why nothing was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    /// Fit for a client and a log line.
    pub(super) words: String,
    /// `Retry-After`.
    pub(super) wish: Option<Duration>,
}

impl Failure {
    pub(super) fn trouble(words: impl Into<String>) -> Self {
        Failure {
            kind: Kind::Trouble,
            words: words.into(),
            wish: None,
        }
    }
}

/// Asking under way.
pub(super) type Asking<'a, L> =
    Pin<Box<dyn Future<Output = Result<Granted<L>, Failure>> + Send + 'a>>;

/// Gives logins.
pub(super) trait Endpoint<L>: Send + Sync + Debug {
    /// Asks once.
    fn ask(&self) -> Asking<'_, L>;
    /// A number that changes when the secret does.
    fn secret_version(&self) -> u64;
    /// Returns what is read again when it changes.
    fn living(&self) -> Vec<Arc<dyn Living>>;
}
