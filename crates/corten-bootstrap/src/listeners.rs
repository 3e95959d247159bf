//! Where Envoy is asked about itself: its metrics, those for the mesh alone, and whether it is ready.

use serde_json::{Value, json};

use crate::clusters::{ADMIN, AGENT, secret};
use crate::stats::with;
use crate::{Family, Inputs};

/// All of them.
pub(crate) fn all(inputs: &Inputs<'_>, family: Family) -> Vec<Value> {
    let own = inputs.config["proxyMetadata"]["METRICS_LOCALHOST_ACCESS_ONLY"] == "true";
    let (here, there) = if own {
        (family.loopback, family.others.map(|(loopback, _)| loopback))
    } else {
        (family.wildcard, family.others.map(|(_, wildcard)| wildcard))
    };
    let compression = if inputs.config["statsCompression"] == false {
        Vec::new()
    } else {
        [("brotli", "Brotli"), ("zstd", "Zstd"), ("gzip", "Gzip")]
            .map(compressor)
            .to_vec()
    };
    let metrics = [("/stats/prometheus", ADMIN)];
    let mut listeners = Vec::new();
    let port = inputs.own_port("ENVOY_PROMETHEUS_PORT");
    if port > 0 {
        let chain = json!({"filters": [manager("stats", &metrics, compression)]});
        listeners.push(listener(here, there, port, &chain));
    }
    let all = [("/stats/prometheus", AGENT), ("/metrics", AGENT)];
    for (key, counted_as, routes) in [
        ("ENVOY_SECURE_METRICS_PORT", "secure_stats", &metrics[..]),
        ("ENVOY_SECURE_MERGED_METRICS_PORT", "secure_merged_stats", &all[..]),
    ] {
        let port = inputs.own_port(key);
        if port > 0 {
            listeners.push(for_the_mesh(
                family.wildcard,
                port,
                &manager(counted_as, routes, Vec::new()),
            ));
        }
    }
    let port = inputs.own_port("ENVOY_STATUS_PORT");
    if port > 0 {
        let chain = json!({"filters": [manager("agent", &[("/healthz/ready", AGENT)], Vec::new())]});
        let made = listener(
            family.wildcard,
            family.others.map(|(_, wildcard)| wildcard),
            port,
            &chain,
        );
        let filters = inputs.proxy_protocol.then(|| {
            json!([{
                "name": "envoy.listener.proxy_protocol",
                "typedConfig": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
                    "allowRequestsWithoutProxyProtocol": true,
                },
            }])
        });
        listeners.push(with(made, "listenerFilters", filters));
    }
    listeners
}

/// A listener that answers whatever the load is.
fn listener(address: &str, another: Option<&str>, port: u64, chain: &Value) -> Value {
    let at = |address: &str| json!({"socketAddress": {"protocol": "TCP", "address": address, "portValue": port}});
    let made = json!({
        "name": format!("{address}_{port}"),
        "address": at(address),
        "ignoreGlobalConnLimit": true,
        "bypassOverloadManager": true,
        "filterChains": [chain],
    });
    with(
        made,
        "additionalAddresses",
        another.map(|address| json!([{"address": at(address)}])),
    )
}

/// A listener that only those with a certificate of the mesh are answered at.
fn for_the_mesh(address: &str, port: u64, manager: &Value) -> Value {
    let chain = json!({
        "filterChainMatch": {"transportProtocol": "tls"},
        "transportSocket": {
            "name": "envoy.transport_sockets.tls",
            "typedConfig": {
                "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                "requireClientCertificate": true,
                "commonTlsContext": {
                    "tlsCertificateSdsSecretConfigs": [secret("default")],
                    "combinedValidationContext": {
                        "defaultValidationContext": {},
                        "validationContextSdsSecretConfig": secret("ROOTCA"),
                    },
                },
            },
        },
        "filters": [manager],
    });
    let inspector = json!([{
        "name": "envoy.filters.listener.tls_inspector",
        "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"},
    }]);
    with(
        listener(address, None, port, &chain),
        "listenerFilters",
        Some(inspector),
    )
}

/// Answers by the beginning of the path.
fn manager(counted_as: &str, routes: &[(&str, &str)], filters: Vec<Value>) -> Value {
    let routes: Vec<Value> = routes
        .iter()
        .map(|(prefix, cluster)| json!({"match": {"prefix": prefix}, "route": {"cluster": cluster}}))
        .collect();
    let mut filters = filters;
    filters.push(json!({
        "name": "envoy.filters.http.router",
        "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    }));
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "codecType": "AUTO",
            "statPrefix": counted_as,
            "routeConfig": {"virtualHosts": [{"name": "backend", "domains": ["*"], "routes": routes}]},
            "httpFilters": filters,
        },
    })
}

/// Makes what is asked for shorter, where whoever asks takes it.
fn compressor((kind, message): (&str, &str)) -> Value {
    json!({
        "name": format!("envoy.filters.http.compressor.{kind}"),
        "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.compressor.v3.Compressor",
            "compressorLibrary": {
                "name": format!("stats_{kind}"),
                "typedConfig": {
                    "@type": format!("type.googleapis.com/envoy.extensions.compression.{kind}.compressor.v3.{message}"),
                },
            },
            "responseDirectionConfig": {"commonConfig": {"contentType": [
                "text/plain",
                "application/vnd.google.protobuf",
                "application/openmetrics-text",
                "application/openmetrics-protobuf",
            ]}},
        },
    })
}
