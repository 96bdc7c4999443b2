//! How many requests of each operation may be on their way to a cluster at once. What is beyond is
//! turned away at once: a queue would only make everybody late, and a cluster that is slow slower.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use livy_dialect::Operation;

/// Requests on their way, by operation, and how many there may be.
#[derive(Debug)]
pub struct Slots {
    most: [u32; Operation::ALL.len()],
    taken: [Arc<AtomicU32>; Operation::ALL.len()],
}

/// A place, for as long as it lives.
#[derive(Debug)]
pub struct Slot(Arc<AtomicU32>);

impl Slots {
    /// Makes the places, in the order of [`Operation::ALL`].
    pub fn new(most: [u32; Operation::ALL.len()]) -> Slots {
        Slots {
            most,
            taken: Default::default(),
        }
    }

    /// Takes a place, if there is one.
    pub fn take(&self, operation: Operation) -> Option<Slot> {
        let at = operation.index();
        let most = self.most[at];
        let one_more = |taken: u32| (taken < most).then_some(taken + 1);
        self.taken[at]
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .ok()
            .map(|_| Slot(self.taken[at].clone()))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_request_ends() {
        let slots = Slots::new([2; Operation::ALL.len()]);
        let first = slots.take(Operation::GetLog).expect("is free");
        let _second = slots.take(Operation::GetLog).expect("is free");
        assert!(slots.take(Operation::GetLog).is_none());
        let _other = slots.take(Operation::GetState).expect("has its own");
        drop(first);
        assert!(slots.take(Operation::GetLog).is_some());
    }
}
