//! The mesh: its objects, and what is derived from them, kept up to date change by change.
//!
//! A batch of changes goes through the stages of derivation in their order. Each stage recomputes the keys that the
//! changes before it touched, and hands on only those whose value came out different.

mod dirty;
mod index;
mod policies;
mod services;
mod stages;
mod workloads;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use corten_api::istio::peer_authentication::MutualTLSMode;

use self::{
    dirty::Dirty,
    index::{Multi, Selectors, Table},
};
use crate::{
    derive::{authorization::Converted, services::Candidate, workloads::Common},
    input::{
        AuthorizationPolicy, Change, EndpointSlice, Gateway, GatewayClass, Namespace, Node, Object, ObjectKey,
        ObjectKind, PeerAuthentication, Service, ServiceEntry, WorkloadEntry,
    },
    settings::Settings,
    snapshot::{AddressKey, Snapshot},
    text::{Labels, Name},
};

/// What changed in a snapshot: the keys of what is different, or gone, since the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delta {
    /// Uids of workloads.
    pub workloads: BTreeSet<Name>,
    /// Services, `namespace/hostname`.
    pub services: BTreeSet<Name>,
    /// Policies, `namespace/name`.
    pub policies: BTreeSet<Name>,
    /// Waypoints, `namespace/name`.
    pub waypoints: BTreeSet<Name>,
    /// Objects whose conditions are different.
    pub statuses: BTreeSet<ObjectKey>,
    /// Objects about which something else is to be said.
    pub diagnostics: BTreeSet<ObjectKey>,
}

impl Delta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }

    /// The keys of what is found by address.
    pub fn addresses(&self) -> impl Iterator<Item = AddressKey> {
        let services = self.services.iter().cloned().map(AddressKey::Service);
        services.chain(self.workloads.iter().cloned().map(AddressKey::Workload))
    }
}

/// A mesh.
#[derive(Debug)]
pub struct Mesh {
    objects: Objects,
    derived: Derived,
    snapshot: Snapshot,
}

/// The objects; pods are in the snapshot, where they are asked for, too.
#[derive(Debug, Default)]
struct Objects {
    namespaces: HashMap<Name, Arc<Namespace>>,
    nodes: HashMap<Name, Arc<Node>>,
    classes: HashMap<Name, Arc<GatewayClass>>,
    gateways: Table<Gateway>,
    services: Table<Service>,
    service_entries: Table<ServiceEntry>,
    workload_entries: Table<WorkloadEntry>,
    slices: Table<EndpointSlice>,
    peers: Table<PeerAuthentication>,
    policies: Table<AuthorizationPolicy>,
}

impl Objects {
    /// Whether nothing has been heard of any node for long. Then it is rather that nobody could listen: the API server was away.
    /// Kubernetes makes the same of it, and moves no pods meanwhile.
    fn all_nodes_are_silent(&self) -> bool {
        !self.nodes.is_empty() && self.nodes.values().all(|node| node.silent)
    }

    /// Whether what a node last said of its pods holds, although Kubernetes has declared them not ready as it does when a node is lost:
    /// the node has been heard of again, and its pods' conditions follow, or all nodes are said to be lost at once.
    fn speaks_for_its_pods(&self, node: Option<&Arc<Node>>) -> bool {
        node.is_some_and(|node| !node.silent || self.all_nodes_are_silent())
    }
}

/// What is derived and not shown, and the ways to find what a change touches.
#[derive(Debug)]
struct Derived {
    common: Common,
    /// What each Service and ServiceEntry contributes.
    candidates: HashMap<ObjectKey, Arc<Candidate>>,
    /// Who contributes to a host name.
    hostnames: Multi<Name, ObjectKey>,
    /// The keys of the services of a host name.
    selected: HashMap<Name, BTreeSet<Name>>,
    /// The keys of the services that an object's contributions became.
    services_of: Multi<ObjectKey, Name>,
    /// Services by the labels of their workloads.
    service_selectors: Selectors,
    /// Policies by the labels of their workloads.
    policy_selectors: Selectors,
    /// The labels of the workloads of each policy that selects by labels.
    selections: HashMap<Name, Labels>,
    /// What became of each AuthorizationPolicy.
    converted: HashMap<ObjectKey, Arc<Converted>>,
    /// What each namespace's PeerAuthentications demand of all its workloads.
    levels: HashMap<Name, MutualTLSMode>,
    /// The key of the policy that refuses whoever has no identity, while there is one.
    strict: Option<Name>,
    /// The keys of the policies for ports that each namespace's PeerAuthentications ask for.
    port_policies: HashMap<Name, BTreeSet<Name>>,
    /// The workloads of an object, except for pods, which have one at most.
    workloads_of: HashMap<ObjectKey, Vec<Name>>,
    slices_of_service: Multi<(Name, Name), Name>,
    slices_of_pod: Multi<(Name, Name), (Name, Name)>,
    /// Gateways of a class.
    gateways_of_class: Multi<Name, (Name, Name)>,
    /// Pods that are instances of a waypoint, by its key.
    instances: Multi<Name, (Name, Name)>,
    /// Whose derivation looked for a waypoint, by its key.
    waypoint_users: Multi<Name, (Role, ObjectKey)>,
    /// The waypoints that an object's derivation looked for.
    consulted: HashMap<(Role, ObjectKey), Vec<Name>>,
    /// Policies that are attached to other objects.
    targeting: BTreeSet<ObjectKey>,
}

/// As what an object is derived: a ServiceEntry is both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Role {
    /// As one or more services.
    Service,
    /// As workloads.
    Workloads,
}

impl Mesh {
    /// A mesh without objects.
    pub fn new(settings: Settings) -> Mesh {
        let settings = Arc::new(settings);
        let network = Arc::clone(&settings.network);
        Mesh {
            objects: Objects::default(),
            derived: Derived {
                common: Common::new(Arc::clone(&settings), Arc::clone(&network), Vec::new()),
                candidates: HashMap::new(),
                hostnames: Multi::default(),
                selected: HashMap::new(),
                services_of: Multi::default(),
                service_selectors: Selectors::default(),
                policy_selectors: Selectors::default(),
                selections: HashMap::new(),
                converted: HashMap::new(),
                levels: HashMap::new(),
                strict: None,
                port_policies: HashMap::new(),
                workloads_of: HashMap::new(),
                slices_of_service: Multi::default(),
                slices_of_pod: Multi::default(),
                gateways_of_class: Multi::default(),
                instances: Multi::default(),
                waypoint_users: Multi::default(),
                consulted: HashMap::new(),
                targeting: BTreeSet::new(),
            },
            snapshot: Snapshot {
                settings,
                network,
                ..Snapshot::default()
            },
        }
    }

    /// What is derived now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }

    /// The ServiceEntries, for whoever gives addresses to them.
    pub fn service_entries(&self) -> impl Iterator<Item = &Arc<ServiceEntry>> {
        self.objects.service_entries.iter()
    }

    /// Applies changes, in their order, and says what became different. A batch costs less than its changes one by one.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Delta {
        let mut dirty = Dirty::default();
        let mut latest: BTreeMap<ObjectKey, Option<Object>> = BTreeMap::new();
        for change in changes {
            match change {
                Change::Put(object) => {
                    latest.insert(object.key(), Some(object));
                }
                Change::Remove(key) => {
                    latest.insert(key, None);
                }
                Change::Settings(settings) => {
                    if self.snapshot.settings != settings {
                        self.snapshot.settings = settings;
                        dirty.common = true;
                    }
                }
            }
        }
        for (key, object) in latest {
            self.put(&key, object, &mut dirty);
        }
        let mut delta = Delta::default();
        self.derive(dirty, &mut delta);
        delta
    }

    /// Stores an object or removes one, and marks what it touches.
    fn put(&mut self, key: &ObjectKey, object: Option<Object>, dirty: &mut Dirty) {
        match key.kind {
            ObjectKind::Pod => self.put_pod(key, as_pod(object), dirty),
            ObjectKind::Namespace => self.put_namespace(key, as_namespace(object), dirty),
            ObjectKind::Node => self.put_node(key, as_node(object), dirty),
            ObjectKind::GatewayClass => self.put_class(key, as_class(object), dirty),
            ObjectKind::Gateway => self.put_gateway(key, as_gateway(object), dirty),
            ObjectKind::Service => {
                let object = as_service(object);
                if changed(
                    self.objects.services.set(&key.namespace, &key.name, object.clone()),
                    object,
                ) {
                    dirty.sources.insert(key.clone());
                }
            }
            ObjectKind::ServiceEntry => {
                let object = as_service_entry(object);
                if changed(
                    self.objects
                        .service_entries
                        .set(&key.namespace, &key.name, object.clone()),
                    object,
                ) {
                    dirty.sources.insert(key.clone());
                    dirty.workloads.insert(key.clone());
                }
            }
            ObjectKind::WorkloadEntry => {
                let object = as_workload_entry(object);
                if changed(
                    self.objects
                        .workload_entries
                        .set(&key.namespace, &key.name, object.clone()),
                    object,
                ) {
                    dirty.workloads.insert(key.clone());
                }
            }
            ObjectKind::EndpointSlice => self.put_slice(key, as_slice(object), dirty),
            ObjectKind::PeerAuthentication => self.put_peer(key, as_peer(object), dirty),
            ObjectKind::AuthorizationPolicy => {
                let object = as_policy(object);
                if changed(
                    self.objects.policies.set(&key.namespace, &key.name, object.clone()),
                    object,
                ) {
                    dirty.policies.insert(key.clone());
                }
            }
        }
    }

    fn put_slice(&mut self, key: &ObjectKey, object: Option<Arc<EndpointSlice>>, dirty: &mut Dirty) {
        let old = self.objects.slices.set(&key.namespace, &key.name, object.clone());
        if old == object {
            return;
        }
        dirty.workloads.insert(key.clone());
        let place = (Arc::clone(&key.namespace), Arc::clone(&key.name));
        for (slice, is_new) in [(old, false), (object, true)] {
            let Some(slice) = slice else { continue };
            let service = (Arc::clone(&key.namespace), Arc::clone(&slice.service));
            if is_new {
                self.derived.slices_of_service.insert(service, Arc::clone(&key.name));
            } else {
                self.derived.slices_of_service.remove(&service, &key.name);
            }
            for (namespace, name, _) in &slice.pods {
                let pod = (Arc::clone(namespace), Arc::clone(name));
                dirty.workloads.insert(pod_key(&pod));
                if is_new {
                    self.derived.slices_of_pod.insert(pod, place.clone());
                } else {
                    self.derived.slices_of_pod.remove(&pod, &place);
                }
            }
        }
    }

    fn put_peer(&mut self, key: &ObjectKey, object: Option<Arc<PeerAuthentication>>, dirty: &mut Dirty) {
        let old = self.objects.peers.set(&key.namespace, &key.name, object.clone());
        if old != object {
            dirty.peers.insert(key.clone());
            let selectors = [&old, &object]
                .into_iter()
                .flatten()
                .map(|policy| policy.selector.clone());
            dirty.selected.extend(
                selectors
                    .filter(|s| !s.is_empty())
                    .map(|s| (Some(Arc::clone(&key.namespace)), s)),
            );
        }
    }
}

fn changed<T: PartialEq>(old: Option<Arc<T>>, new: Option<Arc<T>>) -> bool {
    old != new
}

fn pod_key((namespace, name): &(Name, Name)) -> ObjectKey {
    ObjectKey {
        kind: ObjectKind::Pod,
        namespace: Arc::clone(namespace),
        name: Arc::clone(name),
    }
}

/// The way from any object to one of a kind; the key has the same kind, or there is no object.
macro_rules! of_kind {
    ($($function:ident: $variant:ident($view:ty);)*) => {$(
        fn $function(object: Option<Object>) -> Option<Arc<$view>> {
            match object {
                Some(Object::$variant(view)) => Some(view),
                _ => None,
            }
        }
    )*};
}

of_kind! {
    as_pod: Pod(crate::input::Pod);
    as_namespace: Namespace(Namespace);
    as_node: Node(Node);
    as_class: GatewayClass(GatewayClass);
    as_gateway: Gateway(Gateway);
    as_service: Service(Service);
    as_service_entry: ServiceEntry(ServiceEntry);
    as_workload_entry: WorkloadEntry(WorkloadEntry);
    as_slice: EndpointSlice(EndpointSlice);
    as_peer: PeerAuthentication(PeerAuthentication);
    as_policy: AuthorizationPolicy(AuthorizationPolicy);
}
