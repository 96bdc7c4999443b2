//! Sockets and TLS: ground for everyone who speaks on a connection, whoever begins it.
//!
//! Owns how certificates and keys are read, how a connection is made, and how a small document is
//! fetched. Knows nothing of what is said on it.

pub mod cause;
pub mod certificate;
pub mod connect;
pub mod fetch;
mod listed;
pub mod tls;

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

/// Writes an error with all its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
