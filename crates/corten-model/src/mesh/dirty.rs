//! What a batch of changes touched, by stage; and the marks that objects with many dependents leave.

use std::{collections::BTreeSet, sync::Arc};

use super::{Mesh, Objects, pod_key};
use crate::{
    input::{Gateway, GatewayClass, Namespace, Node, ObjectKey, ObjectKind, Pod},
    map::Map,
    text::{Labels, Name},
};

/// Keys to be derived again.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// What all workloads share: settings, network, ways into other networks.
    pub(super) common: bool,
    /// Gateways.
    pub(super) gateways: BTreeSet<(Name, Name)>,
    /// Services and ServiceEntries, for what they contribute.
    pub(super) sources: BTreeSet<ObjectKey>,
    /// AuthorizationPolicies.
    pub(super) policies: BTreeSet<ObjectKey>,
    /// PeerAuthentications.
    pub(super) peers: BTreeSet<ObjectKey>,
    /// Labels that select workloads which are touched, in a namespace or, without one, in all.
    pub(super) selected: Vec<(Option<Name>, Labels)>,
    /// Objects that have workloads.
    pub(super) workloads: BTreeSet<ObjectKey>,
    /// What policies may be attached to.
    pub(super) targets: bool,
}

impl Mesh {
    pub(super) fn put_namespace(&mut self, key: &ObjectKey, object: Option<Arc<Namespace>>, dirty: &mut Dirty) {
        let held = &mut self.objects.namespaces;
        let old = match object.clone() {
            Some(object) => held.insert(Arc::clone(&key.name), object),
            None => held.remove(&key.name),
        };
        if old == object {
            return;
        }
        dirty.common |= key.name == self.snapshot.settings.system_namespace;
        let namespace = &key.name;
        dirty.sources.extend(self.objects.sources_of(namespace));
        self.mark_workloads(namespace, &Labels::default(), dirty);
    }

    pub(super) fn put_node(&mut self, key: &ObjectKey, object: Option<Arc<Node>>, dirty: &mut Dirty) {
        let all_were_silent = self.objects.all_nodes_are_silent();
        let matters = |node: Option<&Arc<Node>>| node.map(|node| (node.locality.clone(), node.silent));
        let new = matters(object.as_ref());
        let held = &mut self.objects.nodes;
        let old = match object {
            Some(object) => held.insert(Arc::clone(&key.name), object),
            None => held.remove(&key.name),
        };
        let pods_by_node = &self.snapshot.pods_by_node;
        if self.objects.all_nodes_are_silent() != all_were_silent {
            let pods = pods_by_node.iter().flat_map(|(_, pods)| pods.keys());
            dirty.workloads.extend(pods.map(pod_key));
        } else if matters(old.as_ref()) != new {
            let pods = pods_by_node.get(&key.name).into_iter().flat_map(Map::keys);
            dirty.workloads.extend(pods.map(pod_key));
        }
    }

    pub(super) fn put_class(&mut self, key: &ObjectKey, object: Option<Arc<GatewayClass>>, dirty: &mut Dirty) {
        let held = &mut self.objects.classes;
        let old = match object.clone() {
            Some(object) => held.insert(Arc::clone(&key.name), object),
            None => held.remove(&key.name),
        };
        if old != object {
            dirty.targets = true;
            dirty
                .gateways
                .extend(self.derived.gateways_of_class.get(&key.name).cloned());
        }
    }

    pub(super) fn put_gateway(&mut self, key: &ObjectKey, object: Option<Arc<Gateway>>, dirty: &mut Dirty) {
        let old = self.objects.gateways.set(&key.namespace, &key.name, object.clone());
        if old == object {
            return;
        }
        let place = (Arc::clone(&key.namespace), Arc::clone(&key.name));
        if let Some(old) = &old {
            self.derived.gateways_of_class.remove(&old.class, &place);
        }
        if let Some(new) = &object {
            self.derived
                .gateways_of_class
                .insert(Arc::clone(&new.class), place.clone());
        }
        dirty.common = true;
        dirty.gateways.insert(place);
    }

    pub(super) fn put_pod(&mut self, key: &ObjectKey, object: Option<Arc<Pod>>, dirty: &mut Dirty) {
        let place = (Arc::clone(&key.namespace), Arc::clone(&key.name));
        let old = self
            .snapshot
            .pods
            .get(&key.namespace)
            .and_then(|pods| pods.get(&key.name))
            .cloned();
        if old == object {
            return;
        }
        edit(&mut self.snapshot.pods, &key.namespace, |pods| {
            drop(pods.set(Arc::clone(&key.name), object.clone()))
        });
        let node = |pod: &Option<Arc<Pod>>| pod.as_ref().map(|pod| Arc::clone(&pod.node));
        if node(&old) != node(&object) {
            if let Some(node) = node(&old) {
                edit(&mut self.snapshot.pods_by_node, &node, |pods| {
                    pods.remove(&place);
                });
            }
            if let Some(node) = node(&object) {
                edit(&mut self.snapshot.pods_by_node, &node, |pods| {
                    pods.insert(place.clone(), ());
                });
            }
        }
        for (pod, is_new) in [(&old, false), (&object, true)] {
            let name = pod
                .as_ref()
                .and_then(|pod| pod.meta.labels.get("gateway.networking.k8s.io/gateway-name"));
            let Some(name) = name else { continue };
            let waypoint: Name = Arc::from(format!("{}/{name}", key.namespace));
            if is_new {
                self.derived.instances.insert(waypoint, place.clone());
            } else {
                self.derived.instances.remove(&waypoint, &place);
            }
            dirty.gateways.insert((Arc::clone(&key.namespace), Arc::clone(name)));
        }
        dirty.workloads.insert(key.clone());
    }

    /// Marks the workloads of a namespace that labels select; no labels select all.
    pub(super) fn mark_workloads(&self, namespace: &Name, selector: &Labels, dirty: &mut Dirty) {
        let pods = self.snapshot.pods.get(namespace).into_iter().flat_map(Map::values);
        let pods = pods.filter(|pod| selector.is_subset_of(&pod.meta.labels));
        dirty.workloads.extend(pods.map(|pod| key(ObjectKind::Pod, &pod.meta)));
        let entries = self.objects.workload_entries.of(namespace);
        let entries = entries.filter(|entry| selector.is_subset_of(&entry.meta.labels));
        dirty
            .workloads
            .extend(entries.map(|entry| key(ObjectKind::WorkloadEntry, &entry.meta)));
        let entries = self.objects.service_entries.of(namespace);
        let entries = entries.filter(|entry| selector.is_subset_of(&entry.meta.labels));
        dirty
            .workloads
            .extend(entries.map(|entry| key(ObjectKind::ServiceEntry, &entry.meta)));
    }

    /// Marks the workloads of all namespaces that labels select.
    pub(super) fn mark_all_workloads(&self, selector: &Labels, dirty: &mut Dirty) {
        let entries = self.objects.workload_entries.iter().map(|entry| &entry.meta.namespace);
        let services = self.objects.service_entries.iter().map(|entry| &entry.meta.namespace);
        let namespaces: BTreeSet<&Name> = self.snapshot.pods.keys().chain(entries).chain(services).collect();
        for namespace in namespaces {
            self.mark_workloads(namespace, selector, dirty);
        }
    }

    /// Marks everything that can be derived.
    pub(super) fn mark_all(&self, dirty: &mut Dirty) {
        let objects = &self.objects;
        let place = |meta: &crate::input::Meta| (Arc::clone(&meta.namespace), Arc::clone(&meta.name));
        dirty
            .gateways
            .extend(objects.gateways.iter().map(|gateway| place(&gateway.meta)));
        dirty.sources.extend(
            objects
                .services
                .iter()
                .map(|object| key(ObjectKind::Service, &object.meta)),
        );
        let entries = || {
            objects
                .service_entries
                .iter()
                .map(|object| key(ObjectKind::ServiceEntry, &object.meta))
        };
        dirty.sources.extend(entries());
        dirty.workloads.extend(entries());
        dirty.policies.extend(
            objects
                .policies
                .iter()
                .map(|object| key(ObjectKind::AuthorizationPolicy, &object.meta)),
        );
        dirty.peers.extend(
            objects
                .peers
                .iter()
                .map(|object| key(ObjectKind::PeerAuthentication, &object.meta)),
        );
        let pods = self.snapshot.pods.values().flat_map(Map::values);
        dirty.workloads.extend(pods.map(|pod| key(ObjectKind::Pod, &pod.meta)));
        let entries = objects.workload_entries.iter();
        dirty
            .workloads
            .extend(entries.map(|object| key(ObjectKind::WorkloadEntry, &object.meta)));
        dirty.workloads.extend(
            objects
                .slices
                .iter()
                .map(|object| key(ObjectKind::EndpointSlice, &object.meta)),
        );
        dirty.targets = true;
    }
}

impl Objects {
    /// The Services and ServiceEntries of a namespace.
    fn sources_of(&self, namespace: &str) -> impl Iterator<Item = ObjectKey> {
        let services = self
            .services
            .of(namespace)
            .map(|object| key(ObjectKind::Service, &object.meta));
        services.chain(
            self.service_entries
                .of(namespace)
                .map(|object| key(ObjectKind::ServiceEntry, &object.meta)),
        )
    }
}

pub(super) fn key(kind: ObjectKind, meta: &crate::input::Meta) -> ObjectKey {
    ObjectKey {
        kind,
        namespace: Arc::clone(&meta.namespace),
        name: Arc::clone(&meta.name),
    }
}

/// Changes one of the maps in a map; empty ones are not kept.
pub(super) fn edit<K: std::hash::Hash + Eq + Clone, V: Clone>(
    maps: &mut Map<Name, Map<K, V>>,
    key: &Name,
    change: impl FnOnce(&mut Map<K, V>),
) {
    // Taken out first, so that what nobody else holds is changed in place.
    let mut map = maps.remove(key).unwrap_or_default();
    change(&mut map);
    if !map.is_empty() {
        maps.insert(Arc::clone(key), map);
    }
}
