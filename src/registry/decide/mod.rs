//! What to do, decided by pure functions over what is known: no database, no clock, no cluster.
//! Whoever waits calls them.
//!
//! - [`same`]: is what a cluster shows the batch that we mean? [`ours`]: is what a look-up found
//!   the submission that was looked for? [`believable`]: is what the answer to a submission names?
//! - [`observe`], [`bind`], [`rebind`], [`presume`], [`give_up`], [`forward`]: how what is known
//!   goes on, and only ever forward.
//! - [`claim`]: may a submission begin, or is it one that is here already?
//! - [`adopt`]: what does a row of a cluster's list mean? [`readable`]: which rows mean
//!   anything? [`is_late`]: is it what should be gone?
//! - [`absence`]: have look-ups shown nothing for long enough?
//! - [`hint`]: what does a list that gives no names back tell of a submission?

mod absence;
mod adopt;
mod claim;
mod hint;
mod known;
mod same;

pub use absence::{Absence, Silence, Terms, absence};
pub use adopt::{Adopt, Circumstances, adopt, is_late, readable};
pub use claim::{Claim, claim};
pub use hint::{Before, Hint, counts_anew, hint};
pub use known::{Change, bind, forward, give_up, observe, observe_state, presume, rebind};
pub use same::{Same, before, believable, may_be_older, ours, same, same_if};
