//! What proxies are sent of objects that are in no mesh: rows of single objects, and files.

use std::collections::BTreeSet;

use anyhow::Result;
use corten_api::validate::mesh_config::default_mesh_config;
use corten_model::Settings;
use corten_routing::{Proxy, World};
use serde_json::{Map, Value, json};

/// Generates what a sidecar and a gateway are sent of these objects, with something behind every host that they name; nothing where
/// nobody keeps it.
pub(crate) fn objects(objects: &[Value]) -> Result<()> {
    if !super::keeps() {
        return Ok(());
    }
    let mut objects = objects.to_vec();
    let mut hosts = BTreeSet::new();
    let (mut workload, mut gateway) = (json!({ "app": "web" }), json!({ "istio": "ingressgateway" }));
    let first = objects
        .iter()
        .find_map(|object| object["metadata"]["namespace"].as_str());
    let namespace = first.unwrap_or("default").to_owned();
    for object in &mut objects {
        if object["metadata"]["name"].is_null() {
            object["metadata"]["name"] = json!("one");
        }
        if object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        let spec = &object["spec"];
        let is_gateway = object["kind"] == "Gateway";
        let selectors = [
            &spec["selector"]["matchLabels"],
            &spec["workloadSelector"]["labels"],
            &spec["workloadSelector"]["matchLabels"],
            if is_gateway { &spec["selector"] } else { &Value::Null },
        ];
        for selector in selectors.into_iter().filter_map(Value::as_object) {
            put(if is_gateway { &mut gateway } else { &mut workload }, selector);
        }
        if object["kind"] != "ServiceEntry" {
            named(spec, &mut hosts);
        }
    }
    objects.extend(hosts.iter().map(|host| entry(host, &namespace)));
    let mut world = World::new(Settings::default(), default_mesh_config());
    // What is wrong with them is judged elsewhere.
    world.put(&objects);
    let snapshot = world.snapshot();
    for (kind, address, labels) in [("sidecar", "10.0.0.1", &workload), ("router", "10.0.0.2", &gateway)] {
        let id = format!("{kind}~{address}~{kind}.{namespace}~{namespace}.svc.cluster.local");
        let proxy = Proxy::of_node(&id, &json!({ "NAMESPACE": namespace, "LABELS": labels }))?;
        super::generate(&snapshot, &proxy);
    }
    Ok(())
}

fn put(labels: &mut Value, selector: &Map<String, Value>) {
    for (key, value) in selector {
        labels[key] = value.clone();
    }
}

/// The hosts that something names.
fn named(value: &Value, hosts: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("host", value) => hosts.extend(plain(value)),
                    ("hosts", Value::Array(all)) => hosts.extend(all.iter().filter_map(plain)),
                    (_, value) => named(value, hosts),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| named(item, hosts)),
        _ => {}
    }
}

/// A host, without the namespace that may stand before it; others are names of Services, or stand for several.
fn plain(value: &Value) -> Option<String> {
    let host = value.as_str()?.rsplit('/').next()?;
    let is_plain = host.contains('.') && !host.contains(['*', ':', '~']) && host.parse::<std::net::IpAddr>().is_err();
    is_plain.then(|| host.to_owned())
}

fn entry(host: &str, namespace: &str) -> Value {
    let ports = [(80, "HTTP"), (443, "TLS"), (9000, "TCP")];
    let ports =
        ports.map(|(number, protocol)| json!({ "number": number, "name": format!("p{number}"), "protocol": protocol }));
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": { "name": format!("of-{host}"), "namespace": namespace },
        "spec": {
            "hosts": [host], "ports": ports, "resolution": "STATIC", "location": "MESH_INTERNAL",
            "endpoints": [{ "address": "10.9.0.1", "labels": { "version": "v1" } }],
        },
    })
}
