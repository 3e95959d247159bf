//! Where things are found: objects by namespace and name, selecting things by one of their labels.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::text::{Labels, Name};

/// Objects of a kind, by namespace and name.
#[derive(Debug)]
pub(super) struct Table<T> {
    namespaces: HashMap<Name, BTreeMap<Name, Arc<T>>>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table {
            namespaces: HashMap::new(),
        }
    }
}

impl<T> Table<T> {
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<&Arc<T>> {
        self.namespaces.get(namespace)?.get(name)
    }

    /// The objects of a namespace.
    pub(super) fn of(&self, namespace: &str) -> impl Iterator<Item = &Arc<T>> {
        self.namespaces.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.namespaces.values().flat_map(BTreeMap::values)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// Sets or removes; the old object is returned.
    pub(super) fn set(&mut self, namespace: &Name, name: &Name, object: Option<Arc<T>>) -> Option<Arc<T>> {
        match object {
            Some(object) => {
                let held = self.namespaces.entry(Arc::clone(namespace)).or_default();
                held.insert(Arc::clone(name), object)
            }
            None => {
                let held = self.namespaces.get_mut(namespace)?;
                let old = held.remove(name);
                if held.is_empty() {
                    self.namespaces.remove(namespace);
                }
                old
            }
        }
    }
}

/// Keys by key; empty sets are not kept.
#[derive(Debug)]
pub(super) struct Multi<K, V>(HashMap<K, BTreeSet<V>>);

impl<K, V> Default for Multi<K, V> {
    fn default() -> Multi<K, V> {
        Multi(HashMap::new())
    }
}

impl<K: std::hash::Hash + Eq, V: Ord> Multi<K, V> {
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.0.entry(key).or_default().insert(value);
    }

    pub(super) fn remove(&mut self, key: &K, value: &V) {
        if let Some(held) = self.0.get_mut(key) {
            held.remove(value);
            if held.is_empty() {
                self.0.remove(key);
            }
        }
    }

    pub(super) fn get(&self, key: &K) -> impl Iterator<Item = &V> {
        self.0.get(key).into_iter().flatten()
    }
}

/// Keys of what selects by labels, found from the labels that are to be selected: each is filed under the first of its
/// labels, so that a look-up looks only at what wants one of the labels there are.
#[derive(Debug, Default)]
pub(super) struct Selectors {
    filed: Multi<(Name, Name, Name), Name>,
}

impl Selectors {
    fn place(namespace: &Name, selector: &Labels) -> Option<(Name, Name, Name)> {
        let (key, value) = selector.iter().next()?;
        Some((Arc::clone(namespace), Arc::clone(key), Arc::clone(value)))
    }

    pub(super) fn insert(&mut self, namespace: &Name, selector: &Labels, key: &Name) {
        if let Some(place) = Self::place(namespace, selector) {
            self.filed.insert(place, Arc::clone(key));
        }
    }

    pub(super) fn remove(&mut self, namespace: &Name, selector: &Labels, key: &Name) {
        if let Some(place) = Self::place(namespace, selector) {
            self.filed.remove(&place, key);
        }
    }

    /// Keys of what may select these labels; the rest of its labels is for the caller to check.
    pub(super) fn candidates<'a>(&'a self, namespace: &'a Name, labels: &'a Labels) -> impl Iterator<Item = &'a Name> {
        let places = labels
            .iter()
            .map(move |(k, v)| (Arc::clone(namespace), Arc::clone(k), Arc::clone(v)));
        places.flat_map(|place| self.filed.0.get(&place).into_iter().flatten())
    }
}
