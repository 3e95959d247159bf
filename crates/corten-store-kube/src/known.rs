//! What a watch has told so far, to find what vanished while it was interrupted.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use corten_core::NamespacedName;

/// The objects of one kind that are known, by the version last seen. Some 100 bytes each: there are ten thousands.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// By `namespace/name`; neither part has a slash in it.
    objects: HashMap<Box<str>, Entry>,
    /// Rises with every list; an entry of an older list was not in the newest.
    list: u32,
}

#[derive(Debug)]
struct Entry {
    /// The version as a number: what versions mean is the API server's affair, and only equality counts here.
    version: u64,
    list: u32,
}

impl Known {
    /// A list begins.
    pub(crate) fn begin(&mut self) {
        self.list = self.list.wrapping_add(1);
    }

    /// An object is there. Returns whether it is new or changed.
    pub(crate) fn put(&mut self, key: &NamespacedName, version: &str) -> bool {
        let entry = Entry {
            version: number(version),
            list: self.list,
        };
        let version = entry.version;
        match self.objects.insert(joined(key), entry) {
            Some(before) => before.version != version,
            None => true,
        }
    }

    /// An object is gone. Returns whether it was known.
    pub(crate) fn remove(&mut self, key: &NamespacedName) -> bool {
        self.objects.remove(&joined(key)).is_some()
    }

    /// A list ends: those that were not in it are gone.
    pub(crate) fn end(&mut self) -> Vec<NamespacedName> {
        let list = self.list;
        let gone = self.objects.extract_if(|_, entry| entry.list != list);
        gone.map(|(key, _)| split(&key)).collect()
    }

    /// All are gone.
    pub(crate) fn clear(&mut self) -> Vec<NamespacedName> {
        self.objects.drain().map(|(key, _)| split(&key)).collect()
    }
}

fn joined(key: &NamespacedName) -> Box<str> {
    format!("{}/{}", key.namespace, key.name).into()
}

fn split(key: &str) -> NamespacedName {
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    NamespacedName::new(namespace, name)
}

fn number(version: &str) -> u64 {
    version.parse().unwrap_or_else(|_| {
        let mut hasher = DefaultHasher::new();
        version.hash(&mut hasher);
        hasher.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> NamespacedName {
        NamespacedName::new("n", name)
    }

    #[test]
    fn a_new_list_tells_what_changed_and_what_vanished() {
        let mut known = Known::default();
        known.begin();
        assert!(known.put(&key("a"), "1"));
        assert!(known.put(&key("b"), "2"));
        assert!(known.end().is_empty());
        assert!(known.put(&key("c"), "3"));
        assert!(known.remove(&key("c")));
        assert!(!known.remove(&key("c")));

        known.begin();
        assert!(!known.put(&key("a"), "1"), "unchanged");
        assert_eq!(known.end(), [key("b")]);
        assert!(known.put(&key("a"), "4"), "changed");
        assert!(known.put(&key("a"), "4a"), "changed, to what is no number");
        assert!(!known.put(&key("a"), "4a"));
        assert_eq!(known.clear(), [key("a")]);
    }
}
