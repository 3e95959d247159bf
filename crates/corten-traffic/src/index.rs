//! An index: a key, and the few things that have it, in the order of their names, whatever order they came in.

use std::{hash::Hash, sync::Arc};

use crate::{policy::Policy, service::Service, trie::Trie, workload::Workload};

/// A thing that indexes point to.
pub(crate) trait Member: Clone {
    /// What it is ordered by; no two have the same.
    fn id(&self) -> (&str, &str);
}

impl Member for Arc<Workload> {
    fn id(&self) -> (&str, &str) {
        (&self.uid, "")
    }
}

impl Member for Arc<Service> {
    fn id(&self) -> (&str, &str) {
        (&self.namespace, &self.hostname)
    }
}

impl Member for Arc<Policy> {
    fn id(&self) -> (&str, &str) {
        (&self.key, "")
    }
}

/// The index. The hash of a key is the caller's affair, so that look-ups need no key of the stored form.
#[derive(Debug, Clone)]
pub(crate) struct Index<K, T> {
    groups: Trie<Group<K, T>>,
}

#[derive(Debug, Clone)]
struct Group<K, T> {
    key: K,
    members: Members<T>,
}

/// Nearly always one.
#[derive(Debug, Clone)]
enum Members<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> Members<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            Members::One(member) => std::slice::from_ref(member),
            Members::Many(members) => members,
        }
    }
}

impl<K, T> Default for Index<K, T> {
    fn default() -> Index<K, T> {
        Index {
            groups: Trie::default(),
        }
    }
}

impl<K: Clone + Eq + Hash, T: Member> Index<K, T> {
    /// What has the key.
    pub(crate) fn get(&self, hash: u32, is: impl Fn(&K) -> bool) -> &[T] {
        let group = self.groups.get(hash, |group| is(&group.key));
        group.map_or(&[], |group| group.members.as_slice())
    }

    /// Adds a thing under a key, in place of one of the same id.
    pub(crate) fn insert(&mut self, hash: u32, key: K, member: T) {
        let Some(group) = self.groups.get_mut(hash, |group| group.key == key) else {
            let group = Group {
                key: key.clone(),
                members: Members::One(member),
            };
            self.groups.insert(hash, group, |group| group.key == key);
            return;
        };
        let mut members = group.members.as_slice().to_vec();
        match members.binary_search_by(|other| other.id().cmp(&member.id())) {
            Ok(at) => members[at] = member,
            Err(at) => members.insert(at, member),
        }
        group.members = Members::from(members);
    }

    /// Takes a thing out from under a key.
    pub(crate) fn remove(&mut self, hash: u32, key: &K, member: &T) {
        let Some(group) = self.groups.get_mut(hash, |group| group.key == *key) else {
            return;
        };
        let mut members = group.members.as_slice().to_vec();
        members.retain(|other| other.id() != member.id());
        if members.is_empty() {
            self.groups.remove(hash, |group| group.key == *key);
        } else {
            group.members = Members::from(members);
        }
    }

    /// All keys with what has them, in no particular order.
    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &[T])> {
        self.groups.iter().map(|group| (&group.key, group.members.as_slice()))
    }
}

impl<T> From<Vec<T>> for Members<T> {
    fn from(mut members: Vec<T>) -> Members<T> {
        match members.pop() {
            Some(only) if members.is_empty() => Members::One(only),
            Some(last) => {
                members.push(last);
                Members::Many(members)
            }
            None => Members::Many(members),
        }
    }
}
