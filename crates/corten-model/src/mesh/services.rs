//! The stage of services: what Services and ServiceEntries contribute, and which of it counts under each host name.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Delta, Mesh, Role,
    dirty::{Dirty, key},
    pod_key,
    stages::index_address,
};
use crate::{
    derive::{binding::Lookup, services, statuses},
    input::ObjectKind,
    service::Service,
    snapshot::AddressKey,
    text::Name,
};

impl Mesh {
    /// What Services and ServiceEntries contribute. Returns the host names that are touched.
    pub(super) fn derive_candidates(&mut self, dirty: &mut Dirty, delta: &mut Delta) -> BTreeSet<Name> {
        let mut touched = BTreeSet::new();
        for source in std::mem::take(&mut dirty.sources) {
            let namespace = self.objects.namespaces.get(&source.namespace).map(AsRef::as_ref);
            let mut lookup = Lookup::new(&self.snapshot.waypoints, namespace);
            let (settings, network) = (&self.snapshot.settings, &self.snapshot.network);
            let service = self.objects.services.get(&source.namespace, &source.name);
            let entry = self.objects.service_entries.get(&source.namespace, &source.name);
            let (made, status) = match (source.kind, service, entry) {
                (ObjectKind::Service, Some(service), _) => {
                    let made = services::of_service(service, settings, network, &mut lookup);
                    let status = statuses::of_candidate(&made, None, settings, service.meta.generation);
                    (Some(made), status)
                }
                (ObjectKind::ServiceEntry, _, Some(entry)) => {
                    let made = services::of_entry(entry, settings, network, &mut lookup);
                    let status = statuses::of_candidate(&made, Some(entry), settings, entry.meta.generation);
                    (Some(made), status)
                }
                _ => (None, None),
            };
            let consulted = lookup.consulted;
            self.derived.note_consulted((Role::Service, source.clone()), consulted);
            self.set_status(&source, status, delta);
            let old = self.derived.candidates.get(&source);
            if old.map(AsRef::as_ref) == made.as_ref() {
                continue;
            }
            dirty.targets = true;
            let hosts = |services: &[Arc<Service>]| -> BTreeSet<Name> {
                services.iter().map(|service| Arc::clone(&service.hostname)).collect()
            };
            let old_hosts = old.map(|old| hosts(&old.services)).unwrap_or_default();
            let new_hosts = made.as_ref().map(|made| hosts(&made.services)).unwrap_or_default();
            for gone in old_hosts.difference(&new_hosts) {
                self.derived.hostnames.remove(gone, &source);
            }
            for new in new_hosts.difference(&old_hosts) {
                self.derived.hostnames.insert(Arc::clone(new), source.clone());
            }
            touched.extend(old_hosts);
            touched.extend(new_hosts);
            match made {
                Some(made) => drop(self.derived.candidates.insert(source, Arc::new(made))),
                None => drop(self.derived.candidates.remove(&source)),
            }
        }
        touched
    }

    /// The services of host names that were touched, and the marks on workloads that belong to them.
    pub(super) fn derive_services(&mut self, hostnames: &BTreeSet<Name>, dirty: &mut Dirty, delta: &mut Delta) {
        for hostname in hostnames {
            let sources = self.derived.hostnames.get(hostname);
            let contributed = sources.filter_map(|source| self.derived.candidates.get(source));
            let candidates: Vec<Arc<Service>> = contributed
                .flat_map(|candidate| &candidate.services)
                .filter(|service| service.hostname == *hostname)
                .cloned()
                .collect();
            let mut best = services::select(&candidates);
            let keys: BTreeSet<Name> = best.keys().cloned().collect();
            let old = if keys.is_empty() {
                self.derived.selected.remove(hostname)
            } else {
                self.derived.selected.insert(Arc::clone(hostname), keys.clone())
            };
            for key in old.unwrap_or_default().union(&keys) {
                self.set_service(key, best.remove(key), dirty, delta);
            }
        }
    }

    pub(super) fn set_service(&mut self, key: &Name, new: Option<Arc<Service>>, dirty: &mut Dirty, delta: &mut Delta) {
        let old = self.snapshot.services.get(key).cloned();
        if old == new {
            return;
        }
        self.snapshot.services.set(Arc::clone(key), new.clone());
        delta.services.insert(Arc::clone(key));
        let same_members = match (&old, &new) {
            (Some(old), Some(new)) => {
                let workloads_part = |service: &Arc<Service>| {
                    (
                        service.selector.clone(),
                        service.ports.clone(),
                        service.source.clone(),
                        service.waypoint_name.clone(),
                    )
                };
                workloads_part(old) == workloads_part(new)
            }
            _ => false,
        };
        for (service, is_new) in [(&old, false), (&new, true)] {
            let Some(service) = service else { continue };
            let derived = &mut self.derived;
            if is_new {
                derived
                    .service_selectors
                    .insert(&service.namespace, &service.selector, key);
                derived.services_of.insert(service.source.clone(), Arc::clone(key));
            } else {
                derived
                    .service_selectors
                    .remove(&service.namespace, &service.selector, key);
                derived.services_of.remove(&service.source, key);
            }
            for range in service.addresses.iter().filter(|range| range.length.is_none()) {
                let place = (Arc::clone(&service.network), range.address);
                index_address(&mut self.snapshot, place, AddressKey::Service(Arc::clone(key)), is_new);
            }
            if !same_members {
                self.mark_members(service, dirty);
            }
        }
    }

    /// Marks what belongs to a service, or may do so.
    pub(super) fn mark_members(&self, service: &Service, dirty: &mut Dirty) {
        if !service.selector.is_empty() {
            dirty
                .selected
                .push((Some(Arc::clone(&service.namespace)), service.selector.clone()));
        }
        if service.source.kind == ObjectKind::ServiceEntry {
            dirty.workloads.insert(service.source.clone());
            return;
        }
        let place = (Arc::clone(&service.namespace), Arc::clone(&service.name));
        for name in self.derived.slices_of_service.get(&place) {
            let slice = self.objects.slices.get(&service.namespace, name);
            let pods = slice.into_iter().flat_map(|slice| slice.pods.iter());
            dirty
                .workloads
                .extend(pods.map(|(namespace, name, _)| pod_key(&(Arc::clone(namespace), Arc::clone(name)))));
            dirty
                .workloads
                .extend(slice.map(|slice| key(ObjectKind::EndpointSlice, &slice.meta)));
        }
    }
}
