//! What a watch has told so far, to find what vanished while it was interrupted.

use std::collections::HashMap;

use corten_core::NamespacedName;

/// The objects of one kind that are known, by the version last seen.
#[derive(Debug, Default)]
pub(crate) struct Known {
    objects: HashMap<NamespacedName, Entry>,
    /// Rises with every list; an entry of an older list was not in the newest.
    list: u64,
}

#[derive(Debug)]
struct Entry {
    version: Box<str>,
    list: u64,
}

impl Known {
    /// A list begins.
    pub(crate) fn begin(&mut self) {
        self.list += 1;
    }

    /// An object is there. Returns whether it is new or changed.
    pub(crate) fn put(&mut self, key: NamespacedName, version: &str) -> bool {
        let entry = Entry {
            version: version.into(),
            list: self.list,
        };
        match self.objects.insert(key, entry) {
            Some(before) => *before.version != *version,
            None => true,
        }
    }

    /// An object is gone. Returns whether it was known.
    pub(crate) fn remove(&mut self, key: &NamespacedName) -> bool {
        self.objects.remove(key).is_some()
    }

    /// A list ends: those that were not in it are gone.
    pub(crate) fn end(&mut self) -> Vec<NamespacedName> {
        let list = self.list;
        let gone = self.objects.extract_if(|_, entry| entry.list != list);
        gone.map(|(key, _)| key).collect()
    }

    /// All are gone.
    pub(crate) fn clear(&mut self) -> Vec<NamespacedName> {
        self.objects.drain().map(|(key, _)| key).collect()
    }
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
        assert!(known.put(key("a"), "1"));
        assert!(known.put(key("b"), "2"));
        assert!(known.end().is_empty());
        assert!(known.put(key("c"), "3"));
        assert!(known.remove(&key("c")));
        assert!(!known.remove(&key("c")));

        known.begin();
        assert!(!known.put(key("a"), "1"), "unchanged");
        assert_eq!(known.end(), [key("b")]);
        assert!(known.put(key("a"), "4"), "changed");
        assert_eq!(known.clear(), [key("a")]);
    }
}
