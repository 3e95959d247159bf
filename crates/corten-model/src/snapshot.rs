//! The result: everything the mesh derived from its objects, at one moment.

use std::{fmt, net::IpAddr, sync::Arc};

use corten_api::diagnostic::Diagnostic;

use crate::{
    input::{ObjectKey, Pod},
    map::Map,
    policy::Policy,
    service::Service,
    settings::Settings,
    status::Status,
    text::Name,
    waypoint::Waypoint,
    workload::Workload,
};

/// Everything derived, at one moment; a clone costs a few pointers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    pub(crate) settings: Arc<Settings>,
    pub(crate) network: Name,
    pub(crate) workloads: Map<Name, Arc<Workload>>,
    pub(crate) services: Map<Name, Arc<Service>>,
    pub(crate) policies: Map<Name, Arc<Policy>>,
    pub(crate) waypoints: Map<Name, Arc<Waypoint>>,
    pub(crate) statuses: Map<ObjectKey, Arc<Status>>,
    pub(crate) diagnostics: Map<ObjectKey, Arc<[Diagnostic]>>,
    /// Workloads and services by address, for those who ask by address: sorted keys.
    pub(crate) addresses: Map<(Name, IpAddr), Arc<[AddressKey]>>,
    /// Workloads by service.
    pub(crate) members: Map<Name, Map<Name, ()>>,
    /// By namespace and name.
    pub(crate) pods: Map<Name, Map<Name, Arc<Pod>>>,
    pub(crate) pods_by_node: Map<Name, Map<(Name, Name), ()>>,
}

/// The key of what is found by address: a workload or a service.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressKey {
    /// A workload, by uid.
    Workload(Name),
    /// A service, by `namespace/hostname`.
    Service(Name),
}

impl AddressKey {
    /// The name that clients know it by.
    pub fn name(&self) -> &Name {
        match self {
            AddressKey::Workload(name) | AddressKey::Service(name) => name,
        }
    }
}

impl fmt::Display for AddressKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Snapshot {
    /// The settings it was made with.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The network of this cluster.
    pub fn network(&self) -> &Name {
        &self.network
    }

    /// A workload by uid.
    pub fn workload(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    /// All workloads.
    pub fn workloads(&self) -> impl Iterator<Item = &Arc<Workload>> {
        self.workloads.values()
    }

    /// A service by `namespace/hostname`.
    pub fn service(&self, key: &str) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// All services.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// How many services there are.
    pub fn services_len(&self) -> usize {
        self.services.len()
    }

    /// A policy by `namespace/name`.
    pub fn policy(&self, key: &str) -> Option<&Arc<Policy>> {
        self.policies.get(key)
    }

    /// All policies.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Policy>> {
        self.policies.values()
    }

    /// A waypoint by `namespace/name`.
    pub fn waypoint(&self, key: &str) -> Option<&Arc<Waypoint>> {
        self.waypoints.get(key)
    }

    /// All waypoints.
    pub fn waypoints(&self) -> impl Iterator<Item = &Arc<Waypoint>> {
        self.waypoints.values()
    }

    /// What is to be written to an object's status; `None`: nothing of ours may be there.
    pub fn status(&self, key: &ObjectKey) -> Option<&Arc<Status>> {
        self.statuses.get(key)
    }

    /// All objects with a status of ours.
    pub fn statuses(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<Status>)> {
        self.statuses.iter()
    }

    /// What the derivation had to say about an object.
    pub fn diagnostics_of(&self, key: &ObjectKey) -> &[Diagnostic] {
        self.diagnostics.get(key).map_or(&[], |found| found)
    }

    /// What the derivation had to say about all objects.
    pub fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.values().flat_map(|found| found.iter())
    }

    /// The keys of all workloads and services.
    pub fn address_keys(&self) -> impl Iterator<Item = AddressKey> {
        let workloads = self.workloads.keys().cloned().map(AddressKey::Workload);
        workloads.chain(self.services.keys().cloned().map(AddressKey::Service))
    }

    /// What is found under a name that a client asked for: a workload's uid, a service's `namespace/hostname`, or
    /// `network/address`. A service brings its workloads along, which a client needs to reach it.
    pub fn resolve(&self, name: &str) -> Vec<AddressKey> {
        if let Some((uid, _)) = self.workloads.get(name).map(|workload| (&workload.uid, ())) {
            return vec![AddressKey::Workload(Arc::clone(uid))];
        }
        if let Some(service) = self.services.get(name) {
            return self.service_with_members(&service.key).collect();
        }
        let by_address = name.split_once('/').and_then(|(network, address)| {
            let address: IpAddr = address.parse().ok()?;
            self.addresses.get(&(Arc::from(network), address))
        });
        let mut found = Vec::new();
        for key in by_address.into_iter().flat_map(|keys| keys.iter()) {
            match key {
                AddressKey::Workload(_) => found.push(key.clone()),
                AddressKey::Service(service) => found.extend(self.service_with_members(service)),
            }
        }
        found
    }

    fn service_with_members<'a>(&'a self, service: &'a Name) -> impl Iterator<Item = AddressKey> + 'a {
        let members = self.members.get(service).into_iter().flat_map(Map::keys).cloned();
        std::iter::once(AddressKey::Service(Arc::clone(service))).chain(members.map(AddressKey::Workload))
    }

    /// The uids of the workloads of a service.
    pub fn members(&self, service: &str) -> impl Iterator<Item = &Name> {
        self.members.get(service).into_iter().flat_map(Map::keys)
    }

    /// A pod.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<&Arc<Pod>> {
        self.pods.get(namespace)?.get(name)
    }

    /// The pods of a node.
    pub fn pods_on<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Arc<Pod>> + 'a {
        let keys = self.pods_by_node.get(node).into_iter().flat_map(Map::keys);
        keys.filter_map(|(namespace, name)| self.pods.get(namespace)?.get(name))
    }

    /// Whether a pod with this service account runs on a node: what a node's proxy must show to get its certificate.
    pub fn runs_on(&self, node: &str, namespace: &str, service_account: &str) -> bool {
        self.pods_on(node).any(|pod| {
            !pod.terminal && pod.meta.namespace.as_ref() == namespace && pod.service_account.as_ref() == service_account
        })
    }
}
