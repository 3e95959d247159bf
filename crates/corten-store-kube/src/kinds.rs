//! The kinds that are watched.

use crate::prune::Part;

/// A kind of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// The version to watch; of a custom kind, another one is taken when this one is not served.
    pub version: &'static str,
    /// The kind.
    pub kind: &'static str,
    /// The name in URLs.
    pub plural: &'static str,
    /// Whether a definition must be installed before there can be objects.
    pub custom: bool,
    /// Which parts of the objects are kept.
    pub part: Part,
}

impl Kind {
    const fn builtin(group: &'static str, kind: &'static str, plural: &'static str, part: Part) -> Kind {
        Kind {
            group,
            version: "v1",
            kind,
            plural,
            custom: false,
            part,
        }
    }

    /// A kind that a definition brings, whole.
    pub const fn custom(group: &'static str, version: &'static str, kind: &'static str, plural: &'static str) -> Kind {
        Kind {
            group,
            version,
            kind,
            plural,
            custom: true,
            part: Part::Whole,
        }
    }

    /// The name of its definition.
    pub fn definition(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }
}

/// Namespaces.
pub const NAMESPACES: Kind = Kind::builtin("", "Namespace", "namespaces", Part::Metadata);
/// Nodes.
pub const NODES: Kind = Kind::builtin("", "Node", "nodes", Part::Node);
/// Pods.
pub const PODS: Kind = Kind::builtin("", "Pod", "pods", Part::Pod);
/// Services.
pub const SERVICES: Kind = Kind::builtin("", "Service", "services", Part::Whole);
/// Secrets.
pub const SECRETS: Kind = Kind::builtin("", "Secret", "secrets", Part::Whole);
/// ConfigMaps.
pub const CONFIG_MAPS: Kind = Kind::builtin("", "ConfigMap", "configmaps", Part::Whole);
/// ConfigMaps with defaults for the gateways of a class, told from others by a label.
pub const CLASS_DEFAULTS: Kind = Kind::builtin("", "ConfigMap", "configmaps", Part::Entries);
/// EndpointSlices.
pub const ENDPOINT_SLICES: Kind = Kind::builtin(
    "discovery.k8s.io",
    "EndpointSlice",
    "endpointslices",
    Part::EndpointSlice,
);
/// Deployments, of which only the metadata is read.
pub const DEPLOYMENTS: Kind = Kind::builtin("apps", "Deployment", "deployments", Part::Metadata);
/// Kinds of what belongs to the workload of a gateway besides its Deployment and its Service, of which only the metadata is read.
pub const OF_WORKLOADS: [Kind; 3] = [
    Kind::builtin("", "ServiceAccount", "serviceaccounts", Part::Metadata),
    Kind {
        version: "v2",
        ..Kind::builtin(
            "autoscaling",
            "HorizontalPodAutoscaler",
            "horizontalpodautoscalers",
            Part::Metadata,
        )
    },
    Kind::builtin("policy", "PodDisruptionBudget", "poddisruptionbudgets", Part::Metadata),
];
/// Configurations of validating webhooks.
pub const VALIDATING_WEBHOOKS: Kind = Kind::builtin(
    "admissionregistration.k8s.io",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    Part::Whole,
);
/// Configurations of mutating webhooks.
pub const MUTATING_WEBHOOKS: Kind = Kind::builtin(
    "admissionregistration.k8s.io",
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    Part::Whole,
);
/// ServiceEntries.
pub const SERVICE_ENTRIES: Kind = Kind::custom("networking.istio.io", "v1", "ServiceEntry", "serviceentries");
/// WorkloadEntries.
pub const WORKLOAD_ENTRIES: Kind = Kind::custom("networking.istio.io", "v1", "WorkloadEntry", "workloadentries");
/// PeerAuthentications.
pub const PEER_AUTHENTICATIONS: Kind =
    Kind::custom("security.istio.io", "v1", "PeerAuthentication", "peerauthentications");
/// AuthorizationPolicies.
pub const AUTHORIZATION_POLICIES: Kind = Kind::custom(
    "security.istio.io",
    "v1",
    "AuthorizationPolicy",
    "authorizationpolicies",
);
/// Gateways of the Gateway API.
pub const GATEWAYS: Kind = Kind::custom("gateway.networking.k8s.io", "v1", "Gateway", "gateways");
/// Classes of them.
pub const GATEWAY_CLASSES: Kind = Kind::custom("gateway.networking.k8s.io", "v1", "GatewayClass", "gatewayclasses");

/// Ingresses.
pub const INGRESSES: Kind = Kind::builtin("networking.k8s.io", "Ingress", "ingresses", Part::Whole);
/// Classes of them.
pub const INGRESS_CLASSES: Kind = Kind::builtin("networking.k8s.io", "IngressClass", "ingressclasses", Part::Whole);

const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// The other kinds of the Gateway API, and Ingress: what is converted before proxies are configured from it.
pub const CONVERTED: [Kind; 10] = [
    Kind::custom(GATEWAY_GROUP, "v1", "ListenerSet", "listenersets"),
    Kind::custom(GATEWAY_GROUP, "v1", "HTTPRoute", "httproutes"),
    Kind::custom(GATEWAY_GROUP, "v1", "GRPCRoute", "grpcroutes"),
    Kind::custom(GATEWAY_GROUP, "v1", "TLSRoute", "tlsroutes"),
    Kind::custom(GATEWAY_GROUP, "v1", "TCPRoute", "tcproutes"),
    Kind::custom(GATEWAY_GROUP, "v1", "UDPRoute", "udproutes"),
    Kind::custom(GATEWAY_GROUP, "v1beta1", "ReferenceGrant", "referencegrants"),
    Kind::custom(GATEWAY_GROUP, "v1", "BackendTLSPolicy", "backendtlspolicies"),
    INGRESS_CLASSES,
    INGRESSES,
];

/// What the model of the L4 mesh is made of, in the order of [`Source`](crate::Source)'s first lists: small kinds first.
pub const MESH: [Kind; 11] = [
    NAMESPACES,
    NODES,
    GATEWAY_CLASSES,
    GATEWAYS,
    SERVICES,
    SERVICE_ENTRIES,
    WORKLOAD_ENTRIES,
    PEER_AUTHENTICATIONS,
    AUTHORIZATION_POLICIES,
    ENDPOINT_SLICES,
    PODS,
];

pub(crate) const DEFINITIONS: Kind = Kind::builtin(
    "apiextensions.k8s.io",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    Part::Definition,
);
