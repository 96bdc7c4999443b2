//! What can go wrong here.

use thiserror::Error;

/// What can go wrong here.
#[derive(Clone, Debug, Error)]
pub enum RegistryError {
    /// The database failed.
    #[error("the registry's database failed: {0}")]
    Store(String),
    /// All 2,147,483,647 ids are used.
    #[error("the registry has no ids left")]
    OutOfIds,
}
