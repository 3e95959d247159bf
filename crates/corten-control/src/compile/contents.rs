//! Resources as they are sent, by type and name.

use std::collections::HashMap;
use std::sync::Arc;

use corten_envoy_gen::Resources;
use corten_xds::server::{Resource, Store};

use crate::resources::encode;

/// Resources of a part of what a proxy is sent, by type and name.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    held: HashMap<(&'static str, Arc<str>), Arc<Resource>>,
}

impl Contents {
    /// Encodes what was made; what is as it was `before` is the same value.
    pub(crate) fn of(made: &Resources, before: Option<&Contents>) -> Contents {
        let mut held = HashMap::new();
        encode(made, |type_url, resource| {
            let key = (type_url, Arc::clone(resource.name()));
            let resource = match before.and_then(|before| before.held.get(&key)) {
                Some(known) if known.same(&resource) => Arc::clone(known),
                _ => Arc::new(resource),
            };
            held.insert(key, resource);
        });
        Contents { held }
    }

    /// Whether there is a resource.
    pub(crate) fn holds(&self, type_url: &'static str, name: &Arc<str>) -> bool {
        self.held.contains_key(&(type_url, Arc::clone(name)))
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Arc<Resource>)> {
        self.held.iter().map(|((type_url, _), resource)| (*type_url, resource))
    }
}

/// What is different between what was held and what is to be.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    set: Vec<(&'static str, Arc<Resource>)>,
    gone: Vec<(&'static str, Arc<str>)>,
}

impl Difference {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.gone.is_empty()
    }

    /// Takes in one resource.
    pub(crate) fn set(&mut self, type_url: &'static str, resource: Arc<Resource>) {
        self.set.push((type_url, resource));
    }

    /// Takes in that there is a resource no longer.
    pub(crate) fn remove(&mut self, type_url: &'static str, name: Arc<str>) {
        self.gone.push((type_url, name));
    }

    /// Takes in that something takes the place of something else.
    pub(crate) fn add(&mut self, before: Option<&Contents>, now: Option<&Contents>) {
        if let (Some(before), Some(now)) = (before, now)
            && std::ptr::eq(before, now)
        {
            return;
        }
        for (type_url, resource) in now.into_iter().flat_map(Contents::iter) {
            let known = before.and_then(|before| before.held.get(&(type_url, Arc::clone(resource.name()))));
            if !known.is_some_and(|known| Arc::ptr_eq(known, resource)) {
                self.set.push((type_url, Arc::clone(resource)));
            }
        }
        for (type_url, resource) in before.into_iter().flat_map(Contents::iter) {
            if !now.is_some_and(|now| now.holds(type_url, resource.name())) {
                self.gone.push((type_url, Arc::clone(resource.name())));
            }
        }
    }

    /// Makes a store so; what is gone from one part and is in another stays.
    pub(crate) fn apply(self, store: &mut Store) {
        let stays: std::collections::HashSet<(&str, Arc<str>)> = self
            .set
            .iter()
            .map(|(type_url, resource)| (*type_url, Arc::clone(resource.name())))
            .collect();
        for (type_url, name) in self.gone {
            if !stays.contains(&(type_url, Arc::clone(&name))) {
                store.remove(type_url, &name);
            }
        }
        for (type_url, resource) in self.set {
            store.set(type_url, resource);
        }
    }
}
