//! Shared text: names repeat in thousands of workloads, and are kept once.

use std::{borrow::Borrow, collections::HashSet, fmt, hash::Hash, ops::Deref, sync::Arc};

use corten_core::{Identity, Locality};

/// An immutable text that many share.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Name {
    fn default() -> Name {
        Name(Arc::from(""))
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Name {
        Name(Arc::from(text))
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Below this number of values, unused ones are left.
const SWEEP_MIN: usize = 256;

/// What is kept once: as long as somebody else holds a value, asking for an equal one gives the same.
#[derive(Debug)]
pub(crate) struct Pool<T: ?Sized + Hash + Eq> {
    values: HashSet<Arc<T>>,
    /// The number of values at which those that nobody holds any more are dropped.
    sweep_at: usize,
}

impl<T: ?Sized + Hash + Eq> Default for Pool<T> {
    fn default() -> Pool<T> {
        Pool {
            values: HashSet::new(),
            sweep_at: SWEEP_MIN,
        }
    }
}

impl Pool<str> {
    fn share(&mut self, text: &str) -> Arc<str> {
        match self.values.get(text) {
            Some(shared) => shared.clone(),
            None => self.add(Arc::from(text)),
        }
    }
}

impl<T: Hash + Eq> Pool<T> {
    fn keep(&mut self, value: T) -> Arc<T> {
        match self.values.get(&value) {
            Some(shared) => shared.clone(),
            None => self.add(Arc::new(value)),
        }
    }
}

impl<T: ?Sized + Hash + Eq> Pool<T> {
    fn add(&mut self, value: Arc<T>) -> Arc<T> {
        if self.values.len() >= self.sweep_at {
            self.values.retain(|value| Arc::strong_count(value) > 1);
            self.sweep_at = (self.values.len() * 2).max(SWEEP_MIN);
        }
        self.values.insert(value.clone());
        value
    }
}

/// The pools of one writer.
#[derive(Debug, Default)]
pub(crate) struct Interner {
    texts: Pool<str>,
    identities: Pool<Identity>,
    localities: Pool<Locality>,
}

impl Interner {
    /// The shared form of a text.
    pub(crate) fn name(&mut self, text: &str) -> Name {
        Name(self.texts.share(text))
    }

    /// The shared form of an identity.
    pub(crate) fn identity(&mut self, identity: Identity) -> Arc<Identity> {
        self.identities.keep(identity)
    }

    /// The shared form of a place.
    pub(crate) fn locality(&mut self, locality: Locality) -> Arc<Locality> {
        self.localities.keep(locality)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Interner;

    #[test]
    fn equal_texts_are_one_and_unused_ones_go() {
        let mut interner = Interner::default();
        let kept = interner.name("kept");
        for i in 0..10_000 {
            interner.name(&i.to_string());
        }
        assert!(Arc::ptr_eq(&kept.0, &interner.name("kept").0));
        assert!(interner.texts.values.len() <= 256);
    }
}
