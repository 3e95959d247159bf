//! The stages of derivation, each over the keys that those before it touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use corten_api::{diagnostic::Diagnostic, istio::peer_authentication::MutualTLSMode};

use super::{
    Delta, Derived, Mesh, Role,
    dirty::{Dirty, edit, key},
    pod_key,
};
use crate::{
    derive::{
        authorization,
        binding::Lookup,
        peer, services, statuses,
        waypoints::{self, NetworkGateway},
        workloads::{self, Common, Policies},
    },
    input::{ObjectKey, ObjectKind, Pod},
    policy::{Action, Clause, Match, Pattern, Policy, PolicyScope, Rule},
    service::Service,
    snapshot::{AddressKey, Snapshot},
    status::{Condition, Status},
    text::{Labels, Name},
    waypoint::Waypoint,
    workload::Workload,
};

const NETWORK: &str = "topology.istio.io/network";

impl Mesh {
    pub(super) fn derive(&mut self, mut dirty: Dirty, delta: &mut Delta) {
        if dirty.common {
            self.derive_common(&mut dirty, delta);
        }
        self.derive_waypoints(&mut dirty, delta);
        let touched = self.derive_candidates(&mut dirty, delta);
        self.derive_services(&touched, &mut dirty, delta);
        self.derive_policies(&mut dirty, delta);
        self.derive_peers(&mut dirty, delta);
        for (namespace, selector) in std::mem::take(&mut dirty.selected) {
            match namespace {
                Some(namespace) => self.mark_workloads(&namespace, &selector, &mut dirty),
                None => self.mark_all_workloads(&selector, &mut dirty),
            }
        }
        for object in &dirty.workloads {
            self.derive_workloads(object, delta);
        }
        self.derive_policy_statuses(&dirty, delta);
    }

    /// What all workloads share. When it is different, everything is derived again.
    fn derive_common(&mut self, dirty: &mut Dirty, delta: &mut Delta) {
        let settings = Arc::clone(&self.snapshot.settings);
        let system = self.objects.namespaces.get(&settings.system_namespace);
        let network = Arc::clone(
            system
                .and_then(|system| system.meta.labels.get(NETWORK))
                .unwrap_or(&settings.network),
        );
        let mut gateways: Vec<NetworkGateway> = self
            .objects
            .gateways
            .iter()
            .flat_map(|gateway| waypoints::network_gateways(gateway))
            .collect();
        gateways.sort_by(|a, b| (&a.network, &a.source, &a.host).cmp(&(&b.network, &b.source, &b.host)));
        // Several gateways may stand for one way; to clients it is one workload.
        let mut seen = BTreeSet::new();
        gateways.retain(|way| seen.insert(way.uid()));
        let held = &self.derived.common;
        if *held.settings == *settings && held.network == network && *held.gateways == gateways {
            return;
        }
        self.snapshot.network = Arc::clone(&network);
        self.derived.common = Common::new(settings, network, gateways);
        self.mark_all(dirty);
        // Which gateway a way comes from may change while the way stays: all of them count as one object's.
        let ways = self.derived.common.gateways.iter();
        let made = ways
            .map(|way| workloads::of_network_gateway(&self.derived.common, way))
            .collect();
        self.set_workloads(&ObjectKey::new(ObjectKind::Gateway, "", ""), made, delta);
    }

    fn derive_waypoints(&mut self, dirty: &mut Dirty, delta: &mut Delta) {
        for place in std::mem::take(&mut dirty.gateways) {
            let (namespace, name) = &place;
            let waypoint_key: Name = Arc::from(format!("{namespace}/{name}"));
            let made = self.objects.gateways.get(namespace, name).and_then(|gateway| {
                let class = self.objects.classes.get(&gateway.class).map(AsRef::as_ref);
                let instances = self.derived.instances.get(&waypoint_key);
                let pods = instances.filter_map(|(namespace, name)| self.snapshot.pods.get(namespace)?.get(name));
                let accounts = pods.map(|pod| Arc::clone(&pod.service_account)).collect();
                waypoints::waypoint(gateway, class, accounts, &self.snapshot.network)
            });
            let allow = made.as_ref().and_then(|one| allow_policy(one, &self.snapshot));
            let allow_key = allow_key(namespace, name);
            if self.snapshot.policies.contains_key(&allow_key) != allow.is_some() {
                self.mark_behind(&waypoint_key, dirty);
            }
            self.set_policy(&allow_key, allow, delta);
            if self.snapshot.waypoints.get(&waypoint_key).map(AsRef::as_ref) == made.as_ref() {
                continue;
            }
            for (role, user) in self.derived.waypoint_users.get(&waypoint_key) {
                match role {
                    Role::Service => dirty.sources.insert(user.clone()),
                    Role::Workloads => dirty.workloads.insert(user.clone()),
                };
            }
            dirty.targets = true;
            self.snapshot
                .waypoints
                .set(Arc::clone(&waypoint_key), made.map(Arc::new));
            delta.waypoints.insert(waypoint_key);
        }
    }

    /// Marks the workloads of the services behind a waypoint.
    fn mark_behind(&self, waypoint: &Name, dirty: &mut Dirty) {
        let users = self.derived.waypoint_users.get(waypoint);
        let sources = users
            .filter(|(role, _)| *role == Role::Service)
            .map(|(_, source)| source);
        let keys = sources.flat_map(|source| self.derived.services_of.get(source));
        for service in keys.filter_map(|key| self.snapshot.services.get(key)) {
            self.mark_members(service, dirty);
        }
    }

    /// What Services and ServiceEntries contribute. Returns the host names that are touched.
    fn derive_candidates(&mut self, dirty: &mut Dirty, delta: &mut Delta) -> BTreeSet<Name> {
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
    fn derive_services(&mut self, hostnames: &BTreeSet<Name>, dirty: &mut Dirty, delta: &mut Delta) {
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

    fn set_service(&mut self, key: &Name, new: Option<Arc<Service>>, dirty: &mut Dirty, delta: &mut Delta) {
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
    fn mark_members(&self, service: &Service, dirty: &mut Dirty) {
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

    fn derive_policies(&mut self, dirty: &mut Dirty, delta: &mut Delta) {
        let settings = Arc::clone(&self.snapshot.settings);
        let dirty_selected = &mut dirty.selected;
        for object in &dirty.policies {
            let policy = self.objects.policies.get(&object.namespace, &object.name).cloned();
            let converted = policy
                .as_ref()
                .map(|policy| Arc::new(authorization::convert(policy, &settings)));
            let targets = policy
                .as_ref()
                .is_some_and(|policy| policy.spec.target_ref.is_some() || !policy.spec.target_refs.is_empty());
            if targets {
                self.derived.targeting.insert(object.clone());
            } else {
                self.derived.targeting.remove(object);
            }
            let said = converted
                .as_ref()
                .map(|converted| converted.diagnostics.clone())
                .unwrap_or_default();
            self.set_diagnostics(object, said, delta);
            let made = converted.as_ref().and_then(|converted| converted.policy.clone());
            let key: Name = Arc::from(format!("{}/{}", object.namespace, object.name));
            let selection = policy
                .as_ref()
                .filter(|_| made.is_some())
                .and_then(|policy| policy.selector.clone());
            self.set_selection(&object.namespace, &key, selection, dirty_selected);
            self.set_policy(&key, made, delta);
            match converted {
                Some(converted) => drop(self.derived.converted.insert(object.clone(), converted)),
                None => drop(self.derived.converted.remove(object)),
            }
        }
    }

    /// The workloads that a policy selects, and the marks on those that it selects no longer, or now.
    fn set_selection(
        &mut self,
        namespace: &Name,
        key: &Name,
        new: Option<Labels>,
        selected: &mut Vec<(Option<Name>, Labels)>,
    ) {
        let old = self.derived.selections.get(key).cloned();
        if old == new {
            return;
        }
        // The policies of the root namespace select in all namespaces.
        let root = *namespace == self.snapshot.settings.root_namespace;
        for (labels, is_new) in [(old, false), (new, true)] {
            let Some(labels) = labels else { continue };
            selected.push(((!root).then(|| Arc::clone(namespace)), labels.clone()));
            if is_new {
                self.derived.policy_selectors.insert(namespace, &labels, key);
                self.derived.selections.insert(Arc::clone(key), labels);
            } else {
                self.derived.policy_selectors.remove(namespace, &labels, key);
                self.derived.selections.remove(key);
            }
        }
    }

    fn derive_peers(&mut self, dirty: &mut Dirty, delta: &mut Delta) {
        if dirty.peers.is_empty() {
            return;
        }
        let root = Arc::clone(&self.snapshot.settings.root_namespace);
        let mut namespaces: BTreeSet<Name> = dirty.peers.iter().map(|peer| Arc::clone(&peer.namespace)).collect();
        for namespace in namespaces.clone() {
            let level = peer::level(self.objects.peers.of(&namespace));
            let old = match level {
                MutualTLSMode::Unset => self.derived.levels.remove(&namespace),
                level => self.derived.levels.insert(Arc::clone(&namespace), level),
            };
            if old.unwrap_or_default() == level {
                continue;
            }
            if namespace == root {
                // What is unset anywhere may be set by this.
                namespaces.extend(self.objects.peers.iter().map(|peer| Arc::clone(&peer.meta.namespace)));
                dirty.selected.push((None, Labels::default()));
            } else {
                dirty.selected.push((Some(namespace), Labels::default()));
            }
        }
        for namespace in &namespaces {
            self.derive_port_policies(namespace, &root, delta);
        }
        let strict = (!self.objects.peers.is_empty()).then(|| peer::strict(&root));
        let key = strict.as_ref().map(|policy| Arc::clone(&policy.key));
        // The root namespace may be another one than before.
        let old = std::mem::replace(&mut self.derived.strict, key.clone()).filter(|old| Some(old) != key.as_ref());
        for (key, policy) in old
            .map(|old| (old, None))
            .into_iter()
            .chain(key.map(|key| (key, strict)))
        {
            self.set_policy(&key, policy, delta);
        }
    }

    /// The policies for ports that the PeerAuthentications of a namespace ask for.
    fn derive_port_policies(&mut self, namespace: &Name, root: &Name, delta: &mut Delta) {
        let wider = self.wider(namespace);
        let peers = self.objects.peers.of(namespace);
        let mut made: BTreeMap<Name, Policy> = peers
            .filter_map(|policy| peer::ports(policy, root, wider))
            .map(|policy| (Arc::clone(&policy.key), policy))
            .collect();
        let keys: BTreeSet<Name> = made.keys().cloned().collect();
        let old = if keys.is_empty() {
            self.derived.port_policies.remove(namespace)
        } else {
            self.derived.port_policies.insert(Arc::clone(namespace), keys.clone())
        };
        for key in old.unwrap_or_default().union(&keys) {
            self.set_policy(key, made.remove(key), delta);
        }
    }

    /// What PeerAuthentications demand of the workloads of a namespace that none selects.
    fn wider(&self, namespace: &Name) -> peer::Wider {
        let root = &self.snapshot.settings.root_namespace;
        let level = |namespace: &Name| self.derived.levels.get(namespace).copied().unwrap_or_default();
        peer::Wider {
            mesh: level(root),
            namespace: if namespace == root {
                MutualTLSMode::Unset
            } else {
                level(namespace)
            },
        }
    }

    fn derive_workloads(&mut self, object: &ObjectKey, delta: &mut Delta) {
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
                    let services = self.services_of_pod(pod);
                    made.extend(workloads::of_pod(
                        common,
                        pod,
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
    fn selecting(&self, namespace: &Name, labels: &Labels) -> Vec<Arc<Service>> {
        let candidates = self.derived.service_selectors.candidates(namespace, labels);
        let services = candidates.filter_map(|key| self.snapshot.services.get(key));
        services
            .filter(|service| service.selector.is_subset_of(labels))
            .cloned()
            .collect()
    }

    fn services_of_pod(&self, pod: &Pod) -> Vec<Arc<Service>> {
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

    fn kubernetes_service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        let hostname = services::hostname(name, namespace, &self.snapshot.settings.domain);
        let service = self.snapshot.services.get(format!("{namespace}/{hostname}").as_str());
        service.filter(|service| service.source.kind == ObjectKind::Service)
    }

    /// Replaces the workloads of an object.
    fn set_workloads(&mut self, object: &ObjectKey, made: Vec<Workload>, delta: &mut Delta) {
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

    fn set_workload(&mut self, uid: &Name, new: Option<Workload>, delta: &mut Delta) {
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

    fn set_policy(&mut self, key: &Name, new: Option<Policy>, delta: &mut Delta) {
        if self.snapshot.policies.get(key).map(AsRef::as_ref) != new.as_ref() {
            self.snapshot.policies.set(Arc::clone(key), new.map(Arc::new));
            delta.policies.insert(Arc::clone(key));
        }
    }

    fn set_status(&mut self, object: &ObjectKey, new: Option<Status>, delta: &mut Delta) {
        if self.snapshot.statuses.get(object).map(AsRef::as_ref) != new.as_ref() {
            self.snapshot.statuses.set(object.clone(), new.map(Arc::new));
            delta.statuses.insert(object.clone());
        }
    }

    fn set_diagnostics(&mut self, object: &ObjectKey, new: Vec<Diagnostic>, delta: &mut Delta) {
        let old = self.snapshot.diagnostics.get(object);
        if old.map_or(&[][..], |old| old) != new.as_slice() {
            let new = (!new.is_empty()).then(|| Arc::from(new));
            self.snapshot.diagnostics.set(object.clone(), new);
            delta.diagnostics.insert(object.clone());
        }
    }

    /// Conditions of policies: of those that changed, and of those attached to objects, when such objects changed.
    fn derive_policy_statuses(&mut self, dirty: &Dirty, delta: &mut Delta) {
        let mut objects = dirty.policies.clone();
        if dirty.targets {
            objects.extend(self.derived.targeting.iter().cloned());
        }
        for object in objects {
            let policy = self.objects.policies.get(&object.namespace, &object.name);
            let converted = self.derived.converted.get(&object);
            let status = policy.zip(converted).and_then(|(policy, converted)| {
                statuses::of_policy(
                    policy,
                    converted,
                    &self.targets(&|key| {
                        self.derived
                            .candidates
                            .get(key)
                            .map(|candidate| candidate.waypoint.clone())
                    }),
                )
            });
            self.set_status(&object, status, delta);
        }
    }

    fn targets<'a>(&'a self, waypoint_of: &'a dyn Fn(&ObjectKey) -> Option<Option<Name>>) -> statuses::Targets<'a> {
        statuses::Targets {
            root_namespace: &self.snapshot.settings.root_namespace,
            classes: &self.objects.classes,
            waypoints: &self.snapshot.waypoints,
            waypoint_of,
        }
    }

    /// What is known of each target of a policy, one by one; the status has room only for a summary.
    pub fn target_conditions(&self, namespace: &str, name: &str) -> Vec<Condition> {
        let policy = self.objects.policies.get(namespace, name);
        let waypoint_of = |key: &ObjectKey| {
            self.derived
                .candidates
                .get(key)
                .map(|candidate| candidate.waypoint.clone())
        };
        policy
            .map(|policy| statuses::of_targets(policy, &self.targets(&waypoint_of)))
            .unwrap_or_default()
    }
}

impl Derived {
    /// Notes whose derivation looked for which waypoints.
    fn note_consulted(&mut self, user: (Role, ObjectKey), new: Vec<Name>) {
        let old = if new.is_empty() {
            self.consulted.remove(&user)
        } else {
            self.consulted.insert(user.clone(), new.clone())
        };
        let old = old.unwrap_or_default();
        for gone in old.iter().filter(|waypoint| !new.contains(waypoint)) {
            self.waypoint_users.remove(gone, &user);
        }
        for waypoint in new.into_iter().filter(|waypoint| !old.contains(waypoint)) {
            self.waypoint_users.insert(waypoint, user.clone());
        }
    }
}

/// The policies that apply to the workloads of a namespace.
struct Applying<'a> {
    mesh: &'a Mesh,
    namespace: &'a Name,
}

impl Policies for Applying<'_> {
    fn of(&self, labels: &Labels) -> Vec<Name> {
        let (derived, settings) = (&self.mesh.derived, &self.mesh.snapshot.settings);
        let root = &settings.root_namespace;
        let of_root = (self.namespace != root).then(|| derived.policy_selectors.candidates(root, labels));
        let candidates = derived.policy_selectors.candidates(self.namespace, labels);
        let selecting = candidates.chain(of_root.into_iter().flatten()).filter(|key| {
            derived
                .selections
                .get(*key)
                .is_some_and(|selector| selector.is_subset_of(labels))
        });
        let mut keys: Vec<Name> = selecting.cloned().collect();
        keys.sort();
        let peers = self.mesh.objects.peers.of(self.namespace);
        keys.extend(peer::keys(peers, labels, root, self.mesh.wider(self.namespace)));
        keys
    }

    fn of_waypoint(&self, waypoint: &str) -> Option<Name> {
        let (namespace, name) = waypoint.split_once('/')?;
        let key = allow_key(namespace, name);
        self.mesh.snapshot.policies.contains_key(&key).then_some(key)
    }
}

fn allow_key(namespace: &str, name: &str) -> Name {
    Arc::from(format!("{namespace}/istio_allow_waypoint_{namespace}_{name}"))
}

/// The policy that lets a waypoint reach what is behind it, where the settings ask for one.
fn allow_policy(waypoint: &Waypoint, snapshot: &Snapshot) -> Option<Policy> {
    let settings = &snapshot.settings;
    if !settings.allow_waypoints || waypoint.service_accounts.is_empty() {
        return None;
    }
    let (namespace, name) = (&waypoint.source.namespace, &waypoint.source.name);
    let principal = |account: &Name| Pattern::Exact(format!("{}/ns/{namespace}/sa/{account}", settings.trust_domain));
    let principals = waypoint.service_accounts.iter().map(principal).collect();
    Some(Policy {
        key: allow_key(namespace, name),
        namespace: Arc::clone(namespace),
        name: Arc::from(format!("istio_allow_waypoint_{namespace}_{name}")),
        scope: PolicyScope::Selector,
        action: Action::Allow,
        rules: vec![Rule {
            clauses: vec![Clause {
                matches: vec![Match {
                    principals,
                    ..Match::default()
                }],
            }],
        }],
        dry_run: false,
    })
}

/// Files a key under an address, or takes it out.
fn index_address(snapshot: &mut Snapshot, place: (Name, IpAddr), key: AddressKey, present: bool) {
    let held = snapshot.addresses.get(&place);
    let mut keys: Vec<AddressKey> = held.map(|held| held.to_vec()).unwrap_or_default();
    match (keys.binary_search(&key), present) {
        (Err(at), true) => keys.insert(at, key),
        (Ok(at), false) => drop(keys.remove(at)),
        _ => return,
    }
    snapshot
        .addresses
        .set(place, (!keys.is_empty()).then(|| Arc::from(keys)));
}
