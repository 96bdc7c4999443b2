//! What an operator sees: metrics and the log.
//!
//! Owns names, labels and buckets. Leaves deciding what happened to the rooms where it happens. A
//! label value is a configured name or a word of a closed list, never anything that a client typed.

pub mod access_log;
pub mod exchange;
pub mod log;
pub mod metrics;
pub mod named;
pub mod panics;
