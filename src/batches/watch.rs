//! Looking at batches that nobody asks about: a cluster forgets what has ended, and a scheduler that was away must still learn how its job did.

use std::sync::Arc;

use super::{Call, Want};
use crate::auth::Principal;
use crate::runtime::Gateway;
use crate::upstream::{Errand, Upstream};

/// Asks a cluster for the state of each live batch that went through this gateway and was not heard of for `watch`. A batch that a client
/// polls costs nothing here.
pub async fn watch(gateway: &Arc<Gateway>, upstream: &Upstream) {
    let silent = match gateway.registry.silent(&upstream.config.name, upstream.config.watch).await {
        Ok(silent) => silent,
        Err(error) => return tracing::error!(cluster = %upstream.config.name, %error, "live batches could not be read"),
    };
    let call = Call {
        gateway: Arc::clone(gateway),
        snapshot: gateway.snapshot.load_full(),
        principal: Arc::new(Principal { user: String::new(), groups: Vec::new(), authenticator: String::new() }),
        errand: Arc::new(Errand::default()),
        pinned: None,
    };
    for entry in silent {
        if gateway.stop.is_cancelled() || !upstream.health.is_alive() {
            return;
        }
        let _asking = entry.asking.lock().await;
        if let Err(error) = Box::pin(call.ask(&entry, Want::State)).await {
            tracing::debug!(batch = %entry.id, cluster = %upstream.config.name, error = %error.message, "a look at a silent batch brought nothing");
        }
    }
}
