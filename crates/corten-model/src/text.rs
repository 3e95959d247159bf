//! Shared strings: the same names and labels occur in thousands of objects, and are kept once.

use std::{collections::HashSet, hash::Hash, sync::Arc};

/// A string that is cheap to clone.
pub type Name = Arc<str>;

/// Labels, sorted by key; cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<[(Name, Name)]>);

impl Labels {
    /// From pairs in any order; of equal keys the last one counts.
    pub fn new(pairs: impl IntoIterator<Item = (Name, Name)>) -> Labels {
        let map: std::collections::BTreeMap<Name, Name> = pairs.into_iter().collect();
        Labels(map.into_iter().collect())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Name> {
        let at = self.0.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// The pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, &Name)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `other` has all of these.
    pub fn is_subset_of(&self, other: &Labels) -> bool {
        self.0.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

/// The strings and label sets that are in use, so that equal ones are the same allocation.
#[derive(Debug, Default)]
pub struct Names {
    names: Pool<str>,
    labels: Pool<[(Name, Name)]>,
    ports: Pool<[(Name, u16)]>,
}

impl Names {
    /// A shared copy of a string.
    pub fn name(&mut self, text: &str) -> Name {
        self.names.get(text, |text| Arc::from(text))
    }

    /// A shared copy of labels.
    pub fn labels<'a>(&mut self, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Labels {
        let pairs: Vec<(Name, Name)> = pairs.into_iter().map(|(k, v)| (self.name(k), self.name(v))).collect();
        let labels = Labels::new(pairs);
        Labels(self.labels.get(&labels.0, |_| Arc::clone(&labels.0)))
    }

    /// A shared copy of named ports.
    pub(crate) fn ports(&mut self, ports: &[(Name, u16)]) -> Arc<[(Name, u16)]> {
        self.ports.get(ports, |ports| Arc::from(ports))
    }
}

/// Allocations by value; those that nobody else holds any more are dropped whenever the pool has doubled.
#[derive(Debug)]
struct Pool<T: ?Sized> {
    held: HashSet<Arc<T>>,
    sweep_at: usize,
}

impl<T: ?Sized> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool {
            held: HashSet::new(),
            sweep_at: 1024,
        }
    }
}

impl<T: ?Sized + Hash + Eq> Pool<T> {
    fn get(&mut self, value: &T, new: impl FnOnce(&T) -> Arc<T>) -> Arc<T> {
        if let Some(held) = self.held.get(value) {
            return Arc::clone(held);
        }
        if self.held.len() >= self.sweep_at {
            self.held.retain(|held| Arc::strong_count(held) > 1);
            self.sweep_at = (self.held.len() * 2).max(1024);
        }
        let new = new(value);
        self.held.insert(Arc::clone(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Names;

    #[test]
    fn equal_strings_are_one_allocation_until_nobody_holds_them() {
        let mut names = Names::default();
        let first = names.name("a");
        assert!(Arc::ptr_eq(&first, &names.name("a")));
        let labels = names.labels([("b", "1"), ("a", "2")]);
        assert_eq!(labels.get("a").map(AsRef::as_ref), Some("2"));
        assert_eq!(labels, names.labels([("a", "2"), ("b", "1")]));
        for i in 0..5000 {
            names.name(&format!("gone-{i}"));
        }
        assert!(
            names.names.held.len() < 2500,
            "{} are still held",
            names.names.held.len()
        );
        assert!(Arc::ptr_eq(&first, &names.name("a")), "what is held elsewhere stays");
    }
}
