//! References between objects: what kind is meant, and which references across namespaces were consented to.

use std::collections::{BTreeMap, BTreeSet};

use corten_api::gateway_api::{
    ReferenceGrant,
    shared::{ObjectReference, ParentReference, SecretObjectReference},
};

/// A kind as references name it: by group and kind, without a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind<'a> {
    /// The API group; empty for Kubernetes' core.
    pub group: &'a str,
    /// The kind.
    pub kind: &'a str,
}

/// The group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

const fn kind(group: &'static str, kind: &'static str) -> Kind<'static> {
    Kind { group, kind }
}

impl<'a> Kind<'a> {
    /// The Gateway API's Gateway.
    pub const GATEWAY: Kind<'static> = kind(GATEWAY_GROUP, "Gateway");
    /// ListenerSet.
    pub const LISTENER_SET: Kind<'static> = kind(GATEWAY_GROUP, "ListenerSet");
    /// HTTPRoute.
    pub const HTTP_ROUTE: Kind<'static> = kind(GATEWAY_GROUP, "HTTPRoute");
    /// GRPCRoute.
    pub const GRPC_ROUTE: Kind<'static> = kind(GATEWAY_GROUP, "GRPCRoute");
    /// TCPRoute.
    pub const TCP_ROUTE: Kind<'static> = kind(GATEWAY_GROUP, "TCPRoute");
    /// TLSRoute.
    pub const TLS_ROUTE: Kind<'static> = kind(GATEWAY_GROUP, "TLSRoute");
    /// UDPRoute.
    pub const UDP_ROUTE: Kind<'static> = kind(GATEWAY_GROUP, "UDPRoute");
    /// Kubernetes' Service.
    pub const SERVICE: Kind<'static> = kind("", "Service");
    /// Kubernetes' Secret.
    pub const SECRET: Kind<'static> = kind("", "Secret");
    /// Kubernetes' ConfigMap.
    pub const CONFIG_MAP: Kind<'static> = kind("", "ConfigMap");
    /// Istio's ServiceEntry.
    pub const SERVICE_ENTRY: Kind<'static> = kind("networking.istio.io", "ServiceEntry");
    /// A host name in place of an object.
    pub const HOSTNAME: Kind<'static> = kind("networking.istio.io", "Hostname");
    /// A service imported from other clusters.
    pub const SERVICE_IMPORT: Kind<'static> = kind("multicluster.x-k8s.io", "ServiceImport");
    /// InferencePool.
    pub const INFERENCE_POOL: Kind<'static> = kind("inference.networking.k8s.io", "InferencePool");
    /// XBackend.
    pub const X_BACKEND: Kind<'static> = kind("gateway.networking.x-k8s.io", "XBackend");
    /// No kind at all, where a reference must name one.
    pub const NONE: Kind<'static> = kind("", "");

    /// The kind that a reference names, or a default part by part.
    pub fn of(group: Option<&'a str>, kind: Option<&'a str>, default: Kind<'a>) -> Kind<'a> {
        Kind {
            group: group.unwrap_or(default.group),
            kind: kind.unwrap_or(default.kind),
        }
    }
}

/// A name in a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// A key.
    pub fn new(namespace: &str, name: &str) -> Key {
        Key {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What a route attaches to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ParentKey {
    /// Its kind.
    pub kind: Kind<'static>,
    /// Its name.
    pub key: Key,
}

impl ParentKey {
    /// The parent that a reference names; `None`: of a kind that is none of ours.
    pub(crate) fn of(reference: &ParentReference, namespace: &str) -> Option<ParentKey> {
        let named = Kind::of(reference.group.as_deref(), reference.kind.as_deref(), Kind::GATEWAY);
        let known = [Kind::GATEWAY, Kind::SERVICE, Kind::SERVICE_ENTRY, Kind::LISTENER_SET];
        let kind = known.into_iter().find(|kind| *kind == named)?;
        let namespace = reference.namespace.as_deref().unwrap_or(namespace);
        Some(ParentKey {
            kind,
            key: Key::new(namespace, &reference.name),
        })
    }
}

/// What identifies a reference to a parent among those of a route, and orders them.
pub(crate) fn parent_text(reference: &ParentReference, namespace: &str) -> String {
    format!(
        "{}/{}/{}/{}/{}.{}",
        reference.group.as_deref().unwrap_or(Kind::GATEWAY.group),
        reference.kind.as_deref().unwrap_or(Kind::GATEWAY.kind),
        reference.name,
        reference.section_name.as_deref().unwrap_or_default(),
        reference.port.unwrap_or_default(),
        reference.namespace.as_deref().unwrap_or(namespace),
    )
}

/// A reference to an object as messages show it.
pub(crate) fn object_text(reference: &ObjectReference) -> String {
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    format!("{}/{}/{}.{namespace}", reference.group, reference.kind, reference.name)
}

/// A reference to a secret as messages show it.
pub(crate) fn secret_text(reference: &SecretObjectReference) -> String {
    format!(
        "{}/{}/{}.{}",
        reference.group.as_deref().unwrap_or_default(),
        reference.kind.as_deref().unwrap_or_default(),
        reference.name,
        reference.namespace.as_deref().unwrap_or_default(),
    )
}

/// Who may refer to what across namespaces.
#[derive(Debug, Default)]
pub struct Grants<'a>(BTreeMap<Crossing<'a>, Granted<'a>>);

/// From where to where a reference goes.
type Crossing<'a> = (Kind<'a>, &'a str, Kind<'a>, &'a str);

#[derive(Debug, Default)]
struct Granted<'a> {
    all: bool,
    names: BTreeSet<&'a str>,
}

impl<'a> Grants<'a> {
    /// Collects the grants; those between kinds that nothing here refers with are left out.
    pub fn new(grants: impl IntoIterator<Item = &'a ReferenceGrant>) -> Grants<'a> {
        let mut collected = Grants::default();
        for grant in grants {
            for from in &grant.spec.from {
                let from_kind = Kind {
                    group: &from.group,
                    kind: &from.kind,
                };
                if !REFERRING.contains(&from_kind) {
                    continue;
                }
                for to in &grant.spec.to {
                    let to_kind = Kind {
                        group: &to.group,
                        kind: &to.kind,
                    };
                    if !REFERRED.contains(&to_kind) {
                        continue;
                    }
                    let crossing = (
                        from_kind,
                        from.namespace.as_str(),
                        to_kind,
                        grant.metadata.namespace.as_str(),
                    );
                    let granted = collected.0.entry(crossing).or_default();
                    match &to.name {
                        Some(name) => {
                            granted.names.insert(name);
                        }
                        None => granted.all = true,
                    }
                }
            }
        }
        collected
    }

    /// Whether objects of a kind and namespace may refer to an object of another namespace.
    pub fn allow(&self, from: Kind<'_>, from_namespace: &str, to: Kind<'_>, to_namespace: &str, name: &str) -> bool {
        let granted = self.0.get(&(from, from_namespace, to, to_namespace));
        granted.is_some_and(|granted| granted.all || granted.names.contains(name))
    }
}

const REFERRING: [Kind<'static>; 6] = [
    Kind::GATEWAY,
    Kind::HTTP_ROUTE,
    Kind::GRPC_ROUTE,
    Kind::TLS_ROUTE,
    Kind::TCP_ROUTE,
    Kind::LISTENER_SET,
];
const REFERRED: [Kind<'static>; 5] = [
    Kind::CONFIG_MAP,
    Kind::SECRET,
    Kind::SERVICE,
    Kind::X_BACKEND,
    Kind::INFERENCE_POOL,
];
