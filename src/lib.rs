//! livy-gateway.
pub mod config;
