//! The kinds whose fields are judged.

use corten_api::{
    codec::{Field, SchemaCx},
    istio::{mesh_config::MeshConfig, mesh_networks::MeshNetworks},
};
use corten_schema::Schema;
use serde_json::Value;

use crate::schema::{Leaf, leaves};

/// A kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged {
    /// The group; empty for what is no object of Kubernetes.
    pub(crate) group: &'static str,
    /// The kind, which its folder below `testdata` is called after, or the part of one that has a section of its own.
    pub(crate) kind: &'static str,
}

/// The group that the mesh's own documents are given, which have none.
pub(crate) const MESH_GROUP: &str = "mesh.istio.io";

/// The part of the mesh's configuration that says how proxies run.
const PROXIES: &str = "defaultConfig";

const NETWORKING: &str = "networking.istio.io";

const SECURITY: &str = "security.istio.io";
const TELEMETRY: &str = "telemetry.istio.io";
const EXTENSIONS: &str = "extensions.istio.io";
const GATEWAY: &str = "gateway.networking.k8s.io";
/// What Kubernetes has itself.
pub(crate) const KUBERNETES: &str = "networking.k8s.io";

/// All kinds, in the order of the table.
pub(crate) const KINDS: &[Judged] = &[
    Judged {
        group: NETWORKING,
        kind: "VirtualService",
    },
    Judged {
        group: NETWORKING,
        kind: "DestinationRule",
    },
    Judged {
        group: NETWORKING,
        kind: "ServiceEntry",
    },
    Judged {
        group: NETWORKING,
        kind: "Gateway",
    },
    Judged {
        group: NETWORKING,
        kind: "Sidecar",
    },
    Judged {
        group: NETWORKING,
        kind: "WorkloadEntry",
    },
    Judged {
        group: NETWORKING,
        kind: "WorkloadGroup",
    },
    Judged {
        group: NETWORKING,
        kind: "EnvoyFilter",
    },
    Judged {
        group: NETWORKING,
        kind: "ProxyConfig",
    },
    Judged {
        group: SECURITY,
        kind: "PeerAuthentication",
    },
    Judged {
        group: SECURITY,
        kind: "RequestAuthentication",
    },
    Judged {
        group: SECURITY,
        kind: "AuthorizationPolicy",
    },
    Judged {
        group: TELEMETRY,
        kind: "Telemetry",
    },
    Judged {
        group: EXTENSIONS,
        kind: "WasmPlugin",
    },
    Judged {
        group: EXTENSIONS,
        kind: "TrafficExtension",
    },
    Judged {
        group: GATEWAY,
        kind: "GatewayClass",
    },
    Judged {
        group: GATEWAY,
        kind: "Gateway",
    },
    Judged {
        group: GATEWAY,
        kind: "ListenerSet",
    },
    Judged {
        group: GATEWAY,
        kind: "HTTPRoute",
    },
    Judged {
        group: GATEWAY,
        kind: "GRPCRoute",
    },
    Judged {
        group: GATEWAY,
        kind: "TLSRoute",
    },
    Judged {
        group: GATEWAY,
        kind: "TCPRoute",
    },
    Judged {
        group: GATEWAY,
        kind: "UDPRoute",
    },
    Judged {
        group: GATEWAY,
        kind: "ReferenceGrant",
    },
    Judged {
        group: GATEWAY,
        kind: "BackendTLSPolicy",
    },
    Judged {
        group: MESH_GROUP,
        kind: "MeshConfig",
    },
    Judged {
        group: MESH_GROUP,
        kind: PROXIES,
    },
    Judged {
        group: MESH_GROUP,
        kind: "MeshNetworks",
    },
    Judged {
        group: KUBERNETES,
        kind: "Ingress",
    },
    Judged {
        group: KUBERNETES,
        kind: "IngressClass",
    },
];

/// The experimental channel has all that the standard one has.
fn cx(version: &'static str) -> SchemaCx {
    SchemaCx {
        experimental: true,
        version,
    }
}

impl Judged {
    /// The folder of its worlds below `testdata`, which the kind is called by where two have the same name.
    pub(crate) fn folder(&self) -> &'static str {
        match (self.group, self.kind) {
            (GATEWAY, "Gateway") => "GatewayOfGatewayAPI",
            _ => self.kind,
        }
    }

    /// The kind of the objects that have its fields.
    pub(crate) fn of_objects(&self) -> &'static str {
        match self.kind {
            PROXIES => "MeshConfig",
            kind => kind,
        }
    }

    /// What the page calls it.
    pub(crate) fn title(&self) -> &'static str {
        match self.kind {
            PROXIES => "MeshConfig's `defaultConfig`, and the annotation `proxy.istio.io/config`",
            kind => kind,
        }
    }

    /// The fields of its spec.
    pub(crate) fn leaves(&self) -> Vec<Leaf> {
        if self.group == MESH_GROUP {
            let mut all = leaves(&self.document(), &["spec"]);
            // The settings of proxies have a section of their own.
            all.retain(|leaf| leaf.shown().starts_with("spec.defaultConfig.") == (self.kind == PROXIES));
            return all;
        }
        if self.group == KUBERNETES {
            let schema = corten_schema::kubernetes::schema(self.group, "v1", self.kind);
            let spec = schema.and_then(|schema| schema.field("spec"));
            return spec.map_or_else(Vec::new, |spec| leaves(&whole(spec), &["spec"]));
        }
        let Some(registered) = corten_api::kind(self.group, self.kind) else {
            return Vec::new();
        };
        let version = registered.kind.versions.iter().find(|version| version.storage);
        leaves(
            &(registered.spec_schema)(&cx(version.map_or("v1", |version| version.name))),
            &["spec"],
        )
    }

    fn document(&self) -> Value {
        match self.kind {
            "MeshConfig" | PROXIES => MeshConfig::schema(&cx("v1alpha1")),
            "MeshNetworks" => MeshNetworks::schema(&cx("v1alpha1")),
            _ => Value::Null,
        }
    }
}

/// A schema with what it refers to in its place.
fn whole(schema: &Schema) -> Value {
    let mut made = schema.to_openapi();
    for name in schema.properties.keys() {
        if let Some(inner) = schema.field(name) {
            made["properties"][name] = whole(inner);
        }
    }
    if let Some(items) = &schema.items {
        made["items"] = whole(items);
    }
    made
}
