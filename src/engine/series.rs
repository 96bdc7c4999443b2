//! The series of what a reload took away: they disappear with it, and stay gone.
//!
//! Who works on what is gone counts once more when it ends: a poll that was on its way, a
//! submission. So whenever the last user of something that was in force has ended, what is gone is
//! forgotten again.

use std::sync::{Arc, Weak};

use super::files;
use crate::fleet::Upstream;
use crate::gateway::Snapshot;
use crate::observe::named::Named;

/// Which series there should be, and which no more.
#[derive(Debug, Default)]
pub(super) struct Series {
    named: Named,
    gone: Named,
    past: Vec<Past>,
    /// A user of what is gone has ended since the last look.
    has_ended: bool,
}

/// What was in force, for as long as somebody uses it.
#[derive(Debug)]
struct Past {
    snapshot: Weak<Snapshot>,
    upstreams: Vec<Weak<Upstream>>,
}

impl Past {
    fn is_used(&self) -> bool {
        self.snapshot.strong_count() > 0 || self.upstreams.iter().any(|one| one.strong_count() > 0)
    }
}

impl Series {
    /// Notes what is in force from now on, and returns the names that are gone.
    pub(super) fn follow(&mut self, now: &Snapshot, before: Option<&Arc<Snapshot>>) -> Named {
        let names = names(now);
        let gone = self.named.without(&names);
        self.gone.extend(gone.clone());
        self.gone = self.gone.without(&names);
        self.named = names;
        if let Some(before) = before {
            let stays = |name: &String, one: &Arc<Upstream>| {
                let next = now.upstreams.get(name);
                next.is_some_and(|next| Arc::ptr_eq(next, one))
            };
            let upstreams = before.upstreams.iter();
            let left = upstreams.filter(|(name, one)| !stays(name, one));
            self.past.push(Past {
                snapshot: Arc::downgrade(before),
                upstreams: left.map(|(_, one)| Arc::downgrade(one)).collect(),
            });
        }
        gone
    }

    /// Returns what is to be forgotten again. Asked now and then.
    pub(super) fn again(&mut self) -> Option<Named> {
        let before = self.past.len();
        self.past.retain(Past::is_used);
        // One look later: what its user counted last is there by then.
        let is_due = self.has_ended;
        self.has_ended = self.past.len() < before;
        if !is_due {
            return None;
        }
        let gone = self.gone.clone();
        if self.past.is_empty() && !self.has_ended {
            self.gone = Named::default();
        }
        (!gone.is_empty()).then_some(gone)
    }
}

/// Names everything whose series are there because a configuration says so.
fn names(snapshot: &Snapshot) -> Named {
    let mut named = Named::default();
    for address in &snapshot.config.server.listen {
        named.add("listener", address.to_string());
    }
    for route in &snapshot.routes {
        named.add("route", route.name.as_str());
    }
    for cluster in snapshot.upstreams.keys() {
        named.add("cluster", cluster.as_str());
    }
    for one in snapshot.authenticators.chain() {
        named.add("authenticator", one.name.as_str());
    }
    files::name(snapshot, &mut named);
    named
}
