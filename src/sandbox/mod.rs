//! Simulated clusters, one per flavor: the same code for `sandbox`, `demo` and the tests.
//!
//! Each is a double of its contract, quirks and ghosts included, at the path that its flavor has by
//! default; so all five fit behind one address. `POST /_sandbox/{flavor}/faults` and its neighbours
//! are the knobs, for tests: see [`control`].

mod accounts;
mod asked;
mod books;
pub mod control;
mod double;
mod ibm;
mod job;
mod knobs;
mod kyuubi;
mod livy;
mod serve;
mod told;

pub use accounts::{INSTANCE, PASSWORD, TOKEN, USER};
pub use serve::{Sandbox, start};
