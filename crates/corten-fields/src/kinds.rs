//! The kinds whose fields are judged.

use corten_api::{
    codec::{Field, SchemaCx},
    istio::mesh_config::MeshConfig,
};
use serde_json::Value;

use crate::schema::{Leaf, leaves};

/// A kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Judged {
    /// The group; empty for what is no object of Kubernetes.
    pub(crate) group: &'static str,
    /// The kind, which its folder below `testdata` is called after.
    pub(crate) kind: &'static str,
}

/// The group that the mesh's own documents are given, which have none.
pub(crate) const MESH_GROUP: &str = "mesh.istio.io";

const NETWORKING: &str = "networking.istio.io";

const SECURITY: &str = "security.istio.io";
const TELEMETRY: &str = "telemetry.istio.io";
const EXTENSIONS: &str = "extensions.istio.io";
const GATEWAY: &str = "gateway.networking.k8s.io";

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

    /// The fields of its spec.
    pub(crate) fn leaves(&self) -> Vec<Leaf> {
        if self.group == MESH_GROUP {
            return leaves(&self.document(), &["spec"]);
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
            "MeshConfig" => MeshConfig::schema(&cx("v1alpha1")),
            _ => Value::Null,
        }
    }
}
