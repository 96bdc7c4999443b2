//! What administrators said about clusters, and the clusters that obey.

use crate::gateway::{Gateway, Snapshot};
use crate::registry::Order;

/// Makes clusters obey what administrators said: this, and nothing that was said before.
pub(super) fn obey(snapshot: &Snapshot, orders: &[Order]) {
    for (name, upstream) in &snapshot.upstreams {
        let its = orders.iter().filter(|order| order.cluster == *name);
        upstream.health.obey_all(its.cloned().collect());
    }
}

/// Says in the log which orders still hold.
pub(super) fn remind(snapshot: &Snapshot, orders: &[Order]) {
    let hold = |order: &&Order| snapshot.upstreams.contains_key(&order.cluster);
    for order in orders.iter().filter(hold) {
        tracing::warn!(cluster = %order.cluster, order = order.wish.as_str(), by = %order.by, "an administrator's order still holds");
    }
}

/// Makes clusters obey what administrators told another gateway.
pub(super) async fn obey_again(gateway: &Gateway) {
    // An order that is being given here is not taken back by what was read before it.
    let _turn = gateway.orders.lock().await;
    match gateway.registry.orders().await {
        Ok(orders) => obey(&gateway.snapshot.load(), &orders),
        Err(error) => tracing::error!(%error, "what administrators said can't be read"),
    }
}
