//! Clusters as the gateway reaches them: connections, TLS, credentials, time limits, health.
//!
//! Owns every byte that leaves for a cluster and the proof of how far a request got
//! ([`SendError`]). Whatever is sent asks [`health`] first, takes a place ([`slots`]) and tells how
//! it ended ([`verdict`]). Leaves what the bytes mean to the dialect, and what to do after a
//! failure to `submit` and `batches`. A client's own headers never come this far: what is sent is
//! made here from nothing.

mod allowance;
mod answer;
mod applications;
mod ask;
pub mod breaker;
pub mod budget;
pub mod credentials;
pub mod health;
mod marks;
mod probe;
pub mod reading;
mod repeat;
mod send;
pub mod slots;
pub mod transport;
mod upstream;
pub mod verdict;

pub use answer::{Answer, AskError, SendError};
pub use upstream::Upstream;
