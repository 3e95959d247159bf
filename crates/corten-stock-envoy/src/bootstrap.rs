//! What a proxy is sent, as one file: an Envoy that validates a file asks nobody for the rest.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What a proxy is sent, as protobuf's JSON.
#[derive(Debug, Clone, Default)]
pub struct Sent {
    /// The clusters.
    pub clusters: Vec<Value>,
    /// Endpoints, by the name that a cluster asks for.
    pub endpoints: BTreeMap<String, Value>,
    /// The listeners.
    pub listeners: Vec<Value>,
    /// Routes, by name.
    pub routes: BTreeMap<String, Value>,
    /// Extensions, by name.
    pub extensions: BTreeMap<String, Value>,
}

pub(crate) const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A bootstrap with everything in it: endpoints and routes are put where they would be asked for. The control plane and the agent
/// that secrets come from are there as clusters.
pub fn bootstrap(sent: &Sent) -> Value {
    let mut clusters: Vec<Value> = sent
        .clusters
        .iter()
        .map(|cluster| with_endpoints(cluster, sent))
        .collect();
    for name in ["xds-grpc", "sds-grpc", "sds-files-grpc"] {
        if !clusters.iter().any(|cluster| cluster["name"] == name) {
            clusters.push(local(name));
        }
    }
    let mut listeners = sent.listeners.clone();
    for listener in &mut listeners {
        with_routes(listener, &sent.routes);
        with_extensions(listener, &sent.extensions);
    }
    let to_control = json!({
        "apiType": "GRPC", "transportApiVersion": "V3",
        "grpcServices": [{ "envoyGrpc": { "clusterName": "xds-grpc" } }],
    });
    json!({
        "node": { "id": "test", "cluster": "test" },
        // As proxies of a mesh have it.
        "layeredRuntime": { "layers": [
            { "name": "global config", "staticLayer": { "re2.max_program_size.error_level": 32768 } },
        ] },
        "staticResources": { "clusters": clusters, "listeners": listeners },
        "dynamicResources": { "adsConfig": to_control },
        "bootstrapExtensions": [{
            "name": "envoy.bootstrap.internal_listener",
            "typedConfig": {
                "@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
            },
        }],
    })
}

fn local(name: &str) -> Value {
    json!({
        "name": name, "type": "STATIC", "connectTimeout": "1s",
        "typedExtensionProtocolOptions": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicitHttpConfig": { "http2ProtocolOptions": {} },
        } },
        "loadAssignment": { "clusterName": name, "endpoints": [{ "lbEndpoints": [
            { "endpoint": { "address": { "pipe": { "path": "/nowhere" } } } },
        ] }] },
    })
}

/// A cluster that would ask for its endpoints, with them.
fn with_endpoints(cluster: &Value, sent: &Sent) -> Value {
    let mut cluster = cluster.clone();
    if cluster["type"] != "EDS" {
        return cluster;
    }
    let asked = cluster["edsClusterConfig"]["serviceName"].as_str().unwrap_or_default();
    let name = if asked.is_empty() {
        cluster["name"].as_str().unwrap_or_default().to_owned()
    } else {
        asked.to_owned()
    };
    let nothing = json!({ "clusterName": name });
    let endpoints = sent.endpoints.get(&name).cloned().unwrap_or(nothing);
    if let Some(fields) = cluster.as_object_mut() {
        fields.remove("edsClusterConfig");
        fields.insert("type".to_owned(), json!("STATIC"));
        fields.insert("loadAssignment".to_owned(), endpoints);
    }
    cluster
}

/// Puts extensions where a filter would ask for them, wherever that is.
fn with_extensions(value: &mut Value, extensions: &BTreeMap<String, Value>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| with_extensions(item, extensions)),
        Value::Object(fields) => {
            let named = fields
                .get("name")
                .and_then(Value::as_str)
                .and_then(|name| extensions.get(name));
            if let Some(extension) = named
                && fields.contains_key("configDiscovery")
            {
                let config = extension["typedConfig"].clone();
                fields.remove("configDiscovery");
                fields.insert("typedConfig".to_owned(), config);
            }
            fields.values_mut().for_each(|field| with_extensions(field, extensions));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Puts routes where a listener would ask for them, wherever that is in it.
fn with_routes(value: &mut Value, routes: &BTreeMap<String, Value>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| with_routes(item, routes)),
        Value::Object(fields) => {
            if fields.get("@type").is_some_and(|kind| kind == MANAGER)
                && let Some(asked) = fields.remove("rds")
            {
                let name = asked["routeConfigName"].as_str().unwrap_or_default();
                let nothing = json!({ "name": name });
                fields.insert("routeConfig".to_owned(), routes.get(name).cloned().unwrap_or(nothing));
            }
            fields.values_mut().for_each(|field| with_routes(field, routes));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
