//! The kinds of the Gateway API: their names, versions and columns, and the table of them all.

use super::backend_tls_policy::BackendTLSPolicySpec;
use super::gateway::{GatewaySpec, GatewayStatus};
use super::gateway_class::{GatewayClassSpec, GatewayClassStatus};
use super::grpc_route::{GRPCRouteSpec, GRPCRouteStatus};
use super::http_route::{HTTPRouteSpec, HTTPRouteStatus};
use super::listener_set::{ListenerSetSpec, ListenerSetStatus};
use super::policy::PolicyStatus;
use super::reference_grant::ReferenceGrantSpec;
use super::tcp_route::{TCPRouteSpec, TCPRouteStatus};
use super::tls_route::{TLSRouteSpec, TLSRouteStatus};
use super::udp_route::{UDPRouteSpec, UDPRouteStatus};
use super::x_backend::{BackendSpec, BackendStatus};
use super::x_backend_traffic_policy::BackendTrafficPolicySpec;
use super::x_mesh::{MeshSpec, MeshStatus};
use crate::resource::{Column, Kind, NoStatus, Registered, Resource, Spec, Status, Version, registered};

impl Spec for BackendTLSPolicySpec {
    type Status = PolicyStatus;
    const KIND: &'static Kind = &Kind {
        group: "gateway.networking.k8s.io",
        kind: "BackendTLSPolicy",
        plural: "backendtlspolicies",
        short_names: &["btlspolicy"],
        categories: &["gateway-api"],
        namespaced: true,
        versions: &[
            Version {
                name: "v1",
                served: true,
                storage: true,
                deprecation: "",
                columns: None,
                experimental: false,
            },
            Version {
                name: "v1alpha3",
                served: true,
                storage: false,
                deprecation: "The v1alpha3 version of BackendTLSPolicy has been deprecated and will be removed in a future release of the API. Please upgrade to v1.",
                columns: Some(&[]),
                experimental: true,
            },
        ],
        columns: &[Column {
            name: "Age",
            path: ".metadata.creationTimestamp",
            kind: "date",
            description: "How long the object has existed.",
            priority: 0,
        }],
        spec_required: true,
        annotations: &[
            (
                "api-approved.kubernetes.io",
                "https://github.com/kubernetes-sigs/gateway-api/pull/4530",
            ),
            ("gateway.networking.k8s.io/bundle-version", "v0.0.0-dev"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ],
        spec_facts: "",
        status_facts: "",
        root_facts: "",
        experimental: false,
    };
}
/// A BackendTLSPolicy object.
pub type BackendTLSPolicy = Resource<BackendTLSPolicySpec>;

impl Spec for GatewayClassSpec {
    type Status = GatewayClassStatus;
    const KIND: &'static Kind = &Kind {
        group: "gateway.networking.k8s.io",
        kind: "GatewayClass",
        plural: "gatewayclasses",
        short_names: &["gc"],
        categories: &["gateway-api"],
        namespaced: false,
        versions: &[
            Version {
                name: "v1",
                served: true,
                storage: true,
                deprecation: "",
                columns: None,
                experimental: false,
            },
            Version {
                name: "v1beta1",
                served: true,
                storage: false,
                deprecation: "",
                columns: None,
                experimental: false,
            },
        ],
        columns: &[
            Column {
                name: "Controller",
                path: ".spec.controllerName",
                kind: "string",
                description: "The controller in charge.",
                priority: 0,
            },
            Column {
                name: "Accepted",
                path: r#".status.conditions[?(@.type=="Accepted")].status"#,
                kind: "string",
                description: "Whether it is in force.",
                priority: 0,
            },
            Column {
                name: "Age",
                path: ".metadata.creationTimestamp",
                kind: "date",
                description: "How long the object has existed.",
                priority: 0,
            },
            Column {
                name: "Description",
                path: ".spec.description",
                kind: "string",
                description: "What it is for.",
                priority: 1,
            },
        ],
        spec_required: true,
        annotations: &[
            (
                "api-approved.kubernetes.io",
                "https://github.com/kubernetes-sigs/gateway-api/pull/4530",
            ),
            ("gateway.networking.k8s.io/bundle-version", "v0.0.0-dev"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ],
        spec_facts: "",
        status_facts: r#"{"default": {"conditions": [{"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Accepted"}]}}"#,
        root_facts: "",
        experimental: false,
    };
}
/// A GatewayClass object.
pub type GatewayClass = Resource<GatewayClassSpec>;

impl Spec for GatewaySpec {
    type Status = GatewayStatus;
    const KIND: &'static Kind = &Kind {
        group: "gateway.networking.k8s.io",
        kind: "Gateway",
        plural: "gateways",
        short_names: &["gtw"],
        categories: &["gateway-api"],
        namespaced: true,
        versions: &[
            Version {
                name: "v1",
                served: true,
                storage: true,
                deprecation: "",
                columns: None,
                experimental: false,
            },
            Version {
                name: "v1beta1",
                served: true,
                storage: false,
                deprecation: "",
                columns: None,
                experimental: false,
            },
        ],
        columns: &[
            Column {
                name: "Class",
                path: ".spec.gatewayClassName",
                kind: "string",
                description: "The class of the gateway.",
                priority: 0,
            },
            Column {
                name: "Address",
                path: ".status.addresses[*].value",
                kind: "string",
                description: "Where it can be reached.",
                priority: 0,
            },
            Column {
                name: "Programmed",
                path: r#".status.conditions[?(@.type=="Programmed")].status"#,
                kind: "string",
                description: "Whether the data plane is configured.",
                priority: 0,
            },
            Column {
                name: "Age",
                path: ".metadata.creationTimestamp",
                kind: "date",
                description: "How long the object has existed.",
                priority: 0,
            },
        ],
        spec_required: true,
        annotations: &[
            (
                "api-approved.kubernetes.io",
                "https://github.com/kubernetes-sigs/gateway-api/pull/4530",
            ),
            ("gateway.networking.k8s.io/bundle-version", "v0.0.0-dev"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ],
        spec_facts: "",
        status_facts: r#"{"default": {"conditions": [{"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Accepted"}, {"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Programmed"}]}}"#,
        root_facts: "",
        experimental: false,
    };
}
/// A Gateway object.
pub type Gateway = Resource<GatewaySpec>;

impl Spec for GRPCRouteSpec {
    type Status = GRPCRouteStatus;
    const KIND: &'static Kind = &Kind {
        group: "gateway.networking.k8s.io",
        kind: "GRPCRoute",
        plural: "grpcroutes",
        short_names: &[],
        categories: &["gateway-api"],
        namespaced: true,
        versions: &[Version {
            name: "v1",
            served: true,
            storage: true,
            deprecation: "",
            columns: None,
            experimental: false,
        }],
        columns: &[
            Column {
                name: "Hostnames",
                path: ".spec.hostnames",
                kind: "string",
                description: "The host names it is for.",
                priority: 0,
            },
            Column {
                name: "Age",
                path: ".metadata.creationTimestamp",
                kind: "date",
                description: "How long the object has existed.",
                priority: 0,
            },
        ],
        spec_required: true,
        annotations: &[
            (
                "api-approved.kubernetes.io",
                "https://github.com/kubernetes-sigs/gateway-api/pull/4530",
            ),
            ("gateway.networking.k8s.io/bundle-version", "v0.0.0-dev"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ],
        spec_facts: "",
        status_facts: "",
        root_facts: "",
        experimental: false,
    };
}
/// A GRPCRoute object.
pub type GRPCRoute = Resource<GRPCRouteSpec>;

impl Spec for HTTPRouteSpec {
    type Status = HTTPRouteStatus;
    const KIND: &'static Kind = &Kind {
        group: "gateway.networking.k8s.io",
        kind: "HTTPRoute",
        plural: "httproutes",
        short_names: &[],
        categories: &["gateway-api"],
        namespaced: true,
        versions: &[
            Version {
                name: "v1",
                served: true,
                storage: true,
                deprecation: "",
                columns: None,
                experimental: false,
            },
            Version {
                name: "v1beta1",
                served: true,
                storage: false,
                deprecation: "",
                columns: None,
                experimental: false,
            },
        ],
        columns: &[
            Column {
                name: "Hostnames",
                path: ".spec.hostnames",
                kind: "string",
                description: "The host names it is for.",
                priority: 0,
            },
            Column {
                name: "Age",
                path: ".metadata.creationTimestamp",
                kind: "date",
                description: "How long the object has existed.",
                priority: 0,
            },
        ],
        spec_required: true,
        annotations: &[
            (
                "api-approved.kubernetes.io",
                "https://github.com/kubernetes-sigs/gateway-api/pull/4530",
            ),
            ("gateway.networking.k8s.io/bundle-version", "v0.0.0-dev"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ],
        spec_facts: "",
        status_facts: "",
        root_facts: "",
        experimental: false,
    };
}
/// A HTTPRoute object.
pub type HTTPRoute = Resource<HTTPRouteSpec>;

impl Spec for ListenerSetSpec {
    type Status = ListenerSetStatus;
    const KIND: &'static Kind = &Kind {
        group: "gateway.networking.k8s.io",
        kind: "ListenerSet",
        plural: "listenersets",
        short_names: &["lset"],
        categories: &["gateway-api"],
        namespaced: true,
        versions: &[Version {
            name: "v1",
            served: true,
            storage: true,
            deprecation: "",
            columns: None,
            experimental: false,
        }],
        columns: &[
            Column {
                name: "Accepted",
                path: r#".status.conditions[?(@.type=="Accepted")].status"#,
                kind: "string",
                description: "Whether it is in force.",
                priority: 0,
            },
            Column {
                name: "Programmed",
                path: r#".status.conditions[?(@.type=="Programmed")].status"#,
                kind: "string",
                description: "Whether the data plane is configured.",
                priority: 0,
            },
            Column {
                name: "Age",
                path: ".metadata.creationTimestamp",
                kind: "date",
                description: "How long the object has existed.",
                priority: 0,
            },
        ],
        spec_required: true,
        annotations: &[
            (
                "api-approved.kubernetes.io",
                "https://github.com/kubernetes-sigs/gateway-api/pull/4530",
            ),
            ("gateway.networking.k8s.io/bundle-version", "v0.0.0-dev"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ],
        spec_facts: "",
        status_facts: r#"{"default": {"conditions": [{"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Accepted"}, {"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Programmed"}]}}"#,
        root_facts: "",
        experimental: false,
    };
}
/// A ListenerSet object.
pub type ListenerSet = Resource<ListenerSetSpec>;

impl Spec for ReferenceGrantSpec {
    type Status = NoStatus;
    const KIND: &'static Kind = &Kind {
        group: "gateway.networking.k8s.io",
        kind: "ReferenceGrant",
        plural: "referencegrants",
        short_names: &["refgrant"],
        categories: &["gateway-api"],
        namespaced: true,
        versions: &[
            Version {
                name: "v1",
                served: true,
                storage: false,
                deprecation: "",
                columns: None,
                experimental: false,
            },
            Version {
                name: "v1beta1",
                served: true,
                storage: true,
                deprecation: "",
                columns: None,
                experimental: false,
            },
        ],
        columns: &[Column {
            name: "Age",
            path: ".metadata.creationTimestamp",
            kind: "date",
            description: "How long the object has existed.",
            priority: 0,
        }],
        spec_required: true,
        annotations: &[
            (
                "api-approved.kubernetes.io",
                "https://github.com/kubernetes-sigs/gateway-api/pull/4530",
            ),
            ("gateway.networking.k8s.io/bundle-version", "v0.0.0-dev"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ],
        spec_facts: "",
        status_facts: "",
        root_facts: "",
        experimental: false,
    };
}
/// A ReferenceGrant object.
pub type ReferenceGrant = Resource<ReferenceGrantSpec>;

impl Spec for TCPRouteSpec {
    type Status = TCPRouteStatus;
    const KIND: &'static Kind = &Kind {
        group: "gateway.networking.k8s.io",
        kind: "TCPRoute",
        plural: "tcproutes",
        short_names: &[],
        categories: &["gateway-api"],
        namespaced: true,
        versions: &[
            Version {
                name: "v1",
                served: true,
                storage: true,
                deprecation: "",
                columns: None,
                experimental: false,
            },
            Version {
                name: "v1alpha2",
                served: true,
                storage: false,
                deprecation: "The v1alpha2 version of TCPRoute has been deprecated and will be removed in a future release of the API. Please upgrade to v1.",
                columns: None,
                experimental: true,
            },
        ],
        columns: &[Column {
            name: "Age",
            path: ".metadata.creationTimestamp",
            kind: "date",
            description: "How long the object has existed.",
            priority: 0,
        }],
        spec_required: true,
        annotations: &[
            (
                "api-approved.kubernetes.io",
                "https://github.com/kubernetes-sigs/gateway-api/pull/4530",
            ),
            ("gateway.networking.k8s.io/bundle-version", "v0.0.0-dev"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ],
        spec_facts: "",
        status_facts: "",
        root_facts: "",
        experimental: false,
    };
}
/// A TCPRoute object.
pub type TCPRoute = Resource<TCPRouteSpec>;

impl Spec for TLSRouteSpec {
    type Status = TLSRouteStatus;
    const KIND: &'static Kind = &Kind {
        group: "gateway.networking.k8s.io",
        kind: "TLSRoute",
        plural: "tlsroutes",
        short_names: &[],
        categories: &["gateway-api"],
        namespaced: true,
        versions: &[
            Version {
                name: "v1",
                served: true,
                storage: true,
                deprecation: "",
                columns: None,
                experimental: false,
            },
            Version {
                name: "v1alpha2",
                served: true,
                storage: false,
                deprecation: "The v1alpha2 version of TLSRoute has been deprecated and will be removed in a future release of the API. Please upgrade to v1.",
                columns: None,
                experimental: true,
            },
            Version {
                name: "v1alpha3",
                served: true,
                storage: false,
                deprecation: "The v1alpha3 version of TLSRoute has been deprecated and will be removed in a future release of the API. Please upgrade to v1.",
                columns: None,
                experimental: true,
            },
        ],
        columns: &[Column {
            name: "Age",
            path: ".metadata.creationTimestamp",
            kind: "date",
            description: "How long the object has existed.",
            priority: 0,
        }],
        spec_required: true,
        annotations: &[
            (
                "api-approved.kubernetes.io",
                "https://github.com/kubernetes-sigs/gateway-api/pull/4530",
            ),
            ("gateway.networking.k8s.io/bundle-version", "v0.0.0-dev"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ],
        spec_facts: "",
        status_facts: "",
        root_facts: "",
        experimental: false,
    };
}
/// A TLSRoute object.
pub type TLSRoute = Resource<TLSRouteSpec>;

impl Spec for UDPRouteSpec {
    type Status = UDPRouteStatus;
    const KIND: &'static Kind = &Kind {
        group: "gateway.networking.k8s.io",
        kind: "UDPRoute",
        plural: "udproutes",
        short_names: &[],
        categories: &["gateway-api"],
        namespaced: true,
        versions: &[
            Version {
                name: "v1",
                served: true,
                storage: true,
                deprecation: "",
                columns: None,
                experimental: false,
            },
            Version {
                name: "v1alpha2",
                served: true,
                storage: false,
                deprecation: "The v1alpha2 version of UDPRoute has been deprecated and will be removed in a future release of the API. Please upgrade to v1.",
                columns: None,
                experimental: true,
            },
        ],
        columns: &[Column {
            name: "Age",
            path: ".metadata.creationTimestamp",
            kind: "date",
            description: "How long the object has existed.",
            priority: 0,
        }],
        spec_required: true,
        annotations: &[
            (
                "api-approved.kubernetes.io",
                "https://github.com/kubernetes-sigs/gateway-api/pull/4530",
            ),
            ("gateway.networking.k8s.io/bundle-version", "v0.0.0-dev"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ],
        spec_facts: "",
        status_facts: "",
        root_facts: "",
        experimental: false,
    };
}
/// A UDPRoute object.
pub type UDPRoute = Resource<UDPRouteSpec>;

impl Spec for BackendSpec {
    type Status = BackendStatus;
    const KIND: &'static Kind = &Kind {
        group: "gateway.networking.x-k8s.io",
        kind: "XBackend",
        plural: "xbackends",
        short_names: &["xbackend"],
        categories: &["gateway-api"],
        namespaced: true,
        versions: &[Version {
            name: "v1alpha1",
            served: true,
            storage: true,
            deprecation: "",
            columns: None,
            experimental: false,
        }],
        columns: &[Column {
            name: "Age",
            path: ".metadata.creationTimestamp",
            kind: "date",
            description: "How long the object has existed.",
            priority: 0,
        }],
        spec_required: true,
        annotations: &[
            (
                "api-approved.kubernetes.io",
                "https://github.com/kubernetes-sigs/gateway-api/pull/4530",
            ),
            ("gateway.networking.k8s.io/bundle-version", "v0.0.0-dev"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ],
        spec_facts: "",
        status_facts: "",
        root_facts: "",
        experimental: true,
    };
}
/// A XBackend object.
pub type XBackend = Resource<BackendSpec>;

impl Spec for BackendTrafficPolicySpec {
    type Status = PolicyStatus;
    const KIND: &'static Kind = &Kind {
        group: "gateway.networking.x-k8s.io",
        kind: "XBackendTrafficPolicy",
        plural: "xbackendtrafficpolicies",
        short_names: &["xbtrafficpolicy"],
        categories: &["gateway-api"],
        namespaced: true,
        versions: &[Version {
            name: "v1alpha1",
            served: true,
            storage: true,
            deprecation: "",
            columns: None,
            experimental: false,
        }],
        columns: &[Column {
            name: "Age",
            path: ".metadata.creationTimestamp",
            kind: "date",
            description: "How long the object has existed.",
            priority: 0,
        }],
        spec_required: true,
        annotations: &[
            (
                "api-approved.kubernetes.io",
                "https://github.com/kubernetes-sigs/gateway-api/pull/4530",
            ),
            ("gateway.networking.k8s.io/bundle-version", "v0.0.0-dev"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ],
        spec_facts: "",
        status_facts: "",
        root_facts: "",
        experimental: true,
    };
}
/// A XBackendTrafficPolicy object.
pub type XBackendTrafficPolicy = Resource<BackendTrafficPolicySpec>;

impl Spec for MeshSpec {
    type Status = MeshStatus;
    const KIND: &'static Kind = &Kind {
        group: "gateway.networking.x-k8s.io",
        kind: "XMesh",
        plural: "xmeshes",
        short_names: &["mesh"],
        categories: &["gateway-api"],
        namespaced: false,
        versions: &[Version {
            name: "v1alpha1",
            served: true,
            storage: true,
            deprecation: "",
            columns: None,
            experimental: false,
        }],
        columns: &[
            Column {
                name: "Accepted",
                path: r#".status.conditions[?(@.type=="Accepted")].status"#,
                kind: "string",
                description: "Whether it is in force.",
                priority: 0,
            },
            Column {
                name: "Age",
                path: ".metadata.creationTimestamp",
                kind: "date",
                description: "How long the object has existed.",
                priority: 0,
            },
        ],
        spec_required: true,
        annotations: &[
            (
                "api-approved.kubernetes.io",
                "https://github.com/kubernetes-sigs/gateway-api/pull/4530",
            ),
            ("gateway.networking.k8s.io/bundle-version", "v0.0.0-dev"),
            ("gateway.networking.k8s.io/channel", "standard"),
        ],
        spec_facts: "",
        status_facts: r#"{"default": {"conditions": [{"lastTransitionTime": "1970-01-01T00:00:00Z", "message": "Waiting for controller", "reason": "Pending", "status": "Unknown", "type": "Accepted"}]}}"#,
        root_facts: "",
        experimental: true,
    };
}
/// A XMesh object.
pub type XMesh = Resource<MeshSpec>;

impl Status for PolicyStatus {}
impl Status for GatewayClassStatus {}
impl Status for GatewayStatus {}
impl Status for GRPCRouteStatus {}
impl Status for HTTPRouteStatus {}
impl Status for ListenerSetStatus {}
impl Status for TCPRouteStatus {}
impl Status for TLSRouteStatus {}
impl Status for UDPRouteStatus {}
impl Status for BackendStatus {}
impl Status for MeshStatus {}

/// All kinds of the Gateway API.
pub const KINDS: &[Registered] = &[
    registered::<BackendTLSPolicySpec>(),
    registered::<GatewayClassSpec>(),
    registered::<GatewaySpec>(),
    registered::<GRPCRouteSpec>(),
    registered::<HTTPRouteSpec>(),
    registered::<ListenerSetSpec>(),
    registered::<ReferenceGrantSpec>(),
    registered::<TCPRouteSpec>(),
    registered::<TLSRouteSpec>(),
    registered::<UDPRouteSpec>(),
    registered::<BackendSpec>(),
    registered::<BackendTrafficPolicySpec>(),
    registered::<MeshSpec>(),
];
