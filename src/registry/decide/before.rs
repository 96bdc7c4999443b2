//! What a cluster's list showed before a submission was sent, and what a later one says against it.

use std::collections::HashSet;

use livy_dialect::Observed;

/// What a cluster's list showed before a submission was sent.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// The highest id that it was known to have given.
    pub above: Option<i64>,
    /// The ids of its whole list, where that was read for this submission, and this process knows
    /// it still.
    pub ids: Option<HashSet<String>>,
    /// The id that the answer to the submission named, beside its name: what a look-up then shows
    /// under both was not there before.
    pub named: Option<String>,
}

impl Before {
    /// Tells whether an id had been given by then. Where the list itself is not known any more, all
    /// ids up to the highest one are taken for given.
    pub fn had(&self, upstream_id: &str) -> bool {
        match (&self.ids, upstream_id.parse::<i64>(), self.above) {
            _ if self.named.as_deref() == Some(upstream_id) => false,
            (Some(ids), ..) => ids.contains(upstream_id),
            (None, Ok(id), Some(above)) => id <= above,
            (None, ..) => false,
        }
    }
}

/// Tells whether a service counts from its beginning again since its list went up to `above`.
pub fn counts_anew(above: i64, list: &[Observed]) -> bool {
    let id = |seen: &Observed| seen.upstream_id.parse::<i64>().ok();
    above >= 0 && list.iter().filter_map(id).all(|id| id < above) && !list.is_empty()
}
