//! The objects the mesh is made from, as light views: what is not looked at is not kept.

mod change;
mod kubernetes;
mod read;
#[cfg(test)]
mod tests;
mod value;

use std::sync::Arc;

use corten_api::{
    diagnostic::ObjectRef,
    istio::{
        authorization_policy::AuthorizationPolicySpec, peer_authentication::PeerAuthenticationSpec,
        service_entry::ServiceEntrySpec, workload_entry::WorkloadEntrySpec,
    },
};

pub(crate) use self::read::{is_true, tunnel};
pub use self::{
    change::Change,
    kubernetes::{
        Endpoint, EndpointSlice, Gateway, GatewayClass, Listener, Namespace, Node, Pod, Service, ServicePort,
        SlicePort, StatusAddress, TargetPort, TrafficDistribution,
    },
    read::{Read, Reader},
};
use crate::text::{Labels, Name};

/// The kinds the model looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// `v1` Namespace.
    Namespace,
    /// `v1` Node.
    Node,
    /// `v1` Pod.
    Pod,
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io` EndpointSlice.
    EndpointSlice,
    /// `networking.istio.io` ServiceEntry.
    ServiceEntry,
    /// `networking.istio.io` WorkloadEntry.
    WorkloadEntry,
    /// `gateway.networking.k8s.io` Gateway.
    Gateway,
    /// `gateway.networking.k8s.io` GatewayClass.
    GatewayClass,
    /// `security.istio.io` PeerAuthentication.
    PeerAuthentication,
    /// `security.istio.io` AuthorizationPolicy.
    AuthorizationPolicy,
}

impl ObjectKind {
    /// All kinds, each after those it refers to most.
    pub const ALL: [ObjectKind; 11] = [
        ObjectKind::Namespace,
        ObjectKind::Node,
        ObjectKind::GatewayClass,
        ObjectKind::Gateway,
        ObjectKind::Service,
        ObjectKind::ServiceEntry,
        ObjectKind::EndpointSlice,
        ObjectKind::WorkloadEntry,
        ObjectKind::PeerAuthentication,
        ObjectKind::AuthorizationPolicy,
        ObjectKind::Pod,
    ];

    /// The API group; empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            ObjectKind::Namespace | ObjectKind::Node | ObjectKind::Pod | ObjectKind::Service => "",
            ObjectKind::EndpointSlice => "discovery.k8s.io",
            ObjectKind::ServiceEntry | ObjectKind::WorkloadEntry => "networking.istio.io",
            ObjectKind::Gateway | ObjectKind::GatewayClass => "gateway.networking.k8s.io",
            ObjectKind::PeerAuthentication | ObjectKind::AuthorizationPolicy => "security.istio.io",
        }
    }

    /// The version that is watched and whose status is written.
    pub fn version(self) -> &'static str {
        "v1"
    }

    /// The kind.
    pub fn kind(self) -> &'static str {
        match self {
            ObjectKind::Namespace => "Namespace",
            ObjectKind::Node => "Node",
            ObjectKind::Pod => "Pod",
            ObjectKind::Service => "Service",
            ObjectKind::EndpointSlice => "EndpointSlice",
            ObjectKind::ServiceEntry => "ServiceEntry",
            ObjectKind::WorkloadEntry => "WorkloadEntry",
            ObjectKind::Gateway => "Gateway",
            ObjectKind::GatewayClass => "GatewayClass",
            ObjectKind::PeerAuthentication => "PeerAuthentication",
            ObjectKind::AuthorizationPolicy => "AuthorizationPolicy",
        }
    }

    /// The name in URLs.
    pub fn plural(self) -> &'static str {
        match self {
            ObjectKind::Namespace => "namespaces",
            ObjectKind::Node => "nodes",
            ObjectKind::Pod => "pods",
            ObjectKind::Service => "services",
            ObjectKind::EndpointSlice => "endpointslices",
            ObjectKind::ServiceEntry => "serviceentries",
            ObjectKind::WorkloadEntry => "workloadentries",
            ObjectKind::Gateway => "gateways",
            ObjectKind::GatewayClass => "gatewayclasses",
            ObjectKind::PeerAuthentication => "peerauthentications",
            ObjectKind::AuthorizationPolicy => "authorizationpolicies",
        }
    }

    /// The kind of a group and kind, in any version.
    pub fn of(group: &str, kind: &str) -> Option<ObjectKind> {
        ObjectKind::ALL
            .into_iter()
            .find(|k| k.kind() == kind && k.group() == group)
    }
}

/// Which object: kind, namespace (empty for objects of the whole cluster) and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// The kind.
    pub kind: ObjectKind,
    /// The namespace.
    pub namespace: Name,
    /// The name.
    pub name: Name,
}

impl ObjectKey {
    /// From its parts.
    pub fn new(kind: ObjectKind, namespace: &str, name: &str) -> ObjectKey {
        ObjectKey {
            kind,
            namespace: Arc::from(namespace),
            name: Arc::from(name),
        }
    }

    /// As diagnostics name objects.
    pub fn reference(&self) -> ObjectRef {
        let version = self.kind.version();
        ObjectRef {
            api_version: match self.kind.group() {
                "" => version.to_owned(),
                group => format!("{group}/{version}"),
            },
            kind: self.kind.kind().to_owned(),
            namespace: self.namespace.to_string(),
            name: self.name.to_string(),
        }
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.reference().fmt(f)
    }
}

/// What every object has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Meta {
    /// The namespace.
    pub namespace: Name,
    /// The name.
    pub name: Name,
    /// The labels.
    pub labels: Labels,
    /// When it was created, in seconds since 1970; the largest number when it does not say.
    pub created: i64,
    /// Counts changes of what is wanted.
    pub generation: i64,
}

/// An object.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// A namespace.
    Namespace(Arc<Namespace>),
    /// A node.
    Node(Arc<Node>),
    /// A pod.
    Pod(Arc<Pod>),
    /// A service.
    Service(Arc<Service>),
    /// A part of a service's endpoints.
    EndpointSlice(Arc<EndpointSlice>),
    /// A service that Kubernetes does not know.
    ServiceEntry(Arc<ServiceEntry>),
    /// A workload that is not a pod.
    WorkloadEntry(Arc<WorkloadEntry>),
    /// A gateway; waypoints are gateways.
    Gateway(Arc<Gateway>),
    /// A class of gateways.
    GatewayClass(Arc<GatewayClass>),
    /// Whether mutual TLS is demanded.
    PeerAuthentication(Arc<PeerAuthentication>),
    /// Who may call whom.
    AuthorizationPolicy(Arc<AuthorizationPolicy>),
}

impl Object {
    /// Which object it is.
    pub fn key(&self) -> ObjectKey {
        let meta = self.meta();
        ObjectKey {
            kind: self.kind(),
            namespace: Arc::clone(&meta.namespace),
            name: Arc::clone(&meta.name),
        }
    }

    /// Its kind.
    pub fn kind(&self) -> ObjectKind {
        match self {
            Object::Namespace(_) => ObjectKind::Namespace,
            Object::Node(_) => ObjectKind::Node,
            Object::Pod(_) => ObjectKind::Pod,
            Object::Service(_) => ObjectKind::Service,
            Object::EndpointSlice(_) => ObjectKind::EndpointSlice,
            Object::ServiceEntry(_) => ObjectKind::ServiceEntry,
            Object::WorkloadEntry(_) => ObjectKind::WorkloadEntry,
            Object::Gateway(_) => ObjectKind::Gateway,
            Object::GatewayClass(_) => ObjectKind::GatewayClass,
            Object::PeerAuthentication(_) => ObjectKind::PeerAuthentication,
            Object::AuthorizationPolicy(_) => ObjectKind::AuthorizationPolicy,
        }
    }

    /// What every object has.
    pub fn meta(&self) -> &Meta {
        match self {
            Object::Namespace(object) => &object.meta,
            Object::Node(object) => &object.meta,
            Object::Pod(object) => &object.meta,
            Object::Service(object) => &object.meta,
            Object::EndpointSlice(object) => &object.meta,
            Object::ServiceEntry(object) => &object.meta,
            Object::WorkloadEntry(object) => &object.meta,
            Object::Gateway(object) => &object.meta,
            Object::GatewayClass(object) => &object.meta,
            Object::PeerAuthentication(object) => &object.meta,
            Object::AuthorizationPolicy(object) => &object.meta,
        }
    }
}

/// A service that Kubernetes does not know.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceEntry {
    /// Name and labels.
    pub meta: Meta,
    /// What is wanted.
    pub spec: ServiceEntrySpec,
    /// Addresses that were given to its hosts: host, address.
    pub assigned: Vec<(Name, std::net::IpAddr)>,
    /// Whether addresses may be given to its hosts.
    pub may_assign: bool,
    /// What it says about near endpoints.
    pub traffic_distribution: Option<TrafficDistribution>,
    /// The share of the canary waypoint, as written.
    pub canary_weight: Option<Name>,
    /// Clients race for the first connection, which only a waypoint can do.
    pub races_connections: bool,
    /// Annotated as speaking tunnels.
    pub redirected: bool,
}

/// A workload that is not a pod.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkloadEntry {
    /// Name and labels; those of the spec are among them.
    pub meta: Meta,
    /// What is wanted.
    pub spec: WorkloadEntrySpec,
    /// The name of the group that registered it.
    pub group: Option<Name>,
    /// Annotated as speaking tunnels.
    pub redirected: bool,
}

/// Whether mutual TLS is demanded.
#[derive(Debug, Clone, PartialEq)]
pub struct PeerAuthentication {
    /// Name and age.
    pub meta: Meta,
    /// What is wanted.
    pub spec: PeerAuthenticationSpec,
    /// The labels it selects workloads by; empty: all of its namespace.
    pub selector: Labels,
}

/// Who may call whom.
#[derive(Debug, Clone, PartialEq)]
pub struct AuthorizationPolicy {
    /// Name.
    pub meta: Meta,
    /// What is wanted.
    pub spec: AuthorizationPolicySpec,
    /// The labels it selects workloads by; `None`: all of its namespace, or of the mesh.
    pub selector: Option<Labels>,
    /// Only logged, not enforced.
    pub dry_run: bool,
}
