//! Binding what a configuration wants to listen on.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::config::addresses::overlap;
use crate::config::{BuildProblem, Config};
use crate::listen::Listener;

/// Listeners that are bound and do not accept yet, by configured address.
#[derive(Debug, Default)]
pub(super) struct Bound {
    pub(super) listeners: Vec<(SocketAddr, Listener)>,
    pub(super) admin: Option<(SocketAddr, Listener)>,
}

/// What to do about an address that overlaps with one in force: that one is given up only when the
/// new one is bound, so that a reload either comes true or changes nothing.
pub const MOVE_IN_BETWEEN: &str =
    "move to another port in between and reload for each of the two steps, or restart the gateway";

/// Binds what a configuration wants and is not bound yet: `listeners` and `admin` are.
///
/// # Errors
/// Every address that can't be bound.
pub(super) async fn bind(
    config: &Config,
    listeners: &BTreeSet<SocketAddr>,
    admin: Option<SocketAddr>,
) -> Result<Bound, Vec<BuildProblem>> {
    let (mut bound, mut problems) = (Bound::default(), Vec::new());
    let in_force: Vec<SocketAddr> = listeners.iter().copied().chain(admin).collect();
    let mut fail = |key: [&str; 2], address: SocketAddr, error: std::io::Error| {
        let in_its_way = in_force.iter().find(|one| overlap(**one, address, true));
        let (what, remedy) = match in_its_way {
            Some(other) => (
                format!("{address} overlaps with {other}, which is in force until it is bound"),
                MOVE_IN_BETWEEN,
            ),
            None => (
                format!("can't bind {address}: {error}"),
                "choose one that is free",
            ),
        };
        problems.push(BuildProblem::new(&key, what, remedy));
    };
    let wanted: BTreeSet<SocketAddr> = config.server.listen.iter().copied().collect();
    for address in wanted.difference(listeners).copied() {
        match Listener::bind(address).await {
            Ok(listener) => bound.listeners.push((address, listener)),
            Err(error) => fail(["server", "listen"], address, error),
        }
    }
    let address = config.admin.listen;
    if admin != Some(address) {
        match Listener::bind(address).await {
            Ok(listener) => bound.admin = Some((address, listener)),
            Err(error) => fail(["admin", "listen"], address, error),
        }
    }
    if problems.is_empty() {
        Ok(bound)
    } else {
        Err(problems)
    }
}
