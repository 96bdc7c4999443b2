//! What is read of a cluster, and where an answer comes from.

use std::time::Duration;

/// What a poll wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// The state.
    State,
    /// The whole batch.
    Item,
}

/// What came of reading a cluster's list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Round {
    /// Its newest rows were read, and are stored.
    Read,
    /// It could not be read, or not be stored.
    NotRead,
    /// The cluster could not be reached, and why: whoever asks for a batch alone meets the same.
    Away(String),
}

/// Where an answer comes from; the `outcome` of `state_reads_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The cluster, now.
    Upstream,
    /// The cluster, asked by another request at the same moment.
    Coalesced,
    /// Memory; the cluster said so this long ago.
    Cached(Duration),
    /// Memory; nothing new can come.
    Terminal,
    /// Memory; the cluster could not be asked.
    Stale(Option<Duration>),
}

impl Origin {
    /// Returns the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Origin::Upstream => "upstream",
            Origin::Coalesced => "coalesced",
            Origin::Cached(_) => "cached",
            Origin::Terminal => "terminal",
            Origin::Stale(_) => "stale",
        }
    }
}
