//! One life of the gateway, from its start to SIGKILL or to a planned end. Whatever it does to the
//! world outside goes through a gate; when the life is over nothing passes any more, in neither
//! direction, and whoever waits there waits for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio_util::sync::CancellationToken;

/// A life. Copies are the same life.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    over: CancellationToken,
    /// How many gates are left until a SIGKILL between two of them.
    left: Arc<AtomicI64>,
}

impl Life {
    pub(crate) fn new(gates: i64) -> Life {
        Life {
            over: CancellationToken::new(),
            left: Arc::new(AtomicI64::new(gates)),
        }
    }

    /// Lets through, or holds for ever.
    pub(crate) async fn gate(&self) {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.end();
        }
        if self.over.is_cancelled() {
            std::future::pending::<()>().await;
        }
    }

    /// SIGKILL.
    pub(crate) fn end(&self) {
        self.over.cancel();
    }

    pub(crate) async fn ended(&self) {
        self.over.cancelled().await;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }
}
