//! What to do, decided by pure functions over what is known: no database, no clock, no cluster.
//! Whoever waits calls them.
//!
//! - [`same`]: is what a cluster shows the batch that we mean? [`ours`]: is what a look-up found
//!   the submission that was looked for? [`believable`]: is what the answer to a submission names?
//! - [`observe`], [`bind`], [`rebind`], [`presume`], [`give_up`], [`ended_unlisted`], [`never_was`], [`delete`],
//!   [`lose_id`], [`forward`]: how what is known goes on, and only ever forward.
//! - [`claim`]: may a submission begin, or is it one that is here already?
//! - [`adopt`]: what does a row of a cluster's list mean? [`readable`]: which rows mean
//!   anything? [`is_late`]: is it what should be gone?
//! - [`is_over`]: may a row be forgotten altogether?
//! - [`absence`]: have look-ups shown nothing for long enough?
//! - [`hint`]: what does a list that gives no names back tell of a submission?

pub(super) mod absence;
pub(super) mod adopt;
mod before;
mod claim;
mod hint;
mod known;
mod over;
mod same;

pub use absence::{Absence, Silence, Terms, absence};
pub use adopt::{
    Adopt, BY_NAME_FOR, Circumstances, Face, adopt, face, is_late, is_lately, matters_elsewhere,
    readable,
};
pub use before::{Before, counts_anew};
pub use claim::{Claim, claim};
pub use hint::{Hint, hint};
pub use known::{
    Change, bind, delete, ended_unlisted, forward, give_up, last_lines, lose_id, never_was,
    observe, observe_state, presume, rebind,
};
pub use over::{WATCHED_FOR, is_over};
pub use same::{Same, before, believable, may_be_older, ours, same, same_if};
