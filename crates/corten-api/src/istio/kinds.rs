//! Istio's kinds: their names, versions and columns, and the table of them all.

use super::authorization_policy::AuthorizationPolicySpec;
use super::destination_rule::DestinationRuleSpec;
use super::envoy_filter::EnvoyFilterSpec;
use super::extensions::{TrafficExtensionSpec, WasmPluginSpec};
use super::gateway::GatewaySpec;
use super::peer_authentication::PeerAuthenticationSpec;
use super::proxy_config_resource::ProxyConfigSpec;
use super::request_authentication::RequestAuthenticationSpec;
use super::service_entry::ServiceEntrySpec;
use super::sidecar::SidecarSpec;
use super::status::IstioStatus;
use super::telemetry::TelemetrySpec;
use super::virtual_service::VirtualServiceSpec;
use super::workload_entry::WorkloadEntrySpec;
use super::workload_group::WorkloadGroupSpec;
use crate::resource::{Column, Kind, Registered, Resource, Spec, Status, Version, registered};

/// Controllers of other makers keep their own fields there.
const STATUS_FACTS: &str = r#"{"x-kubernetes-preserve-unknown-fields":true}"#;
/// A WorkloadEntry needs one of the two, while the template of a WorkloadGroup does not.
const ADDRESS_OR_NETWORK: &str = r#"{"x-kubernetes-validations":[{"message":"Address is required","rule":"has(self.address) || has(self.network)"}]}"#;

impl Spec for TrafficExtensionSpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "extensions.istio.io",
        kind: "TrafficExtension",
        plural: "trafficextensions",
        short_names: &[],
        categories: &["istio-io", "extensions-istio-io"],
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
        annotations: &[],
        spec_facts: "",
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A TrafficExtension object.
pub type TrafficExtension = Resource<TrafficExtensionSpec>;

impl Spec for WasmPluginSpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "extensions.istio.io",
        kind: "WasmPlugin",
        plural: "wasmplugins",
        short_names: &[],
        categories: &["istio-io", "extensions-istio-io"],
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
        annotations: &[],
        spec_facts: "",
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A WasmPlugin object.
pub type WasmPlugin = Resource<WasmPluginSpec>;

impl Spec for DestinationRuleSpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "networking.istio.io",
        kind: "DestinationRule",
        plural: "destinationrules",
        short_names: &["dr"],
        categories: &["istio-io", "networking-istio-io"],
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
                name: "Host",
                path: ".spec.host",
                kind: "string",
                description: "The host the rule is for.",
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
        spec_required: false,
        annotations: &[],
        spec_facts: "",
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A DestinationRule object.
pub type DestinationRule = Resource<DestinationRuleSpec>;

impl Spec for EnvoyFilterSpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "networking.istio.io",
        kind: "EnvoyFilter",
        plural: "envoyfilters",
        short_names: &[],
        categories: &["istio-io", "networking-istio-io"],
        namespaced: true,
        versions: &[Version {
            name: "v1alpha3",
            served: true,
            storage: true,
            deprecation: "",
            columns: None,
            experimental: false,
        }],
        columns: &[],
        spec_required: false,
        annotations: &[],
        spec_facts: "",
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A EnvoyFilter object.
pub type EnvoyFilter = Resource<EnvoyFilterSpec>;

impl Spec for GatewaySpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "networking.istio.io",
        kind: "Gateway",
        plural: "gateways",
        short_names: &["gw"],
        categories: &["istio-io", "networking-istio-io"],
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
        columns: &[],
        spec_required: false,
        annotations: &[],
        spec_facts: "",
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A Gateway object.
pub type Gateway = Resource<GatewaySpec>;

impl Spec for ProxyConfigSpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "networking.istio.io",
        kind: "ProxyConfig",
        plural: "proxyconfigs",
        short_names: &[],
        categories: &["istio-io", "networking-istio-io"],
        namespaced: true,
        versions: &[Version {
            name: "v1beta1",
            served: true,
            storage: true,
            deprecation: "",
            columns: None,
            experimental: false,
        }],
        columns: &[],
        spec_required: false,
        annotations: &[],
        spec_facts: "",
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A ProxyConfig object.
pub type ProxyConfig = Resource<ProxyConfigSpec>;

impl Spec for ServiceEntrySpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "networking.istio.io",
        kind: "ServiceEntry",
        plural: "serviceentries",
        short_names: &["se"],
        categories: &["istio-io", "networking-istio-io"],
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
                name: "Hosts",
                path: ".spec.hosts",
                kind: "string",
                description: "The hosts.",
                priority: 0,
            },
            Column {
                name: "Location",
                path: ".spec.location",
                kind: "string",
                description: "Inside the mesh or outside.",
                priority: 0,
            },
            Column {
                name: "Resolution",
                path: ".spec.resolution",
                kind: "string",
                description: "How endpoints are found.",
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
        annotations: &[],
        spec_facts: "",
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A ServiceEntry object.
pub type ServiceEntry = Resource<ServiceEntrySpec>;

impl Spec for SidecarSpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "networking.istio.io",
        kind: "Sidecar",
        plural: "sidecars",
        short_names: &[],
        categories: &["istio-io", "networking-istio-io"],
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
        columns: &[],
        spec_required: false,
        annotations: &[],
        spec_facts: "",
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A Sidecar object.
pub type Sidecar = Resource<SidecarSpec>;

impl Spec for VirtualServiceSpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "networking.istio.io",
        kind: "VirtualService",
        plural: "virtualservices",
        short_names: &["vs"],
        categories: &["istio-io", "networking-istio-io"],
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
                name: "Gateways",
                path: ".spec.gateways",
                kind: "string",
                description: "The gateways and sidecars that route so.",
                priority: 0,
            },
            Column {
                name: "Hosts",
                path: ".spec.hosts",
                kind: "string",
                description: "The hosts.",
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
        spec_required: false,
        annotations: &[],
        spec_facts: "",
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A VirtualService object.
pub type VirtualService = Resource<VirtualServiceSpec>;

impl Spec for WorkloadEntrySpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "networking.istio.io",
        kind: "WorkloadEntry",
        plural: "workloadentries",
        short_names: &["we"],
        categories: &["istio-io", "networking-istio-io"],
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
                name: "Age",
                path: ".metadata.creationTimestamp",
                kind: "date",
                description: "How long the object has existed.",
                priority: 0,
            },
            Column {
                name: "Address",
                path: ".spec.address",
                kind: "string",
                description: "The address of the workload.",
                priority: 0,
            },
        ],
        spec_required: true,
        annotations: &[],
        spec_facts: ADDRESS_OR_NETWORK,
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A WorkloadEntry object.
pub type WorkloadEntry = Resource<WorkloadEntrySpec>;

impl Spec for WorkloadGroupSpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "networking.istio.io",
        kind: "WorkloadGroup",
        plural: "workloadgroups",
        short_names: &["wg"],
        categories: &["istio-io", "networking-istio-io"],
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
        columns: &[Column {
            name: "Age",
            path: ".metadata.creationTimestamp",
            kind: "date",
            description: "How long the object has existed.",
            priority: 0,
        }],
        spec_required: true,
        annotations: &[],
        spec_facts: "",
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A WorkloadGroup object.
pub type WorkloadGroup = Resource<WorkloadGroupSpec>;

impl Spec for AuthorizationPolicySpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "security.istio.io",
        kind: "AuthorizationPolicy",
        plural: "authorizationpolicies",
        short_names: &["ap"],
        categories: &["istio-io", "security-istio-io"],
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
                name: "Action",
                path: ".spec.action",
                kind: "string",
                description: "What happens to matching requests.",
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
        spec_required: false,
        annotations: &[],
        spec_facts: "",
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A AuthorizationPolicy object.
pub type AuthorizationPolicy = Resource<AuthorizationPolicySpec>;

impl Spec for PeerAuthenticationSpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "security.istio.io",
        kind: "PeerAuthentication",
        plural: "peerauthentications",
        short_names: &["pa"],
        categories: &["istio-io", "security-istio-io"],
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
                name: "Mode",
                path: ".spec.mtls.mode",
                kind: "string",
                description: "Whether mutual TLS is demanded.",
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
        spec_required: false,
        annotations: &[],
        spec_facts: "",
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A PeerAuthentication object.
pub type PeerAuthentication = Resource<PeerAuthenticationSpec>;

impl Spec for RequestAuthenticationSpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "security.istio.io",
        kind: "RequestAuthentication",
        plural: "requestauthentications",
        short_names: &["ra"],
        categories: &["istio-io", "security-istio-io"],
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
        columns: &[],
        spec_required: false,
        annotations: &[],
        spec_facts: "",
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A RequestAuthentication object.
pub type RequestAuthentication = Resource<RequestAuthenticationSpec>;

impl Spec for TelemetrySpec {
    type Status = IstioStatus;
    const KIND: &'static Kind = &Kind {
        group: "telemetry.istio.io",
        kind: "Telemetry",
        plural: "telemetries",
        short_names: &["telemetry"],
        categories: &["istio-io", "telemetry-istio-io"],
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
                name: "v1alpha1",
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
        spec_required: false,
        annotations: &[],
        spec_facts: "",
        status_facts: STATUS_FACTS,
        root_facts: "",
        experimental: false,
    };
}
/// A Telemetry object.
pub type Telemetry = Resource<TelemetrySpec>;

impl Status for IstioStatus {}

/// All of Istio's kinds.
pub const KINDS: &[Registered] = &[
    registered::<TrafficExtensionSpec>(),
    registered::<WasmPluginSpec>(),
    registered::<DestinationRuleSpec>(),
    registered::<EnvoyFilterSpec>(),
    registered::<GatewaySpec>(),
    registered::<ProxyConfigSpec>(),
    registered::<ServiceEntrySpec>(),
    registered::<SidecarSpec>(),
    registered::<VirtualServiceSpec>(),
    registered::<WorkloadEntrySpec>(),
    registered::<WorkloadGroupSpec>(),
    registered::<AuthorizationPolicySpec>(),
    registered::<PeerAuthenticationSpec>(),
    registered::<RequestAuthenticationSpec>(),
    registered::<TelemetrySpec>(),
];
