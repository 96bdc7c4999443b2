//! The canonical API: what a request asks for, and how an answer is written.
//!
//! Owns paths, query parameters, bodies and the error table. Nothing here knows clusters, users or
//! the registry.

pub mod error;
pub mod etag;
pub mod path;
pub mod request;
pub mod respond;
