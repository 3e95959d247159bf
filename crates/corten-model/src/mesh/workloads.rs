//! The stage of workloads: each object's own, with the services and policies that select it.

use std::sync::Arc;

use super::{Delta, Mesh, Role, dirty::edit, policies::Applying, stages::index_address};
use crate::{
    derive::{binding::Lookup, services, statuses, workloads},
    input::{ObjectKey, ObjectKind, Pod},
    service::Service,
    snapshot::AddressKey,
    text::{Labels, Name},
    workload::Workload,
};

impl Mesh {
    pub(super) fn derive_workloads(&mut self, object: &ObjectKey, delta: &mut Delta) {
        let common = &self.derived.common;
        let namespace = self.objects.namespaces.get(&object.namespace).map(AsRef::as_ref);
        let mut lookup = Lookup::new(&self.snapshot.waypoints, namespace);
        let policies = Applying {
            mesh: self,
            namespace: &object.namespace,
        };
        let mut made: Vec<Workload> = Vec::new();
        let mut status = None;
        match object.kind {
            ObjectKind::Pod => {
                let pods = self.snapshot.pods.get(&object.namespace);
                if let Some(pod) = pods.and_then(|pods| pods.get(&object.name)) {
                    let node = self.objects.nodes.get(&pod.node);
                    let locality = node.and_then(|node| node.locality.as_ref());
                    let healthy = pod.healthy || pod.healthy_by_node && self.objects.speaks_for_its_pods(node);
                    let services = self.services_of_pod(pod);
                    made.extend(workloads::of_pod(
                        common,
                        pod,
                        healthy,
                        locality,
                        &services,
                        &mut lookup,
                        &policies,
                    ));
                }
            }
            ObjectKind::WorkloadEntry => {
                if let Some(entry) = self.objects.workload_entries.get(&object.namespace, &object.name) {
                    let services = self.selecting(&object.namespace, &entry.meta.labels);
                    let (workload, attached) = workloads::of_entry(common, entry, &services, &mut lookup, &policies);
                    status = statuses::of_entry(attached.waypoint(), attached.refusal.as_ref(), entry.meta.generation);
                    made.push(workload);
                }
            }
            ObjectKind::ServiceEntry => {
                if let Some(entry) = self.objects.service_entries.get(&object.namespace, &object.name) {
                    let keys = self.derived.services_of.get(object);
                    let services: Vec<Arc<Service>> = keys
                        .filter_map(|key| self.snapshot.services.get(key))
                        .cloned()
                        .collect();
                    made = workloads::of_service_entry(common, entry, &services, &mut lookup, &policies);
                }
            }
            ObjectKind::EndpointSlice => {
                if let Some(slice) = self.objects.slices.get(&object.namespace, &object.name) {
                    let service = self.kubernetes_service(&slice.meta.namespace, &slice.service);
                    made = service
                        .map(|service| workloads::of_slice(common, slice, service))
                        .unwrap_or_default();
                }
            }
            _ => return,
        }
        let consulted = lookup.consulted;
        self.derived
            .note_consulted((Role::Workloads, object.clone()), consulted);
        if object.kind == ObjectKind::WorkloadEntry {
            self.set_status(object, status, delta);
        }
        self.set_workloads(object, made, delta);
    }

    /// The services that select labels in a namespace.
    pub(super) fn selecting(&self, namespace: &Name, labels: &Labels) -> Vec<Arc<Service>> {
        let candidates = self.derived.service_selectors.candidates(namespace, labels);
        let services = candidates.filter_map(|key| self.snapshot.services.get(key));
        services
            .filter(|service| service.selector.is_subset_of(labels))
            .cloned()
            .collect()
    }

    pub(super) fn services_of_pod(&self, pod: &Pod) -> Vec<Arc<Service>> {
        let mut services = self.selecting(&pod.meta.namespace, &pod.meta.labels);
        let place = (Arc::clone(&pod.meta.namespace), Arc::clone(&pod.meta.name));
        for (namespace, name) in self.derived.slices_of_pod.get(&place) {
            let slice = self.objects.slices.get(namespace, name);
            let listed = slice.filter(|slice| {
                slice
                    .pods
                    .iter()
                    .any(|(namespace, name, uid)| (namespace, name, *uid) == (&place.0, &place.1, pod.uid))
            });
            let service = listed.and_then(|slice| self.kubernetes_service(namespace, &slice.service));
            services.extend(
                service
                    .filter(|service| !services.iter().any(|known| known.hostname == service.hostname))
                    .cloned(),
            );
        }
        services
    }

    pub(super) fn kubernetes_service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        let hostname = services::hostname(name, namespace, &self.snapshot.settings.domain);
        let service = self.snapshot.services.get(format!("{namespace}/{hostname}").as_str());
        service.filter(|service| service.source.kind == ObjectKind::Service)
    }

    /// Replaces the workloads of an object.
    pub(super) fn set_workloads(&mut self, object: &ObjectKey, made: Vec<Workload>, delta: &mut Delta) {
        let uids: Vec<Name> = made.iter().map(|workload| Arc::clone(&workload.uid)).collect();
        let old = if object.kind == ObjectKind::Pod {
            let uid = workloads::pod_uid(&self.derived.common.settings.cluster, &object.namespace, &object.name);
            self.snapshot
                .workloads
                .get(uid.as_str())
                .map(|old| Arc::clone(&old.uid))
                .into_iter()
                .collect()
        } else if uids.is_empty() {
            self.derived.workloads_of.remove(object).unwrap_or_default()
        } else {
            self.derived
                .workloads_of
                .insert(object.clone(), uids.clone())
                .unwrap_or_default()
        };
        for gone in old.iter().filter(|uid| !uids.contains(uid)) {
            self.set_workload(gone, None, delta);
        }
        for workload in made {
            let uid = Arc::clone(&workload.uid);
            self.set_workload(&uid, Some(workload), delta);
        }
    }

    pub(super) fn set_workload(&mut self, uid: &Name, new: Option<Workload>, delta: &mut Delta) {
        let old = self.snapshot.workloads.get(uid).cloned();
        if old.as_deref() == new.as_ref() {
            return;
        }
        let new = new.map(Arc::new);
        for (workload, is_new) in [(&old, false), (&new, true)] {
            let Some(workload) = workload else { continue };
            for (service, _) in workload.services.iter() {
                edit(&mut self.snapshot.members, service, |members| {
                    members.set(Arc::clone(uid), is_new.then_some(()));
                });
            }
            // An address that is not its own leads to no workload.
            for address in workload.addresses.iter().filter(|_| !workload.host_network) {
                let place = (Arc::clone(&workload.network), *address);
                index_address(&mut self.snapshot, place, AddressKey::Workload(Arc::clone(uid)), is_new);
            }
        }
        self.snapshot.workloads.set(Arc::clone(uid), new);
        delta.workloads.insert(Arc::clone(uid));
    }
}
