//! What to do, decided by pure functions over what is known: no database, no clock, no cluster.
//! Whoever waits calls them.
//!
//! - [`same`]: is what a cluster shows the batch that we mean? [`ours`]: is what a look-up found
//!   the submission that was looked for? [`believable`]: is what the answer to a submission names?
//! - [`observe`], [`bind`], [`presume`], [`give_up`], [`never_was`], [`delete`], [`forward`]:
//!   how what is known goes on, and only ever forward.
//! - [`claim`]: may a submission begin, or is it one that is here already?
//! - [`adopt`]: what does a row of a cluster's list mean? [`readable`]: which rows mean
//!   anything? [`is_late`]: is it what should be gone?
//! - [`is_over`]: may a row be forgotten altogether?
//! - [`absence`]: have look-ups shown nothing for long enough?
//! - [`hint`]: what does a list that gives no names back tell of a submission?

mod absence;
mod adopt;
mod claim;
mod hint;
mod known;
mod over;
mod same;

pub use absence::{Absence, Silence, Terms, absence};
pub use adopt::{Adopt, BY_NAME_FOR, adopt, is_late, is_lately, readable};
pub use claim::{Claim, claim};
pub use hint::{Hint, counts_anew, hint};
pub use known::{
    Change, bind, delete, forward, give_up, never_was, observe, observe_state, presume,
};
pub use over::{WATCHED_FOR, is_over};
pub use same::{Same, believable, ours, same, same_if};
