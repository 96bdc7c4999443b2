//! The pure core of livy-gateway: the canonical Livy batch model and its translation to and from
//! each flavor.
//!
//! Owns every byte that is specific to a dialect: paths, field names, states, log windows, error
//! bodies. It has no socket, no clock and no file: a request goes in as a value and comes out as a
//! value, so each upstream answer ever seen is one test row. The walk of one submission through
//! this crate: [`request::parse`] -> [`Dialect::create`] -> (the network, elsewhere) ->
//! [`Dialect::decode_create`] -> [`model::Batch`].
//!
//! To add a flavor: (1) a variant of [`Flavor`], (2) a file that implements [`Dialect`] and names
//! the contract it follows, (3) its recorded answers below `tests/fixtures`, (4) `cargo test`,
//! which regenerates nothing and tells what is missing.

pub mod fault;
pub mod flavor;
pub mod ibm;
pub mod json;
pub mod kyuubi;
pub mod livy;
pub mod model;
pub mod proof;
pub mod request;
pub mod state;
pub mod support;
pub mod window;
pub mod wire;

pub use fault::{FaultKind, UpstreamFault};
pub use flavor::{
    BatchRef, Cost, Deleted, Dialect, Encoded, Flavor, Listing, LogPart, LogPlan, Lookup,
    LookupPlan, Note, NoteAction, Operation, Settings, Unsupported,
};
pub use model::{AppInfo, Batch, BatchSpec, ConfMap, Field, Observed, StateReading};
pub use state::BatchState;
pub use window::{ListWindow, LogWindow};
pub use wire::{UpstreamRequest, UpstreamResponse};
