//! Objects of files: what a cluster's controllers would add for gateways, and what the objects become.
//!
//! In files there are no endpoints; services are taken for served.

use std::{collections::BTreeMap, sync::Arc};

use corten_api::{codec::Json, decode::SpannedObject, diagnostic::Diagnostic};
use serde_json::Value;

use crate::{
    Conversion, Inputs, Settings, checked, convert,
    deploy::{self, Overlay, Request, workload},
    index::Index,
    ingress,
    input::{RegistryService, Service},
    reference::Key,
    service,
    store::{ClassDefaults, Store},
};

/// The objects that are looked at, from all.
fn inputs(objects: &[Value], settings: &Settings) -> Inputs {
    let mut inputs = Inputs {
        settings: settings.clone(),
        ..Inputs::default()
    };
    for object in objects {
        // What is wrong with an object is told by whoever reads all of them.
        let _told_elsewhere = inputs.add(&SpannedObject::from_value(object));
    }
    let is_service = |object: &&Value| object["kind"] == "Service" && object["apiVersion"] == "v1";
    let service = |object: &Value| {
        let service = Service::read(object);
        let (external_addresses, _) = service::outside(object);
        let inside = object["spec"]["clusterIP"]
            .as_str()
            .filter(|ip| !ip.is_empty() && *ip != "None");
        RegistryService {
            hostname: format!("{}.{}.svc.{}", service.name, service.namespace, settings.domain),
            ports: service.ports.iter().map(|(_, port)| *port).collect(),
            endpoints: service.ports.iter().map(|(_, port)| (*port, vec![*port])).collect(),
            addresses: inside.map(str::to_owned).into_iter().collect(),
            external_addresses,
            // Files have no addresses to wait for.
            load_balancer: false,
            namespace: service.namespace,
            labels: service.labels,
        }
    };
    let mut registry: Vec<RegistryService> = objects.iter().filter(is_service).map(service).collect();
    for entry in &inputs.service_entries {
        let ports: Vec<u16> = entry.spec.ports.iter().map(|port| port.number.0).collect();
        registry.extend(entry.spec.hosts.iter().map(|host| RegistryService {
            hostname: host.to_string(),
            namespace: entry.metadata.namespace.clone(),
            labels: entry.metadata.labels.clone(),
            endpoints: ports.iter().map(|port| (*port, vec![*port])).collect(),
            ports: ports.clone(),
            ..RegistryService::default()
        }));
    }
    inputs.registry = registry.into_iter().map(Arc::new).collect();
    inputs
}

/// The workloads of gateways that are not among the objects. What a ConfigMap asks to change that cannot be changed
/// leaves its gateway without one. What is different about all gateways of a class is said in the namespace `system`.
pub fn workloads(objects: &[Value], settings: &Settings, system: &str) -> Vec<Json> {
    let defaults = objects
        .iter()
        .filter(|object| object["kind"] == "ConfigMap" && object["metadata"]["namespace"] == system);
    let defaults: BTreeMap<Key, ClassDefaults> = defaults
        .filter_map(|object| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            Some((Key::new(system, name), ClassDefaults::of(object)?))
        })
        .collect();
    let inputs = inputs(objects, settings);
    let index = Index::new(&inputs);
    let deploy = deploy::Settings {
        domain: settings.domain.clone(),
        ..deploy::Settings::default()
    };
    let mut made = Vec::new();
    for gateway in &inputs.gateways {
        let namespace = &gateway.metadata.namespace;
        let here = |object: &&Value| object["metadata"]["namespace"] == namespace.as_str();
        let infrastructure = gateway.spec.infrastructure.as_ref();
        let named = infrastructure
            .and_then(|i| i.parameters_ref.as_ref())
            .map(|named| named.name.as_str());
        let parameters = objects.iter().filter(here).find(|object| {
            object["kind"] == "ConfigMap" && named.is_some_and(|named| object["metadata"]["name"] == named)
        });
        let parameters: Option<Overlay> = parameters.map(|map| crate::input::strings(map, "/data"));
        let sets: Vec<_> = inputs
            .listener_sets
            .iter()
            .map(AsRef::as_ref)
            .filter(|set| crate::conflict::gateway_of(set) == crate::gateway::key(gateway))
            .collect();
        let request = Request {
            settings: &deploy,
            gateway,
            sets: &sets,
            class_defaults: ClassDefaults::find(&defaults, &gateway.spec.gateway_class_name),
            parameters: parameters.as_ref(),
            existing: &[],
        };
        let Some(Ok(applied)) = workload(&index, request).map(|workload| workload.objects) else {
            continue;
        };
        let is_new = |object: &Json| {
            let same = |other: &Value| {
                other["kind"] == object["kind"] && other["metadata"]["name"] == object["metadata"]["name"]
            };
            !objects.iter().filter(here).any(same)
        };
        made.extend(applied.into_iter().filter(is_new));
    }
    made
}

/// What the objects of the Gateway API become, with the status of each.
pub fn converted(objects: &[Value], settings: &Settings) -> Conversion {
    convert(&inputs(objects, settings))
}

/// What the objects of the Gateway API become: Istio's objects, and what is not honoured.
pub fn generated(objects: &[Value], settings: &Settings) -> (Vec<Json>, Vec<Diagnostic>) {
    let made = converted(objects, settings);
    (made.objects(), made.diagnostics)
}

impl Conversion {
    /// Istio's objects.
    pub fn objects(&self) -> Vec<Json> {
        let gateways = self.gateways.iter().map(|object| object.encode("v1"));
        let routes = self.virtual_services.iter().map(|routes| routes.object.encode("v1"));
        let rules = checked(self.destination_rules.clone());
        let rules = rules.iter().map(|object| object.encode("v1"));
        gateways.chain(routes).chain(rules).collect()
    }
}

/// What the Ingresses among the objects become: Istio's objects, and what is not honoured.
pub fn of_ingresses(objects: &[Value], settings: ingress::Settings) -> (Vec<Json>, Vec<Diagnostic>) {
    let mut store = Store::new("default");
    let (of_gateways, domain) = (Settings::default(), settings.domain.clone());
    store.configure(Settings { domain, ..of_gateways }, settings);
    for object in objects {
        let api_version = object["apiVersion"].as_str().unwrap_or_default();
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        // What is wrong with an object is told by whoever reads all of them.
        let _told_elsewhere = store.put(group, object["kind"].as_str().unwrap_or_default(), object);
    }
    let mut inputs = store.ingress_inputs();
    let is_service = |object: &&Value| object["kind"] == "Service" && object["apiVersion"] == "v1";
    let services = objects.iter().filter(is_service);
    inputs.services = services.map(|object| Arc::new(Service::read(object))).collect();
    let made = ingress::convert(&inputs);
    let gateways = made.gateways.iter().map(|object| object.encode("v1"));
    let routes = made.virtual_services.iter().map(|object| object.encode("v1"));
    (gateways.chain(routes).collect(), made.diagnostics)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn gateways_of_a_class_have_what_its_oldest_defaults_say() {
        let gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": { "name": "edge", "namespace": "infra" },
            "spec": { "gatewayClassName": "istio", "listeners": [{ "name": "web", "port": 80, "protocol": "HTTP" }] },
        });
        let defaults = |name: &str, namespace: &str, class: &str, created: &str, kind: &str| {
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {
                    "name": name, "namespace": namespace, "creationTimestamp": created,
                    "labels": { deploy::CLASS_DEFAULTS: class },
                },
                "data": { "service": format!("spec: {{type: {kind}}}") },
            })
        };
        let objects = [
            gateway,
            defaults("a", "istio-system", "istio", "2026-01-02T00:00:00Z", "NodePort"),
            defaults("b", "istio-system", "istio", "2026-01-01T00:00:00Z", "ClusterIP"),
            defaults(
                "c",
                "istio-system",
                "istio-waypoint",
                "2025-01-01T00:00:00Z",
                "NodePort",
            ),
            defaults("d", "infra", "istio", "2025-01-01T00:00:00Z", "NodePort"),
        ];
        let made = workloads(&objects, &Settings::default(), "istio-system");
        let service = made.iter().find(|object| object["kind"] == "Service").unwrap();
        assert_eq!(service["spec"]["type"], "ClusterIP");
    }

    #[test]
    fn files_become_workloads_and_configuration() {
        let gateway = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "Gateway",
            "metadata": { "name": "edge", "namespace": "infra" },
            "spec": { "gatewayClassName": "istio", "listeners": [{ "name": "web", "port": 80, "protocol": "HTTP" }] },
        });
        let route = json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": { "name": "web", "namespace": "infra" },
            "spec": {
                "parentRefs": [{ "name": "edge" }],
                "rules": [{ "backendRefs": [{ "group": "networking.istio.io", "kind": "Hostname", "name": "example.com", "port": 443 }] }],
            },
        });
        let entry = json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": { "name": "out", "namespace": "infra" },
            "spec": { "hosts": ["example.com"], "ports": [{ "number": 443, "name": "https", "protocol": "HTTPS" }] },
        });
        let mut objects = vec![gateway, route, entry];
        let settings = Settings::default();
        let made = workloads(&objects, &settings, "istio-system");
        let kinds: Vec<&str> = made.iter().filter_map(|object| object["kind"].as_str()).collect();
        assert_eq!(kinds, ["ServiceAccount", "Deployment", "Service"]);
        objects.extend(made);
        assert!(
            workloads(&objects, &settings, "istio-system").is_empty(),
            "what is there is not made again"
        );
        let (generated, diagnostics) = generated(&objects, &settings);
        assert_eq!(diagnostics, []);
        let kinds: Vec<&str> = generated.iter().filter_map(|object| object["kind"].as_str()).collect();
        assert_eq!(kinds, ["Gateway", "VirtualService"]);
        let host = &generated[1]["spec"]["http"][0]["route"][0]["destination"]["host"];
        assert_eq!(host, "example.com");
    }
}
