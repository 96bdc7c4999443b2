//! The entries that are kept in memory though nobody works on them: bounded by what they weigh, for
//! a batch may be a few words or ten long lines of a log. The database holds the rest.

use std::mem::size_of;
use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::entry::Entry;
use super::row::{GatewayId, Identity, Known};

/// Bytes of entries that are kept: some 20,000 as Livy shows them.
const KEPT: u64 = 48 << 20;

/// Entries that are expected; the cache makes its tables for as many.
pub(super) const EXPECTED: usize = 20_000;

/// What an entry takes beside its texts: itself, its channel, its places in the tables.
const ITSELF: usize = size_of::<Entry>() + 1_024;

/// What a text takes beside its bytes.
const TEXT: usize = size_of::<String>() + 16;

/// An entry with what it weighed when it was put in: what is taken out must weigh the same.
#[derive(Clone, Debug)]
struct Kept {
    entry: Arc<Entry>,
    weight: usize,
}

#[derive(Clone, Debug)]
struct Bytes;

impl Weighter<GatewayId, Kept> for Bytes {
    fn weight(&self, _: &GatewayId, kept: &Kept) -> u64 {
        u64::try_from(kept.weight).unwrap_or(u64::MAX)
    }
}

/// Entries by their ids.
#[derive(Debug)]
pub(super) struct Entries(Cache<GatewayId, Kept, Bytes>);

impl Entries {
    pub(super) fn new() -> Entries {
        Entries(Cache::with_weighter(EXPECTED, KEPT, Bytes))
    }

    pub(super) fn get(&self, id: GatewayId) -> Option<Arc<Entry>> {
        self.0.get(&id).map(|kept| kept.entry)
    }

    /// Puts an entry in, or weighs it again.
    pub(super) fn keep(&self, entry: &Arc<Entry>) {
        let (entry, weight) = (entry.clone(), weight(entry));
        self.0.insert(entry.id, Kept { entry, weight });
    }

    /// Weighs an entry again if it has become far larger.
    pub(super) fn weigh_again(&self, entry: &Arc<Entry>) {
        let kept = self.0.peek(&entry.id);
        if kept.is_some_and(|kept| weight(entry) > kept.weight * 5 / 4) {
            self.keep(entry);
        }
    }

    #[cfg(test)]
    pub(super) fn clear(&self) {
        self.0.clear();
    }
}

/// Returns about how many bytes an entry takes.
fn weight(entry: &Entry) -> usize {
    ITSELF + of_identity(&entry.identity) + entry.peek(of_known)
}

fn of_identity(identity: &Identity) -> usize {
    let Identity {
        cluster,
        route,
        lookup,
        owner,
        name,
        body_hash,
        ..
    } = identity;
    let some = [&lookup.sent_name, owner, name, body_hash];
    let texts = [cluster, route, &lookup.key]
        .map(String::len)
        .iter()
        .sum::<usize>();
    texts + some.into_iter().flatten().map(String::len).sum::<usize>()
}

fn of_known(known: &Known) -> usize {
    let pair = |(key, value): (&String, &Option<String>)| {
        2 * TEXT + key.len() + value.as_ref().map_or(0, String::len)
    };
    let some = [&known.app_id, &known.proxy_user];
    known.app_info.iter().map(pair).sum::<usize>()
        + known
            .log
            .iter()
            .map(|line| TEXT + line.len())
            .sum::<usize>()
        + some.into_iter().flatten().map(String::len).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::entry::tests::{identity, known};
    use crate::registry::row::Row;

    fn entry(id: i32, line: usize) -> Arc<Entry> {
        let mut row = Row {
            identity: identity(None),
            known: known("3"),
            version: 1,
            key_until: None,
        };
        row.identity.id = GatewayId(id);
        row.known.log = vec!["x".repeat(line); 10];
        Arc::new(Entry::from_row(row))
    }

    #[test]
    fn entries_are_kept_by_what_they_weigh() {
        let kept = |line: usize, count: i32| {
            let cache = Entries::new();
            (0..count).for_each(|id| cache.keep(&entry(id, line)));
            (cache.0.len(), cache.0.weight())
        };
        assert_eq!(kept(80, 2_000).0, 2_000);
        let (count, weight) = kept(10_000, 2_000);
        assert!(
            count < 600 && weight <= KEPT,
            "{count} entries of 100 kB weigh {weight}"
        );
    }
}
