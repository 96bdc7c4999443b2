//! The durable map from gateway ids to clusters' batches: who owns them, what was last known, and
//! which submissions are on their way.
//!
//! The store is the truth. A submission is recorded ([`Registry::record`]) before a byte of it is
//! sent; what a client is told as final is stored first; what is merely new in memory is written
//! soon after. What to do is decided by the pure functions of [`decide`]; a store only stores, and
//! refuses a write whose writer had not seen the newest version. Leaves asking clusters to `submit`
//! and `batches`; never shows a batch to anybody: that is `access`.

pub mod archive;
mod cache;
pub mod decide;
mod entry;
mod error;
mod kills;
#[cfg(test)]
mod laws;
mod memory;
mod observed;
mod orders;
mod passthrough;
#[cfg(feature = "postgres")]
mod postgres;
mod reads;
mod row;
mod share;
mod sqlite;
mod store;
mod submissions;

pub use decide::Same;
pub use entry::Entry;
pub use error::RegistryError;
pub use memory::Registry;
pub use observed::Listed;
pub use passthrough::PassthroughStore;
#[cfg(feature = "postgres")]
pub use postgres::PostgresStore;
pub use row::{GatewayId, Identity, Known, Phase, Row};
pub use sqlite::SqliteStore;
pub use store::{
    Adoption, Change, IdempotencyKey, LEASE, NewRow, Order, RangeOf, Recorded, Replaced, Saved,
    Store, StoreFuture, Visible, Wish,
};
pub use submissions::{Intent, Intention};
