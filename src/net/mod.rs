//! Sockets and TLS: ground for everyone who speaks on a connection, whoever begins it.
//!
//! Owns how certificates and keys are read, how a connection is made, and how a small document is
//! fetched. Knows nothing of what is said on it.

pub mod cause;
pub mod certificate;
mod chain;
pub mod connect;
pub mod fetch;
mod held;
mod listed;
pub mod provider;
pub mod tls;
mod validity;

pub(crate) use chain::chain;
pub(crate) use held::Held;
