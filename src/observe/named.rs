//! What a configuration names, by the labels that its series carry: to tell which series stand for
//! something that is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Names that stand in labels.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    labels: BTreeMap<&'static str, BTreeSet<String>>,
    /// Values of `kind` and `name`, which mean something together only.
    pairs: BTreeSet<(&'static str, String)>,
}

impl Named {
    /// Adds a value of a label.
    pub fn add(&mut self, label: &'static str, value: impl Into<String>) {
        self.labels.entry(label).or_default().insert(value.into());
    }

    /// Adds a value of `name` under a `kind`.
    pub fn add_pair(&mut self, kind: &'static str, name: impl Into<String>) {
        self.pairs.insert((kind, name.into()));
    }

    /// Adds everything that another one names.
    pub fn extend(&mut self, other: Named) {
        for (label, values) in other.labels {
            self.labels.entry(label).or_default().extend(values);
        }
        self.pairs.extend(other.pairs);
    }

    /// Returns what another one does not name.
    #[must_use]
    pub fn without(&self, other: &Named) -> Named {
        let nothing = BTreeSet::new();
        let rest = self.labels.iter().map(|(label, values)| {
            let others = other.labels.get(label).unwrap_or(&nothing);
            (*label, values.difference(others).cloned().collect())
        });
        let rest = rest.filter(|(_, values): &(_, BTreeSet<String>)| !values.is_empty());
        Named {
            labels: rest.collect(),
            pairs: self.pairs.difference(&other.pairs).cloned().collect(),
        }
    }

    /// Tells whether it names nothing.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.pairs.is_empty()
    }

    /// Tells whether series with these labels may be among what is named.
    pub(super) fn concerns(&self, labels: &[String]) -> bool {
        let is_pair = ["kind", "name"]
            .iter()
            .all(|word| labels.iter().any(|label| label == word));
        (is_pair && !self.pairs.is_empty())
            || labels
                .iter()
                .any(|label| self.labels.contains_key(label.as_str()))
    }

    /// Tells whether the series with these labels is among what is named.
    pub(super) fn has(&self, labels: &HashMap<&str, &str>) -> bool {
        let pair = labels.get("kind").zip(labels.get("name"));
        pair.is_some_and(|(kind, name)| {
            self.pairs
                .iter()
                .any(|(its_kind, its_name)| its_kind == kind && its_name == name)
        }) || self.labels.iter().any(|(label, values)| {
            labels
                .get(label)
                .is_some_and(|value| values.contains(*value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_again_is_not_gone() {
        let (mut before, mut now) = (Named::default(), Named::default());
        for name in ["a", "b"] {
            before.add("cluster", name);
            before.add_pair("credential", name);
        }
        now.add("cluster", "b");
        now.add("route", "a");
        now.add_pair("credential", "b");
        now.add_pair("htpasswd", "a");
        let gone = before.without(&now);
        assert!(gone.has(&[("cluster", "a"), ("code", "200")].into()));
        assert!(gone.has(&[("kind", "credential"), ("name", "a")].into()));
        for stays in [
            [("cluster", "b"), ("code", "200")],
            [("route", "a"), ("code", "200")],
            [("kind", "credential"), ("name", "b")],
            [("kind", "htpasswd"), ("name", "a")],
        ] {
            assert!(!gone.has(&stays.into()), "{stays:?}");
        }
        assert!(before.without(&before).is_empty());
    }
}
