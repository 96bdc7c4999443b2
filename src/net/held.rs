//! Counting what is there now.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// One more of something, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Held(Arc<AtomicI64>);

impl Held {
    pub(crate) fn new(counter: &Arc<AtomicI64>) -> Held {
        counter.fetch_add(1, Ordering::Relaxed);
        Held(counter.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
