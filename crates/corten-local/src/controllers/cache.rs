//! What the control loops know: every object of every watched resource, shared by all of them.
//!
//! Two sources feed it: the watches, and the answers to the loops' own writes. Because an answer enters at once, a loop never acts twice on a
//! state that it has already changed, and needs no list of expectations. Knows no kind and starts no task.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use corten_apiserver::{Object, ResourceId};
use serde_json::Value;

use super::object::{self, Key};

/// An object's place: its resource and key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) resource: ResourceId,
    pub(crate) key: Key,
}

/// One step in the life of an object, as the loops are told of it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) resource: ResourceId,
    pub(crate) old: Option<Object>,
    pub(crate) new: Option<Object>,
}

impl Change {
    /// The object after the change, or what it was before it went away.
    pub(crate) fn object(&self) -> &Object {
        self.new
            .as_ref()
            .or(self.old.as_ref())
            .expect("a change has at least one side")
    }

    /// Both sides of the change, the old one first.
    pub(crate) fn sides(&self) -> impl Iterator<Item = &Object> {
        self.old.iter().chain(&self.new)
    }

    pub(crate) fn is(&self, resource: &ResourceId) -> bool {
        self.resource == *resource
    }

    /// Whether a part of the object (by JSON pointer) differs between the sides. True when a side is missing.
    pub(crate) fn differs(&self, pointer: &str) -> bool {
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => old.pointer(pointer) != new.pointer(pointer),
            _ => true,
        }
    }
}

/// The shared cache.
#[derive(Default)]
pub(crate) struct Cache(RwLock<Objects>);

impl Cache {
    /// The objects, locked for reading: for pure work only, never across an await.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Objects> {
        // A panic while writing leaves single insertions undone, which the watch repairs; the data stays usable.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies a change under the write lock.
    pub(crate) fn write<R>(&self, change: impl FnOnce(&mut Objects) -> R) -> R {
        change(&mut self.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The objects and their indexes.
#[derive(Default)]
pub(crate) struct Objects {
    stores: HashMap<ResourceId, Store>,
    places: HashMap<String, Place>,
    dependents: HashMap<String, BTreeSet<Place>>,
}

#[derive(Default)]
struct Store {
    objects: BTreeMap<Key, Object>,
    /// The newest resource version that the watch has shown.
    seen: u64,
    synced: bool,
    /// Uids that a delete of ours removed before the watch said so; older news of them is ignored.
    gone: HashSet<String>,
}

impl Objects {
    /// An object by its place.
    pub(crate) fn get(&self, resource: &ResourceId, key: &Key) -> Option<&Object> {
        self.stores.get(resource)?.objects.get(key)
    }

    /// All objects of a resource.
    pub(crate) fn all<'a>(&'a self, resource: &ResourceId) -> impl Iterator<Item = &'a Object> + use<'a> {
        self.stores.get(resource).into_iter().flat_map(|s| s.objects.values())
    }

    /// The objects of a resource in one namespace.
    pub(crate) fn within<'a>(
        &'a self,
        resource: &ResourceId,
        namespace: &str,
    ) -> impl Iterator<Item = &'a Object> + use<'a> {
        let first = Key::new(namespace, "");
        self.stores.get(resource).into_iter().flat_map(move |store| {
            let namespace = first.namespace.clone();
            store
                .objects
                .range(first.clone()..)
                .take_while(move |(key, _)| key.namespace == namespace)
                .map(|(_, object)| object)
        })
    }

    /// The object with a uid, and where it is.
    pub(crate) fn by_uid(&self, uid: &str) -> Option<(&Place, &Object)> {
        let place = self.places.get(uid)?;
        Some((place, self.get(&place.resource, &place.key)?))
    }

    /// The objects that name the owner of this uid in their owner references.
    pub(crate) fn dependents<'a>(&'a self, uid: &str) -> impl Iterator<Item = (&'a Place, &'a Object)> + use<'a> {
        self.dependents
            .get(uid)
            .into_iter()
            .flatten()
            .filter_map(|place| Some((place, self.get(&place.resource, &place.key)?)))
    }

    /// The objects of one resource whose managing controller is the given object.
    pub(crate) fn controlled<'a>(
        &'a self,
        resource: &ResourceId,
        owner: &'a Value,
    ) -> impl Iterator<Item = &'a Object> + use<'a> {
        let resource = resource.clone();
        self.dependents(object::uid(owner))
            .filter(move |(place, dependent)| place.resource == resource && object::is_controlled_by(dependent, owner))
            .map(|(_, dependent)| dependent)
    }

    /// The resources that are watched.
    pub(crate) fn resources(&self) -> impl Iterator<Item = &ResourceId> {
        self.stores.keys()
    }

    /// Whether the first state of a resource has arrived.
    pub(crate) fn is_synced(&self, resource: &ResourceId) -> bool {
        self.stores.get(resource).is_some_and(|store| store.synced)
    }

    /// Announces that a resource will be watched.
    pub(crate) fn expect(&mut self, resource: &ResourceId) {
        self.stores.entry(resource.clone()).or_default();
    }

    /// Records that the first state of a resource has arrived.
    pub(crate) fn synced(&mut self, resource: &ResourceId) {
        self.stores.entry(resource.clone()).or_default().synced = true;
    }

    /// Forgets a resource that is no longer served; the changes are the ends of its objects.
    pub(crate) fn forget(&mut self, resource: &ResourceId) -> Vec<Change> {
        let keys: Vec<Key> = match self.stores.get(resource) {
            Some(store) => store.objects.keys().cloned().collect(),
            None => return Vec::new(),
        };
        let changes = keys.iter().filter_map(|key| self.take(resource, key)).collect();
        self.stores.remove(resource);
        changes
    }

    /// The watch shows a state of an object.
    pub(crate) fn shown(&mut self, resource: &ResourceId, object: Object) -> Option<Change> {
        let store = self.stores.entry(resource.clone()).or_default();
        store.seen = store.seen.max(object::version(&object));
        if store.gone.contains(object::uid(&object)) {
            return None;
        }
        self.insert(resource, object)
    }

    /// The watch shows the end of an object.
    pub(crate) fn ended(&mut self, resource: &ResourceId, object: &Value) -> Option<Change> {
        let key = Key::of(object);
        let store = self.stores.entry(resource.clone()).or_default();
        store.seen = store.seen.max(object::version(object));
        store.gone.remove(object::uid(object));
        let current = store.objects.get(&key)?;
        if object::uid(current) != object::uid(object) {
            return None;
        }
        self.take(resource, &key)
    }

    /// A write of ours was answered with this state. Ignored when the watch has already gone past it, for then it may be out of date.
    pub(crate) fn written(&mut self, resource: &ResourceId, object: Object) -> Option<Change> {
        let store = self.stores.entry(resource.clone()).or_default();
        // The answer to taking the last finalizer off is the object as it went away.
        let is_over = object::is_deleting(&object)
            && object::items(&object, "/metadata/finalizers").is_empty()
            && object::number(&object, "/metadata/deletionGracePeriodSeconds").unwrap_or(0) == 0;
        if object::version(&object) <= store.seen || is_over || store.gone.contains(object::uid(&object)) {
            return None;
        }
        self.insert(resource, object)
    }

    /// A delete of ours removed the object at once.
    pub(crate) fn removed(&mut self, resource: &ResourceId, key: &Key, uid: &str) -> Option<Change> {
        let store = self.stores.get_mut(resource)?;
        if object::uid(store.objects.get(key)?) != uid {
            return None;
        }
        store.gone.insert(uid.to_owned());
        self.take(resource, key)
    }

    fn insert(&mut self, resource: &ResourceId, object: Object) -> Option<Change> {
        let key = Key::of(&object);
        let store = self.stores.get_mut(resource)?;
        if let Some(current) = store.objects.get(&key)
            && object::version(current) >= object::version(&object)
        {
            return None;
        }
        let old = store.objects.insert(key.clone(), object.clone());
        let place = Place {
            resource: resource.clone(),
            key,
        };
        if let Some(old) = &old {
            self.unindex(&place, old);
        }
        self.index(&place, &object);
        Some(Change {
            resource: resource.clone(),
            old,
            new: Some(object),
        })
    }

    fn take(&mut self, resource: &ResourceId, key: &Key) -> Option<Change> {
        let old = self.stores.get_mut(resource)?.objects.remove(key)?;
        let place = Place {
            resource: resource.clone(),
            key: key.clone(),
        };
        self.unindex(&place, &old);
        Some(Change {
            resource: resource.clone(),
            old: Some(old),
            new: None,
        })
    }

    fn index(&mut self, place: &Place, object: &Value) {
        self.places.insert(object::uid(object).to_owned(), place.clone());
        for owner in object::items(object, "/metadata/ownerReferences") {
            let owner = object::text(owner, "/uid").to_owned();
            self.dependents.entry(owner).or_default().insert(place.clone());
        }
    }

    fn unindex(&mut self, place: &Place, object: &Value) {
        self.places.remove(object::uid(object));
        for owner in object::items(object, "/metadata/ownerReferences") {
            let owner = object::text(owner, "/uid");
            if let Some(places) = self.dependents.get_mut(owner) {
                places.remove(place);
                if places.is_empty() {
                    self.dependents.remove(owner);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corten_apiserver::resources::PODS;
    use serde_json::json;

    use super::*;

    fn pod(name: &str, uid: &str, version: u64) -> Object {
        Arc::new(json!({
            "metadata": {"namespace": "n", "name": name, "uid": uid, "resourceVersion": version.to_string(),
                "ownerReferences": [{"uid": "owner", "controller": true}]},
        }))
    }

    #[test]
    fn an_answer_that_the_watch_has_passed_is_ignored() {
        let mut objects = Objects::default();
        assert!(objects.shown(&PODS, pod("a", "1", 5)).is_some());
        assert!(objects.ended(&PODS, &pod("a", "1", 6)).is_some());
        assert!(
            objects.written(&PODS, pod("a", "1", 5)).is_none(),
            "made and ended before"
        );
        assert!(objects.written(&PODS, pod("b", "2", 7)).is_some());
        assert!(objects.shown(&PODS, pod("b", "2", 7)).is_none(), "known already");
        assert_eq!(objects.all(&PODS).count(), 1);
    }

    #[test]
    fn old_news_of_a_removed_object_does_not_bring_it_back() {
        let mut objects = Objects::default();
        objects.shown(&PODS, pod("a", "1", 5));
        assert!(objects.removed(&PODS, &Key::new("n", "a"), "1").is_some());
        assert!(objects.shown(&PODS, pod("a", "1", 6)).is_none());
        assert!(objects.ended(&PODS, &pod("a", "1", 7)).is_none(), "told already");
        assert!(
            objects.shown(&PODS, pod("a", "2", 8)).is_some(),
            "a new object of the name"
        );
    }

    #[test]
    fn dependents_follow_owner_references() {
        let mut objects = Objects::default();
        objects.shown(&PODS, pod("a", "1", 5));
        objects.shown(&PODS, pod("b", "2", 6));
        assert_eq!(objects.dependents("owner").count(), 2);
        let orphan = json!({"metadata": {"namespace": "n", "name": "a", "uid": "1", "resourceVersion": "7"}});
        objects.shown(&PODS, Arc::new(orphan));
        objects.ended(&PODS, &pod("b", "2", 8));
        assert_eq!(objects.dependents("owner").count(), 0);
        assert!(objects.by_uid("1").is_some() && objects.by_uid("2").is_none());
        assert_eq!(objects.within(&PODS, "n").count(), 1);
        assert_eq!(objects.within(&PODS, "m").count(), 0);
    }
}
