//! Envoy's bootstrap: who it is, where its configuration and its certificates come from.

use std::path::Path;

use corten_enroll::sidecar::PROXY_PRIORITY;
use serde_json::{Value, json};

use crate::settings::Settings;

/// The bootstrap, as JSON. `socket` is where certificates are served.
pub fn bootstrap(settings: &Settings, socket: &Path) -> Value {
    let first = settings.addresses.first().map(ToString::to_string).unwrap_or_default();
    let id = format!(
        "{}~{first}~{}.{}~{}",
        settings.arguments.kind.name(),
        settings.pod,
        settings.namespace,
        settings.domain
    );
    let label = |key: &str| {
        settings
            .metadata
            .get("LABELS")
            .and_then(|labels| labels[key].as_str())
            .unwrap_or_default()
    };
    let name = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"].map(label);
    let name = name.into_iter().find(|name| !name.is_empty()).unwrap_or("istio-proxy");
    let told = settings
        .arguments
        .service_cluster
        .clone()
        .filter(|told| !told.is_empty());
    let cluster = told.unwrap_or_else(|| format!("{name}.{}", settings.namespace));
    let secret = |name: &str| json!({"name": name, "sdsConfig": from_agent()});
    let (host, port) = &settings.discovery;
    let source = json!({"ads": {}, "initialFetchTimeout": "0s", "resourceApiVersion": "V3"});
    let mut made = json!({
        "node": {
            "id": id,
            "cluster": cluster,
            "metadata": settings.metadata,
        },
        "admin": {"address": {"socketAddress": {"address": "127.0.0.1", "portValue": settings.arguments.admin_port}}},
        "layeredRuntime": {"layers": [
            {"name": "global config", "staticLayer": {"re2.max_program_size.error_level": 32768}},
            {"name": "admin", "adminLayer": {}},
        ]},
        "bootstrapExtensions": [{
            "name": "envoy.bootstrap.internal_listener",
            "typedConfig": {
                "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
                "bufferSizeKb": 64,
            },
        }],
        "dynamicResources": {
            "ldsConfig": source,
            "cdsConfig": source,
            "adsConfig": {
                "apiType": "DELTA_GRPC",
                "transportApiVersion": "V3",
                "setNodeOnFirstMessageOnly": true,
                "grpcServices": [{"envoyGrpc": {"clusterName": "xds-grpc"}}],
            },
        },
        "staticResources": {"clusters": [
            {
                "name": "sds-grpc",
                "type": "STATIC",
                "connectTimeout": "1s",
                "typedExtensionProtocolOptions": http2(),
                "loadAssignment": assignment("sds-grpc", &json!({"pipe": {"path": socket}})),
            },
            {
                "name": "xds-grpc",
                "type": "STRICT_DNS",
                "respectDnsTtl": true,
                "dnsLookupFamily": "V4_PREFERRED",
                "connectTimeout": "1s",
                "typedExtensionProtocolOptions": http2(),
                "loadAssignment": assignment("xds-grpc", &json!({"socketAddress": {"address": host, "portValue": port}})),
                "upstreamConnectionOptions": {"tcpKeepalive": {"keepaliveTime": 300}},
                "transportSocket": {
                    "name": "envoy.transport_sockets.tls",
                    "typedConfig": {
                        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
                        "sni": host,
                        "commonTlsContext": {
                            "alpnProtocols": ["h2"],
                            "tlsCertificateSdsSecretConfigs": [secret("default")],
                            "combinedValidationContext": {
                                "defaultValidationContext": {
                                    "matchTypedSubjectAltNames": [{"sanType": "DNS", "matcher": {"exact": host}}],
                                },
                                "validationContextSdsSecretConfig": secret("ROOTCA"),
                            },
                        },
                    },
                },
            },
        ]},
    });
    if settings.marked {
        // SOL_SOCKET, SO_PRIORITY.
        let mark = json!({"level": 1, "name": 12, "intValue": PROXY_PRIORITY, "state": "STATE_PREBIND"});
        made["clusterManager"] = json!({"upstreamBindConfig": {"socketOptions": [mark]}});
    }
    made
}

/// Where secrets come from.
fn from_agent() -> Value {
    json!({
        "apiConfigSource": {
            "apiType": "GRPC",
            "transportApiVersion": "V3",
            "setNodeOnFirstMessageOnly": true,
            "grpcServices": [{"envoyGrpc": {"clusterName": "sds-grpc"}}],
        },
        "initialFetchTimeout": "0s",
        "resourceApiVersion": "V3",
    })
}

fn http2() -> Value {
    json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicitHttpConfig": {"http2ProtocolOptions": {}},
    }})
}

fn assignment(cluster: &str, address: &Value) -> Value {
    json!({"clusterName": cluster, "endpoints": [{"lbEndpoints": [{"endpoint": {"address": address}}]}]})
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use corten_envoy::envoy::config::bootstrap::v3::Bootstrap;

    use super::*;
    use crate::settings::Arguments;

    #[test]
    fn it_is_a_bootstrap_of_envoys_with_the_pods_identity() {
        let variables = [
            ("POD_NAME", "web-1"),
            ("POD_NAMESPACE", "shop"),
            ("INSTANCE_IP", "10.0.0.1"),
        ];
        let variables: Vec<_> = variables
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec();
        let mut settings = Settings::resolve(&Arguments::parse_from(["corten-sidecar"]), &variables).unwrap();
        settings.with_labels("app=\"web\"");
        let made = bootstrap(&settings, Path::new("/run/sds"));
        let typed: Bootstrap = corten_envoy::message_from_json(&made).expect("every field is Envoy's");
        let node = typed.node.unwrap();
        assert_eq!(node.id, "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local");
        assert_eq!(node.cluster, "web.shop");
        assert_eq!(typed.static_resources.unwrap().clusters.len(), 2);
    }
}
